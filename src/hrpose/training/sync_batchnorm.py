"""BatchNorm over the whole batch of all processes, on the CPU too.

PyTorch's own needs a GPU. The CPU's is plain: it is for tests and small trainings.
"""

from typing import Any

import torch
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from torch import Tensor, distributed, nn


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
        centred = values - mean[:, None, None]
        variance = _sum(centred.square().sum((0, 2, 3))) / count
        self._follow(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normal: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
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
