"""What a training does when a disk, the memory, a worker or the clock fails it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hrpose.models.checkpoint import read_torch
from hrpose.synthetic import write_dataset
from hrpose.training.checkpointing import last_checkpoint
from trainings import Ended, Trainings

FEW = ("training.samples_per_epoch=12", "training.epochs=2", "training.checkpoint_every_steps=1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for seed, part in enumerate(("train", "val")):
        write_dataset(folder / part, 4, seed)
    return folder


@pytest.fixture(scope="module")
def undisturbed(data: Path, trainings: Trainings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert trainings.run(data, out, *FEW).code == 0
    return out


def weights(out: Path) -> bytes:
    return (out / "synthetic.safetensors").read_bytes()


def assert_one_line(ended: Ended, *words: str) -> None:
    """It ends as a user's mistake does: the last line says what to do; there is no traceback."""
    assert ended.code == 2, ended.said
    assert "Traceback" not in ended.said
    *_, line = ended.said.rstrip().splitlines()
    assert line.startswith("hrpose: "), ended.said
    for word in words:
        assert word in line


def test_moments_of_a_bad_disk_and_a_jumping_clock_change_nothing(
    data: Path, undisturbed: Path, trainings: Trainings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = trainings.run(
        data, out, *FEW,
        faults=(
            ("slow_disk", 0.01), ("short_reads", 1), ("read_errors", 1), ("clock_jumps", -86400, 3),
        ),
    )  # fmt: skip
    assert ended.code == 0, ended.said
    assert weights(out) == weights(undisturbed)


def test_a_disk_that_stays_bad_is_named(data: Path, trainings: Trainings, tmp_path: Path) -> None:
    # In a worker, whose errors arrive as tracebacks.
    ended = trainings.run(
        data, tmp_path / "out", *FEW, "training.workers=1", faults=(("read_errors", 1000),)
    )
    assert_one_line(ended, ".jpg: ", os.strerror(5))


def test_a_killed_worker_is_named_and_the_training_goes_on_from_there(
    data: Path, undisturbed: Path, trainings: Trainings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = trainings.run(data, out, *FEW, "training.workers=1", faults=(("worker_killed", 16),))
    assert_one_line(ended, "DataLoader worker", "go on with --resume", "fewer training.workers")
    assert read_torch(out / "checkpoints" / "last.ckpt")["global_step"] > 0
    assert trainings.run(data, out, *FEW, "training.workers=1", resume=True).code == 0
    assert weights(out) == weights(undisturbed)


def test_a_batch_that_does_not_fit_is_halved(
    data: Path, trainings: Trainings, tmp_path: Path
) -> None:
    out, parts = tmp_path / "out", tmp_path / "parts"
    ended = trainings.run(data, out, *FEW, faults=(("memory_for", 2),))
    assert ended.code == 0, ended.said
    assert ended.said.count("out of memory; going on with each batch in 2 parts") == 1
    # From then on it is the training that has them in two parts.
    assert trainings.run(data, parts, *FEW, "training.micro_batches=2").code == 0
    assert weights(out) == weights(parts)


def test_no_memory_for_one_is_said(data: Path, trainings: Trainings, tmp_path: Path) -> None:
    ended = trainings.run(data, tmp_path / "out", *FEW, faults=(("memory_for", 0),))
    assert_one_line(ended, "step 0: out of memory with 4 people in 4 parts")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real one, of 1.5 MB, where this user may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=1500k", "hrpose-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(options, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def assert_goes_on_elsewhere(
    data: Path, disk: Path, ended: Ended, trainings: Trainings, moved: Path
) -> None:
    assert_one_line(ended, "No space left on device", "make room", "--resume")
    last = last_checkpoint(disk, resume=True)
    assert last is not None
    assert last.name == "last.ckpt"
    assert 0 < read_torch(last)["global_step"] < 6
    assert not list(disk.glob("checkpoints/.*"))  # nothing half written


def test_a_full_disk_stops_with_the_last_checkpoint_whole(
    data: Path, trainings: Trainings, small_disk: Path, tmp_path: Path
) -> None:
    ended = trainings.run(data, small_disk, *FEW)
    assert_goes_on_elsewhere(data, small_disk, ended, trainings, tmp_path)


def test_a_disk_that_fills_up_at_any_write_stops_with_the_last_checkpoint_whole(
    data: Path, undisturbed: Path, trainings: Trainings, tmp_path: Path
) -> None:
    # Without the right to mount: as many bytes as three checkpoints, and a part of the next.
    room = 3.5 * (undisturbed / "checkpoints" / "last.ckpt").stat().st_size
    out = tmp_path / "out"
    ended = trainings.run(data, out, *FEW, faults=(("disk_of", int(room), str(out)),))
    assert_goes_on_elsewhere(data, out, ended, trainings, tmp_path)
    # With room again it ends as if nothing had been.
    assert trainings.run(data, out, *FEW, resume=True).code == 0
    assert weights(out) == weights(undisturbed)
