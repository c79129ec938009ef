"""Checkpoints and fault tolerance: atomic files, resuming within an epoch, signals, bad losses."""

import io
import logging
import shutil
import signal
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import nn

from hrpose.errors import UserError
from hrpose.io import write_atomically
from hrpose.metadata import NO_CHECKSUM, with_checksum
from hrpose.models.checkpoint import load, read_torch, save
from hrpose.training.distributed import all_gather

# How long a step or a validation may go on after a signal.
STOP_SECONDS = 60


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically, and reads them without running code from the file.

    A training that is killed while writing leaves the last checkpoint. Lightning's own class writes
    to the system's temporary folder and moves the file, which copies it where that is another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        # The zip file's comment, which is its end, holds the checksum.
        content.seek(-2, io.SEEK_END)
        content.write(len(NO_CHECKSUM).to_bytes(2, "little") + NO_CHECKSUM.encode())
        write_atomically(Path(path), with_checksum(content.getvalue()))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Tensors on the CPU and plain values; Lightning moves them to the device."""
        loaded: dict[str, Any] = read_torch(Path(path))
        return loaded


def last_checkpoint(out: Path, resume: bool, first: bool = True) -> Path | None:
    """The checkpoint to resume from, None where `out` has none.

    A damaged checkpoint is renamed to `NAME.damaged`, with a warning, and the one before it is
    taken. Of several processes only the `first` renames; the others take the same checkpoint.
    Raises UserError where `out` has a checkpoint and not `resume`, and where all are damaged.
    """
    folder = out / "checkpoints"
    # A training that is killed while it renames checkpoints leaves the newest as `next.ckpt`.
    numbered = sorted(folder.glob("last-*.ckpt"), key=lambda path: (len(path.name), path.name))
    existing = [p for p in (folder / "next.ckpt", folder / "last.ckpt", *numbered) if p.exists()]
    if existing and not resume:
        raise UserError(
            f"{out}: contains a training; add --resume or choose another --out",
            code="folder-not-empty",
        )
    for path in existing:
        try:
            _check(path)
        except UserError as error:
            if path == existing[-1]:
                raise
            if first:
                path.replace(path.with_name(f"{path.name}.damaged"))
                logging.getLogger("hrpose").warning("%s; resuming from the one before", error)
        else:
            return path
    if resume and first:
        logging.getLogger("hrpose").warning("%s: has no checkpoint to resume; begins anew", out)
    return None


def _check(path: Path) -> None:
    content = read_torch(path)
    if not isinstance(content, dict) or "loops" not in content:
        raise UserError(
            f"{path}: expected a checkpoint of a training, found another file",
            code="checkpoint-damaged",
        )
    # PyTorch does not verify the checksums.
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except OSError as error:  # The first process may have renamed it in between.
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error})", code="file-unreadable"
        ) from error
    if damaged is not None:
        raise UserError(
            f"{path}: damaged, the checksum of its part {damaged} is wrong",
            code="checkpoint-damaged",
        )


class LastCheckpoints(Checkpoint):
    """Writes checkpoints to resume from; the newest `keep` stay: `last.ckpt`, `last-1.ckpt`, ...

    They are written before each validation and at the end of each epoch, after each `every_steps`,
    and at SIGTERM or Ctrl-C, which end in SIGTERMException after the step, or after the validation;
    after `STOP_SECONDS` in any case, without a checkpoint. A second Ctrl-C ends at once. Once in
    each epoch, after its last step, `each_epoch` is called in the first process with the number of
    the epoch, from 1 on, and the checkpoint.
    `stop_signal` is the signal that was received. A training that is resumed from before a
    validation starts with it.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        every_steps: int | None,
        each_epoch: Callable[[int, Path], None] | None = None,
    ) -> None:
        super().__init__()
        self.folder = folder
        self.names = ["last.ckpt", *(f"last-{i}.ckpt" for i in range(1, keep))]
        self.every_steps = every_steps
        self.stop_signal: signal.Signals | None = None
        self._interrupt: Any = None
        self._validation_due = False
        self._each_epoch, self._epoch = each_epoch, -1

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Replaces Lightning's handler, which would communicate with the other processes at once.
        # Not earlier: Lightning would chain this one to its own.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._receive)
            # In the background of a shell script Ctrl-C is ignored.
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                self._interrupt = signal.signal(signal.SIGINT, self._receive)
        if self._validation_due:
            self._validation_due = False
            self._validate(trainer)

    def _receive(self, number: int, _frame: object) -> None:
        self.stop_signal = signal.Signals(number)
        self.stop_listening()
        if hasattr(signal, "setitimer"):  # not on Windows
            signal.signal(signal.SIGALRM, self._give_up)
            signal.setitimer(signal.ITIMER_REAL, STOP_SECONDS)

    def stop_listening(self) -> None:
        """Restore the handler of Ctrl-C, and end the time that a stop may take."""
        if self._interrupt is not None:
            signal.signal(signal.SIGINT, self._interrupt)
            self._interrupt = None
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _give_up(self, _number: int, _frame: object) -> NoReturn:
        # A disk that does not answer, or workers that have nothing.
        logging.getLogger("hrpose").warning(
            "%s: stopped by %s, without the end of the step or the validation, which took more "
            "than %d seconds; --resume continues at the last checkpoint",
            self.folder.parent,
            self._signal_name,
            STOP_SECONDS,
        )
        raise SIGTERMException

    @property
    def _signal_name(self) -> str:
        return "Ctrl-C" if self.stop_signal is signal.SIGINT else "SIGTERM"

    @staticmethod
    def _validate(trainer: L.Trainer) -> None:
        """Make up for the validation of the epoch before, as the trainer's own loop does it."""
        epochs = trainer.fit_loop.epoch_progress.current
        epochs.completed -= 1  # so that it is logged, and its weights are named, as of that epoch
        trainer.validating = True
        trainer.fit_loop.epoch_loop.val_loop.run()
        trainer.training = True
        epochs.completed += 1

    def state_dict(self) -> dict[str, Any]:
        """Whether the validation of the epoch is still to be done."""
        return {"validation_due": self._validation_due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Older checkpoints have no state, and nothing to be done."""
        self._validation_due = bool(state_dict.get("validation_due"))

    def _should_stop(self, trainer: L.Trainer) -> bool:
        """Whether any process has received a signal: all stop after the same step."""
        decision: bool = trainer.strategy.reduce_boolean_decision(
            self.stop_signal is not None, all=False
        )
        return decision

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *_batch: Any
    ) -> None:
        every = trainer.check_val_every_n_epoch
        validates = not every or (trainer.current_epoch + 1) % every == 0
        # The last step of an epoch without a validation is saved at its end.
        if trainer.is_last_batch and not validates:
            return
        stop = self._should_stop(trainer)
        if (
            stop
            or trainer.is_last_batch
            or (self.every_steps is not None and trainer.global_step % self.every_steps == 0)
        ):
            self._validation_due = trainer.is_last_batch
            self.save(trainer)
            self._validation_due = False
            if trainer.is_last_batch:
                self._keep(trainer)
        if stop:
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Averages over all processes are computed when they are first read, in the first process by
        # its progress bar, and the others have to take part before they wait for the file.
        _ = trainer.callback_metrics
        self.save(trainer)
        self._keep(trainer)
        if self._should_stop(trainer) and trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            self._stop(trainer)

    def _keep(self, trainer: L.Trainer) -> None:
        """Pass on the checkpoint that was just saved, unless that of its epoch was already."""
        epoch = trainer.current_epoch
        if self._each_epoch is not None and trainer.is_global_zero and epoch != self._epoch:
            self._each_epoch(epoch + 1, self.folder / self.names[0])
        self._epoch = epoch

    def _stop(self, trainer: L.Trainer) -> NoReturn:
        # Reported now: torchrun ends the first process as soon as another one has exited.
        if trainer.is_global_zero:
            logging.getLogger("hrpose").warning(
                "%s: stopped by %s and saved after step %d; --resume continues there",
                self.folder.parent,
                self._signal_name,
                trainer.global_step,
            )
        raise SIGTERMException

    def save(self, trainer: L.Trainer) -> None:
        """Write `last.ckpt`. Older checkpoints are renamed only after the new one is complete.

        Raises UserError, in all processes, for weights that are not finite: a step with a finite
        loss can still have gradients that are not, and the checkpoints before are worth more.
        """
        _check_finite(trainer)
        newest = self.folder / "next.ckpt"
        trainer.save_checkpoint(newest)
        if trainer.is_global_zero:
            paths = [self.folder / name for name in self.names]
            for older, newer in zip(paths[:0:-1], paths[-2::-1], strict=True):
                if newer.exists():
                    newer.replace(older)
            newest.replace(paths[0])
        trainer.strategy.barrier()  # No process exits before it is renamed.


def _check_finite(trainer: L.Trainer) -> None:
    state = trainer.lightning_module.state_dict()
    bad = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if trainer.strategy.reduce_boolean_decision(not bad):
        return
    where = bad[0] if bad else "those of another process"
    raise UserError(
        f"step {trainer.global_step}: the weights are not finite ({where}); the checkpoints before "
        "are kept: lower optimizer.lr or set training.precision=32, and start again",
        code="weights-not-finite",
    )


class EpochWeights:
    """The weights of every epoch in `folder`, with their metadata, as `epoch-001.safetensors`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, epoch: int) -> Path:
        """The file of an epoch, from 1 on."""
        return self.folder / f"epoch-{epoch:03}.safetensors"

    def check_space(self, network: nn.Module, epochs: int) -> str:
        """What the weights of `epochs` take, in words.

        Raises UserError where the disk has less than those that are not there yet.
        """
        size = sum(value.nbytes for value in network.state_dict().values())
        left = size * sum(not self.path(epoch).exists() for epoch in range(1, epochs + 1))
        disk = next(p for p in (self.folder, *self.folder.absolute().parents) if p.exists())
        files = f"{epochs} file{'s' * (epochs != 1)} of {size / 1e6:,.0f} MB"
        needs = f"{files}, {epochs * size / 1e6:,.0f} MB in all"
        if left > (free := shutil.disk_usage(disk).free):
            raise UserError(
                f"{self.folder}: expected space for the weights of every epoch ({needs}), found "
                f"{free / 1e9:,.1f} GB; free some, or set training.keep_every_epoch=false",
                code="disk-full",
            )
        return f"keeping the weights of every epoch in {self.folder}: {needs}"

    def keep(self, epoch: int, checkpoint: Path) -> None:
        """Write the weights in the checkpoint after an epoch, averaged if the training averages."""
        save(self.path(epoch), *load(checkpoint))


class ResumeInEpoch(Callback):
    """Resumes the sampler within the epoch, after the draws that were trained on before.

    Lightning requests the first batches before it has restored the step of the checkpoint.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.world_size > 1:
            steps = all_gather(torch.tensor(trainer.global_step, device=pl_module.device)).tolist()
            if len(set(steps)) > 1:
                raise UserError(
                    f"--resume: expected all processes to resume from one step, found {steps}; "
                    "--out has to be a folder that all machines share",
                    code="resume-mismatch",
                )
        loader: Any = trainer.train_dataloader
        per_epoch = int(trainer.num_training_batches)
        batches = trainer.global_step - trainer.current_epoch * per_epoch
        if not 0 <= batches <= per_epoch:
            raise UserError(
                "--resume: expected the batch size and the persons that the training began with, "
                f"found epochs of {per_epoch} steps for step {trainer.global_step} in epoch "
                f"{trainer.current_epoch + 1}; use the same recipe and data",
                code="resume-mismatch",
            )
        loader.sampler.resume(trainer.current_epoch, batches * loader.batch_size)


class StopAtNonFiniteLoss(Callback):
    """Ends the training before a step whose loss is infinite or not a number.

    Weights are not updated. Its batch (a NamedTuple of tensors) is written to
    `out/not-finite.npz`, one array for each field. All processes raise UserError.
    """

    def __init__(self, out: Path) -> None:
        super().__init__()
        self.out = out
        self.batch: Any = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.batch = batch

    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: torch.Tensor
    ) -> None:
        finite = bool(torch.isfinite(loss))
        if trainer.strategy.reduce_boolean_decision(finite):
            return
        if finite:
            raise UserError(
                f"step {trainer.global_step}: the loss of another process is not finite",
                code="loss-not-finite",
            )
        content = io.BytesIO()
        fields = self.batch._asdict().items()
        arrays = {name: field.cpu().numpy() for name, field in fields if field is not None}
        np.savez(content, **arrays)
        rank = trainer.global_rank
        path = self.out / ("not-finite.npz" if rank == 0 else f"not-finite-{rank}.npz")
        write_atomically(path, content.getvalue())
        raise UserError(
            f"step {trainer.global_step}: the loss is {loss.item()}, expected a finite number; its "
            f"batch is in {path}; check its labels, and lower optimizer.lr or set "
            "training.precision=32",
            code="loss-not-finite",
        )
