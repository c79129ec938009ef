"""`hrpose batch` and `serve`: archives of images, to Parquet files; and poses over HTTP."""

import os
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose.cli.console import (
    Show,
    conflict,
    counted,
    finish,
    given,
    progress,
    say,
    stop_signal,
    warn,
)
from hrpose.cli.options import (
    RESULTS,
    THRESHOLD,
    BatchSize,
    BoxThreshold,
    Detector,
    Device,
    FlipTest,
    MinScore,
    Out,
    Precision,
    Refine,
    Threshold,
    Weights,
)
from hrpose.engines import asked
from hrpose.errors import UserError, missing

if TYPE_CHECKING:
    from hrpose.batch.job import Job
    from hrpose.batch.run import Outcome, State

# The bounds of `hrpose.image`, whose import would slow down `--help`.
MAX_MEGABYTES, MAX_MEGAPIXELS = 200, 100
# Seconds between lines of progress where there is no terminal.
_BETWEEN_LINES = 60.0
_MOST_FAILURES_SHOWN = 10
_WORKERS = "Workers"


class EngineName(StrEnum):
    """What runs the workers."""

    processes = "processes"
    ray = "ray"


def batch(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="A folder, a zip file, a list (.txt, .parquet) or an address (s3://bucket/folder)."
        ),
    ],
    out: Out = Path("out"),
    weights: Weights = "w16-small",
    detector: Detector = "auto",
    box_threshold: BoxThreshold = None,
    min_score: MinScore = None,
    flip_test: FlipTest = False,
    refine: Refine = False,
    threshold: Threshold = THRESHOLD,
    batch_size: BatchSize = 16,
    device: Device = "auto",
    precision: Precision = "auto",
    partition: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000_000,
            help="Images in each result file; by default 250.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Repeat the partitions that have failed images.",
            rich_help_panel=RESULTS,
        ),
    ] = False,
    engine: Annotated[
        EngineName,
        typer.Option(
            help="processes (on this machine) or ray (a cluster).", rich_help_panel=_WORKERS
        ),
    ] = EngineName.processes,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of workers; by default as many as the cores allow.",
            rich_help_panel=_WORKERS,
        ),
    ] = None,
    worker_cpus: Annotated[
        int, typer.Option(min=1, help="Cores for each worker.", rich_help_panel=_WORKERS)
    ] = 1,
    worker_gpus: Annotated[
        float, typer.Option(min=0, help="GPUs for each Ray worker.", rich_help_panel=_WORKERS)
    ] = 0.0,
    address: Annotated[
        str | None,
        typer.Option(
            help="The Ray cluster: auto, HOST:PORT or ray://HOST:PORT; by default a new one on "
            "this machine.",
            rich_help_panel=_WORKERS,
        ),
    ] = None,
) -> None:
    """Estimate the poses in archives of any size; write one Parquet file for each partition.

    Run the same command again to continue after an interruption. An image that cannot be read is a
    row with the reason.
    """
    for option in ("address", "worker_gpus"):
        if engine is not EngineName.ray and given(context, option):
            name = f"--{option.replace('_', '-')}"
            raise conflict(f"{name}: needs --engine ray; add it or leave {name} out")
    from hrpose.api import load

    try:
        from hrpose.batch.run import Workers, predict
        from hrpose.batch.worker import Choices
    except ModuleNotFoundError as error:
        raise missing("hrpose batch", error, "hrpose[archives]") from error
    choices = Choices(
        weights,
        detector,
        box_threshold,
        min_score,
        flip_test,
        refine,
        threshold,
        *asked(device, precision),  # the environment is that of this process, not of the workers
    )
    with stop_signal() as signal, progress("listing", lines_every=_BETWEEN_LINES) as show:
        watch = _Watch(show)
        outcome = predict(
            source,
            out,
            choices.portable(),
            load,
            Workers(engine.value, workers, worker_cpus, worker_gpus, address),
            watch,
            lambda: signal() is not None,
            batch_size=batch_size,
            partition=partition,
            retry_failed=retry_failed,
        )
        number = signal()
    if outcome is None:
        finish(0, 0, number)
        return
    _report(outcome, watch.seconds)
    done = outcome.job.images if outcome.state is None else outcome.state.done.images
    finish(done - outcome.failed, outcome.failed, number)


def _report(outcome: "Outcome", seconds: float) -> None:
    """Print the counts and, where images failed in this run, the first reasons."""
    from hrpose.batch.job import failures

    job, state, failed = outcome.job, outcome.state, outcome.failed
    folder = job.folder / "poses"
    if state is None:
        say(f"{job.images:,} images already done ({failed:,} failed) in {folder}")
        return
    here, done = state.this_run, state.done
    say(
        f"{done.images:,} of {job.images:,} images ({done.failed:,} failed), "
        f"{counted(done.persons, 'person')} (detector: {outcome.detector}) -> {folder} "
        f"({outcome.engine})"
    )
    if here.images:
        lost = f", {counted(state.lost, 'worker')} lost" if state.lost else ""
        say(
            f"this run: {counted(here.images, 'image')}, {here.images / seconds:.1f} images/s, "
            f"{counted(state.workers, 'worker')}{lost}"
        )
    if not state.finished:
        say("run the same command again to continue")
    if here.failed:
        for reason in failures(job, _MOST_FAILURES_SHOWN):
            warn(reason)
        if done.failed > _MOST_FAILURES_SHOWN:
            warn(f"see the column 'reason' of {folder} for all")


class _Watch:
    """Shows the progress of a job, and measures the time of this run."""

    def __init__(self, show: "Show") -> None:
        self._show = show
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self._began, 1e-9)

    def listed(self, count: int) -> None:
        self._show(count, None, f"listing: {count:,} images")

    def begin(self, job: "Job", done: int) -> None:
        self._began = time.monotonic()
        self._show(done, job.images, "starting workers")

    def update(self, state: "State") -> None:
        speed = state.this_run.images / self.seconds
        lost = f", {state.lost} lost (the last one {state.why_lost})" if state.lost else ""
        workers = f"{state.workers} workers{lost}" if state.workers else f"starting workers{lost}"
        self._show(
            state.done.images,
            state.job.images,
            f"{state.done.images:,} of {state.job.images:,} images, "
            f"{state.done.failed:,} failed, {speed:.1f}/s, {workers}",
        )


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 accepts other machines.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    weights: Weights = "w16-small",
    detector: Detector = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    workers: Annotated[
        int,
        typer.Option(
            min=1, max=64, help="Batches that run at the same time; they share the cores."
        ),
    ] = 1,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="HRPOSE_TOKEN",
            help="Require this bearer token. Safer in the environment: other users can read a "
            "command line.",
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name that this server is reached by, beside localhost; `*.example.com` for all "
            "under it. Repeatable."
        ),
    ] = None,
    allowed_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="An origin such as https://example.com, whose pages may use this server. "
            "Repeatable."
        ),
    ] = None,
    max_megabytes: Annotated[
        float, typer.Option(min=0.001, max=MAX_MEGABYTES, help="Largest accepted image file.")
    ] = 20,
    max_megapixels: Annotated[
        float, typer.Option(min=0.001, max=MAX_MEGAPIXELS, help="Largest accepted image.")
    ] = 40,
) -> None:
    """Serve poses over HTTP, with a demo page at /. SIGTERM or Ctrl-C stops it."""
    try:
        from hrpose.serve.middleware import Access, Limits, is_loopback
        from hrpose.serve.server import listen, serve, url_of
    except ModuleNotFoundError as error:
        raise missing("serve", error, "hrpose[serve]") from error
    from hrpose import weights as registry
    from hrpose.detection import open_detector
    from hrpose.estimator import PoseEstimator
    from hrpose.session import open_session, usable_cores

    if token is None:  # typer ignores an empty variable
        token = os.environ.get("HRPOSE_TOKEN")
    if token is not None and not token.strip():
        raise UserError(
            "--token (HRPOSE_TOKEN): expected a secret, found an empty text; set one, or unset the "
            "variable for a server without",
            code="token-empty",
        )
    if token is not None and not (token.isascii() and token.isprintable()):
        raise UserError(
            "--token: expected printable ASCII characters; choose another", code="option-invalid"
        )
    access = Access.parse(allowed_host or (), allowed_origin or ())
    file = registry.find(weights)
    threads = max(1, usable_cores() // workers)
    sessions = [open_session(file, threads, device, precision) for _ in range(workers)]
    opened = open_detector(detector, threads=threads, device=device, precision=precision)
    engine = PoseEstimator(sessions[0], detector=opened).engine
    limits = Limits(max_bytes=round(max_megabytes * 1e6), max_pixels=round(max_megapixels * 1e6))
    with listen(host, port) as listener:

        def ready() -> None:
            typer.echo(f"hrpose: {weights} at {url_of(listener)}; Ctrl-C stops it")
            typer.echo(f"hrpose: person detector: {opened.name}; {engine}")
            if is_loopback(listener.getsockname()[0]):
                return
            if token is None:
                typer.echo("hrpose: open to everyone who can reach this address; see --token")
            if not access.hosts:
                typer.echo("hrpose: reached by IP address only; for a name see --allowed-host")

        serve(sessions, listener, opened, token=token, access=access, limits=limits, ready=ready)
