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
