"""Who is who from frame to frame.

Poses are given to the people followed so far so that the sum of their similarities is greatest
(the Hungarian method). Similar is what OKS says; where too few joints of a pose are sure, or a
fast person has left OKS's few pixels, half of the boxes' overlap counts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from hrpose.geometry import iou
from hrpose.metrics.oks import oks
from hrpose.poses import SURE_SCORE, Poses

# With fewer sure joints a pose is compared by its box.
SURE_JOINTS = 4
# A pair with less similarity is not the same person.
LEAST_SIMILARITY = 0.15
# How long a person who is out of sight is thought to walk on, in seconds.
COASTING = 0.5


@dataclass(slots=True)
class _Person:
    """Someone who is followed: the last pose, when it was, and how fast it moves in pixels/s."""

    id: int
    keypoints: NDArray[np.float64]
    box: NDArray[np.float64]
    time: float
    velocity: NDArray[np.float64]

    def shift(self, time: float) -> NDArray[np.float64]:
        """(2,): how far this person has moved by `time`, if nothing changed."""
        return self.velocity * min(time - self.time, COASTING)


class Tracker:
    """Gives each pose the id of a person, frame by frame; ids count from 1 and stay.

    A person out of sight is remembered for `keep` seconds and then forgotten: who comes back later
    is somebody new.
    """

    def __init__(self, keep: float = 2.0) -> None:
        self.keep = keep
        self._people: list[_Person] = []
        self._next_id = 1

    def update(self, poses: Poses, time: float) -> NDArray[np.int64]:
        """The ids (n,) of the poses in the next frame, which is at `time` in seconds."""
        self._people = [person for person in self._people if time - person.time <= self.keep]
        ids = np.zeros(len(poses), np.int64)
        similar = self._similarities(poses, time)
        for row, column in zip(*linear_sum_assignment(similar, maximize=True), strict=True):
            if similar[row, column] >= LEAST_SIMILARITY:
                person = self._people[column]
                _follow(person, poses, row, time)
                ids[row] = person.id
        for row in np.flatnonzero(ids == 0):
            ids[row] = self._next_id
            self._people.append(
                _Person(
                    self._next_id,
                    poses.keypoints[row].astype(np.float64),
                    poses.boxes[row].astype(np.float64),
                    time,
                    np.zeros(2),
                )
            )
            self._next_id += 1
        return ids

    def _similarities(self, poses: Poses, time: float) -> NDArray[np.float64]:
        """(n poses, m people) in [0, 1]."""
        if not len(poses) or not self._people:
            return np.zeros((len(poses), len(self._people)))
        shifts = np.stack([person.shift(time) for person in self._people])
        truth = np.stack([person.keypoints for person in self._people])
        truth[..., :2] += shifts[:, None]
        boxes = np.stack([person.box for person in self._people])
        boxes[:, :2] += shifts
        sure = truth[..., 2] >= SURE_SCORE
        truth[..., 2] = sure
        # Where someone is becomes less certain with every second out of sight.
        unseen = np.array([time - person.time for person in self._people])
        areas = boxes[:, 2] * boxes[:, 3] * np.square(1 + unseen)
        similar = oks(poses.keypoints, truth, areas, poses.skeleton.sigmas)
        enough = (poses.keypoints[..., 2] >= SURE_SCORE).sum(axis=1) >= SURE_JOINTS
        similar *= enough[:, None] & (sure.sum(axis=1) >= SURE_JOINTS)
        return np.maximum(similar, iou(poses.boxes, boxes) / 2)


def _follow(person: _Person, poses: Poses, row: int, time: float) -> None:
    keypoints = poses.keypoints[row].astype(np.float64)
    both = (keypoints[:, 2] >= SURE_SCORE) & (person.keypoints[:, 2] >= SURE_SCORE)
    if time > person.time and both.sum() >= SURE_JOINTS:
        moved = np.median(keypoints[both, :2] - person.keypoints[both, :2], axis=0)
        # Half old, half new: joints tremble, people do not.
        person.velocity = (person.velocity + moved / (time - person.time)) / 2
    person.keypoints, person.time = keypoints, time
    person.box = poses.boxes[row].astype(np.float64)
