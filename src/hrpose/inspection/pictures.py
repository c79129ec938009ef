"""Faults of the picture files, each read once: missing, damaged, wrong in size, turned by EXIF."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hrpose.ahead import ahead
from hrpose.data.pictures import PictureSource
from hrpose.errors import UserError
from hrpose.image import exif_orientation, image_size, read_reduced
from hrpose.inspection.findings import Finding
from hrpose.inspection.hashes import Prints, near_duplicates, small
from hrpose.inspection.labels import Labels

# Told how many of how many pictures are done.
Progress = Callable[[int, int], None]
# From here on a picture that is stored lies on its side.
_SIDEWAYS = 5
# Shrunk while it is decoded to no less than this, which is enough for a hash.
_ENOUGH = 128


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One file: what is wrong with it as (kind, words, badness), and the picture in grey, (32, 32),
    where it could be read.
    """

    fault: tuple[str, str, float] | None
    small: NDArray[np.uint8] | None


def look(source: PictureSource, item: tuple[str, tuple[int, int] | None]) -> Look:
    """Read one picture, by its name and the (w, h) that the annotations give."""
    name, said = item
    if name not in source:
        return Look(("missing-file", "not there", 0.0), None)
    try:
        data = source.content(name)
        size, orientation = image_size(data, name), exif_orientation(data, name)
        image, _ = read_reduced(data, min(size) / _ENOUGH, name)
    except UserError as error:
        return Look(("unreadable", str(error).removeprefix(f"{name}: "), 0.0), None)
    fault = None if said is None else _size_fault(said, size, orientation)
    return Look(fault, small(image))


def _size_fault(
    said: tuple[int, int], size: tuple[int, int], orientation: int
) -> tuple[str, str, float] | None:
    """`size` is that of the upright picture."""
    words = f"{size[0]} x {size[1]}"
    if orientation >= _SIDEWAYS and size[0] != size[1]:
        if said == size[::-1]:
            labels = f"labelled as {said[0]} x {said[1]}, which is the picture before EXIF turns it"
            return "exif-turn", f"{labels} to {words}", 2.0
    elif orientation > 1 and said == size:
        # Sizes cannot tell on which the labels lie.
        return "exif-turn", f"EXIF orientation {orientation}: see whether the labels follow it", 1.0
    if said == size:
        return None
    off = float(np.abs(np.log(np.divide(said, size))).max())
    return "wrong-size", f"labelled as {said[0]} x {said[1]}, is {words}", off


def file_faults(
    labels: Labels, source: PictureSource, progress: Progress
) -> tuple[list[Finding], Prints, list[int]]:
    """What is wrong with the files of a set; prints of those that can be read, and their rows."""
    sizes = [(int(w), int(h)) for w, h in labels.image_wh]
    findings, smalls, rows = [], [], []
    items = list(zip(labels.file_names, sizes, strict=True))
    for row, seen in enumerate(ahead(partial(look, source), items)):
        if seen.fault is not None:
            kind, words, badness = seen.fault
            findings.append(
                Finding(kind, items[row][0], words, badness, int(labels.image_ids[row]))
            )
        if seen.small is not None:
            smalls.append(seen.small)
            rows.append(row)
        progress(row + 1, len(items))
    return findings, _prints(smalls), rows


def shared_pictures(
    labels: Labels,
    prints: Prints,
    rows: Sequence[int],
    others: Labels,
    source: PictureSource,
    progress: Progress,
) -> tuple[list[Finding], int]:
    """Our pictures that look like one of the other set's, and how many of those have no picture."""
    smalls, names = [], []
    items = [(name, None) for name in others.file_names]
    for row, seen in enumerate(ahead(partial(look, source), items)):
        if seen.small is not None:
            smalls.append(seen.small)
            names.append(items[row][0])
        progress(row + 1, len(items))
    findings = []
    for mine, other, alike, mirrored in near_duplicates(prints, _prints(smalls)):
        row = rows[mine]
        how = ", mirrored" if mirrored else ""
        findings.append(
            Finding(
                "near-duplicate",
                labels.file_names[row],
                f"looks like {names[other]} of the other set ({alike:.3f}{how})",
                alike,
                int(labels.image_ids[row]),
            )
        )
    return findings, len(items) - len(names)


def _prints(smalls: list[NDArray[np.uint8]]) -> Prints:
    return Prints.of(np.array(smalls, np.uint8).reshape(-1, 32, 32))
