"""Tracking persons: which pose of a frame belongs to whom.

Poses are assigned to tracks in two steps by score, as in ByteTrack (Zhang et al., ECCV 2022), by
the Hungarian method. The similarity is OKS, with keypoints weighted by their scores, and with a
tolerance that grows with the uncertainty of where the person is expected. A track becomes a person
with an id when it was detected in several frames. Of persons in one place, colors decide.
"""

import copy

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from hrpose.geometry import Boxes, iou
from hrpose.metrics import oks_nms
from hrpose.poses import CONFIDENT_SCORE, MAX_OKS, MIN_SCORE, Poses
from hrpose.video.person import (
    CLEAR,
    HALF_HIDDEN,
    HIDDEN,
    MAX_HALF_HIDDEN,
    SURE_KEYPOINTS,
    Track,
    color_distance,
    likeness,
    mixed,
    move,
)

Floats = NDArray[np.float64]

# A pair with less similarity is not the same person.
MIN_SIMILARITY = 0.15
# Poses with a higher score are assigned first.
STRONG_SCORE = 0.35
# Detections that make a person of a track, by the seconds between frames: the fewer frames, the
# fewer show anybody.
CONFIRMATIONS = ((0.15, 3), (0.3, 2), (np.inf, 1))
# What is inside the box of a person, by this part of its own box, is probably a piece of that
# person, and becomes another one only after so many seconds.
MAX_INSIDE = 0.4
INSIDE_SECONDS = 2.5
# A detected box that is inside that of a pose by this part of its own supports it.
SUPPORTING_PART = 0.7
# Seconds without a detection after which a track that is no person yet is forgotten.
MAX_TENTATIVE = 0.25
# Persons who share more of their boxes mix their colors.
MAX_MIXED = 0.15
# Seconds in which the colors of a person change with the light.
RECOLORING = 0.5
# Who was lost less than these seconds ago is the one who is found in reach (body heights, at once
# and per second), about as tall (in logarithms) and in the same colors, and is no other person.
RECLAIMED, REACH, FASTEST, MAX_GROWTH, MAX_RECOLORED = 0.5, 0.5, 8.0, 0.4, 0.5


class Tracker:
    """Assigns each pose the number of a track, frame by frame, and each person an id.

    Ids count from 1 and are not reused. The track of a person out of sight is kept for `keep`
    seconds; a person who comes back later gets a new id. Poses with a score below `min_score` are
    nobody's. Without `confirm` a track is a person at once.
    """

    def __init__(
        self, keep: float = 3.0, min_score: float = MIN_SCORE, *, confirm: bool = True
    ) -> None:
        self.keep = keep
        self.min_score = min_score
        self.confirm = confirm
        self.tracks: list[Track] = []
        self._ids: dict[int, int] = {}
        self._last_number = 0
        self._time: float | None = None
        self._gap = 0.0

    def copy(self) -> "Tracker":
        """A tracker in the same state, which changes apart from this one."""
        other = copy.copy(self)
        other.tracks = [track.copy() for track in self.tracks]
        other._ids = dict(self._ids)
        return other

    def id_of(self, number: int) -> int | None:
        """The id of a track: 0 where it has none yet, and None where it never got one."""
        if number in self._ids:
            return self._ids[number]
        return 0 if any(track.number == number for track in self.tracks) else None

    def waits(self, number: int) -> bool:
        """Whether the track may soon become a person, but is none yet."""
        return any(t.number == number and not (t.id or t.inside) for t in self.tracks)

    def expected(self, tracks: list[Track], time: float) -> Boxes:
        """The boxes in which the persons are expected at `time`."""
        if not tracks:
            return Boxes.empty()
        gap = self._gap_at(time)
        boxes = np.stack([track.box for track in tracks])
        boxes[:, :2] += np.stack([track.shift(time, gap) for track in tracks])
        return Boxes(boxes, np.array([track.box_score for track in tracks]))

    def update(
        self,
        poses: Poses,
        time: float,
        *,
        owners: ArrayLike | None = None,
        boxes: Floats | None = None,
        box_scores: Floats | None = None,
        detected: bool = True,
        colors: Floats | None = None,
    ) -> NDArray[np.int64]:
        """The numbers (n,) of the tracks of the poses in the next frame; 0: of none.

        `time` is in seconds. `owners` (n,) are the numbers of the tracks in whose expected boxes
        poses were estimated, 0 where a detector found the box. `boxes` (n, 4) are around the
        poses, those of `poses` by default, and `box_scores` (n,) those of the detector; `detected`
        says whether it ran. `colors` (n, l, 4), those of their limbs (`limb_colors`), tell apart
        persons who overlap. `id_of` says who the tracks are.
        """
        n = len(poses)
        gap = self._gap_at(time)
        self._gap, self._time = gap, time
        self.tracks = [track for track in self.tracks if self._alive(track, time)]
        own = np.zeros(n, np.int64) if owners is None else np.asarray(owners, np.int64)
        around = poses.boxes.astype(np.float64) if boxes is None else boxes
        sure = np.ones(n) if box_scores is None else box_scores
        tracks = list(self.tracks)
        shifts = [track.shift(time, gap) for track in tracks]
        similar = self._similarities(poses, tracks, shifts, own, time, gap, colors)
        usable = np.zeros(n, np.bool_)
        usable[_distinct(poses, similar, own)] = True
        usable &= poses.scores >= self.min_score
        columns = _assign(similar, usable, poses.scores >= STRONG_SCORE, tracks)
        columns = self._reclaimed(columns, poses, usable & (own == 0), shifts, colors, time)
        numbers = np.zeros(n, np.int64)
        # A detected box that was not chosen still says that a person is there.
        detections = poses.boxes[own == 0].astype(np.float64)
        for column, track in enumerate(tracks):
            track.visible = column in columns
            if not track.visible:
                track.missed += detected
                continue
            row = columns.index(column)
            move(track, poses, row, around[row], shifts[column], time, gap)
            if colors is not None:
                self._remember(track, colors[row], gap)
            box = poses.boxes[row].astype(np.float64)
            if any(_part_inside(other, box) >= SUPPORTING_PART for other in detections):
                track.hits += 1
                track.missed = 0
                track.box_score = float(sure[row])
                track.strong |= bool(poses.scores[row] >= STRONG_SCORE)
            else:
                track.missed += detected
            numbers[row] = track.number
        self._found(poses, numbers, usable & (own == 0), around, sure, time, colors)
        self._confirm(gap)
        return numbers

    def finish(self) -> None:
        """Confirm those whom the end of a clip left without the chance to be seen again."""
        for track in self.tracks:
            often = track.strong or track.hits > 1
            if track.visible and often and not (track.id or track.inside or track.missed):
                self._name(track)

    def _remember(self, track: Track, colors: Floats, gap: float) -> None:
        """Learn the colors of a person whom no other overlaps."""
        persons = [other.box for other in self.tracks if other.id and other is not track]
        alone = all(_part_inside(box, track.box) <= MAX_MIXED for box in persons)
        if track.colors is None:
            track.colors = colors.copy()
        elif alone and track.quality >= CLEAR:
            track.colors = mixed(track.colors, colors, 1 - np.exp(-gap / RECOLORING))

    def _gap_at(self, time: float) -> float:
        return 0.0 if self._time is None else max(time - self._time, 0.0)

    def _alive(self, track: Track, time: float) -> bool:
        if track.id:
            return time - track.time <= self.keep
        return track.missed < 2 or (track.missed < 4 and time - track.time <= MAX_TENTATIVE)

    def _similarities(
        self,
        poses: Poses,
        tracks: list[Track],
        shifts: list[Floats],
        own: NDArray[np.int64],
        time: float,
        gap: float,
        colors: Floats | None,
    ) -> Floats:
        """(n poses, m tracks) in [0, 1]."""
        if not len(poses) or not tracks:
            return np.zeros((len(poses), len(tracks)))
        shift = np.stack(shifts)
        expected = np.stack([track.keypoints for track in tracks])
        expected[..., :2] += shift[:, None]
        boxes = np.stack([track.box for track in tracks])
        boxes[:, :2] += shift
        spread = np.array([track.uncertainty(time, gap) for track in tracks])
        found = poses.keypoints.astype(np.float64)
        areas = boxes[:, 2] * boxes[:, 3]
        # OKS, with the variance of the place added to that of each keypoint.
        variances = (
            areas[:, None] * np.square(2 * np.array(poses.skeleton.sigmas)) + spread[:, None] ** 2
        )
        squares = np.square(found[:, None, :, :2] - expected[None, :, :, :2]).sum(axis=-1)
        both = (found[:, None, :, 2] >= CONFIDENT_SCORE) & (expected[..., 2] >= CONFIDENT_SCORE)
        weights = both * found[:, None, :, 2] * expected[None, :, :, 2]
        terms = weights * np.exp(-squares / (2 * np.maximum(variances, 1e-9)))
        similar = terms.sum(axis=-1) / np.maximum(weights.sum(axis=-1), 1e-9)
        similar *= both.sum(axis=-1) >= SURE_KEYPOINTS
        sizes = poses.boxes[:, 2:].prod(axis=1).astype(np.float64)
        ratio = np.log(np.maximum(sizes[:, None], 1) / np.maximum(areas, 1)) / 2
        similar *= np.exp(-2 * np.square(ratio))
        similar = np.maximum(similar, iou(poses.boxes.astype(np.float64), boxes) / 2)
        if colors is not None:
            similar *= likeness(colors, [t.colors for t in tracks], similar >= MIN_SIMILARITY)
        means = found[..., 2].mean(axis=1)
        usual = np.array([track.usual for track in tracks])
        theirs = own[:, None] == np.array([track.number for track in tracks])
        shown = means[:, None] >= HIDDEN * usual
        off = np.median(np.linalg.norm(found[:, None, :, :2] - expected[..., :2], axis=-1), axis=-1)
        heights = np.array([track.height for track in tracks])
        shown &= (means[:, None] >= HALF_HIDDEN * usual) | (off <= MAX_HALF_HIDDEN * heights)
        # Who was hidden is back when as clear as before, about.
        visible = np.array([track.visible for track in tracks])
        shown &= visible | (means[:, None] >= CLEAR * usual)
        result: Floats = np.where((own[:, None] == 0) | (theirs & shown), similar, 0.0)
        return result

    def _reclaimed(
        self,
        columns: list[int],
        poses: Poses,
        detected: NDArray[np.bool_],
        shifts: list[Floats],
        colors: Floats | None,
        time: float,
    ) -> list[int]:
        """The `columns` with those just lost, for poses that belong to no other track."""
        boxes = poses.boxes.astype(np.float64)
        taken = [boxes[row] for row, column in enumerate(columns) if column >= 0]
        near = np.zeros((len(boxes), len(self.tracks)))
        lost = [
            column
            for column, track in enumerate(self.tracks)
            if track.id and column not in columns
            if time - track.time <= max(RECLAIMED, 1.5 * self._gap)
        ]
        for row in np.flatnonzero(detected & (np.array(columns, np.int64) < 0)):
            if any(_part_inside(boxes[row], box) > MAX_INSIDE for box in taken):
                continue
            for column in lost:
                track = self.tracks[column]
                change = abs(np.log(max(*boxes[row, 2:], 1.0) / track.height))
                sure = poses.keypoints[row, :, 2].mean() >= HALF_HIDDEN * track.usual
                recolored = 0.0
                if colors is not None and track.colors is not None:
                    recolored = float(color_distance(colors[row], track.colors))
                if not sure or change > MAX_GROWTH or recolored > MAX_RECOLORED:
                    continue
                off = boxes[row, :2] + boxes[row, 2:] / 2 - track.box[:2] - track.box[2:] / 2
                # From where the person was expected, or from the last place after a turn.
                least = min(np.hypot(*off), np.hypot(*(off - shifts[column]))) / track.height
                near[row, column] = 1 - least / (REACH + FASTEST * (time - track.time))
        result = list(columns)
        for row, column in zip(*linear_sum_assignment(near, maximize=True), strict=True):
            if near[row, column] > 0:
                result[row] = int(column)
        return result

    def _found(
        self,
        poses: Poses,
        numbers: NDArray[np.int64],
        usable: NDArray[np.bool_],
        around: Floats,
        sure: Floats,
        time: float,
        colors: Floats | None,
    ) -> None:
        """Begin tracks with the poses that belong to none, and note who is inside another's box."""
        persons = [track.box for track in self.tracks if track.id]
        tentative = {track.number: track for track in self.tracks if not track.id}
        boxes = poses.boxes.astype(np.float64)
        for row in range(len(poses)):
            number = int(numbers[row])
            if number and number not in tentative:
                continue
            inside = any(_part_inside(boxes[row], box) > MAX_INSIDE for box in persons)
            if number:
                tentative[number].inside = inside
            elif usable[row]:
                self._last_number += 1
                numbers[row] = self._last_number
                keypoints = poses.keypoints[row].astype(np.float64)
                strong = bool(poses.scores[row] >= STRONG_SCORE)
                self.tracks.append(
                    Track(
                        self._last_number, keypoints, around[row].copy(), float(sure[row]), time,
                        float(keypoints[:, 2].mean()), time, inside=inside, strong=strong,
                        colors=None if colors is None else colors[row].copy(),
                    )
                )  # fmt: skip

    def _confirm(self, gap: float) -> None:
        needed = next(hits for seconds, hits in CONFIRMATIONS if gap <= seconds)
        if self._last_number and gap == 0:
            needed = CONFIRMATIONS[0][1]
        for track in self.tracks:
            if track.id or not track.visible:
                continue
            enough = track.hits >= (needed if track.strong else max(needed, 2))
            if track.inside:
                enough = track.hits >= CONFIRMATIONS[0][1]
                enough &= track.time - track.born >= INSIDE_SECONDS
            if enough or not self.confirm:
                self._name(track)

    def _name(self, track: Track) -> None:
        track.id = self._ids[track.number] = len(self._ids) + 1


def _distinct(poses: Poses, similar: Floats, own: NDArray[np.int64]) -> NDArray[np.int64]:
    """The poses without those that repeat another one that fits a track better."""
    if len(poses) < 2:
        return np.arange(len(poses))
    best = similar.max(axis=1) if similar.shape[1] else np.zeros(len(poses))
    areas = poses.boxes[:, 2:].prod(axis=1)
    # Of about equal poses, the one in the detected box: an expected box may pull a pose along.
    ranks = poses.scores * (0.1 + best) * np.where(own == 0, 1.0, 0.85)
    return oks_nms(poses.keypoints, areas, ranks, MAX_OKS, poses.skeleton.sigmas)


def _assign(
    similar: Floats, usable: NDArray[np.bool_], strong: NDArray[np.bool_], tracks: list[Track]
) -> list[int]:
    """The track of each pose, -1 for none: strong poses first, and persons before others."""
    columns = np.full(len(similar), -1)
    persons = np.array([bool(track.id) for track in tracks], np.bool_)
    everybody = np.ones(len(tracks), np.bool_)
    for rows, among in ((strong, persons), (~strong, persons), (everybody[:0], ~persons)):
        chosen = usable if len(rows) != len(similar) else usable & rows
        left = np.flatnonzero(chosen & (columns < 0))
        taken = np.zeros(len(tracks), np.bool_)
        taken[columns[columns >= 0]] = True
        free = np.flatnonzero(among & ~taken)
        part = similar[np.ix_(left, free)]
        for row, column in zip(*linear_sum_assignment(part, maximize=True), strict=True):
            if part[row, column] >= MIN_SIMILARITY:
                columns[left[row]] = free[column]
    return columns.tolist()


def _part_inside(box: Floats, other: Floats) -> float:
    """The part of a box [x, y, w, h] that is inside the other."""
    low = np.maximum(box[:2], other[:2])
    high = np.minimum(box[:2] + box[2:], other[:2] + other[2:])
    return float(np.maximum(high - low, 0).prod() / max(box[2] * box[3], 1e-9))
