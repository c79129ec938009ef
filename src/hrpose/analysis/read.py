"""Labelled people and found poses as columns, in the same pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import Reader, read_json
from hrpose.data.persons import PersonTable
from hrpose.data.skeleton_file import complete_skeleton
from hrpose.errors import UserError
from hrpose.metrics.coco import to_results

# COCO's evaluator looks at so many poses of a picture, the best first.
MOST_POSES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """All people of the annotations: `table`, and `counted` (n,), false for crowds and people
    without a labelled joint, which COCO's evaluation ignores. `document` is the file itself.
    """

    table: PersonTable
    counted: NDArray[np.bool_]
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """n poses: `picture` (n,) rows of the truth's pictures, `keypoints` (n, k, 3) with joint
    scores, `scores` (n,). In each picture at most 20, as in COCO's evaluation.
    """

    picture: NDArray[np.int64]
    keypoints: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, chosen: Any) -> "Found":
        return Found(self.picture[chosen], self.keypoints[chosen], self.scores[chosen])

    def to_results(self, table: PersonTable) -> list[dict[str, Any]]:
        """Entries of a COCO results file."""
        ids = table.image_ids[self.picture]
        return to_results(ids, self.keypoints, self.scores, table.category_id)


def read_truth(annotations: Path, skeleton_file: Path | None = None) -> Truth:
    """Every person of the category with keypoints. `skeleton_file` completes its skeleton.

    Raises UserError, naming the file and the entry, where something is not of the COCO form.
    """
    document = read_json(annotations)
    if isinstance(document, list):
        raise UserError(
            f"{annotations}: expected COCO annotations (an object), found a list; are results and "
            "annotations the other way round?"
        )
    reader = Reader(annotations)
    skeleton, category_id = reader.skeleton(document)
    if skeleton_file is not None:
        skeleton = complete_skeleton(skeleton, skeleton_file)
    pictures = reader.pictures(document)
    rows = {int(image_id): row for row, image_id in enumerate(pictures["image_ids"])}
    people = [
        entry
        for entry in reader.entries(document, "annotations")
        if entry.get("category_id") == category_id
    ]
    columns = reader.people(people, len(skeleton), rows)
    table = PersonTable(skeleton=skeleton, category_id=category_id, **pictures, **columns)
    visible = (table.keypoints[..., 2] > 0).sum(axis=1)
    counted = [
        not person.get("iscrowd") and person.get("num_keypoints", count) != 0
        for person, count in zip(people, visible.tolist(), strict=True)
    ]
    truth = Truth(table, np.asarray(counted, bool), document)
    if not truth.counted.any():
        raise UserError(f"{annotations}: expected people with labelled keypoints, found none")
    return truth


def read_found(results: Path, truth: Truth) -> Found:
    """The poses of a COCO results file; those of other categories are left out.

    The file must have been checked against the annotations before, as `evaluate_keypoints` does.
    """
    table = truth.table
    entries = [entry for entry in read_json(results) if entry["category_id"] == table.category_id]
    rows = {int(image_id): row for row, image_id in enumerate(table.image_ids)}
    picture = np.asarray([rows[entry["image_id"]] for entry in entries], np.int64)
    keypoints = np.asarray([entry["keypoints"] for entry in entries], np.float64)
    found = Found(
        picture,
        keypoints.reshape(len(entries), len(table.skeleton), 3),
        np.asarray([entry["score"] for entry in entries], np.float64),
    )
    return best_of_each_picture(found)


def best_of_each_picture(found: Found) -> Found:
    """The poses that the evaluator looks at, picture by picture, the best first in each."""
    order = np.lexsort((-found.scores, found.picture))
    found = found.select(order)
    firsts = np.searchsorted(found.picture, found.picture)
    return found.select(np.arange(len(found)) - firsts < MOST_POSES)
