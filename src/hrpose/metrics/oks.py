"""Object keypoint similarity, and the suppression of poses that repeat a better one.

OKS is COCO's (cocodataset.org, "keypoints evaluation"): for keypoints at distance d, on a person of
area s^2 in square pixels, the mean over the keypoints of exp(-d^2 / (2 s^2 (2 sigma)^2)).
Keypoints are (n, k, 3): x, y in pixels and a score or visibility; only `oks` looks at the third.

Convention of `oks`: the truth's area and the truth's labeled keypoints count. Convention of the
suppression (HRNet's official code): between two predictions every keypoint counts, and the area is
the mean of both.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.data.persons import group_by_image
from hrpose.skeletons import COCO_17

# Pairs of poses compared at once: few enough for the processor's cache. No effect on the result.
_BLOCK = 4096
_EPSILON = float(np.spacing(1))


def oks(
    predicted: ArrayLike,
    truth: ArrayLike,
    truth_areas: ArrayLike,
    sigmas: ArrayLike = COCO_17.sigmas,
) -> NDArray[np.float64]:
    """(n, m) similarity in [0, 1] of n predicted poses to m labeled persons.

    `predicted` (n, k, 2 or 3); `truth` (m, k, 3) with visibility, above 0 where labeled;
    `truth_areas` (m,) in square pixels. To a person without a labeled keypoint it is 0.
    """
    persons, areas = np.asarray(truth, np.float64), np.asarray(truth_areas, np.float64)
    found, wanted = _in_sigmas(predicted, sigmas), _in_sigmas(truth, sigmas)
    if areas.shape != (len(persons),) or persons.shape[2] != 3:
        raise ValueError(
            "oks: expected truth (m, k, 3) and truth_areas (m,), "
            f"found {persons.shape} and {areas.shape}"
        )
    labeled = (persons[:, :, 2] > 0).astype(np.float64)
    weights = labeled / np.maximum(labeled.sum(axis=1, keepdims=True), 1)
    distances = np.square(found[:, :, :, None] - wanted[:, :, None, :]).sum(axis=0)
    result: NDArray[np.float64] = np.einsum(
        "knm,mk->nm", np.exp(-distances / (areas + _EPSILON)), weights
    )
    return result


def keypoint_similarities(
    predicted: ArrayLike,
    truth: ArrayLike,
    truth_areas: ArrayLike,
    sigmas: ArrayLike = COCO_17.sigmas,
) -> NDArray[np.float64]:
    """(n, k) in [0, 1]: each keypoint's term of the OKS, pose by pose of n pairs.

    Shapes as in `oks`, with m = n; all keypoints count, labeled or not.
    """
    found, wanted = _in_sigmas(predicted, sigmas), _in_sigmas(truth, sigmas)
    areas = np.asarray(truth_areas, np.float64)
    distances = np.square(found - wanted).sum(axis=0)
    result: NDArray[np.float64] = np.exp(-distances / (areas + _EPSILON)).T
    return result


def oks_nms(
    keypoints: ArrayLike,
    areas: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    sigmas: ArrayLike = COCO_17.sigmas,
) -> NDArray[np.int64]:
    """Indices of the poses of one image that are kept, the best score first.

    `keypoints` (n, k, 3), `areas` (n,) in square pixels, `scores` (n,). A pose is suppressed where
    its OKS to a better one that is kept is above `threshold` (the paper's evaluation: 0.9). Of
    equal scores the later one counts as better, as in the official code.
    """
    one_image = np.zeros(len(np.asarray(scores)), np.int64)
    return oks_nms_per_image(one_image, keypoints, areas, scores, threshold, sigmas)


def oks_nms_per_image(
    image_ids: ArrayLike,
    keypoints: ArrayLike,
    areas: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    sigmas: ArrayLike = COCO_17.sigmas,
) -> NDArray[np.int64]:
    """`oks_nms` in each image of a set of results, for all images at once.

    `image_ids` (n,) is the image of each pose; the rest as in `oks_nms`. Returns the indices that
    are kept, by ascending image id, the best first in each.
    """
    points, sizes, ranks = _checked(keypoints, areas, scores, sigmas)
    ids = np.asarray(image_ids)
    if ids.shape != ranks.shape:
        raise ValueError(f"image_ids: expected shape {ranks.shape}, found {ids.shape}")
    order = np.lexsort((-np.arange(len(ids)), -ranks, ids))
    ids = ids[order]
    last = np.flatnonzero(np.append(ids[1:] != ids[:-1], True)[: len(ids)]) + 1
    stops = np.repeat(last, np.diff(last, prepend=0))
    stays = np.ones(len(ids), np.bool_)
    for better, worse, similar in _pairs(points.take(order, axis=2), sizes[order], stops):
        above = similar > threshold
        # Better poses come first, so whether one is kept is known before it suppresses others.
        for i, j in zip(better[above].tolist(), worse[above].tolist(), strict=True):
            if stays[i]:
                stays[j] = False
    return order[stays]


def soft_oks_nms(
    keypoints: ArrayLike,
    areas: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    sigmas: ArrayLike = COCO_17.sigmas,
    max_kept: int = 20,
) -> NDArray[np.int64]:
    """Indices of at most `max_kept` poses of one image, in the order in which they are kept.

    Arguments as in `oks_nms`. Similar poses are not dropped: each pose that is kept multiplies the
    scores of the rest by exp(-OKS^2 / threshold), and the best of those is next.
    """
    points, sizes, ranks = _checked(keypoints, areas, scores, sigmas)
    penalty = np.ones((len(ranks), len(ranks)))
    for i, j, similar in _pairs(points, sizes, np.full(len(ranks), len(ranks))):
        penalty[i, j] = penalty[j, i] = np.exp(-np.square(similar) / threshold)
    left = ranks.argsort()[::-1]
    left_scores = ranks[left]
    kept: list[int] = []
    while len(left) and len(kept) < max_kept:
        best, left = left[0], left[1:]
        kept.append(int(best))
        left_scores = left_scores[1:] * penalty[best, left]
        again = left_scores.argsort()[::-1]
        left, left_scores = left[again], left_scores[again]
    return np.array(kept, np.int64)


def soft_oks_nms_per_image(
    image_ids: ArrayLike,
    keypoints: ArrayLike,
    areas: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    sigmas: ArrayLike = COCO_17.sigmas,
    max_kept: int = 20,
) -> NDArray[np.int64]:
    """`soft_oks_nms` in each image of a set; arguments and order as in `oks_nms_per_image`."""
    poses = np.asarray(keypoints, np.float64)
    sizes, ranks = np.asarray(areas, np.float64), np.asarray(scores, np.float64)
    ids = np.asarray(image_ids)
    if not len(ids) == len(poses) == len(sizes) == len(ranks):
        found = [len(values) for values in (ids, poses, sizes, ranks)]
        raise ValueError(f"expected as many ids as keypoints, areas and scores, found {found}")
    kept = [
        own[soft_oks_nms(poses[own], sizes[own], ranks[own], threshold, sigmas, max_kept)]
        for own in group_by_image(ids).values()
    ]
    return np.concatenate([np.zeros(0, np.int64), *kept])


def _pairs(
    points: NDArray[np.float64], areas: NDArray[np.float64], stops: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Blocks of (i, j, their OKS) for every pose i and every later j below stops[i], in order.

    `points` (2, k, n) as from `_in_sigmas`.
    """
    keypoints, n = points.shape[1:]
    counts = stops - np.arange(n) - 1
    total = np.cumsum(counts)
    cuts = np.flatnonzero(np.diff(total // _BLOCK)) + 1 if n else total
    for start, stop in pairwise([0, *cuts.tolist(), n]):
        own = counts[start:stop]
        i = np.repeat(np.arange(start, stop), own)
        # Within each i's run of pairs, j counts up from i + 1.
        j = i + 1 + np.arange(len(i)) - np.repeat(np.cumsum(own) - own, own)
        # In place: fresh memory would cost more than the arithmetic.
        across = points.take(i, axis=2)
        across -= points.take(j, axis=2)
        across *= across
        exponent = across.sum(axis=0)
        exponent /= -(areas[i] + areas[j]) / 2 - _EPSILON
        yield i, j, np.exp(exponent, out=exponent).sum(axis=0) / keypoints


def _in_sigmas(keypoints: ArrayLike, sigmas: ArrayLike) -> NDArray[np.float64]:
    """Points (2, k, n), scaled so that the exponent of OKS is -distance^2 / area."""
    poses, constants = np.asarray(keypoints, np.float64), np.asarray(sigmas, np.float64)
    if poses.ndim != 3 or poses.shape[1] != len(constants) or poses.shape[2] not in (2, 3):
        raise ValueError(
            f"keypoints: expected shape (n, {len(constants)}, 3), one keypoint for each sigma, "
            f"found {poses.shape}"
        )
    scaled = poses[:, :, :2] / (np.sqrt(8) * constants[:, None])
    # Poses last, so that sums over the keypoints run along contiguous rows.
    return np.ascontiguousarray(scaled.transpose(2, 1, 0))


def _checked(
    keypoints: ArrayLike, areas: ArrayLike, scores: ArrayLike, sigmas: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    points = _in_sigmas(keypoints, sigmas)
    sizes, ranks = np.asarray(areas, np.float64), np.asarray(scores, np.float64)
    n = points.shape[2]
    if not sizes.shape == ranks.shape == (n,):
        raise ValueError(
            f"areas and scores: expected shape ({n},), found {sizes.shape} and {ranks.shape}"
        )
    return points, sizes, ranks
