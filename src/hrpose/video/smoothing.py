"""Smoothing points over time: frame by frame with the One Euro filter, or over a whole clip.

`Smoother`: Casiez, Roussel, Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy
Input in Interactive Systems", CHI 2012: a low-pass filter whose cutoff rises with the speed, so
that a still keypoint does not jitter and a fast one does not lag.

`rts_smooth`: Rauch, Tung, Striebel, "Maximum likelihood estimates of linear dynamic systems", AIAA
Journal 1965: a Kalman filter forward in time, and back. It uses the future, so nothing lags.
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
    it is visible. So does that of a person who was out of sight for more than `keep` seconds: below
    4 frames per second nothing is smoothed, and nothing lags.
    """

    def __init__(
        self,
        min_cutoff: float = 0.5,
        beta: float = 6.0,
        min_score: float = CONFIDENT_SCORE,
        keep: float = 0.25,
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


# Standard deviations from the smoothed position, beyond which a measurement is an outlier.
_OUTLIER = 3.0
# A prior so wide that the first measurement decides: pixels, and pixels per second.
_UNKNOWN = 1e4


def rts_smooth(
    points: NDArray[np.float64],
    times: NDArray[np.float64],
    noise: NDArray[np.float64],
    motion: NDArray[np.float64],
    robust_rounds: int = 2,
) -> NDArray[np.float64]:
    """Points (t, n, 2) measured at increasing `times` (t,) in seconds, smoothed without lag.

    `noise` (t, n) is the standard deviation of each measurement in pixels, inf where there is none:
    there the result is interpolated, or extrapolated at the ends. Each point moves at a velocity
    that white noise changes, whose spectral density `motion` (t,) is in pixels^2/s^3. For evenly
    spaced times and one noise r, the result is that of a low-pass filter of second order run
    forward and back, with a cutoff of (motion / (r^2 step))^(1/4) / (2 pi) Hz.

    Outliers bend the result less: after a round, the noise of a measurement more than three times
    it away from the result is taken as larger in proportion, for the next of `robust_rounds`.
    """
    smoothed = _smooth_once(points, times, noise, motion)
    for _ in range(robust_rounds):
        residual = np.linalg.norm(points - smoothed, axis=2)
        scale = np.maximum(residual / (_OUTLIER * noise), 1)
        smoothed = _smooth_once(points, times, noise * scale, motion)
    return smoothed


def _smooth_once(
    points: NDArray[np.float64],
    times: NDArray[np.float64],
    noise: NDArray[np.float64],
    motion: NDArray[np.float64],
) -> NDArray[np.float64]:
    """One forward and one backward pass. Both axes of a point have the same covariance."""
    t, n = noise.shape
    state = np.zeros((t, 2, n, 2))  # filtered positions and velocities
    covariance = np.zeros((t, 3, n))  # of position, of both, of velocity
    variance = np.square(noise)
    position, velocity = np.zeros((n, 2)), np.zeros((n, 2))
    pp, pv, vv = np.full(n, _UNKNOWN**2), np.zeros(n), np.full(n, _UNKNOWN**2)
    steps = np.diff(times, prepend=times[:1])
    for i in range(t):
        step, q = steps[i], motion[i]
        position = position + step * velocity
        pp = pp + step * (2 * pv + step * vv) + q * step**3 / 3
        pv = pv + step * vv + q * step**2 / 2
        vv = vv + q * step
        error = points[i] - position
        gain_p, gain_v = pp / (pp + variance[i]), pv / (pp + variance[i])
        position = position + gain_p[:, None] * error
        velocity = velocity + gain_v[:, None] * error
        vv = vv - gain_v * pv
        pp, pv = pp * (1 - gain_p), pv * (1 - gain_p)
        state[i] = position, velocity
        covariance[i] = pp, pv, vv
    for i in range(t - 2, -1, -1):
        step, q = steps[i + 1], motion[i + 1]
        position, velocity = state[i]
        pp, pv, vv = covariance[i]
        # What was predicted for the next time, and its covariance.
        next_pp = pp + step * (2 * pv + step * vv) + q * step**3 / 3
        next_pv, next_vv = pv + step * vv + q * step**2 / 2, vv + q * step
        to_p = state[i + 1, 0] - position - step * velocity
        to_v = state[i + 1, 1] - velocity
        determinant = np.maximum(next_pp * next_vv - next_pv**2, 1e-12)
        cross_p, cross_v = pp + step * pv, pv + step * vv
        gain_pp = (cross_p * next_vv - pv * next_pv) / determinant
        gain_pv = (pv * next_pp - cross_p * next_pv) / determinant
        gain_vp = (cross_v * next_vv - vv * next_pv) / determinant
        gain_vv = (vv * next_pp - cross_v * next_pv) / determinant
        state[i, 0] += gain_pp[:, None] * to_p + gain_pv[:, None] * to_v
        state[i, 1] += gain_vp[:, None] * to_p + gain_vv[:, None] * to_v
    return state[:, 0]
