"""`hrpose predict PLACE --engine processes|ray`: pictures by the million, into Parquet files."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from hrpose.cli.console import STOPPED, asked_to_stop
from hrpose.errors import UserError, missing

if TYPE_CHECKING:
    from hrpose.archives.engine import Engine
    from hrpose.archives.job import Job
    from hrpose.archives.run import State
    from hrpose.archives.worker import Choices, Opening

ENGINES = ("processes", "ray")
PARTITION = 250
# Seconds between lines where nobody watches a bar.
_BETWEEN_LINES = 60.0
_MOST_FAILURES_SAID = 10


@dataclass(frozen=True, slots=True)
class ArchiveOptions:
    """The options that only `--engine` has; None and False where they were not given."""

    engine: str | None
    address: str | None
    workers: int | None
    worker_cpus: int | None
    worker_gpus: float | None
    partition: int | None
    retry_failed: bool

    def check(self, pictures: list[str], others: dict[str, bool]) -> None:
        """Raise UserError for options that do not fit. `others` tells which of those that other
        ways to predict have were given.
        """
        given = [f"--{name.replace('_', '-')}" for name, value in asdict(self).items() if value]
        if self.engine is None:
            if given:
                raise UserError(f"{given[0]}: goes with --engine; add --engine processes or ray")
            from hrpose.archives.remote import is_address, shown

            if addresses := [place for place in pictures if is_address(place)]:
                raise UserError(
                    f"{shown(addresses[0])}: addresses need --engine processes or ray; add it"
                )
            return
        if self.engine not in ENGINES:
            raise UserError(
                f"--engine: expected one of {', '.join(ENGINES)}, found '{self.engine}'"
            )
        for option, was_given in others.items():
            if was_given:
                raise UserError(f"{option}: does not go with --engine; leave it out")
        for option, value in (("address", self.address), ("worker-gpus", self.worker_gpus)):
            if value and self.engine != "ray":
                raise UserError(f"--{option}: goes with --engine ray; leave it out")
        if len(pictures) != 1:
            raise UserError(
                f"--engine: expected one place, found {len(pictures)}; a list (.txt) can name "
                "pictures of many"
            )


def predict_archive(
    place: str, out: Path, choices: "Choices", batch_size: int, options: ArchiveOptions
) -> None:
    """Find the people in all pictures of `place`; writes one Parquet file for each partition.

    Goes on where the same command stopped. Ctrl-C and SIGTERM end it at once, with exit code 130 or
    143 and all finished partitions written.
    """
    try:
        from hrpose.archives import job as jobs
        from hrpose.archives.place import absolute, open_place
        from hrpose.archives.remote import shown
        from hrpose.archives.run import run, to_do
        from hrpose.archives.worker import Opening, open_estimator, settings_of
    except ModuleNotFoundError as error:
        raise missing("--engine", error, "hrpose[archives]") from error
    place = absolute(place)
    opened = open_place(place)
    # Here too, so that a mistake is one line, before anything is started.
    estimator = open_estimator(choices, batch_size, 1)
    settings = settings_of(estimator, choices)
    with jobs.locked(out), asked_to_stop() as asked, _Progress.shown() as progress:
        job = jobs.load_job(out)
        if job is None:
            names = _until(opened.names(), asked)
            partition = options.partition or PARTITION
            job = jobs.freeze(out, shown(place), names, partition, settings, progress.listed)
        else:
            jobs.check_same(job, shown(place), options.partition, settings)
        numbers, done = to_do(job, options.retry_failed)
        progress.begin(job, done.pictures)
        state = None
        if numbers and not asked():
            opening = Opening(place, choices, settings, batch_size, options.worker_cpus or 1)
            engine = _engine(opening, options, len(numbers))
            state = run(job, engine, numbers, done, progress.tell, lambda: asked() is not None)
            done = state.done
        number = asked()
    _conclude(job, state, done.failed, estimator.detector.name, progress.seconds)
    if number is not None:
        raise typer.Exit(STOPPED + number)


def _until(names: Iterator[str], asked: Callable[[], int | None]) -> Iterator[str]:
    """The same names; a signal ends it, and then nothing is frozen."""
    for name in names:
        if (number := asked()) is not None:
            raise typer.Exit(STOPPED + number)
        yield name


def _engine(opening: "Opening", options: ArchiveOptions, most: int) -> "Engine":
    cpus = options.worker_cpus or 1
    if options.engine == "ray":
        from hrpose.archives.ray_actors import RayActors

        gpus = options.worker_gpus or 0.0
        return RayActors(opening, options.workers, cpus=cpus, gpus=gpus, address=options.address)
    from hrpose.archives.processes import Processes
    from hrpose.onnx_file import usable_cores

    return Processes(opening, options.workers or max(1, usable_cores() // cpus))


def _conclude(
    job: "Job", state: "State | None", failed: int, detector: str, seconds: float
) -> None:
    """Say what is there now and, where pictures failed in this run, the first that ever did."""
    from hrpose.archives.results import failures

    folder = job.folder / "poses"
    if state is None:
        typer.echo(f"{job.pictures:,} pictures were done before ({failed:,} failed): {folder}")
        return
    here, done = state.here, state.done
    typer.echo(
        f"{done.pictures:,} of {job.pictures:,} pictures ({done.failed:,} failed), "
        f"{done.people:,} people by {detector}: {folder}"
    )
    if here.pictures:
        lost = f", {state.lost} workers lost" if state.lost else ""
        typer.echo(
            f"{here.pictures:,} now, {here.pictures / seconds:.1f} pictures/s, "
            f"{state.workers} workers{lost}"
        )
    if not state.finished:
        typer.echo("The same command goes on from here.")
    if here.failed:
        for reason in failures(job, _MOST_FAILURES_SAID):
            print(f"hrpose: {reason}", file=sys.stderr)
        if done.failed > _MOST_FAILURES_SAID:
            print(f"hrpose: all are in the column 'error' of {folder}", file=sys.stderr)


class _Progress:
    """A bar where somebody watches, else a line now and then."""

    def __init__(self, bar: Progress | None) -> None:
        self._bar = bar
        self._task = None if bar is None else bar.add_task("listing", total=None)
        self._began = self._said = time.monotonic()
        self._before = 0

    @classmethod
    @contextmanager
    def shown(cls) -> Iterator["_Progress"]:
        console = Console(stderr=True)
        if not console.is_terminal:
            yield cls(None)
            return
        columns: tuple[Any, ...] = (
            TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=console, transient=True) as bar:
            yield cls(bar)

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self._began, 1e-9)

    def listed(self, count: int) -> None:
        self._say(f"listing: {count:,} pictures")

    def begin(self, job: "Job", before: int) -> None:
        self._began, self._before = time.monotonic(), before
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, total=job.pictures, completed=before)

    def tell(self, state: "State") -> None:
        speed = state.here.pictures / self.seconds
        lost = f", {state.lost} lost (the last one {state.why_lost})" if state.lost else ""
        workers = f"{state.workers} workers{lost}" if state.workers else f"starting workers{lost}"
        self._say(
            f"{state.done.pictures:,} of {state.job.pictures:,} pictures, "
            f"{state.done.failed:,} failed, {speed:.1f}/s, {workers}",
            state.done.pictures,
        )

    def _say(self, line: str, completed: int = 0) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=line, completed=completed)
        elif time.monotonic() - self._said > _BETWEEN_LINES:
            self._said = time.monotonic()
            print(f"hrpose: {line}", file=sys.stderr, flush=True)
