"""Measuring: angles, lengths, distances and speeds of persons in images, clips and results.

input ─ recordings of poses ─▶ tracks ─ definitions, scale ─▶ Series ─▶ tables and a page
"""

from __future__ import annotations  # so that help() shows the names of types, not their contents

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hrpose.errors import UserError, missing
from hrpose.io import write_atomically
from hrpose.measurement.definitions import Measure, choose, default_measures, read_definitions
from hrpose.measurement.propagation import Floats
from hrpose.measurement.recordings import Recording
from hrpose.measurement.scale import Camera, Scale
from hrpose.measurement.series import (
    COLUMNS,
    MISSING,
    SHORT,
    Facing,
    Repetitions,
    Series,
    Track,
    find_repetitions,
    measure_track,
    tracks_of,
)
from hrpose.poses import THRESHOLD

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]


# Rates that differ by less are the same: clips state 29.97 as 30.
_SAME_RATE = 0.01


@dataclass(frozen=True, slots=True)
class Summary:
    """A measure of a person in all images: medians, and shares of images in [0, 1].

    `half_interval` is half of the 95 % interval; None where there is none. `missing` and `short`
    are the shares of images in which a keypoint is missing, or a segment too short to trust.
    """

    file: str
    person: int
    measure: str
    unit: str
    median: float | None
    half_interval: float | None
    missing: float
    short: float

    @classmethod
    def of(cls, series: Series, m: int) -> Summary:
        """The summary of measure number m."""

        def median(values: Floats) -> float | None:
            known = values[~np.isnan(values)]
            return float(np.median(known)) if len(known) else None

        return cls(
            series.track.file,
            series.track.person,
            series.names[m],
            series.units[m],
            median(series.values[:, m]),
            median((series.high[:, m] - series.low[:, m]) / 2),
            float(np.mean(series.flags[:, m] == MISSING)),
            float(np.mean(series.flags[:, m] == SHORT)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Measurements:
    """What was measured: a `Series` for each person, and the `recordings` that they come from.

    `scales` says for each recording, by its name, where meters come from.
    """

    series: tuple[Series, ...]
    recordings: tuple[Recording, ...]
    scales: Mapping[str, str]

    def summary(self) -> list[Summary]:
        """One row for each person and measure."""
        return [
            Summary.of(series, m) for series in self.series for m in range(len(series.measures))
        ]

    def facts(self) -> list[dict[str, Any]]:
        """About each recording: name, persons, images, rate, intervals, scale, completeness."""
        return [
            {
                "name": each.name,
                "persons": sum(series.track.file == each.name for series in self.series),
                "images": len(each.shots),
                "rate": each.rate,
                "intervals": each.has_covariance,
                "scale": self.scales.get(each.name),
                "complete": each.complete,
            }
            for each in self.recordings
        ]

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The rows of the table, with the columns of `hrpose.measurement.series.COLUMNS`."""
        for series in self.series:
            yield from series.rows()

    def to_pandas(self) -> pd.DataFrame:
        """One row for each person, image and measure. Needs `hrpose[tables]`."""
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise missing("to_pandas", error, "hrpose[tables]") from error
        return pd.DataFrame.from_records(list(self.rows()), columns=list(COLUMNS)).astype(
            {"frame": "Int64", "time": "float64", "value": "float64", "low": "float64",
             "high": "float64"}
        )  # fmt: skip

    def repetitions(
        self, name: str, *, prominence: float | None = None
    ) -> list[tuple[Series, Repetitions]]:
        """The repetitions in the measure of this `name`, for each person in a clip.

        Raises UserError where there is no such measure, or no clip.
        """
        found = []
        for series in self.series:
            if not series.track.is_clip:
                continue
            (measure,) = choose(series.measures, [name], "--repetitions")
            at = series.measures.index(measure)
            widths = (series.high - series.low)[:, at]
            widths = widths[~np.isnan(widths)]
            found.append(
                (
                    series,
                    find_repetitions(
                        series.track.times,
                        np.where(series.flags[:, at] == MISSING, np.nan, series.values[:, at]),
                        name=name,
                        sigma=0.25 * float(np.median(widths)) / 3.92 if len(widths) else 0.0,
                        prominence=prominence,
                        circular=measure.is_angle and measure.positive is not None,
                    ),
                )
            )
        if not found:
            raise UserError(
                "--repetitions: expected persons in a clip, found none", code="persons-missing"
            )
        return found

    def save_csv(self, path: str | Path) -> None:
        """Write the table as CSV."""
        write_atomically(Path(path), as_csv(COLUMNS, self.rows()))

    def save_parquet(self, path: str | Path) -> None:
        """Write the table as Parquet. Needs `hrpose[tables]`."""
        from hrpose.tables import check_parquet

        check_parquet()
        data = io.BytesIO()
        self.to_pandas().to_parquet(data, index=False)
        write_atomically(Path(path), data.getvalue())

    def save_html(
        self, path: str | Path, repetitions: Sequence[tuple[Series, Repetitions]] = ()
    ) -> None:
        """Write a page with charts over time and the image beside; marks the `repetitions`."""
        from hrpose.measurement.page import render

        write_atomically(Path(path), render(self.recordings, self.series, self.scales, repetitions))


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV text with a header; None is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


# The columns of a table of repetitions; times are in seconds.
REPETITION_COLUMNS = (
    "file", "person", "measure", "repetition", "start", "peak", "end", "rise", "fall",
    "start_value", "peak_value", "end_value",
)  # fmt: skip


def save_repetitions(path: str | Path, found: Sequence[tuple[Series, Repetitions]]) -> None:
    """Write the repetitions of `Measurements.repetitions` as CSV."""
    rows: list[Sequence[Any]] = []
    for series, own in found:
        for number, each in enumerate(own.repetitions, start=1):
            times = (each.start, each.peak, each.end, each.rise, each.fall)
            numbers = (*times, each.start_value, each.peak_value, each.end_value)
            about = (series.track.file, series.track.person, own.measure, number)
            rows.append((*about, *(round(v, 4) for v in numbers)))
    write_atomically(Path(path), as_csv(REPETITION_COLUMNS, rows))


def measure_recordings(
    recordings: Sequence[Recording],
    definitions: Path | None = None,
    *,
    only: Sequence[str] = (),
    height: float | None = None,
    scale: Scale | None = None,
    camera: Camera | None = None,
    facing: Facing = "auto",
    person: int | None = None,
    threshold: float = THRESHOLD,
) -> Measurements:
    """Measure all persons in the recordings.

    `definitions` are a YAML file, else those of the skeleton; `only` names some of its measures.
    Meters come from the `height` of a person in meters (the one with the largest and longest
    track), a `scale`, or a `camera` with a plane. `person` is the only track id, or number in an
    image, that is measured. Raises UserError for definitions that do not fit, for a definition in
    meters without a scale, and for clips of different frame rates.
    """
    _check_rates(recordings)
    series: list[Series] = []
    scales: dict[str, str] = {}
    persons: set[int] = set()
    for recording in recordings:
        if definitions is None:
            measures = default_measures(recording.skeleton)
        else:
            measures = read_definitions(definitions, recording.skeleton)
        measures = choose(measures, only, "--only") if only else measures
        tracks = tracks_of(
            recording.name,
            recording.shots,
            recording.skeleton,
            is_clip=recording.is_clip,
            threshold=threshold,
        )
        persons |= {track.person for track in tracks}
        if person is not None:
            tracks = [track for track in tracks if track.person == person]
        if camera is not None:
            camera.check_size(recording.image_wh, recording.name)
        own = scale
        if height is not None and tracks:
            largest = max(tracks, key=_size_of)
            own = Scale.of_height(height, largest.xy, recording.skeleton, recording.name)
        _check_scaled(measures, definitions, recording, own, camera)
        if own is not None:
            scales[recording.name] = own.from_
        elif camera is not None and camera.plane is not None:
            scales[recording.name] = "the plane of the board"
        series += [
            measure_track(track, measures, scale=own, camera=camera, facing=facing)
            for track in tracks
        ]
    if person is not None and not series:
        known = ", ".join(map(str, sorted(persons))) or "none: there are no persons"
        raise UserError(f"--person: expected one of {known}, found {person}", code="person-unknown")
    return Measurements(tuple(series), tuple(recordings), scales)


def _size_of(track: Track) -> float:
    """How much of the images a track covers."""
    extent = np.ptp(track.keypoints[..., 1], axis=1)
    return float(extent.sum())


def _check_rates(recordings: Sequence[Recording]) -> None:
    clips = [(recording, rate) for recording in recordings if (rate := recording.rate) is not None]
    for recording, rate in clips[1:]:
        first, expected = clips[0]
        if abs(rate - expected) > _SAME_RATE * expected:
            raise UserError(
                f"{_where(recording)}: expected {expected:.5g} frames per second "
                f"as in {first.name}, found {rate:.5g}; measure clips of different rates one by "
                "one",
                code="rates-differ",
            )


def _where(recording: Recording) -> str:
    """The file that the user named, and of results the clip in it."""
    origin, name = recording.origin, recording.name
    return origin if Path(origin).name == Path(name).name else f"{origin}: {name}"


def _check_scaled(
    measures: Sequence[Measure],
    definitions: Path | None,
    recording: Recording,
    scale: Scale | None,
    camera: Camera | None,
) -> None:
    scaled = scale is not None or (camera is not None and camera.plane is not None)
    for measure in measures:
        if measure.on_ground and (camera is None or camera.ground is None):
            raise UserError(
                f"{definitions}: measures.{measure.name}: expected a camera that knows the ground "
                f"for 'plane: ground', found none for {recording.name}; calibrate it with --ground",
                code="scale-missing",
            )
        if measure.meters and not scaled:
            raise UserError(
                f"{definitions}: measures.{measure.name}: expected a scale for 'unit: m', found "
                f"none for {recording.name}; give --height, --known or --camera",
                code="scale-missing",
            )
