"""The Lightning trainer of both trainings: callbacks, loggers, precision, and known failures."""

import errno
import logging
import os
import re
import shutil
import signal
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import lightning as L
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import (
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import distributed

from hrpose.errors import UserError, missing
from hrpose.io import locked
from hrpose.training.base_module import lightning_precision, without_denormals
from hrpose.training.checkpointing import (
    AtomicCheckpointIO,
    LastCheckpoints,
    ResumeInEpoch,
    StopAtNonFiniteLoss,
)
from hrpose.training.data_module import LOADER_TIMEOUT_SECONDS, SHARED_MEMORY
from hrpose.training.distributed import SINGLE, Processes, SyncBatchNorm, SyncStatistics
from hrpose.training.progress import History, ShowProgress
from hrpose.training.recipe import AnyTraining

_log = logging.getLogger("hrpose")

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_PROCESS_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")


def known_failure(error: Exception, out: Path) -> UserError | None:
    """The cause and the remedy of a failure, in one line; None where it is not a known one.

    `out` is the folder of the training.
    """
    message = str(error)
    disk = next((e for e in (error, error.__cause__) if isinstance(e, OSError)), None)
    if disk is not None and disk.errno in _DISK_FULL:
        return UserError(
            f"{out}: {disk.strerror}; the last checkpoint is complete: free some space, and "
            "continue with --resume",
            code="disk-full",
        )
    if "DataLoader worker" in message and "Bus error" in message:
        return UserError(
            f"a data loader's worker ran out of shared memory{_shared_memory_left()}; start the "
            "container with a larger --shm-size or with --ipc host, or set training.workers=0, and "
            "continue with --resume",
            code="shared-memory-small",
        )
    if re.search(r"DataLoader worker .*(killed by signal|exited unexpectedly)", message):
        return UserError(
            f"{message.splitlines()[0].partition('. ')[0]}, as systems do when out of memory; "
            "continue with --resume, and with fewer training.workers if it happens again",
            code="worker-killed",
        )
    if re.search(r"DataLoader timed out after", message):
        return UserError(
            f"the data loader's workers gave nothing for {LOADER_TIMEOUT_SECONDS} seconds"
            f"{_shared_memory_left()}; continue with --resume, and with training.workers=0 if it "
            "happens again",
            code="loader-stalled",
        )
    worker_error = re.search(r"(?s)^Caught .*\nhrpose\.[\w.]+Error: (.+)", message)
    if worker_error is not None:
        # PyTorch passes on a worker's traceback alone, whose last line has the message.
        return UserError(worker_error[1].strip(), code="sample-unreadable")
    lost = isinstance(error, RuntimeError) and any(words in message for words in _PROCESS_LOST)
    if lost or isinstance(error, distributed.DistBackendError | distributed.DistNetworkError):
        return UserError(
            "another process of this training has ended; the reason is in its output",
            code="process-lost",
        )
    return None


def _shared_memory_left() -> str:
    if not SHARED_MEMORY.is_dir():
        return ""
    free = shutil.disk_usage(SHARED_MEMORY).free
    return f" ({SHARED_MEMORY}: {free // 1_000_000:,} MB are free)"


# Loggers whose package is not part of the extra `train`.
_TRACKERS = ("wandb", "mlflow")


def check_loggers(names: Sequence[str]) -> None:
    """Raises UserError where the package of a logger is missing."""
    for name in names:
        if name in _TRACKERS and find_spec(name) is None:
            what = f"training.loggers: {name}"
            raise missing(what, ModuleNotFoundError(name=name), f"hrpose[{name}]")


def open_loggers(names: Sequence[str], out: Path) -> list[Logger]:
    """The loggers of a training whose folder is `out`; the run has the name of the folder.

    Projects, servers and keys are set by the trackers' own variables: WANDB_PROJECT, WANDB_MODE,
    WANDB_API_KEY, MLFLOW_EXPERIMENT_NAME, MLFLOW_TRACKING_URI. Without a server MLflow writes to
    `out/mlruns`. Raises UserError where a package is missing.
    """
    check_loggers(names)
    loggers: dict[str, Logger] = {}
    for name in names:
        if name == "csv":
            # Each start has its own version, because the logger empties an existing folder.
            loggers[name] = CSVLogger(out, name="csv")
        elif name == "tensorboard":
            loggers[name] = TensorBoardLogger(out, name="", version="tensorboard")
        elif name == "wandb":
            project = os.environ.get("WANDB_PROJECT", "hrpose")
            loggers[name] = WandbLogger(name=out.name, save_dir=out, project=project)
        else:
            loggers[name] = MLFlowLogger(
                experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", "hrpose"),
                run_name=out.name,
                tracking_uri=os.environ.get("MLFLOW_TRACKING_URI"),
                save_dir=str(out / "mlruns"),
            )
    return list(loggers.values())


# How long the workers of a training that was killed may still hold its lock.
LOCK_SECONDS = 10


def fit(
    module: L.LightningModule,
    datamodule: L.LightningDataModule,
    training: AnyTraining,
    out: Path,
    *,
    monitor: str,
    mode: Literal["max", "min"] = "max",
    every_epochs: int = 1,
    resume_from: Path | None = None,
    processes: Processes = SINGLE,
    sync_batchnorm: bool = True,
    new_validation: bool = False,
    each_epoch: Callable[[int, Path], None] | None = None,
    report: Callable[[str], None] = _log.info,
    quiet: bool = False,
) -> Path:
    """Train, validate every `every_epochs`, and return the checkpoint with the best `monitor`.

    With `sync_batchnorm` several `processes` normalize over the full batch, as one does. Where a
    training is resumed with a `new_validation`, the best metric so far does not count. The progress
    is shown unless `quiet`; `report` is called with the engine, the precision and the speed after
    the first epoch, `each_epoch` as in `LastCheckpoints`. `out/checkpoints` has the last
    checkpoints and the best, `out` the logs, and what `hrpose.training.progress` writes.
    SIGTERM and Ctrl-C end the training after the step is saved, in SystemExit(143) and (130).
    Raises UserError for failures of `known_failure`.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):  # no tips about products
        logging.getLogger(name).setLevel(logging.WARNING)
    folder = out / "checkpoints"
    best = BestCheckpoint(
        folder,
        filename="best",
        monitor=monitor,
        mode=mode,
        enable_version_counter=False,
        save_on_train_epoch_end=False,  # but after the validation, wherever it takes place
    )
    best.starts_anew = new_validation
    last = LastCheckpoints(
        folder, training.keep_checkpoints, training.checkpoint_every_steps, each_epoch
    )
    speed = Speed(training, report if processes.first else lambda _: None)
    if training.compile_mode is not None and processes.first:
        report("compiling takes minutes before the first step; training.compile=false does without")
    callbacks: list[Callback] = [ResumeInEpoch(), StopAtNonFiniteLoss(out), speed, best]
    if training.early_stopping is not None:
        stopping = Patience(
            monitor, mode=mode, patience=training.early_stopping, check_on_train_epoch_end=False
        )
        stopping.starts_anew = new_validation
        callbacks.append(stopping)
    if processes.first:
        callbacks.append(History(out, best))
        if not quiet:
            callbacks.append(ShowProgress(best, training.batch_size))
    # The last checkpoint has the state of the other callbacks, so it is written after them.
    callbacks.append(last)
    if training.ema_decay is not None:
        callbacks.append(EMAWeightAveraging(decay=training.ema_decay))
    callbacks.append(SyncStatistics())  # of the averaged weights, if any
    plugins: list[Any] = [AtomicCheckpointIO()]
    if processes.count == 1:
        # A single process, whatever a job scheduler has set in the environment.
        plugins.append(LightningEnvironment())
    elif sync_batchnorm:
        plugins.append(SyncBatchNorm())
    trainer = L.Trainer(
        default_root_dir=out,
        devices=processes.local,
        num_nodes=processes.nodes,
        # Buffers would be broadcast in validation too, where a process may have one batch more.
        strategy="auto" if processes.count == 1 else DDPStrategy(broadcast_buffers=False),
        max_epochs=training.epochs,
        precision=lightning_precision(training.precision),
        callbacks=callbacks,
        plugins=plugins,
        logger=open_loggers(training.loggers, out),
        check_val_every_n_epoch=every_epochs,
        num_sanity_val_steps=0,
        log_every_n_steps=20,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )
    alone = locked(out, LOCK_SECONDS) if processes.first else nullcontext()
    with without_denormals(), warnings.catch_warnings(), alone:
        # The recipe sets the number of workers.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")  # when resuming
        # Small data sets are logged once in each epoch.
        warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
        # ResumeInEpoch resumes within an epoch.
        warnings.filterwarnings("ignore", message=".*ended before the epoch ended.*")
        # Only newer versions of PyTorch have the other name.
        warnings.filterwarnings("ignore", message=".*`broadcast_buffers` is deprecated.*")
        # All processes have the same metrics of the validation.
        warnings.filterwarnings("ignore", message=".*It is recommended to use `self.log.*")
        # Lightning's own use of PyTorch.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        try:
            trainer.fit(module, datamodule=datamodule, ckpt_path=resume_from)
        except SIGTERMException as stop:
            # Lightning would exit with 0, as after a complete training.
            raise SystemExit(128 + (last.stop_signal or signal.SIGTERM)) from stop
        except SystemExit as stop:
            # Lightning exits with 1 after a second Ctrl-C.
            raise SystemExit(128 + signal.SIGINT if trainer.interrupted else stop.code) from stop
        except Exception as error:
            if (reason := known_failure(error, out)) is not None:
                raise reason from error
            raise
        finally:
            last.stop_listening()
    return Path(best.best_model_path) if best.best_model_path else folder / "last.ckpt"


class BestCheckpoint(ModelCheckpoint):
    """Lightning's own loses the best score where the folder of the training has been moved."""

    starts_anew = False

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As Lightning's, with all paths in this folder; nothing where it `starts_anew`."""
        if self.starts_anew:
            return

        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        super().load_state_dict(
            {
                **state_dict,
                "dirpath": self.dirpath,
                **{key: here(state_dict[key]) for key in paths},
                "best_k_models": {here(p): v for p, v in state_dict["best_k_models"].items()},
            }
        )


class Patience(EarlyStopping):
    """Lightning's own takes its patience from the checkpoint, not from the recipe."""

    starts_anew = False

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As Lightning's, without the patience; nothing where it `starts_anew`."""
        if not self.starts_anew:
            super().load_state_dict({**state_dict, "patience": self.patience})


class Speed(Callback):
    """Reports what computes, and the samples of each second of training, after the first epoch.

    Its first step does not count: it compiles, and waits for workers.
    """

    def __init__(self, training: AnyTraining, report: Callable[[str], None]) -> None:
        self._training, self._report = training, report
        self._done = False
        self._steps, self._start, self._end = -1, 0.0, 0.0

    def on_train_batch_end(self, *_: Any) -> None:
        self._steps, self._end = self._steps + 1, perf_counter()
        self._start = self._start or self._end

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._done or self._steps < 1:
            return
        self._done = True
        speed = self._steps * self._training.batch_size / (self._end - self._start)
        precision = {"32-true": "fp32", "bf16-mixed": "bf16"}.get(trainer.precision, "fp16")
        compiled = "eager" if self._training.compile_mode is None else "compiled"
        engine = f"PyTorch on {pl_module.device}, {precision}, {compiled}"
        self._report(f"{engine}: {speed:.1f} samples/s")
