"""The optimizer of a recipe, and its learning rate at each step."""

import math
from typing import Any, Self

import lightning as L
import torch
from torch import Tensor, nn

from hrpose.metadata import DetectorMetadata, Metadata
from hrpose.models.hrnet import HRNet, Normalize
from hrpose.training.person_detector.recipe import DetectorRecipe
from hrpose.training.recipe import AnyTraining, Optimizer, Recipe, Schedule


def optimizers(
    module: L.LightningModule, settings: Optimizer, schedule: Schedule, training: AnyTraining
) -> Any:
    """What `configure_optimizers` of a module returns, by the recipe; frozen weights stay."""
    lr = settings.rate(training.batch_size)
    groups: dict[int, list[Tensor]] = {}
    for name, weights in module.named_parameters():
        if weights.requires_grad:
            depth = 0 if settings.layer_decay == 1 else stages_from_the_head(name)
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


def stages_from_the_head(name: str) -> int:
    """0 for weights of the head, 1 for those of the last stage, up to 5 for the stem."""
    stages = (("transition3", "stage4"), ("transition2", "stage3"), ("transition1", "stage2"))
    rows = (*stages, ("layer1",), ("conv1", "bn1", "conv2", "bn2"))
    part = name.removeprefix("network.").partition(".")[0]
    return next((depth for depth, parts in enumerate(rows, 1) if part in parts), 0)


def rate_at(step: int, steps: int, schedule: Schedule, epochs: int) -> float:
    """The factor on the learning rate at a step of `steps`, which make `epochs`."""
    warmup = min(1.0, (step + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    if schedule.name == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    epoch = step * epochs / steps
    return warmup * float(schedule.gamma ** sum(epoch >= m for m in schedule.milestones))


class NetworkModule(L.LightningModule):
    """Trains `network` by `recipe` on images normalized by its `metadata`."""

    recipe: Recipe | DetectorRecipe
    metadata: Metadata | DetectorMetadata

    def __init__(
        self,
        network: HRNet,
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
        super().train(mode)
        if self.recipe.training.freeze_stem:
            stem(self.network).eval()  # so that its running statistics stay, too
        return self

    def outputs(self, images: Tensor) -> Tensor:
        """What the network makes of uint8 images (n, h, w, 3), in float32."""
        inputs = self.normalize(images)
        if self.recipe.training.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        made: Tensor = self.network(inputs).float()
        return made

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        return optimizers(self, recipe.optimizer, recipe.schedule, recipe.training)


def stem(network: HRNet) -> nn.ModuleList:
    """All layers before stage 2: the stem of two convolutions, and stage 1.

    They compute at the highest resolutions, and what they find (edges, textures) serves any
    keypoints. Without them a core takes half as many samples again in the same time (docs/models).
    """
    return nn.ModuleList([network.conv1, network.bn1, network.conv2, network.bn2, network.layer1])


def made_fast(network: HRNet, settings: AnyTraining) -> HRNet:
    """The network in the memory layout, and compiled, as the recipe says."""
    if settings.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if (mode := settings.compile_mode) is not None:
        network.compile(mode=mode)
    return network
