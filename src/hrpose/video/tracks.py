"""The poses of a whole clip by person, and repair of swapped left and right.

A network may call a left leg right for some frames. Positions then jump: the left ankle continues
where the right one was. `find_swaps` looks for the frames in which to exchange the keypoints of
flip pairs, so that they move most evenly for the least number of exchanges, by dynamic programming
(Viterbi). The cost is the sum of

- motion: how far a keypoint is from where its last two positions lead, in standard deviations of
  what its uncertainty and a person's acceleration allow; bounded, for outliers;
- each time that an exchange begins or ends;
- each second that it lasts, because the network is mostly right: this decides which of the two
  consistent labelings of a clip is meant.

The pairs of a part of the body are decided together, each part by itself: of COCO's keypoints eyes
and ears, the arms from the shoulders, and the legs from the hips. A part may be exchanged as a
whole, or some of its pairs. The result is the exact minimum over the clip. Two keypoints on one
spot, of which one is wrong, are not swapped, and stay as they are.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError
from hrpose.poses import Poses
from hrpose.skeleton import Skeleton

# Frames whose poses are joined into one array at once.
_JOINED = 1000
# The least time between frames, in seconds: damaged clips repeat times.
MIN_STEP = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One person in m of a clip's frames.

    `frames` (m,) are their indices, increasing; `keypoints` (m, k, 3), `boxes` (m, 4) and `scores`
    (m,) are those of `Poses`. `filled` (m, k) marks interpolated keypoints. So is
    `covariance` (m, k, 2, 2), if it is known.
    """

    id: int
    frames: NDArray[np.int64]
    keypoints: NDArray[np.float32]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    filled: NDArray[np.bool_]
    covariance: NDArray[np.float32] | None = None

    def __getitem__(self, rows: Any) -> "Track":
        """Some of the frames, by a mask or indices."""
        names = [field.name for field in fields(self) if field.name != "id"]
        columns = {name: getattr(self, name) for name in names}
        return replace(
            self, **{name: value[rows] for name, value in columns.items() if value is not None}
        )


@dataclass(frozen=True, slots=True, eq=False)
class ClipPoses:
    """The poses in all frames of a clip, by person.

    `times` (t,) in seconds. An hour at 30 frames/s takes 27 MB for each person of 17 keypoints.
    """

    times: NDArray[np.float64]
    tracks: tuple[Track, ...]
    skeleton: Skeleton

    @classmethod
    def collect(cls, frames: Iterable[tuple[float, Poses]], skeleton: Skeleton) -> "ClipPoses":
        """From the time and the poses of each frame, which have `track_ids` if there are any."""
        times: list[float] = []
        joined: list[tuple[NDArray[Any], ...]] = []
        found: list[tuple[NDArray[Any], ...]] = []
        for time, poses in frames:
            times.append(time if not times else max(time, times[-1] + MIN_STEP))
            if len(poses):
                if poses.track_ids is None:
                    raise ValueError("the offline pass: expected poses with track_ids, found none")
                index = np.full(len(poses), len(times) - 1)
                filled = poses.filled
                if filled is None:
                    filled = np.zeros((len(poses), len(skeleton)), np.bool_)
                parts = [poses.track_ids, index, poses.keypoints, poses.boxes, poses.scores, filled]
                if poses.covariance is not None:
                    parts.append(poses.covariance)
                found.append(tuple(parts))
                if len(found) == _JOINED:  # many small arrays take several times the memory
                    joined.append(_columns(found))
                    found.clear()
        tracks = []
        if joined or found:
            ids, *columns = _columns([*joined, *found])
            for id in np.unique(ids).tolist():
                rows = ids == id
                tracks.append(Track(id, *(column[rows] for column in columns)))
        return cls(np.array(times), tuple(tracks), skeleton)

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.times)

    def __iter__(self) -> Iterator[Poses]:
        """The poses of each frame, in order."""
        positions = [0] * len(self.tracks)
        for index in range(len(self)):
            rows = []
            for number, track in enumerate(self.tracks):
                at = positions[number]
                if at < len(track.frames) and track.frames[at] == index:
                    rows.append((track, at))
                    positions[number] += 1
            yield self._poses(rows)

    def _poses(self, rows: Sequence[tuple[Track, int]]) -> Poses:
        k = len(self.skeleton)
        spread = [track.covariance[at] for track, at in rows if track.covariance is not None]
        return Poses(
            np.array([track.keypoints[at] for track, at in rows], np.float32).reshape(-1, k, 3),
            np.array([track.boxes[at] for track, at in rows], np.float32).reshape(-1, 4),
            np.array([track.scores[at] for track, at in rows], np.float32),
            self.skeleton,
            np.array([track.id for track, _ in rows], np.int64),
            np.array([track.filled[at] for track, at in rows], np.bool_).reshape(-1, k),
            covariance=np.array(spread, np.float32) if spread else None,
        )

    def only(self, person: str) -> "ClipPoses":
        """The poses of one person: an id ("2"), "largest", or "x,y", a point in pixels.

        The largest has the greatest sum of box areas over the frames. At a point is the person
        whose box is the first to contain it; of several, the one whose center is nearest. Raises
        UserError where there is no such person.
        """
        return replace(self, tracks=(_choose(self.tracks, person),) if self.tracks else ())


def _columns(rows: Sequence[tuple[NDArray[Any], ...]]) -> tuple[NDArray[Any], ...]:
    return tuple(np.concatenate(column) for column in zip(*rows, strict=True))


def check_person(person: str) -> int | str | tuple[float, float]:
    """An id, "largest" or a point (x, y). Raises UserError for other words."""
    if person == "largest":
        return person
    try:
        numbers = [float(part) for part in person.split(",")]
        if len(numbers) == 2 and np.isfinite(numbers).all():
            return numbers[0], numbers[1]
        if len(numbers) == 1 and numbers[0] == int(numbers[0]) >= 1:
            return int(numbers[0])
    except (ValueError, OverflowError):
        pass
    raise UserError(
        f"person: expected an id such as 2, largest, or a point x,y in pixels, found '{person}'",
        code="option-invalid",
    )


def _choose(tracks: Sequence[Track], person: str) -> Track:
    chosen = check_person(person)
    if isinstance(chosen, tuple):
        x, y = chosen
        first: tuple[int, float] | None = None
        at_point = None
        for track in tracks:
            left, top, w, h = track.boxes.astype(np.float64).T
            inside = (x >= left) & (x < left + w) & (y >= top) & (y < top + h)
            if inside.any():
                row = int(inside.argmax())
                center = np.hypot(left[row] + w[row] / 2 - x, top[row] + h[row] / 2 - y)
                rank = int(track.frames[row]), float(center)
                if first is None or rank < first:
                    first, at_point = rank, track
        if at_point is not None:
            return at_point
    elif isinstance(chosen, int):
        for track in tracks:
            if track.id == chosen:
                return track
    else:
        return max(tracks, key=lambda track: float(track.boxes[:, 2:].prod(axis=1).sum()))
    ids = ", ".join(str(track.id) for track in tracks[:20]) + ", ..." * (len(tracks) > 20)
    raise UserError(
        f"person {person}: found nobody of this id or at this point; the ids are {ids}",
        code="persons-missing",
    )


# Costs are in units of a squared standard deviation, which is twice the negative logarithm of a
# probability: the largest of one keypoint in one frame; of a change in one pair, and of each
# further pair of the part that changes with it; of each second in which some are exchanged.
_MAX_MOTION = 25.0
_CHANGE, _CHANGE_TOO = 20.0, 2.0
_SECOND = 15.0
# The median of a chi-squared distribution with two degrees of freedom.
_MEDIAN = 2 * np.log(2)
# A clip's motions may be more even than expected, but measured on few frames they may seem so.
_MIN_SCALE = 0.3
# A part with more pairs is exchanged from some pair outward, not in every combination.
_MAX_COMBINED = 3


def find_swaps(
    points: NDArray[np.float64],
    times: NDArray[np.float64],
    noise: NDArray[np.float64],
    motion: NDArray[np.float64],
    skeleton: Skeleton,
) -> NDArray[np.bool_]:
    """(t, p): whether each of the skeleton's p flip pairs is swapped, in each of t frames.

    `points` (t, k, 2) at increasing `times` (t,) in seconds; `noise` (t, k) is the standard
    deviation of each in pixels, inf where it is not visible; `motion` (t,) is the spectral density
    of the acceleration in pixels^2/s^3.
    """
    pairs = np.array(skeleton.flip_pairs, np.int64).reshape(-1, 2)
    swapped = np.zeros((len(times), len(pairs)), np.bool_)
    for part, depths in _parts(skeleton):
        seen = np.isfinite(noise[:, pairs[part]]).all(axis=2)
        # Frames that tell about this part; the others are as the nearest.
        frames = np.flatnonzero(2 * seen.sum(axis=1) >= len(part))
        if len(frames) < 3:
            continue
        rows = np.ix_(frames, pairs[part].ravel())
        shape = (len(frames), len(part), 2)
        costs = _motion_costs(
            points[rows].reshape(*shape, 2), times[frames], noise[rows].reshape(shape),
            motion[frames],
        )  # fmt: skip
        states = _states(depths)
        lasting = np.gradient(times[frames])[:, None] * _SECOND * states.any(axis=1)
        path = _viterbi(costs, states, lasting)
        swapped[:, part] = states[path][_nearest(frames, len(times))]
    return swapped


def swap(
    keypoints: NDArray[np.float32], swapped: NDArray[np.bool_], skeleton: Skeleton
) -> NDArray[np.float32]:
    """A copy of values (t, k, ...), in which the pairs (t, p) that are `swapped` are exchanged."""
    result = keypoints.copy()
    for column, (left, right) in enumerate(skeleton.flip_pairs):
        rows = swapped[:, column]
        result[rows, left], result[rows, right] = keypoints[rows, right], keypoints[rows, left]
    return result


def _parts(skeleton: Skeleton) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The flip pairs of each part of the body, and how many limbs each is from the part's root.

    A root is a pair whose keypoints a limb connects, directly or over a keypoint between left and
    right. The others belong to the nearest root. A pair that no limb connects to one is a part of
    its own.
    """
    pair_of = {index: n for n, pair in enumerate(skeleton.flip_pairs) for index in pair}
    linked: dict[int, set[int]] = {index: set() for index in range(len(skeleton))}
    for a, b in skeleton.limbs:
        linked[a].add(b)
        linked[b].add(a)
    place: dict[int, tuple[int, int]] = {}  # the root and the depth of each pair
    for number, (left, right) in enumerate(skeleton.flip_pairs):
        if right in linked[left] or (linked[left] & linked[right]) - pair_of.keys():
            place[number] = number, 0
    waiting = list(place)
    for number in waiting:
        root, depth = place[number]
        ends = skeleton.flip_pairs[number]
        for other in sorted({pair_of[i] for end in ends for i in linked[end] if i in pair_of}):
            if other not in place:
                place[other] = root, depth + 1
                waiting.append(other)
    for number in range(len(skeleton.flip_pairs)):
        place.setdefault(number, (number, 0))
    parts = []
    for root in sorted({root for root, _ in place.values()}):
        members = sorted(number for number in place if place[number][0] == root)
        parts.append((np.array(members), np.array([place[number][1] for number in members])))
    return parts


def _states(depths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(s, m): which of a part's m pairs may be exchanged together, none of them first."""
    if len(depths) <= _MAX_COMBINED:
        return np.array(list(product((False, True), repeat=len(depths))))
    outward = [depths >= depth for depth in range(int(depths.max()) + 1)]
    return np.array([depths < 0, *outward])


def _motion_costs(
    points: NDArray[np.float64],
    times: NDArray[np.float64],
    noise: NDArray[np.float64],
    motion: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(t - 2, m, 2, 2): the cost of m pairs in each three frames in a row.

    The last indices say whether the pair is exchanged in only one of the first two frames, and in
    only one of the last two. `points` (t, m, 2, 2) are left and right, with their `noise`
    (t, m, 2). A pair that is not visible in all three frames costs nothing.
    """
    before, after = np.diff(times)[:-1], np.diff(times)[1:]
    ratio = (after / before)[:, None, None]
    moved = (motion[1:-1] * after**2 * (before + after) / 3)[:, None, None]
    seen = np.asarray(np.isfinite(noise).all(axis=2))
    shown = (seen[:-2] & seen[1:-1] & seen[2:])[..., None]
    variance = np.square(noise)
    deviations = np.zeros((len(times) - 2, *points.shape[1:3], 2, 2))
    for first in (0, 1):
        for last in (0, 1):
            a, b, c = points[:-2], points[1:-1], points[2:]
            va, vb, vc = variance[:-2], variance[1:-1], variance[2:]
            if first:
                a, va = a[:, :, ::-1], va[:, :, ::-1]
            if last:
                c, vc = c[:, :, ::-1], vc[:, :, ::-1]
            error = np.square(c - b - ratio[..., None] * (b - a)).sum(axis=-1)
            spread = vc + (1 + ratio) ** 2 * vb + ratio**2 * va + moved
            deviations[..., first, last] = np.where(shown, error / spread, 0)
    scaled = deviations / _scale(deviations[..., 0, 0], shown)[:, None, None, None]
    costs: NDArray[np.float64] = np.minimum(scaled, _MAX_MOTION).sum(axis=2)
    return costs


def _scale(deviations: NDArray[np.float64], shown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(m,) by how much the squared deviations (t, m, 2) of each pair are larger than expected.

    From their median: most frames are not at the edge of a swap.
    """
    found = [
        np.median(pair[rows[:, 0]]) if rows.any() else _MEDIAN
        for pair, rows in zip(deviations.swapaxes(0, 1), shown.swapaxes(0, 1), strict=True)
    ]
    scale: NDArray[np.float64] = np.maximum(np.array(found) / _MEDIAN, _MIN_SCALE)
    return scale


def _viterbi(
    costs: NDArray[np.float64], states: NDArray[np.bool_], lasting: NDArray[np.float64]
) -> NDArray[np.int64]:
    """(t,) the index of the state in each frame, with the least sum of costs over all frames.

    `costs` (t - 2, m, 2, 2) are those of motion, `states` (s, m) say which of the pairs each state
    exchanges, and `lasting` (t, s) is the cost of being in it. `best` (s, s) is the least sum up to
    a frame, by the states of the frame before and of the frame itself.
    """
    differ = (states[:, None] ^ states[None]).astype(np.int64)  # (s, s, m)
    changes = differ.sum(axis=-1)
    change = np.where(changes > 0, _CHANGE + _CHANGE_TOO * (changes - 1), 0.0)
    best = lasting[0][:, None] + lasting[1] + change
    origins = np.zeros((len(costs), len(states), len(states)), np.int8)
    pairs = np.arange(states.shape[1])
    for i, cost in enumerate(costs):
        # By the states of three frames: (s, s, s).
        motion = cost[pairs, differ[:, :, None], differ[None]].sum(axis=-1)
        sums = best[:, :, None] + motion
        origins[i] = sums.argmin(axis=0)
        best = sums.min(axis=0) + change + lasting[i + 2]
    before, last = np.unravel_index(int(best.argmin()), best.shape)
    path = [int(last), int(before)]
    for origin in origins[::-1]:
        path.append(int(origin[path[-1], path[-2]]))
    return np.array(path[::-1])


def _nearest(frames: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(count,) the index into the increasing `frames` of the one nearest to each number."""
    numbers = np.arange(count)
    after = np.searchsorted(frames, numbers).clip(0, len(frames) - 1)
    before = (after - 1).clip(0)
    closer = np.abs(frames[before] - numbers) <= np.abs(frames[after] - numbers)
    return np.where(closer, before, after)
