"""What is wrong with each joint (Ronchi and Perona, ICCV 2017, section 3.1).

By the keypoint similarity ks, a joint's own term of the OKS:

- good: ks to its label is 0.85 or more;
- jitter: 0.5 to 0.85, near its place and not on it;
- inversion: below 0.5, and at least 0.5 to the label of its left or right twin;
- swap: below 0.5, and at least 0.5 to the same joint of another person, or to its twin there;
- miss: below 0.5 to all of these.

A joint that would be both an inversion and a swap is an inversion.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from hrpose.analysis.matching import Matches
from hrpose.analysis.read import Found, Truth
from hrpose.data.persons import group_by_image
from hrpose.metrics.oks import keypoint_similarities

GOOD_KS, NEAR_KS = 0.85, 0.5


class Kind(IntEnum):
    """Of a labelled joint of a matched person; UNLABELLED says nothing."""

    UNLABELLED = -1
    GOOD = 0
    JITTER = 1
    INVERSION = 2
    SWAP = 3
    MISS = 4


KINDS = tuple(kind for kind in Kind if kind >= 0)


@dataclass(frozen=True, slots=True, eq=False)
class JointErrors:
    """Of the matched poses: `kinds` (n, k) values of `Kind`, `similarities` (n, k) in [0, 1]; 0
    where a joint is not labelled.
    """

    kinds: NDArray[np.int8]
    similarities: NDArray[np.float64]

    def shares(self, chosen: NDArray[np.bool_] | None = None) -> dict[str, float]:
        """The share of each kind among the labelled joints, of the `chosen` (n, k) if given."""
        kinds = self.kinds if chosen is None else self.kinds[chosen]
        labelled = max(int((kinds >= 0).sum()), 1)
        return {kind.name.lower(): int((kinds == kind).sum()) / labelled for kind in KINDS}


def joint_errors(truth: Truth, found: Found, matches: Matches) -> JointErrors:
    """Classify every joint of the matched poses."""
    table = truth.table
    points, people = found.keypoints[matches.poses], matches.people
    labels = table.keypoints[people].astype(np.float64)
    twins = table.skeleton.flip_permutation
    has_twin = twins != np.arange(len(twins))
    labelled = labels[..., 2] > 0

    def to(rows: NDArray[np.int64], joints: NDArray[np.int64]) -> NDArray[np.float64]:
        """The ks of each joint to the label of `joints` of the people `rows`; 0 without a label."""
        there = table.keypoints[rows][:, joints].astype(np.float64)
        sigmas = np.asarray(table.skeleton.sigmas)[joints]
        similar = keypoint_similarities(points, there, table.areas[rows], sigmas)
        return np.where(there[..., 2] > 0, similar, 0.0)

    own = to(people, np.arange(len(twins)))
    inverted = (to(people, twins) >= NEAR_KS) & has_twin
    swapped = np.zeros_like(inverted)
    for other in _others(table.image_index, truth.counted, people):
        there = other >= 0
        near = np.maximum(to(other, np.arange(len(twins))), to(other, twins)) >= NEAR_KS
        swapped |= near & there[:, None]
    kinds = np.select(
        [~labelled, own >= GOOD_KS, own >= NEAR_KS, inverted, swapped],
        [Kind.UNLABELLED, Kind.GOOD, Kind.JITTER, Kind.INVERSION, Kind.SWAP],
        Kind.MISS,
    )
    return JointErrors(kinds.astype(np.int8), own)


def _others(
    picture: NDArray[np.int32], counted: NDArray[np.bool_], people: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """One after the other, a further counted person in the picture of each of `people`, else -1."""
    rows = np.flatnonzero(counted)
    by_picture = {image: rows[own] for image, own in group_by_image(picture[rows]).items()}
    beside = [
        [other for other in by_picture.get(int(picture[row]), ()) if other != row]
        for row in people.tolist()
    ]
    most = max((len(each) for each in beside), default=0)
    return [
        np.asarray([each[i] if i < len(each) else -1 for each in beside], np.int64)
        for i in range(most)
    ]
