"""The loss against the numbers of the official code."""

import numpy as np
import pytest
import torch

import golden_rules
from hrpose.training.losses import ohkm, peak, weighted_mse


def golden_loss_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    arrays = golden_rules.arrays("pipeline")
    names = ("loss_output", "target_256x192_heatmaps", "target_256x192_weights")
    output, targets, weights = (torch.from_numpy(arrays[name][:3].copy()) for name in names)
    return output, targets, weights


def test_golden_loss() -> None:
    output, targets, weights = golden_loss_inputs()
    expected = golden_rules.facts("pipeline")["loss_mse"]
    assert float(weighted_mse(output, targets, weights)) == pytest.approx(expected, abs=1e-5)


def test_golden_loss_with_equal_weights() -> None:
    output, targets, weights = golden_loss_inputs()
    expected = golden_rules.facts("pipeline")["loss_mse_unweighted"]
    loss = weighted_mse(output, targets, torch.ones_like(weights))
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_golden_loss_of_hard_keypoints() -> None:
    expected = golden_rules.facts("pipeline")["loss_ohkm_top8"]
    assert float(ohkm(*golden_loss_inputs(), top=8)) == pytest.approx(expected, abs=1e-5)


def test_only_each_persons_worst_keypoints_learn() -> None:
    output, targets, weights = golden_loss_inputs()
    output.requires_grad_()
    ohkm(output, targets, weights, top=3).backward()
    assert output.grad is not None
    learns = output.grad.abs().sum(dim=(2, 3)) > 0
    assert learns.sum(dim=1).tolist() == [3, 3, 3]
    worst = ((output - targets) * weights[..., None, None]).square().mean(dim=(2, 3)).topk(3)
    assert learns.gather(1, worst.indices).all()


def test_all_keypoints_mined_are_the_plain_loss() -> None:
    output, targets, weights = golden_loss_inputs()
    torch.testing.assert_close(
        ohkm(output, targets, weights, top=17), weighted_mse(output, targets, weights)
    )


def test_an_unlabeled_keypoint_teaches_nothing() -> None:
    output, targets, weights = golden_loss_inputs()
    weights[:, 3] = 0
    output.requires_grad_()
    weighted_mse(output, targets, weights).backward()
    assert output.grad is not None
    assert not output.grad[:, 3].any()
    assert output.grad[:, 4].any()


def test_a_perfect_output_costs_nothing() -> None:
    _, targets, weights = golden_loss_inputs()
    assert weighted_mse(targets, targets, weights) == 0


def test_the_peak_loss_pulls_toward_the_keypoint_where_nothing_is_said_yet() -> None:
    _, targets, weights = golden_loss_inputs()
    silent = torch.zeros_like(targets, requires_grad=True)
    loss = peak(silent, targets, weights)
    loss.backward()
    # Nothing said: every cell is as likely as another.
    cells = targets[0, 0].numel()
    share = targets.sum(dim=(2, 3)).sign() * weights
    assert loss.item() == pytest.approx(float(np.log(cells) * share.mean()), rel=1e-5)
    assert silent.grad is not None
    for person, keypoint in share.nonzero().tolist():
        strongest = silent.grad[person, keypoint].argmin()
        assert targets[person, keypoint].flatten()[strongest] == targets[person, keypoint].max()


def test_the_peak_loss_falls_as_the_right_place_stands_out() -> None:
    _, targets, weights = golden_loss_inputs()
    losses = [float(peak(height * targets, targets, weights)) for height in (0.0, 0.5, 1.0)]
    assert losses == sorted(losses, reverse=True)
    assert float(peak(targets, targets, torch.zeros_like(weights))) == 0
