"""What prints the tables, and what says how far a work is."""

from collections.abc import Iterator
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
