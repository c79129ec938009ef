"""The codec: points to heatmaps and heatmaps to points, for NumPy and PyTorch.

Training, evaluation, prediction and export use the codec of the metadata, so that weights are
always decoded as they were trained. `Codec` is chosen by name; the functions are its parts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np
from array_api_compat import device
from numpy.typing import NDArray

# Exponents of Gaussians below this count as zero: products of two such values would be denormal
# numbers, on which processors are ten times slower.
MIN_EXPONENT = -43.0
# Any array of the Python array API standard; NumPy has no common base class with PyTorch.
Array = Any


def array_namespace(*arrays: Array) -> Any:
    """The functions for these arrays, by their names in the Python array API standard.

    NumPy 2 has them itself. The wrapper of array_api_compat would import all of NumPy's modules, a
    tenth of the time in which `hrpose predict` starts.
    """
    if all(isinstance(array, np.ndarray) for array in arrays):
        return np
    return array_api_compat.array_namespace(*arrays)


def encode(
    points_xy: Array,
    visible: Array,
    heatmap_wh: tuple[int, int],
    sigma: float,
    strides: tuple[float, float] = (4, 4),
    *,
    exact: bool = False,
) -> tuple[Array, Array]:
    """Target heatmaps: one unnormalized Gaussian per keypoint (paper, section 3).

    `points_xy` (..., k, 2) in input pixels, `visible` (..., k) above 0 where labeled, `sigma` in
    heatmap pixels, `strides` input pixels per heatmap pixel along x and y. Each Gaussian is
    centered on the whole pixel nearest to the point, where it is 1, and cut to the square of 3
    sigma around it. With `exact` it is centered on the point itself and not cut (DARK, section
    3.3).

    Returns float32 heatmaps (..., k, h, w) in [0, 1] and weights (..., k): 1 for a labeled
    keypoint whose square touches the heatmap, else 0, and then its heatmap is zero.
    """
    xp = array_namespace(points_xy, visible)
    width, height = heatmap_wh
    reach = 3 * sigma
    # Truncated as in the official code; rounding down differs only left of and above the image.
    position = scaled(points_xy, (1 / strides[0], 1 / strides[1]))
    center = xp.trunc(position + 0.5)
    cx, cy = center[..., 0], center[..., 1]
    # Written so that NaN, like a point far away, gives weight 0.
    touches = (
        (cx - reach < width) & (cy - reach < height) & (cx + reach + 1 >= 0) & (cy + reach + 1 >= 0)
    )
    labeled = (visible > 0) & touches
    if exact:
        cx, cy = position[..., 0], position[..., 1]
    cx, cy = (xp.where(labeled, c, xp.zeros_like(c)) for c in (cx, cy))

    def profile(center: Array, length: int) -> Array:
        """The Gaussian along one axis: (..., k) to (..., k, length), float32."""
        center = xp.astype(center, xp.float32)[..., None]
        distance = xp.arange(length, dtype=xp.float32, device=device(center)) - center
        exponent = distance * distance * (-0.5 / sigma**2)
        near = exponent > MIN_EXPONENT if exact else xp.abs(distance) <= reach
        return xp.exp(xp.where(near, exponent, xp.full_like(exponent, -math.inf)))

    weights = xp.astype(labeled, xp.float32)
    rows = profile(cy, height) * weights[..., None]
    # A product of columns and rows; NumPy's broadcasting would be half as fast.
    heatmaps = xp.einsum("...y,...x->...yx", rows, profile(cx, width))
    return heatmaps, weights


def decode(heatmaps: Array) -> tuple[Array, Array]:
    """Each heatmap's highest pixel, moved a quarter pixel toward its higher neighbor.

    This is the paper's rule (section 4.1, "Testing": a quarter offset from the highest response
    toward the second highest), as the official code reads it: per axis, and only where the peak is
    more than one pixel away from the border.

    `heatmaps` (..., k, h, w). Returns points (..., k, 2) in heatmap pixels, as (x, y), and scores
    (..., k): the height of the peak. A peak that is not above 0 gives the point (0, 0).
    """
    xp = array_namespace(heatmaps)
    height, width = heatmaps.shape[-2:]
    flat = xp.reshape(heatmaps, (*heatmaps.shape[:-2], height * width))
    index = xp.argmax(flat, axis=-1)
    x, y = index % width, index // width
    inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    # Where the offset does not apply any pixel will do.
    center = xp.where(inside, index, xp.full_like(index, width + 1))
    # Pixels are read from one flat array: simpler to export than a gather along an axis.
    count = math.prod(index.shape)
    pixels = xp.reshape(heatmaps, (-1,))
    firsts = xp.arange(count, dtype=index.dtype, device=device(index)) * (height * width)
    peaks = xp.take(pixels, firsts + xp.reshape(index, (-1,)), axis=0)
    scores = xp.reshape(peaks, index.shape)
    centers = firsts + xp.reshape(center, (-1,))

    def offset(step: int) -> Array:
        if height < 3 or width < 3:
            return xp.zeros_like(scores)
        after, before = (xp.take(pixels, centers + by, axis=0) for by in (step, -step))
        direction = xp.reshape(xp.sign(after - before), index.shape)
        return xp.where(inside, 0.25 * direction, xp.zeros_like(scores))

    x, y = xp.astype(x, scores.dtype), xp.astype(y, scores.dtype)
    points = xp.stack([x + offset(1), y + offset(width)], axis=-1)
    found = (scores > 0)[..., None]
    return xp.where(found, points, xp.zeros_like(points)), scores


def decode_taylor(heatmaps: Array, sigma: float) -> tuple[Array, Array]:
    """Each heatmap's maximum between the pixels (DARK, section 3.2).

    The heatmap is smoothed by the Gaussian it was trained with (`sigma` in heatmap pixels), so that
    it has one maximum; its logarithm is then nearly a parabola, whose top one Newton step from the
    highest pixel reaches. Without a maximum there, or within two pixels of the border, the highest
    pixel stays; the step is at most one pixel.

    `heatmaps` (..., k, h, w). Returns points (..., k, 2) in heatmap pixels, as (x, y), and scores
    (..., k): the highest pixel. One that is not above 0 gives the point (0, 0).
    """
    xp = array_namespace(heatmaps)
    height, width = heatmaps.shape[-2:]
    flat = xp.reshape(heatmaps, (-1, height * width))
    index = xp.argmax(flat, axis=-1)
    firsts = xp.arange(flat.shape[0], dtype=index.dtype, device=device(flat)) * (height * width)
    scores = xp.take(xp.reshape(flat, (-1,)), firsts + index, axis=0)
    x, y = index % width, index // width
    smooth = _smoothed_around(flat, firsts, x, y, (width, height), sigma)
    # As official DARK: no logarithm of what is not above zero.
    log = xp.log(xp.maximum(smooth, xp.full_like(smooth, 1e-10)))
    dx, dy = (log[:, 2, 3] - log[:, 2, 1]) / 2, (log[:, 3, 2] - log[:, 1, 2]) / 2
    dxx = (log[:, 2, 4] - 2 * log[:, 2, 2] + log[:, 2, 0]) / 4
    dyy = (log[:, 4, 2] - 2 * log[:, 2, 2] + log[:, 0, 2]) / 4
    dxy = (log[:, 3, 3] - log[:, 1, 3] - log[:, 3, 1] + log[:, 1, 1]) / 4
    determinant = dxx * dyy - dxy * dxy
    inside = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
    peak = inside & (dxx < 0) & (determinant > 1e-12)
    safe = xp.where(peak, determinant, xp.ones_like(determinant))

    def step(numerator: Array) -> Array:
        limited = xp.clip(numerator / safe, -1.0, 1.0)
        return xp.where(peak, limited, xp.zeros_like(limited))

    x = xp.astype(x, scores.dtype) + step(dxy * dy - dyy * dx)
    y = xp.astype(y, scores.dtype) + step(dxy * dx - dxx * dy)
    points = xp.stack([x, y], axis=-1)
    points = xp.where((scores > 0)[:, None], points, xp.zeros_like(points))
    leading = tuple(heatmaps.shape[:-2])
    return xp.reshape(points, (*leading, 2)), xp.reshape(scores, leading)


def _smoothed_around(
    flat: Array, firsts: Array, x: Array, y: Array, size_wh: tuple[int, int], sigma: float
) -> Array:
    """The 5x5 pixels around (x, y) of smoothed heatmaps: `flat` (m, h w) to (m, 5, 5).

    `firsts` (m,) is the index of each heatmap's first pixel. Only the pixels needed are smoothed;
    outside the heatmap all is zero.
    """
    xp = array_namespace(flat)
    width, height = size_wh
    # The widths that DARK's authors chose: 11 pixels for sigma 2, 17 for 3.
    radius = math.ceil(2.5 * sigma)
    spread = 0.3 * (radius - 1) + 0.8
    kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * spread**2))
    kernel /= kernel.sum()
    weights = np.zeros((5, 2 * radius + 5))
    for row in range(5):
        weights[row, row : row + len(kernel)] = kernel
    smoother = xp.asarray(weights, dtype=flat.dtype, device=device(flat))
    around = xp.arange(-radius - 2, radius + 3, dtype=x.dtype, device=device(flat))
    rows, columns = y[:, None] + around, x[:, None] + around
    # Pixels outside are read at 0 and set to zero afterwards.
    rows_inside, columns_inside = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    rows = xp.where(rows_inside, rows, xp.zeros_like(rows))
    columns = xp.where(columns_inside, columns, xp.zeros_like(columns))
    inside = rows_inside[:, :, None] & columns_inside[:, None, :]
    indices = rows[:, :, None] * width + columns[:, None, :] + firsts[:, None, None]
    patch = xp.reshape(
        xp.take(xp.reshape(flat, (-1,)), xp.reshape(indices, (-1,)), axis=0), tuple(indices.shape)
    )
    patch = xp.where(inside, patch, xp.zeros_like(patch))
    return smoother @ patch @ smoother.T


def scaled(points_xy: Array, factors_xy: tuple[float, float]) -> Array:
    """Points (..., 2) times a factor for x and one for y, in their own type."""
    xp = array_namespace(points_xy)
    dtype = points_xy.dtype if xp.isdtype(points_xy.dtype, "real floating") else xp.float64
    return points_xy * xp.asarray(factors_xy, dtype=dtype, device=device(points_xy))


def flip_back(
    mirrored: Array, flip_permutation: Sequence[int] | NDArray[np.int64], *, shift: bool = True
) -> Array:
    """The heatmaps of a mirrored crop, flipped back to the crop itself.

    `mirrored` (..., k, h, w) is the network's output for the crop with its columns reversed. The
    columns are reversed again, left and right keypoints change places by `flip_permutation` (k,),
    and with `shift` everything moves one pixel to the right, because with a stride of 4 the two
    grids of heatmap pixels do not coincide (the official code's SHIFT_HEATMAP; the first column
    stays). Returns the same shape.
    """
    xp = array_namespace(mirrored)
    order = xp.asarray(flip_permutation, device=device(mirrored))
    back = xp.flip(xp.take(mirrored, order, axis=mirrored.ndim - 3), axis=-1)
    return xp.concat([back[..., :1], back[..., :-1]], axis=-1) if shift else back


def merge_flipped(
    direct: Array,
    mirrored: Array,
    flip_permutation: Sequence[int] | NDArray[np.int64],
    *,
    shift: bool = True,
) -> Array:
    """The flip test: the mean of the heatmaps of a crop and of its mirror image.

    `direct` and `mirrored` (..., k, h, w) and the other arguments are those of `flip_back`.
    """
    return (direct + flip_back(mirrored, flip_permutation, shift=shift)) * 0.5


def sigma_for(input_wh: tuple[int, int]) -> float:
    """The official trainings' Gaussian for an input: 2 heatmap pixels at 192x256, 3 at 288x384.

    Other sizes follow the same proportion of the input's height, at least 1.
    """
    return max(1.0, math.floor(input_wh[1] / 128 * 10 + 0.5) / 10)


CODECS = ("gaussian", "dark", "udp")
# Bounds for untrusted files, far beyond any training: more would exhaust the memory.
MAX_SIGMA = 100.0
MAX_STRIDE = 64


@dataclass(frozen=True, slots=True)
class Codec:
    """One of three codecs; `sigma` in heatmap pixels, `stride` input pixels per heatmap pixel.

    - `gaussian`: the paper's. Gaussians on whole pixels, quarter offset, flip test with a shift.
    - `dark` (Zhang et al., CVPR 2020): Gaussians on the points themselves; a Taylor step on the
      logarithm of the smoothed heatmap finds the maximum between the pixels.
    - `udp` (Huang et al., CVPR 2020): as `dark`, and lengths are counted between pixel centers
      (n - 1 for n pixels), in the crop too. A mirrored crop is then exactly the mirror image, and
      the flip test needs no shift.
    """

    name: str = "gaussian"
    sigma: float = 2.0
    stride: int = 4

    def __post_init__(self) -> None:
        if self.name not in CODECS:
            raise ValueError(f"codec: expected one of {', '.join(CODECS)}, found '{self.name}'")
        if not 0 < self.sigma <= MAX_SIGMA:
            raise ValueError(f"sigma: expected above 0, up to {MAX_SIGMA:g}, found {self.sigma}")
        if not 1 <= self.stride <= MAX_STRIDE:
            raise ValueError(f"stride: expected 1 to {MAX_STRIDE}, found {self.stride}")

    @property
    def unit_lengths(self) -> bool:
        """Lengths are counted between pixel centers (UDP)."""
        return self.name == "udp"

    def heatmap_wh(self, input_wh: tuple[int, int]) -> tuple[int, int]:
        return input_wh[0] // self.stride, input_wh[1] // self.stride

    def encode(
        self, points_xy: Array, visible: Array, input_wh: tuple[int, int]
    ) -> tuple[Array, Array]:
        """Points (..., k, 2) in input pixels to heatmaps (..., k, h, w) and weights (..., k)."""
        size = self.heatmap_wh(input_wh)
        strides = self.strides(size)
        exact = self.name != "gaussian"
        return encode(points_xy, visible, size, self.sigma, strides, exact=exact)

    def decode(self, heatmaps: Array) -> tuple[Array, Array]:
        """Heatmaps (..., k, h, w) to points (..., k, 2) in input pixels and scores (..., k)."""
        if self.name == "gaussian":
            points, scores = decode(heatmaps)
        else:
            points, scores = decode_taylor(heatmaps, self.sigma)
        height, width = heatmaps.shape[-2:]
        return scaled(points, self.strides((width, height))), scores

    def flip_back(
        self, mirrored: Array, flip_permutation: Sequence[int] | NDArray[np.int64]
    ) -> Array:
        """The heatmaps of a mirrored crop, flipped back: see `hrpose.codec.flip_back`."""
        return flip_back(mirrored, flip_permutation, shift=not self.unit_lengths)

    def merge_flipped(
        self, direct: Array, mirrored: Array, flip_permutation: Sequence[int] | NDArray[np.int64]
    ) -> Array:
        """The flip test: see `hrpose.codec.merge_flipped`."""
        return merge_flipped(direct, mirrored, flip_permutation, shift=not self.unit_lengths)

    def strides(self, heatmap_wh: tuple[int, int]) -> tuple[float, float]:
        """Input pixels per heatmap pixel, along x and y."""
        if not self.unit_lengths:
            return self.stride, self.stride
        x, y = ((n * self.stride - 1) / max(n - 1, 1) for n in heatmap_wh)
        return x, y


PAPER_CODEC = Codec()
