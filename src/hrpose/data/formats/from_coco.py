"""COCO keypoints JSON as a `PoseSet`: the start of the way back, and what many tools export."""

from pathlib import Path

import numpy as np

from hrpose.data.coco import read_annotations
from hrpose.data.formats.people import Given, Person, Picture, PoseSet, pose_set
from hrpose.data.formats.places import beside
from hrpose.data.persons import group_by_image
from hrpose.data.rules import Entry
from hrpose.skeleton import Skeleton


def read(source: Path, given: Given) -> PoseSet:
    """Read COCO keypoints; crowds are left out. Raises UserError, naming the file and the entry."""
    annotations = read_annotations(source, category=given.category)
    skeleton, instances = annotations.skeleton, annotations.instances(crowds=False)
    visibility = instances.columns["keypoints"][..., 2]
    if not (known := np.isin(visibility, (0, 1, 2)).all(axis=1)).all():
        row = int(np.argmin(known))
        where = f"annotation {instances.entries[row]['id']}: 'keypoints'"
        raise annotations.error(where, "visibilities of 0, 1 and 2", visibility[row].tolist())
    people = [
        _person(entry, skeleton, f"{source}: annotation {entry['id']}")
        for entry in instances.entries
    ]
    rows = group_by_image(instances.columns["image_index"])
    sizes = annotations.image_columns["image_wh"].tolist()
    found = [
        Picture(
            entry["file_name"],
            tuple(people[row] for row in rows.get(image, ())),
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
