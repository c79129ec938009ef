"""What is written beside people and joints, each word where there is room for it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hrpose.drawing import shapes, text
from hrpose.drawing.palette import PAPER, keypoint_colours
from hrpose.drawing.people import person_size, shown_joints
from hrpose.poses import Poses
from hrpose.skeleton import Colour

# [left, top, right, bottom]
Place = tuple[float, float, float, float]


def write_words(
    canvas: NDArray[np.uint8],
    poses: Poses,
    order: Sequence[int],
    threshold: float,
    *,
    ids: bool,
    scores: bool,
    names: bool,
) -> None:
    """Write into `canvas`, person by person in this order; no word covers another."""
    taken: list[Place] = []
    for person in order:
        size = _text_size(person_size(poses, person, threshold), canvas)
        if names:
            _write_names(canvas, poses, person, max(10, round(size * 0.8)), threshold, taken)
        number = person if poses.track_ids is None else int(poses.track_ids[person])
        label = [f"#{number}"] * ids + [f"{poses.scores[person]:.2f}"] * scores
        if label:
            _write_label(canvas, poses, person, "  ".join(label), size, threshold, taken)


def _text_size(size: float, canvas: NDArray[np.uint8]) -> int:
    """Pixels: an eighteenth of the person, readable and not larger than the picture can bear."""
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
    """Above the person's highest joint, or the box where that is higher; else a little beside."""
    x, y, w, _ = (float(value) for value in poses.boxes[person])
    shown = shown_joints(poses, person, threshold)
    middle, top = x + w / 2, y
    if len(shown):
        highest = shown[int(np.argmin(shown[:, 1]))]
        middle, top = float(highest[0]), min(top, float(highest[1]) - size / 2)
    width, height = text.chip_extent(label, size)
    most = (canvas.shape[1] - width, canvas.shape[0] - height)
    places: list[Place] = []
    for rows in (0, 1, -1, 2, -2):
        for columns in (0, -0.6, 0.6):
            left = min(max(middle + (columns - 0.5) * width, 0), max(most[0], 0))
            upper = min(max(top + (rows - 1.2) * height, 0), max(most[1], 0))
            places.append((left, upper, left + width, upper + height))
    place = _free_place(places, taken, canvas) or places[0]
    taken.append(place)
    text.chip(canvas, place[:2], label, size)


def _write_names(
    canvas: NDArray[np.uint8],
    poses: Poses,
    person: int,
    size: int,
    threshold: float,
    taken: list[Place],
) -> None:
    """Each joint's name on the side away from the person; a thin line where it must go further."""
    shown = shown_joints(poses, person, threshold)
    middle = float(shown[:, 0].mean()) if len(shown) else 0.0
    reach = size * 0.4
    taken += [(x - reach, y - reach, x + reach, y + reach) for x, y in shown.tolist()]
    colours = keypoint_colours(poses.skeleton)
    for index, name in enumerate(poses.skeleton.keypoints):
        x, y, score = (float(value) for value in poses.keypoints[person, index])
        if score < threshold:
            continue
        word = name.replace("_", " ")
        places = _places_beside(x, y, text.extent(word, size), size * 0.6, right=x >= middle)
        place = _free_place(places, taken, canvas) or places[0]
        taken.append(place)
        left, top, right, bottom = place
        if place not in places[:2]:
            end = (min(max(x, left), right), top if y < top else bottom)
            shapes.line(canvas, (x, y), end, 1.5, _pale(colours[index]))
        text.write(canvas, (left, top), word, size, _pale(colours[index]))


def _places_beside(
    x: float, y: float, extent: tuple[int, int], gap: float, right: bool
) -> list[Place]:
    """Places for a word beside (x, y), the best first: level with it, then further up and down."""
    width, height = extent
    places = []
    for rows in (0.0, -1.0, 1.0, -2.0, 2.0, -3.0, 3.0):
        for outside in (right, not right):
            left = x + gap if outside else x - gap - width
            top = y + (rows - 0.5) * height
            places.append((left, top, left + width, top + height))
    return places


def _free_place(
    places: Sequence[Place], taken: Sequence[Place], canvas: NDArray[np.uint8]
) -> Place | None:
    """The first place that lies on the canvas and covers nothing."""
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


def _pale(colour: Colour) -> Colour:
    """A colour halfway to white, for letters."""
    r, g, b = (round((value + c) / 2) for value, c in zip(colour, PAPER, strict=True))
    return r, g, b
