"""What every training shares: the rate at each step."""

import pytest

from hrpose.training.fit import rate_at
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
