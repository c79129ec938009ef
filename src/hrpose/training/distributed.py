"""The processes that train one network together, as torchrun starts them."""

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
    """Which of how many processes this one is; `local` of them are on each machine."""

    rank: int = 0
    count: int = 1
    local: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks for all."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """The number of machines."""
        return self.count // self.local

    def describe(self, batch_size: int) -> str:
        """One line for people."""
        machines = "" if self.nodes == 1 else f" on {self.nodes} machines"
        return (
            f"training in {self.count} processes{machines}, each with "
            f"{self.share(batch_size)} of the {batch_size} people of a step"
        )

    def share(self, batch_size: int) -> int:
        """How much of a batch is for each. Raises UserError where the parts would not be equal."""
        if batch_size % self.count:
            raise UserError(
                f"training.batch_size: expected a multiple of the {self.count} processes, "
                f"found {batch_size}"
            )
        return batch_size // self.count


ALONE = Processes()
# What says how many processes there are: PyTorch's own convention, srun, and two kinds of mpirun.
_OTHER_STARTERS = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


def started(environment: Mapping[str, str] = os.environ) -> Processes:
    """What torchrun says in the environment; without it, one process.

    Raises UserError where something else started several, for each would train alone.
    """
    if "TORCHELASTIC_RUN_ID" not in environment:
        for name in _OTHER_STARTERS:
            if int(environment.get(name) or 1) > 1:
                raise UserError(
                    f"{name} is {environment[name]}: expected several processes to be started by "
                    "torchrun, one torchrun on each machine (docs/guide/many-machines.md)"
                )
        return ALONE
    rank, count, local = (
        int(environment[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    )
    if count % local:
        raise UserError(
            f"torchrun: expected as many processes on each machine, found {local} of {count} here; "
            "give the same --nproc-per-node everywhere"
        )
    devices = torch.cuda.device_count()
    if 0 < devices < local:
        raise UserError(
            f"torchrun: expected a GPU for each process, found {devices} for {local}; "
            f"set --nproc-per-node {devices}"
        )
    return Processes(rank, count, local)


def from_all(tensor: Tensor) -> Tensor:
    """The tensors (...) of all processes, which have one shape: (processes, ...), by rank."""
    parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, tensor)
    return torch.stack(parts)


def gather(module: L.LightningModule, rows: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """The rows (n, c) of all processes, in the order of their first column, which is not negative.

    `most` is the largest n of a process. Rows are neither doubled nor dropped.
    """
    if module.trainer.world_size > 1:
        # All send the same number of rows; those that fill up are known by their first column.
        filled = np.full((most, rows.shape[1]), -1.0)
        filled[: len(rows)] = rows
        gathered = from_all(torch.from_numpy(filled).to(module.device))
        rows = gathered.flatten(0, 1).cpu().numpy()
        rows = rows[rows[:, 0] >= 0]
    ordered: NDArray[np.float64] = rows[np.argsort(rows[:, 0], kind="stable")]
    return ordered


class SameStatistics(Callback):
    """Validates with the running statistics of the first process, which are those that are saved.

    Without SyncBN each process has its own.
    """

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.world_size > 1:
            for buffer in pl_module.buffers():
                distributed.broadcast(buffer, src=0)


class _Sum(torch.autograd.Function):
    """The sum over all processes. Each has a loss of its own, so gradients add up as well."""

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
    """As PyTorch's SyncBatchNorm, for images (n, c, h, w) on the CPU. All processes have as many.

    Sums have 64 bits, as in PyTorch's BatchNorm for CPUs: with 32 the gradients of a fresh network,
    which are small beside what they are sums of, have other signs than those of a single process.
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
        self._follow(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normal: Tensor = centered * scale[:, None, None] + self.bias[:, None, None]
        return normal.to(images.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var), self.momentum)


class SyncEverywhere(TorchSyncBatchNorm):
    """Exchanges each BatchNorm for one over all processes; keys of the state dict stay."""

    def apply(self, model: nn.Module) -> nn.Module:
        """PyTorch's layers on a GPU; on the CPU `model` itself, with its layers exchanged."""
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
