"""One person in a clip: the state of a track, how a pose moves it, and colors.

After a gap, the velocity is that between the observations, as in OC-SORT (Cao et al., CVPR 2023),
and a half-hidden pose moves what is expected of the person, but does not replace it. Colors
tell apart those who overlap, where they wear different clothes: they are those of the limbs,
between the keypoints, so that a person who turns or moves keeps them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hrpose.poses import CONFIDENT_SCORE, Poses

Floats = NDArray[np.float64]

# Seconds for which a person out of sight is expected to keep moving.
MAX_COASTING = 0.5
# Keypoint scores relative to the person's usual ones: with them a pose is clear; with less it is
# half-hidden, or does not show the person who was expected in its box.
CLEAR = 0.9
HALF_HIDDEN = 0.75
HIDDEN = 0.5
# Seconds in which the box may shrink to a third: persons do not shrink, they are covered.
SHRINKING = 2.0
# A person who is farther from the expected place, in body heights, has changed direction.
MAX_TURN = 0.3
# A half-hidden pose that is farther from the expected place, in body heights, belongs to no track.
MAX_HALF_HIDDEN = 0.15
# The uncertainty of a place: at once, and for each second between frames and out of sight, in body
# heights; for a person of known velocity, it grows by a part of the speed.
PLACE, UNKNOWN_SPEED, CHANGE_OF_SPEED, PART_OF_SPEED, OUT_OF_SIGHT = 0.03, 4.0, 1.0, 1.0, 0.3
# With fewer keypoints that are confident in both, a pose is compared by its box.
SURE_KEYPOINTS = 4
# Samples along a limb, and beside them in body heights.
ALONG = np.linspace(0.2, 0.8, 4)
BESIDE = np.array([[dx, dy] for dx in (-0.012, 0.0, 0.012) for dy in (-0.012, 0.0, 0.012)])
# Colors that differ by more, of 255, differ.
DIFFERENT = 80.0
# How much better another person's colors fit, as a distance, before a pose is not this person's.
MAX_APART = 0.15


@dataclass(slots=True)
class Track:
    """A person, or what may become one: the state at `time` in seconds.

    `keypoints` (k, 3) and `box` (4,) in pixels, `velocity` (2,) in pixels/s, None until known;
    `steady` is the same over a longer time: the last poses before a person is hidden mislead.
    `usual` is the mean keypoint score when the person is not hidden, `box_score` that of the last
    box that a detector found, and `colors` (l, 4) are those of the limbs. `id` is 0 until
    confirmed. `visible`: assigned in the last frame.
    """

    number: int
    keypoints: Floats
    box: Floats
    box_score: float
    time: float
    usual: float
    born: float
    colors: Floats | None = None
    velocity: Floats | None = None
    steady: Floats = field(default_factory=lambda: np.zeros(2))
    id: int = 0
    hits: int = 1
    missed: int = 0
    inside: bool = False
    strong: bool = False
    visible: bool = True
    # Of the last frame: the keypoint score relative to `usual`, and the distance to the expected
    # place in body heights.
    quality: float = 1.0
    surprise: float = 0.0

    def copy(self) -> "Track":
        """A track in the same state, which changes apart from this one."""
        # The other arrays are replaced, never written into.
        return replace(self, keypoints=self.keypoints.copy(), box=self.box.copy())

    @property
    def height(self) -> float:
        """The body height: the longer side of the box."""
        return float(max(self.box[2], self.box[3], 1.0))

    @property
    def speed(self) -> float:
        """In body heights per second; 0 where unknown."""
        return 0.0 if self.velocity is None else float(np.hypot(*self.velocity)) / self.height

    def shift(self, time: float, gap: float) -> Floats:
        """(2,) the motion in pixels up to `time`, at constant velocity for a while."""
        if self.velocity is None:
            return np.zeros(2)
        unseen = time - self.time
        if unseen <= gap:
            return self.velocity * unseen
        return self.steady * min(unseen, max(MAX_COASTING, gap))

    def uncertainty(self, time: float, gap: float) -> float:
        """The standard deviation of the place in pixels; frames are `gap` seconds apart."""
        unseen = time - self.time
        speed = UNKNOWN_SPEED
        if self.velocity is not None:
            speed = CHANGE_OF_SPEED + PART_OF_SPEED * self.speed
        between = min(unseen, gap)
        return self.height * (PLACE + speed * between + OUT_OF_SIGHT * (unseen - between))


def move(
    track: Track, poses: Poses, row: int, box: Floats, shift: Floats, time: float, gap: float
) -> None:
    """Move the track to its pose; a half-hidden pose moves it, but replaces nothing."""
    found = poses.keypoints[row].astype(np.float64)
    mean = float(found[:, 2].mean())
    track.quality = mean / max(track.usual, 1e-9)
    clear = track.quality >= HALF_HIDDEN
    both = (found[:, 2] >= CONFIDENT_SCORE) & (track.keypoints[:, 2] >= CONFIDENT_SCORE)
    if both.sum() >= SURE_KEYPOINTS:
        moved = np.median(found[both, :2] - track.keypoints[both, :2], axis=0)
    elif clear:
        center = poses.boxes[row, :2] + poses.boxes[row, 2:] / 2
        moved = center - (track.box[:2] + track.box[2:] / 2)
    else:
        moved = shift
    track.surprise = float(np.hypot(*(moved - shift))) / track.height
    clear &= track.quality >= CLEAR or track.surprise <= MAX_HALF_HIDDEN
    step = time - track.time
    if not clear:
        moved = shift + (moved - shift) * 0.3
    elif step > 0:
        velocity = moved / step
        if track.velocity is not None and track.surprise > MAX_TURN:
            # Who turned or fell moves at a velocity that is not known yet.
            track.velocity = None
        elif track.velocity is None or step > max(0.3, 1.5 * gap):
            # After a gap: between the observations, whatever was expected meanwhile.
            track.velocity = track.steady = velocity
        else:
            fast, slow = (1 - np.exp(-step / seconds) for seconds in (0.1, 0.5))
            track.velocity = track.velocity + fast * (velocity - track.velocity)
            if track.quality >= CLEAR:
                track.steady = track.steady + slow * (velocity - track.steady)
    track.usual += (mean - track.usual) * (1 - np.exp(-step / (1 if clear else 4)))
    track.keypoints[:, :2] += moved
    track.box = np.concatenate([track.box[:2] + shift, track.box[2:]])
    if clear:
        known = found[:, 2] >= CONFIDENT_SCORE
        track.keypoints[known] = found[known]
        track.keypoints[~known, 2] *= 0.9
        track.box = _held(track.box, box, step)
    else:
        track.box[:2] += moved - shift
    track.time = time


def _held(expected: Floats, found: Floats, step: float) -> Floats:
    """A box that contains the one `found`, and is not suddenly smaller than `expected`."""
    size = np.maximum(found[2:], expected[2:] * np.exp(-step / SHRINKING))
    corner = expected[:2] + (expected[2:] - size) / 2
    return np.concatenate([np.clip(corner, found[:2] + found[2:] - size, found[:2]), size])


def limb_colors(image: NDArray[np.uint8], poses: Poses) -> Floats:
    """(n, l, 4) the median color of each limb: red, green, blue, and how sure it is, in [0, 1].

    `image` (h, w, 3) is RGB. Limbs that are not wholly seen, with confidence, have 0 there.
    """
    limbs = np.array(poses.skeleton.limbs, np.int64).reshape(-1, 2)
    height, width = image.shape[:2]
    keypoints = poses.keypoints.astype(np.float64)
    ends = keypoints[:, limbs, :]
    start, end = ends[:, :, :1, :2], ends[:, :, 1:, :2]
    points = start + (end - start) * ALONG[:, None]
    size = poses.boxes[:, 2:].max(axis=1).astype(np.float64)
    points = points[..., None, :] + BESIDE * size[:, None, None, None, None]
    points = points.reshape(*ends.shape[:2], len(ALONG) * len(BESIDE), 2)
    sure = ends[..., 2].min(axis=2)
    corners = ends[..., :2].min(axis=2), ends[..., :2].max(axis=2)
    inside = ((corners[0] >= 0) & (corners[1] < (width, height))).all(axis=-1)
    sure = np.where(inside & (sure >= CONFIDENT_SCORE), sure, 0.0)
    x = np.clip(points[..., 0], 0, width - 1).astype(np.int64)
    y = np.clip(points[..., 1], 0, height - 1).astype(np.int64)
    found = np.median(image[y, x], axis=2)
    return np.concatenate([found, sure[..., None]], axis=-1)


def color_distance(colors: Floats, other: Floats) -> Floats:
    """(n,) or (), how far the colors (n, l, 4) or (l, 4) are from the others (l, 4).

    In [0, 1]; 0 where no limb is known in both.
    """
    off = np.linalg.norm(colors[..., :3] - other[..., :3], axis=-1)
    weights = colors[..., 3] * other[..., 3]
    total = weights.sum(axis=-1)
    part = (weights * np.minimum(off / DIFFERENT, 1.0)).sum(axis=-1)
    result: Floats = np.where(total > 0, part / np.maximum(total, 1e-9), 0.0)
    return result


def mixed(colors: Floats, new: Floats, share: float) -> Floats:
    """The colors (l, 4) with a share of the new ones (l, 4), where these are known."""
    part = np.where(colors[:, 3] > 0, share, 1.0) * (new[:, 3] > 0)
    result: Floats = colors + part[:, None] * (new - colors)
    return result


def likeness(colors: Floats, others: Sequence[Floats | None], there: NDArray[np.bool_]) -> Floats:
    """(n, m) in [0, 1], of the colors (n, l, 4) to those of m persons.

    It is below 1 only where another person who is `there` (n, m) has the colors rather: one who is
    covered or in the shade has other colors, but not another person's.
    """
    apart = np.zeros((len(colors), len(others)))
    for column, other in enumerate(others):
        if other is not None:
            apart[:, column] = color_distance(colors, other)
    least = np.where(there, apart, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    result: Floats = np.exp(-np.square((apart - np.minimum(least, apart)) / MAX_APART))
    return result
