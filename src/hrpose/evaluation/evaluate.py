"""How good predictions are: one rule for the metric, one way to measure it.

`hrpose evaluate` calls `evaluate`; the validation of a training predicts by itself and calls the
same `Evaluator`, so that the numbers in its log are those of `hrpose evaluate` with the same boxes.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hrpose.data.coco import CocoAnnotations, read_annotations
from hrpose.data.formats.mpii import PckhTruth, pckh_truth
from hrpose.data.images import ImageFiles
from hrpose.data.matlab import write_mat
from hrpose.data.persons import PersonTable
from hrpose.errors import UserError
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.predictions import (
    DETECTOR,
    GROUND_TRUTH,
    Predictions,
    Progress,
    instances_of,
    predict,
)
from hrpose.io import write_atomically
from hrpose.metrics.coco import evaluate_keypoints, select_results, to_results, write_results
from hrpose.metrics.pck import distances
from hrpose.metrics.pckh import pckh
from hrpose.poses import rescore
from hrpose.skeleton import Skeleton
from hrpose.skeletons import MPII_16

# What may be asked for, and the metric by which weights are then compared.
PRIMARY = {"AP": "AP", "PCKh": "PCKh", "PCK": "PCK@0.1", "NME": "NME", "EPE": "EPE"}
METRICS = ("auto", *PRIMARY)
NMS = ("hard", "soft")
# Where less is better: distances.
FALLING = ("NME", "EPE")
# In percent; the other metrics are shares in [0, 1], and EPE is in pixels.
PERCENT = ("PCKh", "PCK@0.1", "NME")


@dataclass(frozen=True, slots=True)
class Report:
    """The metrics of weights on a data set, and under which conditions they came about.

    `metrics` are all that were measured, by name: AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM and
    ARL in [0, 1], -1 where no person of that size is labeled; or PCKh, PCKh@0.1 and those of
    MPII's keypoints in percent; and PCK@0.2, PCK@0.1 and NME in percent with EPE in pixels, where
    predictions and persons go in pairs. NaN where nothing is labeled. `primary` is the name of the
    one by which weights are compared. Images without labels have neither. `files` are those that
    were written.
    """

    metrics: Mapping[str, float]
    primary: str | None
    boxes: str
    flip_test: bool
    refine: bool
    persons: int
    images: int
    nms: str = "hard"
    files: tuple[Path, ...] = ()

    @property
    def value(self) -> float:
        """The primary metric. Raises UserError where the images have no labels."""
        if self.primary is None:
            raise UserError("evaluation: expected labeled persons to compare with, found none")
        return self.metrics[self.primary]

    def as_dict(self) -> dict[str, Any]:
        """What `metrics.json` holds: the metrics at its top level, then the conditions."""
        return {
            # A keypoint that nobody has labeled has no metric, and JSON no NaN.
            **{name: None if math.isnan(v) else v for name, v in self.metrics.items()},
            "boxes": self.boxes,
            "flip_test": self.flip_test,
            "refine": self.refine,
            **({"nms": self.nms} if self.primary in ("AP", None) else {}),
            "persons": self.persons,
            "images": self.images,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Evaluator:
    """Compares predictions with the labels in `annotations`, whose persons are `table`.

    `metric` is one of `PRIMARY`, `heads` what PCKh compares with. `paired` where prediction i is
    that of person i of the table, as with the labeled boxes: PCKh and the distances need that.
    """

    annotations: CocoAnnotations
    table: PersonTable
    metric: str
    heads: PckhTruth | None = None
    paired: bool = True

    @classmethod
    def choose(
        cls,
        annotations: CocoAnnotations,
        table: PersonTable,
        metric: str = "auto",
        paired: bool = True,
    ) -> "Evaluator":
        """With the metric that is asked for, one of `METRICS`.

        "auto" is PCKh where the persons have MPII's keypoints and head boxes, PCK where the
        skeleton has no OKS constants and predictions are `paired`, else AP. Raises UserError where
        the data do not allow the metric.
        """
        _check(metric in METRICS, f"metric: expected one of {', '.join(METRICS)}, found '{metric}'")
        heads = None
        if metric == "PCKh" or (metric == "auto" and is_mpii(table.skeleton)):
            heads = _heads(annotations, table, required=metric == "PCKh")
        if metric == "auto" and heads is not None:
            metric = "PCKh"
        elif metric == "auto":
            metric = "PCK" if paired and not table.skeleton.has_sigmas else "AP"
        by_pairs = f"--boxes: {metric} compares person by person, expected {GROUND_TRUTH}"
        _check(paired or metric == "AP", by_pairs, "options-conflict")
        return cls(annotations, table, metric, heads, paired)

    @property
    def primary(self) -> str:
        """The name of the metric by which weights are compared."""
        return PRIMARY[self.metric]

    @property
    def more_is_better(self) -> bool:
        """False of metrics that are distances."""
        return self.primary not in FALLING

    def results(self, predictions: Predictions, nms: str = "hard") -> list[dict[str, Any]]:
        """COCO results: for AP rescored and thinned by `nms`, else one for each person."""
        if self.metric == "AP":
            return thinned_results(self.table, predictions, nms)
        ids = self.table.image_ids[predictions.instances.image_index]
        scores = rescore(predictions.keypoints, predictions.instances.box_scores)
        return to_results(ids, predictions.keypoints, scores, self.table.category_id)

    def metrics(
        self, predictions: Predictions, results: list[dict[str, Any]] | None = None
    ) -> dict[str, float]:
        """All metrics by name, the primary one among them.

        `results` are those of `results`, where they were made before. Raises ValueError where
        predictions that should be paired with the persons are not.
        """
        measured: dict[str, float] = {}
        if self.metric == "AP":
            found = self.results(predictions) if results is None else results
            sigmas = self.table.skeleton.sigmas
            measured |= evaluate_keypoints(self.annotations, found, sigmas).as_dict()
        if not self.paired:
            return measured
        if not np.array_equal(predictions.instances.image_index, self.table.image_index):
            raise ValueError(
                f"predictions: expected one for each of {len(self.table)} persons, in their order, "
                f"found {len(predictions)}"
            )
        if self.heads is not None:
            heads, known = self.heads, self.heads.known
            measured |= pckh(
                predictions.keypoints[known],
                heads.points[known],
                heads.missing[known],
                heads.head_boxes[known],
            ).as_dict()
        away = distances(predictions.keypoints, self.table.keypoints, self.table.boxes)
        return measured | away.as_dict()


def thinned_results(
    table: PersonTable, predictions: Predictions, nms: str = "hard"
) -> list[dict[str, Any]]:
    """COCO results, rescored and thinned by "hard" or "soft" OKS-NMS at 0.9."""
    if len(predictions) == 0:
        return []
    return select_results(
        table.image_ids[predictions.instances.image_index],
        predictions.keypoints,
        predictions.instances.box_scores,
        predictions.crop_areas,
        sigmas=table.skeleton.sigmas,
        soft=nms == "soft",
        category_id=table.category_id,
    )


def is_mpii(skeleton: Skeleton) -> bool:
    """Whether the keypoints are the 16 that PCKh is defined for."""
    return skeleton.keypoints == MPII_16.keypoints


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
    """COCO's ten metrics, MPII's PCKh (paper, sections 4.1 and 4.2, "Testing"), or PCK.

    `images` is a folder, `images.zip` or `images.zip@/folder`. `boxes` is "ground-truth",
    "detector" (the estimator's own, on every image) or a COCO detections file, of which boxes
    scored below `box_threshold` are left out; it is part of the report, for metrics with different
    boxes must not be compared. `metric` is "AP", "PCKh", "PCK", "NME", "EPE" or "auto", see
    `Evaluator.choose`.

    - AP: poses are rescored (the box's score times the mean of the keypoint scores above 0.2) and
      thinned by hard or soft OKS-NMS at 0.9. With `out`, writes `metrics.json` and `results.json`.
    - PCK, NME, EPE: every person has one pose. With `out`, as AP, nobody thinned out.
    - PCKh: every person has one pose. With `out`, writes `metrics.json` and `pred.mat`.
    - Images without annotations (COCO's test sets): writes the results file that COCO's server
      takes, and there are no metrics. MPII's test set gives `pred.mat`.

    `progress` is called with the number of finished images and of all. Raises UserError where files
    do not fit.
    """
    _check(metric in METRICS, f"metric: expected one of {', '.join(METRICS)}, found '{metric}'")
    _check(nms in NMS, f"nms: expected one of {', '.join(NMS)}, found '{nms}'")
    paired = str(boxes) == GROUND_TRUTH
    parsed = read_annotations(annotations)
    table, labeled = _table(parsed, estimator)
    # MPII's test set has persons without labels: predictions, and no metrics.
    unlabeled_mpii = labeled and is_mpii(table.skeleton) and not table.keypoints.any()
    evaluator = None
    if not labeled:
        nobody = f"{annotations}: has images and no people"
        _check(not paired, f"{nobody}; add --boxes FILE or --boxes {DETECTOR}")
        _check(out is not None, f"{nobody}, so there are no figures, only results; add --out")
    elif unlabeled_mpii:
        by_pairs = f"--boxes: PCKh compares person by person, expected {GROUND_TRUTH}"
        _check(paired, by_pairs, "options-conflict")
    else:
        evaluator = Evaluator.choose(parsed, table, metric, paired)
        if evaluator.metric != "PCKh":
            table = table.select(table.keypoints[..., 2].any(axis=1))
            evaluator = replace(evaluator, table=table)
    instances, source = instances_of(estimator, table, boxes, box_threshold)
    predictions = predict(estimator, table, instances, ImageFiles(images), progress)
    found = predictions.instances
    report = Report(
        metrics={},
        primary=None if evaluator is None else evaluator.primary,
        boxes=source,
        flip_test=estimator.flip_test,
        refine=estimator.refine,
        persons=len(predictions),
        images=len(table.image_ids) if str(boxes) == DETECTOR else len(found.by_image()),
        nms=nms,
    )
    if not labeled:
        assert out is not None
        split = annotations.stem.removeprefix("image_info_")
        path = out / f"person_keypoints_{split}_hrpose_results.json"
        write_results(path, thinned_results(table, predictions, nms))
        return replace(report, files=(path,))
    results = None
    if evaluator is not None:
        if evaluator.metric != "PCKh":
            results = evaluator.results(predictions, nms)
        report = replace(report, metrics=evaluator.metrics(predictions, results))
    if out is None:
        return report
    if results is None:
        path = out / "pred.mat"
        # The official code counts pixels from 1 here.
        write_mat(path, {"preds": predictions.keypoints[:, :, :2].astype(np.float64) + 1})
    else:
        path = out / "results.json"
        write_results(path, results)
    report = replace(report, files=(out / "metrics.json", path))
    write_atomically(out / "metrics.json", json.dumps(report.as_dict(), indent=2) + "\n")
    return report


def _check(right: bool, message: str, code: str = "bad-input") -> None:
    if not right:
        raise UserError(message, code)


def _table(annotations: CocoAnnotations, estimator: PoseEstimator) -> tuple[PersonTable, bool]:
    """The people, MPII's unlabeled ones too, and whether the file has annotations at all."""
    skeleton = estimator.metadata.skeleton
    images = annotations.test_images(skeleton)
    if images is not None:
        return images, False
    # MPII's predictions are one for each person, labeled or not.
    table = annotations.persons(unlabeled=is_mpii(annotations.skeleton))
    if table.skeleton.keypoints != skeleton.keypoints:
        raise UserError(
            f"{annotations.path}: expected the keypoints of the weights "
            f"({', '.join(skeleton.keypoints)}), found {', '.join(table.skeleton.keypoints)}"
        )
    # The weights may know more of the skeleton than a COCO file can say.
    return replace(table, skeleton=skeleton) if skeleton.has_sigmas else table, True


def _heads(annotations: CocoAnnotations, table: PersonTable, required: bool) -> PckhTruth | None:
    """What PCKh compares with. Raises UserError where it is `required` and not there."""
    if not is_mpii(table.skeleton):
        raise UserError(
            f"{annotations.path}: PCKh is for MPII's 16 keypoints, found others",
            "metric-unavailable",
        )
    truth = pckh_truth(annotations, table.annotation_ids)
    if truth is None and required:
        raise UserError(
            f"{annotations.path}: expected people with a 'head_box', found none; "
            "run 'hrpose data convert mpii' on a folder with gt_valid.mat",
            "metric-unavailable",
        )
    return truth
