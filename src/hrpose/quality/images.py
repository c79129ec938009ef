"""Images that look the same: a hash of 64 bits of each, and a search that is not all by all.

The hash is the perceptual one of signs: the lowest 8 x 8 cosine frequencies of a small gray
image, above their median or not. Scaling, compression and light leave most bits as they are.
Where two hashes differ in at most 7 bits, one of their four 16-bit parts differs in at most 1: so
each part and its 16 neighbors are looked up in a sorted list.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.data.images import ImageFiles
from hrpose.errors import UserError
from hrpose.image import exif_orientation, image_size, read_reduced
from hrpose.io import prefetch
from hrpose.quality.annotations import Labels
from hrpose.quality.findings import Finding

# Bits that near-duplicates may differ in; what is found is compared by small images then.
RADIUS = 7
_PARTS = 4
# Correlation of small images from which two are the same, and the contrast that an image needs.
LEAST_ALIKE = 0.95
_LEAST_CONTRAST = 3.0
# Of images with the same part of the hash, so many are compared: a bound on a set of thousands of
# equal ones.
_MOST_PER_PART = 64

_SMALL, _TINY = 32, 16


@dataclass(frozen=True, slots=True, eq=False)
class Prints:
    """What m images look like: `hashes` and those of the mirror images (m,) uint64, `tiny` gray
    images (m, 16, 16) uint8. Flat ones, which look like any other, have `told` False.
    """

    hashes: NDArray[np.uint64]
    mirrored: NDArray[np.uint64]
    tiny: NDArray[np.uint8]
    told: NDArray[np.bool_]

    @classmethod
    def of(cls, smalls: NDArray[np.uint8]) -> "Prints":
        """Of small gray images (m, 32, 32), as `small` makes them."""
        bits: list[NDArray[np.bool_]] = []
        backwards: list[NDArray[np.bool_]] = []
        mirror = np.tile([1.0, -1.0], 4)
        for each in smalls:
            waves = cv2.dct(each.astype(np.float32))[:8, :8]
            # Mirrored, an image's odd horizontal waves change their sign.
            for found, block in ((bits, waves), (backwards, waves * mirror)):
                values = np.asarray(block, np.float64).ravel()
                found.append(values > np.median(values[1:]))
        tiny = [cv2.resize(s, (_TINY, _TINY), interpolation=cv2.INTER_AREA) for s in smalls]
        stacked = np.array(tiny, np.uint8).reshape(-1, _TINY, _TINY)
        return cls(_packed(bits), _packed(backwards), stacked,
                   stacked.std(axis=(1, 2)) > _LEAST_CONTRAST)  # fmt: skip


def small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An (h, w, 3) uint8 RGB image in gray, (32, 32)."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(gray, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA), np.uint8)


def near_duplicates(ours: Prints, others: Prints) -> list[tuple[int, int, float, bool]]:
    """(row in `ours`, row in `others`, how alike, mirrored) of images that look the same.

    For each of ours the most alike one alone; `alike` is a correlation in [0.95, 1].
    """
    best: dict[int, tuple[int, int, float, bool]] = {}
    rows = np.flatnonzero(ours.told)
    for mirrored, hashes in ((False, ours.hashes), (True, ours.mirrored)):
        for own, other in _candidates(hashes[rows], others.hashes):
            own = rows[own]
            kept = others.told[other]
            own, other = own[kept], other[kept]
            tiny = ours.tiny[own, :, ::-1] if mirrored else ours.tiny[own]
            alike = _correlation(tiny, others.tiny[other])
            for row in np.flatnonzero(alike >= LEAST_ALIKE).tolist():
                mine = int(own[row])
                found = (mine, int(other[row]), float(alike[row]), mirrored)
                if mine not in best or found[2] > best[mine][2]:
                    best[mine] = found
    return sorted(best.values())


def _candidates(
    queries: NDArray[np.uint64], hashes: NDArray[np.uint64]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of rows whose hashes differ in at most `RADIUS` bits, part by part."""
    flips = [np.uint64(0), *(np.uint64(1 << bit) for bit in range(64 // _PARTS))]
    pairs = []
    for part in range(_PARTS):
        shift, mask = np.uint64(part * 16), np.uint64(0xFFFF)
        keys = hashes >> shift & mask
        order = np.argsort(keys, kind="stable")
        listed = keys[order]
        for flip in flips:
            probe = (queries >> shift & mask) ^ flip
            first = np.searchsorted(listed, probe, "left")
            count = np.searchsorted(listed, probe, "right") - first
            count = np.minimum(count, _MOST_PER_PART)
            own = np.repeat(np.arange(len(queries)), count)
            place = np.arange(len(own)) - np.repeat(np.cumsum(count) - count, count)
            other = order[np.repeat(first, count) + place]
            near = np.bitwise_count(queries[own] ^ hashes[other]) <= RADIUS
            if near.any():
                pairs.append((own[near], other[near]))
    return pairs


def _correlation(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
    flat = [x.reshape(len(x), -1).astype(np.float64) for x in (a, b)]
    first, second = (x - x.mean(axis=1, keepdims=True) for x in flat)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    result: NDArray[np.float64] = (first * second).sum(axis=1) / np.maximum(lengths, 1e-9)
    return result


def _packed(bits: list[NDArray[np.bool_]]) -> NDArray[np.uint64]:
    packed = np.packbits(np.array(bits, np.bool_).reshape(-1, 64), axis=1)
    return packed.view(np.uint64).reshape(-1)


# Told how many of how many images are done.
Progress = Callable[[int, int], None]
# From here on an image that is stored is on its side.
_SIDEWAYS = 5
# Shrunk while it is decoded to no less than this, which is enough for a hash.
_ENOUGH = 128


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One file: what is wrong with it as (kind, words, badness), and the image in gray, (32, 32),
    where it could be read.
    """

    fault: tuple[str, str, float] | None
    small: NDArray[np.uint8] | None


def look(source: ImageFiles, item: tuple[str, tuple[int, int] | None]) -> Look:
    """Read one image, by its name and the (w, h) that the annotations give."""
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
    """`size` is that of the upright image."""
    words = f"{size[0]} x {size[1]}"
    if orientation >= _SIDEWAYS and size[0] != size[1]:
        if said == size[::-1]:
            labels = f"labeled as {said[0]} x {said[1]}, which is the image before EXIF turns it"
            return "exif-turn", f"{labels} to {words}", 2.0
    elif orientation > 1 and said == size:
        # Sizes cannot tell on which the labels lie.
        return "exif-turn", f"EXIF orientation {orientation}: see whether the labels follow it", 1.0
    if said == size:
        return None
    off = float(np.abs(np.log(np.divide(said, size))).max())
    return "wrong-size", f"labeled as {said[0]} x {said[1]}, is {words}", off


def file_faults(
    labels: Labels, source: ImageFiles, progress: Progress
) -> tuple[list[Finding], Prints, list[int]]:
    """What is wrong with the files of a set; prints of those that can be read, and their rows."""
    sizes = [(int(w), int(h)) for w, h in labels.image_wh]
    findings, smalls, rows = [], [], []
    items = list(zip(labels.file_names, sizes, strict=True))
    for row, seen in enumerate(prefetch(partial(look, source), items)):
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


def shared_images(
    labels: Labels,
    prints: Prints,
    rows: Sequence[int],
    others: Labels,
    source: ImageFiles,
    progress: Progress,
) -> tuple[list[Finding], int]:
    """Our images that look like one of the other set's, and how many of those have no image."""
    smalls, names = [], []
    items = [(name, None) for name in others.file_names]
    for row, seen in enumerate(prefetch(partial(look, source), items)):
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
