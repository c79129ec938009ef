"""Measures of one person over time: values with intervals, and the repetitions in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hrpose.measurement.definitions import Measure
from hrpose.measurement.propagation import (
    FITTED,
    Z95,
    Errors,
    Floats,
    Values,
    interval,
    propagate,
    speed,
)
from hrpose.measurement.scale import Camera, Scale
from hrpose.poses import THRESHOLD, Poses
from hrpose.skeleton import Skeleton

# What is wrong with a value: nothing; a keypoint is absent; a segment is too short in pixels to
# trust, so that the interval may be wrong; a keypoint was interpolated over time.
FLAGS = ("", "missing", "short", "filled")
OK, MISSING, SHORT, FILLED = range(len(FLAGS))

Facing = Literal["auto", "left", "right"]
# The nose is at least so far in front of the ears, in parts of the trunk, where a person is seen
# from the side; and the seconds over which the median of it decides.
_SIDE_VIEW, _FACING_SECONDS = 0.1, 1.0
# Shorter gaps in a series are filled before repetitions are found, in seconds.
MAX_GAP = 0.5
# Movement above this frequency is noise, in Hz: the usual bound for gait and exercise (Winter,
# Biomechanics and Motor Control of Human Movement).
CUTOFF = 6.0
# A repetition moves through at least this part of the series' range.
MIN_PROMINENCE = 0.35
# A person rests between repetitions where so many of the values are within this part of the range.
_REST_SHARE, _REST_BAND = 0.3, 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One person in t images of a file: the keypoints before anything is measured.

    `frames` (t,) count from 0, and `times` (t,) are in seconds and increase; for an image both are
    0. `keypoints` (t, k, 3) x, y and score in pixels, `covariance` (t, k, 2, 2) in pixels² or None,
    `filled` (t, k) marks interpolated keypoints. `person` is the track id in a clip, else the
    number of the person in the image, from 0. `file` is the name of the image or clip. Keypoints
    with a score below `threshold` are missing.
    """

    file: str
    person: int
    is_clip: bool
    skeleton: Skeleton
    frames: NDArray[np.int64]
    times: Floats
    keypoints: Floats
    covariance: Floats | None
    filled: NDArray[np.bool_]
    threshold: float = THRESHOLD

    @property
    def xy(self) -> Floats:
        """(t, k, 2) the keypoints, NaN where they are missing."""
        absent = self.keypoints[..., 2:] < self.threshold
        return np.where(absent, np.nan, self.keypoints[..., :2])


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """m measures of one person in t images of a file.

    `values`, `low` and `high` (t, m) are in the units of the measures: degrees, pixels or meters,
    or these per second; `low` to `high` is the 95 % interval, NaN where the keypoints have no
    covariance. `flags` (t, m) index `FLAGS`. `facing` (t,) is 1 to the right, -1 to the left, 0
    where the person is seen from the front or back; then angles forward and backward are counted
    as to the right.
    """

    track: Track
    measures: tuple[Measure, ...]
    units: tuple[str, ...]
    values: Floats
    low: Floats
    high: Floats
    flags: NDArray[np.uint8]
    facing: NDArray[np.int8]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the measures."""
        return tuple(measure.name for measure in self.measures)

    def rows(self) -> list[tuple[Any, ...]]:
        """One row for each image and measure, with the fields of `COLUMNS`."""
        track, table = self.track, []
        for t in range(len(track.frames)):
            when = (int(track.frames[t]), round(float(track.times[t]), 6))
            where = (track.file, *(when if track.is_clip else (None, None)), track.person)
            for m, measure in enumerate(self.measures):
                numbers = (self.values[t, m], self.low[t, m], self.high[t, m])
                rounded = (None if np.isnan(v) else round(float(v), 4) for v in numbers)
                table.append((*where, measure.name, *rounded, self.units[m],
                              FLAGS[self.flags[t, m]]))  # fmt: skip
        return table


# The columns of tables. `value` is empty where a keypoint is missing, `low` and `high` where there
# is no covariance.
COLUMNS = (
    "file", "frame", "time", "person", "measure", "value", "low", "high", "unit", "flag",
)  # fmt: skip


def measure_track(
    track: Track,
    measures: Sequence[Measure],
    *,
    scale: Scale | None = None,
    camera: Camera | None = None,
    facing: Facing = "auto",
    errors: Errors = FITTED,
) -> Series:
    """All measures of a person.

    Lengths are meters where there is a `scale`, or a `camera` with a plane. `errors` says
    how many standard deviations hold 95 % of the errors of each kind of measure.
    """
    pixels, covariance = track.xy, track.covariance
    xy = pixels
    if camera is not None:
        xy, covariance = camera.apply(pixels, covariance)
    factor, spread = (1.0, 0.0) if scale is None else (scale.meters_per_pixel, scale.sigma)
    scaled = scale is not None or (camera is not None and camera.plane is not None)
    faces = _facing(track) if facing == "auto" else np.ones(len(xy), np.int8)
    if facing == "left":
        faces = -faces
    on_ground = (xy, covariance)
    if camera is not None and camera.ground is not None:
        on_ground = camera.apply(pixels, track.covariance, ground=True)
    columns, flags = [], []
    for measure in measures:
        own = errors.z95[measure.kind]
        place = on_ground if measure.on_ground else (xy, covariance)
        if measure.kind == "speed":
            found = _speed(measure, track, *place)
        else:
            found = propagate(
                measure, *place, np.where(faces < 0, -1.0, 1.0), pixels, errors.shortest
            )
        by_scale = measure.meters is not False and not measure.is_angle and not measure.on_ground
        if by_scale and scale is not None:
            # The scale's own error is normal, whatever that of keypoints is.
            sigmas = factor * np.hypot(found.sigmas, Z95 / own * spread * found.values)
            found = Values(factor * found.values, sigmas, found.short)
        low, high = interval(measure, found, own)
        columns.append((found.values, low, high))
        flag = np.where(track.filled[:, measure.keypoints].any(axis=1), FILLED, OK)
        flag = np.where(found.short, SHORT, flag)
        flags.append(np.where(np.isnan(found.values), MISSING, flag))
    values, low, high = np.moveaxis(np.array(columns), (0, 1, 2), (2, 0, 1))
    units = tuple(measure.unit(scaled) for measure in measures)
    return Series(track, tuple(measures), units, values, low, high,
                  np.array(flags, np.uint8).T, faces)  # fmt: skip


def _speed(measure: Measure, track: Track, xy: Floats, covariance: Floats | None) -> Values:
    found = speed(measure, xy, track.times, covariance)
    # A frame whose neighbors are not those of the clip has no speed.
    apart = np.ones(len(xy), np.bool_)
    apart[1:-1] = track.frames[2:] - track.frames[:-2] != 2
    return Values(
        np.where(apart, np.nan, found.values), np.where(apart, np.nan, found.sigmas), found.short
    )


def _facing(track: Track) -> NDArray[np.int8]:
    """(t,) 1 where the nose is to the right of the ears, -1 to the left, 0 where neither is clear.

    The median over a second decides, so that one wrong frame does not turn all signs around.
    """
    names = track.skeleton.keypoints
    needed = ("nose", "left_ear", "right_ear", "left_shoulder", "left_hip")
    if not set(needed) <= set(names):
        return np.zeros(len(track.frames), np.int8)
    xy = track.xy
    nose, left, right, shoulder, hip = (xy[:, names.index(name)] for name in needed)
    ears = np.where(np.isnan(left), right, np.where(np.isnan(right), left, (left + right) / 2))
    trunk = np.nanmedian(np.r_[np.linalg.norm(shoulder - hip, axis=-1), 1e-6])
    ahead = (nose - ears)[:, 0] / max(float(trunk), 1e-6)
    faces = np.zeros(len(ahead), np.int8)
    for t, time in enumerate(track.times):
        first, last = np.searchsorted(
            track.times, (time - _FACING_SECONDS / 2, time + _FACING_SECONDS / 2 + 1e-9)
        )
        near = ahead[first:last]
        near = near[~np.isnan(near)]
        if len(near) and abs(middle := float(np.median(near))) >= _SIDE_VIEW:
            faces[t] = 1 if middle > 0 else -1
        elif t:
            faces[t] = faces[t - 1]
    return faces


@dataclass(frozen=True, slots=True)
class Repetition:
    """One repetition of a movement: seconds of its start, peak and end, and the values there."""

    start: float
    peak: float
    end: float
    start_value: float
    peak_value: float
    end_value: float

    @property
    def rise(self) -> float:
        """Seconds from the start to the peak."""
        return self.peak - self.start

    @property
    def fall(self) -> float:
        """Seconds from the peak to the end."""
        return self.end - self.peak


@dataclass(frozen=True, slots=True)
class Repetitions:
    """The repetitions in a series, and their `cadence` per minute; None for fewer than two."""

    measure: str
    repetitions: tuple[Repetition, ...]
    cadence: float | None

    def __len__(self) -> int:
        return len(self.repetitions)

    def phase(self, times: Floats) -> Floats:
        """(t,) the percent of the repetition that is over at each time, NaN outside of all."""
        found = np.full(len(times), np.nan)
        for each in self.repetitions:
            inside = (times >= each.start) & (times < each.end)
            found[inside] = 100 * (times[inside] - each.start) / (each.end - each.start)
        return found


def find_repetitions(
    times: Floats,
    values: Floats,
    *,
    name: str = "",
    sigma: float = 0.0,
    prominence: float | None = None,
    circular: bool = False,
) -> Repetitions:
    """The repetitions in a series (t,) at `times` (t,) in seconds: its peaks that stand out.

    Values that are NaN are gaps; short ones are filled, at longer ones the series is parted. The
    series is brought to equal steps and filtered (Butterworth, 6 Hz, no lag). A peak counts where
    it rises above the troughs beside it by `prominence`, by default 35 % of the series' range, and
    at least four times the noise `sigma`. A movement that the clip cuts off at its start or end is
    a repetition only if its peak is inside. `circular` values are degrees that may jump by 360.
    """
    from scipy.signal import find_peaks

    known = ~np.isnan(values)
    times, values = times[known], values[known]
    if circular and len(values):
        values = np.degrees(np.unwrap(np.radians(values)))
    parts = [
        _filtered(times[part], values[part])
        for part in np.split(np.arange(len(times)), np.flatnonzero(np.diff(times) > MAX_GAP) + 1)
        if len(part) > 3
    ]
    if not parts:
        return Repetitions(name, (), None)
    together = np.concatenate([smooth for _, smooth in parts])
    low, high = np.quantile(together, [0.02, 0.98])
    least = prominence if prominence is not None else max(MIN_PROMINENCE * (high - low), 4 * sigma)
    least = max(least, 1e-9)
    found: list[Repetition] = []
    intervals: list[tuple[Floats, Floats]] = []
    for clock, smooth in parts:
        peaks, _ = find_peaks(smooth, prominence=least)
        if not len(peaks):
            continue
        exact = np.array([_vertex(clock, smooth, peak) for peak in peaks])
        bounds = _bounds(smooth, peaks)
        found += [
            Repetition(float(clock[a]), float(at), float(clock[b]), float(smooth[a]),
                       float(smooth[peak]), float(smooth[b]))
            for (a, b), peak, at in zip(bounds, peaks, exact, strict=True)
        ]  # fmt: skip
        count = np.arange(len(peaks), dtype=np.float64) - (len(peaks) - 1) / 2
        intervals.append((count, exact - float(exact.mean())))
    count, at = (np.concatenate(each) for each in zip(*intervals, strict=True)) if intervals else (
        np.zeros(0), np.zeros(0)
    )  # fmt: skip
    # Seconds per repetition: the line through the times of the peaks, which uses all of them.
    period = float((count * at).sum() / (count**2).sum()) if (count**2).sum() > 0 else None
    return Repetitions(name, tuple(found), None if period is None else 60 / period)


def _filtered(times: Floats, values: Floats) -> tuple[Floats, Floats]:
    """A series at equal steps, without what is faster than `CUTOFF`."""
    from scipy.signal import butter, sosfiltfilt

    step = float(np.median(np.diff(times)))
    clock = times[0] + step * np.arange(round((times[-1] - times[0]) / step) + 1)
    even = np.interp(clock, times, values)
    if CUTOFF * step * 2 >= 0.8 or len(even) < 16:  # too few frames a second to filter
        return clock, even
    sections = butter(2, CUTOFF * step * 2, output="sos")
    return clock, np.asarray(sosfiltfilt(sections, even))


def _vertex(clock: Floats, smooth: Floats, peak: int) -> float:
    """When a peak is, between the frames: the vertex of the parabola through three values."""
    if not 0 < peak < len(smooth) - 1:
        return float(clock[peak])
    a, b, c = smooth[peak - 1 : peak + 2]
    bend = a - 2 * b + c
    shift = 0.0 if bend >= 0 else float(np.clip((a - c) / bend / 2, -0.5, 0.5))
    return float(clock[peak] + shift * (clock[1] - clock[0]))


def _bounds(smooth: Floats, peaks: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Where the movement of each peak starts and ends.

    That is the lowest value between two peaks, or, where the movement rests there, the ends of the
    rest: of the values within `_REST_BAND` of the lowest, if they are `_REST_SHARE` of all.
    """
    ends, starts = [], []
    for first, last in pairwise([0, *peaks.tolist(), len(smooth) - 1]):
        inside = smooth[first : last + 1]
        lowest, height = inside.min(), inside.max() - inside.min()
        near = np.flatnonzero(inside <= lowest + _REST_BAND * height)
        rests = len(near) > _REST_SHARE * len(inside)
        end, start = (near[0], near[-1]) if rests else (np.argmin(inside),) * 2
        ends.append(first + int(end))
        starts.append(first + int(start))
    return list(zip(starts[:-1], ends[1:], strict=True))


def tracks_of(
    file: str,
    shots: Sequence[tuple[int, float, Poses]],
    skeleton: Skeleton,
    *,
    is_clip: bool,
    threshold: float = THRESHOLD,
) -> list[Track]:
    """The persons in the images of a file: each image's frame, time in seconds and poses.

    Poses without track ids are different persons in each image. Keypoints with a score below
    `threshold` are missing.
    """
    rows: dict[int, list[tuple[int, float, Poses, int]]] = {}
    for frame, time, poses in shots:
        ids = range(len(poses)) if poses.track_ids is None else poses.track_ids.tolist()
        for row, person in enumerate(ids):
            rows.setdefault(int(person), []).append((frame, time, poses, row))
    tracks = []
    for person, own in sorted(rows.items()):
        own.sort(key=lambda row: row[0])
        known = [poses.covariance[row] for _, _, poses, row in own if poses.covariance is not None]
        covariance = np.array(known, np.float64) if len(known) == len(own) else None
        none = np.zeros(len(skeleton), np.bool_)
        filled = [none if poses.filled is None else poses.filled[row] for _, _, poses, row in own]
        tracks.append(
            Track(
                file,
                person,
                is_clip,
                skeleton,
                np.array([frame for frame, _, _, _ in own], np.int64),
                np.array([time for _, time, _, _ in own], np.float64),
                np.array([poses.keypoints[row] for _, _, poses, row in own], np.float64),
                covariance,
                np.array(filled, np.bool_),
                threshold,
            )
        )
    return tracks
