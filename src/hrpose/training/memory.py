"""A batch that does not fit into the memory goes through the network in parts."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hrpose.errors import UserError


class MicroBatches(L.LightningModule):
    """Takes each batch in `micro_batches` parts, and doubles them where the memory ends.

    The gradient is that of the whole batch, for the loss is made of all heatmaps together. Each
    part is normalised by its own statistics, unless its BatchNorms are frozen: as on so many
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

    def _halve(self, people: int, error: torch.OutOfMemoryError) -> None:
        # The other processes would wait in the middle of the step.
        if self.trainer.world_size > 1 or self.micro_batches >= people:
            more = min(2 * self.micro_batches, people)
            raise UserError(
                f"step {self.global_step}: out of memory with {people} people in "
                f"{self.micro_batches} parts; set training.micro_batches={more}, or a smaller "
                "training.batch_size"
            ) from error
        self.micro_batches = min(2 * self.micro_batches, people)
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
