"""Text and labels on images, heatmaps over crops, grids of tiles: (h, w, 3) uint8 RGB arrays."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from hrpose.poses import Poses
from hrpose.skeleton import Color

# A thin dark rim keeps light text and lines visible on any background.
INK: Color = (18, 20, 26)
PAPER: Color = (255, 255, 255)
BACKGROUND: Color = (24, 27, 34)


@cache
def font(size: int) -> Any:
    """Pillow's built-in font, `size` in pixels."""
    return ImageFont.load_default(size)


def extent(text: str, size: int) -> tuple[int, int]:
    """(w, h) in pixels of a line of text; the height is the same for every text."""
    ascent, descent = font(size).getmetrics()
    return round(font(size).getlength(text) + 0.5), ascent + descent


def shortened(text: str, size: int, width: int) -> str:
    """The text, or the part of it that fits into `width` pixels with an ellipsis."""
    if extent(text, size)[0] <= width:
        return text
    while text and extent(text + "...", size)[0] > width:
        text = text[:-1]
    return text + "..."


def write(
    canvas: NDArray[np.uint8],
    at: tuple[float, float],
    text: str,
    size: int,
    color: Color = PAPER,
    rim: Color | None = INK,
) -> None:
    """Write a line of text with a thin rim; `at` (x, y) is its top left corner."""
    width, height = extent(text, size)
    stroke = max(1, size // 8) if rim is not None else 0
    left, top = round(at[0]) - stroke, round(at[1]) - stroke
    patch = _patch(canvas, left, top, width + 2 * stroke, height + 2 * stroke)
    if patch is None:
        return
    pixels, (dx, dy) = patch
    image = Image.fromarray(pixels)
    ImageDraw.Draw(image).text(
        (stroke - dx, stroke - dy),
        text,
        fill=color,
        font=font(size),
        stroke_width=stroke,
        stroke_fill=rim,
    )
    pixels[:] = np.asarray(image)


def chip(
    canvas: NDArray[np.uint8],
    at: tuple[float, float],
    text: str,
    size: int,
    background: Color = INK,
) -> None:
    """Write a line of text on a rounded, slightly transparent label; `at` is its top left corner.

    A label that would leave the canvas is moved inside.
    """
    width, height = chip_extent(text, size)
    left = round(min(max(at[0], 0), max(0, canvas.shape[1] - width)))
    top = round(min(max(at[1], 0), max(0, canvas.shape[0] - height)))
    patch = _patch(canvas, left, top, width, height)
    if patch is None:
        return
    pixels, _ = patch
    alpha = _rounded(width, height, size // 3)[: pixels.shape[0], : pixels.shape[1]]
    pixels[:] = (pixels * (1 - alpha) + np.array(background) * alpha).astype(np.uint8)
    write(canvas, (left + size * 0.4, top + size * 0.1), text, size, rim=None)


@lru_cache(64)
def _rounded(width: int, height: int, radius: int) -> NDArray[np.float64]:
    """The opacity (h, w, 1) of a slightly transparent rounded rectangle."""
    label = Image.new("L", (width, height))
    ImageDraw.Draw(label).rounded_rectangle((0, 0, width - 1, height - 1), radius, fill=215)
    return np.asarray(label)[..., None] / 255


def chip_extent(text: str, size: int) -> tuple[int, int]:
    """(w, h) in pixels of a `chip`."""
    width, height = extent(text, size)
    return width + round(size * 0.8), height + round(size * 0.2)


def _patch(
    canvas: NDArray[np.uint8], left: int, top: int, width: int, height: int
) -> tuple[NDArray[np.uint8], tuple[int, int]] | None:
    """The part of a rectangle on the canvas, and by how much (x, y) its corner was cut."""
    x, y = max(left, 0), max(top, 0)
    part = canvas[y : max(top + height, 0), x : max(left + width, 0)]
    return (part, (x - left, y - top)) if part.size else None


# [left, top, right, bottom]
Place = tuple[float, float, float, float]


def places_beside(
    x: float, y: float, extent: tuple[int, int], gap: float, right: bool
) -> list[Place]:
    """Places for a name beside (x, y), the best first: level with it, then further up and down."""
    width, height = extent
    places = []
    for rows in (0.0, -1.0, 1.0, -2.0, 2.0, -3.0, 3.0):
        for outside in (right, not right):
            left = x + gap if outside else x - gap - width
            top = y + (rows - 0.5) * height
            places.append((left, top, left + width, top + height))
    return places


def free_place(
    places: Sequence[Place], taken: Sequence[Place], canvas: NDArray[np.uint8]
) -> Place | None:
    """The first place on the canvas that covers no other text."""
    height, width = canvas.shape[:2]
    for place in places:
        left, top, right, bottom = place
        inside = left >= 0 and top >= 0 and right <= width and bottom <= height
        if inside and not any(
            left < other[2] and other[0] < right and top < other[3] and other[1] < bottom
            for other in taken
        ):
            return place
    return None


def write_labels(
    canvas: NDArray[np.uint8],
    poses: Poses,
    persons: Mapping[int, float],
    colors: Sequence[Color],
    minor: Collection[int],
    threshold: float,
    *,
    ids: bool,
    scores: bool,
    names: bool,
) -> None:
    """Write the ids, scores and names of persons, in this order, so that no text covers another.

    `persons` are their indices with their sizes in pixels. Names have the `colors` (k,) of their
    keypoints; those of the `minor` keypoints are written only where they cover no other text.
    """
    taken: list[Place] = []
    for person, pixels in persons.items():
        size = _text_size(pixels, canvas)
        if names:
            _write_names(
                canvas, poses, person, colors, minor, max(10, round(size * 0.8)), threshold, taken
            )
        number = person if poses.track_ids is None else int(poses.track_ids[person])
        label = [f"#{number}"] * ids + [f"{poses.scores[person]:.2f}"] * scores
        if label:
            _write_label(canvas, poses, person, "  ".join(label), size, threshold, taken)


def _shown(poses: Poses, person: int, threshold: float) -> NDArray[np.float32]:
    keypoints = poses.keypoints[person]
    shown: NDArray[np.float32] = keypoints[keypoints[:, 2] >= threshold, :2]
    return shown


def _text_size(size: float, canvas: NDArray[np.uint8]) -> int:
    """Pixels: an eighteenth of the person, but readable, and not too large for the image."""
    return int(np.clip(size / 18, 11, max(11, min(32, canvas.shape[0] / 16))))


def _write_label(
    canvas: NDArray[np.uint8],
    poses: Poses,
    person: int,
    label: str,
    size: int,
    threshold: float,
    taken: list[Place],
) -> None:
    """Above the person's highest keypoint or box, moved a little where another text is."""
    x, y, w, _ = (float(value) for value in poses.boxes[person])
    shown = _shown(poses, person, threshold)
    middle, top = x + w / 2, y
    if len(shown):
        highest = shown[int(np.argmin(shown[:, 1]))]
        middle, top = float(highest[0]), min(top, float(highest[1]) - size / 2)
    width, height = chip_extent(label, size)
    most = (canvas.shape[1] - width, canvas.shape[0] - height)
    places: list[Place] = []
    for rows in (0, 1, -1, 2, -2):
        for columns in (0, -0.6, 0.6):
            left = min(max(middle + (columns - 0.5) * width, 0), max(most[0], 0))
            upper = min(max(top + (rows - 1.2) * height, 0), max(most[1], 0))
            places.append((left, upper, left + width, upper + height))
    place = free_place(places, taken, canvas) or places[0]
    taken.append(place)
    chip(canvas, place[:2], label, size)


def _write_names(
    canvas: NDArray[np.uint8],
    poses: Poses,
    person: int,
    colors: Sequence[Color],
    minor: Collection[int],
    size: int,
    threshold: float,
    taken: list[Place],
) -> None:
    """Each keypoint's name on the side away from the person; a thin line leads to distant ones.

    Those of the `minor` keypoints only where they cover no other text.
    """
    shown = _shown(poses, person, threshold)
    middle = float(shown[:, 0].mean()) if len(shown) else 0.0
    reach = size * 0.4
    taken += [(x - reach, y - reach, x + reach, y + reach) for x, y in shown.tolist()]
    for index in sorted(range(len(colors)), key=lambda index: index in minor):
        x, y, score = (float(value) for value in poses.keypoints[person, index])
        word = poses.skeleton.keypoints[index].replace("_", " ")
        places = places_beside(x, y, extent(word, size), size * 0.6, right=x >= middle)
        place = free_place(places, taken, canvas) or (None if index in minor else places[0])
        if score < threshold or place is None:
            continue
        taken.append(place)
        left, top, right, bottom = place
        if place not in places[:2]:
            ends = ((x, y), (min(max(x, left), right), top if y < top else bottom))
            start, end = ((round(x * 16), round(y * 16)) for x, y in ends)
            cv2.line(canvas, start, end, pale(colors[index]), 1, cv2.LINE_AA, shift=4)
        write(canvas, (left, top), word, size, pale(colors[index]))


def pale(color: Color) -> Color:
    """A color halfway to white, for text."""
    r, g, b = (round((value + c) / 2) for value, c in zip(color, PAPER, strict=True))
    return r, g, b


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
