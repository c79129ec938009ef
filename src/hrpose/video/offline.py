"""The offline pass: better poses in a clip, from all of its frames at once.

    follow ─▶ poses of every frame ─▶ tracks ─ swaps repaired, gaps filled, smoothed ─▶ tracks
        ─ boxes around them, smoothed ─▶ a second pose in each box ─ the same again ─▶ poses

A clip is decoded once for the first
poses, once for the second ones and once more to hand out the frames; frames are never kept.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrpose.covariance import interpolated
from hrpose.errors import UserError
from hrpose.estimator import InputImage, PoseEstimator
from hrpose.geometry import iou_of_pairs, xywh_to_xyxy, xyxy_to_xywh
from hrpose.metrics.oks import oks
from hrpose.poses import CONFIDENT_SCORE, Poses, boxes_around, rescore
from hrpose.skeleton import Skeleton
from hrpose.video.following import DETECT_EVERY, follow
from hrpose.video.reading import Clip, Frame
from hrpose.video.smoothing import rts_smooth
from hrpose.video.tracks import MIN_STEP, ClipPoses, Track, check_person, find_swaps, swap

# Seconds over which keypoints, and persons, are interpolated.
MAX_GAP = 0.5
# The standard deviation of a keypoint with a score of 1, in body heights (the longer side of the
# box); it grows with the inverse square of the score. Measured with w16-small on 150 persons of
# COCO: the median error is 1.18 standard deviations, at every keypoint and score alike.
_NOISE = 0.0074
# The spectral density of a keypoint's acceleration, in squared body heights per second cubed. At 30
# frames/s and a score of 0.65 the smoothing is that of a low-pass filter at 6 Hz run forward and
# back, which is customary in gait analysis.
_MOTION = 20.0
# For swaps a smaller one: their usual motion tells which of two keypoints goes on.
_EVEN_MOTION = 2.0
# The same for the corners of boxes, in body heights.
_BOX_NOISE = 0.05
# A second pose with a lower OKS to the smoothed first one shows another person, or fails.
_MIN_AGREEMENT = 0.5


def refine_clip(poses: ClipPoses, *, max_gap: float = MAX_GAP) -> ClipPoses:
    """The same persons with left and right repaired, gaps filled and keypoints smoothed.

    A keypoint with a score below 0.2, or of a person who was not found, is interpolated where the
    person is sure of it before and after within `max_gap` seconds; it gets the lower of the two
    scores and is `filled`. In longer gaps it stays as it was. Covariances stay those of the
    measurements, because errors of neighboring frames are alike; see `interpolated` for the gaps.
    """
    _check_gap(max_gap)
    tracks = (_refine(track, poses.times, poses.skeleton, max_gap) for track in poses.tracks)
    return replace(poses, tracks=tuple(tracks))


def _check_gap(max_gap: float) -> None:
    if not max_gap >= 0:  # NaN is wrong too
        raise UserError(
            f"max_gap: expected seconds of at least 0, found {max_gap}", code="option-invalid"
        )


def _refine(
    track: Track, all_times: NDArray[np.float64], skeleton: Skeleton, max_gap: float
) -> Track:
    track = _unbroken(track)
    times = all_times[track.frames]
    heights = np.maximum(track.boxes[:, 2:].max(axis=1), 1).astype(np.float64)
    keypoints = track.keypoints
    swapped = find_swaps(
        keypoints[..., :2].astype(np.float64), times, _noise(keypoints, heights),
        _EVEN_MOTION * heights**2, skeleton,
    )  # fmt: skip
    keypoints = swap(keypoints, swapped, skeleton)
    covariance = track.covariance
    if covariance is not None:
        covariance = swap(covariance, swapped, skeleton)
    noise = _noise(keypoints, heights)
    smoothed = rts_smooth(keypoints[..., :2].astype(np.float64), times, noise, _MOTION * heights**2)
    seen = np.isfinite(noise)
    between, score = _between(seen, keypoints[..., 2], times, max_gap)
    found = track.scores > 0
    better = seen | between | ~found[:, None]
    keypoints[..., :2] = np.where(better[..., None], smoothed, keypoints[..., :2])
    keypoints[..., 2] = np.where(between, score, keypoints[..., 2])
    if covariance is not None:
        moved = between | (~found[:, None] & ~seen)
        covariance = interpolated(covariance, seen, moved, times, _MOTION * heights**2)
    refined = replace(track, keypoints=keypoints, filled=between, covariance=covariance)
    return _with_scores(refined, found)[found | between.any(axis=1)]


def _unbroken(track: Track) -> Track:
    """The track with a row for each frame from its first to its last.

    Rows that were missing have interpolated boxes, and scores of 0.
    """
    frames = np.arange(track.frames[0], track.frames[-1] + 1)
    rows = track.frames - frames[0]
    t, k = len(frames), track.keypoints.shape[1]
    keypoints, scores = np.zeros((t, k, 3), np.float32), np.zeros(t, np.float32)
    keypoints[rows], scores[rows] = track.keypoints, np.maximum(track.scores, 1e-6)
    boxes = [np.interp(frames, track.frames, column) for column in track.boxes.T]
    covariance = None
    if track.covariance is not None:
        covariance = np.zeros((t, k, 2, 2), np.float32)
        covariance[rows] = track.covariance
    return Track(
        track.id, frames, keypoints, np.stack(boxes, axis=1).astype(np.float32), scores,
        np.zeros((t, k), np.bool_), covariance,
    )  # fmt: skip


def _with_scores(track: Track, found: NDArray[np.bool_]) -> Track:
    """Rows that were not `found` get a pose's score from the frames before and after, the lower."""
    rows = np.flatnonzero(found)
    after = np.searchsorted(rows, np.arange(len(found))).clip(0, len(rows) - 1)
    before = np.where(found, after, (after - 1).clip(0))
    lower = np.minimum(track.scores[rows[before]], track.scores[rows[after]])
    return replace(track, scores=np.where(found, track.scores, lower))


def _noise(keypoints: NDArray[np.float32], heights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(t, k): the standard deviations in pixels, inf for keypoints that are not sure."""
    scores = keypoints[..., 2].astype(np.float64)
    sure = scores >= CONFIDENT_SCORE
    noise: NDArray[np.float64] = np.where(
        sure, _NOISE * heights[:, None] / np.maximum(scores, 1e-3) ** 2, np.inf
    )
    return noise


def _between(
    seen: NDArray[np.bool_], scores: NDArray[np.float32], times: NDArray[np.float64], max_gap: float
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """(t, k) whether a keypoint is in a gap of at most `max_gap` seconds, and its new score.

    The gap lasts from the last frame in which it is `seen` to the next.
    """
    t, k = seen.shape
    index = np.broadcast_to(np.arange(t)[:, None], (t, k))
    before = np.maximum.accumulate(np.where(seen, index, -1), axis=0)
    after = np.minimum.accumulate(np.where(seen, index, t)[::-1], axis=0)[::-1]
    inside = ~seen & (before >= 0) & (after < t)
    first, last = np.where(inside, before, 0), np.where(inside, after, 0)
    # Times are sums of rounded steps.
    short = inside & (times[last] - times[first] <= max_gap + MIN_STEP)
    columns = np.arange(k)
    return short, np.minimum(scores[first, columns], scores[last, columns])


def smooth_boxes(poses: ClipPoses, image_wh: tuple[int, int]) -> ClipPoses:
    """The same persons in boxes around their keypoints, smoothed over time.

    A person with few sure keypoints keeps the box, until it is smoothed.
    """
    tracks = []
    for track in poses.tracks:
        boxes = boxes_around(track.keypoints, track.boxes.astype(np.float64), image_wh)
        heights = np.maximum(boxes[:, 2:].max(axis=1), 1)
        corners = xywh_to_xyxy(boxes).reshape(-1, 2, 2)
        noise = np.broadcast_to(_BOX_NOISE * heights[:, None], (len(boxes), 2))
        smoothed = rts_smooth(
            corners, poses.times[track.frames], noise, _MOTION * heights**2
        ).reshape(-1, 4)
        even = xyxy_to_xywh(smoothed)
        # A box that turned inside out is none.
        large = np.asarray((even[:, 2:] > 1).all(axis=1))
        even = np.where(large[:, None], even, boxes)
        tracks.append(replace(track, boxes=even.astype(np.float32)))
    return replace(poses, tracks=tuple(tracks))


def agree(first: Poses, second: Poses) -> NDArray[np.bool_]:
    """(n,) which of the `second` poses, in the boxes of the `first`, show the same persons.

    Left and right may be swapped. A pose that is nearer to another person than to its own, whose
    keypoints are all interpolated, is that person's.
    """
    truth = first.keypoints.astype(np.float64)
    truth[..., 2] = truth[..., 2] >= CONFIDENT_SCORE
    areas = np.prod(first.boxes[:, 2:], axis=1, dtype=np.float64)
    sigmas = first.skeleton.sigmas
    mirrored = second.keypoints[:, first.skeleton.flip_permutation]
    similar = np.maximum(
        oks(second.keypoints, truth, areas, sigmas), oks(mirrored, truth, areas, sigmas)
    )
    own = np.diag(similar)
    filled = np.zeros(first.keypoints.shape[:2], np.bool_) if first.filled is None else first.filled
    hidden: NDArray[np.bool_] = np.asarray(filled.all(axis=1), np.bool_)
    others = np.where(np.eye(len(first), dtype=np.bool_) | hidden, 0, similar).max(
        axis=1, initial=0
    )
    result: NDArray[np.bool_] = (own >= _MIN_AGREEMENT) & ~(hidden & (others > own))
    return result


# Called with the name of a pass and its number of frames so far; False ends the work.
Progress = Callable[[str, int], bool]
# Called with each frame of the first pass, and its poses as they are found.
Found = Callable[[Frame, Poses], None]


def follow_offline(
    estimator: PoseEstimator,
    source: Clip | str | Path,
    *,
    detect_every: float = DETECT_EVERY,
    person: str | None = None,
    max_gap: float = MAX_GAP,
    recrop: bool = True,
    progress: Progress | None = None,
    found: Found | None = None,
) -> Iterator[tuple[Frame, Poses]]:
    """Each frame of a clip with the poses of its persons, after a pass over the whole clip.

    As `follow`, but for files only: swapped left and right are repaired, gaps of at most `max_gap`
    seconds filled (`Poses.filled`), and keypoints smoothed without lag. With `recrop` poses are
    estimated a second time, in boxes that were smoothed too, which is twice the work of the
    network. `person` chooses one person, see `ClipPoses.only`. Frames come at the end; before,
    `progress` is called for each frame of each pass, and `found` with the poses of the first.
    Raises UserError where the source cannot be read, is a camera, or the person is not in it.
    """
    _check_gap(max_gap)
    if person is not None:
        check_person(person)
    name = source.name if isinstance(source, Clip) else source
    report = progress or (lambda what, done: True)
    skeleton = estimator.skeleton
    first = _Pass("poses", report)
    with Clip.open(name) as clip:
        if clip.live:
            raise UserError(
                f"{name}: the offline pass needs a clip that ends, found a camera; record it first",
                code="option-conflict",
            )
        size: list[tuple[int, int]] = []
        followed = follow(estimator, clip, detect_every=detect_every, smooth=False)
        poses = first.collect(_timed(followed, size, found), skeleton)
    if first.stopped:
        return
    if person is not None:
        try:
            poses = poses.only(person)
        except UserError as error:
            raise UserError(f"{name}: {error}", code=error.code) from error
    poses = refine_clip(poses, max_gap=max_gap)
    if recrop:
        second = _Pass("poses in smoothed boxes", report)
        with Clip.open(name) as clip:
            again = _second_poses(estimator, clip, smooth_boxes(poses, size[0]))
            poses = refine_clip(second.collect(again, skeleton), max_gap=max_gap)
        if second.stopped:
            return
    if isinstance(source, Clip):
        yield from _with_frames(source, poses)
    else:
        with Clip.open(source) as clip:
            yield from _with_frames(clip, poses)


def _timed(
    followed: Iterable[tuple[Frame, Poses]], size: list[tuple[int, int]], found: Found | None
) -> Iterator[tuple[float, Poses]]:
    """The times of the frames with their poses; the (w, h) of the frames is put into `size`."""
    for frame, poses in followed:
        size[:] = [(frame.image.shape[1], frame.image.shape[0])]
        if found is not None:
            found(frame, poses)
        yield frame.time, poses


def _with_frames(clip: Iterable[Frame], poses: ClipPoses) -> Iterator[tuple[Frame, Poses]]:
    for frame, found in zip(clip, poses, strict=False):
        height, width = frame.image.shape[:2]
        yield frame, replace(found, image_wh=(width, height))


class _Pass:
    """Collects the poses of one pass over a clip, and reports its progress."""

    def __init__(self, what: str, report: Progress) -> None:
        self.stopped = False
        self._what, self._report = what, report

    def collect(self, found: Iterable[tuple[float, Poses]], skeleton: Skeleton) -> ClipPoses:
        """Until `found` ends, or the report says that it should stop."""
        return ClipPoses.collect(self._reported(found), skeleton)

    def _reported(self, found: Iterable[tuple[float, Poses]]) -> Iterator[tuple[float, Poses]]:
        for done, pair in enumerate(found, start=1):
            yield pair
            if not self._report(self._what, done):
                self.stopped = True
                return


def _second_poses(
    estimator: PoseEstimator, clip: Iterable[Frame], poses: ClipPoses
) -> Iterator[tuple[float, Poses]]:
    """The time and the poses of each frame, estimated in the boxes of `poses`.

    Where such a pose does not agree with the one in `poses`, that one stays, but without its
    interpolated keypoints.
    """

    def images() -> Iterator[InputImage]:
        for frame, time, found in zip(clip, poses.times.tolist(), poses, strict=False):
            height, width = frame.image.shape[:2]
            shown = found[_touches(found.boxes, (width, height))]
            ones = rescore(shown.keypoints, np.ones(len(shown)))
            scores = np.clip(shown.scores / np.maximum(ones, 1e-3), 0, 1)
            image = InputImage.of(frame.image, shown.boxes, scores)
            yield replace(image, key=(time, shown))

    for image, second in estimator.stream(images(), select=False):
        time, first = image.key
        keypoints = first.keypoints.copy()
        keypoints[first.filled, 2] = 0
        again = agree(first, second)
        keypoints[again] = second.keypoints[again]
        covariance = first.covariance
        if covariance is not None and second.covariance is not None:
            covariance = np.where(again[:, None, None, None], second.covariance, covariance)
        merged = replace(
            first,
            keypoints=keypoints,
            scores=np.where(again, second.scores, first.scores),
            filled=None,
            covariance=covariance,
        )
        yield time, merged[again | ~np.asarray(first.filled.all(axis=1))]


def _touches(boxes: NDArray[np.float32], image_wh: tuple[int, int]) -> NDArray[np.bool_]:
    image = np.array([0, 0, *image_wh], np.float32)
    touching: NDArray[np.bool_] = iou_of_pairs(boxes, image) > 0
    return touching
