"""Fault tolerance: a killed training ends with the weights of an uninterrupted one, bit for bit."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from conftest import ROOT
from hrpose.data.dataset import Sample
from hrpose.errors import UserError
from hrpose.models.checkpoint import read_torch
from hrpose.synthetic import write_dataset
from hrpose.training import checkpointing
from hrpose.training import train as train_module
from hrpose.training.checkpointing import EpochWeights, last_checkpoint
from hrpose.training.recipe import load_recipe
from refusals import refused

pytestmark = pytest.mark.slow

# Trains by the arguments, killed in each of the given steps, and then to the end; prints the status
# of each kill. It forks, because importing PyTorch would take most of the time.
PROGRAM = """
import os, signal, sys
from pathlib import Path
from hrpose.training import checkpointing, train as module
from hrpose.training.recipe import load_recipe

how, kills, recipe, data, out, *overrides = sys.argv[1:]
# The tests may run where a shell has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def train(dies_at=None):
    def die(self, trainer, module, loss):
        if trainer.global_step == dies_at:
            for name in how.split():
                os.kill(os.getpid(), signal.Signals[name])

    checkpointing.ResumeInEpoch.on_before_backward = die
    module.train(load_recipe(Path(recipe), overrides), Path(data), Path(out), resume=True)

for step in kills.split():
    child = os.fork()
    if child == 0:
        try:
            train(int(step))
        except SystemExit as left:
            os._exit(left.code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
train()
"""
EPOCHS, STEPS = 3, 5
SMALL = [
    *("input_wh=[32, 32]", f"training.epochs={EPOCHS}", "training.batch_size=2"),
    *(f"training.samples_per_epoch={2 * STEPS}", "training.checkpoint_every_steps=2"),
    *("training.ema_decay=0.9", "schedule.warmup_steps=3", "training.keep_every_epoch=true"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for seed, part in enumerate(("train", "val")):
        write_dataset(folder / part, 3, seed)
    return folder


def train(
    data: Path, out: Path, kills: list[int], *overrides: str, how: str = "SIGKILL"
) -> tuple[list[int], str]:
    """The exit statuses of the killed trainings, and the output."""
    recipe = ROOT / "recipes" / "synthetic.yaml"
    arguments = [how, " ".join(map(str, kills)), recipe, data, out, *SMALL, *overrides]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    statuses = [int(line) for line in done.stdout.splitlines() if line.lstrip("-").isdigit()]
    return statuses, done.stderr


def assert_same(one: object, other: object, where: str = "") -> None:
    """Every tensor and number in two checkpoints."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where  # type: ignore[arg-type]
    elif isinstance(one, dict):
        assert isinstance(other, dict), where
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert isinstance(other, list | tuple), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}/{index}")
    else:
        assert one == other, where


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    train(data, out, [])
    return out


def assert_same_end(out: Path, uninterrupted: Path) -> None:
    mine, theirs = (
        read_torch(folder / "checkpoints" / "last.ckpt") for folder in (out, uninterrupted)
    )
    for part in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers"):
        assert_same(mine[part], theirs[part], part)
    assert mine["global_step"] == theirs["global_step"] == EPOCHS * STEPS
    name = "synthetic.safetensors"
    assert (out / name).read_bytes() == (uninterrupted / name).read_bytes()
    epochs = sorted((uninterrupted / "epochs").iterdir())
    assert [path.name for path in epochs] == [f"epoch-00{i + 1}.safetensors" for i in range(EPOCHS)]
    for path in epochs:
        assert (out / "epochs" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_three_kills_in_the_middle_of_epochs_change_nothing(
    data: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    # In an epoch after a checkpoint; long after one; with a worker that prefetches.
    statuses, _ = train(data, tmp_path, [3, 7, 13], "training.workers=1")
    assert statuses == [-signal.SIGKILL] * 3
    assert_same_end(tmp_path, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "name", "status"), [("SIGTERM", "SIGTERM", 143), ("SIGINT", "Ctrl-C", 130)]
)
def test_a_signal_saves_before_leaving(
    data: Path, uninterrupted: Path, tmp_path: Path, how: str, name: str, status: int
) -> None:
    # Nothing is saved on the way but by the signal, in the middle of the first epoch.
    statuses, output = train(data, tmp_path, [2], "training.checkpoint_every_steps=null", how=how)
    assert statuses == [status]
    assert f"stopped by {name} and saved after step 3; --resume continues there" in output
    assert_same_end(tmp_path, uninterrupted)


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait(data: Path, tmp_path: Path) -> None:
    statuses, output = train(
        data, tmp_path, [2], "training.checkpoint_every_steps=null", how="SIGINT SIGINT"
    )
    assert statuses == [130]
    assert "saved" not in output


@pytest.mark.slow
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(
    uninterrupted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(uninterrupted / "checkpoints", folder)
    newest, before = folder / "last.ckpt", folder / "last-1.ckpt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1  # in the middle of the weights
    newest.write_bytes(content)
    assert last_checkpoint(tmp_path, resume=True) == before
    assert "last.ckpt: damaged" in caplog.text
    assert (folder / "last.ckpt.damaged").read_bytes() == content
    # The last one left is not renamed, but reported.
    before.write_bytes(content[:1000])
    with refused("weights-damaged", "last-1.ckpt"):
        last_checkpoint(tmp_path, resume=True)
    assert before.exists()


@pytest.mark.slow
def test_a_kill_while_renaming_leaves_the_newest(uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(uninterrupted / "checkpoints", folder)
    (folder / "last.ckpt").rename(folder / "next.ckpt")
    assert last_checkpoint(tmp_path, resume=True) == folder / "next.ckpt"
    with refused("folder-not-empty", "--resume"):
        last_checkpoint(tmp_path, resume=False)


def test_an_empty_folder_has_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert last_checkpoint(tmp_path, resume=False) is None
    assert not caplog.records
    assert last_checkpoint(tmp_path, resume=True) is None
    assert str(tmp_path) in caplog.text


@pytest.mark.slow
def test_the_number_of_checkpoints_is_that_of_the_recipe(uninterrupted: Path) -> None:
    folder = uninterrupted / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.ckpt",
        "last-1.ckpt",
        "last.ckpt",
    ]
    # After and before the validation of the last epoch.
    steps = [read_torch(folder / name)["global_step"] for name in ("last.ckpt", "last-1.ckpt")]
    assert steps == [EPOCHS * STEPS, EPOCHS * STEPS]


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(
    data: Path, tmp_path: Path
) -> None:
    overrides = [*SMALL, "optimizer.lr=1e30", "schedule.warmup_steps=0", "training.precision=32"]
    recipe = load_recipe(ROOT / "recipes" / "synthetic.yaml", overrides)
    with pytest.raises(UserError, match=r"step \d+: .*not-finite\.npz") as error:
        train_module.train(recipe, data, tmp_path)
    assert error.value.code == "loss-not-finite"
    step = int(str(error.value).split(":")[0].removeprefix("step "))
    assert 0 < step < STEPS  # the first loss is an ordinary one
    with np.load(tmp_path / "not-finite.npz", allow_pickle=False) as batch:
        # `crop_to_source` is only there where the device warps.
        assert batch.keys() == set(Sample._fields) - {"crop_to_source"}
        assert batch["image"].shape == (2, 32, 32, 3)


def test_the_weights_of_every_epoch_need_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = EpochWeights(tmp_path / "out" / "epochs")
    network = torch.nn.Linear(1000, 999)  # 4 MB
    free = SimpleNamespace(free=9_000_000)
    monkeypatch.setattr(checkpointing.shutil, "disk_usage", lambda path: free)
    assert "2 files of 4 MB, 8 MB in all" in weights.check_space(network, 2)
    with refused("disk-full", "3 files of 4 MB", "keep_every_epoch"):
        weights.check_space(network, 3)
    # Those of epochs that were trained before are there.
    weights.folder.mkdir(parents=True)
    weights.path(1).touch()
    weights.check_space(network, 3)


@pytest.mark.parametrize("samples", [6, 20])
def test_epochs_of_other_lengths_cannot_resume(
    data: Path, uninterrupted: Path, tmp_path: Path, samples: int
) -> None:
    out = tmp_path / "out"
    shutil.copytree(uninterrupted, out)
    overrides = [*SMALL, f"training.samples_per_epoch={samples}"]
    recipe = load_recipe(ROOT / "recipes" / "synthetic.yaml", overrides)
    with refused("resume-mismatch", "training.samples_per_epoch"):
        train_module.train(recipe, data, out, resume=True)


@pytest.mark.slow
def test_twenty_kills_change_nothing(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    kills = sorted(rng.choices(range(EPOCHS * STEPS), k=20))
    statuses, _ = train(data, tmp_path, kills)
    assert statuses == [-signal.SIGKILL] * 20
    assert_same_end(tmp_path, uninterrupted)
