"""`--boxes`: people's boxes from a COCO file, given to the pictures they belong to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hrpose.data.coco import read_json
from hrpose.errors import UserError

Boxes = tuple[list[list[float]], list[float]]


def boxes_by_picture(path: Path, files: Sequence[Path]) -> dict[Path, Boxes]:
    """The boxes [x, y, w, h] and scores for each of `files`; empty lists where there are none.

    `path` holds COCO detections (a list of {image_id or file_name, bbox, score}) or COCO
    annotations (an object with `images` and `annotations`). A picture is known by its file name,
    or by the number in it (000000000785.jpg is image 785). Raises UserError for another form.
    """
    document = read_json(path)
    names: dict[str | int, str | int] = {}
    if isinstance(document, Mapping):
        for row, image in enumerate(_list(path, document, "images")):
            names[_key(path, "image", row, image, "id")] = _key(
                path, "image", row, image, "file_name", "id"
            )
        entries = _list(path, document, "annotations")
    else:
        entries = _list(path, {"detections": document}, "detections")
    found: dict[Path, Boxes] = {file: ([], []) for file in files}
    keys = {key: file for file in files for key in _keys(file)}
    for row, entry in enumerate(entries):
        box, score = entry.get("bbox"), entry.get("score", 1.0)
        if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, [*box, score]))):
            raise UserError(
                f"{path}: entry {row}: expected 'bbox' [x, y, w, h] and a number 'score', "
                f"found {box} and {score}"
            )
        key = _key(path, "entry", row, entry, "file_name", "image_id")
        key = names.get(key, key)
        file = keys.get(Path(key).name if isinstance(key, str) else key)
        if file is not None:
            found[file][0].append(box)
            found[file][1].append(score)
    if entries and not any(boxes for boxes, _ in found.values()):
        raise UserError(
            f"{path}: none of its {len(entries)} boxes belongs to these pictures; give each entry "
            "a 'file_name'"
        )
    return found


def _keys(file: Path) -> list[str | int]:
    stem = file.stem
    return [file.name, int(stem)] if stem.isascii() and stem.isdigit() else [file.name]


def _key(path: Path, kind: str, row: int, entry: Mapping[str, Any], *keys: str) -> str | int:
    """The first of `keys` that `entry` has: a name or a number."""
    for key in keys:
        value = entry.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool):
            return value
    expected = " or ".join(f"'{key}'" for key in keys)
    raise UserError(f"{path}: {kind} {row}: expected {expected}, a name or a number, found none")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _list(path: Path, document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    entries = document.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path}: expected a list of objects in '{key}', found something else")
    return entries
