"""A `PoseSet` as COCO keypoints JSON: the one writer for all formats.

Where the source has no box, it is made from the joints: what they span, with a tenth of its longer
side around (on COCO's people the boxes reach 0.06 of it beyond the joints at the sides, 0.12 above
and 0.08 below, in the median), cut to the picture, and marked by `bbox_guessed`. Where that spans
nothing (one joint), the box is the picture.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hrpose.data.formats.checks import file_name, printable
from hrpose.data.formats.people import Box, Joint, Person, Picture, PoseSet
from hrpose.errors import UserError
from hrpose.geometry import BODY_MARGIN, box_around, clip_boxes, expand_boxes
from hrpose.skeleton import Skeleton

DIGITS = 3


@dataclass(frozen=True, slots=True)
class Document:
    """One COCO file: its name, its content, and what it counts."""

    name: str
    content: dict[str, Any]
    people: int
    pictures: int
    boxes_made: int


def documents(found: PoseSet) -> list[Document]:
    """A document for each subset of the source; 'annotations' where it has none.

    Sizes that the source does not say are read from the pictures' headers. Raises UserError where
    a picture is not there.
    """
    parts: dict[str, list[Picture]] = {}
    for picture in found.pictures:
        parts.setdefault(file_name(picture.subset), []).append(picture)
    image_id = annotation_id = 1
    result = []
    for name, pictures in parts.items():
        images, annotations = [], []
        for picture in pictures:
            size = picture.size_wh or _size(picture.name, found)
            images.append(_image(image_id, picture, size))
            for person in picture.people:
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
    if found.images is None:
        raise UserError(
            f"{printable(name)}: its size is not in the annotations, and the pictures were not "
            "found; name their folder with --images"
        )
    if name not in found.images:
        raise UserError(
            f"{found.images.place}: expected the picture {printable(name)}, to read its size, "
            "found none; name the folder with --images"
        )
    return found.images.size(name)


def _image(image_id: int, picture: Picture, size: tuple[int, int]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": image_id,
        "file_name": picture.name,
        "width": size[0],
        "height": size[1],
    }
    if picture.video:
        entry["video"] = picture.video
    if picture.source:
        entry["source"] = picture.source
    return entry


def _annotation(
    annotation_id: int, image_id: int, person: Person, skeleton: Skeleton, size: tuple[int, int]
) -> dict[str, Any]:
    keypoints: list[float] = []
    for name in skeleton.keypoints:
        x, y, visibility = person.joints.get(name, (0, 0, 0))
        keypoints += [round(x, DIGITS), round(y, DIGITS), visibility]
    box = person.box or box_of_joints(person.joints.values(), size)
    entry: dict[str, Any] = {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "num_keypoints": len(person.joints),
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


def box_of_joints(joints: Iterable[Joint], size_wh: tuple[int, int]) -> Box:
    """The box [x, y, w, h] that is made from joints; see the head of this file."""
    points = [(x, y) for x, y, _ in joints]
    tight = box_around(np.reshape(points, (-1, 2)))
    margin = BODY_MARGIN * tight[2:].max()
    if not margin > 0:  # NaN without joints
        return (0.0, 0.0, float(size_wh[0]), float(size_wh[1]))
    box = expand_boxes(tight, margin)
    clipped = clip_boxes(box, size_wh)
    # All of them may be outside the picture.
    left, top, width, height = (clipped if (clipped[2:] > 0).all() else box).tolist()
    return left, top, width, height
