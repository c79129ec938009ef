"""What runs workers: processes of this machine, or Ray. Both are the same to `run`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hrpose.errors import UserError


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has opened its weights; `where` it runs is for messages."""

    worker: int
    where: str


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """A worker's answer to the names that it was given."""

    worker: int
    table: Any


@dataclass(frozen=True, slots=True)
class Refused:
    """A worker cannot work here, nor would another; the user has to mend something."""

    worker: int
    error: UserError


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker is gone, with the work that it had."""

    worker: int
    why: str


Event = Ready | Done | Refused | Lost


def told(worker: int, answer: Any, ready: set[int]) -> Event:
    """What a worker's answer means: the first one says where it is, and makes it `ready`."""
    if isinstance(answer, UserError):
        return Refused(worker, answer)
    if worker not in ready:
        ready.add(worker)
        return Ready(worker, answer)
    return Done(worker, answer)


class Engine(Protocol):
    """Starts workers, which it numbers, and says what becomes of them."""

    size: int
    """How many workers there should be at most."""

    def start(self) -> int:
        """Begin to start one; `Ready`, `Refused` or `Lost` will tell."""
        ...

    def give(self, worker: int, names: Sequence[str]) -> None:
        """Work for a worker that is ready and has none; `Done` or `Lost` will tell."""
        ...

    def wait(self, seconds: float) -> list[Event]:
        """What has happened; returns as soon as something has, at the latest after `seconds`."""
        ...

    def end(self, worker: int) -> None:
        """Stop a worker at once, whatever it does. Nothing more is heard of it."""
        ...

    def close(self) -> None:
        """Stop all workers at once."""
        ...
