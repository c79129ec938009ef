"""The learning rate at each step, and the stage of each weight."""

import pytest
import torch

from hrpose.models.build import build
from hrpose.training.base_module import rate_at, stages_before_head, stem
from hrpose.training.recipe import Schedule

STEPS = Schedule(name="steps", milestones=(2, 3), gamma=0.1)
COSINE = Schedule(name="cosine")


@pytest.mark.parametrize(
    ("schedule", "step", "rate"),
    [
        (STEPS, 0, 1.0),
        (STEPS, 19, 1.0),
        (STEPS, 20, 0.1),
        (STEPS, 30, 0.01),
        (COSINE, 0, 1.0),
        (COSINE, 20, 0.5),
        (COSINE, 40, 0.0),
        (COSINE, 50, 0.0),
        (STEPS.model_copy(update={"warmup_steps": 4}), 0, 0.25),
        (STEPS.model_copy(update={"warmup_steps": 4}), 3, 1.0),
        (COSINE.model_copy(update={"warmup_steps": 40}), 19, 0.25 * 1.0784591),
    ],
)
def test_the_rate_at_a_step_of_forty_in_four_epochs(
    schedule: Schedule, step: int, rate: float
) -> None:
    assert rate_at(step, steps=40, schedule=schedule, epochs=4) == pytest.approx(rate, abs=1e-6)


@pytest.mark.parametrize(
    ("network", "depth", "heads"),
    [
        ("w16-small", 5, {"final_layer"}),
        ("hrnetv2-w18", 5, {"conv_layers", "final_layer"}),
        ("litehrnet-18", 4, {"head_layer", "final_layer"}),
    ],
)
def test_every_weight_has_its_stage(network: str, depth: int, heads: set[str]) -> None:
    with torch.device("meta"):
        built = build(network)
    names = [f"network.{name}" for name, _ in built.named_parameters()]
    depths = [stages_before_head(name, built) for name in names]
    # From the stem, which comes first, to the head.
    assert depths == sorted(depths, reverse=True)
    assert set(depths) == set(range(depth + 1))
    assert {n.split(".")[1] for n, at in zip(names, depths, strict=True) if at == 0} == heads
    frozen = {id(weight) for weight in stem(built).parameters()}
    assert frozen == {
        id(weight)
        for (_, weight), at in zip(built.named_parameters(), depths, strict=True)
        if at >= 4
    }
