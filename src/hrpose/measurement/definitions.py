"""Definitions of measures: angles, tilts, lengths, distances and speeds between keypoints, as YAML.

    points:
      hips: [left_hip, right_hip]                 # the mean of several keypoints
    measures:
      knee_left: {angle: [left_hip, left_knee, left_ankle], kind: flexion}
      trunk: {tilt: [hips, shoulders], to: vertical, positive: forward}
      thigh_left: {length: [left_hip, left_knee]}

`person.yaml` beside this file explains every key and is what is measured of persons by default;
other skeletons get an angle where two limbs meet and a length for each limb.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from hrpose.errors import UserError
from hrpose.skeleton import Skeleton
from hrpose.yaml_file import Part, load_as

PERSON = Path(__file__).with_name("person.yaml")
# What person.yaml is for: skeletons with all of these.
_BODY = tuple(
    f"{side}_{name}"
    for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for side in ("left", "right")
)
# The numbers of points that each kind of measure can have.
_POINTS = {"angle": (3, 4), "tilt": (2,), "length": (2,), "distance": (2,), "speed": (1,)}

Kind = Literal["angle", "tilt", "length", "distance", "speed"]
Form = Literal["included", "flexion", "dorsiflexion", "direction"]
Positive = Literal["forward", "backward", "clockwise", "counterclockwise"]
Axis = Literal["horizontal", "vertical"]
Names = Annotated[tuple[str, ...], Field(min_length=1)]


class MeasurePart(Part):
    """One entry of `measures`: exactly one of the first five keys, and what goes with it."""

    model_config = ConfigDict(coerce_numbers_to_str=True)  # a keypoint may be called 1

    angle: Names | None = None
    tilt: Names | None = None
    length: Names | None = None
    distance: Names | None = None
    speed: Names | None = None
    kind: Literal["included", "flexion", "dorsiflexion"] | None = None
    positive: Positive | None = None
    to: Axis | None = None
    along: Axis | None = None
    unit: Literal["m", "px"] | None = None
    plane: Literal["ground"] | None = None


class DefinitionFile(Part):
    """A file of definitions; see the module."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    points: dict[str, Names] = Field(default_factory=dict)
    measures: Annotated[dict[str, MeasurePart], Field(min_length=1)]


@dataclass(frozen=True, slots=True, eq=False)
class Measure:
    """One measure of a skeleton with k keypoints.

    `segments` (s, k) are the weights of the keypoints in each segment's vector, from its first
    point to its second: two for an angle, else one; the point itself for a speed. `form` says how
    an angle is counted, `positive` which way it grows (None: no sign), `axis` what a tilt is
    measured to, or a distance along. `meters` says that the definition asks for meters, and not
    for what the scale gives; False is pixels. `on_ground` says that the points are on the ground.
    """

    name: str
    kind: Kind
    segments: NDArray[np.float64]
    form: Form = "direction"
    positive: Positive | None = None
    axis: Axis | None = None
    meters: bool | None = None
    on_ground: bool = False

    @property
    def is_angle(self) -> bool:
        """Whether it is in degrees."""
        return self.kind in ("angle", "tilt")

    @property
    def keypoints(self) -> NDArray[np.bool_]:
        """(k,) the keypoints that it needs."""
        return np.asarray((self.segments != 0).any(axis=0))

    def unit(self, scaled: bool) -> str:
        """deg, px, m, px/s or m/s."""
        if self.is_angle:
            return "deg"
        length = "m" if (scaled and self.meters is not False) or self.on_ground else "px"
        return f"{length}/s" if self.kind == "speed" else length


def read_definitions(path: Path, skeleton: Skeleton) -> tuple[Measure, ...]:
    """The measures of a YAML file, for this skeleton.

    Raises UserError for another form, for keypoints that the skeleton does not have, and for
    segments from a point to itself; it names the file and the entry.
    """
    file = load_as(path, (), DefinitionFile)
    points = _points(path, file, skeleton)
    return tuple(
        _measure(f"{path}: measures.{name}", name, part, points)
        for name, part in file.measures.items()
    )


def default_measures(skeleton: Skeleton) -> tuple[Measure, ...]:
    """What is measured where the user defines nothing: person.yaml, or angles and limbs."""
    if not set(_BODY) <= set(skeleton.keypoints):
        return _of_limbs(skeleton)
    file = load_as(PERSON, (), DefinitionFile)
    known = {name: names for name, names in file.points.items() if _has(skeleton, names)}
    points = _points(PERSON, file.model_copy(update={"points": known}), skeleton)
    return tuple(
        _measure(name, name, part, points)
        for name, part in file.measures.items()
        if set(_given(part)[1]) <= set(points)
    )


def choose(measures: Sequence[Measure], names: Sequence[str], option: str) -> tuple[Measure, ...]:
    """Those of these names, in their order. Raises UserError for a name that there is not."""
    by_name = {measure.name: measure for measure in measures}
    for name in names:
        if name not in by_name:
            raise UserError(
                f"{option}: expected names of measures, found '{name}'; {_hint(name, by_name)}",
                code="measure-unknown",
            )
    return tuple(by_name[name] for name in dict.fromkeys(names))


def _of_limbs(skeleton: Skeleton) -> tuple[Measure, ...]:
    """Flexion at each keypoint where exactly two limbs meet, and the length of each limb."""
    k, names = len(skeleton), skeleton.keypoints
    unit = np.eye(k)
    ends: list[list[int]] = [[] for _ in range(k)]
    for a, b in skeleton.limbs:
        ends[a].append(b)
        ends[b].append(a)
    angles = [
        Measure(names[at], "angle", np.stack([unit[at] - unit[a], unit[b] - unit[at]]), "flexion")
        for at, (a, b) in ((at, pair) for at, pair in enumerate(ends) if len(pair) == 2)
    ]
    lengths = [
        Measure(f"{names[a]}-{names[b]}", "length", (unit[b] - unit[a])[None])
        for a, b in skeleton.limbs
    ]
    if not lengths:
        raise UserError(
            f"skeleton '{skeleton.name}': expected limbs to measure, found none; "
            "give --definitions a file of your own",
            code="measure-invalid",
        )
    return (*angles, *lengths)


def _has(skeleton: Skeleton, names: Sequence[str]) -> bool:
    return set(names) <= set(skeleton.keypoints)


def _points(path: Path, file: DefinitionFile, skeleton: Skeleton) -> dict[str, NDArray[np.float64]]:
    """The weights (k,) of the keypoints in each point: the keypoints, and the file's points."""
    unit = dict(zip(skeleton.keypoints, np.eye(len(skeleton)), strict=True))
    found = dict(unit)
    for name, keypoints in file.points.items():
        where = f"{path}: points.{name}"
        if name in unit:
            raise UserError(
                f"{where}: expected a name of its own, found that of a keypoint",
                code="measure-invalid",
            )
        for keypoint in keypoints:
            _check_known(where, keypoint, unit, f"keypoints of {skeleton.name}")
        if len(set(keypoints)) < len(keypoints):
            raise UserError(
                f"{where}: expected different keypoints, found {', '.join(keypoints)}",
                code="measure-invalid",
            )
        found[name] = np.mean([unit[keypoint] for keypoint in keypoints], axis=0)
    return found


def _check_known(where: str, name: str, known: Mapping[str, object], kind: str) -> None:
    if name not in known:
        raise UserError(
            f"{where}: expected {kind}, found '{name}'; {_hint(name, known)}",
            code="keypoint-unknown",
        )


def _hint(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"


def _given(part: MeasurePart) -> tuple[Kind | None, tuple[str, ...]]:
    """The kind of a measure, and its points; None where there is none or are several."""
    found = [(kind, names) for kind in _POINTS if (names := getattr(part, kind)) is not None]
    return found[0] if len(found) == 1 else (None, ())  # type: ignore[return-value]


def _measure(
    where: str, name: str, part: MeasurePart, points: Mapping[str, NDArray[np.float64]]
) -> Measure:
    kind, names = _given(part)

    def invalid(expected: str, found: str) -> UserError:
        return UserError(f"{where}: expected {expected}, found {found}", code="measure-invalid")

    if kind is None:
        given = [each for each in _POINTS if getattr(part, each) is not None]
        raise invalid(f"one of {', '.join(_POINTS)}", " and ".join(given) or "none")
    if len(names) not in _POINTS[kind]:
        counts = " or ".join(map(str, _POINTS[kind]))
        raise invalid(f"{counts} points in '{kind}'", ", ".join(names))
    for point in names:
        _check_known(where, point, points, "keypoints or points")
    if kind == "tilt" and part.to is None:
        raise invalid("'to: vertical' or 'to: horizontal' with a tilt", "no 'to'")
    only = {"kind": ("angle",), "positive": ("angle", "tilt"), "to": ("tilt",)}
    only |= {"along": ("distance", "speed"), "unit": ("length", "distance", "speed")}
    only |= {"plane": ("distance", "speed")}
    for key, kinds in only.items():
        if getattr(part, key) is not None and kind not in kinds:
            raise invalid(f"'{key}' only with {' or '.join(kinds)}", f"it with '{kind}'")
    if part.to == "horizontal" and part.positive in ("forward", "backward"):
        raise invalid("'positive: clockwise' or 'counterclockwise' to horizontal", part.positive)
    if part.kind in ("included", "dorsiflexion") and part.positive is not None:
        raise invalid(f"no 'positive' with 'kind: {part.kind}'", part.positive)
    weights = [points[point] for point in names]
    at = [(0, 1), (1, 2)] if len(names) == 3 else [(i, i + 1) for i in range(0, len(names), 2)]
    if kind == "speed":
        segments = weights[0][None]
    else:
        segments = np.stack([weights[b] - weights[a] for a, b in at])
        for (a, b), vector in zip(at, segments, strict=True):
            if not vector.any():
                raise invalid(
                    "segments between two different points",
                    f"a zero-length segment from {names[a]} to {names[b]}",
                )
    form: Form = part.kind or ("included" if len(names) == 3 else "direction")
    if part.kind is None and part.positive is not None and kind == "angle":
        form = "flexion" if len(names) == 3 else "direction"
    axis = part.to or part.along
    meters = None if part.unit is None else part.unit == "m"
    on_ground = part.plane is not None
    return Measure(name, kind, segments, form, part.positive, axis, meters, on_ground)
