"""`hrpose evaluate`: weights and a data set in; COCO's figures and results out."""

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import load_persons, read_json
from hrpose.data.persons import PersonTable
from hrpose.errors import UserError
from hrpose.files import write_atomically
from hrpose.image import read_image
from hrpose.metrics.coco import KeypointScores, evaluate_keypoints, select_results, write_results
from hrpose.runtime.estimator import Picture, PoseEstimator

GROUND_TRUTH = "ground-truth"
DETECTOR = "detector"


@dataclass(frozen=True, slots=True)
class Report:
    """The figures, and under which conditions they came about."""

    scores: KeypointScores
    boxes: str
    flip_test: bool
    refine: bool
    people: int
    pictures: int

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.scores.as_dict(),
            "boxes": self.boxes,
            "flip_test": self.flip_test,
            "refine": self.refine,
            "people": self.people,
            "pictures": self.pictures,
        }


def evaluate(
    estimator: PoseEstimator,
    annotations: Path,
    images: Path,
    boxes: str | Path = GROUND_TRUTH,
    out: Path | None = None,
) -> Report:
    """COCO's ten figures (paper, section 4.1, "Testing").

    `boxes` is "ground-truth", "detector" (the estimator's own, looking at every picture) or a COCO
    detections file, and is part of the report: they give figures that must not be compared. Poses
    are rescored (the box's score times the mean of the keypoint scores above 0.2) and thinned by
    OKS-NMS at 0.9. With `out`, writes `metrics.json` and `results.json` there. Raises UserError
    where files do not fit.
    """
    table = load_persons(annotations)
    if table.skeleton.keypoints != estimator.passport.skeleton.keypoints:
        raise UserError(
            f"{annotations}: expected the keypoints of the weights "
            f"({', '.join(estimator.passport.skeleton.keypoints)}), "
            f"found {', '.join(table.skeleton.keypoints)}"
        )
    if str(boxes) == GROUND_TRUTH:
        people, source = _ground_truth(table), GROUND_TRUTH
    elif str(boxes) == DETECTOR:
        people, source = None, f"detector: {estimator.detector.name}"
    else:
        people, source = _detections(Path(boxes), table), f"detections: {boxes}"
    counts, results = _predict(estimator, table, people, images)
    report = Report(
        scores=evaluate_keypoints(annotations, results, table.skeleton.sigmas),
        boxes=source,
        flip_test=estimator.flip_test,
        refine=estimator.refine,
        people=sum(counts),
        pictures=len(counts),
    )
    if out is not None:
        write_results(out / "results.json", results)
        write_atomically(out / "metrics.json", json.dumps(report.as_dict(), indent=2) + "\n")
    return report


# By picture: its row in the table, to boxes (n, 4) and their scores (n,).
People = dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]


def _ground_truth(table: PersonTable) -> People:
    return _grouped(table.image_index, table.boxes, table.box_scores.astype(np.float64))


def _detections(path: Path, table: PersonTable) -> People:
    """Boxes of a COCO detections file; other categories and empty boxes are left out."""
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
        if entry.get("category_id", table.category_id) == table.category_id and w > 0 and h > 0:
            index.append(row)
            boxes.append([x, y, w, h])
            scores.append(score)
    return _grouped(
        np.asarray(index, np.int32),
        np.asarray(boxes, np.float64).reshape(-1, 4),
        np.asarray(scores),
    )


def _grouped(
    index: NDArray[np.int32], boxes: NDArray[np.float64], scores: NDArray[np.float64]
) -> People:
    order = np.argsort(index, kind="stable")
    pictures, starts = np.unique(index[order], return_index=True)
    parts = np.split(order, starts[1:]) if len(pictures) else []
    return {int(p): (boxes[r], scores[r]) for p, r in zip(pictures, parts, strict=True)}


def _pictures(
    estimator: PoseEstimator, table: PersonTable, people: People | None, images: Path
) -> Iterator[tuple[int, Picture]]:
    """Rows of the table with their pictures; without `people` all, with whom the detector finds."""
    for row in range(len(table.image_ids)) if people is None else people:
        path = images / table.file_names[row].decode()
        if people is None:
            yield row, estimator.picture(path)
        else:
            yield row, Picture(read_image(path), *people[row])


def _predict(
    estimator: PoseEstimator, table: PersonTable, people: People | None, images: Path
) -> tuple[list[int], list[dict[str, Any]]]:
    """How many people each picture has, and rescored and thinned results for all of them."""
    waiting: deque[tuple[int, NDArray[np.float64]]] = deque()

    def pictures() -> Iterator[Picture]:
        for row, picture in _pictures(estimator, table, people, images):
            waiting.append((row, picture.box_scores))
            yield picture

    counts, ids, keypoints, box_scores, areas = [], [], [], [], []
    for poses in estimator.stream(pictures()):
        row, scores = waiting.popleft()
        counts.append(len(poses))
        ids += [int(table.image_ids[row])] * len(poses)
        keypoints.append(poses.keypoints)
        box_scores.append(scores)
        areas += [estimator.passport.crop(box).area for box in poses.boxes]
    if not ids:
        return counts, []
    return counts, select_results(
        ids,
        np.concatenate(keypoints),
        np.concatenate(box_scores),
        areas,
        sigmas=table.skeleton.sigmas,
        category_id=table.category_id,
    )
