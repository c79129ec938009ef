"""A plain table, one row a keypoint: image, person, keypoint, x, y and, where known, visible.

    image,person,keypoint,x,y,visible
    a.jpg,0,nose,120.5,80,2

`person` may be any text that tells the people of an image apart. `visible` is COCO's 0 (not
labeled), 1 (hidden) or 2, or true and false; empty is 2. Columns in any order, others are ignored;
separated by commas, semicolons or tabs. Rows without x and y are keypoints that are not labeled.
The tables of `hrpose predict` are of this form too: `file` is the image, `present` is visible.
"""

import csv
import io
from pathlib import Path

from hrpose.data.formats.checks import (
    image_name,
    keypoint_name,
    number,
    printable,
    repeated,
    text_of,
    wrong,
)
from hrpose.data.formats.persons import (
    Given,
    InputImage,
    Keypoint,
    Person,
    PoseSet,
    beside,
    pose_set,
)
from hrpose.errors import UserError

_COLUMNS = ("image", "person", "joint", "x", "y")
_ALIASES = {"file": "image", "file_name": "image", "present": "visible", "visibility": "visible"}
_VISIBLE = {"": 2, "0": 0, "1": 1, "2": 2, "true": 2, "false": 0}


def read(source: Path, given: Given) -> PoseSet:
    """Read a table. Raises UserError, naming the file and the line."""
    text = text_of(source)
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    # Strict: what follows a closing quote is a fault, not part of the value.
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
                raise wrong(where, f"{len(columns)} values", len(row))
            values = {name: row[place].strip() for name, place in columns.items()}
            name = image_name(values["image"], f"{where}: image")
            first.setdefault((name, values["person"]), where)
            keypoints = persons.setdefault(name, {}).setdefault(values["person"], {})
            keypoint = keypoint_name(values["joint"], f"{where}: keypoint")
            labeled = _keypoint(values, where)
            if keypoint in keypoints:
                raise repeated(where, keypoint)
            if labeled:
                keypoints[keypoint] = labeled
    except csv.Error as error:
        raise UserError(f"{source}: line {rows.line_num}: expected CSV, found {error}") from error
    images = [
        InputImage(
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
        source, images, given, beside(source, given), category=given.category or "person"
    )


def _columns(source: Path, header: list[str]) -> dict[str, int]:
    """The place of each known column."""
    plain = [name.strip().lower() for name in header]
    columns = {_ALIASES.get(name, name): place for place, name in enumerate(plain)}
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise UserError(
            f"{source}: line 1: expected the columns {', '.join(_COLUMNS)} and perhaps visible, "
            f"found {printable(', '.join(header)) or 'nothing'}"
        )
    wanted = (*_COLUMNS, "visible") if "visible" in columns else _COLUMNS
    return {name: columns[name] for name in wanted}


def _keypoint(values: dict[str, str], where: str) -> Keypoint | None:
    visible = _VISIBLE.get(values.get("visible", "").lower())
    if visible is None:
        raise wrong(f"{where}: visible", "0, 1, 2, true or false", values["visible"])
    if values["x"] == values["y"] == "" or not visible:
        return None
    return (number(values["x"], f"{where}: x"), number(values["y"], f"{where}: y"), visible)
