"""Evaluation of pose models on a data set.

`hrpose evaluate` calls `evaluate`; the validation of a training makes its own predictions and calls
the same `Evaluator`, so that its log has the numbers of `hrpose evaluate` with the same boxes.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hrpose.data.coco import CocoAnnotations, CocoResults, read_annotations, read_results
from hrpose.data.formats.matlab import write_mat
from hrpose.data.formats.mpii import PckhTruth, heads_of, is_mpii
from hrpose.data.images import ImageFiles, compare_sizes
from hrpose.data.persons import PersonTable
from hrpose.data.rules import NUM_KEYPOINTS, Note, note_lines
from hrpose.errors import UserError
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.predictions import (
    DETECTOR,
    GROUND_TRUTH,
    Predictions,
    Progress,
    ground_truth,
    instances_of,
    predict,
    ranked_results,
    with_tracks,
)
from hrpose.io import write_atomically
from hrpose.metrics.benchmarks import (
    BENCHMARKS,
    check_benchmark,
    has_parts,
    joined_results,
    recognize,
    whole_body,
)
from hrpose.metrics.coco import (
    MAX_DETECTIONS,
    Poses,
    crowded_images,
    evaluate_keypoints,
    notes_of_results,
    to_results,
    write_results,
)
from hrpose.metrics.pck import distances, pckh
from hrpose.poses import rescore
from hrpose.skeleton import spelled_alike
from hrpose.skeletons import WHOLEBODY_133

# The choices of a metric, and the one number by which weights are then compared.
PRIMARY = {
    **{"AP": "AP", "PCKh": "PCKh", "PCK": "PCK@0.1", "NME": "NME", "EPE": "EPE"},
    **dict.fromkeys(BENCHMARKS, "AP"),
}
METRICS = ("auto", *PRIMARY)
# Those of ranked results, for which predictions need not be one for each person.
RANKED = ("AP", *BENCHMARKS)
NMS = ("hard", "soft")
# Distances, where less is better.
FALLING = ("NME", "EPE")


@dataclass(frozen=True, slots=True)
class Report:
    """The metrics of weights on a data set, and the conditions under which they were measured.

    `metrics` by name: AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM and ARL in [0, 1], -1 where no
    person of that size is labeled; or PCKh, PCKh@0.1 and those of MPII's joints in percent; and,
    where there is one prediction for each person, PCK@0.2, PCK@0.1 and NME in percent and EPE in
    pixels. NaN where nothing is labeled. `primary` is the name of the metric by which weights are
    compared. Images without labels have neither. `notes` are lines about odd annotations, `files`
    are those that were written, `engine` is what ran the networks. `metric` is the one of `METRICS`
    that was measured.
    """

    metrics: Mapping[str, float]
    primary: str | None
    boxes: str
    flip_test: bool
    refine: bool
    persons: int
    images: int
    nms: str = "hard"
    max_detections: int = MAX_DETECTIONS
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    engine: str = ""
    metric: str = ""

    @property
    def value(self) -> float:
        """The primary metric. Raises UserError where the images have no labels."""
        if self.primary is None:
            raise UserError(
                "evaluation: expected labeled persons to compare with, found none",
                code="labels-missing",
            )
        return self.metrics[self.primary]

    def as_dict(self) -> dict[str, Any]:
        """The content of `metrics.json`: the metrics at its top level, then the conditions."""
        return {
            # Metrics of keypoints without labels are NaN, which JSON does not have.
            **{name: None if math.isnan(v) else v for name, v in self.metrics.items()},
            **({"benchmark": self.metric} if self.metric in BENCHMARKS else {}),
            "boxes": self.boxes,
            "flip_test": self.flip_test,
            "engine": self.engine,
            "refine": self.refine,
            **({"nms": self.nms} if self.primary in ("AP", None) else {}),
            **({"max_detections": self.max_detections} if self.primary == "AP" else {}),
            "persons": self.persons,
            "images": self.images,
            **({"notes": list(self.notes)} if self.notes else {}),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Evaluator:
    """Compares predictions with the labels in `annotations`, whose persons are `table`.

    `metric` is one of `PRIMARY`, `heads` the labels of PCKh. `paired` where prediction i is that of
    person i of the table, as with ground-truth boxes: PCKh and the distances need that. For AP, the
    `max_detections` poses of an image with the best scores count.
    """

    annotations: CocoAnnotations
    table: PersonTable
    metric: str
    heads: PckhTruth | None = None
    paired: bool = True
    max_detections: int = MAX_DETECTIONS

    @classmethod
    def choose(
        cls,
        annotations: CocoAnnotations,
        table: PersonTable,
        metric: str = "auto",
        paired: bool = True,
        max_detections: int = MAX_DETECTIONS,
    ) -> "Evaluator":
        """The evaluator of a `metric`, one of `METRICS`.

        "auto" is the benchmark that the annotations are of, PCKh where the persons have MPII's
        keypoints and head boxes, PCK where the skeleton has no OKS sigmas and predictions are
        `paired`, else AP. Raises UserError where the metric cannot be measured on these data.
        """
        _check_choice("metric", metric, METRICS)
        if not table.keypoints[..., 2].any():
            reasons = "; ".join(("no metric can be computed", *map(str, table.notes)))
            raise UserError(
                f"{annotations.path}: expected labeled keypoints, found none: {reasons}",
                code="labels-missing",
            )
        heads = None
        if metric == "PCKh" or (metric == "auto" and is_mpii(table.skeleton)):
            heads = heads_of(annotations, table, required=metric == "PCKh")
        if metric == "auto" and heads is not None:
            metric = "PCKh"
        elif metric == "auto":
            plain = "PCK" if paired and not table.skeleton.has_sigmas else "AP"
            metric = recognize(annotations) or plain
        elif metric in BENCHMARKS:
            check_benchmark(metric, annotations)
        if not paired and metric not in RANKED:
            raise _needs_pairs(metric)
        return cls(annotations, table, metric, heads, paired, max_detections)

    @property
    def primary(self) -> str:
        """The name of the metric by which weights are compared."""
        return PRIMARY[self.metric]

    @property
    def more_is_better(self) -> bool:
        """Whether a greater primary metric is a better one; not so with distances."""
        return self.primary not in FALLING

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was repaired or left out. CrowdPose counts visible keypoints, as its files do."""
        counted = self.metric == "CrowdPose"
        return tuple(n for n in self.table.notes if not (counted and n.kind is NUM_KEYPOINTS))

    def rehearse(self) -> None:
        """Measure the labels themselves, before work is spent on predictions.

        Raises UserError where the annotations lack what the metric needs, or it has no value.
        """
        table = self.table
        areas = table.boxes[:, 2:].prod(axis=1)
        labels = Predictions(ground_truth(table), table.keypoints, areas)
        self.check_value(self.metrics(labels))

    def check_value(self, measured: Mapping[str, float]) -> None:
        """Raises UserError where the primary metric has no value, for which COCO writes -1."""
        value = measured[self.primary]
        if math.isnan(value) or value < 0:
            raise UserError(
                f"{self.annotations.path}: {self.primary} cannot be computed: expected persons "
                f"with labeled keypoints that count, found none among {len(self.table)}; crowds, "
                "and keypoints with v = 0, do not count",
                code="metric-unavailable",
            )

    def results(self, predictions: Predictions, nms: str = "hard") -> list[dict[str, Any]]:
        """COCO results: for AP rescored and after `nms`, else one for each person. Those of
        PoseTrack18 have tracks.
        """
        if self.metric in RANKED:
            found = ranked_results(self.table, predictions, nms, self.max_detections)
            tracked = self.metric == "PoseTrack18"
            return with_tracks(self.annotations, found, self.table.skeleton) if tracked else found
        ids = self.table.image_ids[predictions.instances.image_index]
        scores = rescore(predictions.keypoints, predictions.instances.box_scores)
        return to_results(ids, predictions.keypoints, scores, self.table.category_id)

    def ranked(self, results: Poses) -> dict[str, float]:
        """The metrics of ranked results."""
        most = self.max_detections
        if self.metric in BENCHMARKS:
            return BENCHMARKS[self.metric].measure(self.annotations, results, most)
        sigmas = self.table.skeleton.sigmas
        return evaluate_keypoints(self.annotations, results, sigmas, None, most).as_dict()

    def metrics(
        self, predictions: Predictions, results: list[dict[str, Any]] | None = None
    ) -> dict[str, float]:
        """All metrics by name, the primary one among them.

        `results` are those of `self.results`, if made before. Raises ValueError where the evaluator
        is `paired` and there is not one prediction for each person.
        """
        measured: dict[str, float] = {}
        if self.metric in RANKED:
            results = self.results(predictions) if results is None else results
            measured |= self.ranked(results)
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


def evaluate(
    estimator: PoseEstimator,
    annotations: Path | CocoAnnotations,
    images: str | Path,
    boxes: str | Path = GROUND_TRUTH,
    out: Path | None = None,
    *,
    box_threshold: float = 0.0,
    nms: str = "hard",
    metric: str = "auto",
    max_detections: int = MAX_DETECTIONS,
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
) -> Report:
    """Measure a pose model: COCO's ten metrics, MPII's PCKh (paper, sections 4.1 and 4.2), or PCK.

    `images` is a folder, `images.zip` or `images.zip@/folder`. `boxes` is "ground-truth",
    "detector" (the estimator's own, on every image) or a COCO detections file, of which boxes
    scored below `box_threshold` are left out. Metrics with different boxes must not be compared, so
    the report says which. `metric` is "AP", "PCKh", "PCK", "NME", "EPE", a benchmark or "auto", see
    `Evaluator.choose`.

    - AP: poses are rescored (the box's score times the mean of the keypoint scores above 0.2),
      then comes hard or soft OKS-NMS at 0.9, and the `max_detections` best of each image count.
      Writes `metrics.json` and `results.json` to `out`.
    - PCK, NME, EPE: one pose for each person, without NMS. Writes the same files.
    - PCKh: one pose for each person. Writes `metrics.json` and `pred.mat`.
    - Images without annotations (COCO's test sets): no metrics; writes the results file that COCO's
      server takes. MPII's test set gives `pred.mat`.

    Without `out` nothing is written. `progress` is called with the number of finished images and
    of all, `notify` with each note before the work. Raises UserError where files, or the sizes of
    images and annotations, do not fit.
    """
    _check_choice("metric", metric, METRICS)
    _check_choice("nms", nms, NMS)
    paired = str(boxes) == GROUND_TRUTH
    parsed = read_annotations(annotations)
    whole = estimator.metadata.skeleton.keypoints == WHOLEBODY_133.keypoints
    if whole and "annotations" in parsed.document and has_parts(parsed):
        parsed = whole_body(parsed)
    table, labeled = _table(parsed, estimator)
    # MPII's test set has persons without labels: there are predictions, but no metrics.
    unlabeled_mpii = labeled and is_mpii(table.skeleton) and not table.keypoints.any()
    evaluator = None
    if not labeled:
        if paired or out is None:
            option = f"--boxes FILE or --boxes {DETECTOR}" if paired else "--out for the results"
            raise UserError(
                f"{parsed.path}: has images without annotated persons; add {option}",
                code="option-missing",
            )
    elif unlabeled_mpii:
        if not paired:
            raise _needs_pairs("PCKh")
    else:
        evaluator = Evaluator.choose(parsed, table, metric, paired, max_detections)
        if evaluator.metric != "PCKh":
            table = table.select(table.keypoints[..., 2].any(axis=1))
            evaluator = replace(evaluator, table=table)
    instances, source = instances_of(estimator, table, boxes, box_threshold)
    files = ImageFiles(images)
    compare_sizes(files, table.file_names, table.image_wh, parsed.path)
    notes = note_lines(parsed.path, table.notes if evaluator is None else evaluator.notes)
    if evaluator is not None and evaluator.metric in RANKED:
        notes += note_lines(parsed.path, [crowded_images(parsed, max_detections)])
    if notify is not None:
        for note in notes:
            notify(note)
    predictions = predict(estimator, table, instances, files, progress)
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
        max_detections=max_detections,
        notes=notes,
        engine=estimator.engine,
        metric="" if evaluator is None else evaluator.metric,
    )
    if not labeled:
        assert out is not None
        split = parsed.path.stem.removeprefix("image_info_")
        path = out / f"person_keypoints_{split}_hrpose_results.json"
        write_results(path, ranked_results(table, predictions, nms, max_detections))
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
    return _written(replace(report, files=(out / "metrics.json", path)))


def evaluate_results(
    annotations: Path | CocoAnnotations,
    results: Path,
    metric: str = "auto",
    max_detections: int = MAX_DETECTIONS,
    out: Path | None = None,
    notify: Callable[[str], None] | None = None,
) -> Report:
    """Measure results of any model: a COCO results file, with one entry for each pose.

    `metric` is "AP", a benchmark or "auto"; the other arguments are those of `evaluate`. Results of
    COCO-WholeBody may have feet, face and hands in lists of their own. Writes `metrics.json` to
    `out`. Raises UserError where the files do not fit each other or the metric.
    """
    _check_choice("metric", metric, ("auto", *RANKED))
    parsed = read_annotations(annotations, sized=False)
    parsed, poses = joined_results(parsed, results, read_results(results).entries)
    table = parsed.table(parsed.instances(crowds=False).columns)
    evaluator = Evaluator.choose(parsed, table, metric, False, max_detections)
    notes = note_lines(parsed.path, [*evaluator.notes, crowded_images(parsed, max_detections)])
    notes += notes_of_results(parsed, results, poses)
    if notify is not None:
        for note in notes:
            notify(note)
    report = Report(
        metrics=evaluator.ranked(CocoResults(results, poses)),
        primary=evaluator.primary,
        boxes=f"results: {results}",
        flip_test=False,
        refine=False,
        persons=len(poses),
        images=len({pose.get("image_id") for pose in poses}),
        nms="none",
        max_detections=max_detections,
        notes=notes,
        metric=evaluator.metric,
    )
    return report if out is None else _written(replace(report, files=(out / "metrics.json",)))


def _written(report: Report) -> Report:
    """The report, after the first of its files, its metrics, has been written."""
    write_atomically(report.files[0], json.dumps(report.as_dict(), indent=2) + "\n")
    return report


def _check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UserError(
            f"{option}: expected one of {', '.join(choices)}, found '{value}'",
            code="option-invalid",
        )


def _needs_pairs(metric: str) -> UserError:
    return UserError(
        f"--boxes: {metric} needs one prediction for each person; expected {GROUND_TRUTH}",
        code="option-conflict",
    )


def _table(annotations: CocoAnnotations, estimator: PoseEstimator) -> tuple[PersonTable, bool]:
    """The persons, MPII's unlabeled ones too, and whether the file has annotations at all."""
    skeleton = estimator.skeleton
    images = annotations.test_images(skeleton)
    if images is not None:
        return images, False
    # MPII's predictions are one for each person, labeled or not.
    table = annotations.persons(unlabeled=is_mpii(annotations.skeleton))
    if not spelled_alike(table.skeleton.keypoints, skeleton.keypoints):
        raise UserError(
            f"{annotations.path}: expected the keypoints of the weights "
            f"({', '.join(skeleton.keypoints)}), found {', '.join(table.skeleton.keypoints)}",
            code="keypoints-differ",
        )
    # The weights may carry more of the skeleton than a COCO file can.
    return replace(table, skeleton=skeleton) if skeleton.has_sigmas else table, True
