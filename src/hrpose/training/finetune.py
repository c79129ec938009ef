"""The recipe of a fine-tuning, by the initial weights and the data.

Fine-tuning fails by a high rate from the first step on, BatchNorm statistics of small batches, and
training past the best epoch. So the rate warms up and then decays, BatchNorm is frozen where there
are few persons, and the training stops when the validation no longer improves. All stages have one
rate: lower ones for earlier stages were measured to be worse.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrpose.codec import Codec, sigma_for
from hrpose.data.persons import PersonTable
from hrpose.metadata import Metadata
from hrpose.models.convert import Weights
from hrpose.training.recipe import (
    AugmentationPart,
    CodecPart,
    Data,
    Evaluation,
    Optimizer,
    Recipe,
    Schedule,
    Training,
)

BATCH = 16
# Steps in all: more persons need more, but not in proportion.
MIN_STEPS, MAX_STEPS, STEPS_PER_PERSON = 600, 6000, 2
# With fewer persons, BatchNorm statistics are worse than those of the initial weights.
MIN_PERSONS_FOR_NORMS = 1000
EVALUATIONS = 20


def recipe_for(
    name: str,
    weights: Path,
    start: Weights,
    data: Data,
    persons: PersonTable,
    input_wh: tuple[int, int] | None = None,
) -> Recipe:
    """The recipe of a fine-tuning from `start`, the weights in the file or of the name `weights`.

    `persons` are those to train on. Input size and codec are those of the weights where known; the
    size is adapted to boxes of another shape.
    """
    known = start.metadata or Metadata(start.network, (192, 256), codec=Codec("dark"))
    size = input_wh or fitting_size(known.input_wh, persons.boxes)
    sigma = sigma_for(size) if input_wh else known.codec.sigma
    batch = min(BATCH, max(1, len(persons)))
    steps = min(max(MIN_STEPS, STEPS_PER_PERSON * len(persons)), MAX_STEPS)
    epoch_steps = steps // EVALUATIONS
    return Recipe(
        name=name,
        network=start.network,
        input_wh=size,
        weights=weights,
        data=data,
        codec=CodecPart.model_validate({"name": known.codec.name, "sigma": sigma}),
        augmentation=AugmentationPart(
            scale=0.25,
            rotation_deg=20,
            half_body_probability=0.1 if persons.skeleton.upper_body else 0,
            photometric=0.3,
        ),
        optimizer=Optimizer(name="adamw", lr=2e-3, weight_decay=0.01),
        schedule=Schedule(name="cosine", warmup_steps=max(1, steps // 20)),
        training=Training(
            epochs=EVALUATIONS,
            batch_size=batch,
            samples_per_epoch=epoch_steps * batch,
            workers=1,
            ema_decay=0.98,
            frozen_norms=len(persons) < MIN_PERSONS_FOR_NORMS,
            early_stopping=6,
        ),
        evaluation=Evaluation(flip_test=False),
    )


def fitting_size(usual: tuple[int, int], boxes: NDArray[np.float64]) -> tuple[int, int]:
    """An input size of about the usual number of pixels, for boxes (n, 4) of another shape.

    Unchanged where the median aspect ratio is within a factor of 1.5 of the input's.
    """
    sizes = boxes[(boxes[:, 2:] > 0).all(axis=1), 2:]
    if len(sizes) == 0:
        return usual
    aspect = float(np.clip(np.median(sizes[:, 0] / sizes[:, 1]), 0.4, 2.5))
    if abs(math.log(aspect * usual[1] / usual[0])) <= math.log(1.5):
        return usual
    root = math.sqrt(usual[0] * usual[1])
    sides = (root * math.sqrt(aspect), root / math.sqrt(aspect))
    width, height = (max(32, round(side / 32) * 32) for side in sides)
    return width, height
