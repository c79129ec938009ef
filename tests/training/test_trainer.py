"""The trainer: the best checkpoint, loggers, and known failures in one line."""

import errno
import os
import re
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor, nn

from hrpose.data.dataset import Draw, TrainingSampler
from hrpose.errors import UserError
from hrpose.io import locked
from hrpose.models.checkpoint import read_torch
from hrpose.training import trainer
from hrpose.training.checkpointing import last_checkpoint
from hrpose.training.data_module import TrainingLoader
from hrpose.training.recipe import Training
from hrpose.training.trainer import fit, known_failure
from hrpose.yaml_file import checked
from refusals import refused


class Numbers(torch.utils.data.Dataset[Tensor]):
    def __getitem__(self, draw: Draw) -> Tensor:
        return torch.ones(1)

    def __len__(self) -> int:
        return 4


class Scripted(L.LightningModule):
    """Its validation logs the given scores, epoch by epoch."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.scores = scores
        self.line = nn.Linear(1, 1)

    def training_step(self, batch: Tensor) -> Tensor:
        return self.line(batch).square().mean()

    def validation_step(self, batch: Tensor) -> None:
        self.log("val/score", self.scores[self.current_epoch], batch_size=len(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Data(L.LightningDataModule):
    def train_dataloader(self) -> TrainingLoader:
        sampler = TrainingSampler(np.ones(4), seed=0)
        return TrainingLoader(Numbers(), batch_size=2, sampler=sampler)

    val_dataloader = train_dataloader


@pytest.mark.parametrize(("scores", "epoch"), [([0.5, 0.4, 0.3], 0), ([0.5, 0.4, 0.6], 2)])
def test_the_best_stays_the_best_in_a_folder_that_moved(
    tmp_path: Path, scores: list[float], epoch: int
) -> None:
    def train(out: Path, epochs: int) -> Path:
        training = Training(epochs=epochs, batch_size=2, precision="32", ema_decay=None)
        last = last_checkpoint(out, resume=True)
        return fit(Scripted(scores), Data(), training, out, monitor="val/score", resume_from=last)

    train(tmp_path / "old", 1)
    (tmp_path / "old").rename(tmp_path / "new")
    for epochs in (2, 3):
        best = train(tmp_path / "new", epochs)
    assert best == tmp_path / "new" / "checkpoints" / "best.ckpt"
    assert read_torch(best)["epoch"] == epoch


def test_two_trainings_into_one_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "LOCK_SECONDS", 0)
    training = Training(epochs=1, batch_size=2, precision="32", ema_decay=None)
    with locked(tmp_path), refused("folder-locked", str(tmp_path)):
        fit(Scripted([0.5]), Data(), training, tmp_path, monitor="val/score")
    fit(Scripted([0.5]), Data(), training, tmp_path, monitor="val/score")
    assert not (tmp_path / ".lock").exists()


def test_what_computes_and_its_speed_are_reported_once(tmp_path: Path) -> None:
    lines: list[str] = []
    for precision, epochs in (("32", 3), ("bf16", 1)):
        training = Training(epochs=epochs, batch_size=2, precision=precision, ema_decay=None)
        module, out = Scripted([0.5] * epochs), tmp_path / precision
        fit(module, Data(), training, out, monitor="val/score", report=lines.append)
    assert len(lines) == 2
    for line, precision in zip(lines, ("fp32", "bf16"), strict=True):
        assert re.fullmatch(rf"PyTorch on \w+(:0)?, {precision}, eager: \d+\.\d samples/s", line)


class Recorded:
    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments


@pytest.fixture
def trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "find_spec", lambda name: name)
    for name in ("WandbLogger", "MLFlowLogger"):
        monkeypatch.setattr(trainer, name, type(name, (Recorded,), {}))
    for name in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def test_files_and_tensorboard_are_the_default(tmp_path: Path) -> None:
    found = trainer.open_loggers(Training().loggers, tmp_path)
    assert [type(each) for each in found] == [CSVLogger, TensorBoardLogger]


@pytest.mark.usefixtures("trackers")
def test_trackers_have_the_name_and_folder_of_the_run(tmp_path: Path) -> None:
    wandb, mlflow = trainer.open_loggers(["wandb", "mlflow"], tmp_path / "horse")
    assert wandb.arguments == {
        "name": "horse", "save_dir": tmp_path / "horse", "project": "hrpose"
    }  # fmt: skip
    assert mlflow.arguments == {
        "experiment_name": "hrpose",
        "run_name": "horse",
        "tracking_uri": None,
        "save_dir": str(tmp_path / "horse" / "mlruns"),
    }


@pytest.mark.usefixtures("trackers")
def test_trackers_are_set_by_their_own_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "horses")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "horses")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    wandb, mlflow = trainer.open_loggers(["wandb", "mlflow"], tmp_path)
    assert wandb.arguments["project"] == "horses"
    assert mlflow.arguments["experiment_name"] == "horses"
    assert mlflow.arguments["tracking_uri"] == "http://tracker:5000"


def test_a_missing_package_is_refused_before_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "find_spec", lambda name: None)
    trainer.check_loggers(["csv", "tensorboard"])
    with refused("package-missing", "hrpose[wandb]"):
        trainer.check_loggers(["csv", "wandb"])


def test_a_recipe_has_known_loggers_only() -> None:
    part = checked({"loggers": ["csv"]}, ["loggers=[csv, mlflow]"], Training, "the recipe")
    assert part.loggers == ("csv", "mlflow")
    with refused("recipe-invalid", "loggers"):
        checked({"loggers": ["neptune"]}, (), Training, "the recipe")


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
OUT = Path("runs/w32")
FREE_SPACE = (
    "runs/w32: No space left on device; the last checkpoint is complete: free some space, and "
    "continue with --resume"
)


def caused_by(cause: Exception) -> UserError:
    error = UserError("runs/w32/checkpoints/next.ckpt: cannot be written", code="write-failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (FULL, "disk-full", FREE_SPACE),
        (caused_by(FULL), "disk-full", FREE_SPACE),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. It is possible"),
            "worker-killed",
            "DataLoader worker (pid 7) is killed by signal: Killed, as systems do when out of "
            "memory; continue with --resume, and with fewer training.workers if it happens again",
        ),
        (
            RuntimeError(
                "Caught ImageError in DataLoader worker process 0.\nOriginal Traceback (most "
                "recent call last):\n  File ...\nhrpose.image.ImageError: a.jpg: cut off; copy "
                "it again\n"
            ),
            "sample-unreadable",  # PyTorch keeps only the message of a worker's error
            "a.jpg: cut off; copy it again",
        ),
        (
            RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [::1]:7"),
            "process-lost",
            "another process of this training has ended; the reason is in its output",
        ),
    ],
)
def test_a_known_failure_is_one_line(error: Exception, code: str, line: str) -> None:
    failure = known_failure(error, OUT)
    assert failure is not None
    assert (failure.code, str(failure)) == (code, line)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a mistake of ours"),
        OSError(errno.EACCES, "Permission denied"),
        UserError("a line of its own", code="json-invalid"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    ],
)
def test_other_failures_are_not_replaced(error: Exception) -> None:
    assert known_failure(error, OUT) is None
