"""The kind of error of each keypoint, and the AP that each kind costs.

After Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation", ICCV
2017, section 3.

Matching poses to persons (`match`): as in COCO's evaluation, but from an OKS of 0.1, since a poor
pose is still one of a person. In each image the poses, by descending score, are matched to the free
person of the greatest OKS.

Classifying keypoints (`keypoint_errors`) by the keypoint similarity ks, a keypoint's term of the
OKS:

- good: ks to its label is 0.85 or more;
- jitter: 0.5 to 0.85, near the label;
- inversion: below 0.5, and at least 0.5 to the label of its left or right counterpart;
- swap: below 0.5, and at least 0.5 to the same keypoint of another person, or its counterpart;
- miss: below 0.5 to all of these.

A keypoint that is both an inversion and a swap counts as an inversion.

The cost of errors (`gains`): correct one kind and evaluate again. Keypoints are corrected by moving
them to their labels, scores by giving each pose its greatest OKS, background poses by removing
them, missed persons by adding their labels.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import CocoAnnotations, CocoResults, read_annotations
from hrpose.data.persons import PersonTable, group_by_image
from hrpose.data.skeleton_file import complete_skeleton
from hrpose.evaluation.predictions import Progress
from hrpose.metrics.coco import MAX_DETECTIONS, KeypointScores, evaluate_keypoints, to_results
from hrpose.metrics.oks import keypoint_similarities, oks

# The least OKS at which a pose is matched to a person.
MIN_OKS = 0.1
# The least keypoint similarity of a good keypoint, and of one near a label.
GOOD_KS, NEAR_KS = 0.85, 0.5

# `Matches.person` of poses without a person.
UNMATCHED = -1  # a false positive
IGNORED = -2  # on a crowd or on a person without labels


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The n persons of the annotations: `table`, and `counted` (n,), false for crowds and persons
    without a labeled keypoint, which COCO's evaluation ignores. `annotations` is the parsed file.
    Of each image `max_detections` poses count, those with the best scores.
    """

    table: PersonTable
    counted: NDArray[np.bool_]
    annotations: CocoAnnotations
    max_detections: int = MAX_DETECTIONS


@dataclass(frozen=True, slots=True, eq=False)
class PredictedPoses:
    """n poses: `image` (n,) rows of the truth's images, `keypoints` (n, k, 3) with keypoint
    scores, `scores` (n,). In each image at most as many as count, 20 in COCO's evaluation.
    """

    image: NDArray[np.int64]
    keypoints: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, chosen: Any) -> "PredictedPoses":
        return PredictedPoses(self.image[chosen], self.keypoints[chosen], self.scores[chosen])

    def to_results(self, table: PersonTable) -> list[dict[str, Any]]:
        """Entries of a COCO results file."""
        ids = table.image_ids[self.image]
        return to_results(ids, self.keypoints, self.scores, table.category_id)


def read_truth(
    annotations: Path | CocoAnnotations,
    skeleton_file: Path | None = None,
    max_detections: int = MAX_DETECTIONS,
) -> Truth:
    """Every person of the category with keypoints. `skeleton_file` completes its skeleton.

    Raises UserError, naming the file and the entry, where the file is not in COCO's format.
    """
    parsed = read_annotations(annotations)
    persons = parsed.instances()
    table = parsed.table(persons.columns)
    if skeleton_file is not None:
        table = replace(table, skeleton=complete_skeleton(table.skeleton, skeleton_file))
    labeled = (table.keypoints[..., 2] > 0).any(axis=1)
    counted = np.asarray(labeled & ~persons.columns["crowds"], bool)
    truth = Truth(table, counted, parsed, max_detections)
    if not truth.counted.any():
        raise parsed.no_labels()
    return truth


def read_predicted(results: CocoResults, truth: Truth) -> PredictedPoses:
    """The poses of COCO results, without those of other categories.

    They must have been checked against the annotations, as `evaluate_keypoints` does.
    """
    table = truth.table
    entries = [entry for entry in results.entries if entry["category_id"] == table.category_id]
    rows = {int(image_id): row for row, image_id in enumerate(table.image_ids)}
    image = np.asarray([rows[entry["image_id"]] for entry in entries], np.int64)
    keypoints = np.asarray([entry["keypoints"] for entry in entries], np.float64)
    predicted = PredictedPoses(
        image,
        keypoints.reshape(len(entries), len(table.skeleton), 3),
        np.asarray([entry["score"] for entry in entries], np.float64),
    )
    return best_of_each_image(predicted, truth.max_detections)


def best_of_each_image(predicted: PredictedPoses, most: int) -> PredictedPoses:
    """The poses that the evaluator takes, image by image, the best first in each."""
    order = np.lexsort((-predicted.scores, predicted.image))
    predicted = predicted.select(order)
    firsts = np.searchsorted(predicted.image, predicted.image)
    return predicted.select(np.arange(len(predicted)) - firsts < most)


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Of n poses and m persons.

    `person` (n,): the row of a pose's person, UNMATCHED or IGNORED. `oks` (n,): to that person, or
    0. `best_oks` (n,): the greatest to a counted person of the image. `best_for` (m,): the greatest
    OKS of any pose of the image to this person.
    """

    person: NDArray[np.int64]
    oks: NDArray[np.float64]
    best_oks: NDArray[np.float64]
    best_for: NDArray[np.float64]

    @property
    def poses(self) -> NDArray[np.int64]:
        """The matched poses."""
        return np.flatnonzero(self.person >= 0)

    @property
    def persons(self) -> NDArray[np.int64]:
        """The persons of the matched poses, in the same order."""
        return self.person[self.poses]

    def missed(self, truth: Truth) -> NDArray[np.int64]:
        """The counted persons without a pose."""
        return np.setdiff1d(np.flatnonzero(truth.counted), self.persons)


def match(truth: Truth, predicted: PredictedPoses) -> Matches:
    """Match the poses of every image to its persons."""
    table, n = truth.table, len(predicted)
    person = np.full(n, UNMATCHED)
    own, best = np.zeros(n), np.zeros(n)
    best_for = np.zeros(len(table))
    persons_of, none = group_by_image(table.image_index), np.zeros(0, np.intp)
    for image, poses in group_by_image(predicted.image).items():
        in_image = persons_of.get(image, none)
        persons = in_image[truth.counted[in_image]]
        poses = poses[np.argsort(-predicted.scores[poses], kind="stable")]
        points = predicted.keypoints[poses]
        similar = oks(points, table.keypoints[persons], table.areas[persons], table.skeleton.sigmas)
        if len(persons):
            best[poses] = similar.max(axis=1)
            best_for[persons] = similar.max(axis=0)
        to_ignored = oks_to_ignored(points, table, in_image[~truth.counted[in_image]])
        free = np.ones(len(persons), bool)
        for row, pose in enumerate(poses):
            candidates = np.where(free, similar[row], 0.0)
            if len(persons) and candidates.max() >= MIN_OKS:
                chosen = int(candidates.argmax())
                free[chosen] = False
                person[pose], own[pose] = persons[chosen], candidates[chosen]
            elif len(to_ignored[row]) and to_ignored[row].max() >= MIN_OKS:
                person[pose] = IGNORED
    return Matches(person, own, best, best_for)


def oks_to_ignored(
    points: NDArray[np.float64], table: PersonTable, persons: NDArray[np.intp]
) -> NDArray[np.float64]:
    """(n, m): COCO's OKS to ignored persons. Without labels, a keypoint's distance is that to the
    box, enlarged by its own size on every side.
    """
    keypoints, areas = table.keypoints[persons].astype(np.float64), table.areas[persons]
    labeled = (keypoints[..., 2] > 0).any(axis=1)
    result = np.zeros((len(points), len(persons)))
    if not len(persons):
        return result
    sigmas = table.skeleton.sigmas
    result[:, labeled] = oks(points, keypoints[labeled], areas[labeled], sigmas)
    for column in np.flatnonzero(~labeled):
        box = table.boxes[persons[column]]
        inside = np.clip(points[..., :2], box[:2] - box[2:], box[:2] + 2 * box[2:])
        square = np.square(points[..., :2] - inside).sum(axis=-1)
        spread = 8 * np.square(sigmas) * max(areas[column], 1e-9)
        result[:, column] = np.exp(-square / spread).mean(axis=1)
    return result


class Kind(IntEnum):
    """The kind of error of a matched person's keypoint; UNLABELED is none of them."""

    UNLABELED = -1
    GOOD = 0
    JITTER = 1
    INVERSION = 2
    SWAP = 3
    MISS = 4


KINDS = tuple(kind for kind in Kind if kind >= 0)


@dataclass(frozen=True, slots=True, eq=False)
class KeypointErrors:
    """Of the n matched poses: `kinds` (n, k) values of `Kind`, `similarities` (n, k) in [0, 1]; 0
    where a keypoint is unlabeled.
    """

    kinds: NDArray[np.int8]
    similarities: NDArray[np.float64]

    def shares(self, chosen: NDArray[np.bool_] | None = None) -> dict[str, float]:
        """The share of each kind among the labeled keypoints, in a mask (n, k) if given."""
        kinds = self.kinds if chosen is None else self.kinds[chosen]
        labeled = max(int((kinds >= 0).sum()), 1)
        return {kind.name.lower(): int((kinds == kind).sum()) / labeled for kind in KINDS}


def keypoint_errors(truth: Truth, predicted: PredictedPoses, matches: Matches) -> KeypointErrors:
    """Classify every keypoint of the matched poses."""
    table = truth.table
    points, persons = predicted.keypoints[matches.poses], matches.persons
    labels = table.keypoints[persons].astype(np.float64)
    counterparts = table.skeleton.flip_permutation
    own_side = np.arange(len(counterparts))
    labeled = labels[..., 2] > 0

    def to(rows: NDArray[np.int64], keypoints: NDArray[np.int64]) -> NDArray[np.float64]:
        """The ks to the labels of `keypoints` of the persons `rows`; 0 without a label."""
        label = table.keypoints[rows][:, keypoints].astype(np.float64)
        sigmas = np.asarray(table.skeleton.sigmas)[keypoints]
        similar = keypoint_similarities(points, label, table.areas[rows], sigmas)
        return np.where(label[..., 2] > 0, similar, 0.0)

    own = to(persons, own_side)
    inverted = (to(persons, counterparts) >= NEAR_KS) & (counterparts != own_side)
    swapped = np.zeros_like(inverted)
    for other in _others(table.image_index, truth.counted, persons):
        near = np.maximum(to(other, own_side), to(other, counterparts)) >= NEAR_KS
        swapped |= near & (other >= 0)[:, None]
    kinds = np.select(
        [~labeled, own >= GOOD_KS, own >= NEAR_KS, inverted, swapped],
        [Kind.UNLABELED, Kind.GOOD, Kind.JITTER, Kind.INVERSION, Kind.SWAP],
        Kind.MISS,
    )
    return KeypointErrors(kinds.astype(np.int8), own)


def _others(
    image_index: NDArray[np.int32], counted: NDArray[np.bool_], persons: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Arrays (n,) with another counted person in the image of each of `persons` (n,), else -1."""
    rows = np.flatnonzero(counted)
    by_image = {image: rows[own] for image, own in group_by_image(image_index[rows]).items()}
    beside = [
        [other for other in by_image.get(int(image_index[row]), ()) if other != row]
        for row in persons.tolist()
    ]
    most = max((len(each) for each in beside), default=0)
    return [
        np.asarray([each[i] if i < len(each) else -1 for each in beside], np.int64)
        for i in range(most)
    ]


# In the order in which errors are corrected cumulatively. `good` is the remaining distance of good
# keypoints, without which the last AP would not be 1.
KEYPOINT_ERRORS = {
    "miss": Kind.MISS,
    "swap": Kind.SWAP,
    "inversion": Kind.INVERSION,
    "jitter": Kind.JITTER,
    "good": Kind.GOOD,
}
ERRORS = (*KEYPOINT_ERRORS, "score", "background", "missed")


@dataclass(frozen=True, slots=True)
class Gain:
    """The metrics without one kind of error: `scores` with this kind alone corrected, `so_far` with
    this and all kinds before it.
    """

    error: str
    scores: KeypointScores
    so_far: KeypointScores


def gains(
    truth: Truth,
    predicted: PredictedPoses,
    matches: Matches,
    errors: KeypointErrors,
    progress: Progress,
) -> list[Gain]:
    """The gain of each kind of error, in the order of `ERRORS`."""
    result = []
    for step, error in enumerate(ERRORS):
        alone = corrected(truth, predicted, matches, errors, {error})
        so_far = corrected(truth, predicted, matches, errors, ERRORS[: step + 1])
        result.append(Gain(error, score(truth, alone), score(truth, so_far)))
        progress(step + 1, len(ERRORS))
    return result


def keypoint_gains(
    truth: Truth,
    predicted: PredictedPoses,
    matches: Matches,
    errors: KeypointErrors,
    progress: Progress,
) -> list[float]:
    """The AP with all errors of one keypoint corrected, for each keypoint."""
    result = []
    kinds = set(KEYPOINT_ERRORS) - {"good"}
    for keypoint in range(len(truth.table.skeleton)):
        without = corrected(truth, predicted, matches, errors, kinds, keypoint)
        result.append(score(truth, without).AP)
        progress(keypoint + 1, len(truth.table.skeleton))
    return result


def score(truth: Truth, predicted: PredictedPoses) -> KeypointScores:
    """COCO's ten metrics."""
    sigmas = truth.table.skeleton.sigmas
    results, most = predicted.to_results(truth.table), truth.max_detections
    return evaluate_keypoints(truth.annotations, results, sigmas, max_detections=most)


def corrected(
    truth: Truth,
    predicted: PredictedPoses,
    matches: Matches,
    errors: KeypointErrors,
    correct: Collection[str],
    keypoint: int | None = None,
) -> PredictedPoses:
    """The poses without the kinds of errors in `correct`; where given, of one `keypoint` only."""
    table, poses = truth.table, matches.poses
    kinds = [kind for name, kind in KEYPOINT_ERRORS.items() if name in correct]
    wrong = np.isin(errors.kinds, kinds)
    if keypoint is not None:
        wrong &= np.arange(wrong.shape[1]) == keypoint
    keypoints = predicted.keypoints.copy()
    labels = table.keypoints[matches.persons, :, :2]
    keypoints[poses, :, :2] = np.where(wrong[..., None], labels, keypoints[poses, :, :2])
    result = replace(predicted, keypoints=keypoints)
    if "score" in correct:
        result = replace(result, scores=match(truth, result).best_oks)
    if "background" in correct:
        result = result.select(matches.person != UNMATCHED)
    if "missed" in correct:
        result = _with_persons(result, truth, matches.missed(truth))
    return result


def _with_persons(
    predicted: PredictedPoses, truth: Truth, persons: NDArray[np.int64]
) -> PredictedPoses:
    """With the labels of these persons as poses of the best score."""
    table = truth.table
    best = max(1.0, predicted.scores.max(initial=0.0))
    return PredictedPoses(
        np.concatenate([predicted.image, table.image_index[persons]]),
        np.concatenate([predicted.keypoints, table.keypoints[persons]]),
        np.concatenate([predicted.scores, np.full(len(persons), best)]),
    )
