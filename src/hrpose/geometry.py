"""Crops of an image and the warp that cuts them out, boxes, IoU and NMS.

Points are (x, y), pixel centers at integers; sizes (w, h) in pixels; boxes [x, y, w, h]; matrices
(2, 3) float64, to be applied to (x, y, 1). `matrix` maps the image to the crop, `inverse_matrix`
the crop to the image.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.errors import UserError

# The body reaches beyond its keypoints by this part of their longer side: the top of the head, the
# feet (COCO train2017: median 0.11 above, 0.09 below, 0.06 at the sides).
BODY_MARGIN = 0.1


@dataclass(frozen=True, slots=True)
class Crop:
    """An upright or rotated rectangle of the image, and the size of the input it fills.

    `center` (x, y) and `size` (w, h) in image pixels, `input_wh` in input pixels, `rotation_deg`
    turns the image clockwise in the crop, `mirrored` swaps left and right before the rotation. With
    `unit_lengths` the input's n pixels are n - 1 long, from the center of the first to that of the
    last, and mirroring reverses the columns exactly (UDP); else n, as in the official code.
    """

    center: tuple[float, float]
    size: tuple[float, float]
    input_wh: tuple[int, int]
    rotation_deg: float = 0.0
    mirrored: bool = False
    unit_lengths: bool = False

    @classmethod
    def from_box(
        cls,
        box_xywh: ArrayLike,
        input_wh: tuple[int, int],
        padding: float = 1.25,
        rotation_deg: float = 0.0,
        unit_lengths: bool = False,
    ) -> "Crop":
        """The crop around a person's box [x, y, w, h] (paper, section 4.1).

        The box grows around its center, in width or in height, to the aspect ratio of the input,
        and then by `padding`. It may reach outside the image. Raises ValueError where the box is
        not four finite numbers with positive width and height.
        """
        box = np.asarray(box_xywh, dtype=np.float64)
        if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] <= 0).any():
            raise ValueError(
                "box: expected four finite numbers [x, y, w, h] with w, h > 0, "
                f"found {box.tolist()}"
            )
        x, y, w, h = (float(value) for value in box)
        aspect = input_wh[0] / input_wh[1]
        size = (max(w, h * aspect) * padding, max(h, w / aspect) * padding)
        center = (x + w / 2, y + h / 2)
        return cls(center, size, input_wh, rotation_deg, unit_lengths=unit_lengths)

    @property
    def area(self) -> float:
        """In square pixels of the image; the area of a person for OKS-NMS."""
        return self.size[0] * self.size[1]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(2, 3), image pixels to input pixels."""
        cos, sin, (sx, sy), mirror = *self._turn(), self._scales(), -1 if self.mirrored else 1
        a, b, c, d = mirror * sx * cos, sx * sin, -mirror * sy * sin, sy * cos
        return _affine(a, b, c, d, source=self.center, target=self._input_center())

    @property
    def inverse_matrix(self) -> NDArray[np.float64]:
        """(2, 3), input pixels to image pixels: the exact inverse of `matrix`."""
        cos, sin, (sx, sy), mirror = *self._turn(), self._scales(), -1 if self.mirrored else 1
        a, b, c, d = mirror * cos / sx, -mirror * sin / sy, sin / sx, cos / sy
        return _affine(a, b, c, d, source=self._input_center(), target=self.center)

    def inside(self, origin: tuple[float, float], reduction: float) -> "Crop":
        """The same crop in a part of the image, where its point p is (p - origin) / reduction."""
        (x, y), (w, h) = self.center, self.size
        center = ((x - origin[0]) / reduction, (y - origin[1]) / reduction)
        return replace(self, center=center, size=(w / reduction, h / reduction))

    def bounds(self, margin: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The pixels that the warp reads, as an upright rectangle with `margin` on each side.

        Returns its first pixel (x, y), and the one after its last.
        """
        (width, height), inverse = self.input_wh, self.inverse_matrix
        corners = transform([(x, y) for x in (0, width - 1) for y in (0, height - 1)], inverse)
        low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
        left, top, right, bottom = (int(n) for n in (*(low - margin), *(high + margin + 1)))
        return (left, top), (right, bottom)

    def _input_length(self) -> tuple[float, float]:
        return self.input_wh[0] - self.unit_lengths, self.input_wh[1] - self.unit_lengths

    def _input_center(self) -> tuple[float, float]:
        width, height = self._input_length()
        return width / 2, height / 2

    def _scales(self) -> tuple[float, float]:
        """Input pixels per image pixel along x and y.

        Both are that of the width, as in the official code; with `unit_lengths` each axis has its
        own.
        """
        (width, height), (w, h) = self._input_length(), self.size
        return width / w, height / h if self.unit_lengths else width / w

    def _turn(self) -> tuple[float, float]:
        """Cosine and sine of the rotation."""
        angle = math.radians(self.rotation_deg)
        return math.cos(angle), math.sin(angle)


def _affine(
    a: float, b: float, c: float, d: float, source: tuple[float, float], target: tuple[float, float]
) -> NDArray[np.float64]:
    """The affine map with the linear part [[a, b], [c, d]] that takes `source` to `target`."""
    (x, y), (u, v) = source, target
    return np.array([[a, b, u - a * x - b * y], [c, d, v - c * x - d * y]])


def transform(points_xy: ArrayLike, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply (2, 3) matrices to points (..., 2). Matrices (n, 2, 3) go with points (n, k, 2)."""
    points = np.asarray(points_xy, dtype=np.float64)
    linear, shift = matrix[..., :2], matrix[..., None, :, 2]
    if matrix.ndim == 2:
        shift = matrix[:, 2]
    result: NDArray[np.float64] = points @ np.swapaxes(linear, -1, -2) + shift
    return result


def warp(image: NDArray[np.uint8], crop: Crop) -> NDArray[np.uint8]:
    """Cut `crop` out of an (h, w, 3) uint8 image: (input h, input w, 3) uint8.

    Bilinear; black outside the image.
    """
    warped = cv2.warpAffine(image, crop.matrix, crop.input_wh, flags=cv2.INTER_LINEAR)
    return warped  # type: ignore[return-value]


def xywh_to_xyxy(boxes_xywh: NDArray[Any]) -> NDArray[Any]:
    """Boxes (..., 4) [x, y, w, h] as corners [left, top, right, bottom], of the same type."""
    low, size = boxes_xywh[..., :2], boxes_xywh[..., 2:]
    return np.concatenate([low, low + size], axis=-1)


def xyxy_to_xywh(boxes_xyxy: NDArray[Any]) -> NDArray[Any]:
    """Corners (..., 4) [left, top, right, bottom] as boxes [x, y, w, h], of the same type."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return np.concatenate([low, high - low], axis=-1)


def transform_boxes(
    boxes_xywh: NDArray[np.float64], matrix: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Boxes (..., 4) under a (2, 3) matrix without rotation, which may mirror.

    A box ends at the edges of pixels while matrices map their centers, hence the half pixels: a
    mirrored box would otherwise be one pixel off.
    """
    corners = xywh_to_xyxy(boxes_xywh).reshape(*boxes_xywh.shape[:-1], 2, 2)
    moved = transform(corners - 0.5, matrix) + 0.5
    low, high = moved.min(axis=-2), moved.max(axis=-2)
    return np.concatenate([low, high - low], axis=-1)


def clip_boxes(boxes_xywh: NDArray[np.float64], image_wh: tuple[int, int]) -> NDArray[np.float64]:
    """Boxes (..., 4) clipped to an image (w, h); 0 wide or high where they are outside."""
    return xyxy_to_xywh(xywh_to_xyxy(boxes_xywh).clip(0, (*image_wh, *image_wh)))


def expand_boxes(boxes_xywh: NDArray[np.float64], margin: ArrayLike) -> NDArray[np.float64]:
    """Boxes (..., 4) with `margin` (...) more on each side, in pixels."""
    m = np.asarray(margin, np.float64)[..., None]
    return np.concatenate([boxes_xywh[..., :2] - m, boxes_xywh[..., 2:] + 2 * m], axis=-1)


def box_around(points_xy: ArrayLike, mask: ArrayLike | None = None) -> NDArray[np.float64]:
    """The smallest box [x, y, w, h] around points (..., k, 2): (..., 4).

    `mask` (..., k) selects the points, by default all; around none the box is NaN. A body reaches
    beyond its keypoints, see `BODY_MARGIN`.
    """
    points = np.asarray(points_xy, np.float64)
    every = np.ones(points.shape[:-1], np.bool_)
    chosen = every if mask is None else np.asarray(mask, np.bool_)
    low = np.where(chosen[..., None], points, np.inf).min(axis=-2, initial=np.inf)
    high = np.where(chosen[..., None], points, -np.inf).max(axis=-2, initial=-np.inf)
    some = chosen.any(axis=-1, keepdims=True)
    corners = np.concatenate([np.where(some, low, np.nan), np.where(some, high, np.nan)], axis=-1)
    return xyxy_to_xywh(corners)


def box_of_keypoints(points_xy: ArrayLike, image_wh: tuple[int, int]) -> NDArray[np.float64]:
    """(4,) a person's box [x, y, w, h] where the data have none, from its keypoints (k, 2).

    What the keypoints span, with a tenth of its longer side around it, cut to the image: on COCO's
    persons the boxes reach beyond the keypoints by 0.06 of it at the sides, 0.12 above and 0.08
    below, in the median. One keypoint says nothing of a size: the margin is a tenth of the image's
    longer side then. Raises ValueError without keypoints: the person may be anywhere.
    """
    points = np.reshape(points_xy, (-1, 2))
    if not len(points):
        raise ValueError("box of keypoints: expected at least one, found none")
    tight = box_around(points)
    margin = BODY_MARGIN * (tight[2:].max() or max(image_wh))
    box = expand_boxes(tight, margin)
    clipped = clip_boxes(box, image_wh)
    # All of them may be outside the image.
    return clipped if (clipped[2:] > 0).all() else box


def iou(a_xywh: NDArray[Any], b_xywh: NDArray[Any]) -> NDArray[np.float64]:
    """(n, m) intersection over union of each of n boxes (n, 4) with each of m boxes (m, 4)."""
    return iou_of_pairs(a_xywh[:, None], b_xywh[None])


def iou_of_pairs(a_xywh: NDArray[Any], b_xywh: NDArray[Any]) -> NDArray[np.float64]:
    """(...) intersection over union of boxes (..., 4) with their counterparts (..., 4)."""
    a, b = np.asarray(a_xywh, np.float64), np.asarray(b_xywh, np.float64)
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    common = np.clip(high - low, 0, None).prod(axis=-1)
    union = a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - common
    result: NDArray[np.float64] = common / np.maximum(union, 1e-9)
    return result


def nms(
    boxes_xywh: NDArray[np.float64], scores: NDArray[np.float64], iou_threshold: float
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression: the indices of the remaining boxes, best first.

    In the order of their scores (n,), boxes (n, 4) remain whose IoU with every one before is at
    most `iou_threshold`. Of equal scores the earlier box comes first.
    """
    candidates = np.argsort(-scores, kind="stable")
    remaining = []
    while len(candidates):
        best, candidates = candidates[0], candidates[1:]
        remaining.append(best)
        ious = iou_of_pairs(boxes_xywh[best], boxes_xywh[candidates])
        candidates = candidates[ious <= iou_threshold]
    return np.array(remaining, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """n boxes of persons in one image, with scores.

    `xywh` (n, 4) float64: [x, y, w, h] in pixels of the image. `scores` (n,) float64 in [0, 1].
    """

    xywh: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __post_init__(self) -> None:
        n = len(self.xywh)
        for field, shape in {"xywh": (n, 4), "scores": (n,)}.items():
            if (found := getattr(self, field).shape) != shape:
                raise ValueError(f"Boxes.{field}: expected shape {shape}, found {found}")

    @classmethod
    def empty(cls) -> "Boxes":
        return cls(np.zeros((0, 4)), np.zeros(0))

    def __len__(self) -> int:
        return len(self.xywh)

    def __getitem__(self, chosen: Any) -> "Boxes":
        """The boxes that `chosen` selects: a slice, a mask or an array of indices."""
        return Boxes(self.xywh[chosen], self.scores[chosen])

    def best(self, count: int) -> "Boxes":
        """The `count` boxes with the highest scores, best first."""
        return self[np.argsort(-self.scores, kind="stable")[:count]]

    def with_nms(self, iou_threshold: float) -> "Boxes":
        """Without the boxes that overlap a better one, best first: see `nms`."""
        return self[nms(self.xywh, self.scores, iou_threshold)]


def checked_boxes(boxes: ArrayLike, width: int, height: int) -> NDArray[np.float64]:
    """Boxes (n, 4) [x, y, w, h] in pixels of an image of `width` and `height`, as an array.

    Raises UserError that says which box is wrong and how.
    """
    try:
        checked = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise _invalid(f"boxes: expected rows of four numbers [x, y, w, h] ({error})") from error
    if checked.size == 0:
        return np.zeros((0, 4))
    if checked.ndim != 2 or checked.shape[1] != 4:
        raise _invalid(f"boxes: expected shape (n, 4) [x, y, w, h], found {checked.shape}")
    x, y, w, h = checked.T
    finite = np.isfinite(checked).all(axis=1)
    faults = (
        (~finite, "four finite numbers [x, y, w, h]"),
        (finite & ((w <= 0) | (h <= 0)), "a width and a height above 0"),
        (
            finite & ((x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0)),
            f"a box that touches the image of {width} x {height}",
        ),
        (finite & (np.abs(checked) > 1e6).any(axis=1), "numbers below a million"),
    )
    for wrong, expected in faults:
        if wrong.any():
            first = int(np.argmax(wrong))
            raise _invalid(f"box {first}: expected {expected}, found {checked[first].tolist()}")
    return checked


def checked_scores(scores: ArrayLike, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores (n,) in [0, 1] of n boxes, as an array. Raises UserError as `checked_boxes`."""
    try:
        checked = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise _invalid(f"box_scores: expected a number for each box ({error})") from error
    if checked.shape != (len(boxes),):
        raise _invalid(f"box_scores: expected {len(boxes)}, found shape {checked.shape}")
    # Written so that NaN is wrong too.
    wrong = ~((checked >= 0) & (checked <= 1))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise _invalid(f"box_scores: box {first}: expected 0 to 1, found {checked[first]}")
    return checked


def _invalid(message: str) -> UserError:
    return UserError(message, code="boxes-invalid")
