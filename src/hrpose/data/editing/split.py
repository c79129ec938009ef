"""Parts of a data set: a split by group, a subset, and the statistics of a set.

A split puts all images of a group into one part, so that no video or source is in both training and
validation. A group is the images that share the value of a field (`source`, `video`, ...) or of a
regular expression on their file names. Groups are assigned from the largest to the smallest, each
to the part that is farthest below its target.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hrpose.data.coco import CocoAnnotations, read_annotations
from hrpose.data.dataset_folder import ImageSet, images_of, must_be_new, write_folder
from hrpose.data.rules import Entry, printable
from hrpose.errors import UserError

# COCO's bounds between small, medium and large persons, in pixels of area.
_SMALL, _LARGE = 32**2, 96**2
_QUANTILES = (0, 10, 50, 90, 100)


@dataclass(frozen=True, slots=True)
class Part:
    """One file that was written; `wanted` is its target number of images."""

    name: str
    images: int
    persons: int
    groups: tuple[str, ...]
    wanted: int


def split(
    path: Path | CocoAnnotations,
    out: Path,
    shares: Mapping[str, float],
    group: str | None = None,
    pattern: str | None = None,
    put: Mapping[str, str] | None = None,
    seed: int = 0,
    images: Path | None = None,
    copy: bool = False,
) -> list[Part]:
    """Write a file for each part, with its share of the images by `shares`.

    `group` is a field of the images, `pattern` a regular expression on their names (its first
    group, else the match). `put` assigns groups to parts beforehand. Raises UserError where an
    image has no group, or a part would be empty.
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
    source = images_of(file.path, images)
    names = tuple(image["file_name"] for image in file.images)
    write_folder(out, texts, [ImageSet("images", source, names)] if source else [], copy)
    return parts


def assign(
    sizes: Mapping[str, int], targets: Mapping[str, int], put: Mapping[str, str], seed: int
) -> dict[str, str]:
    """The part of each group: that of `put`, else the part farthest below its target.

    The largest group comes first; the seed orders groups of one size. No part ends farther from its
    target than the size of the largest group, unless `put` requires it or a part would stay empty.
    Raises UserError where a part must stay empty.
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
        raise _invalid(
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
    """The group of each image; without any, each image is its own."""
    if group and pattern:
        raise UserError("expected --group or --group-pattern, found both", code="option-conflict")
    if pattern:
        try:
            search = re.compile(pattern)
        except re.error as error:
            raise _invalid(f"--group-pattern {pattern}: {error}") from error
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
            raise _invalid(
                f"{file.path}: image {image['id']} ({name}): expected {what}, found none"
            )
    return [str(value) for value in values]


def _put(
    put: Mapping[str, str], sizes: Mapping[str, int], targets: Mapping[str, int]
) -> Mapping[str, str]:
    for group, part in put.items():
        if group not in sizes or part not in targets:
            known = printable(", ".join(sizes if group not in sizes else targets))
            raise _invalid(f"--put {group}={part}: expected one of {known}")
    return put


def subset(
    path: Path | CocoAnnotations,
    out: Path,
    sources: Collection[str] = (),
    max_images: int | None = None,
    min_size: float = 0,
    min_keypoints: int = 0,
    seed: int = 0,
    images: Path | None = None,
    copy: bool = False,
) -> tuple[int, int]:
    """Write `out`/annotations.json; returns how many images and persons it has.

    `sources` selects images; `max_images` of them are drawn by `seed`; `min_size` is the least
    longer side of a person's box, in pixels; `min_keypoints` the least number of labeled keypoints.
    Where persons are selected, images without any are left out. Raises UserError where no image is
    left.
    """
    must_be_new(out)
    file = read_annotations(path)
    known = {str(image.get("source", "")) for image in file.images}
    for source in sources:
        if source not in known:
            there = ", ".join(sorted(known - {""})) or "no sources"
            raise _invalid(f"{file.path}: expected images of the source '{source}', found {there}")
    strict = bool(min_size or min_keypoints)
    chosen: list[tuple[Entry, list[Entry]]] = []
    for image, persons in zip(file.images, file.annotations_by_image(), strict=True):
        if sources and str(image.get("source", "")) not in sources:
            continue
        own = [a for a in persons if _fits(a, min_size, min_keypoints)]
        if own or not strict:
            chosen.append((image, own))
    if max_images is not None:
        if max_images > len(chosen):
            raise _invalid(
                f"{file.path}: expected {max_images} images, found {len(chosen)} that fit"
            )
        drawn = np.random.default_rng(seed).permutation(len(chosen))[:max_images]
        chosen = [chosen[i] for i in sorted(drawn.tolist())]
    if not chosen:
        raise UserError(
            f"{file.path}: expected images that fit, found none; relax the conditions",
            code="images-missing",
        )
    annotations = [annotation for _, own in chosen for annotation in own]
    document = file.part((image for image, _ in chosen), annotations)
    source_of = images_of(file.path, images)
    names = tuple(image["file_name"] for image, _ in chosen)
    image_sets = [ImageSet("images", source_of, names)] if source_of else []
    write_folder(out, {"annotations.json": json.dumps(document)}, image_sets, copy)
    return len(chosen), len(annotations)


def _fits(annotation: Entry, min_size: float, min_keypoints: int) -> bool:
    visible = (annotation.get("keypoints") or [])[2::3]
    enough = sum(v > 0 for v in visible) >= min_keypoints
    return enough and bool(max(annotation["bbox"][2:]) >= min_size)


def stats(path: Path | CocoAnnotations) -> dict[str, Any]:
    """Statistics of a file, for JSON. Quantiles are the minimum, 10%, 50%, 90% and the maximum."""
    file = read_annotations(path)
    instances, images = file.instances(), file.image_columns
    crowd = instances.columns["crowds"]
    columns = {name: column[~crowd] for name, column in instances.columns.items()}
    visibility, areas = columns["keypoints"][..., 2], columns["areas"]
    labeled = visibility > 0
    per_image = np.bincount(columns["image_index"], minlength=len(file.images))
    sources: dict[str, dict[str, int]] = {}
    for source, persons in zip(images["sources"].tolist(), per_image.tolist(), strict=True):
        counts = sources.setdefault(source.decode(), {"images": 0, "persons": 0})
        counts["images"] += 1
        counts["persons"] += persons
    return {
        "file": str(file.path),
        "skeleton": file.skeleton.name,
        "images": len(file.images),
        "images_without_persons": int((per_image == 0).sum()),
        "persons": len(areas),
        "persons_without_keypoints": int((~labeled.any(axis=1)).sum()),
        "crowds": int(crowd.sum()),
        "notes": [str(note) for note in file.notes],
        "boxes_made_from_keypoints": sum(e.get("bbox_guessed") is True for e in instances.entries),
        "persons_per_image": _quantiles(per_image),
        "keypoints_per_person": _quantiles(labeled.sum(axis=1)),
        "box_longer_side": _quantiles(columns["boxes"][:, 2:].max(axis=1, initial=0)),
        "image_width": _quantiles(images["image_wh"][:, 0]),
        "image_height": _quantiles(images["image_wh"][:, 1]),
        "sizes": {
            "small": int((areas < _SMALL).sum()),
            "medium": int(((areas >= _SMALL) & (areas <= _LARGE)).sum()),
            "large": int((areas > _LARGE).sum()),
        },
        "keypoints": {
            name: {"visible": int((column == 2).sum()), "hidden": int((column == 1).sum())}
            for name, column in zip(file.skeleton.keypoints, visibility.T, strict=True)
        },
        "sources": sources if set(sources) != {""} else {},
    }


def _quantiles(values: ArrayLike) -> list[float]:
    numbers = np.asarray(values, np.float64)
    if not numbers.size:
        return []
    return [round(float(v), 1) for v in np.percentile(numbers, _QUANTILES)]


def _invalid(message: str) -> UserError:
    return UserError(message, code="option-invalid")
