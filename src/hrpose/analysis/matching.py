"""Which pose is meant for which person (Ronchi and Perona, ICCV 2017, section 3).

As in COCO's evaluation, but already at an OKS of 0.1: a pose may be poor and still be meant for a
person. In each picture the poses, the best score first, take the free person they are most like.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrpose.analysis.read import Found, Truth
from hrpose.data.persons import PersonTable, group_by_image
from hrpose.metrics.oks import oks

LEAST_OKS = 0.1

# What `Matches.person` says of a pose that is nobody's.
NOBODY = -1  # a false positive
IGNORED = -2  # it lies on a crowd or on a person without labels


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """For n poses and m people.

    `person` (n,): the row of its person, NOBODY or IGNORED. `oks` (n,): to that person, else 0.
    `best_oks` (n,): to the counted person of its picture that it is most like. `best_for` (m,):
    the greatest OKS that any pose of the picture has to this person.
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
    def people(self) -> NDArray[np.int64]:
        """Their people, in the same order."""
        return self.person[self.poses]

    def missed(self, truth: Truth) -> NDArray[np.int64]:
        """The counted people for whom no pose is meant."""
        return np.setdiff1d(np.flatnonzero(truth.counted), self.people)


def match(truth: Truth, found: Found) -> Matches:
    """Match the poses of every picture to its people."""
    table, n = truth.table, len(found)
    person = np.full(n, NOBODY)
    own, best = np.zeros(n), np.zeros(n)
    best_for = np.zeros(len(table))
    people_of, none = group_by_image(table.image_index), np.zeros(0, np.intp)
    for picture, poses in group_by_image(found.picture).items():
        everyone = people_of.get(picture, none)
        people = everyone[truth.counted[everyone]]
        poses = poses[np.argsort(-found.scores[poses], kind="stable")]
        points = found.keypoints[poses]
        like = oks(points, table.keypoints[people], table.areas[people], table.skeleton.sigmas)
        if len(people):
            best[poses] = like.max(axis=1)
            best_for[people] = like.max(axis=0)
        over = _oks_to_ignored(points, table, everyone[~truth.counted[everyone]])
        free = np.ones(len(people), bool)
        for row, pose in enumerate(poses):
            left = np.where(free, like[row], 0.0)
            if len(people) and left.max() >= LEAST_OKS:
                taken = int(left.argmax())
                free[taken] = False
                person[pose], own[pose] = people[taken], left[taken]
            elif len(over[row]) and over[row].max() >= LEAST_OKS:
                person[pose] = IGNORED
    return Matches(person, own, best, best_for)


def _oks_to_ignored(
    points: NDArray[np.float64], table: PersonTable, people: NDArray[np.intp]
) -> NDArray[np.float64]:
    """(n, m): COCO's OKS to people who are ignored. Without labels, a joint's distance is counted
    from the box, grown by its own size to every side.
    """
    keypoints, areas = table.keypoints[people].astype(np.float64), table.areas[people]
    labelled = (keypoints[..., 2] > 0).any(axis=1)
    result = np.zeros((len(points), len(people)))
    if not len(people):
        return result
    sigmas = table.skeleton.sigmas
    result[:, labelled] = oks(points, keypoints[labelled], areas[labelled], sigmas)
    for column in np.flatnonzero(~labelled):
        box = table.boxes[people[column]]
        inside = np.clip(points[..., :2], box[:2] - box[2:], box[:2] + 2 * box[2:])
        square = np.square(points[..., :2] - inside).sum(axis=-1)
        spread = 8 * np.square(sigmas) * max(areas[column], 1e-9)
        result[:, column] = np.exp(-square / spread).mean(axis=1)
    return result
