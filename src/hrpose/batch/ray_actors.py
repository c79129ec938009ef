"""Workers as Ray actors, on this machine or on all of a cluster. Machines may leave it."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from hrpose.batch.engine import Event, Lost, told
from hrpose.batch.worker import Work
from hrpose.errors import UserError, missing


class RayActors:
    """At most `size` actors, without it as many as the cluster has room for at the beginning.

    Each takes `cpus` and `gpus` of the cluster's; `opening` is called in it, and makes what it
    works with. Without an `address`, a cluster of this machine alone is started, unless this
    process is part of one; it ends with `close`. Raises UserError where there is no Ray.
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
        self._began = not ray.is_initialized()
        if self._began:
            _begin(ray, address)
        try:
            self.size = size or _room(ray.cluster_resources(), cpus, gpus)
        except UserError:
            self.close()
            raise
        # What becomes of a lost actor is decided in `run`, as it is for processes.
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
        # Whatever else is there by now.
        come, _ = self._ray.wait(awaited, num_returns=len(awaited), timeout=0)
        return [self._event(answer) for answer in come or first]

    def _event(self, come: Any) -> Event:
        worker = self._awaited.pop(come)
        try:
            answer = self._ray.get(come)
        except self._ray.exceptions.RayError as error:
            self.end(worker)
            return Lost(worker, _why(error))
        return told(worker, answer, self._ready)

    def end(self, worker: int) -> None:
        self._ready.discard(worker)
        self._awaited = {come: who for come, who in self._awaited.items() if who != worker}
        self._ray.kill(self._actors.pop(worker), no_restart=True)

    def close(self) -> None:
        for worker in list(getattr(self, "_actors", ())):
            self.end(worker)
        if self._began:
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


def _begin(ray: Any, address: str | None) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        # Nothing listens for others: no dashboard, and addresses of this machine alone.
        options |= {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    else:
        options["address"] = address
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except Exception as error:  # ConnectionError, RuntimeError, ValueError: all mean this
        first = " ".join(str(error).split())[:300]
        raise UserError(
            f"--engine ray: no cluster at {address or 'this machine'} ({first}); see "
            "`ray status`, and set RAY_AUTH_MODE=token where it asks for tokens"
        ) from error
    finally:
        # Ray takes SIGTERM for itself; what it ends here is the caller's to say.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _room(resources: dict[str, float], cpus: int, gpus: float) -> int:
    """How many actors the cluster has room for."""
    rooms = [resources.get(kind, 0) / each for kind, each in (("CPU", cpus), ("GPU", gpus)) if each]
    size = int(min(rooms))
    if size < 1:
        found = ", ".join(f"{resources.get(kind, 0):g} {kind}s" for kind in ("CPU", "GPU"))
        raise UserError(
            f"--engine ray: expected a cluster with {cpus} CPUs and {gpus:g} GPUs for a worker, "
            f"found {found} in all; lower --worker-cpus or --worker-gpus"
        )
    return size


def _why(error: Exception) -> str:
    """One line of what Ray tells in many."""
    cause = getattr(error, "cause", None)
    if cause is not None:
        return f"by {type(cause).__name__}: {' '.join(str(cause).split())[:200]}"
    return f"by Ray's {type(error).__name__}"
