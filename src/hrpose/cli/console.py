"""What commands say: messages, tables, progress, errors, the JSON summary; signals, exit codes."""

import codecs
import io
import json
import logging
import math
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import typer

from hrpose._version import __version__
from hrpose.errors import UserError, missing
from hrpose.io import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Result = TypeVar("Result")

# The exit codes of all commands: all done; done but for some inputs; wrong usage, or nothing done;
# and, plus the number of a signal, stopped by it.
DONE, PARTLY_DONE, NOT_DONE, STOPPED = 0, 1, 2, 128

# The keys that the JSON summary of every command has.
COMMON_KEYS = {
    "command": "the command, such as `data check`",
    "version": "the version of hrpose",
    "exit_code": "the exit code",
    "seconds": "how long the command ran",
    "warnings": "a list of texts",
    "errors": "a list of objects with `code` and `message`; see [error codes](errors.md)",
}


@dataclass
class _Run:
    """What one run of a command has said so far, and how it is to be said."""

    command: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    quiet: bool = False
    as_json: bool = False
    verbose: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    errors: list[UserError] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def document(self, code: int) -> str:
        """The JSON summary."""
        errors = [{"code": each.code, "message": str(each)} for each in self.errors]
        found = {
            "command": self.command,
            "version": __version__,
            "exit_code": code,
            "seconds": round(time.monotonic() - self.began, 3),
            **self.facts,
            "warnings": self.warnings,
            "errors": errors,
        }
        return json.dumps(_plain(found), indent=2, allow_nan=False)


_current = _Run()


def _plain(value: Any) -> Any:
    """What JSON has: paths as text, numbers that are not finite as null."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {printable(str(key)): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    if isinstance(value, str | Path):
        return printable(str(value))
    if hasattr(value, "tolist"):  # NumPy
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def speaking(
    command: str,
    keys: Mapping[str, str],
    quiet: bool,
    as_json: bool,
    verbose: bool,
    arguments: Mapping[str, Any],
) -> Iterator[None]:
    """One run of a command, with its arguments; its JSON summary has `keys`.

    With `as_json`, the summary is all that the standard output gets, also where the command ends by
    a UserError or a signal; messages go to the error stream. `quiet` leaves errors alone, and
    `verbose` adds log messages, times and tracebacks.
    """
    global _current
    before, _current = _current, _Run(command, keys, quiet, as_json, verbose)
    run, stdout, code = _current, sys.stdout, DONE
    with ExitStack() as stack:
        if quiet:
            stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        elif as_json:
            stack.enter_context(redirect_stdout(sys.stderr))
        stack.enter_context(_logs(verbose))
        if verbose:
            note(f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
            known = (f"{k}={v}" for k, v in arguments.items() if k != "context" and v is not None)
            note(f"{command}: {', '.join(known)}")
        try:
            try:
                yield
            except ModuleNotFoundError as error:
                raise missing("this", error, "hrpose[train]") from error
        except UserError as error:
            run.errors.append(error)
            code = NOT_DONE
            if verbose:
                traceback.print_exc()
            raise
        except typer.Exit as stop:
            code = stop.exit_code
            raise
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else DONE
            raise
        except KeyboardInterrupt:
            code = STOPPED + signal.SIGINT
            raise
        except BaseException:  # a fault of hrpose, which has a traceback and no summary
            run.as_json = False
            raise
        finally:
            if verbose:
                note(f"{time.monotonic() - run.began:.1f} s, exit code {code}")
            _current = before
            # Of several processes of a training, the first one reports.
            if run.as_json and os.environ.get("RANK", "0") == "0":
                print(run.document(code), file=stdout, flush=True)


@contextmanager
def _logs(verbose: bool) -> Iterator[None]:
    """Warnings of hrpose are printed as those of the commands; with `verbose`, all logs too."""

    class Warnings(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warn(record.getMessage())

    own, everything = logging.getLogger("hrpose"), logging.getLogger()
    handlers: list[tuple[logging.Logger, logging.Handler, int]]
    handlers = [(own, Warnings(logging.WARNING), own.level)]
    if verbose:
        other = logging.StreamHandler()
        other.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        other.addFilter(lambda r: not (r.name.startswith("hrpose") and r.levelno > logging.INFO))
        handlers.append((everything, other, everything.level))
        everything.setLevel(logging.INFO)
    for logger, handler, _ in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, handler, level in handlers:
            logger.removeHandler(handler)
            logger.setLevel(level)


def conclude(**facts: Any) -> None:
    """Facts for the JSON summary, by the keys that the command declares."""
    unknown = facts.keys() - _current.keys.keys()
    if unknown and _current.command:
        raise KeyError(f"{_current.command}: {', '.join(unknown)}: undeclared keys of the summary")
    _current.facts |= facts


def is_verbose() -> bool:
    """Whether the command was given --verbose."""
    return _current.verbose


def is_quiet() -> bool:
    """Whether the command was given --quiet."""
    return _current.quiet


def finish(done: int, failed: int, signal: int | None = None) -> None:
    """End the command: `done` and `failed` count its inputs, `signal` is that which stopped it."""
    if signal is not None:
        raise typer.Exit(STOPPED + signal)
    if failed:
        raise typer.Exit(PARTLY_DONE if done else NOT_DONE)


def plain_console(width: int | None = None) -> "Console":
    """A console without Rich's markup: the name of a file or keypoint may be `[/x]` or `:x:`."""
    from rich.console import Console

    return Console(width=width, markup=False, emoji=False)


def table(rows: "list[tuple[Any, ...]]", *columns: str) -> None:
    """Print rows as aligned columns, numbers at the right; nothing where there are none."""
    from rich.cells import cell_len

    texts = [[printable(str(each)) for each in row] for row in [columns, *rows]]
    widths = [max(map(cell_len, column)) for column in zip(*texts, strict=True)]
    numbers = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]
    for row in texts if rows else ():
        spaces = [width - cell_len(text) for width, text in zip(widths, row, strict=True)]
        cells = (
            " " * space + text if number else text + " " * space
            for text, space, number in zip(row, spaces, numbers, strict=True)
        )
        typer.echo("  ".join(cells).rstrip())


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
    _current.errors.append(error)
    print(f"hrpose: {printable(f'{error} [{error.code}]')}", file=sys.stderr)


def warn(message: str) -> None:
    """Print a warning of one line."""
    _current.warnings.append(message)
    note(message)


def note(message: str) -> None:
    """Print a line about the work, beside the results."""
    if not _current.quiet:
        print(f"hrpose: {printable(message)}", file=sys.stderr, flush=True)


def say(*lines: str) -> None:
    """Print lines of results, in which names of files may be any bytes."""
    for line in lines:
        typer.echo(printable(line))


def counted(number: int, noun: str, many: str | None = None) -> str:
    """1 image, 2,000 images; `many` is the plural where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else many or f'{noun}s'}"


def persons_in(persons: int, images: int) -> str:
    """9 persons in 1 image."""
    return f"{counted(persons, 'person')} in {counted(images, 'image')}"


class Show(Protocol):
    """Shows that `done` of `total` (None: unknown) are done; `what` is the current one."""

    def __call__(self, done: int, total: int | None, what: str | None = None) -> None: ...


# Seconds between lines of progress where there is no terminal.
_BETWEEN_LINES = 10.0
_LONGEST_NAME = 32


@contextmanager
def progress(unit: str = "", what: str = "") -> Iterator[Show]:
    """The count, speed and time left of `unit`s, and the current one, on the error stream.

    On a terminal, a bar that disappears at the end; elsewhere, a line each ten seconds. Sizes in
    the unit "bytes" are shown in MB.
    """
    if _current.quiet:
        yield lambda done, total, what=None: None
    elif sys.stderr.isatty():
        with _bar(unit) as bar:
            task = bar.add_task(_short(what), total=None, visible=False)

            def show(done: int, total: int | None, what: str | None = None) -> None:
                name = None if what is None else _short(what)
                bar.update(task, description=name, completed=done, total=total, visible=True)

            yield show
    else:
        yield _Lines(unit, what)


def waiting(what: str, work: Callable[[], Result]) -> Result:
    """What `work` returns; on a terminal, a sign that it goes on."""
    from rich.console import Console

    if _current.quiet or not sys.stderr.isatty():
        return work()
    with Console(stderr=True).status(what):
        return work()


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= _LONGEST_NAME else f"...{name[3 - _LONGEST_NAME :]}"


class _Lines:
    """Progress as lines: "images: 120 of 900, 14.2/s, 0:00:55 left, photo.jpg"."""

    def __init__(self, unit: str, what: str) -> None:
        self._unit, self._what = unit, what
        self._last = self._began = time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int, total: int | None, what: str | None = None) -> None:
        self._what = self._what if what is None else what
        now = time.monotonic()
        if self._first is None or done < self._first:
            self._first, self._began = done, now
        if now - self._last < _BETWEEN_LINES:
            return
        self._last = now
        speed = (done - self._first) / max(now - self._began, 1e-9)
        scale, unit = (1e6, " MB") if self._unit == "bytes" else (1, "")
        parts = [f"{done / scale:,.0f}{unit}"]
        if total is not None:
            parts[0] += f" of {total / scale:,.0f}{unit}"
        if speed:
            parts.append(f"{speed / scale:.1f}{unit}/s")
            if total is not None:
                parts.append(f"{timedelta(seconds=round((total - done) / speed))} left")
        named = [self._what] if self._what else []
        note(f"{self._unit or 'done'}: {', '.join(parts + named)}")


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
            return Text(f"{task.speed:.1f} {unit}/s" if task.speed else f"- {unit}/s")

    counts: tuple[ProgressColumn, ...] = (MofNCompleteColumn(), Speed())
    if unit == "bytes":
        counts = DownloadColumn(), TransferSpeedColumn()
    return Progress(
        BarColumn(bar_width=20),
        *counts,
        TimeRemainingColumn(compact=True),
        TextColumn("{task.description}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )


@contextmanager
def notes(logger: str) -> Iterator[None]:
    """Print the notes of a logger at the end, each once.

    A note is a record of level INFO with the arguments (name, text): "3 images: TEXT".
    """
    names: dict[str, list[str]] = {}

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            note = record.levelno == logging.INFO and isinstance(record.args, tuple)
            if note and len(record.args or ()) == 2:
                name, text = map(str, record.args or ())
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
