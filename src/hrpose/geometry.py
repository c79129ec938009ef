"""Where a crop lies in its picture, and the one warp that cuts it out.

Points are (x, y), pixel centres at integers; sizes (w, h) in pixels; boxes [x, y, w, h]; matrices
(2, 3) float64, to be applied to (x, y, 1). Directions are said: `matrix` leads from the image to
the crop, `inverse_matrix` back.
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Crop:
    """An upright or rotated rectangle of the image, and the size of the input it fills.

    `center` (x, y) and `size` (w, h) in image pixels, `input_wh` in input pixels, `rotation_deg`
    turns the picture clockwise in the crop, `mirrored` swaps left and right before it turns. With
    `unit_lengths` the input's n pixels are n - 1 long, from the centre of the first to that of the
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

        The box grows around its centre, in width or in height, to the aspect ratio of the input,
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
        """In square pixels of the image; the area that OKS-NMS and rescoring take for a person."""
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

    def inside(self, origin: tuple[float, float], shrunk: float) -> "Crop":
        """The same crop in a picture where a point p of the image is (p - origin) / shrunk."""
        (x, y), (w, h) = self.center, self.size
        center = ((x - origin[0]) / shrunk, (y - origin[1]) / shrunk)
        return replace(self, center=center, size=(w / shrunk, h / shrunk))

    def bounds(self, margin: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The upright rectangle of whole pixels around all that the warp reads, `margin` wider on
        each side: its first pixel (x, y), and the one behind its last.
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
        """Input pixels per image pixel along x and y. One for both, taken from the width, as in the
        official code; with `unit_lengths` each axis has its own.
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
