"""Annotations read leniently: what is wrong becomes a finding, and the rest is looked at."""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import CocoAnnotations, read_annotations
from hrpose.data.persons import group_by_image
from hrpose.data.rules import Problem
from hrpose.geometry import iou
from hrpose.quality.findings import Finding
from hrpose.skeleton import Skeleton


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """n people in m images, as the file says it: nothing is cut, nobody left out but crowds.

    Columns as in `PersonTable`. Boxes without any skeleton have `skeleton` None and keypoints of
    shape (n, 0, 3).
    """

    skeleton: Skeleton | None
    image_ids: NDArray[np.int64]
    file_names: tuple[str, ...]
    image_wh: NDArray[np.int32]
    image_index: NDArray[np.int32]
    annotation_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    keypoints: NDArray[np.float64]
    areas: NDArray[np.float64]

    @classmethod
    def of(cls, annotations: CocoAnnotations) -> "Labels":
        """The labels of a parsed file."""
        images, persons = annotations.image_columns, annotations.instances(crowds=False).columns
        return cls(
            skeleton=annotations.skeleton if annotations.has_keypoints else None,
            image_ids=images["image_ids"],
            file_names=tuple(name.decode() for name in images["file_names"].tolist()),
            image_wh=images["image_wh"],
            image_index=persons["image_index"],
            annotation_ids=persons["annotation_ids"],
            boxes=persons["boxes"],
            keypoints=persons["keypoints"].astype(np.float64),
            areas=persons["areas"],
        )

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """(n, k): which keypoints have a label."""
        mask: NDArray[np.bool_] = self.keypoints[..., 2] > 0
        return mask

    @property
    def names(self) -> tuple[str, ...]:
        return () if self.skeleton is None else self.skeleton.keypoints

    def finding(
        self, kind: str, person: int, detail: str, badness: float, keypoints: Any = ()
    ) -> Finding:
        """A fault of one person; `keypoints` are indices."""
        image = int(self.image_index[person])
        return Finding(
            kind,
            self.file_names[image],
            detail,
            float(badness),
            int(self.image_ids[image]),
            int(self.annotation_ids[person]),
            tuple(self.names[keypoint] for keypoint in keypoints),
        )


def read_labels(path: Path) -> tuple[Labels, list[Finding]]:
    """The labels of a COCO file, and its malformed entries, which are left out.

    Raises UserError where the file, its categories or its lists cannot be used at all.
    """
    annotations = read_annotations(path, lenient=True)
    labels = Labels.of(annotations)
    names = dict(zip(labels.image_ids.tolist(), labels.file_names, strict=True))
    return labels, [_malformed(problem, names) for problem in annotations.problems]


def _malformed(problem: Problem, names: dict[int, str]) -> Finding:
    entry, of_image = problem.entry, problem.kind == "image"
    number, image = (None, "id") if of_image else (_whole(entry.get("id")), "image_id")
    image_id = _whole(entry.get(image))
    file = entry.get("file_name") if of_image else names.get(-1 if image_id is None else image_id)
    file = file if isinstance(file, str) else "(no image)"
    return Finding("malformed", file, problem.message, 0.0, image_id, number)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


# Rounding and half-pixel conventions put keypoints a little over the edge.
EDGE = 1.0
# A crop is a box grown by a quarter, an eighth on each side: beyond that a keypoint may not be
# seen.
BEYOND_BOX = 0.125
# Two labels of one person: keypoints this near, as a part of the person's size, or boxes this
# alike.
SAME_KEYPOINTS = 0.05
SAME_BOX = 0.9


def no_keypoints(labels: Labels) -> Iterator[Finding]:
    """Boxes of people without a single labeled keypoint."""
    if labels.skeleton is None:
        return
    for person in np.flatnonzero(~labels.labeled.any(axis=1)).tolist():
        area = float(labels.boxes[person, 2:].prod())
        width, height = labels.boxes[person, 2:]
        yield labels.finding(
            "no-joints", person, f"a box of {width:.0f} x {height:.0f} pixels, no keypoints", area
        )


def misplaced(labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, k) each, 0 where all is well: how many pixels a keypoint is outside the image; and, of a
    keypoint inside it, how far outside the box, as a part of the box's longer side.
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


def outside(labels: Labels, faulty: Container[str] = ()) -> Iterator[Finding]:
    """Keypoints outside the image, and keypoints inside it that are far outside their box.

    The images `faulty` are of another size than the labels say, so they are left out.
    """
    over, beyond = misplaced(labels)
    sized = np.array([name not in faulty for name in labels.file_names], bool)
    over, beyond = (x * sized[labels.image_index][:, None] for x in (over, beyond))
    size = labels.image_wh[labels.image_index]
    for person in np.flatnonzero(over.any(axis=1)).tolist():
        keypoints = np.flatnonzero(over[person])
        most = over[person, keypoints].max()
        width, height = size[person]
        said = f"{_named(labels, keypoints)} up to {most:.0f} pixels outside {width} x {height}"
        yield labels.finding("joint-outside-picture", person, said, most, keypoints)
    for person in np.flatnonzero(beyond.any(axis=1)).tolist():
        keypoints = np.flatnonzero(beyond[person])
        most = beyond[person, keypoints].max()
        said = f"{_named(labels, keypoints)} outside the box by up to {100 * most:.0f} % of it"
        yield labels.finding("joint-outside-box", person, said, most, keypoints)


def doubles(labels: Labels) -> Iterator[Finding]:
    """People of one image with the same keypoints, or the same box where keypoints cannot tell."""
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
    """(m, m): above 0 where two people of one image are one; 1 where they are equal."""
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
    # One keypoint in the same place may be chance, and so may be a few of many.
    told = (common >= 3) & (common >= 0.6 * fewest)
    by_keypoints = np.where(told & (mean < SAME_KEYPOINTS), 1 - mean, 0)
    by_box = np.where((fewest < 3) & (overlap >= SAME_BOX), overlap, 0)
    return np.maximum(by_keypoints, by_box)


def _named(labels: Labels, keypoints: NDArray[np.int64]) -> str:
    names = [labels.names[keypoint].replace("_", " ") for keypoint in keypoints[:3].tolist()]
    more = f" and {len(keypoints) - 3} more" if len(keypoints) > 3 else ""
    return f"{', '.join(names)}{more}"
