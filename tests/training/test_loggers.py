"""Trackers are wired as the recipe says; stand-ins note how those not installed are made."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from hrpose.errors import UserError
from hrpose.training import trainer
from hrpose.training.recipe import Training
from hrpose.yaml_file import checked


class Noted:
    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments


@pytest.fixture
def trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "find_spec", lambda name: name)
    for name in ("WandbLogger", "MLFlowLogger"):
        monkeypatch.setattr(trainer, name, type(name, (Noted,), {}))
    for name in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def test_files_and_tensorboard_are_the_default(tmp_path: Path) -> None:
    found = trainer.open_loggers(Training().loggers, tmp_path)
    assert [type(each) for each in found] == [CSVLogger, TensorBoardLogger]


@pytest.mark.usefixtures("trackers")
def test_trackers_know_the_run_and_its_folder(tmp_path: Path) -> None:
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
def test_their_own_variables_say_where_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "horses")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "horses")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    wandb, mlflow = trainer.open_loggers(["wandb", "mlflow"], tmp_path)
    assert wandb.arguments["project"] == "horses"
    assert mlflow.arguments["experiment_name"] == "horses"
    assert mlflow.arguments["tracking_uri"] == "http://tracker:5000"


def test_a_missing_package_is_said_before_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "find_spec", lambda name: None)
    trainer.check_loggers(["csv", "tensorboard"])
    with pytest.raises(UserError, match=r"wandb needs the package 'wandb'.*hrpose\[wandb\]"):
        trainer.check_loggers(["csv", "wandb"])


def test_a_recipe_names_only_those_that_there_are() -> None:
    part = checked({"loggers": ["csv"]}, ["loggers=[csv, mlflow]"], Training, "the recipe")
    assert part.loggers == ("csv", "mlflow")
    with pytest.raises(UserError, match="loggers"):
        checked({"loggers": ["neptune"]}, (), Training, "the recipe")
