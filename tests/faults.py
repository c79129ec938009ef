"""Injected faults of disks, memory, clocks and processes, at a known point of a training.

Each fault is a context manager, for this process and those that it forks, such as the workers of a
data loader.
"""

import builtins
import errno
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.utils.data import get_worker_info

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@contextmanager
def at_step(step: int, act: Callable[[], None], rank: int | None = None) -> Iterator[None]:
    """Call `act` in the middle of a step of a training: in one process, or in each."""
    from hrpose.training.checkpointing import ResumeInEpoch

    def before_backward(_self: Any, trainer: Any, _module: Any, _loss: Any) -> None:
        if trainer.global_step == step and rank in (None, trainer.global_rank):
            act()

    with patch.object(ResumeInEpoch, "on_before_backward", before_backward):
        yield


def signal_at(step: int, name: str, rank: int | None = None) -> Any:
    """SIGTERM, SIGKILL, ... in the middle of a step."""
    return at_step(step, lambda: os.kill(os.getpid(), signal.Signals[name]), rank)


@contextmanager
def gradients_not_finite(step: int) -> Iterator[None]:
    """The gradient of one weight is NaN in this step, though its loss is finite."""
    from hrpose.training.checkpointing import ResumeInEpoch

    def after_backward(_self: Any, trainer: Any, module: Any) -> None:
        if trainer.global_step == step:
            next(module.network.parameters()).grad[0] = torch.nan

    with patch.object(ResumeInEpoch, "on_after_backward", after_backward):
        yield


@contextmanager
def written_by_the_first_alone(folder: str) -> Iterator[None]:
    """Of several processes all but the first fail where they would write below `folder`."""
    if os.environ.get("RANK", "0") == "0":
        yield
        return

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event in ("os.mkdir", "os.rename", "os.remove") or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES
        )
        if active[0] and writes and str(arguments[0]).startswith(folder):
            raise AssertionError(f"{event} {arguments[0]} by process {os.environ['RANK']}")

    active = [True]
    sys.addaudithook(watch)
    yield
    active[0] = False


@contextmanager
def worker_killed(reads: int) -> Iterator[None]:
    """A data loader's worker is killed when it reads its n-th image."""
    from hrpose.data.dataset import PoseDataset

    read, left = PoseDataset.__getitem__, [reads]

    def getitem(self: Any, draw: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, draw)

    with patch.object(PoseDataset, "__getitem__", getitem):
        yield


@contextmanager
def worker_stalled(reads: int, timeout: float) -> Iterator[None]:
    """A data loader's worker gives nothing from its n-th image on; `timeout` seconds are waited."""
    from hrpose.data.dataset import PoseDataset
    from hrpose.training import data_module

    read, left = PoseDataset.__getitem__, [reads]

    def getitem(self: Any, draw: Any) -> Any:
        left[0] -= 1
        if left[0] <= 0 and get_worker_info() is not None:
            time.sleep(600)
        return read(self, draw)

    with (
        patch.object(PoseDataset, "__getitem__", getitem),
        patch.object(data_module, "LOADER_TIMEOUT_SECONDS", timeout),
    ):
        yield


@contextmanager
def signal_after_start(seconds: float, name: str, stop_seconds: float) -> Iterator[None]:
    """A signal some time after the first step began; a stop may then take `stop_seconds`."""
    from hrpose.training import checkpointing

    def act() -> None:
        threading.Timer(seconds, os.kill, (os.getpid(), signal.Signals[name])).start()

    with patch.object(checkpointing, "STOP_SECONDS", stop_seconds), at_step(0, act):
        yield


@contextmanager
def killed_in_validation(number: int) -> Iterator[None]:
    """SIGKILL in the middle of the n-th validation of this start."""
    from hrpose.training.module import PoseModule

    validate, left = PoseModule.validation_step, [number]

    def step(self: Any, batch: Any, index: int) -> None:
        left[0] -= index == 0
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        validate(self, batch, index)

    with patch.object(PoseModule, "validation_step", step):
        yield


@contextmanager
def _reading(suffix: str, change: Callable[[bytes], bytes]) -> Iterator[None]:
    """Files of this suffix are read with content changed by `change`."""
    opened = io.open

    def fault(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if mode == "rb" and isinstance(file, str | Path) and str(file).endswith(suffix):
            with opened(file, "rb") as opened_file:
                return io.BytesIO(change(opened_file.read()))
        return opened(file, mode, *arguments, **options)

    with patch.object(builtins, "open", fault), patch.object(io, "open", fault):
        yield


def read_errors(times: int, suffix: str = ".jpg") -> Any:
    """The first reads fail, as on a network disk."""
    left = [times]

    def change(content: bytes) -> bytes:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return content

    return _reading(suffix, change)


def short_reads(times: int, suffix: str = ".jpg") -> Any:
    """The first reads give half of the file."""
    left = [times]

    def change(content: bytes) -> bytes:
        left[0] -= 1
        return content[: len(content) // 2] if left[0] >= 0 else content

    return _reading(suffix, change)


def slow_disk(seconds: float, suffix: str = ".jpg") -> Any:
    """Each read takes this long."""

    def change(content: bytes) -> bytes:
        time.sleep(seconds)
        return content

    return _reading(suffix, change)


@contextmanager
def disk_of(total: int, folder: str) -> Iterator[None]:
    """A disk for `folder` that is full after this number of bytes is written."""
    opened, fdopen, left = io.open, os.fdopen, [total]

    class Filling(io.BufferedWriter):
        def write(self, content: Any) -> int:
            left[0] -= len(content)
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(content)

    def fault(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if mode in ("wb", "ab") and str(file).startswith(folder):
            return Filling(io.FileIO(file, mode[0]))
        return opened(file, mode, *arguments, **options)

    def fault_fdopen(handle: int, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if mode == "wb" and os.readlink(f"/proc/self/fd/{handle}").startswith(folder):
            return Filling(io.FileIO(handle, "w"))
        return fdopen(handle, mode, *arguments, **options)

    with (
        patch.object(builtins, "open", fault),
        patch.object(io, "open", fault),
        patch.object(os, "fdopen", fault_fdopen),
    ):
        yield


@contextmanager
def memory_for(persons: int) -> Iterator[None]:
    """Out of memory where the network gets more than this number of persons at a time."""
    from hrpose.training.module import PoseModule

    forward = PoseModule.forward

    def bounded(self: Any, images: torch.Tensor) -> torch.Tensor:
        if self.training and len(images) > persons:
            raise torch.OutOfMemoryError("out of memory, on purpose")
        return forward(self, images)

    with patch.object(PoseModule, "forward", bounded):
        yield


@contextmanager
def clock_jumps(seconds: float, every: int) -> Iterator[None]:
    """The wall clock jumps by this much at every n-th read, and back at the next."""
    clock, looks = time.time, [0]

    def jumping() -> float:
        looks[0] += 1
        return clock() + (seconds if looks[0] // every % 2 else 0)

    with patch.object(time, "time", jumping):
        yield
