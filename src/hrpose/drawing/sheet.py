"""Sheets: several pictures in rows, each under its label."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.drawing import text
from hrpose.skeleton import Colour

GROUND: Colour = (24, 27, 34)


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
    head = text.extent("", size)[1] + gap // 2
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    canvas = np.full(
        (rows * (head + height + gap) + gap, columns * (width + gap) + gap, 3), GROUND, np.uint8
    )
    for index, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
        row, column = divmod(index, columns)
        x, y = gap + column * (width + gap), gap + row * (head + height + gap)
        text.write(canvas, (x, y), text.shortened(label, size, width), size, rim=None)
        canvas[y + head : y + head + tile.shape[0], x : x + tile.shape[1]] = tile
    return canvas


def side_by_side(pictures: Sequence[NDArray[np.uint8]], labels: Sequence[str]) -> NDArray[np.uint8]:
    """Pictures of one scene next to each other, as high as the first, each under its label."""
    height = pictures[0].shape[0]
    tiles = []
    for picture in pictures:
        width = max(1, round(picture.shape[1] * height / picture.shape[0]))
        tiles.append(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))
    return grid(tiles, labels, len(tiles))  # type: ignore[arg-type]
