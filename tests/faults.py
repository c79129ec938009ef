"""Faults on purpose: what disks, memory, clocks and systems do to a training, at a known moment.

Each fault is a context manager that lasts as long as it is open, in this process and in those that
it forks, such as the workers of a data loader.
"""

import builtins
import errno
import io
import os
import signal
import sys
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
    """`act` in the middle of this step of a training: of one process, or of each."""
    from hrpose.training.checkpointing import GoOnInEpoch

    def before_backward(_self: Any, trainer: Any, _module: Any, _loss: Any) -> None:
        if trainer.global_step == step and rank in (None, trainer.global_rank):
            act()

    with patch.object(GoOnInEpoch, "on_before_backward", before_backward):
        yield


def signal_at(step: int, name: str, rank: int | None = None) -> Any:
    """SIGTERM, SIGKILL, ... in the middle of a step."""
    return at_step(step, lambda: os.kill(os.getpid(), signal.Signals[name]), rank)


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
    """A data loader's worker dies by SIGKILL when it reads its so manieth image."""
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
def _reading(suffix: str, change: Callable[[bytes], bytes]) -> Iterator[None]:
    """Files of this kind that are opened for reading give what `change` makes of them."""
    opened = io.open

    def fault(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if mode == "rb" and isinstance(file, str | Path) and str(file).endswith(suffix):
            with opened(file, "rb") as whole:
                return io.BytesIO(change(whole.read()))
        return opened(file, mode, *arguments, **options)

    with patch.object(builtins, "open", fault), patch.object(io, "open", fault):
        yield


def read_errors(times: int, suffix: str = ".jpg") -> Any:
    """The first reads fail as a disk across the network does."""
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
    """Each read takes so long."""

    def change(content: bytes) -> bytes:
        time.sleep(seconds)
        return content

    return _reading(suffix, change)


@contextmanager
def disk_of(total: int, folder: str) -> Iterator[None]:
    """A disk with so many bytes, once written, for `folder`: what comes after finds no room."""
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
    """The network takes at most so many people at a time; for more, the memory ends."""
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
    """The wall clock goes forth by so much at every so manieth look, and back at the next."""
    clock, looks = time.time, [0]

    def jumping() -> float:
        looks[0] += 1
        return clock() + (seconds if looks[0] // every % 2 else 0)

    with patch.object(time, "time", jumping):
        yield
