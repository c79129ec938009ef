"""The loss between heatmaps and their targets."""

from torch import Tensor


def weighted_mse(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Half the mean squared error, each keypoint's heatmap scaled by its weight first.

    `heatmaps` and `targets` (n, k, h, w), `weights` (n, k). As in the official code the weight is
    squared with the error, and an unlabelled keypoint (weight 0) still counts in the mean.
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
    pulls weakly on what it has not learnt yet; this pulls there most.
    """
    target = targets.flatten(2)
    log_share = (sharpness * heatmaps.flatten(2)).log_softmax(-1)
    share = target / target.sum(-1, keepdim=True).clamp_min(1e-6)
    return -((share * log_share).sum(-1) * weights).mean()
