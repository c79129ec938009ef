"""The finder's loss: focal loss for centres, generalised IoU for boxes."""

import torch
from torch import Tensor
from torch.nn import functional as F


def centre_loss(logits: Tensor, heat: Tensor, counts: Tensor) -> Tensor:
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
    """1 - generalised IoU (Rezatofighi et al., CVPR 2019), averaged over people.

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
