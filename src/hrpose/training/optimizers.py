"""The optimiser of a recipe, and its learning rate at each step."""

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor

from hrpose.training.recipe import AnyTraining, Optimizer, Schedule


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
