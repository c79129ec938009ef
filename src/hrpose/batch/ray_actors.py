"""Workers as Ray actors, on this machine or on a cluster, whose machines may leave it."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from hrpose.batch.worker import Event, Lost, Work, event_of
from hrpose.errors import UserError, missing


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
