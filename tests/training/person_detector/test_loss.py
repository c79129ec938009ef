"""The person detector's loss: nothing to learn from what is right, and slopes toward it."""

import numpy as np
import pytest
import torch

from hrpose.detection import person_detector
from hrpose.training.losses import box_loss, center_loss


@pytest.fixture
def targets() -> list[torch.Tensor]:
    boxes = np.array([[8.0, 8.0, 24.0, 40.0], [40.0, 4.0, 16.0, 50.0]])
    return [torch.from_numpy(array)[None] for array in person_detector.encode(boxes, (64, 64))]


def test_what_is_right_costs_nothing(targets: list[torch.Tensor]) -> None:
    heat, distances, weights = targets
    sure = torch.where(heat == 1, 20.0, -20.0)
    assert center_loss(sure, heat, torch.ones_like(heat)) < 1e-6
    assert box_loss(distances, distances, weights) < 1e-6


def test_a_missed_person_and_a_ghost_cost(targets: list[torch.Tensor]) -> None:
    heat, _, _ = targets
    nobody = torch.full_like(heat, -20.0)
    assert center_loss(nobody, heat, torch.ones_like(heat)) == pytest.approx(20.0, rel=1e-3)
    ghost = torch.where(heat == 1, 20.0, -20.0)
    ghost[0, 15, 0] = 5.0
    there = center_loss(ghost, heat, torch.ones_like(heat))
    counts = torch.ones_like(heat)
    counts[0, 15, 0] = 0
    assert there > 1
    assert center_loss(ghost, heat, counts) < 1e-6


def test_generalized_iou_by_hand() -> None:
    # 2 x 2 inside 4 x 2 from the same cell: IoU 1/2, the hull is the larger one.
    found = torch.tensor([1.0, 1, 1, 1]).view(1, 4, 1, 1)
    true = torch.tensor([1.0, 1, 3, 1]).view(1, 4, 1, 1)
    assert box_loss(found, true, torch.ones(1, 1, 1)) == pytest.approx(0.5)


def test_an_empty_batch_has_no_boxes_to_learn() -> None:
    maps = torch.ones(1, 4, 8, 8)
    assert box_loss(maps, maps * 2, torch.zeros(1, 8, 8)) == 0


def test_the_slope_leads_to_the_box(targets: list[torch.Tensor]) -> None:
    _, distances, weights = targets
    found = torch.full_like(distances, 10.0, requires_grad=True)
    before = box_loss(found, distances, weights)
    (slope,) = torch.autograd.grad(before, found)
    assert box_loss(found - 50 * slope, distances, weights) < before
