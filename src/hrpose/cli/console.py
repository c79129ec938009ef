"""Messages, tables, progress bars and signals of the commands."""

import codecs
import io
import logging
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import typer

from hrpose.errors import UserError
from hrpose.io import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

# The exit codes of all commands: all done; done but for some inputs; wrong usage, or nothing done;
# and, plus the number of a signal, stopped by it.
DONE, PARTLY_DONE, NOT_DONE, STOPPED = 0, 1, 2, 128


def finish(done: int, failed: int, signal: int | None = None) -> None:
    """End the command: `done` and `failed` count its inputs, `signal` is that which stopped it."""
    if signal is not None:
        raise typer.Exit(STOPPED + signal)
    if failed:
        raise typer.Exit(PARTLY_DONE if done else NOT_DONE)


def given(context: typer.Context, name: str) -> bool:
    """Whether the user gave this parameter, on the command line or by an environment variable."""
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT", "PROMPT")


def chosen(option: str, words: str, known: Collection[str]) -> frozenset[str]:
    """The words, between commas, of an option's value. Raises UserError for unknown ones."""
    found = frozenset(word.strip() for word in words.split(",") if word.strip())
    if not found <= set(known):
        raise UserError(
            f"{option}: expected some of {', '.join(known)} with commas between, found '{words}'",
            code="option-invalid",
        )
    return found


def pairs(option: str, given: Sequence[str] | None) -> dict[str, str]:
    """The names before and after the = of an option's values. Raises UserError for others."""
    found = {}
    for text in given or ():
        old, equals, new = text.rpartition("=")
        if not equals or not old or not new:
            raise UserError(
                f"{option} {text}: expected two names with = between them", code="option-invalid"
            )
        found[old] = new
    return found


def plain_console(width: int | None = None) -> "Console":
    """A console without Rich's markup: the name of a file or keypoint may be `[/x]` or `:x:`."""
    from rich.console import Console

    return Console(width=width, markup=False, emoji=False)


def conflict(message: str) -> UserError:
    """The error of options that do not go together, or have no effect."""
    return UserError(message, code="option-conflict")


def write_any_name() -> None:
    """Let names that are not UTF-8 be printed in any message, spelled as in results."""

    def spelled(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        text = error.object[error.start : error.end]
        return printable(text).encode("ascii", "backslashreplace").decode(), error.end

    codecs.register_error("hrpose-names", spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="hrpose-names")


def report(error: UserError) -> None:
    """Print the one line of an error, with its code."""
    warn(f"{error} [{error.code}]")


def warn(message: str) -> None:
    """Print a warning of one line."""
    print(f"hrpose: {printable(message)}", file=sys.stderr)


def say(message: str) -> None:
    """Print one line of results, in which names of files may be any bytes."""
    typer.echo(printable(message))


def counted(number: int, noun: str) -> str:
    """1 image, 2,000 images."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def persons_in(persons: int, images: int) -> str:
    """9 persons in 1 image."""
    return f"{counted(persons, 'person')} in {counted(images, 'image')}"


class Show(Protocol):
    """Shows that `done` of `total` (None: unknown) are done; `what` replaces the description."""

    def __call__(self, done: int, total: int | None, what: str | None = None) -> None: ...


@contextmanager
def progress(what: str = "", unit: str = "", lines_every: float = float("inf")) -> Iterator[Show]:
    """A bar on the error stream, where that is a terminal; it disappears at the end.

    With the `unit` "bytes", sizes are shown in MB; with another, such as "frames", the speed too.
    Without a terminal, a line is printed every `lines_every` seconds instead.
    """
    what = printable(what)
    if not sys.stderr.isatty():
        yield _lines(what, lines_every)
        return
    with _bar(unit) as bar:
        task = bar.add_task(what, total=None, visible=False)

        def show(done: int, total: int | None, what: str | None = None) -> None:
            bar.update(task, description=what, completed=done, total=total, visible=True)

        yield show


def _lines(what: str, every: float) -> Show:
    began = time.monotonic()

    def show(done: int, total: int | None, what: str | None = what) -> None:
        nonlocal began
        if time.monotonic() - began > every:
            began = time.monotonic()
            count = f"{done:,}" if total is None else f"{done:,} of {total:,}"
            print(f"hrpose: {what or 'done'}: {count}", file=sys.stderr, flush=True)

    return show


def _bar(unit: str) -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.speed or 0:.1f} {unit}/s")

    counts: tuple[ProgressColumn, ...] = (MofNCompleteColumn(),)
    if unit == "bytes":
        counts = DownloadColumn(), TransferSpeedColumn()
    elif unit:
        counts = MofNCompleteColumn(), Speed()
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *counts,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


@contextmanager
def notes(logger: str) -> Iterator[None]:
    """Print the warnings of a logger as they come, and its notes at the end, each once.

    A note is a record of level INFO with the arguments (name, text): "3 images: TEXT".
    """
    names: dict[str, list[str]] = {}

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                warn(record.getMessage())
            elif isinstance(record.args, tuple) and len(record.args) == 2:
                name, text = map(str, record.args)
                names.setdefault(text, []).append(name)

    log, handler = logging.getLogger(logger), Notes()
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
        for text, found in names.items():
            warn(f"{found[0] if len(found) == 1 else counted(len(found), 'image')}: {text}")


@contextmanager
def stop_signal() -> Iterator[Callable[[], int | None]]:
    """A function that returns the number of the signal received, SIGINT or SIGTERM, or None.

    The signal is only noted, so that files are finished. A second Ctrl-C interrupts at once.
    """
    received: int | None = None

    def note(number: int, _: object) -> None:
        nonlocal received
        received = number
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {kind: signal.signal(kind, note) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: received
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
