"""`hrpose data rank`: which images to label next, and which labels to review.

The gain of labeling a person is estimated from the model's predictions: how far the keypoints move
when the image is mirrored or the box shifted, and how spread out the heatmaps are. Persons are
ranked by both, and their mean rank is the gain. A label is doubtful where the model, with a high
score, predicts the keypoint elsewhere.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.data.images import ImageFiles
from hrpose.data.persons import group_by_image
from hrpose.errors import UserError
from hrpose.estimator import InputImage, PoseEstimator
from hrpose.geometry import transform, warp
from hrpose.quality.labels import Labels

Progress = Callable[[int, int], None]
# How the boxes of the views are shifted, relative to their width and height.
SHIFTS = ((0.0, 0.0), (0.06, 0.03), (-0.06, 0.03), (0.0, -0.06))
# A label is doubtful from this distance on, relative to the square root of the box's area.
MIN_DISTANCE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """Predictions for n persons over several views: `points` (n, k, 2), the mean position in the
    image, `scores` (n, k), `disagreement` (n,), the mean distance from it relative to the box's
    size, and `entropy` (n,), the mean over the heatmaps, 0 for a peak and 1 for a flat one.
    """

    points: NDArray[np.float64]
    scores: NDArray[np.float64]
    disagreement: NDArray[np.float64]
    entropy: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Unlabeled:
    """An image without labels: the mean `gain` in [0, 1] of its `persons`, and its components."""

    file: str
    gain: float
    persons: int
    disagreement: float
    entropy: float


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A label at the distance `off` from the prediction, relative to the square root of the box's
    area; `doubt` is the distance times the prediction's `score`.
    """

    file: str
    annotation: int
    keypoint: str
    off: float
    score: float
    doubt: float
    nearer_twin: bool


@dataclass(frozen=True, slots=True)
class Ranking:
    """Images to label, the largest gain first; labels to review, the most doubtful first."""

    unlabeled: Sequence[Unlabeled]
    doubtful: Sequence[Doubtful]
    unread: Sequence[str] = field(default=())


def predict_views(estimator: PoseEstimator, image: InputImage) -> Views:
    """Predict each of the image's persons in several views, and in the mirror image of each."""
    metadata = estimator.metadata
    n, k = len(image.boxes), len(metadata.skeleton)
    sizes = np.sqrt(image.boxes[:, 2:].prod(axis=1))
    positions, scores, entropies = [], [], []
    for shift in SHIFTS:
        boxes = image.boxes.copy()
        boxes[:, :2] += np.array(shift) * boxes[:, 2:]
        crops = [metadata.crop(box) for box in boxes]
        images = np.stack([warp(image.pixels, crop) for crop in crops])
        inverse = np.stack([crop.inverse_matrix for crop in crops])
        for heatmaps in _both_ways(estimator, images):
            decoded, peaks = estimator.decode(heatmaps)
            positions.append(transform(decoded, inverse))
            scores.append(metadata.keypoint_scores(peaks).astype(np.float64))
            entropies.append(_entropy(heatmaps))
    points, weights = np.stack(positions), np.stack(scores)
    # Views without a peak have no weight.
    weights = np.maximum(weights, 1e-3)[..., None]
    mean = (points * weights).sum(axis=0) / weights.sum(axis=0)
    spread = np.linalg.norm(points - mean, axis=-1).mean(axis=0) / sizes[:, None]
    return Views(
        mean.reshape(n, k, 2),
        np.stack(scores).mean(axis=0),
        np.minimum(spread, 1).mean(axis=1),
        np.stack(entropies).mean(axis=(0, 2)),
    )


def _both_ways(
    estimator: PoseEstimator, images: NDArray[np.uint8]
) -> Iterator[NDArray[np.float32]]:
    """The heatmaps of crops (n, h, w, 3), and those of their mirror images, flipped back."""
    metadata = estimator.metadata
    one_way = PoseEstimator(estimator.session, batch_size=estimator.batch_size)
    yield one_way.heatmaps(images)
    mirrored = one_way.heatmaps(images[:, :, ::-1])
    yield metadata.codec.flip_back(mirrored, metadata.skeleton.flip_permutation)


def _entropy(heatmaps: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, k) in [0, 1]."""
    mass = np.maximum(heatmaps.reshape(*heatmaps.shape[:2], -1).astype(np.float64), 0) + 1e-6
    share = mass / mass.sum(axis=-1, keepdims=True)
    result: NDArray[np.float64] = -(share * np.log(share)).sum(axis=-1) / np.log(share.shape[-1])
    return result


def gains(disagreement: ArrayLike, entropy: ArrayLike) -> NDArray[np.float64]:
    """(n,) in [0, 1]: the mean of the ranks by disagreement and by entropy."""
    ranks = [_ranks(np.asarray(values, np.float64)) for values in (disagreement, entropy)]
    result: NDArray[np.float64] = np.mean(ranks, axis=0)
    return result


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,): the share of the others that are less; equal values share their mean rank."""
    if len(values) < 2:
        return np.full(len(values), 0.5)
    ordered = np.sort(values)
    low, high = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    result: NDArray[np.float64] = (low + high - 1) / 2 / (len(values) - 1)
    return result


def rank(
    estimator: PoseEstimator,
    source: ImageFiles,
    names: Sequence[str],
    labels: Labels | None,
    progress: Progress = lambda done, total: None,
) -> Ranking:
    """Rank the images `names` and those of `labels`.

    Images with labeled keypoints are searched for doubtful ones. All others are ranked: with their
    boxes in `labels`, else with those of the estimator's detector.
    """
    persons = _by_image(labels)
    known = {} if labels is None else {name: i for i, name in enumerate(labels.file_names)}
    every = [*known, *(name for name in names if name not in known)]
    seen: list[tuple[str, Views]] = []
    doubtful: list[Doubtful] = []
    unread: list[str] = []
    for done, name in enumerate(every, start=1):
        own = persons.get(known.get(name, -1), np.zeros(0, np.int64))
        with_keypoints = own if labels is None else own[labels.labeled[own].any(axis=1)]
        try:
            image = source.read(name)
            if labels is not None and len(with_keypoints):
                views = predict_views(estimator, InputImage.of(image, labels.boxes[with_keypoints]))
                doubtful += _doubts(labels, with_keypoints, views, name)
            else:
                boxes = None if labels is None or not len(own) else labels.boxes[own]
                item = estimator.image(image, boxes)
                if len(item.boxes):
                    seen.append((name, predict_views(estimator, item)))
        except UserError as error:
            unread.append(str(error))
        progress(done, len(every))
    return Ranking(_ranked(seen), sorted(doubtful, key=lambda each: -each.doubt), unread)


def _by_image(labels: Labels | None) -> dict[int, NDArray[np.int64]]:
    if labels is None:
        return {}
    usable = np.flatnonzero(labels.usable)
    return {image: usable[own] for image, own in group_by_image(labels.image_index[usable]).items()}


def _ranked(seen: Sequence[tuple[str, Views]]) -> list[Unlabeled]:
    if not seen:
        return []
    counts = [len(views.entropy) for _, views in seen]
    gain = gains(
        np.concatenate([views.disagreement for _, views in seen]),
        np.concatenate([views.entropy for _, views in seen]),
    )
    rows = []
    for (name, views), own in zip(seen, np.split(gain, np.cumsum(counts)[:-1]), strict=True):
        means = (float(own.mean()), float(views.disagreement.mean()), float(views.entropy.mean()))
        rows.append(Unlabeled(name, means[0], len(own), means[1], means[2]))
    return sorted(rows, key=lambda row: -row.gain)


def _doubts(
    labels: Labels, persons: NDArray[np.int64], views: Views, name: str
) -> Iterator[Doubtful]:
    assert labels.skeleton is not None
    points, twin = labels.keypoints[persons, :, :2], labels.skeleton.flip_permutation
    sizes = np.sqrt(labels.boxes[persons, 2:].prod(axis=1))[:, None]
    off = np.linalg.norm(points - views.points, axis=-1) / sizes
    other = np.linalg.norm(points[:, twin] - views.points, axis=-1) / sizes
    doubt = np.minimum(off, 1) * views.scores
    for row, keypoint in np.argwhere(labels.labeled[persons] & (off >= MIN_DISTANCE)).tolist():
        there = labels.labeled[persons[row], twin[keypoint]] and twin[keypoint] != keypoint
        yield Doubtful(
            name,
            int(labels.annotation_ids[persons[row]]),
            labels.names[keypoint],
            float(off[row, keypoint]),
            float(views.scores[row, keypoint]),
            float(doubt[row, keypoint]),
            bool(there and other[row, keypoint] < 0.5 * off[row, keypoint]),
        )


def as_dict(ranking: Ranking) -> dict[str, Any]:
    """The ranking for JSON."""

    def rounded(row: Unlabeled | Doubtful) -> dict[str, Any]:
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(row).items()}

    return {
        "unlabeled": list(map(rounded, ranking.unlabeled)),
        "doubtful": list(map(rounded, ranking.doubtful)),
        "unread": list(ranking.unread),
    }
