"""Engines: workers as processes of this machine, or as Ray actors, here or on a cluster.

A process that dies loses nothing but its current work; machines of a cluster may leave it.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from hrpose.batch.worker import Event, Lost, Work, event_of
from hrpose.errors import UserError, missing

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


class RayActors:
    """At most `size` actors; without it, as many as the cluster has resources for at the start.

    Each takes `cpus` and `gpus` of the cluster; `opening` is called in it, and makes its worker.
    Without an `address`, a cluster of this machine alone is started, unless this process is part of
    one; it ends with `close`. Raises UserError where there is no Ray, no cluster, or no resources.
    """

    def __init__(
        self,
        opening: Callable[[], Work],
        size: int | None = None,
        *,
        cpus: int = 1,
        gpus: float = 0,
        address: str | None = None,
    ) -> None:
        try:
            ray: Any = import_module("ray")
        except ModuleNotFoundError as error:
            raise missing("--engine ray", error, "hrpose[ray]") from error
        self._ray = ray
        self._started_ray = not ray.is_initialized()
        if self._started_ray:
            _init(ray, address)
        try:
            self.size = size or _capacity(ray.cluster_resources(), cpus, gpus)
        except UserError:
            self.close()
            raise
        # `run` replaces a lost actor, as it does processes.
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": 0, "max_task_retries": 0}
        self._class: Any = ray.remote(**options)(_Actor)
        self._opening = ray.put(opening)
        self._actors: dict[int, Any] = {}
        self._awaited: dict[Any, int] = {}
        self._ready: set[int] = set()
        self._started = 0

    def start(self) -> int:
        self._started += 1
        actor = self._actors[self._started] = self._class.remote()
        self._awaited[actor.open.remote(self._opening)] = self._started
        return self._started

    def give(self, worker: int, names: Sequence[str]) -> None:
        self._awaited[self._actors[worker].work.remote(list(names))] = worker

    def wait(self, seconds: float) -> list[Event]:
        awaited = list(self._awaited)
        if not awaited:
            return []
        first, _ = self._ray.wait(awaited, num_returns=1, timeout=seconds)
        if not first:
            return []
        # All that have answered by now.
        answered, _ = self._ray.wait(awaited, num_returns=len(awaited), timeout=0)
        return [self._event(reference) for reference in answered or first]

    def _event(self, reference: Any) -> Event:
        worker = self._awaited.pop(reference)
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self.end(worker)
            return Lost(worker, _reason(error))
        return event_of(worker, answer, self._ready)

    def end(self, worker: int) -> None:
        self._ready.discard(worker)
        self._awaited = {ref: other for ref, other in self._awaited.items() if other != worker}
        self._ray.kill(self._actors.pop(worker), no_restart=True)

    def close(self) -> None:
        for worker in list(getattr(self, "_actors", ())):
            self.end(worker)
        if self._started_ray:
            self._ray.shutdown()


class _Actor:
    """A worker. Its methods are called one after the other."""

    def open(self, opening: Callable[[], Work]) -> str | UserError:
        try:
            self._work = opening()
        except UserError as error:
            return error
        return f"process {os.getpid()} on {socket.gethostname()}"

    def work(self, names: list[str]) -> Any:
        return self._work(names)


def _init(ray: Any, address: str | None) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        # Not reachable from other machines: no dashboard, and a local address.
        options |= {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    else:
        options["address"] = address
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except Exception as error:  # ConnectionError, RuntimeError or ValueError
        first = " ".join(str(error).split())[:300]
        raise UserError(
            f"--engine ray: no cluster at {address or 'this machine'} ({first}); see "
            "`ray status`, and set RAY_AUTH_MODE=token where it asks for tokens",
            code="cluster-unavailable",
        ) from error
    finally:
        # Ray installs a handler of SIGTERM of its own; the caller's stays in force.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _capacity(resources: dict[str, float], cpus: int, gpus: float) -> int:
    """The number of actors that the cluster has resources for."""
    needs = {"CPU": cpus, "GPU": gpus}
    size = int(min(resources.get(kind, 0) / each for kind, each in needs.items() if each))
    if size < 1:
        found = ", ".join(f"{resources.get(kind, 0):g} {kind}s" for kind in needs)
        raise UserError(
            f"--engine ray: expected a cluster with {cpus} CPUs and {gpus:g} GPUs for a worker, "
            f"found {found} in all; lower --worker-cpus or --worker-gpus",
            code="cluster-unavailable",
        )
    return size


def _reason(error: Exception) -> str:
    """One line for Ray's many."""
    cause = getattr(error, "cause", None)
    if cause is not None:
        return f"by {type(cause).__name__}: {' '.join(str(cause).split())[:200]}"
    return f"by Ray's {type(error).__name__}"
