"""Losses, and the accuracy that a training logs."""

import numpy as np
import pytest
import torch

import golden_rules
from hrpose.codec import encode
from hrpose.detection import person_detector
from hrpose.training.module import accuracy, ohkm, peak, weighted_mse
from hrpose.training.person_detector.train import box_loss, center_loss


def loss_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    arrays = golden_rules.arrays("pipeline")
    names = ("loss_output", "target_256x192_heatmaps", "target_256x192_weights")
    output, targets, weights = (torch.from_numpy(arrays[name][:3].copy()) for name in names)
    return output, targets, weights


def test_ohkm_has_gradients_at_the_worst_keypoints_only() -> None:
    output, targets, weights = loss_inputs()
    output.requires_grad_()
    ohkm(output, targets, weights, top=3).backward()
    assert output.grad is not None
    learns = output.grad.abs().sum(dim=(2, 3)) > 0
    assert learns.sum(dim=1).tolist() == [3, 3, 3]
    worst = ((output - targets) * weights[..., None, None]).square().mean(dim=(2, 3)).topk(3)
    assert learns.gather(1, worst.indices).all()


def test_ohkm_of_all_keypoints_is_the_plain_loss() -> None:
    output, targets, weights = loss_inputs()
    torch.testing.assert_close(
        ohkm(output, targets, weights, top=17), weighted_mse(output, targets, weights)
    )


def test_an_unlabeled_keypoint_has_no_gradient() -> None:
    output, targets, weights = loss_inputs()
    weights[:, 3] = 0
    output.requires_grad_()
    weighted_mse(output, targets, weights).backward()
    assert output.grad is not None
    assert not output.grad[:, 3].any()
    assert output.grad[:, 4].any()


def test_a_perfect_output_has_no_loss() -> None:
    _, targets, weights = loss_inputs()
    assert weighted_mse(targets, targets, weights) == 0


def test_the_peak_loss_of_flat_heatmaps_pulls_toward_the_keypoint() -> None:
    _, targets, weights = loss_inputs()
    flat = torch.zeros_like(targets, requires_grad=True)
    loss = peak(flat, targets, weights)
    loss.backward()
    # All cells are equally likely.
    cells = targets[0, 0].numel()
    share = targets.sum(dim=(2, 3)).sign() * weights
    assert loss.item() == pytest.approx(float(np.log(cells) * share.mean()), rel=1e-5)
    assert flat.grad is not None
    for person, keypoint in share.nonzero().tolist():
        strongest = flat.grad[person, keypoint].argmin()
        assert targets[person, keypoint].flatten()[strongest] == targets[person, keypoint].max()


def test_the_peak_loss_falls_with_the_height_of_the_peak() -> None:
    _, targets, weights = loss_inputs()
    losses = [float(peak(height * targets, targets, weights)) for height in (0.0, 0.5, 1.0)]
    assert losses == sorted(losses, reverse=True)
    assert float(peak(targets, targets, torch.zeros_like(weights))) == 0


WIDTH, HEIGHT = 40, 60


def heatmaps(*points: tuple[float, float]) -> torch.Tensor:
    """(1, k, 60, 40): one keypoint at each point (x, y); one at (-1, -1) is missing."""
    xy = torch.tensor([points], dtype=torch.float32)
    found, _ = encode(xy, (xy[..., 0] >= 0).float(), (WIDTH, HEIGHT), sigma=2.0, strides=(1, 1))
    return found


def test_peaks_at_the_targets_are_accurate() -> None:
    targets = heatmaps((10, 20), (30, 40))
    assert accuracy(targets, targets) == 1


@pytest.mark.parametrize(
    ("x", "y", "near"),
    # Half of a tenth of the width is 2, of the height 3; the limit itself is too far.
    [(11, 30, 1), (12, 30, 0), (10, 32, 1), (10, 33, 0), (11, 32, 1), (8.6, 28, 1), (8, 30, 0)],
)
def test_distances_are_relative_to_each_axis(x: float, y: float, near: float) -> None:
    assert accuracy(heatmaps((x, y)), heatmaps((10, 30))) == near


def test_missing_keypoints_do_not_count() -> None:
    targets = heatmaps((10, 20), (-1, -1))
    assert accuracy(heatmaps((10, 20), (30, 30)), targets) == 1
    # Beyond the second column and row only, as in the official code.
    assert accuracy(heatmaps((10, 20), (30, 30)), heatmaps((10, 20), (1, 30))) == 1
    assert accuracy(targets, heatmaps((-1, -1), (-1, -1))) == 0


def test_the_mean_is_over_keypoints() -> None:
    targets = torch.cat([heatmaps((10, 20), (30, 40)), heatmaps((10, 20), (-1, -1))])
    found = torch.cat([heatmaps((10, 20), (5, 5)), heatmaps((30, 50), (5, 5))])
    # The first keypoint is right once of twice, the second never of once.
    assert accuracy(found, targets) == pytest.approx(0.25)


def test_negative_heatmaps_have_no_peak() -> None:
    targets = heatmaps((10, 20), (30, 40))
    assert accuracy(targets - 2, targets) == 0


def test_no_gradient_flows() -> None:
    found = heatmaps((10, 20)).requires_grad_()
    assert not accuracy(found, heatmaps((10, 20))).requires_grad


@pytest.fixture
def targets() -> list[torch.Tensor]:
    boxes = np.array([[8.0, 8.0, 24.0, 40.0], [40.0, 4.0, 16.0, 50.0]])
    return [torch.from_numpy(array)[None] for array in person_detector.encode(boxes, (64, 64))]


def test_perfect_maps_have_no_loss(targets: list[torch.Tensor]) -> None:
    heat, distances, weights = targets
    certain = torch.where(heat == 1, 20.0, -20.0)
    assert center_loss(certain, heat, torch.ones_like(heat)) < 1e-6
    assert box_loss(distances, distances, weights) < 1e-6


def test_missed_and_false_centers_have_a_loss(targets: list[torch.Tensor]) -> None:
    heat, _, _ = targets
    empty = torch.full_like(heat, -20.0)
    assert center_loss(empty, heat, torch.ones_like(heat)) == pytest.approx(20.0, rel=1e-3)
    false_center = torch.where(heat == 1, 20.0, -20.0)
    false_center[0, 15, 0] = 5.0
    loss = center_loss(false_center, heat, torch.ones_like(heat))
    counts = torch.ones_like(heat)
    counts[0, 15, 0] = 0
    assert loss > 1
    assert center_loss(false_center, heat, counts) < 1e-6


def test_generalized_iou_by_hand() -> None:
    # 2 x 2 inside 4 x 2 from the same cell: IoU 1/2, the hull is the larger one.
    found = torch.tensor([1.0, 1, 1, 1]).view(1, 4, 1, 1)
    true = torch.tensor([1.0, 1, 3, 1]).view(1, 4, 1, 1)
    assert box_loss(found, true, torch.ones(1, 1, 1)) == pytest.approx(0.5)


def test_an_empty_batch_has_no_box_loss() -> None:
    maps = torch.ones(1, 4, 8, 8)
    assert box_loss(maps, maps * 2, torch.zeros(1, 8, 8)) == 0


def test_the_gradient_leads_to_the_box(targets: list[torch.Tensor]) -> None:
    _, distances, weights = targets
    found = torch.full_like(distances, 10.0, requires_grad=True)
    before = box_loss(found, distances, weights)
    (gradient,) = torch.autograd.grad(before, found)
    assert box_loss(found - 50 * gradient, distances, weights) < before
