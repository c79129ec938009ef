"""`hrpose evaluate`: weights and a data set in; figures and results out."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import load_persons, load_pictures
from hrpose.data.heads import PckhTruth, pckh_truth
from hrpose.data.matlab import write_mat
from hrpose.data.persons import PersonTable
from hrpose.data.pictures import PictureSource
from hrpose.errors import UserError
from hrpose.evaluation.people import DETECTOR, GROUND_TRUTH, People, people_of
from hrpose.evaluation.predict import Progress, predict
from hrpose.files import write_atomically
from hrpose.metrics.coco import (
    KeypointScores,
    evaluate_keypoints,
    select_results,
    to_results,
    write_results,
)
from hrpose.metrics.distance import DistanceScores, distances
from hrpose.metrics.pckh import PCKhScores, pckh
from hrpose.runtime.estimator import PoseEstimator
from hrpose.skeleton import MPII_16

METRICS = ("auto", "ap", "pckh", "pck")
NMS = ("hard", "soft")


Scores = KeypointScores | PCKhScores | DistanceScores


@dataclass(frozen=True, slots=True)
class Report:
    """The figures, and under which conditions they came about.

    `scores` are COCO's ten figures, MPII's PCKh, or PCK, NME and EPE; None where the pictures have
    no labels. `files` are those that were written.
    """

    scores: Scores | None
    boxes: str
    flip_test: bool
    refine: bool
    people: int
    pictures: int
    nms: str = "hard"
    files: tuple[Path, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        figures = {} if self.scores is None else self.scores.as_dict()
        return {
            # A joint that nobody has labelled has no figure, and JSON no NaN.
            **{name: None if math.isnan(v) else v for name, v in figures.items()},
            "boxes": self.boxes,
            "flip_test": self.flip_test,
            "refine": self.refine,
            **({"nms": self.nms} if isinstance(self.scores, KeypointScores | None) else {}),
            "people": self.people,
            "pictures": self.pictures,
        }


def evaluate(
    estimator: PoseEstimator,
    annotations: Path,
    images: str | Path,
    boxes: str | Path = GROUND_TRUTH,
    out: Path | None = None,
    *,
    box_threshold: float = 0.0,
    nms: str = "hard",
    metric: str = "auto",
    progress: Progress | None = None,
) -> Report:
    """COCO's ten figures, MPII's PCKh (paper, sections 4.1 and 4.2, "Testing"), or PCK.

    `images` is a folder, `images.zip` or `images.zip@/folder`. `boxes` is "ground-truth",
    "detector" (the estimator's own, looking at every picture) or a COCO detections file, of which
    boxes scored below `box_threshold` are left out; it is part of the report, for they give figures
    that must not be compared. `metric` is "ap", "pckh", "pck" or
    "auto": PCKh where the annotations have head boxes, PCK where nobody gave the skeleton OKS
    constants and the boxes are the labelled ones, else AP.

    - AP: poses are rescored (the box's score times the mean of the keypoint scores above 0.2) and
      thinned by hard or soft OKS-NMS at 0.9. With `out`, writes `metrics.json` and `results.json`.
    - PCK, with NME and EPE: every person has one pose. With `out`, as AP, nobody thinned out.
    - PCKh: every person has one pose. With `out`, writes `metrics.json` and `pred.mat`.
    - Pictures without annotations (COCO's test sets): writes the results file that COCO's server
      takes, and there are no figures. MPII's test set gives `pred.mat`.

    `progress` is told how many of how many pictures are done. Raises UserError where files do not
    fit.
    """
    _check(metric in METRICS, f"metric: expected one of {', '.join(METRICS)}, found '{metric}'")
    _check(nms in NMS, f"nms: expected one of {', '.join(NMS)}, found '{nms}'")
    table, labelled = _table(annotations, estimator)
    truth = _truth(annotations, table, metric) if labelled else None
    # MPII's test set has people without labels: predictions, and no figures.
    mpii = truth is not None or (labelled and _is_mpii(table) and not table.keypoints.any())
    if mpii:
        right = str(boxes) == GROUND_TRUTH
        _check(right, f"--boxes {boxes}: PCKh compares person by person, so leave it out")
    elif labelled:
        right = metric != "pck" or str(boxes) == GROUND_TRUTH
        _check(right, f"--boxes {boxes}: PCK compares person by person, so leave it out")
        table = table.select(table.keypoints[..., 2].any(axis=1))
    else:
        nobody = f"{annotations}: has pictures and no people"
        _check(str(boxes) != GROUND_TRUTH, f"{nobody}; add --boxes FILE or --boxes {DETECTOR}")
        _check(out is not None, f"{nobody}, so there are no figures, only results; add --out")
    people, source = people_of(estimator, table, boxes, box_threshold)
    people, keypoints = predict(estimator, table, people, PictureSource(images), progress)
    conditions: dict[str, Any] = {
        "boxes": source,
        "flip_test": estimator.flip_test,
        "refine": estimator.refine,
        "people": len(people),
        "pictures": len(table.image_ids) if str(boxes) == DETECTOR else len(people.by_picture()),
        "nms": nms,
    }
    if mpii:
        scores = None if truth is None else _pckh(keypoints, truth)
        return _finished(out, scores, conditions, keypoints)
    if labelled and (metric == "pck" or (metric == "auto" and _in_pixels(table, boxes))):
        distant = distances(keypoints, table.keypoints, table.boxes)
        ids, sure = table.image_ids[table.image_index], keypoints[..., 2].mean(axis=1)
        everybody = to_results(ids, keypoints, sure, table.category_id)
        return _finished(out, distant, conditions, everybody)
    results = thinned_results(estimator, table, people, keypoints, soft=nms == "soft")
    if not labelled:
        assert out is not None
        split = annotations.stem.removeprefix("image_info_")
        path = out / f"person_keypoints_{split}_hrpose_results.json"
        write_results(path, results)
        return Report(None, **conditions, files=(path,))
    figures = evaluate_keypoints(annotations, results, table.skeleton.sigmas)
    return _finished(out, figures, conditions, results)


def _check(right: bool, message: str) -> None:
    if not right:
        raise UserError(message)


def _is_mpii(table: PersonTable) -> bool:
    return table.skeleton.keypoints == MPII_16.keypoints


def _table(annotations: Path, estimator: PoseEstimator) -> tuple[PersonTable, bool]:
    """The people, MPII's unlabelled ones too, and whether the file has annotations at all."""
    skeleton = estimator.passport.skeleton
    pictures = load_pictures(annotations, skeleton)
    if pictures is not None:
        return pictures, False
    table = load_persons(annotations)
    if table.skeleton.keypoints != skeleton.keypoints:
        raise UserError(
            f"{annotations}: expected the keypoints of the weights "
            f"({', '.join(skeleton.keypoints)}), found {', '.join(table.skeleton.keypoints)}"
        )
    # MPII's predictions are one for each person, labelled or not.
    table = load_persons(annotations, unlabelled=True) if _is_mpii(table) else table
    # The weights may know more of the skeleton than a COCO file can say.
    return replace(table, skeleton=skeleton) if skeleton.has_sigmas else table, True


def _in_pixels(table: PersonTable, boxes: str | Path) -> bool:
    """Whether PCK says more than AP: there are no OKS constants."""
    return not table.skeleton.has_sigmas and str(boxes) == GROUND_TRUTH


def _truth(annotations: Path, table: PersonTable, metric: str) -> PckhTruth | None:
    """What PCKh compares with, or None for AP."""
    if metric in ("ap", "pck") or (metric == "auto" and not _is_mpii(table)):
        return None
    _check(_is_mpii(table), f"{annotations}: PCKh is for MPII's 16 keypoints, found others")
    truth = pckh_truth(annotations, table.annotation_ids)
    if truth is None and metric == "pckh":
        raise UserError(
            f"{annotations}: expected people with a 'head_box', found none; "
            "run 'hrpose data convert mpii' on a folder with gt_valid.mat"
        )
    return truth


def _pckh(keypoints: NDArray[np.float32], truth: PckhTruth) -> PCKhScores:
    """Of the people with a head box."""
    known = truth.known
    return pckh(
        keypoints[known], truth.points[known], truth.missing[known], truth.head_boxes[known]
    )


def thinned_results(
    estimator: PoseEstimator,
    table: PersonTable,
    people: People,
    keypoints: NDArray[np.float32],
    soft: bool = False,
) -> list[dict[str, Any]]:
    """COCO results of all the people, rescored and thinned by OKS-NMS. `keypoints` (n, k, 3)."""
    if len(people) == 0:
        return []
    return select_results(
        table.image_ids[people.picture],
        keypoints,
        people.scores,
        [estimator.passport.crop(box).area for box in people.boxes],
        sigmas=table.skeleton.sigmas,
        soft=soft,
        category_id=table.category_id,
    )


def _finished(
    out: Path | None,
    scores: Scores | None,
    conditions: dict[str, Any],
    found: list[dict[str, Any]] | NDArray[np.float32],
) -> Report:
    """Write what was found, COCO results or MPII predictions, and the figures."""
    if out is None:
        return Report(scores, **conditions)
    metrics = out / "metrics.json"
    name = "results.json" if isinstance(found, list) else "pred.mat"
    report = Report(scores, **conditions, files=(metrics, out / name))
    if isinstance(found, list):
        write_results(out / name, found)
    else:
        # The official code counts pixels from 1 here.
        write_mat(out / name, {"preds": found[:, :, :2].astype(np.float64) + 1})
    write_atomically(metrics, json.dumps(report.as_dict(), indent=2) + "\n")
    return report
