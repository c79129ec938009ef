"""A plain table, one row a keypoint: image, person, keypoint, x, y and, where known, visible.

    image,person,keypoint,x,y,visible
    a.jpg,0,nose,120.5,80,2

`person` is any text that distinguishes the persons of an image. `visible` is COCO's 0 (not
labeled), 1 (hidden) or 2, or true and false; empty means 2. Columns may be in any order, others are
ignored; they are separated by commas, semicolons or tabs. A row without x and y is a keypoint that
is not labeled. The tables of `hrpose predict` have this form too: `file` is the image, `present`
is visible. Older tables call the keypoint `joint`.
"""

import csv
import io
from pathlib import Path

from hrpose.data.formats.pose_set import (
    Keypoint,
    LabeledImage,
    Person,
    PoseSet,
    ReadOptions,
    image_name,
    invalid,
    keypoint_name,
    number,
    pose_set,
    read_text,
    repeated_keypoint,
)

_COLUMNS = ("image", "person", "keypoint", "x", "y")
_ALIASES = {
    "file": "image",
    "file_name": "image",
    "joint": "keypoint",
    "present": "visible",
    "visibility": "visible",
}
_VISIBLE = {"": 2, "0": 0, "1": 1, "2": 2, "true": 2, "false": 0}


def read(source: Path, options: ReadOptions) -> PoseSet:
    """Read a table. Raises UserError, naming the file and the line."""
    text = read_text(source)
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    # Strict: what follows a closing quote is an error, not part of the value.
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    persons: dict[str, dict[str, dict[str, Keypoint]]] = {}
    first: dict[tuple[str, str], str] = {}
    try:
        columns = _columns(source, next(rows, []))
        for row in rows:
            where = f"{source}: line {rows.line_num}"
            if not any(row):
                continue
            if len(row) < max(columns.values()) + 1:
                raise invalid(where, f"{len(columns)} values", len(row))
            values = {name: row[index].strip() for name, index in columns.items()}
            name = image_name(values["image"], f"{where}: image")
            first.setdefault((name, values["person"]), where)
            keypoints = persons.setdefault(name, {}).setdefault(values["person"], {})
            keypoint = keypoint_name(values["keypoint"], f"{where}: keypoint")
            labeled = _keypoint(values, where)
            if keypoint in keypoints:
                raise repeated_keypoint(where, keypoint)
            if labeled:
                keypoints[keypoint] = labeled
    except csv.Error as error:
        raise invalid(f"{source}: line {rows.line_num}", "CSV", str(error)) from error
    images = [
        LabeledImage(
            name,
            tuple(
                Person(keypoints, where=first[name, person])
                for person, keypoints in found.items()
                if keypoints
            ),
        )
        for name, found in persons.items()
    ]
    return pose_set(
        source, images, options, options.images_for(source), category=options.category or "person"
    )


def _columns(source: Path, header: list[str]) -> dict[str, int]:
    """The index of each known column."""
    plain = [name.strip().lower() for name in header]
    columns = {_ALIASES.get(name, name): index for index, name in enumerate(plain)}
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        expected = f"the columns {', '.join(_COLUMNS)} and perhaps visible"
        raise invalid(f"{source}: line 1", expected, ", ".join(header))
    wanted = (*_COLUMNS, "visible") if "visible" in columns else _COLUMNS
    return {name: columns[name] for name in wanted}


def _keypoint(values: dict[str, str], where: str) -> Keypoint | None:
    visible = _VISIBLE.get(values.get("visible", "").lower())
    if visible is None:
        raise invalid(f"{where}: visible", "0, 1, 2, true or false", values["visible"])
    if values["x"] == values["y"] == "" or not visible:
        return None
    return (number(values["x"], f"{where}: x"), number(values["y"], f"{where}: y"), visible)
