"""What stops a training from outside, in one line each: no traceback says it better."""

import errno
import logging
import os
import re
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import (
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, distributed, nn
from torch.utils.checkpoint import checkpoint

from hrpose.errors import UserError, missing
from hrpose.training.checkpointing import GoOnInEpoch, LastCheckpoints, StopAtNotFinite, WholeFiles
from hrpose.training.distributed import ALONE, Processes, SameStatistics, SyncEverywhere
from hrpose.training.recipe import AnyTraining

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")


def explained(error: Exception, out: Path) -> UserError | None:
    """What happened and what to do, if it is known; `out` is the folder of the training."""
    message = str(error)
    disk = next((e for e in (error, error.__cause__) if isinstance(e, OSError)), None)
    if disk is not None and disk.errno in _NO_ROOM:
        return UserError(
            f"{out}: {disk.strerror}; what was written before is whole: make room, and go on with "
            "--resume"
        )
    if re.search(r"DataLoader worker .*(killed by signal|exited unexpectedly)", message):
        return UserError(
            f"{message.splitlines()[0].partition('. ')[0]}, as systems do where memory runs out; "
            "go on with --resume, and with fewer training.workers if it happens again"
        )
    if isinstance(error, UserError) and message.startswith("Caught "):
        # PyTorch hands on a worker's error as its traceback, whose last line is the message.
        return UserError(message.rstrip().splitlines()[-1].partition("Error: ")[2])
    lost = isinstance(error, RuntimeError) and any(words in message for words in _LOST)
    if lost or isinstance(error, distributed.DistBackendError | distributed.DistNetworkError):
        return UserError("another process of this training has ended; what it said is the reason")
    return None


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


class MicroBatches(L.LightningModule):
    """Takes each batch in `micro_batches` parts, and doubles them where the memory ends.

    The gradient is that of the whole batch, for the loss is made of all heatmaps together. Each
    part is normalized by its own statistics, unless its BatchNorms are frozen: as on so many
    devices without SyncBN. Every part is computed twice, for nothing of it is kept between the
    forward and the backward pass (Chen et al. 2016, "Training Deep Nets with Sublinear Memory
    Cost"): a third more work.
    """

    micro_batches: int = 1

    def in_parts(self, images: Tensor) -> Tensor:
        """`forward` of images (n, ...), part by part."""
        if self.micro_batches == 1:
            whole: Tensor = self(images)
            return whole
        parts = images.chunk(self.micro_batches)
        made = [checkpoint(self, p, use_reentrant=False, context_fn=self._twice) for p in parts]
        return torch.cat(made)

    def _twice(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_stay(self)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Again with twice the parts where the memory ended, which is before weights change."""
        while True:
            try:
                return super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            except torch.OutOfMemoryError as error:
                self._halve(self.trainer.datamodule.batch_size, error)  # type: ignore[attr-defined]
            # Only here the failed attempt's tensors are gone.
            torch.cuda.empty_cache()

    def _halve(self, persons: int, error: torch.OutOfMemoryError) -> None:
        # The other processes would wait in the middle of the step.
        if self.trainer.world_size > 1 or self.micro_batches >= persons:
            more = min(2 * self.micro_batches, persons)
            raise UserError(
                f"step {self.global_step}: out of memory with {persons} people in "
                f"{self.micro_batches} parts; set training.micro_batches={more}, or a smaller "
                "training.batch_size"
            ) from error
        self.micro_batches = min(2 * self.micro_batches, persons)
        logging.getLogger("hrpose").warning(
            "step %d: out of memory; going on with each batch in %d parts "
            "(training.micro_batches), which have BatchNorm statistics of their own",
            self.global_step,
            self.micro_batches,
        )


@contextmanager
def _statistics_stay(module: nn.Module) -> Iterator[None]:
    """Let the running averages of all BatchNorms be, which the first pass has moved already."""
    norms = [norm for norm in module.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm)]
    before = [(norm, norm.momentum) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in before:
            norm.momentum = momentum


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
    processes: Processes = ALONE,
    sync_batchnorm: bool = True,
) -> Path:
    """Train, validate every `every_epochs`, and return the checkpoint with the best `monitor`.

    `sync_batchnorm` has several `processes` normalize over the whole batch, as one does.
    `out/checkpoints` has the last checkpoints and the best, `out` the logs. After SIGTERM or Ctrl-C
    the step is finished and saved; they end in SystemExit(143) and (130). Raises UserError for what
    `failures` knows.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):  # no tips about products
        logging.getLogger(name).setLevel(logging.WARNING)
    folder = out / "checkpoints"
    best = BestCheckpoint(
        folder, filename="best", monitor=monitor, mode=mode, enable_version_counter=False
    )
    last = LastCheckpoints(folder, training.keep_checkpoints, training.checkpoint_every_steps)
    callbacks: list[Callback] = [GoOnInEpoch(), StopAtNotFinite(out), best]
    if training.early_stopping is not None:
        callbacks.append(
            EarlyStopping(
                monitor, mode=mode, patience=training.early_stopping, check_on_train_epoch_end=False
            )
        )
    # The last checkpoint knows what the others have seen, and is therefore written after them.
    callbacks.append(last)
    if training.ema_decay is not None:
        callbacks.append(EMAWeightAveraging(decay=training.ema_decay))
    callbacks.append(SameStatistics())  # of the average, where there is one
    plugins: list[Any] = [WholeFiles()]
    if processes.count == 1:
        # Whatever a scheduler says in the environment, this process is alone.
        plugins.append(LightningEnvironment())
    elif sync_batchnorm:
        plugins.append(SyncEverywhere())
    trainer = L.Trainer(
        default_root_dir=out,
        devices=processes.local,
        num_nodes=processes.nodes,
        # Buffers would be sent around in validation too, where a process may have a batch more.
        strategy="auto" if processes.count == 1 else DDPStrategy(broadcast_buffers=False),
        max_epochs=training.epochs,
        precision=_precision(training.precision),
        callbacks=callbacks,
        plugins=plugins,
        logger=open_loggers(training.loggers, out),
        check_val_every_n_epoch=every_epochs,
        num_sanity_val_steps=0,
        log_every_n_steps=20,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    with _without_denormals(), warnings.catch_warnings():
        # Two cores need no more workers; the recipe says how many there are.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")  # when resuming
        # Small data have a figure for each epoch, which is enough.
        warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
        # GoOnInEpoch takes care of it.
        warnings.filterwarnings("ignore", message=".*ended before the epoch ended.*")
        # Only newer versions of PyTorch have the other name.
        warnings.filterwarnings("ignore", message=".*`broadcast_buffers` is deprecated.*")
        # All processes have the same figures of validation.
        warnings.filterwarnings("ignore", message=".*It is recommended to use `self.log.*")
        # Lightning's own use of PyTorch, which is not ours to mend.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        try:
            trainer.fit(module, datamodule=datamodule, ckpt_path=resume_from)
        except SIGTERMException as stop:
            # Lightning would leave with 0, which says that the training is done.
            raise SystemExit(128 + (last.left_by or signal.SIGTERM)) from stop
        except SystemExit as stop:
            # Lightning leaves with 1 after a Ctrl-C that nobody waited for.
            raise SystemExit(128 + signal.SIGINT if trainer.interrupted else stop.code) from stop
        except Exception as error:
            if (reason := explained(error, out)) is not None:
                raise reason from error
            raise
        finally:
            last.stop_listening()
    return Path(best.best_model_path) if best.best_model_path else folder / "last.ckpt"


class BestCheckpoint(ModelCheckpoint):
    """Lightning's own forgets how good the best was where the folder of the training has moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
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


@contextmanager
def _without_denormals() -> Iterator[None]:
    """Take numbers next to zero for zero: faint activations would slow a CPU down several times.

    The switch belongs to the thread, so it goes back afterwards.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _precision(choice: str) -> Any:
    """Lightning's name for a recipe's precision; `auto` is bfloat16 where the device has it."""
    if choice == "auto":
        has_bf16 = (
            torch.cuda.is_bf16_supported()
            if torch.cuda.is_available()
            else torch.cpu._is_avx512_bf16_supported()
        )
        choice = "bf16" if has_bf16 else "fp16" if torch.cuda.is_available() else "32"
    return {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[choice]
