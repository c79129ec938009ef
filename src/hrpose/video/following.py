"""Following the persons in a clip: when the detector runs, and where poses are estimated.

The detector runs at set times and on evidence that the boxes are wrong; in between, a pose is
estimated in the box in which its person is expected. Frames of a file are held back for a moment
until it is certain who is a person, so that no person's first frames are missing.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError
from hrpose.estimator import FullImage, InputImage, PoseEstimator
from hrpose.geometry import Boxes, iou
from hrpose.poses import MIN_SCORE, Poses, boxes_around
from hrpose.video.person import HALF_HIDDEN, Track, limb_colors
from hrpose.video.reading import Clip, Frame
from hrpose.video.smoothing import Smoother
from hrpose.video.tracking import Tracker

# Seconds after which the detector runs again where nothing happens.
DETECT_EVERY = 0.5
# Seconds between two runs for lasting evidence: a person lost or half-hidden, or a change.
EVIDENCE_EVERY = 0.1
# A person who moves, or is off the expected place, by more of the body height is detected anew.
MAX_MOTION = 0.15
MAX_SURPRISE = 0.1
# Cells of the image, and by how many of 255 gray levels one changes where something is new.
CELLS_WH = (32, 24)
MIN_CHANGE = 14
# Frames of a file are held back for at most so many seconds, and so many frames.
MAX_WAIT = 0.5
MAX_WAITING = 16
# Seconds for which a person is looked for where expected, without the detector.
STILL_LOOKED = 0.3
# Boxes that share more show the same person.
SAME_IOU = 0.7


def follow(
    estimator: PoseEstimator,
    source: Clip | str | Path,
    *,
    detect_every: float = DETECT_EVERY,
    smooth: bool = True,
) -> Iterator[tuple[Frame, Poses]]:
    """Each frame of a clip or camera ("camera:0") with the poses of its persons and their ids.

    The estimator's detector runs every `detect_every` seconds, and in between where there is
    evidence for it: keypoint scores fall, a person moves by more than a part of the body height or
    is lost or new, or the image changes where none is. In the other frames a person's box is the
    one around the keypoints of the frame before, moved by the velocity. With 0 seconds it runs on
    every frame. Where the full image is the box, it is used only until a person is found.

    A person is returned from the first frame on, but only once detected in several: frames of a
    file are held back for up to half a second while a person is not confirmed. A camera's frames
    are not, so there persons appear some frames later. `smooth` smooths the keypoints over time
    (`Smoother`). Raises UserError where the source cannot be read.
    """
    if not detect_every >= 0:
        raise UserError(
            f"detect_every: expected 0 or more seconds, found {detect_every}", code="option-invalid"
        )
    if isinstance(source, Clip):
        yield from _follow(estimator, source, detect_every, smooth)
    else:
        with Clip.open(source) as clip:
            yield from _follow(estimator, clip, detect_every, smooth)


def _follow(
    estimator: PoseEstimator, clip: Clip, detect_every: float, smooth: bool
) -> Iterator[tuple[Frame, Poses]]:
    follower, smoother = _Follower(estimator, detect_every), Smoother()
    waiting: deque[tuple[Frame, Poses]] = deque()

    def due(time: float) -> Iterator[tuple[Frame, Poses]]:
        """Those whose persons are known, or that have waited long enough."""
        while waiting:
            frame, poses = waiting[0]
            late = clip.live or len(waiting) > MAX_WAITING or time - frame.time > MAX_WAIT
            if not late and follower.undecided(poses):
                return
            waiting.popleft()
            known = follower.named(poses)
            yield frame, smoother(known, frame.time) if smooth else known

    for frame in clip:
        waiting.append((frame, follower.poses(frame)))
        yield from due(frame.time)
    follower.tracker.finish()
    yield from due(np.inf)


class _Follower:
    """Estimates the poses of each frame, and runs the detector when it is due."""

    def __init__(self, estimator: PoseEstimator, detect_every: float) -> None:
        self.estimator = estimator
        self.detect_every = detect_every
        self.full_image = isinstance(estimator.detector, FullImage)
        min_score = estimator.min_score
        if min_score is None:
            min_score = 0.0 if self.full_image else MIN_SCORE
        self.tracker = Tracker(min_score=min_score, confirm=not self.full_image)
        self._detected = -np.inf
        self._cells: NDArray[np.float32] | None = None
        self._time = 0.0

    def poses(self, frame: Frame) -> Poses:
        """The poses of a frame, with the numbers of their tracks as `track_ids`."""
        tracks = self.tracker.tracks
        step, self._time = frame.time - self._time, frame.time
        visible = [track for track in tracks if track.visible]
        if not self._due(frame, visible, step):
            before = self.tracker.copy()
            lately = [t for t in tracks if t.id and frame.time - t.time <= STILL_LOOKED]
            looked = visible + [track for track in lately if not track.visible]
            poses = self._update(frame, looked, detect=False)
            if not self._wrong(visible, frame.time):
                return poses
            # The boxes were wrong: this frame again, with the detector.
            self.tracker = before
        return self._update(frame, self.tracker.tracks, detect=True)

    def undecided(self, poses: Poses) -> bool:
        """Whether there are poses of tracks that may yet become persons."""
        numbers: Any = poses.track_ids
        return any(self.tracker.waits(number) for number in numbers.tolist())

    def named(self, poses: Poses) -> Poses:
        """The poses of persons, with their ids."""
        numbers: Any = poses.track_ids
        ids = np.array([self.tracker.id_of(number) or 0 for number in numbers.tolist()], np.int64)
        return replace(poses, track_ids=ids)[ids > 0]

    def _due(self, frame: Frame, visible: list[Track], step: float) -> bool:
        if self.full_image:
            return not visible
        since = frame.time - self._detected + 1e-6
        if since >= self.detect_every:
            return True
        for track in visible:
            young = track.velocity is None or not (track.id or track.inside or not track.strong)
            if young or track.speed * step > MAX_MOTION:
                return True
        if since < EVIDENCE_EVERY:
            return False
        unsure = any(not (track.id or track.inside) for track in visible)
        lost = any(track.id and not track.visible for track in self.tracker.tracks)
        return unsure or lost or self._changed(frame, visible)

    def _wrong(self, visible: list[Track], time: float) -> bool:
        """Whether the poses in the expected boxes say that a person is elsewhere."""
        if self.full_image:
            return not all(track.visible for track in visible)
        lasting = time - self._detected >= EVIDENCE_EVERY
        for track in visible:
            if not track.visible or track.surprise > MAX_SURPRISE:
                return True
            if track.quality < HALF_HIDDEN and lasting:
                return True
        return False

    def _changed(self, frame: Frame, visible: list[Track]) -> bool:
        """Whether the image differs from that of the last detection, where none is expected."""
        if self._cells is None:
            return True
        difference = np.abs(_cells(frame.image) - self._cells)
        height, width = frame.image.shape[:2]
        scale = np.array(CELLS_WH) / (width, height)
        for x, y, w, h in self.tracker.expected(visible, frame.time).xywh:
            low = np.maximum(np.floor(((x - 0.15 * w, y - 0.1 * h)) * scale), 0).astype(int)
            high = np.maximum(np.ceil(((x + 1.15 * w, y + 1.1 * h)) * scale), 0).astype(int)
            difference[low[1] : high[1], low[0] : high[0]] = 0
        return bool(difference.max() > MIN_CHANGE)

    def _update(self, frame: Frame, tracks: list[Track], *, detect: bool) -> Poses:
        """Estimate poses in detected boxes, and in expected ones where no person was detected."""
        height, width = frame.image.shape[:2]
        found = Boxes.empty()
        if detect:
            seen = self.estimator.image(frame.image)
            found = Boxes(seen.boxes, seen.box_scores)
            self._detected = frame.time
            if not self.full_image:
                self._cells = _cells(frame.image)
        expected = self.tracker.expected(tracks, frame.time)
        centers = expected.xywh[:, :2] + expected.xywh[:, 2:] / 2
        looked = np.all((centers > 0) & (centers < (width, height)), axis=1)
        if len(found) and len(expected):
            looked &= (iou(expected.xywh, found.xywh) < SAME_IOU).all(axis=1)
        if self.full_image and detect:
            looked[:] = False
        own = [track.number for track, look in zip(tracks, looked, strict=True) if look]
        owners = np.concatenate([np.zeros(len(found), np.int64), np.array(own, np.int64)])
        boxes = np.concatenate([found.xywh, expected.xywh[looked]])
        scores = np.concatenate([found.scores, expected.scores[looked]])
        image = InputImage.of(frame.image, boxes, scores)
        ((_, poses),) = self.estimator.stream([image], select=False)
        # Faces and hands have many keypoints, but say little about who is who.
        body = poses.skeleton.body
        bodies = poses if len(body) == len(poses.skeleton) else Poses(
            poses.keypoints[:, body], poses.boxes, poses.scores, poses.skeleton.subset(body)
        )  # fmt: skip
        around = boxes_around(bodies.keypoints, boxes, (width, height))
        numbers = self.tracker.update(
            bodies, frame.time, owners=owners, boxes=around, box_scores=scores, detected=detect,
            colors=limb_colors(frame.image, bodies),
        )  # fmt: skip
        return replace(poses, track_ids=numbers)[numbers > 0]


def _cells(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The image as a few gray cells."""
    height, width = image.shape[:2]
    step = max(1, min(height // 96, width // 128))
    small = cv2.resize(image[::step, ::step], CELLS_WH, interpolation=cv2.INTER_AREA)
    cells: NDArray[np.float32] = np.asarray(small, np.float32).mean(axis=2)
    return cells
