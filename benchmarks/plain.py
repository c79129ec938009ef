"""The plain way: one person, one keypoint, one pair at a time, written from its description."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]


def targets(points: Floats, wh: tuple[int, int], sigma: float) -> Floats:
    """(n, k, 2) heatmap pixels to (n, k, h, w): each Gaussian is pasted by itself."""
    width, height = wh
    reach = int(3 * sigma)
    patch = np.arange(-reach, reach + 1)
    gaussian = np.exp(-(patch[:, None] ** 2 + patch[None, :] ** 2) / (2 * sigma**2))
    out = np.zeros((*points.shape[:2], height, width), np.float32)
    for person in range(points.shape[0]):
        for joint in range(points.shape[1]):
            x, y = (int(v + 0.5) for v in points[person, joint])
            x0, x1 = max(0, x - reach), min(width, x + reach + 1)
            y0, y1 = max(0, y - reach), min(height, y + reach + 1)
            if x0 < x1 and y0 < y1:
                left, top = x0 - x + reach, y0 - y + reach
                window = gaussian[top : top + y1 - y0, left : left + x1 - x0]
                out[person, joint, y0:y1, x0:x1] = window
    return out


def decode(heatmaps: Floats) -> Floats:
    """(n, k, h, w) to (n, k, 2): the peak, a quarter pixel towards the higher neighbour."""
    n, k, height, width = heatmaps.shape
    points = np.zeros((n, k, 2), np.float32)
    for person in range(n):
        for joint in range(k):
            one = heatmaps[person, joint]
            y, x = divmod(int(one.argmax()), width)
            if one[y, x] <= 0:
                continue
            points[person, joint] = x, y
            if 1 < x < width - 1 and 1 < y < height - 1:
                points[person, joint, 0] += 0.25 * np.sign(one[y, x + 1] - one[y, x - 1])
                points[person, joint, 1] += 0.25 * np.sign(one[y + 1, x] - one[y - 1, x])
    return points


def oks_nms(
    keypoints: Floats, areas: Floats, scores: Floats, threshold: float, sigmas: Floats
) -> list[int]:
    """Greedy suppression, one pair of poses at a time."""
    variances = (2 * sigmas) ** 2
    order = list(np.argsort(scores)[::-1])
    kept = []
    while order:
        best = order.pop(0)
        kept.append(int(best))
        rest = []
        for other in order:
            difference = keypoints[other, :, :2] - keypoints[best, :, :2]
            area = (areas[best] + areas[other]) / 2 + np.spacing(1)
            similarity = np.exp(-(difference**2).sum(axis=1) / variances / area / 2).mean()
            if not math.isnan(similarity) and similarity <= threshold:
                rest.append(other)
        order = rest
    return kept
