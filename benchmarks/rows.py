"""The rows of the table, and how they are timed."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """Ours and its baseline, called alternately `rounds` times.

    `wall` measures wall time, for several threads or processes; otherwise the CPU time of this
    process, which other load affects less. Times are divided by `per`.
    """

    what: str
    baseline: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    wanted: float | None = None
    rounds: int = 7
    wall: bool = False
    per: int = 1
    note: str = ""


@dataclass(frozen=True)
class Fact:
    """A measurement without a baseline."""

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
            f"| {row.what} | {row.baseline} | {theirs:.2f} | {ours:.2f} | "
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
    """The seconds of the body, as the only entry of the list."""
    clock = time.perf_counter if wall else time.process_time
    seconds: list[float] = []
    start = clock()
    yield seconds
    seconds.append(clock() - start)
