"""The people of a clip, frame by frame: find, look closer, tell apart, steady."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrpose.detection.detector import Boxes
from hrpose.detection.simple import FullImage
from hrpose.errors import UserError
from hrpose.metrics import oks_nms
from hrpose.poses import Poses, boxes_around
from hrpose.runtime.estimator import PoseEstimator
from hrpose.runtime.picture import Picture
from hrpose.video.clip import Clip, Frame
from hrpose.video.smoothing import Smoother
from hrpose.video.tracker import Tracker

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
    the network together. Where the detector is no more than the whole picture, it is asked only
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
    people = Boxes.empty()

    def picture(frame: Frame) -> Picture:
        due = not len(people) if blind else frame.index % every == 0
        if due:
            return estimator.picture(frame.image)
        return Picture.of(frame.image, people.xywh, people.scores)

    together = CHUNK if every == 1 and not blind and not clip.live else 1
    for frames in _chunks(clip, together):
        pictures = [replace(picture(frame), key=frame) for frame in frames]
        for seen, poses in estimator.stream(pictures):
            frame: Frame = seen.key
            kept = _distinct(poses)
            poses = poses[kept]
            people = _next_boxes(poses, seen.box_scores[kept], frame.image, blind)
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

    Who has few sure joints is sought in the same box again: a detector saw somebody there. Of the
    whole picture (`blind`) nobody said so.
    """
    before = poses.boxes.astype(np.float64)
    boxes = boxes_around(poses.keypoints, before, (image.shape[1], image.shape[0]))
    if not blind:
        return Boxes(boxes, scores)
    found = (boxes != before).any(axis=1)
    return Boxes(boxes[found], scores[found])
