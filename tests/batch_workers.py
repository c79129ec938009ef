"""Images, workers and an engine for the tests of `hrpose.batch`. Worker processes import it too."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hrpose.batch.job import Job, freeze, read_images, to_table
from hrpose.batch.worker import Done, Event, Lost, Ready
from hrpose.errors import UserError

BATCH = (sys.executable, "-c", "from hrpose.cli.main import main; main()", "batch")


def jpeg(seed: int, wh: tuple[int, int] = (64, 48)) -> bytes:
    """A small image of its own for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(wh, Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


def write_images(
    folder: Path, count: int, wh: tuple[int, int] = (64, 48), broken_every: int = 20
) -> list[str]:
    """So many images in folders of ten; returns the names of the broken ones, one in twenty.

    Of those, some are cut off, some no images, some empty.
    """
    broken = []
    for i in range(count):
        name = f"{i // 10:03d}/{i:05d}.jpg"
        data = jpeg(i, wh)
        if i % broken_every == 7 % broken_every:
            broken.append(name)
            data = (data[: len(data) // 2], b"no image", b"")[len(broken) % 3]
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return broken


def frozen(folder: Path, count: int, partition: int) -> Job:
    """A job over names alone."""
    return freeze(folder, "place", (f"{i:04d}.jpg" for i in range(count)), partition, {"a": 1})


def results(folder: Path) -> list[dict[str, Any]]:
    return list(read_images(folder))


def row(name: str) -> dict[str, Any]:
    return {"file": name, "width": 4, "height": 3, "status": "no-persons", "persons": []}


@dataclass(frozen=True)
class Named:
    """Opens a worker that gives a row for each name.

    It kills its process at names in `deadly`; at names in `hangs` it gives no answer.
    """

    deadly: frozenset[str] = frozenset()
    hangs: frozenset[str] = frozenset()

    def __call__(self) -> Callable[[Sequence[str]], Any]:
        return self.work

    def work(self, names: Sequence[str]) -> Any:
        if self.deadly & set(names):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.hangs & set(names):
            time.sleep(600)
        return to_table([row(name) for name in names])


@dataclass(frozen=True)
class Unwilling:
    """Opens nothing: it refuses, or dies."""

    error: UserError | None

    def __call__(self) -> Any:
        raise self.error or SystemExit(3)


class Scripted:
    """An engine without processes: `dies(names)` decides what becomes of each piece of work."""

    def __init__(self, size: int, dies: Callable[[Sequence[str]], bool]) -> None:
        self.size = size
        self.dies = dies
        self.events: list[Event] = []
        self.alive: set[int] = set()
        self.count = 0
        self.closed = False
        self.given: list[str] = []

    def start(self) -> int:
        self.count += 1
        self.alive.add(self.count)
        assert len(self.alive) <= self.size
        self.events.append(Ready(self.count, "here"))
        return self.count

    def give(self, worker: int, names: Sequence[str]) -> None:
        assert worker in self.alive
        if self.dies(names):
            self.alive.remove(worker)
            self.events.append(Lost(worker, "by the script"))
        else:
            self.given += names
            self.events.append(Done(worker, to_table([row(name) for name in names])))

    def wait(self, seconds: float) -> list[Event]:
        events, self.events = self.events, []
        return events

    def end(self, worker: int) -> None:
        self.alive.remove(worker)

    def close(self) -> None:
        self.closed = True


def failures(folder: Path) -> Iterator[tuple[str, str]]:
    return ((found["file"], found["reason"]) for found in results(folder) if found["reason"])


def descendants(pid: int) -> dict[int, str]:
    """The processes that a process began, and those began, with their command lines (Linux)."""
    parents, lines = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int(
                    (folder / "stat").read_text().rpartition(")")[2].split()[1]
                )
                lines[int(folder.name)] = (
                    (folder / "cmdline").read_text(errors="replace").replace("\0", " ")
                )
            except OSError:
                continue  # it has ended meanwhile
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {child: lines[child] for child in found - {pid} if child in lines}


def begin(command: Sequence[str]) -> "subprocess.Popen[str]":
    """Start a process as the first of a group, as a shell does."""
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_until(
    true: Callable[[], bool], meanwhile: "subprocess.Popen[str] | None" = None, seconds: float = 120
) -> None:
    """Poll, with much patience: machines may be busy. The process `meanwhile` has to live on."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        assert meanwhile is None or meanwhile.poll() is None, meanwhile.communicate()
        time.sleep(0.005)
