"""Whole trainings through the command line, as a user starts them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT
from hrpose.models import checkpoint
from hrpose.models.checkpoint import read_torch

RECIPE = ROOT / "recipes" / "synthetic.yaml"
# One thread: the promise is two minutes on one core, and more would disturb other tests.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
# Few draws in an epoch and small images: what counts here is that it goes on.
TINY = [
    *("--set", "input_wh=[64, 64]"),
    *("--set", "training.samples_per_epoch=16"),
    *("--set", "training.batch_size=8"),
    *("--set", "training.ema_decay=0.9"),
]


def command(*arguments: object) -> list[str]:
    main = "from hrpose.cli.main import main; main()"
    return [sys.executable, "-c", main, *map(str, arguments)]


def hrpose(*arguments: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*arguments), env=ENVIRONMENT, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    return done


def synthetic(folder: Path, train: int, val: int) -> Path:
    hrpose("data", "synthetic", folder / "train", "--pictures", train)
    hrpose("data", "synthetic", folder / "val", "--pictures", val, "--seed", 1)
    return folder


def epochs_logged(out: Path) -> list[list[int]]:
    """The epochs that were evaluated, for each start of the training."""
    starts = []
    for path in sorted(out.glob("csv/version_*/metrics.csv")):
        with path.open() as file:
            starts.append([int(row["epoch"]) for row in csv.DictReader(file) if row["val/AP"]])
    return starts


@pytest.mark.slow
def test_the_example_learns_synthetic_persons(tmp_path: Path) -> None:
    """Its first epoch alone, with the rate falling within it: the whole is twice as good."""
    data, out = synthetic(tmp_path / "data", 1500, 60), tmp_path / "out"
    hrpose("train", RECIPE, "--data", data, "--out", out, "--set", "training.epochs=1")
    hrpose("data", "synthetic", tmp_path / "unseen", "--pictures", 60, "--seed", 2)
    hrpose(
        *("evaluate", "--weights", out / "synthetic.safetensors", "--out", tmp_path / "scores"),
        *("--annotations", tmp_path / "unseen" / "annotations.json"),
        *("--images", tmp_path / "unseen" / "images"),
    )
    assert json.loads((tmp_path / "scores" / "metrics.json").read_text())["AP"] >= 0.4


@pytest.mark.slow
def test_a_killed_training_goes_on_where_it_was(tmp_path: Path) -> None:
    data, out = synthetic(tmp_path / "data", 8, 4), tmp_path / "out"
    train = ["train", RECIPE, "--data", data, "--out", out, *TINY]
    last = out / "checkpoints" / "last.ckpt"
    # More epochs than it can finish before the signal comes.
    with subprocess.Popen(
        command(*train, "--set", "training.epochs=10000"),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as killed:
        try:
            patience = time.monotonic() + 300
            while not last.exists() and killed.poll() is None and time.monotonic() < patience:
                time.sleep(0.02)
        finally:
            killed.send_signal(signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    before = read_torch(last)

    epochs = before["epoch"] + 3
    hrpose(*train, "--set", f"training.epochs={epochs}", "--resume")

    assert epochs_logged(out)[-1] == list(range(before["epoch"] + 1, epochs))
    # Two batches an epoch, none twice, none left out.
    assert read_torch(last)["global_step"] == 2 * epochs
    _, metadata = checkpoint.load(out / "synthetic.safetensors")
    assert metadata.name == "synthetic"
    assert metadata.input_wh == (64, 64)


@pytest.mark.slow
def test_a_folder_with_a_training_is_not_written_over(tmp_path: Path) -> None:
    out = tmp_path / "out"
    last = out / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.write_bytes(b"kept")
    done = subprocess.run(
        command("train", RECIPE, "--data", tmp_path, "--out", out),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert "holds a training already; add --resume or choose another --out" in done.stderr
    assert last.read_bytes() == b"kept"
