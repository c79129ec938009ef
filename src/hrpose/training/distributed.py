"""Distributed training: the processes that torchrun starts, and what they synchronize."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from hrpose.errors import UserError


@dataclass(frozen=True, slots=True)
class Processes:
    """The rank of this process among `count`, of which `local` are on each machine."""

    rank: int = 0
    count: int = 1
    local: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """The number of machines."""
        return self.count // self.local

    def describe(self, batch_size: int) -> str:
        """One line for the log."""
        machines = "" if self.nodes == 1 else f" on {self.nodes} machines"
        return (
            f"training in {self.count} processes{machines}, each with "
            f"{self.share(batch_size)} of the {batch_size} persons of a step"
        )

    def share(self, batch_size: int) -> int:
        """The batch size of each process. Raises UserError where `batch_size` is not divisible."""
        if batch_size % self.count:
            raise UserError(
                f"training.batch_size: expected a multiple of the {self.count} processes, "
                f"found {batch_size}",
                code="recipe-invalid",
            )
        return batch_size // self.count


SINGLE = Processes()
# Variables with the number of processes: PyTorch's own, and those of srun and two kinds of mpirun.
_OTHER_LAUNCHERS = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


def launched(environment: Mapping[str, str] = os.environ) -> Processes:
    """The processes by torchrun's environment variables; without them, one process.

    Raises UserError where another launcher started several, because each would train alone.
    """
    if "TORCHELASTIC_RUN_ID" not in environment:
        for name in _OTHER_LAUNCHERS:
            if int(environment.get(name) or 1) > 1:
                raise UserError(
                    f"{name} is {environment[name]}: expected several processes to be started by "
                    "torchrun, one torchrun on each machine (docs/guide/many-machines.md)",
                    code="launch-invalid",
                )
        return SINGLE
    rank, count, local = (
        int(environment[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    )
    if count % local:
        raise UserError(
            f"torchrun: expected as many processes on each machine, found {local} of {count} here; "
            "give the same --nproc-per-node everywhere",
            code="launch-invalid",
        )
    devices = torch.cuda.device_count()
    if 0 < devices < local:
        raise UserError(
            f"torchrun: expected a GPU for each process, found {devices} for {local}; "
            f"set --nproc-per-node {devices}",
            code="launch-invalid",
        )
    return Processes(rank, count, local)


def all_gather(tensor: Tensor) -> Tensor:
    """The tensors (...) of all processes, which must have one shape: (processes, ...), by rank."""
    parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, tensor)
    return torch.stack(parts)


def gather(module: L.LightningModule, rows: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """The rows (n, c) of all processes, sorted by their first column, which is not negative.

    `most` is the largest n of a process. Rows are neither duplicated nor dropped.
    """
    if module.trainer.world_size > 1:
        # All send the same number of rows; the padding has a negative first column.
        filled = np.full((most, rows.shape[1]), -1.0)
        filled[: len(rows)] = rows
        gathered = all_gather(torch.from_numpy(filled).to(module.device))
        rows = gathered.flatten(0, 1).cpu().numpy()
        rows = rows[rows[:, 0] >= 0]
    ordered: NDArray[np.float64] = rows[np.argsort(rows[:, 0], kind="stable")]
    return ordered


class SyncStatistics(Callback):
    """Validates with the running statistics of the first process, which are the ones saved.

    Without SyncBN each process has its own.
    """

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.world_size > 1:
            for buffer in pl_module.buffers():
                distributed.broadcast(buffer, src=0)


class _Sum(torch.autograd.Function):
    """The sum over all processes. Each has its own loss, so gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        total = local.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total


def _sum(local: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(local)  # type: ignore[no-untyped-call]
    return total


class CPUSyncBatchNorm(nn.BatchNorm2d):
    """As PyTorch's SyncBatchNorm, for images (n, c, h, w) on the CPU, n the same in all processes.

    Sums have 64 bits, as in PyTorch's BatchNorm for CPUs: with 32 bits, cancellation would give
    gradients of an untrained network other signs than those of a single process.
    """

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            result: Tensor = super().forward(images)
            return result
        values = images.double()
        count = distributed.get_world_size() * values.numel() // values.shape[1]
        mean = _sum(values.sum((0, 2, 3))) / count
        centered = values - mean[:, None, None]
        variance = _sum(centered.square().sum((0, 2, 3))) / count
        self._update_statistics(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normal: Tensor = centered * scale[:, None, None] + self.bias[:, None, None]
        return normal.to(images.dtype)

    def _update_statistics(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var), self.momentum)


class SyncBatchNorm(TorchSyncBatchNorm):
    """Replaces each BatchNorm by one over all processes; keys of the state dict stay."""

    def apply(self, model: nn.Module) -> nn.Module:
        """With PyTorch's layers on a GPU; on the CPU `model` itself, with `CPUSyncBatchNorm`."""
        if next(model.parameters()).device.type != "cpu":
            return super().apply(model)
        for parent in list(model.modules()):
            for name, layer in parent.named_children():
                if isinstance(layer, nn.BatchNorm2d):
                    synced = CPUSyncBatchNorm(layer.num_features, layer.eps, layer.momentum)
                    synced.weight, synced.bias = layer.weight, layer.bias
                    synced.running_mean, synced.running_var = layer.running_mean, layer.running_var
                    synced.num_batches_tracked = layer.num_batches_tracked
                    setattr(parent, name, synced.train(layer.training))
        return model
