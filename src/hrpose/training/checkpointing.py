"""How Lightning's checkpoints reach the disk and come back."""

import io
import logging
import signal
import threading
import zipfile
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from hrpose.errors import UserError
from hrpose.io import write_atomically
from hrpose.models.checkpoint import read_torch
from hrpose.training.distributed import from_all


class WholeFiles(TorchCheckpointIO):
    """A training killed while it writes leaves the checkpoint before; no file's code is run.

    Lightning's own way writes to the system's temporary folder and moves the file from there,
    which is a copy where that folder is on another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_atomically(Path(path), content.getvalue())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Tensors on the CPU and plain values; Lightning moves them where they belong."""
        loaded: dict[str, Any] = read_torch(Path(path))
        return loaded


def last_checkpoint(out: Path, resume: bool, first: bool = True) -> Path | None:
    """Where to go on, if `out` holds a training. Raises UserError unless `resume` says to.

    A damaged checkpoint is set aside as `NAME.damaged`, with a warning, for the one before it.
    Raises UserError where all are damaged. Of several processes only the `first` sets aside; the
    others find the same checkpoint, whether they look before or after.
    """
    folder = out / "checkpoints"
    # A training killed while it renamed its checkpoints leaves the newest as `next.ckpt`.
    numbered = sorted(folder.glob("last-*.ckpt"), key=lambda path: (len(path.name), path.name))
    found = [p for p in (folder / "next.ckpt", folder / "last.ckpt", *numbered) if p.exists()]
    if found and not resume:
        raise UserError(f"{out}: holds a training already; add --resume or choose another --out")
    for path in found:
        try:
            _check(path)
        except UserError as error:
            if path == found[-1]:
                raise
            if first:
                path.replace(path.with_name(f"{path.name}.damaged"))
                logging.getLogger("hrpose").warning("%s; going on from the one before", error)
        else:
            return path
    return None


def _check(path: Path) -> None:
    content = read_torch(path)
    if not isinstance(content, dict) or "loops" not in content:
        raise UserError(f"{path}: expected a checkpoint of a training, found another file")
    # PyTorch does not compare what it reads with the sums that it wrote.
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except OSError as error:  # The first process may have set it aside in between.
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    if damaged is not None:
        raise UserError(f"{path}: damaged, the sum of its part {damaged} is wrong")


class LastCheckpoints(Checkpoint):
    """Writes where to go on, and keeps the newest `keep`: `last.ckpt`, `last-1.ckpt`, ...

    Written at the end of each epoch, after each `every_steps`, and at SIGTERM or Ctrl-C, which end
    in SIGTERMException after the step, or after the validation. A second Ctrl-C ends at once.
    `left_by` is the signal that came.
    """

    def __init__(self, folder: Path, keep: int, every_steps: int | None) -> None:
        super().__init__()
        self.folder = folder
        self.names = ["last.ckpt", *(f"last-{i}.ckpt" for i in range(1, keep))]
        self.every_steps = every_steps
        self.left_by: signal.Signals | None = None
        self._interrupt: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # In the place of Lightning's own, which talks to the other processes at once, wherever
        # they are. Not earlier: Lightning would call this one after its own.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._leave)
            # In the background of a shell script Ctrl-C is for others.
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                self._interrupt = signal.signal(signal.SIGINT, self._leave)

    def _leave(self, number: int, _frame: object) -> None:
        self.left_by = signal.Signals(number)
        self.stop_listening()

    def stop_listening(self) -> None:
        """Ctrl-C interrupts again."""
        if self._interrupt is not None:
            signal.signal(signal.SIGINT, self._interrupt)
            self._interrupt = None

    def _leaves(self, trainer: L.Trainer) -> bool:
        """Whether any process was told to: all leave after the same step."""
        decision: bool = trainer.strategy.reduce_boolean_decision(
            self.left_by is not None, all=False
        )
        return decision

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *_batch: Any
    ) -> None:
        # The last step of an epoch is saved at its end, when the figures of validation are known.
        if trainer.is_last_batch:
            return
        leaves = self._leaves(trainer)
        if leaves or (self.every_steps is not None and trainer.global_step % self.every_steps == 0):
            self.save(trainer)
        if leaves:
            self._leave_after(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.save(trainer)
        if self._leaves(trainer) and trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            self._leave_after(trainer)

    def _leave_after(self, trainer: L.Trainer) -> NoReturn:
        # Said now: torchrun ends the first process as soon as another one has left.
        if trainer.is_global_zero:
            logging.getLogger("hrpose").warning(
                "%s: stopped by %s and saved after step %d; --resume goes on there",
                self.folder.parent,
                "Ctrl-C" if self.left_by is signal.SIGINT else "SIGTERM",
                trainer.global_step,
            )
        raise SIGTERMException

    def save(self, trainer: L.Trainer) -> None:
        """Nothing that is there is touched before the new checkpoint is whole."""
        written = self.folder / "next.ckpt"
        trainer.save_checkpoint(written)
        if trainer.is_global_zero:
            paths = [self.folder / name for name in self.names]
            for older, newer in zip(paths[:0:-1], paths[-2::-1], strict=True):
                if newer.exists():
                    newer.replace(older)
            written.replace(paths[0])
        trainer.strategy.barrier()  # Nobody leaves before it is in its place.


class GoOnInEpoch(Callback):
    """Tells the sampler of a resumed training which draws of the epoch were trained on before.

    Lightning asks for the first batches before it has read where a checkpoint was written.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.world_size > 1:
            steps = from_all(torch.tensor(trainer.global_step, device=pl_module.device)).tolist()
            if len(set(steps)) > 1:
                raise UserError(
                    f"--resume: expected all processes to go on from one step, found {steps}; "
                    "--out has to be a folder that all machines share"
                )
        loader: Any = trainer.train_dataloader
        whole = int(trainer.num_training_batches)
        batches = trainer.global_step - trainer.current_epoch * whole
        if not 0 <= batches <= whole:
            raise UserError(
                f"--resume: expected the batch size and the people that the training began with, "
                f"found epochs of {whole} steps for step {trainer.global_step} in epoch "
                f"{trainer.current_epoch + 1}; give it the same recipe and data"
            )
        loader.sampler.resume(trainer.current_epoch, batches * loader.batch_size)


class StopAtNotFinite(Callback):
    """Ends the training before a step whose loss is infinite or not a number.

    The step changes no weights. Its batch (a NamedTuple of tensors) is written to
    `out/not-finite.npz`, one array for each field. Raises UserError, in all processes.
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
            raise UserError(f"step {trainer.global_step}: another process's loss is not finite")
        content = io.BytesIO()
        fields = self.batch._asdict().items()
        arrays = {name: field.cpu().numpy() for name, field in fields if field is not None}
        np.savez(content, **arrays)
        rank = trainer.global_rank
        path = self.out / ("not-finite.npz" if rank == 0 else f"not-finite-{rank}.npz")
        write_atomically(path, content.getvalue())
        raise UserError(
            f"step {trainer.global_step}: the loss is {loss.item()}, expected a finite number; its "
            f"batch is in {path}; look at its labels, and lower optimizer.lr or set "
            "training.precision=32"
        )
