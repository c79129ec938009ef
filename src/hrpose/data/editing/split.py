"""A set in parts, group by group, so that one video or source never lands on both sides.

A group is what the images share in a field (`source`, `video`, ...) or in what a regular
expression finds in their file names. The largest group comes first, each goes to the part that is
farthest below its target.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrpose.data.coco import CocoAnnotations, read_annotations
from hrpose.data.dataset_folder import Album, images_of, must_be_new, write_folder
from hrpose.data.formats.checks import printable
from hrpose.errors import UserError


@dataclass(frozen=True, slots=True)
class Part:
    """One file that was written."""

    name: str
    images: int
    persons: int
    groups: tuple[str, ...]
    wanted: int


def split(
    path: Path,
    out: Path,
    shares: Mapping[str, float],
    group: str | None = None,
    pattern: str | None = None,
    put: Mapping[str, str] | None = None,
    seed: int = 0,
    images: Path | None = None,
    copy: bool = False,
) -> list[Part]:
    """Write a file for each part, with the share of the images that `shares` gives it.

    `group` is a field of the images, `pattern` a regular expression on their names (its first
    group, else all that it finds). `put` says of groups which part they are to be in. Raises
    UserError where an image has no group, or a part would be empty.
    """
    must_be_new(out)
    file = read_annotations(path)
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(_groups(file, group, pattern)):
        groups.setdefault(name, []).append(row)
    targets = _targets(len(file.images), shares)
    sizes = {name: len(rows) for name, rows in groups.items()}
    part_of = assign(sizes, targets, _put(put or {}, sizes, targets), seed)
    persons = file.annotations_by_image()
    parts, texts = [], {}
    for name, wanted in targets.items():
        own = [group for group in groups if part_of[group] == name]
        rows = sorted(row for group in own for row in groups[group])
        chosen = [file.images[row] for row in rows]
        annotations = [a for row in rows for a in persons[row]]
        texts[f"{name}.json"] = json.dumps(file.part(chosen, annotations))
        grouped = tuple(own) if group or pattern else ()
        parts.append(Part(name, len(chosen), len(annotations), grouped, wanted))
    source = images_of(path, images)
    names = tuple(image["file_name"] for image in file.images)
    write_folder(out, texts, [Album("images", source, names)] if source else [], copy)
    return parts


def assign(
    sizes: Mapping[str, int], targets: Mapping[str, int], put: Mapping[str, str], seed: int
) -> dict[str, str]:
    """The part of each group: that of `put`, else the part farthest below its target.

    The largest group comes first; the seed orders groups of one size. No part ends farther from its
    target than the largest group is, unless `put` says so or a part would otherwise stay empty.
    Raises UserError where a part has to stay empty.
    """
    part_of = dict(put)
    missing = dict(targets)
    for group, part in put.items():
        missing[part] -= sizes[group]
    left = sorted(set(sizes) - set(put))
    order = np.random.default_rng(seed).permutation(len(left))
    left = sorted((left[i] for i in order), key=lambda group: -sizes[group])
    empty = [part for part in targets if part not in part_of.values()]
    if len(left) < len(empty):
        raise UserError(
            f"{len(sizes)} groups cannot fill the parts {', '.join(targets)}: nothing is left for "
            f"{empty[-1]}; choose another group, or fewer parts"
        )
    for count, group in zip(range(len(left), 0, -1), left, strict=True):
        part = max(empty if count == len(empty) else targets, key=lambda name: missing[name])
        part_of[group] = part
        missing[part] -= sizes[group]
        if part in empty:
            empty.remove(part)
    return part_of


def _targets(count: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers of images that add up, by the largest remainders."""
    total = sum(shares.values())
    exact = {name: count * share / total for name, share in shares.items()}
    targets = {name: int(value) for name, value in exact.items()}
    by_rest = sorted(exact, key=lambda name: targets[name] - exact[name])
    for name in by_rest[: count - sum(targets.values())]:
        targets[name] += 1
    return targets


def _groups(file: CocoAnnotations, group: str | None, pattern: str | None) -> list[str]:
    """The group of each image; without any, each is its own."""
    if group and pattern:
        raise UserError("expected --group or --group-pattern, found both")
    if pattern:
        try:
            search = re.compile(pattern)
        except re.error as error:
            raise UserError(f"--group-pattern {pattern}: {error}") from error
        found = [search.search(image["file_name"]) for image in file.images]
        values = [m and (m[1] if search.groups else m[0]) for m in found]
        what = f"a name that matches '{pattern}'"
    elif group:
        values = [image.get(group) for image in file.images]
        what = f"a '{group}'"
    else:
        return [str(image["id"]) for image in file.images]
    for image, value in zip(file.images, values, strict=True):
        if value is None or value == "" or isinstance(value, list | dict):
            name = printable(image["file_name"])
            raise UserError(
                f"{file.path}: image {image['id']} ({name}): expected {what}, found none"
            )
    return [str(value) for value in values]


def _put(
    put: Mapping[str, str], sizes: Mapping[str, int], targets: Mapping[str, int]
) -> Mapping[str, str]:
    for group, part in put.items():
        if group not in sizes or part not in targets:
            known = printable(", ".join(sizes if group not in sizes else targets))
            raise UserError(f"--put {group}={part}: expected one of {known}")
    return put
