"""Running a Lightning module to the end: checkpoints, logs, averaged weights."""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException

from hrpose.training.checkpoint_io import WholeFiles
from hrpose.training.failures import explained
from hrpose.training.loggers import open_loggers
from hrpose.training.processes import ALONE, Processes, SameStatistics
from hrpose.training.recipe import AnyTraining
from hrpose.training.survive import GoOnInEpoch, LastCheckpoints, StopAtNotFinite
from hrpose.training.sync_batchnorm import SyncEverywhere


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

    `sync_batchnorm` has several `processes` normalise over the whole batch, as one does.
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
