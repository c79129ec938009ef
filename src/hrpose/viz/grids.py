"""Heatmaps over crops, and grids of labeled tiles, as (h, w, 3) uint8 RGB arrays."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.skeleton import Color, Skeleton
from hrpose.viz.drawing import Point, keypoint_colors
from hrpose.viz.text import INK, extent, shortened, write

BACKGROUND: Color = (24, 27, 34)


def color_map(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Values (h, w) in [0, 1] as RGB (h, w, 3) uint8: the inferno map, black to pale yellow."""
    levels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    colored = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)
    return np.ascontiguousarray(colored[..., ::-1])


def enlarged(points: ArrayLike, scale: int) -> NDArray[np.float64]:
    """Points (..., 2) of an image in the pixels of that image enlarged `scale` times.

    Pixel centers are at integers, so the center of the first pixel moves too.
    """
    return np.asarray(points, np.float64) * scale + (scale - 1) / 2


def overlay(
    crop: NDArray[np.uint8],
    heatmap: NDArray[np.floating],
    strides: tuple[float, float] = (4, 4),
    scale: int = 1,
) -> NDArray[np.uint8]:
    """A heatmap (h, w) over its dimmed crop (H, W, 3) uint8 RGB, enlarged `scale` times.

    `strides` are the crop's pixels per heatmap pixel along x and y. The colors are absolute: 0
    shows the crop only, 1 is the brightest.
    """
    size = (crop.shape[1] * scale, crop.shape[0] * scale)
    image = cv2.resize(crop, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    gray = image.mean(axis=-1, keepdims=True)
    ground = (gray * 0.8 + image * 0.2) * 0.65
    # The codec's own places: heatmap pixel (0, 0) is the crop's pixel (0, 0).
    corner = (scale - 1) / 2
    to_image = np.array([[strides[0] * scale, 0, corner], [0, strides[1] * scale, corner]])
    heat = cv2.warpAffine(
        heatmap.astype(np.float32), to_image, size, borderMode=cv2.BORDER_REPLICATE
    )
    # Low values shine through early, or weak heatmaps would seem empty.
    alpha = np.clip(heat * 1.2, 0, 1)[..., None] ** 0.6
    mixed = ground * (1 - alpha) + color_map(0.35 + 0.65 * heat) * alpha
    result: NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
    return result


def ring(canvas: NDArray[np.uint8], center: Point, radius: float, width: int, color: Color) -> None:
    """A circle around (x, y), not filled, placed to 1/16 of a pixel."""
    at = (round(center[0] * 16), round(center[1] * 16))
    cv2.circle(canvas, at, round(radius * 16), color, width, cv2.LINE_AA, shift=4)


def grid(
    tiles: Sequence[NDArray[np.uint8]], labels: Sequence[str], columns: int, size: int = 0
) -> NDArray[np.uint8]:
    """Tiles (h, w, 3) of any sizes in `columns` columns, each below its label.

    `size` is the height of the labels in pixels; 0 fits it to the tiles.
    """
    width = max(tile.shape[1] for tile in tiles)
    height = max(tile.shape[0] for tile in tiles)
    size = size or int(np.clip(width / 14, 11, 32))
    gap = max(4, size // 2)
    head = extent("", size)[1] + gap // 2
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    canvas = np.full(
        (rows * (head + height + gap) + gap, columns * (width + gap) + gap, 3), BACKGROUND, np.uint8
    )
    for index, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
        row, column = divmod(index, columns)
        x, y = gap + column * (width + gap), gap + row * (head + height + gap)
        write(canvas, (x, y), shortened(label, size, width), size, rim=None)
        canvas[y + head : y + head + tile.shape[0], x : x + tile.shape[1]] = tile
    return canvas


def side_by_side(images: Sequence[NDArray[np.uint8]], labels: Sequence[str]) -> NDArray[np.uint8]:
    """Images next to each other, as high as the first, each below its label."""
    height = images[0].shape[0]
    tiles = []
    for image in images:
        width = max(1, round(image.shape[1] * height / image.shape[0]))
        tiles.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    return grid(tiles, labels, len(tiles))  # type: ignore[arg-type]


def heatmap_sheet(
    crop: NDArray[np.uint8],
    heatmaps: NDArray[np.floating],
    skeleton: Skeleton,
    points: ArrayLike | None = None,
    strides: tuple[float, float] = (4, 4),
    scale: int = 2,
    columns: int = 6,
) -> NDArray[np.uint8]:
    """A grid with one tile per keypoint: its heatmap over the crop, its name and its peak value.

    `crop` (H, W, 3) uint8 RGB, `heatmaps` (k, h, w). `points` (k, 2), keypoints in pixels of the
    crop, are marked if given. `strides` and `scale` are those of `overlay`.
    """
    tiles = [overlay(crop, heatmap, strides, scale) for heatmap in heatmaps]
    if points is not None:
        for tile, point, color in zip(
            tiles, enlarged(points, scale), keypoint_colors(skeleton), strict=True
        ):
            radius = max(5.0, tile.shape[0] / 40)
            ring(tile, point, radius, 4, INK)
            ring(tile, point, radius, 2, color)
    labels = [
        f"{name.replace('_', ' ')}  {float(heatmap.max()):.2f}"
        for name, heatmap in zip(skeleton.keypoints, heatmaps, strict=True)
    ]
    return grid(tiles, labels, columns)
