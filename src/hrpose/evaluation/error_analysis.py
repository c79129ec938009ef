"""What is wrong with each keypoint, and the AP that it costs.

After Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation", ICCV
2017, section 3.

Which pose is meant for which person (`match`): as in COCO's evaluation, but already at an OKS of
0.1, for a pose may be poor and still be meant for a person. In each image the poses, the best
score first, take the free person they are most like.

What is wrong with a keypoint (`keypoint_errors`), by the keypoint similarity ks, its own term of
the OKS:

- good: ks to its label is 0.85 or more;
- jitter: 0.5 to 0.85, near its place and not on it;
- inversion: below 0.5, and at least 0.5 to the label of its left or right twin;
- swap: below 0.5, and at least 0.5 to the same keypoint of another person, or to its twin there;
- miss: below 0.5 to all of these.

A keypoint that would be both an inversion and a swap is an inversion.

What it costs (`gains`): mend one kind, evaluate again. Keypoints are mended by putting them on
their label, scores by giving each pose the OKS that it has to the person it is most like,
background by leaving it out, missed people by adding their labels.
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
from hrpose.errors import UserError
from hrpose.evaluation.predictions import Progress
from hrpose.metrics.coco import KeypointScores, evaluate_keypoints, to_results
from hrpose.metrics.oks import keypoint_similarities, oks

# COCO's evaluator looks at so many poses of an image, the best first.
MOST_POSES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """All people of the annotations: `table`, and `counted` (n,), false for crowds and people
    without a labeled keypoint, which COCO's evaluation ignores. `annotations` is the parsed file.
    """

    table: PersonTable
    counted: NDArray[np.bool_]
    annotations: CocoAnnotations


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """n poses: `image` (n,) rows of the truth's images, `keypoints` (n, k, 3) with keypoint
    scores, `scores` (n,). In each image at most 20, as in COCO's evaluation.
    """

    image: NDArray[np.int64]
    keypoints: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, chosen: Any) -> "Found":
        return Found(self.image[chosen], self.keypoints[chosen], self.scores[chosen])

    def to_results(self, table: PersonTable) -> list[dict[str, Any]]:
        """Entries of a COCO results file."""
        ids = table.image_ids[self.image]
        return to_results(ids, self.keypoints, self.scores, table.category_id)


def read_truth(annotations: Path, skeleton_file: Path | None = None) -> Truth:
    """Every person of the category with keypoints. `skeleton_file` completes its skeleton.

    Raises UserError, naming the file and the entry, where something is not of the COCO form.
    """
    parsed = read_annotations(annotations)
    persons = parsed.instances()
    table = parsed.table(persons.columns)
    if skeleton_file is not None:
        table = replace(table, skeleton=complete_skeleton(table.skeleton, skeleton_file))
    visible = (table.keypoints[..., 2] > 0).sum(axis=1)
    counted = [
        not person.get("iscrowd") and person.get("num_keypoints", count) != 0
        for person, count in zip(persons.entries, visible.tolist(), strict=True)
    ]
    truth = Truth(table, np.asarray(counted, bool), parsed)
    if not truth.counted.any():
        raise UserError(f"{annotations}: expected people with labeled keypoints, found none")
    return truth


def read_found(results: CocoResults, truth: Truth) -> Found:
    """The poses of COCO results; those of other categories are left out.

    They must have been checked against the annotations before, as `evaluate_keypoints` does.
    """
    table = truth.table
    entries = [entry for entry in results.entries if entry["category_id"] == table.category_id]
    rows = {int(image_id): row for row, image_id in enumerate(table.image_ids)}
    image = np.asarray([rows[entry["image_id"]] for entry in entries], np.int64)
    keypoints = np.asarray([entry["keypoints"] for entry in entries], np.float64)
    found = Found(
        image,
        keypoints.reshape(len(entries), len(table.skeleton), 3),
        np.asarray([entry["score"] for entry in entries], np.float64),
    )
    return best_of_each_image(found)


def best_of_each_image(found: Found) -> Found:
    """The poses that the evaluator looks at, image by image, the best first in each."""
    order = np.lexsort((-found.scores, found.image))
    found = found.select(order)
    firsts = np.searchsorted(found.image, found.image)
    return found.select(np.arange(len(found)) - firsts < MOST_POSES)


LEAST_OKS = 0.1

# What `Matches.person` says of a pose that is nobody's.
NOBODY = -1  # a false positive
IGNORED = -2  # it is on a crowd or on a person without labels


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """For n poses and m people.

    `person` (n,): the row of its person, NOBODY or IGNORED. `oks` (n,): to that person, else 0.
    `best_oks` (n,): to the counted person of its image that it is most like. `best_for` (m,):
    the greatest OKS that any pose of the image has to this person.
    """

    person: NDArray[np.int64]
    oks: NDArray[np.float64]
    best_oks: NDArray[np.float64]
    best_for: NDArray[np.float64]

    @property
    def poses(self) -> NDArray[np.int64]:
        """The poses that have a person."""
        return np.flatnonzero(self.person >= 0)

    @property
    def persons(self) -> NDArray[np.int64]:
        """Their people, in the same order."""
        return self.person[self.poses]

    def missed(self, truth: Truth) -> NDArray[np.int64]:
        """The counted people for whom no pose is meant."""
        return np.setdiff1d(np.flatnonzero(truth.counted), self.persons)


def match(truth: Truth, found: Found) -> Matches:
    """Match the poses of every image to its people."""
    table, n = truth.table, len(found)
    person = np.full(n, NOBODY)
    own, best = np.zeros(n), np.zeros(n)
    best_for = np.zeros(len(table))
    persons_of, none = group_by_image(table.image_index), np.zeros(0, np.intp)
    for image, poses in group_by_image(found.image).items():
        everyone = persons_of.get(image, none)
        persons = everyone[truth.counted[everyone]]
        poses = poses[np.argsort(-found.scores[poses], kind="stable")]
        points = found.keypoints[poses]
        like = oks(points, table.keypoints[persons], table.areas[persons], table.skeleton.sigmas)
        if len(persons):
            best[poses] = like.max(axis=1)
            best_for[persons] = like.max(axis=0)
        over = _oks_to_ignored(points, table, everyone[~truth.counted[everyone]])
        free = np.ones(len(persons), bool)
        for row, pose in enumerate(poses):
            left = np.where(free, like[row], 0.0)
            if len(persons) and left.max() >= LEAST_OKS:
                taken = int(left.argmax())
                free[taken] = False
                person[pose], own[pose] = persons[taken], left[taken]
            elif len(over[row]) and over[row].max() >= LEAST_OKS:
                person[pose] = IGNORED
    return Matches(person, own, best, best_for)


def _oks_to_ignored(
    points: NDArray[np.float64], table: PersonTable, persons: NDArray[np.intp]
) -> NDArray[np.float64]:
    """(n, m): COCO's OKS to people who are ignored. Without labels, a keypoint's distance is
    counted from the box, grown by its own size to every side.
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


GOOD_KS, NEAR_KS = 0.85, 0.5


class Kind(IntEnum):
    """Of a labeled keypoint of a matched person; UNLABELED says nothing."""

    UNLABELED = -1
    GOOD = 0
    JITTER = 1
    INVERSION = 2
    SWAP = 3
    MISS = 4


KINDS = tuple(kind for kind in Kind if kind >= 0)


@dataclass(frozen=True, slots=True, eq=False)
class KeypointErrors:
    """Of the matched poses: `kinds` (n, k) values of `Kind`, `similarities` (n, k) in [0, 1]; 0
    where a keypoint is not labeled.
    """

    kinds: NDArray[np.int8]
    similarities: NDArray[np.float64]

    def shares(self, chosen: NDArray[np.bool_] | None = None) -> dict[str, float]:
        """The share of each kind among the labeled keypoints, of the `chosen` (n, k) if given."""
        kinds = self.kinds if chosen is None else self.kinds[chosen]
        labeled = max(int((kinds >= 0).sum()), 1)
        return {kind.name.lower(): int((kinds == kind).sum()) / labeled for kind in KINDS}


def keypoint_errors(truth: Truth, found: Found, matches: Matches) -> KeypointErrors:
    """Classify every keypoint of the matched poses."""
    table = truth.table
    points, persons = found.keypoints[matches.poses], matches.persons
    labels = table.keypoints[persons].astype(np.float64)
    twins = table.skeleton.flip_permutation
    has_twin = twins != np.arange(len(twins))
    labeled = labels[..., 2] > 0

    def to(rows: NDArray[np.int64], keypoints: NDArray[np.int64]) -> NDArray[np.float64]:
        """The ks of each keypoint to the label of `keypoints` of the people `rows`; 0 without a
        label.
        """
        there = table.keypoints[rows][:, keypoints].astype(np.float64)
        sigmas = np.asarray(table.skeleton.sigmas)[keypoints]
        similar = keypoint_similarities(points, there, table.areas[rows], sigmas)
        return np.where(there[..., 2] > 0, similar, 0.0)

    own = to(persons, np.arange(len(twins)))
    inverted = (to(persons, twins) >= NEAR_KS) & has_twin
    swapped = np.zeros_like(inverted)
    for other in _others(table.image_index, truth.counted, persons):
        there = other >= 0
        near = np.maximum(to(other, np.arange(len(twins))), to(other, twins)) >= NEAR_KS
        swapped |= near & there[:, None]
    kinds = np.select(
        [~labeled, own >= GOOD_KS, own >= NEAR_KS, inverted, swapped],
        [Kind.UNLABELED, Kind.GOOD, Kind.JITTER, Kind.INVERSION, Kind.SWAP],
        Kind.MISS,
    )
    return KeypointErrors(kinds.astype(np.int8), own)


def _others(
    image_index: NDArray[np.int32], counted: NDArray[np.bool_], persons: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """One after the other, a further counted person in the image of each of `persons`, else -1."""
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


# In the order in which they are mended one after the other. `good` is what distance remains in
# keypoints that are counted as good; without it the last AP would not be 1.
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
    """What mending one kind of error gives back.

    `scores` with this kind alone mended; `so_far` with this and all kinds before it.
    """

    error: str
    scores: KeypointScores
    so_far: KeypointScores


def gains(
    truth: Truth, found: Found, matches: Matches, errors: KeypointErrors, progress: Progress
) -> list[Gain]:
    """Of each kind of error, in the order of `ERRORS`."""
    result = []
    for step, error in enumerate(ERRORS):
        alone = corrected(truth, found, matches, errors, {error})
        so_far = corrected(truth, found, matches, errors, ERRORS[: step + 1])
        result.append(Gain(error, score(truth, alone), score(truth, so_far)))
        progress(step + 1, len(ERRORS))
    return result


def keypoint_gains(
    truth: Truth, found: Found, matches: Matches, errors: KeypointErrors, progress: Progress
) -> list[float]:
    """The AP with all errors of one keypoint mended, for each keypoint."""
    result = []
    kinds = set(KEYPOINT_ERRORS) - {"good"}
    for keypoint in range(len(truth.table.skeleton)):
        mended = corrected(truth, found, matches, errors, kinds, keypoint)
        result.append(score(truth, mended).AP)
        progress(keypoint + 1, len(truth.table.skeleton))
    return result


def score(truth: Truth, found: Found) -> KeypointScores:
    """COCO's ten figures."""
    sigmas = truth.table.skeleton.sigmas
    return evaluate_keypoints(truth.annotations, found.to_results(truth.table), sigmas)


def corrected(
    truth: Truth,
    found: Found,
    matches: Matches,
    errors: KeypointErrors,
    mend: Collection[str],
    keypoint: int | None = None,
) -> Found:
    """The poses without the kinds of errors in `mend`; where given, of one `keypoint` only."""
    table, poses = truth.table, matches.poses
    kinds = [kind for name, kind in KEYPOINT_ERRORS.items() if name in mend]
    wrong = np.isin(errors.kinds, kinds)
    if keypoint is not None:
        wrong &= np.arange(wrong.shape[1]) == keypoint
    keypoints = found.keypoints.copy()
    labels = table.keypoints[matches.persons, :, :2]
    keypoints[poses, :, :2] = np.where(wrong[..., None], labels, keypoints[poses, :, :2])
    result = replace(found, keypoints=keypoints)
    if "score" in mend:
        result = replace(result, scores=_best_oks(truth, result))
    if "background" in mend:
        result = result.select(matches.person != NOBODY)
    if "missed" in mend:
        result = _with_persons(result, truth, matches.missed(truth))
    return result


def _best_oks(truth: Truth, found: Found) -> NDArray[np.float64]:
    """(n,): the OKS of each pose to the counted person of its image that it is most like."""
    table, best = truth.table, np.zeros(len(found))
    persons_of, none = group_by_image(table.image_index), np.zeros(0, np.intp)
    for image, here in group_by_image(found.image).items():
        persons = persons_of.get(image, none)
        persons = persons[truth.counted[persons]]
        if len(persons):
            labels, areas = table.keypoints[persons], table.areas[persons]
            like = oks(found.keypoints[here], labels, areas, table.skeleton.sigmas)
            best[here] = like.max(axis=1)
    return best


def _with_persons(found: Found, truth: Truth, persons: NDArray[np.int64]) -> Found:
    """With the labels of these people as poses, as sure as the surest."""
    table = truth.table
    surest = max(1.0, found.scores.max(initial=0.0))
    return Found(
        np.concatenate([found.image, table.image_index[persons]]),
        np.concatenate([found.keypoints, table.keypoints[persons]]),
        np.concatenate([found.scores, np.full(len(persons), surest)]),
    )
