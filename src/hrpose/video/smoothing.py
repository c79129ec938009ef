"""Smoothing keypoints over time with the One Euro filter.

Casiez, Roussel, Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in
Interactive Systems", CHI 2012: a low-pass filter whose cutoff rises with the speed, so that a still
keypoint does not jitter and a fast one does not lag.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hrpose.poses import CONFIDENT_SCORE, Poses


@dataclass(slots=True)
class _State:
    """The filter's state of one person: raw and smoothed points (k, 2), and smoothed speeds."""

    raw: NDArray[np.float64]
    points: NDArray[np.float64]
    speeds: NDArray[np.float64]
    sure: NDArray[np.bool_]
    time: float


class Smoother:
    """One Euro filter for each keypoint of each person; frames may be spaced in any way.

    The cutoff is `min_cutoff` Hz for a keypoint at rest and rises by `beta` Hz for each body height
    per second, a body height being the longer side of the person's box. The filter is causal: a
    moving keypoint lags behind by 1 / (2 pi cutoff) seconds. Measured at the defaults: 145 ms at a
    tenth of a body height per second, 24 ms at one (walking), 7 ms at four (a kick); at most
    2.7% of a body height.

    A keypoint with a score below `min_score` is returned as it is, and its filter starts again when
    it is visible. So does that of a person who was out of sight for more than `keep` seconds.
    """

    def __init__(
        self,
        min_cutoff: float = 0.5,
        beta: float = 6.0,
        min_score: float = CONFIDENT_SCORE,
        keep: float = 0.5,
    ) -> None:
        self.min_cutoff = min_cutoff
        self.beta = beta
        self.min_score = min_score
        self.keep = keep
        self._persons: dict[int, _State] = {}

    def __call__(self, poses: Poses, time: float) -> Poses:
        """Smooth the `poses` of the next frame, at `time` in seconds, which have `track_ids`."""
        if poses.track_ids is None:
            raise ValueError("Smoother: expected poses with track_ids, found none")
        self._persons = {
            id: state for id, state in self._persons.items() if time - state.time <= self.keep
        }
        keypoints = poses.keypoints.copy()
        for row, id in enumerate(poses.track_ids.tolist()):
            sure = keypoints[row, :, 2] >= self.min_score
            points = keypoints[row, :, :2].astype(np.float64)
            height = float(poses.boxes[row, 2:].max())
            before = self._persons.get(id)
            if before is None or time <= before.time:
                after = _State(points, points, np.zeros_like(points), sure, time)
            else:
                after = self._filtered(before, points, sure, time, height)
            self._persons[id] = after
            keypoints[row, :, :2] = after.points
        return replace(poses, keypoints=keypoints)

    def _filtered(
        self,
        before: _State,
        points: NDArray[np.float64],
        sure: NDArray[np.bool_],
        time: float,
        height: float,
    ) -> _State:
        step = time - before.time
        # The speed is smoothed with a cutoff of 1 Hz, as in the paper.
        speeds = before.speeds + _weight(np.ones(1), step) * (
            (points - before.raw) / step - before.speeds
        )
        speed = np.linalg.norm(speeds, axis=1, keepdims=True) / max(height, 1)
        smoothed = before.points + _weight(self.min_cutoff + self.beta * speed, step) * (
            points - before.points
        )
        both = (sure & before.sure)[:, None]
        return _State(
            points, np.where(both, smoothed, points), np.where(both, speeds, 0), sure, time
        )


def _weight(cutoff: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """An exponential filter's weight of the new value: `cutoff` in Hz, `step` in seconds."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * step))
