"""`hrpose analyze`: results and annotations in; what the AP is made of, out."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.analysis import calibration, examples
from hrpose.analysis.boxes import BoxNoise, box_noise
from hrpose.analysis.calibration import Scores
from hrpose.analysis.corrections import Gain, gains, joint_gains
from hrpose.analysis.errors import JointErrors, joint_errors
from hrpose.analysis.examples import Example
from hrpose.analysis.matching import LEAST_OKS, NOBODY, Matches, match
from hrpose.analysis.read import Found, Truth, read_found, read_truth
from hrpose.data.coco import read_results
from hrpose.data.pictures import PictureSource
from hrpose.errors import UserError
from hrpose.metrics.coco import KeypointScores, evaluate_keypoints, precision_curves
from hrpose.runtime.estimator import PoseEstimator

# COCO's sizes of people, by area in square pixels.
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}

# Told what is being done, and how many of how many steps are done.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Counts:
    """`people` that the evaluation counts and `poses` it looks at; `missed` people for whom no
    pose is meant; `background` poses that are meant for nobody, of which `repeats` lie on a person
    who has a better-scored pose; `misordered` people with a pose of a higher OKS than their own.
    """

    people: int
    poses: int
    missed: int
    background: int
    repeats: int
    misordered: int


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the labelled joints of matched people: their number, the share of each kind of error
    in it, and the mean keypoint similarity. `AP` is the one with all errors of these joints mended,
    None where that was not measured.
    """

    joints: int
    shares: dict[str, float]
    similarity: float
    AP: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """Everything the page shows. `curves` (10, 101) is precision by OKS threshold and recall,
    `oks` (m,) the greatest OKS to each counted person, `calibration` a reason in words where there
    is none. `noise` and `examples` are empty without weights and without pictures.
    """

    names: dict[str, str]
    scores: KeypointScores
    counts: Counts
    all_joints: Part
    joints: dict[str, Part]
    sizes: dict[str, Part]
    gains: list[Gain]
    curves: NDArray[np.float64]
    oks: NDArray[np.float64]
    calibration: Scores | str
    noise: list[BoxNoise]
    examples: dict[str, list[Example]]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: everything but the pictures."""
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
            "all_joints": asdict(self.all_joints),
            "joints": {name: asdict(part) for name, part in self.joints.items()},
            "sizes": {name: asdict(part) for name, part in self.sizes.items()},
            "gains": [asdict(gain) for gain in self.gains],
            "precision": self.curves.round(4).tolist(),
            "calibration": scores,
            "box_noise": [asdict(point) for point in self.noise],
            "examples": {
                name: [
                    {
                        "picture": each.picture,
                        "annotation": each.annotation,
                        "oks": each.oks,
                        "score": each.score,
                        "errors": each.joints,
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
    if estimator is not None and estimator.passport.skeleton.keypoints != names:
        raise UserError(
            f"--weights: expected the keypoints of the annotations ({', '.join(names)}), "
            f"found {', '.join(estimator.passport.skeleton.keypoints)}"
        )
    if estimator is not None and images is None:
        raise UserError("--weights: needs the pictures; add --images")
    source = None if images is None else PictureSource(images)
    poses = read_results(results)
    scores = evaluate_keypoints(truth.annotations, poses, sigmas)
    found = read_found(poses, truth)
    matches = match(truth, found)
    errors = joint_errors(truth, found, matches)

    def told(what: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(what, done, total)

    mended = gains(truth, found, matches, errors, told("kinds of error"))
    by_joint = joint_gains(truth, found, matches, errors, told("joints"))
    every = np.ones(errors.kinds.shape, bool)
    area = truth.table.areas[matches.people]
    noise = []
    if estimator is not None and source is not None:
        noise = box_noise(estimator, truth.annotations, source, truth.table.skeleton, told("boxes"))
    shown = {}
    if source is not None:
        shown = {
            name: [
                examples.show(position, truth, found, matches, errors, source, estimator)
                for position in positions.tolist()
            ]
            for name, positions in examples.choose(found, matches, errors).items()
        }
    return Analysis(
        names={
            "results": str(results),
            "annotations": str(annotations),
            "weights": "" if estimator is None else estimator.passport.title,
        },
        scores=scores,
        counts=_counts(truth, found, matches),
        all_joints=_part(errors, every),
        joints={
            name: _part(errors, every & (np.arange(len(names)) == joint), by_joint[joint])
            for joint, name in enumerate(names)
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
        people=int(truth.counted.sum()),
        poses=len(found),
        missed=len(matches.missed(truth)),
        background=int(nobody.sum()),
        repeats=int((matches.best_oks[nobody] >= LEAST_OKS).sum()),
        misordered=int((matches.best_for[matches.people] > own + 1e-9).sum()),
    )


def _part(errors: JointErrors, chosen: NDArray[np.bool_], ap: float | None = None) -> Part:
    labelled = chosen & (errors.kinds >= 0)
    count = int(labelled.sum())
    similar = errors.similarities[labelled].sum() / max(count, 1)
    return Part(count, errors.shares(chosen), float(similar), ap)


def _calibration(found: Found, matches: Matches, errors: JointErrors) -> Scores | str:
    try:
        return calibration.examine(found, matches, errors)
    except UserError as error:
        return str(error)
