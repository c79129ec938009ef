"""`hrpose analyze`: results and annotations in; what the AP is made of, out.

Persons worth seeing go with it: the worst found, and those whose score surprises.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import read_results
from hrpose.data.images import ImageFiles
from hrpose.errors import UserError
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.box_noise import BoxNoise, box_noise
from hrpose.evaluation.calibration import Scores, examine
from hrpose.evaluation.error_analysis import (
    LEAST_OKS,
    NOBODY,
    Found,
    Gain,
    KeypointErrors,
    Kind,
    Matches,
    Truth,
    gains,
    keypoint_errors,
    keypoint_gains,
    match,
    read_found,
    read_truth,
)
from hrpose.geometry import Crop, box_around, transform, warp, xywh_to_xyxy
from hrpose.metrics.coco import KeypointScores, evaluate_keypoints, precision_curves
from hrpose.poses import Poses
from hrpose.viz import draw, overlay

# COCO's sizes of people, by area in square pixels.
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}

# Examples of each kind, of persons with so many labeled keypoints: fewer say little about a pose.
EXAMPLES, FEWEST_KEYPOINTS = 6, 6
# In pixels; what is shown around a person, and how far beyond the box.
TILE_WH = (240, 320)
PADDING = 1.4
# Of the keypoints that are most wrong, so many heatmaps.
HEATMAPS = 3

# Told what is being done, and how many of how many steps are done.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Counts:
    """`persons` that the evaluation counts and `poses` it looks at; `missed` people for whom no
    pose is meant; `background` poses that are meant for nobody, of which `repeats` lie on a person
    who has a better-scored pose; `misordered` people with a pose of a higher OKS than their own.
    """

    persons: int
    poses: int
    missed: int
    background: int
    repeats: int
    misordered: int


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the labeled keypoints of matched people: their number, the share of each kind of
    error in it, and the mean keypoint similarity. `AP` is the one with all errors of these
    keypoints mended, None where that was not measured.
    """

    keypoints: int
    shares: dict[str, float]
    similarity: float
    AP: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One person: `labeled` and `found` poses on the image, (320, 240, 3) uint8 each, and
    `heatmaps` of the worst keypoints where weights were given. `pose` is the row of the matches,
    `keypoints` says what is wrong with which.
    """

    image: str
    annotation: int
    oks: float
    score: float
    keypoints: dict[str, list[str]]
    labeled: NDArray[np.uint8]
    found: NDArray[np.uint8]
    heatmaps: dict[str, NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """Everything the page shows. `curves` (10, 101) is precision by OKS threshold and recall,
    `oks` (m,) the greatest OKS to each counted person, `calibration` a reason in words where there
    is none. `noise` and `examples` are empty without weights and without images.
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
    calibration: Scores | str
    noise: list[BoxNoise]
    examples: dict[str, list[Example]]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: everything but the images."""
        said = self.calibration
        scores = said if isinstance(said, str) else {
            **asdict(said.calibration),
            "error_before": said.before.error,
            "error_after": said.after.error,
            "reliability": {
                "score": said.before.score.tolist(),
                "similarity": said.before.similarity.tolist(),
            },
            "presence": None if said.presence is None else asdict(said.presence),
        }  # fmt: skip
        return {
            **self.names,
            **self.scores.as_dict(),
            "counts": asdict(self.counts),
            "all_keypoints": asdict(self.all_keypoints),
            "keypoints": {name: asdict(part) for name, part in self.keypoints.items()},
            "sizes": {name: asdict(part) for name, part in self.sizes.items()},
            "gains": [asdict(gain) for gain in self.gains],
            "precision": self.curves.round(4).tolist(),
            "calibration": scores,
            "box_noise": [asdict(point) for point in self.noise],
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
    annotations: Path,
    images: str | None = None,
    estimator: PoseEstimator | None = None,
    *,
    skeleton: Path | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Analysis:
    """Take COCO results apart. With `images`, people are shown; with an `estimator` too, their
    heatmaps, and its AP on shaken boxes. `skeleton` is a YAML file that completes the annotations'.

    Raises UserError where files do not fit the COCO format or each other.
    """
    truth = read_truth(annotations, skeleton)
    sigmas, names = truth.table.skeleton.sigmas, truth.table.skeleton.keypoints
    if estimator is not None and estimator.metadata.skeleton.keypoints != names:
        raise UserError(
            f"--weights: expected the keypoints of the annotations ({', '.join(names)}), "
            f"found {', '.join(estimator.metadata.skeleton.keypoints)}"
        )
    if estimator is not None and images is None:
        raise UserError("--weights: needs the images; add --images")
    source = None if images is None else ImageFiles(images)
    poses = read_results(results)
    scores = evaluate_keypoints(truth.annotations, poses, sigmas)
    found = read_found(poses, truth)
    matches = match(truth, found)
    errors = keypoint_errors(truth, found, matches)

    def told(what: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(what, done, total)

    mended = gains(truth, found, matches, errors, told("kinds of error"))
    by_keypoint = keypoint_gains(truth, found, matches, errors, told("keypoints"))
    every = np.ones(errors.kinds.shape, bool)
    area = truth.table.areas[matches.persons]
    noise = []
    if estimator is not None and source is not None:
        noise = box_noise(estimator, truth.annotations, source, truth.table.skeleton, told("boxes"))
    shown = {}
    if source is not None:
        shown = {
            name: [
                draw_example(position, truth, found, matches, errors, source, estimator)
                for position in positions.tolist()
            ]
            for name, positions in choose_examples(found, matches, errors).items()
        }
    return Analysis(
        names={
            "results": str(results),
            "annotations": str(annotations),
            "weights": "" if estimator is None else estimator.metadata.title,
        },
        scores=scores,
        counts=_counts(truth, found, matches),
        all_keypoints=_part(errors, every),
        keypoints={
            name: _part(errors, every & (np.arange(len(names)) == keypoint), by_keypoint[keypoint])
            for keypoint, name in enumerate(names)
        },
        sizes={
            name: _part(errors, every & ((area >= low) & (area < high))[:, None])
            for name, (low, high) in SIZES.items()
        },
        gains=mended,
        curves=precision_curves(truth.annotations, poses, sigmas),
        oks=matches.best_for[truth.counted],
        calibration=_calibration(found, matches, errors),
        noise=noise,
        examples=shown,
    )


def _counts(truth: Truth, found: Found, matches: Matches) -> Counts:
    nobody = matches.person == NOBODY
    own = matches.oks[matches.poses]
    return Counts(
        persons=int(truth.counted.sum()),
        poses=len(found),
        missed=len(matches.missed(truth)),
        background=int(nobody.sum()),
        repeats=int((matches.best_oks[nobody] >= LEAST_OKS).sum()),
        misordered=int((matches.best_for[matches.persons] > own + 1e-9).sum()),
    )


def _part(errors: KeypointErrors, chosen: NDArray[np.bool_], ap: float | None = None) -> Part:
    labeled = chosen & (errors.kinds >= 0)
    count = int(labeled.sum())
    similar = errors.similarities[labeled].sum() / max(count, 1)
    return Part(count, errors.shares(chosen), float(similar), ap)


def _calibration(found: Found, matches: Matches, errors: KeypointErrors) -> Scores | str:
    try:
        return examine(found, matches, errors)
    except UserError as error:
        return str(error)


def choose_examples(
    found: Found, matches: Matches, errors: KeypointErrors
) -> dict[str, NDArray[np.int64]]:
    """Positions among the matched poses, up to six of each: the lowest OKS; sure of themselves and
    wrong; unsure and right. The last two by how far score and OKS lie apart in rank.
    """
    oks, scores = matches.oks[matches.poses], found.scores[matches.poses]
    enough = np.flatnonzero((errors.kinds >= 0).sum(axis=1) >= FEWEST_KEYPOINTS)
    ranks = [np.argsort(np.argsort(values[enough], kind="stable")) for values in (scores, oks)]
    surprise = ranks[0] - ranks[1]
    order = {
        "worst": np.argsort(oks[enough], kind="stable"),
        "overrated": np.argsort(-surprise, kind="stable"),
        "underrated": np.argsort(surprise, kind="stable"),
    }
    return {name: enough[each[:EXAMPLES]] for name, each in order.items()}


def draw_example(
    position: int,
    truth: Truth,
    found: Found,
    matches: Matches,
    errors: KeypointErrors,
    source: ImageFiles,
    estimator: PoseEstimator | None,
) -> Example:
    """Draw the matched pose at `position`. Raises UserError where its image cannot be read."""
    table, skeleton = truth.table, truth.table.skeleton
    pose, person = matches.poses[position], matches.persons[position]
    image = source.read(table.image_name(person))
    labels = table.keypoints[person].astype(np.float64)
    shown = np.concatenate(
        [labels[labels[:, 2] > 0, :2], xywh_to_xyxy(table.boxes[person]).reshape(2, 2)]
    )
    x, y, w, h = box_around(shown)
    crop = Crop.from_box([x, y, max(w, 1), max(h, 1)], TILE_WH, PADDING)
    tile = warp(image, crop)

    def drawn(keypoints: NDArray[np.float64]) -> NDArray[np.uint8]:
        placed = np.concatenate(
            [transform(keypoints[:, :2], crop.matrix), keypoints[:, 2:]], axis=1
        )
        box = np.array([[0, 0, *TILE_WH]], np.float32)
        poses = Poses(placed[None].astype(np.float32), box, np.ones(1, np.float32), skeleton)
        return draw(tile, poses, threshold=0.5)

    labels[:, 2] = labels[:, 2] > 0
    guess = found.keypoints[pose].copy()
    # Only what is labeled can be right or wrong.
    guess[:, 2] = labels[:, 2]
    kinds = errors.kinds[position]
    wrong = {
        kind.name.lower(): [skeleton.keypoints[j] for j in np.flatnonzero(kinds == kind)]
        for kind in Kind
        if kind > Kind.GOOD and (kinds == kind).any()
    }
    return Example(
        image=table.image_name(person),
        annotation=int(table.annotation_ids[person]),
        oks=float(matches.oks[pose]),
        score=float(found.scores[pose]),
        keypoints=wrong,
        labeled=drawn(labels),
        found=drawn(guess),
        heatmaps={}
        if estimator is None
        else _heatmaps(estimator, image, table.boxes[person], errors, position),
    )


def _heatmaps(
    estimator: PoseEstimator,
    image: NDArray[np.uint8],
    box: NDArray[np.float64],
    errors: KeypointErrors,
    position: int,
) -> dict[str, NDArray[np.uint8]]:
    """The heatmaps of the keypoints that are most wrong, over the labeled box's crop."""
    metadata = estimator.metadata
    crop = warp(image, metadata.crop(box))
    heatmaps = estimator.heatmaps(crop[None])[0]
    similar = np.where(errors.kinds[position] >= 0, errors.similarities[position], np.inf)
    worst = np.argsort(similar, kind="stable")[:HEATMAPS]
    strides = metadata.codec.strides(metadata.heatmap_wh)
    names = metadata.skeleton.keypoints
    return {names[j]: overlay(crop, heatmaps[j], strides, 2) for j in worst}
