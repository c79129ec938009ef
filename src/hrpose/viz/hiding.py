"""Hiding faces, heads or whole bodies in images and clips: filled with gray, nothing of them stays.

Regions come from keypoints that are sure. Where they are not, a head is above the shoulders, and
where these are not sure either, the person's whole box is hidden.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError
from hrpose.poses import THRESHOLD, Poses
from hrpose.skeleton import Color, Skeleton

# What can be hidden.
HIDDEN = ("faces", "heads", "bodies")

# A fill, not a blur or mosaic: people, and networks, recognize faces behind those (McPherson,
# Shokri, Shmatikov, "Defeating Image Obfuscation with Deep Learning", 2016).
GRAY: Color = (96, 96, 96)

# Words in the names of keypoints of a face, and of the rest of a head.
_FACE = {"nose", "eye", "ear", "mouth", "face", "chin", "jaw", "lip", "eyebrow", "muzzle"}
_HEAD = {"head", "forehead", "crown", "poll"}

# Sizes of a head with its hair: relative to the largest distance of its keypoints, to the width of
# the shoulders, to the trunk, and to the longer side of the person's box (at least, at most).
_OF_SPREAD, _OF_SHOULDERS, _OF_TRUNK = 2.0, 0.75, 0.5
_OF_BOX, _MOST_OF_BOX = 0.15, 0.6
# From the line of the shoulders to the middle of the head, in sizes of a head.
_ABOVE_SHOULDERS = 0.85
# A region reaches beyond what it must cover, because keypoints are never exact.
_FACE_MARGIN, _HEAD_MARGIN, _BODY_MARGIN = 1.0, 1.25, 0.08


class Region(NamedTuple):
    """[x, y, w, h] in pixels, hidden as a whole, or where `round` the ellipse inside it.

    `sure` says that it is from keypoints, not from the person's box.
    """

    x: float
    y: float
    w: float
    h: float
    round: bool
    sure: bool = True


def check_hiding(what: str, skeleton: Skeleton) -> None:
    """Raise UserError where `what` is not in `HIDDEN`, or the skeleton has no such keypoints."""
    if what not in HIDDEN:
        raise UserError(
            f"hide: expected one of {', '.join(HIDDEN)}, found '{what}'", code="option-invalid"
        )
    if what != "bodies" and not len(_head_keypoints(skeleton, what)):
        other = "heads or bodies" if what == "faces" and _any_head(skeleton) else "bodies"
        raise UserError(
            f"hide {what}: expected keypoints of them, such as nose and eyes, the skeleton "
            f"'{skeleton.name}' has none; hide {other}",
            code="skeleton-incomplete",
        )


def regions(poses: Poses, what: str) -> list[Region]:
    """One region for each person: `what` is faces, heads or bodies.

    Raises UserError as `check_hiding`.
    """
    check_hiding(what, poses.skeleton)
    find = _body if what == "bodies" else _head
    return [find(poses, person, what) for person in range(len(poses))]


def fill(image: NDArray[np.uint8], hidden: Sequence[Region]) -> NDArray[np.uint8]:
    """A copy of an (h, w, 3) uint8 RGB image with these regions filled with gray."""
    canvas = np.array(image, order="C")
    height, width = canvas.shape[:2]
    for region in hidden:
        low = np.floor(np.clip((region.x, region.y), -1e6, 1e6)).astype(int)
        high = np.ceil(np.clip((region.x + region.w, region.y + region.h), -1e6, 1e6)).astype(int)
        first, last = np.clip(low, 0, (width, height)), np.clip(high, 0, (width, height))
        part = canvas[first[1] : last[1], first[0] : last[0]]
        if not part.size:
            continue
        if region.round:
            center, half = (low + high - 1) / 2, np.maximum((high - low) / 2, 0.5)
            y, x = np.ogrid[first[1] : last[1], first[0] : last[0]]
            inside = ((x - center[0]) / half[0]) ** 2 + ((y - center[1]) / half[1]) ** 2 <= 1
            part[inside] = GRAY
        else:
            part[:] = GRAY
    return canvas


def hide(image: NDArray[np.uint8], poses: Poses, what: str) -> NDArray[np.uint8]:
    """A copy of an (h, w, 3) uint8 RGB image without the faces, heads or bodies of `poses`.

    Raises UserError for another word, and where the skeleton has no keypoints of a head.
    """
    return fill(image, regions(poses, what))


@dataclass(slots=True)
class _Seen:
    """The last region of a person, the box that it was in, and the time in seconds.

    `sure` is the last region that was sure, with its box and time.
    """

    region: Region
    box: NDArray[np.float32]
    time: float
    sure: "_Seen | None" = None


class Hider:
    """Hides the persons of image after image, and counts those in which nothing was hidden.

    In a clip, where poses have track ids, the region of a person who is not found is hidden for
    `keep` seconds more, growing; and where a face was seen less than `keep` seconds ago and is no
    longer sure, it is hidden where it was in the person's box, not the whole box.
    """

    def __init__(self, what: str, keep: float = 1.0) -> None:
        self.what = what
        self.keep = keep
        # The numbers of images so far, and of those in which nothing was hidden.
        self.images = self.without = 0
        self._persons: dict[int, _Seen] = {}

    def __call__(
        self, image: NDArray[np.uint8], *several: Poses, time: float | None = None
    ) -> NDArray[np.uint8]:
        """A copy of the image without the persons of these poses, which may be of two models.

        `time` in seconds is that of a clip's frame.
        """
        found = [region for poses in several for region in regions(poses, self.what)]
        if time is not None and len(several) == 1 and several[0].track_ids is not None:
            found = self._tracked(several[0], found, time)
        self.images += 1
        self.without += not found
        return fill(image, found)

    def _tracked(self, poses: Poses, found: list[Region], time: float) -> list[Region]:
        self._persons = {
            id: seen for id, seen in self._persons.items() if 0 <= time - seen.time <= self.keep
        }
        hidden = []
        ids = [] if poses.track_ids is None else poses.track_ids.tolist()
        for id, region, box in zip(ids, found, poses.boxes, strict=True):
            before = self._persons.get(id)
            sure = None if before is None else before.sure
            if region.sure:
                sure = _Seen(region, box, time)
            elif sure is not None and time - sure.time <= self.keep:
                region = _grown(_moved(sure.region, sure.box, box), 0.5 * (time - sure.time))
            self._persons[id] = _Seen(region, box, time, sure)
            hidden.append(region)
        for id, seen in self._persons.items():
            if id not in ids:
                hidden.append(_grown(seen.region, 0.5 * (time - seen.time)))
        return hidden


def _moved(region: Region, before: NDArray[np.float32], after: NDArray[np.float32]) -> Region:
    """The region at the same place in another box [x, y, w, h]."""
    scale = after[2:] / np.maximum(before[2:], 1)
    x, y = after[:2] + (np.array(region[:2]) - before[:2]) * scale
    w, h = np.array(region[2:4]) * scale
    return region._replace(x=float(x), y=float(y), w=float(w), h=float(h))


def _grown(region: Region, share: float) -> Region:
    """Larger on each side by a share of its longer side."""
    margin = share * max(region.w, region.h)
    return region._replace(
        x=region.x - margin, y=region.y - margin, w=region.w + 2 * margin, h=region.h + 2 * margin
    )


def _body(poses: Poses, person: int, what: str) -> Region:
    """The person's box and all sure keypoints, with a margin."""
    x, y, w, h = poses.boxes[person].astype(float).tolist()
    points = np.concatenate([[(x, y), (x + w, y + h)], _sure(poses, person)])
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return _grown(Region(left, top, right - left, bottom - top, round=False), _BODY_MARGIN)


def _head(poses: Poses, person: int, what: str) -> Region:
    skeleton = poses.skeleton
    x, y, w, h = poses.boxes[person].astype(float).tolist()
    points = _sure(poses, person, _head_keypoints(skeleton, what))
    neck = _sure(poses, person, _named(skeleton, {"neck"}))
    shoulders = _sure(poses, person, _named(skeleton, {"shoulder"}))
    hips = _sure(poses, person, _named(skeleton, {"hip"}))
    sizes = [_OF_BOX * max(w, h), _OF_SPREAD * _spread(points), _OF_SHOULDERS * _spread(shoulders)]
    up = np.array([0.0, -1.0])
    if len(shoulders) == 2 and len(hips):
        trunk = shoulders.mean(axis=0) - hips.mean(axis=0)
        length = float(np.linalg.norm(trunk))
        sizes.append(_OF_TRUNK * length)
        up = trunk / length if length > 1 else up
    if len(points) and len(neck) and _spread(points) == 0:
        # One keypoint for a head, or its top: the head reaches from it to the neck.
        points = np.concatenate([points, neck])
        sizes.append(1.3 * _spread(points))
    size = min(max(sizes), _MOST_OF_BOX * max(w, h))
    if len(points):
        center = (points.min(axis=0) + points.max(axis=0)) / 2
        # All keypoints are inside, whatever the size.
        farthest = float(np.linalg.norm(points - center, axis=1).max())
        size = max(size, 2.4 * farthest)
        if what == "heads":
            center = center + 0.1 * size * up
    elif len(shoulders) == 2:
        center = shoulders.mean(axis=0) + _ABOVE_SHOULDERS * size * up
        size *= 1.2  # the place is less certain
    else:
        return Region(x, y, w, h, round=False, sure=False)
    size *= _HEAD_MARGIN if what == "heads" else _FACE_MARGIN
    left, top = (center - size / 2).tolist()
    return Region(left, top, size, size, round=True)


def _sure(
    poses: Poses, person: int, chosen: NDArray[np.int64] | slice = slice(None)
) -> NDArray[np.float64]:
    """(m, 2): the chosen keypoints of a person that are sure."""
    keypoints = poses.keypoints[person, chosen].astype(np.float64)
    sure: NDArray[np.float64] = keypoints[keypoints[:, 2] >= THRESHOLD, :2]
    return sure


def _spread(points: NDArray[np.float64]) -> float:
    """The largest distance between two of the points (m, 2)."""
    if len(points) < 2:
        return 0.0
    return float(np.linalg.norm(points[:, None] - points[None], axis=2).max())


def _head_keypoints(skeleton: Skeleton, what: str) -> NDArray[np.int64]:
    """The keypoints of a face, or for heads of a head."""
    return _named(skeleton, _FACE if what == "faces" else _FACE | _HEAD)


def _any_head(skeleton: Skeleton) -> bool:
    return bool(len(_head_keypoints(skeleton, "heads")))


def _named(skeleton: Skeleton, words: set[str]) -> NDArray[np.int64]:
    """The keypoints with one of these words in their names, such as left_eye, leftEye or Eye-L."""
    found = []
    for index, name in enumerate(skeleton.keypoints):
        parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
        if words & {part.lower() for part in parts}:
            found.append(index)
    return np.array(found, np.int64)
