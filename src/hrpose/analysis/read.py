"""Labelled people and found poses as columns, in the same pictures."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import CocoAnnotations, CocoResults, read_annotations
from hrpose.data.persons import PersonTable
from hrpose.data.skeleton_file import complete_skeleton
from hrpose.errors import UserError
from hrpose.metrics.coco import to_results

# COCO's evaluator looks at so many poses of a picture, the best first.
MOST_POSES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """All people of the annotations: `table`, and `counted` (n,), false for crowds and people
    without a labelled joint, which COCO's evaluation ignores. `annotations` is the parsed file.
    """

    table: PersonTable
    counted: NDArray[np.bool_]
    annotations: CocoAnnotations


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
    parsed = read_annotations(annotations)
    people = parsed.instances()
    table = parsed.table(people.columns)
    if skeleton_file is not None:
        table = replace(table, skeleton=complete_skeleton(table.skeleton, skeleton_file))
    visible = (table.keypoints[..., 2] > 0).sum(axis=1)
    counted = [
        not person.get("iscrowd") and person.get("num_keypoints", count) != 0
        for person, count in zip(people.entries, visible.tolist(), strict=True)
    ]
    truth = Truth(table, np.asarray(counted, bool), parsed)
    if not truth.counted.any():
        raise UserError(f"{annotations}: expected people with labelled keypoints, found none")
    return truth


def read_found(results: CocoResults, truth: Truth) -> Found:
    """The poses of COCO results; those of other categories are left out.

    They must have been checked against the annotations before, as `evaluate_keypoints` does.
    """
    table = truth.table
    entries = [entry for entry in results.entries if entry["category_id"] == table.category_id]
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
