"""Workers as processes: they die, hang and refuse, and the first process is killed itself."""

import os
import signal
import sys
from pathlib import Path

import pytest

import hrpose
from batch_workers import (
    BATCH,
    Named,
    Unwilling,
    begin,
    descendants,
    failures,
    frozen,
    results,
    wait_until,
    write_images,
)
from hrpose.batch.engines import Processes
from hrpose.batch.run import run, to_do
from hrpose.batch.worker import Choices, Opening
from hrpose.errors import UserError
from refusals import refused
from tiny_weights import write_tiny_weights

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@pytest.mark.slow
def test_an_image_that_kills_its_worker_is_a_row_with_a_reason(tmp_path: Path) -> None:
    job = frozen(tmp_path, 3, 1)
    run(job, Processes(Named(deadly=frozenset({"0001.jpg"})), 1), *to_do(job))
    assert [row["file"] for row in results(tmp_path)] == [f"{i:04d}.jpg" for i in range(3)]
    ((name, reason),) = failures(tmp_path)
    assert name == "0001.jpg"
    assert "lost 2 times, the last one killed by SIGKILL" in reason


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced(tmp_path: Path) -> None:
    job = frozen(tmp_path, 3, 1)
    engine = Processes(Named(hangs=frozenset({"0001.jpg"})), 1)
    state = run(job, engine, *to_do(job), timeout=(6.0, 0.0))
    assert state.finished
    assert state.lost >= 2  # and a busy machine may be late for others
    ((name, reason),) = failures(tmp_path)
    assert name == "0001.jpg"
    assert "without an answer" in reason


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "code"),
    [(UserError("none.onnx", code="weights-unknown"), "weights-unknown"), (None, "workers-lost")],
)
def test_workers_that_cannot_start_end_the_job(
    tmp_path: Path, error: UserError | None, code: str
) -> None:
    job = frozen(tmp_path, 2, 2)
    with refused(code, "code 3" if error is None else "none.onnx"):
        run(job, Processes(Unwilling(error), 1), *to_do(job))


@pytest.mark.slow
@linux
def test_killed_processes_leave_the_same_table(tmp_path: Path) -> None:
    """SIGKILL and Ctrl-C for the first process, SIGKILL twice for its worker."""
    broken = write_images(tmp_path / "images", 120, (640, 480))
    weights = write_tiny_weights(tmp_path / "tiny.onnx")
    out = tmp_path / "out"
    command = [
        *BATCH, str(tmp_path / "images"), "--workers", "1",
        "--partition", "2", "--weights", str(weights), "--detector", "none", "--out", str(out),
    ]  # fmt: skip

    def done() -> int:
        return len(list((out / "poses").glob("part-*.parquet")))

    def workers(first: int) -> list[int]:
        return [pid for pid, line in descendants(first).items() if "spawn_main" in line]

    for number, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130)):
        before = done()
        first = begin(command)
        wait_until(lambda before=before: done() >= before + 3, first)  # type: ignore[misc]
        (worker,) = workers(first.pid)
        if number == signal.SIGINT:  # as a terminal does: to the workers too
            os.killpg(first.pid, number)
        else:
            first.send_signal(number)
        stdout, stderr = first.communicate(timeout=120)
        assert first.returncode == code, stderr
        if number != signal.SIGKILL:
            assert "run the same command again" in stdout
        wait_until(lambda worker=worker: not Path(f"/proc/{worker}").exists())  # type: ignore[misc]
        assert before < done() < 60

    first = begin(command)
    for _ in range(2):
        before = done()
        # What a killed worker had sent may be written before the next worker starts.
        wait_until(lambda before=before: done() > before, first)  # type: ignore[misc]
        wait_until(lambda: bool(workers(first.pid)), first)
        (worker,) = workers(first.pid)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda worker=worker: worker not in workers(first.pid))  # type: ignore[misc]
    stdout, stderr = first.communicate(timeout=300)
    assert first.returncode == 1, stderr  # for the broken images
    assert "120 of 120 images (6 failed)" in stdout
    assert "2 workers lost" in stdout

    choices = Choices(str(weights), "full-image", None, None, False, False, 0.3)
    settings = choices.settings(choices.open(hrpose.load, 16, 1))
    work = Opening(str(tmp_path / "images"), choices, hrpose.load, settings)()
    rows = results(out)
    names = [row["file"] for row in rows]
    assert names == sorted(names)
    assert rows == work(names).to_pylist()
    assert [row["file"] for row in rows if row["reason"]] == broken
    assert all(row["reason"] or len(row["persons"]) == 1 for row in rows)
    assert len(set(names)) == len(names) == 120
