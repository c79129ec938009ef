"""Walking persons as keypoints over time, with noise, gaps and swaps planted at known places.

A walker has COCO's 17 keypoints, a gait of about one step pair per second, and any direction
toward the camera; positions are in pixels. The truth is known exactly, so that an error is that of
the method. They are moving stick figures: what they say about photographed persons is how a method
treats these faults, not how often the faults happen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrpose.geometry import box_around, expand_boxes
from hrpose.poses import Poses
from hrpose.skeletons import COCO_17

Floats = NDArray[np.float64]
LIMBS = {"legs": (11, 12, 13, 14, 15, 16), "arms": (5, 6, 7, 8, 9, 10), "shins": (13, 14, 15, 16)}


@dataclass(frozen=True, eq=False)
class Planted:
    """A walker of `height` pixels, as the truth and as found with faults.

    `truth` (t, 17, 2) at `times` (t,); `found` (t, 17, 3) with scores; `swapped` (t, 8) the flip
    pairs that are exchanged in `found`; `hidden` (t, 17) the keypoints with a low score and a wrong
    position; `absent` (t,) the frames without the person.
    """

    times: Floats
    truth: Floats
    found: NDArray[np.float32]
    height: float
    swapped: NDArray[np.bool_]
    hidden: NDArray[np.bool_]
    absent: NDArray[np.bool_]

    @property
    def boxes(self) -> Floats:
        """(t, 4) around the truth."""
        return expand_boxes(box_around(self.truth), np.full(len(self.truth), 0.1 * self.height))

    def poses(self) -> list[Poses]:
        """What a tracker found, frame by frame."""
        found = []
        for keypoints, box, absent in zip(self.found, self.boxes, self.absent, strict=True):
            poses = Poses(
                keypoints[None],
                box[None].astype(np.float32),
                np.array([keypoints[:, 2].mean()], np.float32),
                COCO_17,
                np.array([1]),
            )
            found.append(poses[:0] if absent else poses)
        return found


def walk(
    rng: np.random.Generator,
    times: Floats,
    height: float = 180.0,
    speed: float = 0.8,
    yaw: float | None = None,
) -> Floats:
    """(t, 17, 2): a walker from the left at `speed` body heights per second.

    `yaw` in radians is 0 for a person seen from the front, pi / 2 for one seen from the side; by
    default it is drawn.
    """
    yaw = float(rng.uniform(0, np.pi / 2)) if yaw is None else yaw
    pace, phase = rng.uniform(0.8, 1.1), rng.uniform(0, 2 * np.pi)
    swing = 2 * np.pi * pace * times + phase
    points = np.zeros((len(times), 17, 3))  # right, down, toward the viewer, in body heights
    bob = 0.012 * np.cos(2 * swing)
    for index, (x, y, z) in {0: (0, 0.09, 0.08), 1: (0.03, 0.07, 0.07), 3: (0.06, 0.08, 0)}.items():
        points[:, index] = x, y, z
        if index:
            points[:, index + 1] = -x, y, z
    for side, s in ((0, 1), (1, -1)):
        turn = swing + np.pi * side
        thigh = np.deg2rad(28) * np.sin(turn)
        knee = thigh - np.deg2rad(8) - np.deg2rad(50) * np.clip(np.cos(turn), 0, None) ** 2
        arm = -np.deg2rad(24) * np.sin(turn)
        elbow = arm + np.deg2rad(25)
        shoulder, hip = np.array([s * 0.11, 0.19, 0]), np.array([s * 0.06, 0.5, 0])
        points[:, 5 + side], points[:, 11 + side] = shoulder, hip
        points[:, 7 + side] = shoulder + 0.16 * _down(arm)
        points[:, 9 + side] = points[:, 7 + side] + 0.15 * _down(elbow)
        points[:, 13 + side] = hip + 0.23 * _down(thigh)
        points[:, 15 + side] = points[:, 13 + side] + 0.22 * _down(knee)
    x = points[..., 0] * np.cos(yaw) + points[..., 2] * np.sin(yaw)
    flat = np.stack([x, points[..., 1] + bob[:, None]], axis=-1) * height
    flat[..., 0] += (0.6 + speed * np.sin(yaw) * times[:, None]) * height
    flat[..., 1] += 0.2 * height
    return flat


def _down(angle: Floats) -> Floats:
    """(t, 3): the unit vector down, turned forward by angles in radians."""
    return np.stack([np.zeros_like(angle), np.cos(angle), np.sin(angle)], axis=-1)


def plant(
    rng: np.random.Generator,
    *,
    seconds: float = 8.0,
    rate: float = 30.0,
    height: float = 180.0,
    yaw: float | None = None,
    noise: float = 0.012,
    outliers: float = 0.01,
    swaps: Sequence[str] = ("legs", "arms", "body", "shins"),
    swap_seconds: tuple[float, float] = (0.03, 0.6),
    gaps: int = 4,
    gap_seconds: tuple[float, float] = (0.1, 0.4),
    absences: int = 1,
) -> Planted:
    """A walker with faults.

    `noise` in body heights is that of a keypoint with a score of 0.8, and grows as the score falls;
    `outliers` is the share of keypoints a fifth of the body away. Each of `swaps` exchanges left
    and right of the body or of limbs once, each of `gaps` hides up to four keypoints, and each of
    `absences` the person, for seconds within the ranges.
    """
    times = np.arange(round(seconds * rate)) / rate
    truth = walk(rng, times, height, yaw=yaw)
    scores = np.clip(rng.normal(0.75, 0.08, truth.shape[:2]), 0.35, 1)
    spread = noise * height * (0.8 / scores) ** 2
    found = truth + rng.normal(size=truth.shape) * spread[..., None]
    odd = rng.random(scores.shape) < outliers
    found[odd] += rng.normal(size=(int(odd.sum()), 2)) * 0.2 * height
    swapped = np.zeros((len(times), 8), np.bool_)
    for kind in swaps:
        rows = _stretch(rng, times, swap_seconds)
        members = LIMBS.get(kind, range(17))
        for column, (left, _) in enumerate(COCO_17.flip_pairs):
            swapped[rows, column] ^= left in members
    hidden = np.zeros(scores.shape, np.bool_)
    for _ in range(gaps):
        columns = rng.choice(17, int(rng.integers(1, 5)), replace=False)
        hidden[_stretch(rng, times, gap_seconds), columns[:, None]] = True
    scores[hidden] = rng.uniform(0.02, 0.15, int(hidden.sum()))
    found[hidden] += rng.normal(size=(int(hidden.sum()), 2)) * 0.3 * height
    absent = np.zeros(len(times), np.bool_)
    for _ in range(absences):
        absent[_stretch(rng, times, gap_seconds)] = True
    keypoints = np.concatenate([found, scores[..., None]], axis=-1)
    for column, (left, right) in enumerate(COCO_17.flip_pairs):
        rows = swapped[:, column]
        keypoints[rows, left], keypoints[rows, right] = (
            keypoints[rows, right].copy(), keypoints[rows, left].copy(),
        )  # fmt: skip
    return Planted(times, truth, keypoints.astype(np.float32), height, swapped, hidden, absent)


def _stretch(rng: np.random.Generator, times: Floats, seconds: tuple[float, float]) -> slice:
    """Frames of a random length in the range, which neither begin nor end the clip."""
    step = times[1] - times[0]
    length = max(1, round(rng.uniform(*seconds) / step))
    first = int(rng.integers(3, len(times) - length - 3))
    return slice(first, first + length)
