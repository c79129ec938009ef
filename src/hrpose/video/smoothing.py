"""Steadying keypoints over time with the One-Euro filter.

Casiez, Roussel, Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in
Interactive Systems", CHI 2012: a low-pass filter whose cutoff rises with the speed, so that a still
keypoint does not tremble and a fast one does not lag.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hrpose.poses import SURE_SCORE, Poses


@dataclass(slots=True)
class _Steady:
    """The filter's memory of one person: points (k, 2) as given and as steadied, and speeds."""

    given: NDArray[np.float64]
    points: NDArray[np.float64]
    speeds: NDArray[np.float64]
    sure: NDArray[np.bool_]
    time: float


class Smoother:
    """One-Euro filter for each keypoint of each person; times may be spaced in any way.

    The cutoff is `still` Hz for a keypoint at rest and rises by `quick` Hz for each body height per
    second, a body height being the longer side of the person's box. No frame waits for a later one,
    but a moving keypoint lags behind by 1 / (2 pi cutoff) seconds. Measured at the defaults: 145 ms
    at a tenth of a body height per second, 24 ms at one (walking), 7 ms at four (a kick); never
    more than 2.7% of a body height.

    A keypoint with a score below `sure` passes as it is, and starts anew when it is seen again. So
    does a person who was away for more than `keep` seconds.
    """

    def __init__(
        self, still: float = 0.5, quick: float = 6.0, sure: float = SURE_SCORE, keep: float = 0.5
    ) -> None:
        self.still = still
        self.quick = quick
        self.sure = sure
        self.keep = keep
        self._persons: dict[int, _Steady] = {}

    def __call__(self, poses: Poses, time: float) -> Poses:
        """The same people, steadied. `poses` of the next frame, at `time` in seconds, with ids."""
        if poses.track_ids is None:
            raise ValueError("Smoother: expected poses with track_ids, found none")
        self._persons = {
            id: steady for id, steady in self._persons.items() if time - steady.time <= self.keep
        }
        keypoints = poses.keypoints.copy()
        for row, id in enumerate(poses.track_ids.tolist()):
            sure = keypoints[row, :, 2] >= self.sure
            points = keypoints[row, :, :2].astype(np.float64)
            height = float(poses.boxes[row, 2:].max())
            before = self._persons.get(id)
            if before is None or time <= before.time:
                after = _Steady(points, points, np.zeros_like(points), sure, time)
            else:
                after = self._filtered(before, points, sure, time, height)
            self._persons[id] = after
            keypoints[row, :, :2] = after.points
        return replace(poses, keypoints=keypoints)

    def _filtered(
        self,
        before: _Steady,
        points: NDArray[np.float64],
        sure: NDArray[np.bool_],
        time: float,
        height: float,
    ) -> _Steady:
        step = time - before.time
        # The speed itself is smoothed with a cutoff of 1 Hz, as the paper proposes.
        speeds = before.speeds + _share(np.ones(1), step) * (
            (points - before.given) / step - before.speeds
        )
        pace = np.linalg.norm(speeds, axis=1, keepdims=True) / max(height, 1)
        steadied = before.points + _share(self.still + self.quick * pace, step) * (
            points - before.points
        )
        goes_on = (sure & before.sure)[:, None]
        return _Steady(
            points, np.where(goes_on, steadied, points), np.where(goes_on, speeds, 0), sure, time
        )


def _share(cutoff: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """How much of the new value an exponential filter takes: `cutoff` in Hz, `step` in seconds."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * step))
