"""A set in parts, group by group, so that one video or source never lands on both sides.

A group is what the pictures share in a field (`source`, `video`, ...) or in what a regular
expression finds in their file names. The parts get the numbers of pictures that were asked for, or
as near as the groups allow: which groups add up best is found by trying all sums.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrpose.data.formats.checks import printable
from hrpose.data.set_folder import Album, must_be_new, write_folder
from hrpose.data.sets.document import CocoFile, pictures_of, read
from hrpose.errors import UserError

_MAX_BITS = 800_000_000  # of the table of sums, 100 MB


@dataclass(frozen=True, slots=True)
class Part:
    """One file that was written."""

    name: str
    pictures: int
    people: int
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
    """Write a file for each part, with the share of the pictures that `shares` gives it.

    `group` is a field of the pictures, `pattern` a regular expression on their names (its first
    group, else all that it finds). `put` says of groups which part they are to be in. Raises
    UserError where a picture has no group, or a part would be empty.
    """
    must_be_new(out)
    file = read(path)
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(_groups(file, group, pattern)):
        groups.setdefault(name, []).append(row)
    targets = _targets(len(file.images), shares)
    sizes = {name: len(rows) for name, rows in groups.items()}
    part_of = assign(sizes, targets, _put(put or {}, sizes, targets), seed)
    people = file.people_of()
    parts, texts = [], {}
    for name, wanted in targets.items():
        own = [group for group in groups if part_of[group] == name]
        rows = sorted(row for group in own for row in groups[group])
        chosen = [file.images[row] for row in rows]
        annotations = [a for image in chosen for a in people[image["id"]]]
        texts[f"{name}.json"] = json.dumps(file.part(chosen, annotations))
        grouped = tuple(own) if group or pattern else ()
        parts.append(Part(name, len(chosen), len(annotations), grouped, wanted))
    source = pictures_of(path, images)
    names = tuple(image["file_name"] for image in file.images)
    write_folder(out, texts, [Album("images", source, names)] if source else [], copy)
    return parts


def assign(
    sizes: Mapping[str, int], targets: Mapping[str, int], put: Mapping[str, str], seed: int
) -> dict[str, str]:
    """The part of each group: those of `put`, and the others so that the sums fit the targets.

    Which of the groups of equal use is taken is the seed's choice. Raises UserError where a part
    would stay empty.
    """
    part_of = dict(put)
    left = sorted(set(sizes) - set(put))
    order = np.random.default_rng(seed).permutation(len(left))
    left = [left[i] for i in order]
    need = {
        part: target - sum(sizes[group] for group, own in put.items() if own == part)
        for part, target in targets.items()
    }
    # The smallest first: they are the hardest to fill well. The largest takes what is left.
    *small, largest = sorted(need, key=lambda part: need[part])
    for part in small:
        empty = part not in part_of.values()
        chosen = _nearest([sizes[group] for group in left], max(need[part], 0), empty)
        part_of.update((left[i], part) for i in chosen)
        left = [group for i, group in enumerate(left) if i not in chosen]
    part_of.update((group, largest) for group in left)
    nothing = [part for part in targets if part not in part_of.values()]
    if nothing:
        raise UserError(
            f"{len(sizes)} groups cannot fill the parts {', '.join(targets)}: nothing is left for "
            f"{nothing[0]}; choose another group, or fewer parts"
        )
    return part_of


def _nearest(sizes: Sequence[int], target: int, not_empty: bool) -> set[int]:
    """The indices of sizes whose sum is nearest to the target."""
    chosen: set[int] = set()
    # Where there are too many for a table of all sums, most are taken as they come while they fit.
    most = max(_MAX_BITS // max(sum(sizes), 1), 1)
    first = max(len(sizes) - most, 0)
    for i, size in enumerate(sizes[:first]):
        if size <= target:
            chosen.add(i)
            target -= size
    # Bit s of sums[i] says whether some of the first i groups add up to s.
    sums = [1]
    for size in sizes[first:]:
        sums.append(sums[-1] | sums[-1] << size)
    reached = sums[-1] if chosen or not not_empty else sums[-1] & ~1
    if not reached:
        return chosen
    below = reached & ((1 << (target + 1)) - 1)
    above = reached >> target
    down = target - (below.bit_length() - 1) if below else None
    up = (above & -above).bit_length() - 1 if above else None
    total = target - down if down is not None and (up is None or down <= up) else target + (up or 0)
    for i in range(len(sums) - 1, 0, -1):
        if not sums[i - 1] >> total & 1:
            chosen.add(first + i - 1)
            total -= sizes[first + i - 1]
    return chosen


def _targets(count: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers of pictures that add up, by the largest remainders."""
    total = sum(shares.values())
    exact = {name: count * share / total for name, share in shares.items()}
    targets = {name: int(value) for name, value in exact.items()}
    by_rest = sorted(exact, key=lambda name: targets[name] - exact[name])
    for name in by_rest[: count - sum(targets.values())]:
        targets[name] += 1
    return targets


def _groups(file: CocoFile, group: str | None, pattern: str | None) -> list[str]:
    """The group of each picture; without any, each is its own."""
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
