"""Values of measures from keypoints, and their uncertainty by first-order propagation.

A measure is a function of keypoints, each with a 2x2 covariance. To first order its variance is
the sum over the keypoints of g' C g, where g is the gradient with respect to the keypoint and C its
covariance (the delta method). Errors of different keypoints are taken as independent. The
approximation needs segments that are long compared with their uncertainty; `Errors.shortest` says
from where on it holds.

Convention: pixels, x to the right and y down, so that angles grow clockwise in the image. A person
who faces right has `facing` 1, left -1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrpose.measurement.definitions import Axis, Kind, Measure

Floats = NDArray[np.float64]

# 95 % of a normal distribution are within so many standard deviations.
Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Errors:
    """How errors of measures are distributed around what first-order propagation says.

    `z95` standard deviations hold 95 % of the errors of each kind of measure, where no segment is
    shorter than `shortest` of its own standard deviations in its worst direction. Intervals of
    shorter ones hold fewer.
    """

    z95: Mapping[Kind, float]
    shortest: float


# Where the covariances are those that hrpose fits to labels: errors have heavier tails than a
# normal distribution, so that most are far smaller than the covariance says, neighboring keypoints
# err alike, and more along a limb than across it. Measured with `w32-small` on 400 persons of
# COCO's train2017 that it was not trained on (benchmarks/measures.py --as-shipped), speeds on drawn
# persons that move.
FITTED = Errors({"angle": 1.2, "tilt": 1.2, "length": 1.5, "distance": 1.4, "speed": 1.0}, 1.5)
# Where errors are normal and independent (tests/measurement/test_propagation.py).
NORMAL = Errors(dict.fromkeys(FITTED.z95, Z95), 4.0)
# Or shorter than so many pixels, with or without a covariance: a keypoint is not found more
# precisely than to about a pixel.
MIN_PIXELS = 8.0


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """A measure in t frames: `values` (t,), their standard deviations `sigmas` (t,), and `short`.

    Degrees, or the unit of the keypoints. `sigmas` are NaN where the keypoints have no covariance.
    `short` (t,) marks frames in which a segment is too short to trust. Values are NaN where a
    keypoint is missing or a segment has no length.
    """

    values: Floats
    sigmas: Floats
    short: NDArray[np.bool_]


def propagate(
    measure: Measure,
    xy: Floats,
    covariance: Floats | None = None,
    facing: float | Floats = 1.0,
    pixels: Floats | None = None,
    shortest: float = NORMAL.shortest,
) -> Values:
    """An angle, tilt, length or distance from keypoints `xy` (t, k, 2), NaN where missing.

    `covariance` (t, k, 2, 2) is that of `xy`, None where unknown. `pixels` (t, k, 2) are the
    keypoints in pixels, where `xy` are meters. Segments of fewer than `shortest` standard
    deviations are marked.
    """
    chosen = measure.keypoints
    segments, xy = measure.segments[:, chosen], xy[:, chosen]
    vectors = np.einsum("sk,tkd->tsd", segments, xy)
    lengths = np.linalg.norm(vectors, axis=-1)
    shown = lengths if pixels is None else _lengths(segments, pixels[:, chosen])
    short = (shown < MIN_PIXELS).any(axis=1)
    if covariance is not None:
        covariance = covariance[:, chosen]
        of_segments = np.einsum("sk,tkij->tsij", segments**2, covariance)
        short |= (lengths < shortest * _largest(of_segments)).any(axis=1)
    if measure.kind == "distance":  # two points may well be near each other
        short = np.zeros(len(xy), np.bool_)
    with np.errstate(divide="ignore", invalid="ignore"):
        if measure.is_angle:
            # The gradient of a vector's direction is the vector turned by 90 degrees, over its
            # squared length.
            turned = np.stack([-vectors[..., 1], vectors[..., 0]], axis=-1)
            turned = turned / (lengths**2)[..., None]
            values = _angle(measure, vectors, facing)
            signs = (-1.0, 1.0) if measure.kind == "angle" else (1.0,)
            gradient = np.einsum("s,sk,tsd->tkd", signs, segments, turned)
            sigmas = np.degrees(_sigmas(gradient, covariance))
            values = np.where((lengths > 0).all(axis=1), values, np.nan)
        else:
            vector = vectors[:, 0]
            if measure.axis is not None:
                vector = vector * ((1.0, 0.0) if measure.axis == "horizontal" else (0.0, 1.0))
            values = np.linalg.norm(vector, axis=-1)
            unit = _direction(vector, values, measure.axis)
            sigmas = _sigmas(np.einsum("k,td->tkd", segments[0], unit), covariance)
    return Values(values, np.where(np.isnan(values), np.nan, sigmas), short & ~np.isnan(values))


def speed(measure: Measure, xy: Floats, times: Floats, covariance: Floats | None = None) -> Values:
    """A point's speed in t frames by central differences, in units of `xy` per second.

    `times` (t,) in seconds, increasing. NaN at the ends and beside missing keypoints. The errors of
    two frames are taken as independent.
    """
    chosen = measure.keypoints
    weights = measure.segments[0, chosen]
    points = np.einsum("k,tkd->td", weights, xy[:, chosen])
    values, sigmas = np.full(len(xy), np.nan), np.full(len(xy), np.nan)
    if len(xy) > 2:
        steps = (times[2:] - times[:-2])[:, None]
        velocity = (points[2:] - points[:-2]) / steps
        if measure.axis is not None:
            velocity = velocity * ((1.0, 0.0) if measure.axis == "horizontal" else (0.0, 1.0))
        values[1:-1] = np.linalg.norm(velocity, axis=-1)
        if covariance is not None:
            own = np.einsum("k,tkij->tij", weights**2, covariance[:, chosen])
            around = (own[2:] + own[:-2]) / (steps**2)[..., None]
            unit = _direction(velocity, values[1:-1], measure.axis)
            sigmas[1:-1] = np.sqrt(np.einsum("ti,tij,tj->t", unit, around, unit))
    sigmas[np.isnan(values)] = np.nan
    return Values(values, sigmas, np.zeros(len(xy), np.bool_))


def interval(measure: Measure, found: Values, z: float = Z95) -> tuple[Floats, Floats]:
    """The ends (t,) of the intervals that hold 95 % of the truths, with the default `z`.

    Angles without a sign end at 0 and 180 degrees, lengths, distances and speeds at 0. Those with a
    sign may end beyond 180: 185 is the same direction as -175.
    """
    low, high = found.values - z * found.sigmas, found.values + z * found.sigmas
    if not measure.is_angle:
        return np.maximum(low, 0.0), high
    if measure.positive is None:
        lowest, highest = _bounds(measure)
        return np.clip(low, lowest, highest), np.clip(high, lowest, highest)
    return low, high


def wrapped(degrees: Floats) -> Floats:
    """The same directions in (-180, 180]."""
    return np.asarray(180.0 - (180.0 - degrees) % 360.0)


def _bounds(measure: Measure) -> tuple[float, float]:
    if measure.form == "dorsiflexion":
        return -90.0, 90.0
    return (0.0, 90.0) if measure.axis == "horizontal" else (0.0, 180.0)


def _angle(measure: Measure, vectors: Floats, facing: float | Floats) -> Floats:
    """(t,) degrees from the vectors (t, s, 2) of the segments."""
    directions = np.degrees(np.arctan2(vectors[..., 1], vectors[..., 0]))
    if measure.kind == "angle":
        clockwise = wrapped(directions[:, 1] - directions[:, 0])
        forward = -facing  # what hangs down turns to the front counterclockwise
    elif measure.axis == "vertical":
        clockwise = wrapped(directions[:, 0] + 90.0)
        forward = facing
    else:  # a line, whose ends are alike
        clockwise = 90.0 - (90.0 - directions[:, 0]) % 180.0
        forward = facing
    signs = {"clockwise": 1, "counterclockwise": -1, "forward": forward, "backward": -forward}
    if measure.positive is not None:
        return clockwise * signs[measure.positive]
    found = np.abs(clockwise)
    return {"included": 180.0 - found, "dorsiflexion": found - 90.0}.get(measure.form, found)


def _sigmas(gradient: Floats, covariance: Floats | None) -> Floats:
    """(t,) from gradients (t, k, 2) and covariances (t, k, 2, 2)."""
    if covariance is None:
        return np.full(len(gradient), np.nan)
    variance = np.einsum("tki,tkij,tkj->t", gradient, covariance, gradient)
    return np.asarray(np.sqrt(variance))


def _direction(vectors: Floats, lengths: Floats, axis: Axis | None) -> Floats:
    """(t, 2) unit vectors; of a vector without length that of the axis, or a diagonal."""
    diagonal = (np.sqrt(0.5), np.sqrt(0.5))
    still = diagonal if axis is None else (1.0, 0.0) if axis == "horizontal" else (0.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lengths[:, None] > 0, vectors / lengths[:, None], still)


def _lengths(segments: Floats, xy: Floats) -> Floats:
    return np.asarray(np.linalg.norm(np.einsum("sk,tkd->tsd", segments, xy), axis=-1))


def _largest(covariance: Floats) -> Floats:
    """The standard deviation in the worst direction of covariances (..., 2, 2)."""
    a, b, c = covariance[..., 0, 0], covariance[..., 0, 1], covariance[..., 1, 1]
    return np.asarray(np.sqrt((a + c) / 2 + np.sqrt(((a - c) / 2) ** 2 + b**2)))
