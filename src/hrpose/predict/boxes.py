"""The boxes of a file, by image."""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from hrpose.data.coco import read_boxes
from hrpose.errors import UserError
from hrpose.io import name_to_text
from hrpose.predict.inputs import Boxes, ImageInput, number_in


def boxes_by_image(path: Path, images: Sequence[ImageInput]) -> tuple[dict[ImageInput, Boxes], int]:
    """The boxes [x, y, w, h] and scores for each of `images`; empty lists where there are none.

    Also returns the number of entries that belong to none of `images`. `path` holds COCO detections
    (a list of {image_id or file_name, bbox, score}) or COCO annotations (an object with `images`
    and `annotations`). An image is matched by its name, with or without folders, in whatever
    Unicode form a file system gave it, or by the number in it (000000000785.jpg is image 785).
    Raises UserError for another form, for a name or number that two images have, and where no
    entry belongs to an image.
    """
    results = read_boxes(path).detections(score=1.0)
    boxes: dict[ImageInput, Boxes] = {image: ([], []) for image in images}
    by_key: dict[str | int, list[ImageInput]] = {}
    for image_input in images:
        name = _normalized(image_input.name)
        base = PurePosixPath(name).name
        spelled = _normalized(name_to_text(image_input.name))  # as in results
        for key in {name, base, spelled, number_in(base)} - {None}:
            by_key.setdefault(key, []).append(image_input)  # type: ignore[arg-type]
    unmatched = 0
    columns = (results.columns[name].tolist() for name in ("boxes", "scores"))
    for row, (entry, box, score) in enumerate(zip(results.entries, *columns, strict=True)):
        key = _key(path, row, entry)
        if isinstance(key, str):
            key = _normalized(key)
            key = key if key in by_key else PurePosixPath(key).name
        matches = by_key.get(key, [])
        if len(matches) > 1:
            raise UserError(
                f"{path}: entry {row}: {key} is {matches[0]} and {matches[1]}; give each entry a "
                "'file_name' with folders, or predict them one by one",
                code="boxes-invalid",
            )
        for match in matches:
            boxes[match][0].append(box)
            boxes[match][1].append(score)
        unmatched += not matches
    if results.entries and unmatched == len(results.entries):
        raise UserError(
            f"{path}: none of its {unmatched} boxes belongs to these images; give each entry a "
            "'file_name'",
            code="boxes-invalid",
        )
    return boxes, unmatched


def _normalized(name: str) -> str:
    """One form of a name that file systems store in several."""
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def _key(path: Path, row: int, entry: Mapping[str, Any]) -> str | int:
    """The name or number of an entry's image."""
    for key in ("file_name", "image_id"):
        value = entry.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool):
            return value
    raise UserError(
        f"{path}: entry {row}: expected 'file_name' or 'image_id', a name or a number, found none",
        code="boxes-invalid",
    )
