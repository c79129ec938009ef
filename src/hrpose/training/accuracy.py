"""How many joints are found, judged by heatmaps alone: a figure to watch while training."""

import torch
from torch import Tensor


def accuracy(heatmaps: Tensor, targets: Tensor, threshold: float = 0.5) -> Tensor:
    """PCK on heatmaps: the share of joints whose peak is near the target's, the mean over joints.

    `heatmaps` and `targets` (n, k, h, w); returns a number in [0, 1]. Near means that the distance,
    with x in tenths of the width and y in tenths of the height, is below `threshold`. As in the
    official code a joint counts where the target's peak is beyond the second column and row, a
    heatmap without anything above 0 has its peak at (0, 0), and joints that count nowhere are left
    out of the mean. The official code divides x by the height and y by the width, by mistake; here
    each has its own, so figures differ a little for inputs that are not square.
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
