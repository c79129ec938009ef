"""`hrpose measure`: angles, lengths and speeds with intervals, and the board that scales them."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hrpose.cli import check_writable, chosen, conflict, describe, given
from hrpose.cli.console import (
    conclude,
    counted,
    finish,
    progress,
    report,
    say,
    stop_signal,
    table,
    warn,
)
from hrpose.cli.options import (
    CLIPS,
    METERS,
    RESULTS,
    THRESHOLD,
    BatchSize,
    Detector,
    Device,
    FlipTest,
    KnownDistance,
    KnownHeight,
    Out,
    Overwrite,
    Precision,
    Recursive,
    Threshold,
    Weights,
    Yes,
)
from hrpose.errors import UserError, missing

if TYPE_CHECKING:
    from hrpose.estimator import PoseEstimator
    from hrpose.measurement import Measurements
    from hrpose.measurement.series import Repetitions, Series
    from hrpose.predict.inputs import Inputs

# What `--save` knows here, and the files.
_SUFFIXES = {"csv": ".csv", "parquet": ".parquet", "html": ".html"}
KINDS = {kind: f"measures{suffix}" for kind, suffix in _SUFFIXES.items()}
REPETITIONS = "repetitions.csv"
MEASURES = "Measures"


class FacingName(StrEnum):
    """Which way persons face."""

    auto = "auto"
    left = "left"
    right = "right"


@describe(
    "hrpose measure walking.mp4",
    "hrpose measure squats.mp4 --repetitions knee_left --height 1.75",
    "hrpose measure out/walking.jsonl --definitions my.yaml --save csv",
    "hrpose measure --print-board board.pdf",
    "hrpose measure board/ --calibrate camera.json --plane board/plane.jpg",
    recordings="an object for each image or clip: `name`, `persons`, `images`, `rate`, "
    "`intervals`, `scale`, `complete` (false where the record was cut off)",
    measures="an object for each person and measure: `file`, `person`, `measure`, `unit`, "
    "`median`, `half_interval`, `missing`, `short`",
    repetitions="with --repetitions, an object for each person: `file`, `person`, `count`, "
    "`cadence`",
    camera="with --calibrate: `rms` in pixels, `views`, `plane` and `ground`",
    failed="number of inputs that could not be read",
    files="the files written",
)
def measure(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Images, folders and clips, or results of `hrpose predict` (.jsonl, .json, .csv, "
            ".parquet)."
        ),
    ] = None,
    recursive: Recursive = False,
    definitions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What to measure, as YAML; by default what --print-definitions prints, or the "
            "angles and lengths of the skeleton's limbs.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    print_definitions: Annotated[
        bool,
        typer.Option(
            "--print-definitions",
            help="Print the definitions for persons, to be edited, and stop.",
            rich_help_panel=MEASURES,
        ),
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Only these measures, as knee_left,trunk.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    repetitions: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Count the repetitions in this measure, with their phases and cadence.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    prominence: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="How far a repetition rises above its start and end, in the measure's unit; by "
            "default 35 % of its range.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    facing: Annotated[
        FacingName,
        typer.Option(
            help="Which way persons face, for angles that grow forward; auto goes by their heads.",
            rich_help_panel=MEASURES,
        ),
    ] = FacingName.auto,
    person: Annotated[
        int | None,
        typer.Option(
            help="Only this person: the track id in a clip, the number in an image.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    skeleton: Annotated[
        str | None,
        typer.Option(
            help="The skeleton of .json results, by name or file, where it is not clear.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    height: KnownHeight = None,
    known: KnownDistance = None,
    camera: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The camera, of --calibrate: takes out the lens, and gives meters in its plane.",
            rich_help_panel=METERS,
        ),
    ] = None,
    print_board: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the board to print, .pdf or .png, and stop.",
            rich_help_panel=METERS,
        ),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the camera to this file: the inputs are images and clips of the board.",
            rich_help_panel=METERS,
        ),
    ] = None,
    square: Annotated[
        float,
        typer.Option(
            min=0.001,
            max=1,
            metavar="METERS",
            help="With --calibrate: the side of a printed square.",
            rich_help_panel=METERS,
        ),
    ] = 0.035,
    plane: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGE",
            help="With --calibrate: the board held in the plane in which persons will move.",
            rich_help_panel=METERS,
        ),
    ] = None,
    ground: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGE",
            help="With --calibrate: the board on the ground, for measures with `plane: ground`.",
            rich_help_panel=METERS,
        ),
    ] = None,
    weights: Weights = "w32-small",
    yes: Yes = False,
    flip_test: FlipTest = False,
    batch_size: BatchSize = 16,
    device: Device = "auto",
    precision: Precision = "auto",
    detector: Detector = "auto",
    threshold: Threshold = THRESHOLD,
    offline: Annotated[
        bool,
        typer.Option(
            help="Repair and smooth the poses of clips over time, as `predict --offline` does.",
            rich_help_panel=CLIPS,
        ),
    ] = True,
    out: Out = Path("out"),
    save: Annotated[
        str,
        typer.Option(
            help="What to write, separated by commas: csv and parquet (measures.csv, "
            "measures.parquet: a row for each person, image and measure), html "
            "(measures.html: charts with the image beside).",
            rich_help_panel=RESULTS,
        ),
    ] = "csv,html",
    overwrite: Overwrite = False,
) -> None:
    """Measure angles, tilts, lengths, distances and speeds of persons, with 95 % intervals.

    Images and clips are predicted first. Without --height, --known or --camera, lengths are in
    pixels. All measures are those of the image's plane: they hold for movements seen from the side
    at right angles, and not for those toward the camera.
    """
    from hrpose.api import load_measuring
    from hrpose.cli.predict import download_missing

    try:
        from hrpose.measurement import measure_recordings
        from hrpose.measurement.definitions import PERSON
        from hrpose.measurement.recordings import recordings_of
        from hrpose.measurement.scale import Camera, Scale, write_board
    except ModuleNotFoundError as error:
        raise missing("measure", error, "hrpose[measure]") from error

    if print_definitions:
        say(*PERSON.read_text(encoding="utf-8").splitlines())
        return
    if print_board is not None:
        write_board(print_board)
        conclude(files=[print_board])
        say(f"the board -> {print_board}; print it at 100 %")
        return
    if not sources:
        raise UserError(
            "measure: expected images, clips or results, found none; name some",
            code="file-unreadable",
        )
    if calibrate is not None:
        _calibrate(sources, calibrate, square, plane, ground, recursive=recursive)
        return
    for option in ("square", "plane", "ground"):
        if given(context, option):
            raise conflict(f"--{option}: needs --calibrate; add it")
    if height is not None and known is not None:
        raise conflict("--height and --known: both give the scale; leave out one of them")
    if prominence is not None and repetitions is None:
        raise conflict("--prominence: needs --repetitions; add it")
    files = {kind: out / KINDS[kind] for kind in sorted(chosen("--save", save, KINDS))}
    if repetitions is not None:
        files["repetitions"] = out / REPETITIONS
    scale = None if known is None else Scale.of_points(known)
    lens = None if camera is None else Camera.read(camera)
    _check_results(files, sources, overwrite=overwrite)

    how: dict[str, Any] = {
        "flip_test": flip_test,
        "batch_size": batch_size,
        "precision": precision,
        "detector": detector,
    }

    def estimator(inputs: "Inputs") -> "PoseEstimator":
        if inputs.skipped:
            warn(f"skipped: {inputs.skipped_line}")
        download_missing(yes, weights, detector)
        return load_measuring(weights, device=device, **how)

    with stop_signal() as signal, progress("images") as show:
        recordings, failures = recordings_of(
            sources,
            estimator,
            skeleton=skeleton,
            recursive=recursive,
            offline=offline,
            progress=show,
            stopped=lambda: signal() is not None,
        )
        for failure in failures:
            report(failure)
        if not recordings:
            finish(0, len(failures), signal())
            found = f"none in {', '.join(sources)}"
            raise UserError(f"measure: expected persons, found {found}", code="persons-missing")
        measured = measure_recordings(
            recordings,
            definitions,
            only=[name.strip() for name in (only or "").split(",") if name.strip()],
            height=height,
            scale=scale,
            camera=lens,
            facing=facing.value,
            person=person,
            threshold=threshold,
        )
        repeated = []
        if repetitions is not None:
            repeated = measured.repetitions(repetitions, prominence=prominence)
        _summarize(measured)
        _write(measured, files, repeated)
        if repetitions is not None:
            _report_repetitions(repeated)
        conclude(files=list(files.values()), failed=len(failures))
        say(
            f"{counted(len(recordings), 'recording')}, {counted(len(measured.series), 'person')} "
            f"-> {', '.join(map(str, files.values()))}"
        )
        finish(len(recordings), len(failures), signal())


def _check_results(files: dict[str, Path], sources: Sequence[str], *, overwrite: bool) -> None:
    if "parquet" in files:
        from hrpose.tables import check_parquet

        check_parquet()
    read = {Path(source).resolve() for source in sources}
    for path in files.values():
        if path.resolve() in read:
            raise UserError(
                f"{path}: would be overwritten; choose another --out", code="overwrite-refused"
            )
        if path.exists() and not overwrite:
            raise UserError(
                f"{path}: is there already; choose another --out, or replace it with --overwrite",
                code="overwrite-refused",
            )
        check_writable(path)


def _summarize(measured: "Measurements") -> None:
    """Print a row for each person and measure, and conclude the same."""
    summary = measured.summary()
    rows = [
        (
            about.file,
            about.person,
            about.measure,
            _short(about.median),
            "" if about.half_interval is None else f"± {_short(about.half_interval)}",
            about.unit,
            f"{100 * about.missing:.0f} %",
            f"{100 * about.short:.0f} %",
        )
        for about in summary
        if about.median is not None
    ]
    table(rows, "file", "person", "measure", "median", "95 %", "unit", "missing", "too short")
    facts = measured.facts()
    for about in facts:
        name = about["name"]
        if not about["complete"]:
            warn(f"{name}: not all of it is there: the record was cut off")
        if about["persons"] and not about["intervals"]:
            warn(
                f"{name}: no intervals: the results have no covariances; predict with --covariance"
            )
    conclude(recordings=facts, measures=summary)


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _write(
    measured: "Measurements",
    files: dict[str, Path],
    repeated: "Sequence[tuple[Series, Repetitions]]",
) -> None:
    from hrpose.io import locked
    from hrpose.measurement import save_repetitions

    with locked(next(iter(files.values())).parent):
        for kind, path in files.items():
            if kind == "repetitions":
                save_repetitions(path, repeated)
            elif kind == "html":
                measured.save_html(path, repeated)
            else:
                getattr(measured, f"save_{kind}")(path)


def _report_repetitions(repeated: "Sequence[tuple[Series, Repetitions]]") -> None:
    facts = []
    for series, each in repeated:
        cadence = "" if each.cadence is None else f", {each.cadence:.1f} per minute"
        say(
            f"{series.track.file}: person {series.track.person}: "
            f"{counted(len(each), 'repetition')} of {each.measure}{cadence}"
        )
        about = {"file": series.track.file, "person": series.track.person}
        facts.append({**about, "count": len(each), "cadence": each.cadence})
    conclude(repetitions=facts)


def _calibrate(
    sources: Sequence[str],
    target: Path,
    square: float,
    plane: Path | None,
    ground: Path | None,
    *,
    recursive: bool,
) -> None:
    """Write the camera that saw the board in images and clips."""
    from hrpose.measurement.scale import calibrate, views_in, with_planes
    from hrpose.predict.inputs import find_inputs

    views, without = views_in(find_inputs(sources, recursive=recursive), square)
    if without:
        warn(f"no board found in {counted(without, 'image')}; they are left out")
    camera = with_planes(calibrate(views), plane, ground, square)
    camera.save(target)
    known = {"plane": camera.plane is not None, "ground": camera.ground is not None}
    conclude(camera={"rms": camera.rms, "views": camera.views, **known}, files=[target])
    say(f"{camera.views} views of the board, error {camera.rms:.2f} pixels -> {target}")
