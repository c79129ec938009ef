"""Who is looked at: the labelled people, or a detector's boxes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import read_json
from hrpose.data.persons import PersonTable
from hrpose.errors import UserError
from hrpose.runtime.estimator import PoseEstimator

GROUND_TRUTH = "ground-truth"
DETECTOR = "detector"


def check_boxes(boxes: str | Path, detector: object, box_threshold: float | None) -> None:
    """Raises UserError where a detector, other than "auto", or a threshold would not count with
    these `boxes`, and where the threshold is not in [0, 1].
    """
    if str(boxes) != DETECTOR and detector != "auto":
        raise UserError(f"--detector: expected --boxes {DETECTOR}, found {boxes}; leave it out")
    if box_threshold is None:
        return
    if str(boxes) == GROUND_TRUTH:
        raise UserError(
            f"--box-threshold: expected --boxes {DETECTOR} or a file, found {boxes}; leave it out"
        )
    if not 0 <= box_threshold <= 1:
        raise UserError(f"--box-threshold: expected 0 to 1, found {box_threshold}")


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """n people: `picture` (n,) the row of their picture in the table, `boxes` (n, 4) [x, y, w, h]
    in pixels and their `scores` (n,).
    """

    picture: NDArray[np.int32]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.boxes)

    def by_picture(self) -> list[tuple[int, NDArray[np.int64]]]:
        """(picture, its people) for every picture with people, in the table's order."""
        order = np.argsort(self.picture, kind="stable")
        pictures, starts = np.unique(self.picture[order], return_index=True)
        parts = np.split(order, starts[1:]) if len(pictures) else []
        return [(int(p), members) for p, members in zip(pictures, parts, strict=True)]


def ground_truth(table: PersonTable) -> People:
    """The people of the table, in its order."""
    return People(table.image_index, table.boxes, table.box_scores.astype(np.float64))


def detections(path: Path, table: PersonTable, threshold: float = 0.0) -> People:
    """Boxes of a COCO detections file with a score of at least `threshold`.

    Boxes of other categories and empty ones are left out, as in the official code. Raises
    UserError, naming the entry, where the file is of another form.
    """
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path}: expected COCO detections (a list of objects)")
    rows = {int(image_id): row for row, image_id in enumerate(table.image_ids)}
    index, boxes, scores = [], [], []
    for position, entry in enumerate(entries):
        try:
            row = rows[entry["image_id"]]
            x, y, w, h = (float(value) for value in entry["bbox"])
            score = float(entry["score"])
            if not np.isfinite([x, y, w, h, score]).all():
                raise ValueError("NaN or infinity")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{path}: entry {position}: expected 'image_id' of a picture of the annotations, "
                f"'bbox' [x, y, w, h] and 'score', found {error!r}"
            ) from error
        if entry.get("category_id", table.category_id) != table.category_id:
            continue
        if score >= threshold and w > 0 and h > 0:
            index.append(row)
            boxes.append([x, y, w, h])
            scores.append(score)
    return People(
        np.asarray(index, np.int32),
        np.asarray(boxes, np.float64).reshape(-1, 4),
        np.asarray(scores, np.float64),
    )


def people_of(
    estimator: PoseEstimator, table: PersonTable, boxes: str | Path, threshold: float
) -> tuple[People | None, str]:
    """Who is looked at, and where the boxes are from.

    `boxes` is "ground-truth", "detector" (then None: the estimator's own will find them) or a
    COCO detections file.
    """
    if str(boxes) == GROUND_TRUTH:
        return ground_truth(table), GROUND_TRUTH
    if str(boxes) == DETECTOR:
        return None, f"detector: {estimator.detector.name}"
    least = f", scored {threshold:g} or more" if threshold > 0 else ""
    return detections(Path(boxes), table, threshold), f"detections: {boxes}{least}"
