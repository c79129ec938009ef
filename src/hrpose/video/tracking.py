"""Who is who from frame to frame.

Poses are given to the people followed so far so that the sum of their similarities is greatest
(the Hungarian method). Similar is what OKS says; where too few keypoints of a pose are sure, or a
fast person has left OKS's few pixels, half of the boxes' overlap counts.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from hrpose.detection.detector import Boxes, FullImage
from hrpose.errors import UserError
from hrpose.estimator import InputImage, PoseEstimator
from hrpose.geometry import iou
from hrpose.metrics import oks_nms
from hrpose.metrics.oks import oks
from hrpose.poses import SURE_SCORE, Poses, boxes_around
from hrpose.video.reading import Clip, Frame
from hrpose.video.smoothing import Smoother

# With fewer sure keypoints a pose is compared by its box.
SURE_KEYPOINTS = 4
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
        self._persons: list[_Person] = []
        self._next_id = 1

    def update(self, poses: Poses, time: float) -> NDArray[np.int64]:
        """The ids (n,) of the poses in the next frame, which is at `time` in seconds."""
        self._persons = [person for person in self._persons if time - person.time <= self.keep]
        ids = np.zeros(len(poses), np.int64)
        similar = self._similarities(poses, time)
        for row, column in zip(*linear_sum_assignment(similar, maximize=True), strict=True):
            if similar[row, column] >= LEAST_SIMILARITY:
                person = self._persons[column]
                _assign(person, poses, row, time)
                ids[row] = person.id
        for row in np.flatnonzero(ids == 0):
            ids[row] = self._next_id
            self._persons.append(
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
        if not len(poses) or not self._persons:
            return np.zeros((len(poses), len(self._persons)))
        shifts = np.stack([person.shift(time) for person in self._persons])
        truth = np.stack([person.keypoints for person in self._persons])
        truth[..., :2] += shifts[:, None]
        boxes = np.stack([person.box for person in self._persons])
        boxes[:, :2] += shifts
        sure = truth[..., 2] >= SURE_SCORE
        truth[..., 2] = sure
        # Where someone is becomes less certain with every second out of sight.
        unseen = np.array([time - person.time for person in self._persons])
        areas = boxes[:, 2] * boxes[:, 3] * np.square(1 + unseen)
        similar = oks(poses.keypoints, truth, areas, poses.skeleton.sigmas)
        enough = (poses.keypoints[..., 2] >= SURE_SCORE).sum(axis=1) >= SURE_KEYPOINTS
        similar *= enough[:, None] & (sure.sum(axis=1) >= SURE_KEYPOINTS)
        return np.maximum(similar, iou(poses.boxes, boxes) / 2)


def _assign(person: _Person, poses: Poses, row: int, time: float) -> None:
    keypoints = poses.keypoints[row].astype(np.float64)
    both = (keypoints[:, 2] >= SURE_SCORE) & (person.keypoints[:, 2] >= SURE_SCORE)
    if time > person.time and both.sum() >= SURE_KEYPOINTS:
        moved = np.median(keypoints[both, :2] - person.keypoints[both, :2], axis=0)
        # Half old, half new: keypoints tremble, people do not.
        person.velocity = (person.velocity + moved / (time - person.time)) / 2
    person.keypoints, person.time = keypoints, time
    person.box = poses.boxes[row].astype(np.float64)


# Frames whose people go through the network together, where the detector looks at every frame.
CHUNK = 8
# Two poses of one frame that are more alike than this (OKS) are the same person twice.
SAME_PERSON = 0.7


def follow(
    estimator: PoseEstimator, source: Clip | str | Path, *, every: int = 5, smooth: bool = True
) -> Iterator[tuple[Frame, Poses]]:
    """Each frame of a clip or camera ("camera:0") with the poses of its people and their ids.

    The estimator's detector looks at every `every`-th frame; between, people are sought around
    their keypoints of the frame before. With `every` of 1 the people of several frames go through
    the network together. Where the detector is no more than the full image, it is asked only
    while nobody is followed. `smooth` steadies the keypoints (`Smoother`). Raises UserError where
    the source cannot be read.
    """
    if every < 1:
        raise UserError(f"every: expected at least 1, found {every}")
    if isinstance(source, Clip):
        yield from _follow(estimator, source, every, smooth)
    else:
        with Clip.open(source) as clip:
            yield from _follow(estimator, clip, every, smooth)


def _follow(
    estimator: PoseEstimator, clip: Clip, every: int, smooth: bool
) -> Iterator[tuple[Frame, Poses]]:
    tracker, smoother = Tracker(), Smoother()
    blind = isinstance(estimator.detector, FullImage)
    persons = Boxes.empty()

    def image(frame: Frame) -> InputImage:
        due = not len(persons) if blind else frame.index % every == 0
        if due:
            return estimator.image(frame.image)
        return InputImage.of(frame.image, persons.xywh, persons.scores)

    together = CHUNK if every == 1 and not blind and not clip.live else 1
    for frames in _chunks(clip, together):
        images = [replace(image(frame), key=frame) for frame in frames]
        for seen, poses in estimator.stream(images):
            frame: Frame = seen.key
            kept = _distinct(poses)
            poses = poses[kept]
            persons = _next_boxes(poses, seen.box_scores[kept], frame.image, blind)
            poses = replace(poses, track_ids=tracker.update(poses, frame.time))
            yield frame, smoother(poses, frame.time) if smooth else poses


def _chunks(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    remaining = iter(frames)
    while chunk := list(islice(remaining, size)):
        yield chunk


def _distinct(poses: Poses) -> NDArray[np.int64]:
    """The indices of the poses without repetitions: where people cross, two boxes find one."""
    areas = poses.boxes[:, 2:].prod(axis=1)
    kept = oks_nms(poses.keypoints, areas, poses.scores, SAME_PERSON, poses.skeleton.sigmas)
    return np.sort(kept)


def _next_boxes(
    poses: Poses, scores: NDArray[np.float64], image: NDArray[np.uint8], blind: bool
) -> Boxes:
    """Where to look for these people in the next frame; their boxes' `scores` go with them.

    Who has few sure keypoints is sought in the same box again: a detector saw somebody there. Of
    the full image (`blind`) nobody said so.
    """
    before = poses.boxes.astype(np.float64)
    boxes = boxes_around(poses.keypoints, before, (image.shape[1], image.shape[0]))
    if not blind:
        return Boxes(boxes, scores)
    found = (boxes != before).any(axis=1)
    return Boxes(boxes[found], scores[found])
