"""What the terminal shows and hears: tables, a progress bar, Ctrl-C."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console


def plain_console(width: int | None = None) -> Console:
    """A console that prints every text as it is: a file or a joint may be named `[/x]` or `:x:`,
    which Rich would take for its own marks.
    """
    return Console(width=width, markup=False, emoji=False)


class Show(Protocol):
    """`done` of `total`; `what` where the kind of work changes on the way."""

    def __call__(self, done: int, total: int, what: str | None = None) -> None: ...


@contextmanager
def progress(what: str) -> Iterator[Show]:
    """A bar on the error stream for a person who waits; it goes away when it is done."""
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, total: int, what: str | None = None) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield show


# A shell expects this and the signal's number of a program that a signal ended.
STOPPED = 128


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], int | None]]:
    """The number of the signal, Ctrl-C's or SIGTERM, that came, if one did.

    It is only noted, for an interruption anywhere could leave a file without its end. A second
    Ctrl-C interrupts.
    """
    came: int | None = None

    def note(number: int, _: object) -> None:
        nonlocal came
        came = number
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {kind: signal.signal(kind, note) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: came
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
