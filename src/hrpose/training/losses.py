"""Losses of heatmaps and of a person detector's maps, and the accuracy that a training logs."""

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
    """Online hard keypoint mining: `weighted_mse` over the `top` worst keypoints of each person.

    Shapes as there; `top` is at most k. From Chen et al., "Cascaded Pyramid Network" (CVPR 2018);
    the official code has it for HRNet, the paper's results are without it.
    """
    difference = (heatmaps - targets) * weights[..., None, None]
    per_keypoint = 0.5 * difference.square().mean(dim=(-2, -1))
    return per_keypoint.topk(top, dim=-1).values.mean()


def peak(heatmaps: Tensor, targets: Tensor, weights: Tensor, sharpness: float = 10.0) -> Tensor:
    """Cross-entropy of each heatmap, as a distribution over its cells, and its target.

    Shapes as in `weighted_mse`. The distribution is the softmax of `sharpness` times the heatmap.
    The gradient of the squared error is small where a heatmap is flat; this one is greatest there,
    on keypoints that are not learned yet.
    """
    target = targets.flatten(2)
    log_share = (sharpness * heatmaps.flatten(2)).log_softmax(-1)
    share = target / target.sum(-1, keepdim=True).clamp_min(1e-6)
    return -((share * log_share).sum(-1) * weights).mean()


def center_loss(logits: Tensor, heat: Tensor, counts: Tensor) -> Tensor:
    """Penalty-reduced focal loss ("Objects as Points", equation 1: alpha 2, beta 4).

    `logits`, `heat` and `counts` (n, h, w); cells where `counts` is 0 are not background.
    """
    p = torch.sigmoid(logits)
    positive = (heat == 1).float()
    missed = (1 - p) ** 2 * F.softplus(-logits)
    false = (1 - heat) ** 4 * p**2 * F.softplus(logits)
    total = (positive * missed + (1 - positive) * counts * false).sum()
    return total / positive.sum().clamp(min=1)


def box_loss(predicted: Tensor, true: Tensor, weights: Tensor) -> Tensor:
    """1 - generalized IoU (Rezatofighi et al., CVPR 2019), averaged over persons.

    `predicted` and `true` are distances to the sides (n, 4, h, w) from the same cells; `weights`
    (n, h, w) sum to 1 over a person.
    """
    low, high = torch.minimum(predicted, true), torch.maximum(predicted, true)

    def area(d: Tensor) -> Tensor:
        return (d[:, 0] + d[:, 2]) * (d[:, 1] + d[:, 3])

    common = area(low)
    union = area(predicted) + area(true) - common
    hull = area(high)
    giou = common / union - (hull - union) / hull
    return ((1 - giou) * weights).sum() / weights.sum().clamp(min=1)


def accuracy(heatmaps: Tensor, targets: Tensor, threshold: float = 0.5) -> Tensor:
    """PCK on heatmaps: the share of peaks that are near the target's, averaged over keypoints.

    `heatmaps` and `targets` (n, k, h, w); returns a number in [0, 1]. Near means that the distance,
    with x in tenths of the width and y in tenths of the height, is below `threshold`. As in the
    official code, a keypoint counts where the target's peak is beyond the second column and row, a
    heatmap without a positive value has its peak at (0, 0), and keypoints that never count are left
    out of the mean. The official code divides x by the height and y by the width, by mistake, so
    the values differ a little for inputs that are not square.
    """
    height, width = heatmaps.shape[-2:]
    tenths = torch.tensor([width, height], device=heatmaps.device) / 10
    truth = _peaks(targets)
    near = ((_peaks(heatmaps) - truth) / tenths).norm(dim=-1) < threshold
    counts = (truth > 1).all(dim=-1)
    counted = counts.sum(dim=0)
    shares = (near & counts).sum(dim=0) / counted.clamp(min=1)
    mean: Tensor = shares.sum() / (counted > 0).sum().clamp(min=1)
    return mean


def _peaks(heatmaps: Tensor) -> Tensor:
    """(n, k, 2): the highest pixel (x, y) of each heatmap."""
    values, index = heatmaps.detach().flatten(-2).max(dim=-1)
    width = heatmaps.shape[-1]
    points = torch.stack([index % width, index // width], dim=-1)
    return points * (values > 0)[..., None]
