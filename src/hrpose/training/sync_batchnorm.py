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


class SyncBatchNorm(nn.SyncBatchNorm):
    """As PyTorch's, for images (n, c, h, w). All processes have as many."""

    def forward(self, images: Tensor) -> Tensor:
        if images.device.type != "cpu" or not self.training:
            result: Tensor = super().forward(images)
            return result
        values = images.float()
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
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class SyncEverywhere(TorchSyncBatchNorm):
    """Puts `SyncBatchNorm` in the place of each BatchNorm; keys of the state dict stay."""

    def apply(self, model: nn.Module) -> nn.Module:
        """`model` itself, with its layers exchanged."""
        for parent in list(model.modules()):
            for name, layer in parent.named_children():
                if isinstance(layer, nn.BatchNorm2d):
                    synced = SyncBatchNorm(layer.num_features, layer.eps, layer.momentum)
                    synced.weight, synced.bias = layer.weight, layer.bias
                    synced.running_mean, synced.running_var = layer.running_mean, layer.running_var
                    synced.num_batches_tracked = layer.num_batches_tracked
                    setattr(parent, name, synced.train(layer.training))
        return model
