"""Ctrl-C and SIGTERM as questions that a loop may ask, so that what was done is kept."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
