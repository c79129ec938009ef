"""The people of a clip, frame by frame: find, look closer, tell apart, steady."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrpose.detection.detector import Boxes, Detector
from hrpose.errors import UserError
from hrpose.metrics import oks_nms
from hrpose.poses import Poses
from hrpose.runtime.estimator import Picture, PoseEstimator
from hrpose.video.clip import Clip, Frame
from hrpose.video.smoothing import Smoother
from hrpose.video.tracker import SURE, Tracker

# Frames whose people go through the network together, where a detector looks at each frame.
CHUNK = 8
# Two poses of one frame that are more alike than this (OKS) are the same person twice.
SAME_PERSON = 0.7
# A person with fewer sure joints is left to the detector.
LEAST_JOINTS = 3
# How far a person reaches beyond the joints: left and right, above and below, in shares of the
# joints' longer side. The medians over COCO's people with all joints from nose to ankles labelled.
MARGIN = np.array([0.06, 0.1])


def follow(
    estimator: PoseEstimator,
    source: Clip | str | Path,
    *,
    detector: Detector | None = None,
    every: int = 5,
    smooth: bool = True,
) -> Iterator[tuple[Frame, Poses]]:
    """Each frame of a clip or camera ("camera:0") with the poses of its people and their ids.

    `detector` looks at every `every`-th frame; between, a person's box is what the keypoints of the
    frame before take up. Without a detector the whole picture is one person's box, until somebody
    is found in it. With `every` of 1 the people of several frames go through the network together.
    `smooth` steadies the keypoints (`Smoother`). Raises UserError where the source cannot be read.
    """
    if every < 1:
        raise UserError(f"every: expected at least 1, found {every}")
    if isinstance(source, Clip):
        yield from _follow(estimator, source, detector, every, smooth)
        return
    with Clip.open(source) as clip:
        yield from _follow(estimator, clip, detector, every, smooth)


def _follow(
    estimator: PoseEstimator, clip: Clip, detector: Detector | None, every: int, smooth: bool
) -> Iterator[tuple[Frame, Poses]]:
    tracker, smoother = Tracker(), Smoother()
    known = Boxes.empty()
    chunk_size = CHUNK if detector is not None and every == 1 and not clip.live else 1
    for frames in _chunks(clip, chunk_size):
        pictures = []
        for frame in frames:
            if detector is None:
                boxes = known if len(known) else _whole(frame.image)
            else:
                boxes = detector(frame.image) if frame.index % every == 0 else known
            pictures.append(Picture.of(frame.image, boxes.xywh, boxes.scores))
        found = estimator.stream(pictures)
        for frame, picture, poses in zip(frames, pictures, found, strict=True):
            kept = _distinct(poses)
            poses = poses[kept]
            known = boxes_of(poses, picture.box_scores[kept], frame.image.shape[:2])
            poses = replace(poses, track_ids=tracker.update(poses, frame.time))
            yield frame, smoother(poses, frame.time) if smooth else poses


def _chunks(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    remaining = iter(frames)
    while chunk := list(islice(remaining, size)):
        yield chunk


def _whole(image: NDArray[np.uint8]) -> Boxes:
    height, width = image.shape[:2]
    return Boxes(np.array([[0.0, 0.0, width, height]]), np.ones(1))


def _distinct(poses: Poses) -> NDArray[np.int64]:
    """The indices of the poses without repetitions: where people cross, two boxes find one."""
    areas = poses.boxes[:, 2:].prod(axis=1)
    kept = oks_nms(poses.keypoints, areas, poses.scores, SAME_PERSON, poses.skeleton.sigmas)
    return np.sort(kept)


def boxes_of(poses: Poses, scores: NDArray[np.float64], image_hw: tuple[int, ...]) -> Boxes:
    """Where to look for these people in the next frame: around their sure joints.

    `scores` (n,) are those of the people's boxes and go with them. Who has fewer than three sure
    joints, or is outside the picture, is left out.
    """
    height, width = image_hw
    sure = poses.keypoints[..., 2] >= SURE
    kept = sure.sum(axis=1) >= LEAST_JOINTS
    points = poses.keypoints[kept, :, :2].astype(np.float64)
    hidden = ~sure[kept, :, None]
    start = np.where(hidden, np.inf, points).min(axis=1)
    end = np.where(hidden, -np.inf, points).max(axis=1)
    margin = MARGIN * (end - start).max(axis=1, keepdims=True)
    start = np.clip(start - margin, 0, (width, height))
    end = np.clip(end + margin, 0, (width, height))
    inside = (end - start > 1).all(axis=1)
    boxes = np.concatenate([start, end - start], axis=1)
    return Boxes(boxes[inside], scores[kept][inside])
