"""Sheets: several images in rows, each under its label."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.skeleton import Color, Skeleton
from hrpose.viz import drawing
from hrpose.viz.drawing import INK, keypoint_colors

GROUND: Color = (24, 27, 34)


def grid(
    tiles: Sequence[NDArray[np.uint8]], labels: Sequence[str], columns: int, size: int = 0
) -> NDArray[np.uint8]:
    """Tiles (h, w, 3) of any sizes as a table with `columns` columns, a label above each.

    `size` is the labels' height in pixels; 0 chooses one that suits the tiles.
    """
    width = max(tile.shape[1] for tile in tiles)
    height = max(tile.shape[0] for tile in tiles)
    size = size or int(np.clip(width / 14, 11, 32))
    gap = max(4, size // 2)
    head = drawing.extent("", size)[1] + gap // 2
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    canvas = np.full(
        (rows * (head + height + gap) + gap, columns * (width + gap) + gap, 3), GROUND, np.uint8
    )
    for index, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
        row, column = divmod(index, columns)
        x, y = gap + column * (width + gap), gap + row * (head + height + gap)
        drawing.write(canvas, (x, y), drawing.shortened(label, size, width), size, rim=None)
        canvas[y + head : y + head + tile.shape[0], x : x + tile.shape[1]] = tile
    return canvas


def side_by_side(images: Sequence[NDArray[np.uint8]], labels: Sequence[str]) -> NDArray[np.uint8]:
    """Images of one scene next to each other, as high as the first, each under its label."""
    height = images[0].shape[0]
    tiles = []
    for image in images:
        width = max(1, round(image.shape[1] * height / image.shape[0]))
        tiles.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    return grid(tiles, labels, len(tiles))  # type: ignore[arg-type]


def color_map(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Numbers (h, w) as colors (h, w, 3) RGB: 0 is nearly black, 1 pale yellow (inferno)."""
    levels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    colored = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)
    return np.ascontiguousarray(colored[..., ::-1])


def enlarged(points: ArrayLike, scale: int) -> NDArray[np.float64]:
    """Points (..., 2) of an image as they lie in the image shown `scale` times as large.

    Pixel centers lie on integers, so the first pixel's middle moves too.
    """
    return np.asarray(points, np.float64) * scale + (scale - 1) / 2


def overlay(
    crop: NDArray[np.uint8],
    heatmap: NDArray[np.floating],
    strides: tuple[float, float] = (4, 4),
    scale: int = 1,
) -> NDArray[np.uint8]:
    """A heatmap (h, w) over its crop (H, W, 3), which is dimmed and shown `scale` times as large.

    `strides` are the crop's pixels per heatmap pixel along x and y. The heatmap's colors are
    fixed: 0 shows the crop alone, 1 is the brightest.
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


def heatmap_sheet(
    crop: NDArray[np.uint8],
    heatmaps: NDArray[np.floating],
    skeleton: Skeleton,
    points: ArrayLike | None = None,
    strides: tuple[float, float] = (4, 4),
    scale: int = 2,
    columns: int = 6,
) -> NDArray[np.uint8]:
    """One labeled tile per keypoint: its heatmap over the crop, and the height of its peak.

    `crop` (H, W, 3) uint8 RGB, `heatmaps` (k, h, w). `points` (k, 2), where given, are marked:
    they are the keypoints in pixels of the crop.
    """
    tiles = [overlay(crop, heatmap, strides, scale) for heatmap in heatmaps]
    if points is not None:
        for tile, point, color in zip(
            tiles, enlarged(points, scale), keypoint_colors(skeleton), strict=True
        ):
            radius = max(5.0, tile.shape[0] / 40)
            drawing.ring(tile, point, radius, 4, INK)
            drawing.ring(tile, point, radius, 2, color)
    labels = [
        f"{name.replace('_', ' ')}  {float(heatmap.max()):.2f}"
        for name, heatmap in zip(skeleton.keypoints, heatmaps, strict=True)
    ]
    return grid(tiles, labels, columns)
