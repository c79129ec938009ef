"""labelme: a folder with a JSON file for each image.

    {"imagePath": "a.jpg", "imageWidth": 640, "imageHeight": 480, "shapes": [
       {"label": "nose", "shape_type": "point", "points": [[120.5, 80]], "group_id": 1},
       {"label": "person", "shape_type": "rectangle", "points": [[90, 60], [200, 400]],
        "group_id": 1}]}

The points of one `group_id` are one person, and so are those without any. A rectangle of the same
group is the person's box; without groups a point belongs to the smallest rectangle around it that
lacks this keypoint. A point with the flag `occluded` (or `difficult`, as some tools write it)
is hidden. `imagePath` is relative to the JSON file, and must be inside the images' folder.
"""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hrpose.data.formats.pose_set import (
    Box,
    Keypoint,
    LabeledImage,
    Person,
    PoseSet,
    ReadOptions,
    image_name,
    invalid,
    json_list,
    json_object,
    keypoint_name,
    left_out,
    number,
    pose_set,
    repeated_keypoint,
    size_wh,
)
from hrpose.data.images import ImageFiles
from hrpose.data.rules import printable
from hrpose.errors import UserError
from hrpose.io import read_json


def read(source: Path, options: ReadOptions) -> PoseSet:
    """Read all the JSON files below a folder, or one. Raises UserError, naming file and shape."""
    files = sorted(source.rglob("*.json")) if source.is_dir() else [source]
    if not files:
        raise invalid(str(source), "labelme's JSON files in this folder", None)
    folder = source if source.is_dir() else source.parent
    images = options.images or ImageFiles(folder)
    labeled, lost = [], Counter[str]()
    for path in files:
        document = json_object(read_json(path), str(path))
        if "shapes" not in document:
            lost["JSON files that are not labelme's"] += 1
            continue
        name = _name(document.get("imagePath"), path, images)
        size = size_wh(document.get("imageWidth"), document.get("imageHeight"), str(path))
        persons = _persons(document["shapes"], path, options.category, lost)
        labeled.append(LabeledImage(name, tuple(persons), size))
    category = options.category or "person"
    return pose_set(source, labeled, options, images, category=category, notes=left_out(lost))


def _name(image_path: object, path: Path, images: ImageFiles) -> str:
    """The image's name in `images`. Raises UserError for a path that leads out of there."""
    where = f"{path}: imagePath"
    if not isinstance(image_path, str) or not image_path or "\0" in image_path:
        raise invalid(where, "the name of an image", image_path)
    text = image_path.replace("\\", "/")
    if images.path.is_dir() and not text.startswith("/") and ":" not in text:
        # Labels in a folder of their own name ../images/a.jpg, which may well be inside.
        relative = os.path.relpath(
            os.path.normpath(path.parent.resolve() / text), images.path.resolve()
        )
        text = relative.replace("\\", "/")
    return image_name(text, f"{where}, seen from {images.path}")


def _persons(shapes: object, path: Path, category: str | None, lost: Counter[str]) -> list[Person]:
    boxes: dict[str, list[Box | None]] = {}
    points: dict[str, list[tuple[str, Keypoint, str]]] = {}
    for row, shape in enumerate(json_list(shapes, f"{path}: shapes"), 1):
        where = f"{path}: shape {row}"
        shape = json_object(shape, where)
        kind, group = shape.get("shape_type", "polygon"), str(shape.get("group_id"))
        if kind not in ("point", "rectangle"):
            lost["shapes other than points and rectangles"] += 1
            continue
        name = keypoint_name(shape.get("label"), f"{where}: label")
        corners = _points(shape, where, 1 if kind == "point" else 2)
        if kind == "point":
            points.setdefault(group, []).append((name, (*corners[0], _visible(shape)), where))
        elif category not in (None, name):
            lost["rectangles of other labels"] += 1
        elif group in boxes and shape.get("group_id") is not None:
            raise UserError(
                f"{where}: expected one rectangle for each person, found another in group "
                f"{printable(group)}; give each person a group_id",
                code="annotations-invalid",
            )
        else:
            boxes.setdefault(group, []).append(_box(corners))
    # A box without points is a person without labeled keypoints.
    return [
        person
        for group in dict.fromkeys([*points, *boxes])
        for person in _of_group(points.get(group, []), boxes.get(group, [None]), path)
    ]


def _of_group(
    points: list[tuple[str, Keypoint, str]], boxes: list[Box | None], path: Path
) -> list[Person]:
    """The persons of one group: one, or without groups one for each rectangle."""
    persons: list[dict[str, Keypoint]] = [{} for _ in boxes]
    places = [str(path)] * len(boxes)
    for name, keypoint, where in points:
        lacking = [i for i, person in enumerate(persons) if name not in person]
        if len(boxes) > 1:
            lacking = [i for i in lacking if _holds(boxes[i], keypoint)]
        if not lacking:
            raise repeated_keypoint(where, name, "give each person a group_id or a rectangle")
        smallest = min(lacking, key=lambda i: np.prod((boxes[i] or (0, 0, 0, 0))[2:]))
        places[smallest] = where if not persons[smallest] else places[smallest]
        persons[smallest][name] = keypoint
    return [Person(*each) for each in zip(persons, boxes, places, strict=True)]


def _box(corners: list[tuple[float, float]]) -> Box | None:
    """The box of two or four corners; None where it has no size."""
    (x1, y1), (x2, y2) = corners[0], corners[-1 if len(corners) == 2 else 2]
    if x1 == x2 or y1 == y2:
        return None
    return (min(x1, x2), min(y1, y2), abs(x1 - x2), abs(y1 - y2))


def _holds(box: Box | None, keypoint: Keypoint) -> bool:
    if box is None:
        return False
    (x, y, w, h), (px, py, _) = box, keypoint
    return x <= px <= x + w and y <= py <= y + h


def _points(shape: Mapping[str, Any], where: str, least: int) -> list[tuple[float, float]]:
    """The corners of a rectangle are two, or in newer files four."""
    points = json_list(shape.get("points"), f"{where}: points")
    pairs = [json_list(point, f"{where}: points") for point in points]
    allowed = (1,) if least == 1 else (2, 4)
    if len(pairs) not in allowed or not all(len(pair) == 2 for pair in pairs):
        raise invalid(f"{where}: points", f"{least} of [x, y]", points)
    return [(number(x, f"{where}: x"), number(y, f"{where}: y")) for x, y in pairs]


def _visible(shape: Mapping[str, Any]) -> int:
    flags = shape.get("flags")
    hidden = shape.get("difficult") is True
    return 1 if hidden or (isinstance(flags, dict) and flags.get("occluded") is True) else 2
