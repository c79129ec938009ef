"""Workers as processes of this machine. A process that dies loses nothing but its current work."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from hrpose.batch.worker import Event, Lost, Work, event_of
from hrpose.errors import UserError

# Seconds to wait for a process that was killed.
_JOIN_TIMEOUT = 10.0


class Processes:
    """At most `size` processes; `opening` is called in each, and makes its worker.

    They end with this process, however it ends: each reads from a pipe that only this one holds
    open.
    """

    def __init__(self, opening: Callable[[], Work], size: int) -> None:
        self.size = size
        self._opening = opening
        self._workers: dict[int, tuple[SpawnProcess, Connection]] = {}
        self._ready: set[int] = set()
        self._started = 0

    def start(self) -> int:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._opening), daemon=True)
        with _no_signals():
            process.start()
        theirs.close()
        self._started += 1
        self._workers[self._started] = process, ours
        return self._started

    def pid(self, worker: int) -> int | None:
        return self._workers[worker][0].pid

    def give(self, worker: int, names: Sequence[str]) -> None:
        with suppress(OSError):  # if it has died, `wait` reports it
            self._workers[worker][1].send(list(names))

    def wait(self, seconds: float) -> list[Event]:
        workers = {pipe: worker for worker, (_, pipe) in self._workers.items()}
        if not workers:
            return []
        return [self._event(workers[pipe], pipe) for pipe in wait(list(workers), seconds)]  # type: ignore[index, arg-type]

    def _event(self, worker: int, pipe: Connection) -> Event:
        try:
            answer = pipe.recv()
        except (EOFError, OSError):
            process, _ = self._workers[worker]
            process.join(_JOIN_TIMEOUT)
            code = process.exitcode
            self.end(worker)
            return Lost(worker, _ending(code))
        return event_of(worker, answer, self._ready)

    def end(self, worker: int) -> None:
        process, pipe = self._workers.pop(worker)
        self._ready.discard(worker)
        process.kill()
        process.join(_JOIN_TIMEOUT)
        pipe.close()

    def close(self) -> None:
        for worker in list(self._workers):
            self.end(worker)


def _serve(pipe: Connection, opening: Callable[[], Work]) -> None:
    """The loop of a worker: until the pipe ends, which it does when the first process is gone."""
    try:
        try:
            work = opening()
        except UserError as error:
            pipe.send(error)
            return
        pipe.send(f"process {os.getpid()}")
        while True:
            pipe.send(work(pipe.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


@contextmanager
def _no_signals() -> Iterator[None]:
    """Processes started in the body ignore Ctrl-C, which a terminal sends to all: only the first
    process ends them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"ended with code {code}"
