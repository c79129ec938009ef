"""The loss between heatmaps and their targets."""

from torch import Tensor


def weighted_mse(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Half the mean squared error, each keypoint's heatmap scaled by its weight first.

    `heatmaps` and `targets` (n, k, h, w), `weights` (n, k). As in the official code the weight is
    squared with the error, and an unlabelled keypoint (weight 0) still counts in the mean.
    """
    difference = (heatmaps - targets) * weights[..., None, None]
    return 0.5 * difference.square().mean()
