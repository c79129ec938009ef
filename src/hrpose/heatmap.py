"""Heatmaps: points to targets, heatmaps to points, two flipped views to one.

Every function takes NumPy arrays or PyTorch tensors and returns the same kind, on the same device;
nothing loops over persons or keypoints. Points are (x, y) with pixel centres at integers, heatmaps
(..., k, h, w), visibility and scores (..., k).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

# Any array of the Python array API standard; NumPy has no common base class with PyTorch.
Array = Any


def encode(
    points_xy: Array,
    visible: Array,
    heatmap_wh: tuple[int, int],
    sigma: float,
    stride: float = 4,
) -> tuple[Array, Array]:
    """Target heatmaps: one unnormalised Gaussian of peak 1 per keypoint (paper, section 3).

    `points_xy` (..., k, 2) in input pixels, `visible` (..., k) above 0 where labelled, `sigma` in
    heatmap pixels. Each Gaussian is centred on the whole pixel nearest to the point and cut to the
    square of 3 sigma around it.

    Returns float32 heatmaps (..., k, h, w) in [0, 1] and weights (..., k): 1 for a labelled
    keypoint whose square touches the heatmap, else 0, and then its heatmap is zero.
    """
    xp = array_namespace(points_xy, visible)
    width, height = heatmap_wh
    reach = 3 * sigma
    # Truncation, not floor, as the official code: it differs only left of and above the picture.
    centre = xp.trunc(points_xy / stride + 0.5)
    cx, cy = centre[..., 0], centre[..., 1]
    # Written so that NaN, like a point far away, gives weight 0.
    touches = (
        (cx - reach < width) & (cy - reach < height) & (cx + reach + 1 >= 0) & (cy + reach + 1 >= 0)
    )
    labelled = (visible > 0) & touches
    cx, cy = (xp.where(labelled, c, xp.zeros_like(c)) for c in (cx, cy))

    def profile(centre: Array, length: int) -> Array:
        """The Gaussian along one axis: (..., k) to (..., k, length), float32."""
        pixels = xp.arange(length, dtype=centre.dtype, device=device(centre))
        distance = pixels - centre[..., None]
        value = xp.exp(-(distance**2) / (2 * sigma**2))
        value = xp.where(xp.abs(distance) <= reach, value, xp.zeros_like(value))
        return xp.astype(value, xp.float32)

    weights = xp.astype(labelled, xp.float32)
    rows = profile(cy, height) * weights[..., None]
    heatmaps = rows[..., :, None] * profile(cx, width)[..., None, :]
    return heatmaps, weights


def decode(heatmaps: Array) -> tuple[Array, Array]:
    """Each heatmap's highest pixel, moved a quarter pixel towards its higher neighbour.

    This is the paper's rule (section 3, "a quarter offset in the direction from the highest
    response to the second highest"), as the official code reads it: per axis, and only where the
    peak is more than one pixel away from the border.

    `heatmaps` (..., k, h, w). Returns points (..., k, 2) in heatmap pixels, as (x, y), and scores
    (..., k): the height of the peak. A peak that is not above 0 gives the point (0, 0).
    """
    xp = array_namespace(heatmaps)
    height, width = heatmaps.shape[-2:]
    flat = xp.reshape(heatmaps, (*heatmaps.shape[:-2], height * width))
    index = xp.argmax(flat, axis=-1)
    scores = xp.max(flat, axis=-1)
    x, y = index % width, index // width
    inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    # Where the offset does not apply any pixel will do; the peak itself is always there.
    centre = xp.where(inside, index, xp.full_like(index, width + 1))
    # Neighbours are read from one flat array: simpler to export than a gather along an axis.
    count = math.prod(index.shape)
    pixels = xp.reshape(heatmaps, (-1,))
    firsts = xp.arange(count, dtype=index.dtype, device=device(index)) * (height * width)
    places = firsts + xp.reshape(centre, (-1,))

    def offset(step: int) -> Array:
        if height < 3 or width < 3:
            return xp.zeros_like(scores)
        difference = xp.take(pixels, places + step, axis=0) - xp.take(pixels, places - step, axis=0)
        direction = xp.reshape(xp.sign(difference), index.shape)
        return xp.where(inside, 0.25 * direction, xp.zeros_like(scores))

    x, y = xp.astype(x, scores.dtype), xp.astype(y, scores.dtype)
    points = xp.stack([x + offset(1), y + offset(width)], axis=-1)
    found = (scores > 0)[..., None]
    return xp.where(found, points, xp.zeros_like(points)), scores


def merge_flipped(
    direct: Array, mirrored: Array, flip_permutation: Sequence[int] | NDArray[np.int64]
) -> Array:
    """The flip test: the mean of the heatmaps of a crop and of its mirror image.

    `direct` and `mirrored` (..., k, h, w); `mirrored` is the network's output for the crop with
    its columns reversed. It is mirrored back, left and right keypoints change places, and it moves
    one pixel to the right, because with a stride of 4 the two grids of heatmap pixels do not
    coincide (the official code's SHIFT_HEATMAP; the first column stays).
    """
    xp = array_namespace(direct, mirrored)
    order = xp.asarray(flip_permutation, device=device(mirrored))
    back = xp.flip(xp.take(mirrored, order, axis=mirrored.ndim - 3), axis=-1)
    shifted = xp.concat([back[..., :1], back[..., :-1]], axis=-1)
    return (direct + shifted) * 0.5


def sigma_for(input_wh: tuple[int, int]) -> float:
    """The paper's Gaussian for an input size: 2 heatmap pixels at 192x256, 3 at 288x384.

    Other sizes follow the same proportion of the input's height, at least 1.
    """
    return max(1.0, math.floor(input_wh[1] / 128 * 10 + 0.5) / 10)
