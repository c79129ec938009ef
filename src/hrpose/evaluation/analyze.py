"""`hrpose analyze`: why results have their AP, by kind of error, keypoint, size, score and box.

With images, example persons are shown: the lowest OKS, and the least expected scores.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import CocoAnnotations, read_results
from hrpose.data.images import ImageFiles, compare_sizes
from hrpose.data.persons import PersonTable
from hrpose.data.rules import note_lines
from hrpose.errors import UserError
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.calibrate import MIN_CALIBRATION_KEYPOINTS, measure
from hrpose.evaluation.error_analysis import (
    KINDS,
    MIN_OKS,
    UNMATCHED,
    Gain,
    KeypointErrors,
    Matches,
    PredictedPoses,
    Truth,
    gains,
    keypoint_errors,
    keypoint_gains,
    match,
    read_predicted,
    read_truth,
)
from hrpose.evaluation.predictions import BoxNoise, box_noise
from hrpose.geometry import Crop, box_around, transform, warp, xywh_to_xyxy
from hrpose.metadata import Calibration
from hrpose.metrics.calibration import (
    Coverage,
    Presence,
    PresenceReport,
    Reliability,
    fit_calibration,
    presence,
    reliability,
)
from hrpose.metrics.coco import (
    MAX_DETECTIONS,
    KeypointScores,
    crowded_images,
    evaluate_keypoints,
    precision_curves,
)
from hrpose.poses import Poses
from hrpose.viz import draw, overlay

# COCO's sizes of persons, by area in square pixels.
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}

# Examples of each kind, and the least number of labeled keypoints of one.
EXAMPLES, MIN_EXAMPLE_KEYPOINTS = 6, 6
# The image around an example, in pixels, and its size relative to the box.
TILE_WH = (240, 320)
PADDING = 1.4
# Heatmaps of an example: those of its worst keypoints.
HEATMAPS = 3
# Peaks a little beyond 0 and 1 are clipped to them; scores beyond these are no peaks of heatmaps.
LOWEST_PEAK, HIGHEST_PEAK = -0.5, 1.5

# Called with the current step in words, and the numbers of its finished parts and of all.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Counts:
    """`persons` and `poses` that the evaluation counts; `missed` persons without a pose;
    `background` poses without a person, of which `repeats` are on a person with a better-scored
    pose; `misordered` persons with a pose of a higher OKS than their own.
    """

    persons: int
    poses: int
    missed: int
    background: int
    repeats: int
    misordered: int


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the labeled keypoints of matched persons: their number, the share of each kind of
    error, and the mean keypoint similarity. `AP` is the one with all errors of these keypoints
    corrected, None where that was not measured.
    """

    keypoints: int
    shares: dict[str, float]
    similarity: float
    AP: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One person: `labeled` and `predicted` poses on the image, (320, 240, 3) uint8 each, and
    `heatmaps` of the worst keypoints where weights were given. `keypoints` has the names of the
    wrong keypoints by kind of error.
    """

    image: str
    annotation: int
    oks: float
    score: float
    keypoints: dict[str, list[str]]
    labeled: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    heatmaps: dict[str, NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, eq=False)
class ScoreReport:
    """Keypoint scores of the matched poses' labeled keypoints, `before` and `after` the
    calibration. `presence` is None where all keypoints are labeled.
    """

    calibration: Calibration
    before: Reliability
    after: Reliability
    presence: Presence | None


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """Everything the page shows. `curves` (10, 101) is precision by OKS threshold and recall,
    `oks` (m,) the greatest OKS to each counted person; `calibration` is the reason, in words, where
    scores cannot be calibrated. `noise` and `examples` are empty without weights and images, and
    `coverage`, that of the ellipses of all keypoints, of each and of each size, if the weights have
    no covariance; `present` is None if they tell no presence.
    `notes` are lines about odd annotations.
    """

    names: dict[str, str]
    scores: KeypointScores
    counts: Counts
    all_keypoints: Part
    keypoints: dict[str, Part]
    sizes: dict[str, Part]
    gains: list[Gain]
    curves: NDArray[np.float64]
    oks: NDArray[np.float64]
    calibration: ScoreReport | str
    noise: list[BoxNoise]
    coverage: dict[str, Coverage]
    present: PresenceReport | None
    examples: dict[str, list[Example]]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON: everything but the images."""
        report = self.calibration
        scores = report if isinstance(report, str) else {
            **asdict(report.calibration),
            "error_before": report.before.error,
            "error_after": report.after.error,
            "reliability": {
                "score": report.before.score.tolist(),
                "similarity": report.before.similarity.tolist(),
            },
            "presence": None if report.presence is None else asdict(report.presence),
        }  # fmt: skip
        return {
            **self.names,
            **self.scores.as_dict(),
            "notes": list(self.notes),
            "counts": asdict(self.counts),
            "all_keypoints": asdict(self.all_keypoints),
            "keypoints": {name: asdict(part) for name, part in self.keypoints.items()},
            "sizes": {name: asdict(part) for name, part in self.sizes.items()},
            "gains": [asdict(gain) for gain in self.gains],
            "precision": self.curves.round(4).tolist(),
            "calibration": scores,
            "box_noise": [asdict(point) for point in self.noise],
            "coverage": {name: part.as_dict() for name, part in self.coverage.items()},
            "presence": None if self.present is None else self.present.as_dict(),
            "examples": {
                name: [
                    {
                        "image": each.image,
                        "annotation": each.annotation,
                        "oks": each.oks,
                        "score": each.score,
                        "errors": each.keypoints,
                    }
                    for each in chosen
                ]
                for name, chosen in self.examples.items()
            },
        }


def analyze(
    results: Path,
    annotations: Path | CocoAnnotations,
    images: str | None = None,
    estimator: PoseEstimator | None = None,
    *,
    skeleton: Path | None = None,
    max_detections: int = MAX_DETECTIONS,
    progress: Progress = lambda what, done, total: None,
    notify: Callable[[str], None] | None = None,
) -> Analysis:
    """Analyze COCO results. With `images`, examples are shown; with an `estimator` as well, their
    heatmaps, and its AP under box noise. `skeleton` is a YAML file that completes the annotations'.
    Of each image the `max_detections` best poses count; `notify` is called with each note at once.

    Raises UserError where files do not fit the COCO format or each other.
    """
    truth = read_truth(annotations, skeleton, max_detections)
    sigmas, names = truth.table.skeleton.sigmas, truth.table.skeleton.keypoints
    if estimator is not None and estimator.metadata.skeleton.keypoints != names:
        raise UserError(
            f"--weights: expected the keypoints of the annotations ({', '.join(names)}), "
            f"found {', '.join(estimator.metadata.skeleton.keypoints)}",
            code="keypoints-differ",
        )
    if estimator is not None and images is None:
        raise UserError("--weights: needs the images; add --images", code="option-conflict")
    source = None if images is None else ImageFiles(images)
    if source is not None:
        table = truth.table
        compare_sizes(source, table.file_names, table.image_wh, truth.annotations.path)
    poses = read_results(results)
    crowded = crowded_images(truth.annotations, max_detections)
    notes = note_lines(truth.annotations.path, (*truth.annotations.notes, crowded))
    if notify is not None:
        for note in notes:
            notify(note)
    scores = evaluate_keypoints(truth.annotations, poses, sigmas, max_detections=max_detections)
    predicted = read_predicted(poses, truth)
    matches = match(truth, predicted)
    errors = keypoint_errors(truth, predicted, matches)

    def step(what: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(what, done, total)

    by_error = gains(truth, predicted, matches, errors, step("kinds of error"))
    by_keypoint = keypoint_gains(truth, predicted, matches, errors, step("keypoints"))
    every = np.ones(errors.kinds.shape, bool)
    area = truth.table.areas[matches.persons]
    covered: dict[str, Coverage] = {}
    noise, present = [], None
    if estimator is not None and source is not None:
        covered, present = _certainty(estimator, truth, source, step("ellipses"))
        noise = box_noise(estimator, truth.annotations, source, truth.table.skeleton, step("boxes"))
    examples = {}
    if source is not None:
        examples = {
            name: [
                draw_example(position, truth, predicted, matches, errors, source, estimator)
                for position in positions.tolist()
            ]
            for name, positions in choose_examples(predicted, matches, errors).items()
        }
    return Analysis(
        names={
            "results": str(results),
            "annotations": str(truth.annotations.path),
            "weights": "" if estimator is None else estimator.metadata.title,
        },
        scores=scores,
        counts=_counts(truth, predicted, matches),
        all_keypoints=_part(errors, every),
        keypoints={
            name: _part(errors, every & (np.arange(len(names)) == keypoint), by_keypoint[keypoint])
            for keypoint, name in enumerate(names)
        },
        sizes={
            name: _part(errors, every & ((area >= low) & (area < high))[:, None])
            for name, (low, high) in SIZES.items()
        },
        gains=by_error,
        curves=precision_curves(truth.annotations, poses, sigmas, max_detections),
        oks=matches.best_for[truth.counted],
        calibration=_calibration(predicted, matches, errors),
        noise=noise,
        coverage=covered,
        present=present,
        examples=examples,
        notes=notes,
    )


def _counts(truth: Truth, predicted: PredictedPoses, matches: Matches) -> Counts:
    background = matches.person == UNMATCHED
    own = matches.oks[matches.poses]
    return Counts(
        persons=int(truth.counted.sum()),
        poses=len(predicted),
        missed=len(matches.missed(truth)),
        background=int(background.sum()),
        repeats=int((matches.best_oks[background] >= MIN_OKS).sum()),
        misordered=int((matches.best_for[matches.persons] > own + 1e-9).sum()),
    )


def _part(errors: KeypointErrors, chosen: NDArray[np.bool_], ap: float | None = None) -> Part:
    labeled = chosen & (errors.kinds >= 0)
    count = int(labeled.sum())
    mean = errors.similarities[labeled].sum() / max(count, 1)
    return Part(count, errors.shares(chosen), float(mean), ap)


def _calibration(
    predicted: PredictedPoses, matches: Matches, errors: KeypointErrors
) -> ScoreReport | str:
    """The calibration of the keypoint scores, or the reason why there is none."""
    scores, labeled = predicted.keypoints[matches.poses, :, 2], errors.kinds >= 0
    if labeled.sum() < MIN_CALIBRATION_KEYPOINTS:
        return (
            f"calibration: expected at least {MIN_CALIBRATION_KEYPOINTS} labeled keypoints of "
            f"matched persons, found {labeled.sum()}"
        )
    if scores.min() < LOWEST_PEAK or scores.max() > HIGHEST_PEAK:
        return (
            f"calibration: expected keypoint scores in [0, 1], found {scores.min():g} to "
            f"{scores.max():g}"
        )
    scores = np.clip(scores, 0, 1)
    own, similarities = scores[labeled], errors.similarities[labeled]
    calibration = fit_calibration(own, similarities)
    return ScoreReport(
        calibration,
        reliability(own, similarities),
        reliability(calibration(own), similarities),
        None if labeled.all() else presence(own, scores[~labeled]),
    )


def _certainty(
    estimator: PoseEstimator, truth: Truth, source: ImageFiles, progress: Callable[[int, int], None]
) -> tuple[dict[str, Coverage], PresenceReport | None]:
    """Coverage of all labels, each keypoint and each size of person, and presence, in their boxes.

    Without a covariance and a presence the network is not run.
    """
    metadata, keypoints = estimator.metadata, np.arange(len(truth.table.skeleton))
    if metadata.covariance is None and metadata.presence is None:
        return {}, None
    persons = replace(truth.annotations.persons(), skeleton=truth.table.skeleton)
    measured = measure(estimator, persons, source, progress)
    every = np.ones(measured.labeled.shape, np.bool_)
    parts = {"all": every}
    parts |= {name: every & (keypoints == j) for j, name in enumerate(persons.skeleton.keypoints)}
    for name, (low, high) in SIZES.items():
        parts[name] = every & ((measured.areas >= low) & (measured.areas < high))[:, None]
    found = {name: measured.coverage(metadata, chosen) for name, chosen in parts.items()}
    covered = {name: part for name, part in found.items() if part is not None}
    return covered, measured.presence(metadata)


def choose_examples(
    predicted: PredictedPoses, matches: Matches, errors: KeypointErrors
) -> dict[str, NDArray[np.int64]]:
    """Positions among the matched poses, up to six of each: "worst" of the lowest OKS, "overrated"
    and "underrated" of a score whose rank is farthest above and below the rank of the OKS.
    """
    oks, scores = matches.oks[matches.poses], predicted.scores[matches.poses]
    enough = np.flatnonzero((errors.kinds >= 0).sum(axis=1) >= MIN_EXAMPLE_KEYPOINTS)
    ranks = [np.argsort(np.argsort(values[enough], kind="stable")) for values in (scores, oks)]
    excess = ranks[0] - ranks[1]
    order = {
        "worst": np.argsort(oks[enough], kind="stable"),
        "overrated": np.argsort(-excess, kind="stable"),
        "underrated": np.argsort(excess, kind="stable"),
    }
    return {name: enough[each[:EXAMPLES]] for name, each in order.items()}


def draw_example(
    position: int,
    truth: Truth,
    predicted: PredictedPoses,
    matches: Matches,
    errors: KeypointErrors,
    source: ImageFiles,
    estimator: PoseEstimator | None,
) -> Example:
    """Draw the matched pose at `position`. Raises UserError where its image cannot be read."""
    table, names = truth.table, truth.table.skeleton.keypoints
    pose, person = matches.poses[position], matches.persons[position]
    image = source.read(table.image_name(person))
    labels = table.keypoints[person].astype(np.float64)
    labels[:, 2] = labels[:, 2] > 0
    # Only labeled keypoints can be right or wrong.
    points = np.concatenate([predicted.keypoints[pose, :, :2], labels[:, 2:]], axis=1)
    labeled, found = person_tiles(image, table, int(person), labels, points)
    kinds = errors.kinds[position]
    wrong = {
        kind.name.lower(): [names[j] for j in np.flatnonzero(kinds == kind)]
        for kind in KINDS[1:]
        if (kinds == kind).any()
    }
    return Example(
        image=table.image_name(person),
        annotation=int(table.annotation_ids[person]),
        oks=float(matches.oks[pose]),
        score=float(predicted.scores[pose]),
        keypoints=wrong,
        labeled=labeled,
        predicted=found,
        heatmaps=_heatmaps(estimator, image, table.boxes[person], errors, position),
    )


def person_tiles(
    image: NDArray[np.uint8], table: PersonTable, person: int, *drawn: NDArray[np.float64]
) -> list[NDArray[np.uint8]]:
    """The image around a person, (320, 240, 3), with each `drawn` (k, 3); scores from 0.5 on."""
    labels = table.keypoints[person].astype(np.float64)
    corners = xywh_to_xyxy(table.boxes[person]).reshape(2, 2)
    x, y, w, h = box_around(np.concatenate([labels[labels[:, 2] > 0, :2], corners]))
    crop = Crop.from_box([x, y, max(w, 1), max(h, 1)], TILE_WH, PADDING)
    tiles, tile = [], warp(image, crop)
    box = np.array([[0, 0, *TILE_WH]], np.float32)
    for each in drawn:
        placed = np.concatenate([transform(each[:, :2], crop.matrix), each[:, 2:]], axis=1)[None]
        poses = Poses(placed.astype(np.float32), box, np.ones(1, np.float32), table.skeleton)
        tiles.append(draw(tile, poses, threshold=0.5))
    return tiles


def _heatmaps(
    estimator: PoseEstimator | None,
    image: NDArray[np.uint8],
    box: NDArray[np.float64],
    errors: KeypointErrors,
    position: int,
) -> dict[str, NDArray[np.uint8]]:
    """The heatmaps of the worst keypoints, over the crop of the labeled box."""
    if estimator is None:
        return {}
    metadata = estimator.metadata
    crop = warp(image, metadata.crop(box))
    heatmaps = estimator.heatmaps(crop[None])[0]
    similarities = np.where(errors.kinds[position] >= 0, errors.similarities[position], np.inf)
    worst = np.argsort(similarities, kind="stable")[:HEATMAPS]
    strides = metadata.codec.strides(metadata.heatmap_wh)
    names = metadata.skeleton.keypoints
    return {names[j]: overlay(crop, heatmaps[j], strides, 2) for j in worst}
