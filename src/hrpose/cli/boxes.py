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
    names: dict[Any, str] = {}
    if isinstance(document, Mapping):
        names = {e.get("id"): str(e.get("file_name")) for e in _list(path, document, "images")}
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
        image = entry.get("file_name") or names.get(entry.get("image_id")) or entry.get("image_id")
        if image is None:
            raise UserError(f"{path}: entry {row}: found no 'file_name' or 'image_id'")
        file = keys.get(Path(image).name if isinstance(image, str) else image)
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


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _list(path: Path, document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    entries = document.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path}: expected a list of objects in '{key}', found something else")
    return entries
