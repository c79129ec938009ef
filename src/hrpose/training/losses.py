"""The loss between heatmaps and their targets."""

import torch
from torch import Tensor
from torch.nn import functional as F


def weighted_mse(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Half the mean squared error, each keypoint's heatmap scaled by its weight first.

    `heatmaps` and `targets` (n, k, h, w), `weights` (n, k). As in the official code the weight is
    squared with the error, and an unlabeled keypoint (weight 0) still counts in the mean.
    """
    difference = (heatmaps - targets) * weights[..., None, None]
    return 0.5 * difference.square().mean()


def ohkm(heatmaps: Tensor, targets: Tensor, weights: Tensor, top: int = 8) -> Tensor:
    """Online hard keypoint mining: `weighted_mse` over each person's `top` worst keypoints alone.

    Shapes as there; `top` is at most k. From Chen et al., "Cascaded Pyramid Network" (CVPR 2018);
    the official code offers it for HRNet, the paper's results do without.
    """
    difference = (heatmaps - targets) * weights[..., None, None]
    per_keypoint = 0.5 * difference.square().mean(dim=(-2, -1))
    return per_keypoint.topk(top, dim=-1).values.mean()


def peak(heatmaps: Tensor, targets: Tensor, weights: Tensor, sharpness: float = 10.0) -> Tensor:
    """How surely each heatmap's highest place is the right one: a cross-entropy over its cells.

    Shapes as in `weighted_mse`. The softmax of `sharpness` times a heatmap is held against the
    target as a distribution. The squared error is small wherever the network says nothing, and so
    pulls weakly on what it has not learned yet; this pulls there most.
    """
    target = targets.flatten(2)
    log_share = (sharpness * heatmaps.flatten(2)).log_softmax(-1)
    share = target / target.sum(-1, keepdim=True).clamp_min(1e-6)
    return -((share * log_share).sum(-1) * weights).mean()


def center_loss(logits: Tensor, heat: Tensor, counts: Tensor) -> Tensor:
    """Penalty-reduced focal loss ("Objects as Points", equation 1: alpha 2, beta 4).

    `logits`, `heat` and `counts` (n, h, w); cells where `counts` is 0 are no background.
    """
    p = torch.sigmoid(logits)
    positive = (heat == 1).float()
    found = (1 - p) ** 2 * F.softplus(-logits)
    false = (1 - heat) ** 4 * p**2 * F.softplus(logits)
    total = (positive * found + (1 - positive) * counts * false).sum()
    return total / positive.sum().clamp(min=1)


def box_loss(found: Tensor, true: Tensor, weights: Tensor) -> Tensor:
    """1 - generalized IoU (Rezatofighi et al., CVPR 2019), averaged over people.

    `found` and `true` are distances to the sides (n, 4, h, w) from the same cells; `weights`
    (n, h, w) sum to 1 over a person.
    """
    low, high = torch.minimum(found, true), torch.maximum(found, true)

    def area(d: Tensor) -> Tensor:
        return (d[:, 0] + d[:, 2]) * (d[:, 1] + d[:, 3])

    common = area(low)
    union = area(found) + area(true) - common
    hull = area(high)
    giou = common / union - (hull - union) / hull
    return ((1 - giou) * weights).sum() / weights.sum().clamp(min=1)
