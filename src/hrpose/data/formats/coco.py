"""COCO keypoints JSON, which many tools export, as a `PoseSet`, and a `PoseSet` as COCO keypoints.

All other formats are converted by way of it. Where the source has no box, it is made from the
keypoints: what they span, with a tenth of its longer side around (on COCO's people the boxes reach
0.06 of it beyond the keypoints at the sides, 0.12 above and 0.08 below, in the median), cut to the
image, and marked by `bbox_guessed`. Where that spans nothing (one keypoint), the box is the image.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrpose.data.coco import read_annotations
from hrpose.data.formats.checks import file_name, printable
from hrpose.data.formats.persons import (
    Box,
    Given,
    InputImage,
    Keypoint,
    Person,
    PoseSet,
    beside,
    pose_set,
)
from hrpose.data.persons import group_by_image
from hrpose.data.rules import Entry
from hrpose.errors import UserError
from hrpose.geometry import BODY_MARGIN, box_around, clip_boxes, expand_boxes
from hrpose.skeleton import Skeleton

DIGITS = 3


def read(source: Path, given: Given) -> PoseSet:
    """Read COCO keypoints; crowds are left out. Raises UserError, naming the file and the entry."""
    annotations = read_annotations(source, category=given.category)
    skeleton, instances = annotations.skeleton, annotations.instances(crowds=False)
    visibility = instances.columns["keypoints"][..., 2]
    if not (known := np.isin(visibility, (0, 1, 2)).all(axis=1)).all():
        row = int(np.argmin(known))
        where = f"annotation {instances.entries[row]['id']}: 'keypoints'"
        raise annotations.error(where, "visibilities of 0, 1 and 2", visibility[row].tolist())
    persons = [
        _person(entry, skeleton, f"{source}: annotation {entry['id']}")
        for entry in instances.entries
    ]
    rows = group_by_image(instances.columns["image_index"])
    sizes = annotations.image_columns["image_wh"].tolist()
    found = [
        InputImage(
            entry["file_name"],
            tuple(persons[row] for row in rows.get(image, ())),
            (width, height),
            source=str(entry.get("source", "")),
            video=str(entry.get("video", "")),
        )
        for image, (entry, (width, height)) in enumerate(
            zip(annotations.images, sizes, strict=True)
        )
    ]
    return pose_set(source, found, given, beside(source, given), skeleton)


def _person(annotation: Entry, skeleton: Skeleton, where: str) -> Person:
    values = annotation.get("keypoints") or [0] * (3 * len(skeleton))
    keypoints = {
        name: (values[3 * i], values[3 * i + 1], int(values[3 * i + 2]))
        for i, name in enumerate(skeleton.keypoints)
        if values[3 * i + 2]
    }
    x, y, w, h = annotation["bbox"]
    score, track = annotation.get("score"), annotation.get("track_id")
    guessed = annotation.get("bbox_guessed") is True
    return Person(
        keypoints,
        None if guessed or w <= 0 or h <= 0 else (x, y, w, h),
        where,
        area=None if guessed else annotation.get("area"),
        score=float(score) if isinstance(score, int | float) else None,
        track=track if isinstance(track, int) else None,
    )


@dataclass(frozen=True, slots=True)
class Document:
    """One COCO file: its name, its content, and what it counts."""

    name: str
    content: dict[str, Any]
    persons: int
    images: int
    boxes_made: int


def documents(found: PoseSet) -> list[Document]:
    """A document for each subset of the source; 'annotations' where it has none.

    Sizes that the source does not say are read from the images' headers. Raises UserError where
    an image is not there.
    """
    parts: dict[str, list[InputImage]] = {}
    for image in found.images:
        parts.setdefault(file_name(image.subset), []).append(image)
    image_id = annotation_id = 1
    result = []
    for name, members in parts.items():
        images, annotations = [], []
        for image in members:
            size = image.size_wh or _size(image.name, found)
            images.append(_image(image_id, image, size))
            for person in image.persons:
                made = _annotation(annotation_id, image_id, person, found.skeleton, size)
                annotations.append(made)
                annotation_id += 1
            image_id += 1
        content = {
            "info": {"description": "converted by hrpose"},
            "images": images,
            "annotations": annotations,
            "categories": [found.skeleton.to_coco_category()],
        }
        guessed = sum("bbox_guessed" in annotation for annotation in annotations)
        result.append(Document(name, content, len(annotations), len(images), guessed))
    return result


def _size(name: str, found: PoseSet) -> tuple[int, int]:
    if found.files is None:
        raise UserError(
            f"{printable(name)}: its size is not in the annotations, and the images were not "
            "found; name their folder with --images"
        )
    if name not in found.files:
        raise UserError(
            f"{found.files.place}: expected the image {printable(name)}, to read its size, "
            "found none; name the folder with --images"
        )
    return found.files.size(name)


def _image(image_id: int, image: InputImage, size: tuple[int, int]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": image_id,
        "file_name": image.name,
        "width": size[0],
        "height": size[1],
    }
    if image.video:
        entry["video"] = image.video
    if image.source:
        entry["source"] = image.source
    return entry


def _annotation(
    annotation_id: int, image_id: int, person: Person, skeleton: Skeleton, size: tuple[int, int]
) -> dict[str, Any]:
    keypoints: list[float] = []
    for name in skeleton.keypoints:
        x, y, visibility = person.keypoints.get(name, (0, 0, 0))
        keypoints += [round(x, DIGITS), round(y, DIGITS), visibility]
    box = person.box or box_of_keypoints(person.keypoints.values(), size)
    entry: dict[str, Any] = {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "num_keypoints": len(person.keypoints),
        "keypoints": keypoints,
        "bbox": [round(value, DIGITS) for value in box],
        "area": round(box[2] * box[3] if person.area is None else person.area, DIGITS),
    }
    if person.box is None:
        entry["bbox_guessed"] = True
    if person.score is not None:
        entry["score"] = person.score
    if person.track is not None:
        entry["track_id"] = person.track
    return entry


def box_of_keypoints(keypoints: Iterable[Keypoint], size_wh: tuple[int, int]) -> Box:
    """The box [x, y, w, h] that is made from keypoints; see the head of this file."""
    points = [(x, y) for x, y, _ in keypoints]
    tight = box_around(np.reshape(points, (-1, 2)))
    margin = BODY_MARGIN * tight[2:].max()
    if not margin > 0:  # NaN without keypoints
        return (0.0, 0.0, float(size_wh[0]), float(size_wh[1]))
    box = expand_boxes(tight, margin)
    clipped = clip_boxes(box, size_wh)
    # All of them may be outside the image.
    left, top, width, height = (clipped if (clipped[2:] > 0).all() else box).tolist()
    return left, top, width, height
