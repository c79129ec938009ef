"""Tracking persons from frame to frame.

Poses are matched to the tracks so that the sum of their similarities is greatest (the Hungarian
method). The similarity is OKS; where too few keypoints of a pose are confident, or a person has
moved too fast for OKS, it is half the IoU of the boxes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from hrpose.errors import UserError
from hrpose.estimator import FullImage, InputImage, PoseEstimator, select
from hrpose.geometry import Boxes, iou
from hrpose.metrics.oks import oks
from hrpose.poses import CONFIDENT_SCORE, Poses, boxes_around
from hrpose.video.reading import Clip, Frame
from hrpose.video.smoothing import Smoother

# With fewer confident keypoints a pose is compared by its box.
SURE_KEYPOINTS = 4
# A pair with less similarity is not the same person.
MIN_SIMILARITY = 0.15
# Seconds for which a person out of sight is expected to keep moving.
MAX_COASTING = 0.5


@dataclass(slots=True)
class _Track:
    """A person's last keypoints (k, 3), box and `time` in seconds, and velocity in pixels/s."""

    id: int
    keypoints: NDArray[np.float64]
    box: NDArray[np.float64]
    time: float
    velocity: NDArray[np.float64]

    def shift(self, time: float) -> NDArray[np.float64]:
        """(2,) the motion in pixels from the last frame to `time` at constant velocity."""
        return self.velocity * min(time - self.time, MAX_COASTING)


class Tracker:
    """Assigns each pose the id of a person, frame by frame; ids count from 1 and are not reused.

    The track of a person out of sight is kept for `keep` seconds; a person who comes back later
    gets a new id.
    """

    def __init__(self, keep: float = 2.0) -> None:
        self.keep = keep
        self._tracks: list[_Track] = []
        self._next_id = 1

    def update(self, poses: Poses, time: float) -> NDArray[np.int64]:
        """The ids (n,) of the poses in the next frame, which is at `time` in seconds."""
        self._tracks = [track for track in self._tracks if time - track.time <= self.keep]
        ids = np.zeros(len(poses), np.int64)
        similar = self._similarities(poses, time)
        for row, column in zip(*linear_sum_assignment(similar, maximize=True), strict=True):
            if similar[row, column] >= MIN_SIMILARITY:
                track = self._tracks[column]
                _update(track, poses, row, time)
                ids[row] = track.id
        for row in np.flatnonzero(ids == 0):
            ids[row] = self._next_id
            self._tracks.append(
                _Track(
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
        """(n poses, m tracks) in [0, 1]."""
        if not len(poses) or not self._tracks:
            return np.zeros((len(poses), len(self._tracks)))
        shifts = np.stack([track.shift(time) for track in self._tracks])
        truth = np.stack([track.keypoints for track in self._tracks])
        truth[..., :2] += shifts[:, None]
        boxes = np.stack([track.box for track in self._tracks])
        boxes[:, :2] += shifts
        sure = truth[..., 2] >= CONFIDENT_SCORE
        truth[..., 2] = sure
        # The position becomes less certain with every second out of sight.
        unseen = np.array([time - track.time for track in self._tracks])
        areas = boxes[:, 2] * boxes[:, 3] * np.square(1 + unseen)
        similar = oks(poses.keypoints, truth, areas, poses.skeleton.sigmas)
        enough = (poses.keypoints[..., 2] >= CONFIDENT_SCORE).sum(axis=1) >= SURE_KEYPOINTS
        similar *= enough[:, None] & (sure.sum(axis=1) >= SURE_KEYPOINTS)
        return np.maximum(similar, iou(poses.boxes, boxes) / 2)


def _update(track: _Track, poses: Poses, row: int, time: float) -> None:
    keypoints = poses.keypoints[row].astype(np.float64)
    both = (keypoints[:, 2] >= CONFIDENT_SCORE) & (track.keypoints[:, 2] >= CONFIDENT_SCORE)
    if time > track.time and both.sum() >= SURE_KEYPOINTS:
        moved = np.median(keypoints[both, :2] - track.keypoints[both, :2], axis=0)
        # The mean of old and new, because keypoints are noisier than persons.
        track.velocity = (track.velocity + moved / (time - track.time)) / 2
    track.keypoints, track.time = keypoints, time
    track.box = poses.boxes[row].astype(np.float64)


# Frames whose crops share a batch, where the detector runs on every frame.
CHUNK = 8


def follow(
    estimator: PoseEstimator, source: Clip | str | Path, *, every: int = 5, smooth: bool = True
) -> Iterator[tuple[Frame, Poses]]:
    """Each frame of a clip or camera ("camera:0") with the poses of its persons and their ids.

    The estimator's detector runs on every `every`-th frame; in the frames between, the boxes are
    those around the keypoints of the frame before. With `every` of 1 the crops of several frames
    share batches. Where the full image is the box, it is used only until a person is found.
    `smooth` smooths the keypoints over time (`Smoother`). Raises UserError where the source cannot
    be read.
    """
    if every < 1:
        raise UserError(f"every: expected at least 1, found {every}", code="option-invalid")
    if isinstance(source, Clip):
        yield from _follow(estimator, source, every, smooth)
    else:
        with Clip.open(source) as clip:
            yield from _follow(estimator, clip, every, smooth)


def _follow(
    estimator: PoseEstimator, clip: Clip, every: int, smooth: bool
) -> Iterator[tuple[Frame, Poses]]:
    tracker, smoother = Tracker(), Smoother()
    full_image = isinstance(estimator.detector, FullImage)
    persons = Boxes.empty()

    def image(frame: Frame) -> InputImage:
        due = not len(persons) if full_image else frame.index % every == 0
        if due:
            return estimator.image(frame.image)
        return InputImage.of(frame.image, persons.xywh, persons.scores)

    chunk = CHUNK if every == 1 and not full_image and not clip.live else 1
    for frames in _chunks(clip, chunk):
        images = [replace(image(frame), key=frame) for frame in frames]
        for cropped, poses in estimator.stream(images, select=False):
            frame: Frame = cropped.key
            # Boxes between the detector's frames are those of persons that it found.
            chosen = select(poses, detected=not full_image, min_score=estimator.min_score)
            poses = poses[chosen]
            persons = _next_boxes(poses, cropped.box_scores[chosen], frame.image, full_image)
            poses = replace(poses, track_ids=tracker.update(poses, frame.time))
            yield frame, smoother(poses, frame.time) if smooth else poses


def _chunks(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    remaining = iter(frames)
    while chunk := list(islice(remaining, size)):
        yield chunk


def _next_boxes(
    poses: Poses, scores: NDArray[np.float64], image: NDArray[np.uint8], full_image: bool
) -> Boxes:
    """The boxes of these persons for the next frame, with the `scores` of their boxes.

    A person with few confident keypoints keeps the box, in which a detector found a person; but not
    where the box is the full image.
    """
    before = poses.boxes.astype(np.float64)
    boxes = boxes_around(poses.keypoints, before, (image.shape[1], image.shape[0]))
    if not full_image:
        return Boxes(boxes, scores)
    moved = (boxes != before).any(axis=1)
    return Boxes(boxes[moved], scores[moved])
