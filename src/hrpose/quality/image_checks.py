"""Checks of a data set's image files: whether they can be read, their size, and near-duplicates.

Near-duplicates are found by a perceptual hash of 64 bits, the signs of the lowest 8 x 8 cosine
frequencies of a small gray image relative to their median. Scaling, compression and brightness
change few bits. Where two hashes differ in at most 7 bits, one of their four 16-bit parts differs
in at most 1: so each part and its 16 neighbors are looked up in a sorted list.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.data.images import ImageFiles
from hrpose.errors import UserError
from hrpose.image import exif_orientation, image_size, read_reduced
from hrpose.io import prefetch
from hrpose.quality.labels import Finding, Labels

# Called with how many of how many images are done.
Progress = Callable[[int, int], None]

# Bits that near-duplicates may differ in; the small images of the candidates are compared.
RADIUS = 7
_PARTS = 4
# Two images are the same from this correlation on, and have at least this contrast.
MIN_CORRELATION = 0.95
_MIN_CONTRAST = 3.0
# At most this many images with the same part of the hash are compared, as there may be thousands.
_MAX_PER_PART = 64
# Sides in pixels: of the images that are hashed and compared, and the least of the decoded ones.
_SMALL, _TINY, _DECODED = 32, 16, 128
# From this EXIF orientation on, the stored image is on its side.
_SIDEWAYS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprints:
    """Fingerprints of m images: `hashes` and those of the mirror images (m,) uint64, `tiny` gray
    images (m, 16, 16) uint8. Flat images, which resemble all others, are not `distinct`.
    """

    hashes: NDArray[np.uint64]
    mirrored: NDArray[np.uint64]
    tiny: NDArray[np.uint8]
    distinct: NDArray[np.bool_]

    @classmethod
    def of(cls, smalls: NDArray[np.uint8]) -> "Fingerprints":
        """The fingerprints of small gray images (m, 32, 32) uint8."""
        bits: list[NDArray[np.bool_]] = []
        backwards: list[NDArray[np.bool_]] = []
        mirror = np.tile([1.0, -1.0], 4)
        for each in smalls:
            waves = cv2.dct(each.astype(np.float32))[:8, :8]
            # In a mirrored image the odd horizontal frequencies change their sign.
            for found, block in ((bits, waves), (backwards, waves * mirror)):
                values = np.asarray(block, np.float64).ravel()
                found.append(values > np.median(values[1:]))
        tiny = [cv2.resize(s, (_TINY, _TINY), interpolation=cv2.INTER_AREA) for s in smalls]
        stacked = np.array(tiny, np.uint8).reshape(-1, _TINY, _TINY)
        return cls(_packed(bits), _packed(backwards), stacked,
                   stacked.std(axis=(1, 2)) > _MIN_CONTRAST)  # fmt: skip


def small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An (h, w, 3) uint8 RGB image in gray, (32, 32)."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(gray, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA), np.uint8)


def near_duplicates(ours: Fingerprints, others: Fingerprints) -> list[tuple[int, int, float, bool]]:
    """(row in `ours`, row in `others`, correlation in [0.95, 1], mirrored) of near-duplicates.

    For each of `ours` only the most similar one.
    """
    best: dict[int, tuple[int, int, float, bool]] = {}
    rows = np.flatnonzero(ours.distinct)
    for mirrored, hashes in ((False, ours.hashes), (True, ours.mirrored)):
        for own, other in _candidates(hashes[rows], others.hashes):
            own = rows[own]
            distinct = others.distinct[other]
            own, other = own[distinct], other[distinct]
            tiny = ours.tiny[own, :, ::-1] if mirrored else ours.tiny[own]
            alike = _correlation(tiny, others.tiny[other])
            for row in np.flatnonzero(alike >= MIN_CORRELATION).tolist():
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
            count = np.minimum(count, _MAX_PER_PART)
            own = np.repeat(np.arange(len(queries)), count)
            offset = np.arange(len(own)) - np.repeat(np.cumsum(count) - count, count)
            other = order[np.repeat(first, count) + offset]
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


@dataclass(frozen=True, slots=True, eq=False)
class CheckedImage:
    """One file: its problem as (kind, detail, badness), and the gray image (32, 32) uint8, None
    where it cannot be read.
    """

    problem: tuple[str, str, float] | None
    small: NDArray[np.uint8] | None


def check_image(source: ImageFiles, item: tuple[str, tuple[int, int] | None]) -> CheckedImage:
    """Read one image, by its name and its (w, h) in the annotations."""
    name, labeled_wh = item
    if name not in source:
        return CheckedImage(("missing-file", "missing", 0.0), None)
    try:
        data = source.content(name)
        size, orientation = image_size(data, name), exif_orientation(data, name)
        image, _ = read_reduced(data, min(size) / _DECODED, name)
    except UserError as error:
        return CheckedImage(("unreadable", str(error).removeprefix(f"{name}: "), 0.0), None)
    problem = None if labeled_wh is None else _size_problem(labeled_wh, size, orientation)
    return CheckedImage(problem, small(image))


def _size_problem(
    labeled_wh: tuple[int, int], size: tuple[int, int], orientation: int
) -> tuple[str, str, float] | None:
    """`size` is that of the upright image."""
    labeled, actual = (f"{w} x {h}" for w, h in (labeled_wh, size))
    if orientation >= _SIDEWAYS and size[0] != size[1]:
        if labeled_wh == size[::-1]:
            detail = f"labeled as {labeled}, the size before EXIF rotates it to {actual}"
            return "exif-rotation", detail, 2.0
    elif orientation > 1 and labeled_wh == size:
        # The size is the same for both, so it cannot tell which one the labels are for.
        detail = f"EXIF orientation {orientation}: check whether the labels follow it"
        return "exif-rotation", detail, 1.0
    if labeled_wh == size:
        return None
    difference = float(np.abs(np.log(np.divide(labeled_wh, size))).max())
    return "wrong-size", f"labeled as {labeled}, is {actual}", difference


def _checked(
    source: ImageFiles, items: Sequence[tuple[str, tuple[int, int] | None]], progress: Progress
) -> Iterator[tuple[int, CheckedImage]]:
    for row, checked in enumerate(prefetch(partial(check_image, source), items)):
        yield row, checked
        progress(row + 1, len(items))


def file_problems(
    labels: Labels, source: ImageFiles, progress: Progress
) -> tuple[list[Finding], Fingerprints, list[int]]:
    """Problems of a set's image files; fingerprints of the readable ones, and their rows."""
    sizes = [(int(w), int(h)) for w, h in labels.image_wh]
    findings, smalls, rows = [], [], []
    for row, checked in _checked(
        source, list(zip(labels.file_names, sizes, strict=True)), progress
    ):
        if checked.problem is not None:
            image_id = int(labels.image_ids[row])
            findings.append(
                Finding(checked.problem[0], labels.file_names[row], *checked.problem[1:], image_id)
            )
        if checked.small is not None:
            smalls.append(checked.small)
            rows.append(row)
    return findings, _fingerprints(smalls), rows


def shared_images(
    labels: Labels,
    fingerprints: Fingerprints,
    rows: Sequence[int],
    others: Labels,
    source: ImageFiles,
    progress: Progress,
) -> tuple[list[Finding], int]:
    """Images with near-duplicates in the other set, and how many of its images are unreadable."""
    smalls, names = [], []
    items = [(name, None) for name in others.file_names]
    for row, checked in _checked(source, items, progress):
        if checked.small is not None:
            smalls.append(checked.small)
            names.append(others.file_names[row])
    findings = []
    for own, other, correlation, mirrored in near_duplicates(fingerprints, _fingerprints(smalls)):
        row = rows[own]
        how = ", mirrored" if mirrored else ""
        findings.append(
            Finding(
                "near-duplicate",
                labels.file_names[row],
                f"looks like {names[other]} of the other set ({correlation:.3f}{how})",
                correlation,
                int(labels.image_ids[row]),
            )
        )
    return findings, len(others.file_names) - len(names)


def _fingerprints(smalls: list[NDArray[np.uint8]]) -> Fingerprints:
    return Fingerprints.of(np.array(smalls, np.uint8).reshape(-1, 32, 32))
