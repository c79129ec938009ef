"""COCO keypoints JSON as a `PoseSet`: the start of the way back, and what many tools export."""

from pathlib import Path
from typing import Any

import numpy as np

from hrpose.data.coco import Reader, read_json
from hrpose.data.formats.checks import printable
from hrpose.data.formats.people import Given, Person, Picture, PoseSet, pose_set
from hrpose.data.formats.places import beside
from hrpose.errors import UserError
from hrpose.skeleton import Skeleton


def read(source: Path, given: Given) -> PoseSet:
    """Read COCO keypoints; crowds are left out. Raises UserError, naming the file and the entry."""
    document, reader = read_json(source), Reader(source)
    skeleton, category_id = _category(reader, document, given.category)
    pictures = reader.pictures(document)
    entries = document["images"]
    rows = {int(image_id): row for row, image_id in enumerate(pictures["image_ids"])}
    annotations = [
        {**annotation, "keypoints": annotation.get("keypoints") or [0] * (3 * len(skeleton))}
        for annotation in reader.entries(document, "annotations")
        if annotation.get("category_id") == category_id and not annotation.get("iscrowd")
    ]
    columns = reader.people(annotations, len(skeleton), rows)
    visibility = columns["keypoints"][..., 2]
    if not np.isin(visibility, (0, 1, 2)).all():
        row = int(np.argmin(np.isin(visibility, (0, 1, 2)).all(axis=1)))
        where = f"annotation {annotations[row]['id']}: 'keypoints'"
        raise reader.error(where, "visibilities of 0, 1 and 2", visibility[row].tolist())
    people: list[list[Person]] = [[] for _ in entries]
    for row, annotation in enumerate(annotations):
        people[columns["image_index"][row]].append(
            _person(annotation, skeleton, f"{source}: annotation {annotation['id']}")
        )
    found = [
        Picture(
            entry["file_name"],
            tuple(own),
            (int(width), int(height)),
            source=str(entry.get("source", "")),
            video=str(entry.get("video", "")),
        )
        for entry, own, (width, height) in zip(entries, people, pictures["image_wh"], strict=True)
    ]
    return pose_set(source, found, given, beside(source, given), skeleton)


def _category(reader: Reader, document: Any, wanted: str | None) -> tuple[Skeleton, int]:
    """The category with keypoints, or the wanted one of several."""
    if wanted is None:
        return reader.skeleton(document)
    categories = [c for c in reader.entries(document, "categories") if c.get("name") == wanted]
    if len(categories) != 1:
        names = ", ".join(str(c.get("name")) for c in document["categories"])
        raise UserError(
            f"{reader.path}: 'categories': expected '{wanted}', found {printable(names)}"
        )
    return reader.skeleton({"categories": categories})


def _person(annotation: dict[str, Any], skeleton: Skeleton, where: str) -> Person:
    values = annotation["keypoints"]
    joints = {
        name: (values[3 * i], values[3 * i + 1], int(values[3 * i + 2]))
        for i, name in enumerate(skeleton.keypoints)
        if values[3 * i + 2]
    }
    x, y, w, h = annotation["bbox"]
    score, track = annotation.get("score"), annotation.get("track_id")
    guessed = annotation.get("bbox_guessed") is True
    return Person(
        joints,
        None if guessed or w <= 0 or h <= 0 else (x, y, w, h),
        where,
        area=None if guessed else annotation.get("area"),
        score=float(score) if isinstance(score, int | float) else None,
        track=track if isinstance(track, int) else None,
    )
