"""What a row of the table is, and how it is timed."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """Ours and its yardstick, called in turn `rounds` times.

    `wall` times the clock, where several threads or processes work; else the CPU time of this
    process, on which other work of the machine weighs less. `unit` divides what is shown.
    """

    what: str
    yardstick: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    wanted: float | None = None
    rounds: int = 7
    wall: bool = False
    per: int = 1
    note: str = ""


@dataclass(frozen=True)
class Fact:
    """A figure without a yardstick beside it."""

    what: str
    value: str
    wanted: str = ""


@dataclass
class Table:
    """The lines of RESULTS.md."""

    rows: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)

    def run(self, row: Row | Fact) -> None:
        if isinstance(row, Fact):
            self.facts.append(f"| {row.what} | {row.value} | {row.wanted} |")
            print(self.facts[-1], flush=True)
            return
        row.ours()
        pairs = [
            (_time(row.theirs, row.wall), _time(row.ours, row.wall)) for _ in range(row.rounds)
        ]
        ratios = sorted(theirs / ours for theirs, ours in pairs)
        theirs, ours = (statistics.median(column) / row.per for column in zip(*pairs, strict=True))
        wanted = "" if row.wanted is None else f"{row.wanted:g}x"
        self.rows.append(
            f"| {row.what} | {row.yardstick} | {theirs:.2f} | {ours:.2f} | "
            f"{statistics.median(ratios):.2f}x ({ratios[0]:.2f} to {ratios[-1]:.2f}) | {wanted} | "
            f"{row.note} |"
        )
        print(self.rows[-1], flush=True)


def _time(work: Callable[[], object], wall: bool) -> float:
    """Milliseconds."""
    clock = time.perf_counter if wall else time.process_time
    start = clock()
    work()
    return (clock() - start) * 1000


@contextmanager
def timed(wall: bool = True) -> Iterator[list[float]]:
    """Seconds of what is inside, as the one entry of the list."""
    clock = time.perf_counter if wall else time.process_time
    seconds: list[float] = []
    start = clock()
    yield seconds
    seconds.append(clock() - start)
