"""Several processes that download one file at once, from a slow server on this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hrpose.errors import UserError
from hrpose.weights import download as downloads
from hrpose.weights.download import download, file_sha256

# Each line of the input is one task: when it begins, and what is downloaded where.
WORKER = """
import sys, time
from pathlib import Path
from hrpose.weights.download import download
print("ready", flush=True)
for line in sys.stdin:
    start, address, target, sha256 = line.split()
    time.sleep(max(0, float(start) - time.time()))
    try:
        download(address, Path(target), sha256)
        print("done", flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""


class Workers:
    """Processes that download when they are told to."""

    def __init__(self, count: int) -> None:
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for _ in range(count)
        ]
        assert [self.answer(n) for n in range(count)] == ["ready"] * count

    def begin(self, number: int, start: float, server: Any, target: Path) -> None:
        stdin = self.processes[number].stdin
        assert stdin is not None
        stdin.write(f"{start} {server.address} {target} {server.sha256}\n")
        stdin.flush()

    def answer(self, number: int) -> str:
        stdout = self.processes[number].stdout
        assert stdout is not None
        return stdout.readline().strip()

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers(3)
    yield workers
    workers.end()


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.suffix != ".lock")


@pytest.mark.slow
def test_two_and_three_processes_at_many_offsets(
    workers: Workers, server: Any, tmp_path: Path
) -> None:
    server.pace = 0.003  # 0.14 seconds for the file
    offsets = [(0.0,), (0.02,), (0.05,), (0.1,), (0.13,), (0.15,), (0.0, 0.0), (0.03, 0.07)]
    for number, others in enumerate(offsets):
        folder = tmp_path / str(number)
        server.requests.clear()
        start = time.time() + 0.05
        for worker, offset in enumerate((0.0, *others)):
            workers.begin(worker, start + offset, server, folder / "w.pth")
        answers = [workers.answer(worker) for worker in range(1 + len(others))]
        assert answers == ["done"] * len(answers), others
        assert file_sha256(folder / "w.pth") == server.sha256, others
        assert left_in(folder) == ["w.pth"], others
        assert server.requests == [None], others


@pytest.mark.slow
def test_another_process_takes_over_where_one_was_killed(
    workers: Workers, server: Any, tmp_path: Path
) -> None:
    server.pace = 0.02
    workers.begin(0, 0, server, tmp_path / "w.pth")
    part, ends = tmp_path / "w.pth.part", time.monotonic() + 30
    while not (part.is_file() and part.stat().st_size) and time.monotonic() < ends:
        time.sleep(0.01)
    workers.begin(1, 0, server, tmp_path / "w.pth")
    workers.begin(2, 0, server, tmp_path / "w.pth")
    time.sleep(0.1)
    os.kill(workers.processes[0].pid, signal.SIGKILL)
    assert [workers.answer(1), workers.answer(2)] == ["done", "done"]
    assert (tmp_path / "w.pth").read_bytes() == server.content
    assert left_in(tmp_path) == ["w.pth"]
    first, second = server.requests
    assert first is None
    assert second.startswith("bytes=")


@pytest.mark.parametrize("cuts", [[], [1_000_000, 0, 0]])
def test_a_disk_without_locks(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuts: list[int]
) -> None:
    monkeypatch.setattr(downloads, "_lock", lambda _target: None)
    server.cuts = list(cuts)
    try:
        download(server.address, tmp_path / "w.pth", server.sha256)
    except UserError:
        assert cuts
    assert left_in(tmp_path) == ([] if cuts else ["w.pth"])
