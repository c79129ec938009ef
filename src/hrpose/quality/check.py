"""`hrpose data check`: problems of a data set that would harm a training."""

from collections.abc import Callable, Collection, Container, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import CocoAnnotations, read_annotations
from hrpose.data.images import ImageFiles
from hrpose.data.persons import group_by_image
from hrpose.estimator import PoseEstimator
from hrpose.geometry import iou
from hrpose.quality.image_checks import file_problems, shared_images
from hrpose.quality.labels import Finding, Labels, Report, read_labels, swapped_sides

# Called with the name of the step, and how many of how many items are done.
Progress = Callable[[str, int, int], None]

# Keypoints may be outside the image by a pixel, from rounding and half-pixel conventions.
EDGE = 1.0
# A crop is a box enlarged by a quarter, an eighth on each side; it may not show keypoints beyond.
BEYOND_BOX = 0.125
# A box whose longer side is so many times that of its keypoints, where at least half of them are
# labeled: none of COCO's is above 2.5.
TOO_LARGE = 3.0
# Two labels of one person: the mean distance of their keypoints, relative to the person's size, is
# below the one, or the IoU of their boxes is at least the other.
SAME_KEYPOINTS = 0.05
SAME_BOX = 0.9


def check(
    annotations: Path | CocoAnnotations,
    images: str | None,
    *,
    against: Path | CocoAnnotations | None = None,
    against_images: str | None = None,
    estimator: PoseEstimator | None = None,
    ignore: Collection[str] = (),
    progress: Progress = lambda what, done, total: None,
) -> Report:
    """Check a COCO keypoints data set, with its images where `images` is their folder or zip file.

    `against` is another data set, whose images (in `against_images`, else in `images`) must not be
    in this one. Both may be files or, read leniently, parsed ones. The `estimator` compares left
    and right with its predictions. Kinds in `ignore` are left out. Raises UserError where a file is
    unusable.
    """
    parsed = read_annotations(annotations, lenient=True)
    labels, findings = read_labels(parsed)
    notes: list[str] = []
    findings += [*no_persons(parsed, labels), *no_keypoints(labels), *duplicate_persons(labels)]
    source = None if images is None else ImageFiles(images)
    other = None if against is None else read_labels(against)[0]
    other_source = source if against_images is None else ImageFiles(against_images)
    if source is None:
        notes.append("images were not checked; add --images")
    else:
        problems, fingerprints, rows = file_problems(labels, source, _step(progress, "images"))
        findings += problems
        if other is not None and other_source is not None:
            step = _step(progress, "the other set's images")
            found, unread = shared_images(labels, fingerprints, rows, other, other_source, step)
            findings += found
            if unread:
                where = against.path if isinstance(against, CocoAnnotations) else against
                notes.append(f"{unread} images of {where} cannot be read; check that set too")
    resized = {f.file for f in findings if f.kind in ("wrong-size", "exif-rotation")}
    findings += [*boxes(labels, resized), *keypoints_outside(labels, resized)]
    if labels.skeleton is not None and "swapped-sides" not in ignore:
        findings += swapped_sides(labels, source, estimator, notes, _step(progress, "poses"))
    return Report(
        len(labels.file_names),
        len(labels),
        [finding for finding in findings if finding.kind not in ignore],
        notes,
    )


def _step(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


def no_persons(annotations: CocoAnnotations, labels: Labels) -> Iterator[Finding]:
    """The file itself, where it has nobody; annotations that were left out are other findings."""
    if not len(labels):
        crowds = len(annotations.annotations)
        found = "crowds only" if crowds else "no annotations that can be used"
        yield Finding("no-persons", annotations.path.name, found)


def no_keypoints(labels: Labels) -> Iterator[Finding]:
    """Boxes of persons without a labeled keypoint."""
    if labels.skeleton is None:
        return
    for person in np.flatnonzero(~labels.labeled.any(axis=1)).tolist():
        area = float(labels.boxes[person, 2:].prod())
        width, height = labels.boxes[person, 2:]
        yield labels.finding(
            "no-keypoints",
            person,
            f"a box of {width:.0f} x {height:.0f} pixels, no keypoints",
            area,
        )


def distances_outside(labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, k) each: how many pixels a keypoint is outside the image; and how far a keypoint in it is
    outside the box, relative to the box's longer side. 0 where it is not.
    """
    points, mask = labels.keypoints[..., :2], labels.labeled
    size = labels.image_wh[labels.image_index][:, None, :]
    over = np.maximum(-points, points - size).max(axis=-1, initial=-np.inf)
    out = mask & (over > EDGE)
    low = labels.boxes[:, None, :2]
    high = low + labels.boxes[:, None, 2:]
    longer = np.maximum(labels.boxes[:, 2:].max(axis=1, initial=1), 1.0)
    beyond = np.maximum(low - points, points - high).max(axis=-1, initial=-np.inf)
    beyond = beyond / longer[:, None]
    far = mask & ~out & (beyond > BEYOND_BOX)
    return np.where(out, over, 0), np.where(far, beyond, 0)


def keypoints_outside(labels: Labels, skipped: Container[str] = ()) -> Iterator[Finding]:
    """Keypoints outside the image, and keypoints inside it that are far outside their box.

    Images in `skipped`, whose size differs from that of the labels, are left out.
    """
    over, beyond = distances_outside(labels)
    sized = np.array([name not in skipped for name in labels.file_names], bool)
    over, beyond = (x * sized[labels.image_index][:, None] for x in (over, beyond))
    size = labels.image_wh[labels.image_index]
    for person in np.flatnonzero(over.any(axis=1)).tolist():
        keypoints = np.flatnonzero(over[person])
        most = over[person, keypoints].max()
        width, height = size[person]
        detail = f"{_named(labels, keypoints)} up to {most:.0f} pixels outside {width} x {height}"
        yield labels.finding("keypoint-outside-image", person, detail, most, keypoints)
    for person in np.flatnonzero(beyond.any(axis=1)).tolist():
        keypoints = np.flatnonzero(beyond[person])
        most = beyond[person, keypoints].max()
        detail = f"{_named(labels, keypoints)} outside the box by up to {100 * most:.0f} % of it"
        yield labels.finding("keypoint-outside-box", person, detail, most, keypoints)


def boxes(labels: Labels, skipped: Container[str] = ()) -> Iterator[Finding]:
    """Boxes that leave the image, as those do that are corners; and boxes that are far too large.

    Images in `skipped`, whose size differs from that of the labels, are left out.
    """
    size = labels.image_wh[labels.image_index].astype(np.float64)
    start, end = labels.boxes[:, :2], labels.boxes[:, :2] + labels.boxes[:, 2:]
    over = np.maximum(-start, end - size).max(axis=1, initial=-np.inf)
    over[labels.exact] = 0
    second = labels.boxes[:, 2:]  # the other corner, if the box is corners
    corners = ((start >= 0) & (second > start) & (second <= size + EDGE)).all(axis=1)
    corners &= _hold(labels, np.concatenate([start, second - start], axis=1))
    ratio = box_ratios(labels.boxes, labels.keypoints)
    for person in range(len(labels)):
        name = labels.file_names[int(labels.image_index[person])]
        if name in skipped:
            continue
        x, y, width, height = labels.boxes[person]
        box = f"a box of {width:.0f} x {height:.0f} pixels at ({x:.0f}, {y:.0f})"
        if over[person] > EDGE:
            kind = "box-corners" if corners[person] else "box-outside-image"
            image = "{:.0f} x {:.0f}".format(*size[person])
            detail = f"{box}, up to {over[person]:.0f} pixels outside {image}"
            yield labels.finding(kind, person, detail, float(over[person]))
        elif ratio[person] > TOO_LARGE:
            detail = f"{box}, {ratio[person]:.1f} times what its keypoints span"
            yield labels.finding("box-too-large", person, detail, float(ratio[person]))


def _hold(labels: Labels, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,): which boxes hold the labeled keypoints, by an eighth of their longer side more."""
    points, slack = labels.keypoints[..., :2], BEYOND_BOX * boxes[:, None, 2:].max(axis=-1)
    beyond = np.maximum(
        boxes[:, None, :2] - points, points - boxes[:, None, :2] - boxes[:, None, 2:]
    )
    inside = (beyond <= slack[..., None]).all(axis=-1) | ~labels.labeled
    hold: NDArray[np.bool_] = inside.all(axis=1)
    return hold


def box_ratios(
    boxes_xywh: NDArray[np.float64], keypoints: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """(n,): the longer side of the boxes (n, 4), relative to what the keypoints (n, k, 3) span.

    0 where less than half of them, or fewer than three, are labeled.
    """
    points, mask = keypoints[..., :2].astype(np.float64), keypoints[..., 2:] > 0
    low = np.where(mask, points, np.inf).min(axis=1, initial=np.inf)
    high = np.where(mask, points, -np.inf).max(axis=1, initial=-np.inf)
    span = (high - low).max(axis=1, initial=-np.inf)
    counts = mask.sum(axis=(1, 2))
    enough = (counts >= 3) & (2 * counts >= keypoints.shape[1]) & (span > 1)
    return np.where(enough, boxes_xywh[:, 2:].max(axis=1) / np.where(enough, span, 1), 0)


def duplicate_persons(labels: Labels) -> Iterator[Finding]:
    """Persons of one image with the same keypoints, or with the same box where few are labeled."""
    for own in group_by_image(labels.image_index).values():
        if len(own) < 2:
            continue
        alike = _alike(labels, own)
        for later in range(1, len(own)):
            first = int(np.argmax(alike[later, :later]))
            if alike[later, first] > 0:
                twin = int(labels.annotation_ids[own[first]])
                yield labels.finding(
                    "duplicate-person",
                    int(own[later]),
                    f"the same person as annotation {twin}",
                    alike[later, first],
                )


def _alike(labels: Labels, own: NDArray[np.int64]) -> NDArray[np.float64]:
    """(m, m): above 0 where two persons of one image are the same, 1 for equal labels."""
    boxes, points, mask = labels.boxes[own], labels.keypoints[own, :, :2], labels.labeled[own]
    overlap = iou(boxes, boxes)
    if labels.skeleton is None:
        return np.where(overlap >= SAME_BOX, overlap, 0)
    both = mask[:, None] & mask[None]
    common, fewest = both.sum(axis=-1), np.minimum(mask.sum(axis=1)[:, None], mask.sum(axis=1))
    areas = boxes[:, 2:].prod(axis=1)
    size = np.sqrt(np.maximum(np.maximum(areas[:, None], areas[None]), 1.0))
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    mean = (distance * both).sum(axis=-1) / np.maximum(common, 1) / size
    # One keypoint at the same position may be chance, and so may be a few of many.
    enough = (common >= 3) & (common >= 0.6 * fewest)
    by_keypoints = np.where(enough & (mean < SAME_KEYPOINTS), 1 - mean, 0)
    by_box = np.where((fewest < 3) & (overlap >= SAME_BOX), overlap, 0)
    return np.maximum(by_keypoints, by_box)


def _named(labels: Labels, keypoints: NDArray[np.int64]) -> str:
    names = [labels.names[keypoint].replace("_", " ") for keypoint in keypoints[:3].tolist()]
    more = f" and {len(keypoints) - 3} more" if len(keypoints) > 3 else ""
    return f"{', '.join(names)}{more}"
