"""JPEG files of which any rectangle can be decoded without the rest.

A JPEG image is coded in squares. Restart markers between them make each readable by itself, and
the squares of a rectangle, one behind the other under a header that says their size, are a JPEG
file again. Its pixels are those of the whole, but for two along its cuts: the decoder smooths
color over neighbors.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.image import encode as encode_image

# Pixels in a square's width and height, where color has half the resolution.
SQUARE = 16
SMOOTHED = 2

# The markers that begin a frame and hold its size: SOF0 to SOF15 without DHT, JPG and DAC.
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_RESTART, _SCAN, _END = 0xD0, 0xDA, 0xD9


def encode(image: NDArray[np.uint8], quality: int) -> bytes:
    """(h, w, 3) uint8 RGB as a JPEG file with a marker behind every square, 6 % larger for it."""
    settings = {
        cv2.IMWRITE_JPEG_QUALITY: quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
        cv2.IMWRITE_JPEG_RST_INTERVAL: 1,
    }
    return encode_image(image, ".jpg", settings)


def rectangle(
    content: bytes, left_top: tuple[int, int], right_bottom: tuple[int, int]
) -> tuple[bytes, tuple[int, int]] | None:
    """A file of `encode` without the squares that a rectangle does not need, and where its first
    pixel (x, y) is in the whole. The rectangle may reach over the image's edges.

    None for other JPEG files, and where the rectangle is beside the image.
    """
    header = _header(content)
    if header is None:
        return None
    size_at, scan, size = header
    columns, rows = (-(-length // SQUARE) for length in size)
    x0, y0 = (max(0, length // SQUARE) for length in left_top)
    x1, y1 = (-(-length // SQUARE) for length in right_bottom)
    x1, y1 = min(x1, columns), min(y1, rows)
    data = np.frombuffer(content, np.uint8)
    # 0xff in compressed data is always followed by 0: whatever looks like a marker is one.
    restarts = (data[scan:-1] == 0xFF) & (data[scan + 1 :] & 0xF8 == _RESTART)
    bounds = np.concatenate([[scan], np.flatnonzero(restarts) + scan + 2, [len(content)]])
    if len(bounds) != columns * rows + 1 or x0 >= x1 or y0 >= y1:
        return None
    x0 = max(0, min(x0, columns - 2))  # images of a few pixels' width are not smoothed at all
    # Squares of a row lie side by side; each ends with a marker, the last of all with the end's.
    first = np.arange(y0, y1) * columns + x0
    strips = [data[i:j] for i, j in zip(bounds[first], bounds[first + x1 - x0], strict=True)]
    squares = (first[:, None] + np.arange(x1 - x0)).ravel()
    markers = np.cumsum(bounds[squares + 1] - bounds[squares]) - 1
    joined = np.concatenate(strips)
    joined[markers] = _RESTART + np.arange(len(squares)) % 8
    joined[-1] = _END
    left, top = x0 * SQUARE, y0 * SQUARE
    width, height = min(x1 * SQUARE, size[0]) - left, min(y1 * SQUARE, size[1]) - top
    shape = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return (
        content[:size_at] + shape + content[size_at + 4 : scan] + joined.tobytes(),
        (left, top),
    )


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """(w, h) from the header of a JPEG file, None where there is none."""
    header = _header(content)
    return None if header is None else header[2]


def _header(content: bytes) -> tuple[int, int, tuple[int, int]] | None:
    """Where the size stands, where the compressed data begin, and the size (w, h)."""
    position, frame = 2, 0
    while content[:2] == b"\xff\xd8" and position + 9 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker in _FRAMES:
            frame = position + 5
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        if marker == _SCAN and frame:
            height, width = (int.from_bytes(content[i : i + 2], "big") for i in (frame, frame + 2))
            return frame, position, (width, height)
    return None
