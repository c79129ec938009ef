"""Where figures of a training are written: files, TensorBoard, and the trackers people use."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch.loggers import (
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)

from hrpose.errors import missing

# Those that need a package which the train extra does not bring.
_TRACKERS = ("wandb", "mlflow")


def check_loggers(names: Sequence[str]) -> None:
    """Raises UserError where a logger's package is missing, before anything is trained."""
    for name in names:
        if name in _TRACKERS and find_spec(name) is None:
            what = f"training.loggers: {name}"
            raise missing(what, ModuleNotFoundError(name=name), f"hrpose[{name}]")


def open_loggers(names: Sequence[str], out: Path) -> list[Logger]:
    """The loggers of a training whose folder is `out`; the run is called as the folder.

    Projects, servers and keys are the trackers' own business: WANDB_PROJECT, WANDB_MODE=offline,
    WANDB_API_KEY, MLFLOW_EXPERIMENT_NAME, MLFLOW_TRACKING_URI. Without a server MLflow's files lie
    in `out/mlruns`. Raises UserError where a package is missing.
    """
    check_loggers(names)
    made: dict[str, Logger] = {}
    for name in names:
        if name == "csv":
            # Each start has its own version, for the logger would empty a folder it finds.
            made[name] = CSVLogger(out, name="csv")
        elif name == "tensorboard":
            made[name] = TensorBoardLogger(out, name="", version="tensorboard")
        elif name == "wandb":
            project = os.environ.get("WANDB_PROJECT", "hrpose")
            made[name] = WandbLogger(name=out.name, save_dir=out, project=project)
        else:
            made[name] = MLFlowLogger(
                experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", "hrpose"),
                run_name=out.name,
                tracking_uri=os.environ.get("MLFLOW_TRACKING_URI"),
                save_dir=str(out / "mlruns"),
            )
    return list(made.values())
