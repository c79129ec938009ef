"""The base of both Lightning modules: network, optimizer, learning rate and micro-batches."""

import logging
import math
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self, TypeVar

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hrpose.errors import UserError
from hrpose.metadata import DetectorMetadata, Metadata
from hrpose.models.build import Network
from hrpose.models.hrnet import Normalize
from hrpose.training.recipe import AnyTraining, DetectorRecipe, Optimizer, Recipe, Schedule
from hrpose.training.resume import RunRecord

# Compiling takes two minutes of a core, and saves .6 ms a sample with `w16-small` and bf16 on a
# processor with AVX512-BF16 (benchmarks/PIPELINE.md).
MIN_COMPILED_SAMPLES = 300_000

T = TypeVar("T", bound=AnyTraining)


def optimizers(
    module: "NetworkModule", settings: Optimizer, schedule: Schedule, training: AnyTraining
) -> Any:
    """The result of a module's `configure_optimizers`, by a recipe; without frozen weights."""
    lr = settings.rate(training.batch_size)
    groups: dict[int, list[Tensor]] = {}
    for name, weights in module.named_parameters():
        if weights.requires_grad:
            depth = 0 if settings.layer_decay == 1 else stages_before_head(name, module.network)
            groups.setdefault(depth, []).append(weights)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.name]
    optimizer = kind(
        [
            {"params": weights, "lr": lr * settings.layer_decay**depth}
            for depth, weights in groups.items()
        ],
        lr=lr,
        weight_decay=settings.weight_decay,
        fused=True,
    )

    def rate(step: int) -> float:
        steps = int(module.trainer.estimated_stepping_batches)
        return rate_at(step, steps, schedule, training.epochs)

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def stages_before_head(name: str, network: Network) -> int:
    """0 for weights of the head, 1 for those of stage 4, and so on to the stem."""
    part = name.removeprefix("network.").partition(".")[0]
    depths = enumerate(reversed([*network.parts.values()]))
    return next((depth for depth, parts in depths if part in parts), 0)


def rate_at(step: int, steps: int, schedule: Schedule, epochs: int) -> float:
    """The factor of the learning rate at a step of all `steps`, which are `epochs`."""
    warmup = min(1.0, (step + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    if schedule.name == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    epoch = step * epochs / steps
    return warmup * float(schedule.gamma ** sum(epoch >= m for m in schedule.milestones))


class NetworkModule(L.LightningModule):
    """Trains `network` by `recipe` on images normalized by its `metadata`."""

    recipe: Recipe | DetectorRecipe
    metadata: Metadata | DetectorMetadata
    record: RunRecord | None = None
    """What checkpoints store of this training, to be compared when it is resumed."""

    def __init__(
        self,
        network: Network,
        recipe: Recipe | DetectorRecipe,
        metadata: Metadata | DetectorMetadata,
    ) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.metadata = metadata
        self.normalize = Normalize(metadata.mean, metadata.std)
        if recipe.training.freeze_stem:
            stem(network).requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """As any module's; a frozen stem stays in evaluation mode."""
        super().train(mode)
        if self.recipe.training.freeze_stem:
            stem(self.network).eval()  # its running statistics are frozen, too
        return self

    def outputs(self, images: Tensor) -> Tensor:
        """The network's output for uint8 images (n, h, w, 3), in float32."""
        inputs = self.normalize(images)
        if self.recipe.training.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        outputs: Tensor = self.network(inputs).float()
        return outputs

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        configured = optimizers(self, recipe.optimizer, recipe.schedule, recipe.training)
        self._rates = [group["initial_lr"] for group in configured["optimizer"].param_groups]
        return configured

    def on_train_start(self) -> None:
        """Set the settings of the recipe, which a checkpoint has replaced by those it was made
        with.
        """
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        scheduler: Any = self.lr_schedulers()
        scheduler.base_lrs = list(self._rates)
        settings = {key: value for key, value in optimizer.defaults.items() if key != "lr"}
        for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
            factor = scheduler.lr_lambdas[0](scheduler.last_epoch)
            group.update(settings, initial_lr=rate, lr=rate * factor)

    def on_train_batch_start(self, _batch: Any, _index: int) -> None:
        """Log the learning rate of this step: that of the head, the largest."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        rate = max(group["lr"] for group in optimizer.param_groups)
        self.log("train/lr", rate, on_step=True, on_epoch=True, batch_size=1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.record is not None:
            checkpoint.update(self.record.as_entries())


def stem(network: Network) -> nn.ModuleList:
    """All layers before stage 2: the stem of two convolutions, and stage 1.

    They compute at the highest resolutions, and their features (edges, textures) serve any
    keypoints. With them frozen, a core trains on half as many samples again in the same time.
    """
    names = (*network.parts["stem"], *network.parts.get("stage 1", ()))
    return nn.ModuleList(network.get_submodule(name) for name in names)


def decided(training: T, persons: int) -> T:
    """The settings with `compile` decided where it is "auto".

    Compiling takes minutes, which long trainings in bf16 on a CPU win back. It needs a C++ compiler
    and Python's headers. `persons` are drawn in an epoch where the settings say no number.
    """
    if training.compile != "auto":
        return training
    samples = training.epochs * (training.samples_per_epoch or persons)
    on_cpu = not torch.cuda.is_available()
    wins = on_cpu and lightning_precision(training.precision) == "bf16-mixed"
    compiles = wins and samples >= MIN_COMPILED_SAMPLES and _has_compiler()
    return training.model_copy(update={"compile": compiles})


def _has_compiler() -> bool:
    """Whether there is what `torch.compile` needs for a CPU."""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    headers = Path(sysconfig.get_path("include"))
    return shutil.which(compiler) is not None and (headers / "Python.h").is_file()


def accelerated(network: Network, settings: AnyTraining) -> Network:
    """The network in the memory layout of a recipe, and compiled where the recipe asks for it."""
    if settings.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if (mode := settings.compile_mode) is not None:
        network.compile(mode=mode)
    return network


class MicroBatches(L.LightningModule):
    """Runs each batch in `micro_batches` parts, and doubles their number when out of memory.

    The gradient is that of the full batch, because the loss is of all heatmaps together. Each part
    is normalized by its own statistics, unless its BatchNorms are frozen, as on several devices
    without SyncBN. Activations are computed again in the backward pass (Chen et al. 2016, "Training
    Deep Nets with Sublinear Memory Cost"), which is a third more work.
    """

    micro_batches: int = 1

    def in_parts(self, images: Tensor) -> Tensor:
        """`forward` of images (n, ...), in parts."""
        if self.micro_batches == 1:
            outputs: Tensor = self(images)
            return outputs
        parts = images.chunk(self.micro_batches)
        return torch.cat(
            [checkpoint(self, p, use_reentrant=False, context_fn=self._contexts) for p in parts]
        )

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _without_statistics(self)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Repeat the step with twice the parts when out of memory: before weights change."""
        while True:
            try:
                return super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            except torch.OutOfMemoryError as error:
                self._halve(self.trainer.datamodule.batch_size, error)  # type: ignore[attr-defined]
            # Only here are the tensors of the failed attempt freed.
            torch.cuda.empty_cache()

    def _halve(self, persons: int, error: torch.OutOfMemoryError) -> None:
        # The other processes are in the middle of the step.
        if self.trainer.world_size > 1 or self.micro_batches >= persons:
            more = min(2 * self.micro_batches, persons)
            raise UserError(
                f"step {self.global_step}: out of memory with {persons} persons in "
                f"{self.micro_batches} parts; set training.micro_batches={more}, or a smaller "
                "training.batch_size",
                code="out-of-memory",
            ) from error
        self.micro_batches = min(2 * self.micro_batches, persons)
        logging.getLogger("hrpose").warning(
            "step %d: out of memory; continuing with each batch in %d parts "
            "(training.micro_batches), each with BatchNorm statistics of its own",
            self.global_step,
            self.micro_batches,
        )


@contextmanager
def _without_statistics(module: nn.Module) -> Iterator[None]:
    """Freeze the running averages of all BatchNorms, which the first pass has updated."""
    norms = [norm for norm in module.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm)]
    before = [(norm, norm.momentum) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in before:
            norm.momentum = momentum


@contextmanager
def without_denormals() -> Iterator[None]:
    """Flush denormal numbers to zero, which would slow a CPU down several times.

    The setting belongs to the thread, so it is restored.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def lightning_precision(choice: str) -> Any:
    """Lightning's name for a recipe's precision; `auto` is bfloat16 where the device has it."""
    if choice == "auto":
        has_bf16 = (
            torch.cuda.is_bf16_supported()
            if torch.cuda.is_available()
            else torch.cpu._is_avx512_bf16_supported()
        )
        choice = "bf16" if has_bf16 else "fp16" if torch.cuda.is_available() else "32"
    return {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[choice]
