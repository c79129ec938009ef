"""The poses of a whole clip by person, in arrays over its frames, and the choice of one person."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
    (m,) are those of `Poses`. `filled` (m, k) marks interpolated keypoints.
    """

    id: int
    frames: NDArray[np.int64]
    keypoints: NDArray[np.float32]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    filled: NDArray[np.bool_]


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
                found.append(
                    (poses.track_ids, index, poses.keypoints, poses.boxes, poses.scores, filled)
                )
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
        return Poses(
            np.array([track.keypoints[at] for track, at in rows], np.float32).reshape(-1, k, 3),
            np.array([track.boxes[at] for track, at in rows], np.float32).reshape(-1, 4),
            np.array([track.scores[at] for track, at in rows], np.float32),
            self.skeleton,
            np.array([track.id for track, _ in rows], np.int64),
            np.array([track.filled[at] for track, at in rows], np.bool_).reshape(-1, k),
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
