"""Trainings with faults of disks, memory, workers and the clock."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from conftest import ROOT
from hrpose.models.checkpoint import read_torch
from hrpose.synthetic import write_dataset
from hrpose.training.checkpointing import last_checkpoint
from trainings import Ended, Trainings

pytestmark = pytest.mark.slow

FEW = ("training.samples_per_epoch=12", "training.epochs=2", "training.checkpoint_every_steps=1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for seed, part in enumerate(("train", "val")):
        write_dataset(folder / part, 4, seed)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(
    data: Path, trainings: Trainings, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted") / "out"
    assert trainings.run(data, out, *FEW).code == 0
    return out


def weights(out: Path) -> bytes:
    return (out / "synthetic.safetensors").read_bytes()


def assert_one_line(ended: Ended, *words: str) -> None:
    """The training ends with a UserError: one line, and no traceback."""
    assert ended.code == 2, ended.output
    assert "Traceback" not in ended.output
    *_, line = ended.output.rstrip().splitlines()
    assert line.startswith("hrpose: "), ended.output
    for word in words:
        assert word in line


def test_transient_disk_errors_and_clock_jumps_change_nothing(
    data: Path, uninterrupted: Path, trainings: Trainings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = trainings.run(
        data, out, *FEW,
        faults=(
            ("slow_disk", 0.01), ("short_reads", 1), ("read_errors", 1), ("clock_jumps", -86400, 3),
        ),
    )  # fmt: skip
    assert ended.code == 0, ended.output
    assert weights(out) == weights(uninterrupted)


def test_permanent_disk_errors_are_reported(
    data: Path, trainings: Trainings, tmp_path: Path
) -> None:
    # In a worker, whose errors are passed on as tracebacks.
    ended = trainings.run(
        data, tmp_path / "out", *FEW, "training.workers=1", faults=(("read_errors", 1000),)
    )
    assert_one_line(ended, ".jpg: ", os.strerror(5))


def test_a_killed_worker_is_reported_and_the_training_resumes(
    data: Path, uninterrupted: Path, trainings: Trainings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = trainings.run(data, out, *FEW, "training.workers=1", faults=(("worker_killed", 16),))
    assert_one_line(ended, "[worker-killed]", "--resume", "training.workers")
    assert read_torch(out / "checkpoints" / "last.ckpt")["global_step"] > 0
    assert trainings.run(data, out, *FEW, "training.workers=1", resume=True).code == 0
    assert weights(out) == weights(uninterrupted)


@pytest.mark.parametrize(
    ("step", "changes"),
    [(1, ()), (2, ("training.ema_decay=0.9",))],
    ids=["in an epoch", "its last, averaged"],
)
def test_weights_that_are_not_finite_are_never_written(
    step: int, changes: tuple[str, ...], data: Path, trainings: Trainings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = trainings.run(data, out, *FEW, *changes, faults=(("gradients_not_finite", step),))
    assert_one_line(ended, "[weights-not-finite]", f"step {step + 1}", "conv1.weight")
    for path in (out / "checkpoints").glob("*.ckpt"):
        for name, value in read_torch(path)["state_dict"].items():
            assert torch.isfinite(value).all(), (path, name)
    assert read_torch(out / "checkpoints" / "last.ckpt")["global_step"] == step
    assert not (out / "synthetic.safetensors").exists()
    # Without the fault it goes on.
    assert trainings.run(data, out, *FEW, *changes, resume=True).code == 0


def test_a_worker_that_gives_nothing_is_reported(
    data: Path, trainings: Trainings, tmp_path: Path
) -> None:
    faults = (("worker_stalled", 10, 2.0),)
    ended = trainings.run(data, tmp_path / "out", *FEW, "training.workers=1", faults=faults)
    assert_one_line(ended, "[loader-stalled]", "--resume", "training.workers=0")


def test_sigterm_ends_a_training_whose_workers_give_nothing(
    data: Path, trainings: Trainings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    faults = (("worker_stalled", 10, 300.0), ("signal_after_start", 1.0, "SIGTERM", 1.0))
    ended = trainings.run(data, out, *FEW, "training.workers=1", faults=faults)
    assert ended.code == 128 + 15, ended.output
    assert "Traceback" not in ended.output
    assert "stopped by SIGTERM, without the end of the step" in ended.output
    assert last_checkpoint(out, resume=True) is not None


def test_a_kill_in_a_validation_loses_nothing(
    data: Path, trainings: Trainings, tmp_path: Path
) -> None:
    averaged = (*FEW, "training.checkpoint_every_steps=null", "training.ema_decay=0.9")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert trainings.run(data, whole, *averaged).code == 0
    # The second start begins with the validation that the first one missed.
    for start in (1, 2):
        faults = (("killed_in_validation", start),)
        ended = trainings.run(data, killed, *averaged, resume=start > 1, faults=faults)
        assert ended.code == -9, ended.output
        step = read_torch(killed / "checkpoints" / "last.ckpt")["global_step"]
        assert step == 3 * start  # saved before the validation
    assert trainings.run(data, killed, *averaged, resume=True).code == 0
    assert weights(killed) == weights(whole)
    logs = [validated(folder) for folder in (whole, killed)]
    assert logs[0] == logs[1]
    assert len(logs[0]) == 2


def validated(out: Path) -> list[tuple[str, str]]:
    """The step and the AP of each validation, of all starts."""
    found = []
    for log in sorted(out.glob("csv/*/metrics.csv")):
        with log.open() as file:
            found += [(row["step"], row["val/AP"]) for row in csv.DictReader(file) if row["val/AP"]]
    return found


def test_docker_s_shared_memory_is_too_small(data: Path, tmp_path: Path) -> None:
    """64 MB in /dev/shm, as Docker mounts it: the training ends before its first step."""
    mount = "mount -t tmpfs -o size=64m tmpfs /dev/shm"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    recipe = ROOT / "recipes" / "synthetic.yaml"
    sizes = "--set training.batch_size=512 --set input_wh=[384,384] --set training.workers=64"
    train = f"{sys.executable} -m hrpose train {recipe} --data {data} --check {sizes}"
    many = "--set evaluation.batch_size=512"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{mount} && exec {train} {many}"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert_one_line(Ended({0: done.returncode}, done.stderr), "[shared-memory-small]", "67 MB")
    assert all(remedy in done.stderr for remedy in ("--shm-size", "training.workers=0"))


def test_a_batch_that_does_not_fit_is_halved(
    data: Path, trainings: Trainings, tmp_path: Path
) -> None:
    out, parts = tmp_path / "out", tmp_path / "parts"
    ended = trainings.run(data, out, *FEW, faults=(("memory_for", 2),))
    assert ended.code == 0, ended.output
    assert ended.output.count("out of memory; continuing with each batch in 2 parts") == 1
    # The weights are those of a training in two parts.
    assert trainings.run(data, parts, *FEW, "training.micro_batches=2").code == 0
    assert weights(out) == weights(parts)


def test_no_memory_for_one_person_is_reported(
    data: Path, trainings: Trainings, tmp_path: Path
) -> None:
    ended = trainings.run(data, tmp_path / "out", *FEW, faults=(("memory_for", 0),))
    assert_one_line(ended, "[out-of-memory]", "step 0", "4 parts")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1.5 MB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=1500k", "hrpose-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(options, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def assert_can_resume(
    data: Path, disk: Path, ended: Ended, trainings: Trainings, moved: Path
) -> None:
    assert_one_line(ended, "[disk-full]", "--resume")
    last = last_checkpoint(disk, resume=True)
    assert last is not None
    assert last.name == "last.ckpt"
    assert 0 < read_torch(last)["global_step"] < 6
    assert not list(disk.glob("checkpoints/.*"))  # nothing half written


def test_a_full_disk_leaves_the_last_checkpoint(
    data: Path, trainings: Trainings, small_disk: Path, tmp_path: Path
) -> None:
    ended = trainings.run(data, small_disk, *FEW)
    assert_can_resume(data, small_disk, ended, trainings, tmp_path)


def test_a_disk_that_fills_up_at_any_write_leaves_the_last_checkpoint(
    data: Path, uninterrupted: Path, trainings: Trainings, tmp_path: Path
) -> None:
    # Without the right to mount: the bytes of three checkpoints and a half.
    size = 3.5 * (uninterrupted / "checkpoints" / "last.ckpt").stat().st_size
    out = tmp_path / "out"
    ended = trainings.run(data, out, *FEW, faults=(("disk_of", int(size), str(out)),))
    assert_can_resume(data, out, ended, trainings, tmp_path)
    # With free space it ends with the same weights.
    assert trainings.run(data, out, *FEW, resume=True).code == 0
    assert weights(out) == weights(uninterrupted)
