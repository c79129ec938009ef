"""`hrpose data rank`: which pictures to label next, and which labels to look at again.

What a label would teach is judged by what the model says of a person it has no label for: how far
its joints move when the picture is mirrored or the box shifted, and how spread its heatmaps are.
Both are ranked over all people, and their mean rank is the gain. A label is doubtful where the
model, being sure, sees the joint elsewhere.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.data.images import PictureSource
from hrpose.data.persons import group_by_image
from hrpose.errors import UserError
from hrpose.estimator import Picture, PoseEstimator
from hrpose.geometry import transform, warp
from hrpose.quality.annotations import Labels
from hrpose.quality.left_right import usable

Progress = Callable[[int, int], None]
# Of the box's width and height: where the shifted views look.
SHIFTS = ((0.0, 0.0), (0.06, 0.03), (-0.06, 0.03), (0.0, -0.06))
# A label is doubtful from this distance on, as a part of the root of the box's area.
DOUBTFUL = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """What a model says of n people over several views: `points` (n, k, 2), the mean place in the
    picture, `scores` (n, k), `disagreement` (n,), the mean distance from it by the box's size, and
    `entropy` (n,), the mean of the heatmaps', 0 for a peak and 1 for a flat one.
    """

    points: NDArray[np.float64]
    scores: NDArray[np.float64]
    disagreement: NDArray[np.float64]
    entropy: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """A picture without labels: the mean `gain` in [0, 1] of its `people`, and what it is from."""

    file: str
    gain: float
    people: int
    disagreement: float
    entropy: float


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A label that is `off` from where the model sees the joint, by the root of the box's area,
    with the model's `score`; `doubt` is the one times the other.
    """

    file: str
    annotation: int
    joint: str
    off: float
    score: float
    doubt: float
    nearer_twin: bool


@dataclass(frozen=True, slots=True)
class Ranking:
    """Pictures to label, the most telling first; labels to look at, the most doubtful first."""

    unlabelled: Sequence[Unlabelled]
    doubtful: Sequence[Doubtful]
    unread: Sequence[str] = field(default=())


def look(estimator: PoseEstimator, picture: Picture) -> Views:
    """Look at each of the picture's people several times, and at the mirror image of each."""
    passport = estimator.passport
    n, k = len(picture.boxes), len(passport.skeleton)
    sizes = np.sqrt(picture.boxes[:, 2:].prod(axis=1))
    places, heights, entropies = [], [], []
    for shift in SHIFTS:
        boxes = picture.boxes.copy()
        boxes[:, :2] += np.array(shift) * boxes[:, 2:]
        crops = [passport.crop(box) for box in boxes]
        images = np.stack([warp(picture.image, crop) for crop in crops])
        inverse = np.stack([crop.inverse_matrix for crop in crops])
        for heatmaps in _both_ways(estimator, images):
            points, peaks = estimator.decode(heatmaps)
            places.append(transform(points, inverse))
            heights.append(passport.joint_scores(peaks).astype(np.float64))
            entropies.append(_entropy(heatmaps))
    every, weights = np.stack(places), np.stack(heights)
    # A view that sees nothing says nothing about the place.
    weights = np.maximum(weights, 1e-3)[..., None]
    mean = (every * weights).sum(axis=0) / weights.sum(axis=0)
    spread = np.linalg.norm(every - mean, axis=-1).mean(axis=0) / sizes[:, None]
    return Views(
        mean.reshape(n, k, 2),
        np.stack(heights).mean(axis=0),
        np.minimum(spread, 1).mean(axis=1),
        np.stack(entropies).mean(axis=(0, 2)),
    )


def _both_ways(
    estimator: PoseEstimator, images: NDArray[np.uint8]
) -> Iterator[NDArray[np.float32]]:
    """The heatmaps of crops (n, h, w, 3), and those of their mirror images, mirrored back."""
    passport = estimator.passport
    one_way = PoseEstimator(estimator.session, batch_size=estimator.batch_size)
    yield one_way.heatmaps(images)
    mirrored = one_way.heatmaps(images[:, :, ::-1])
    yield passport.codec.flip_back(mirrored, passport.skeleton.flip_permutation)


def _entropy(heatmaps: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, k) in [0, 1]."""
    mass = np.maximum(heatmaps.reshape(*heatmaps.shape[:2], -1).astype(np.float64), 0) + 1e-6
    share = mass / mass.sum(axis=-1, keepdims=True)
    result: NDArray[np.float64] = -(share * np.log(share)).sum(axis=-1) / np.log(share.shape[-1])
    return result


def gains(disagreement: ArrayLike, entropy: ArrayLike) -> NDArray[np.float64]:
    """(n,) in [0, 1]: the mean of both ranks."""
    ranks = [_ranks(np.asarray(values, np.float64)) for values in (disagreement, entropy)]
    result: NDArray[np.float64] = np.mean(ranks, axis=0)
    return result


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of the others that are less, equal ones at their middle."""
    if len(values) < 2:
        return np.full(len(values), 0.5)
    ordered = np.sort(values)
    low, high = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    result: NDArray[np.float64] = (low + high - 1) / 2 / (len(values) - 1)
    return result


def rank(
    estimator: PoseEstimator,
    source: PictureSource,
    names: Sequence[str],
    labels: Labels | None,
    progress: Progress = lambda done, total: None,
) -> Ranking:
    """Look at the pictures `names`, and at those of `labels`.

    A picture with labelled joints is searched for doubtful ones. Every other one is ranked: with
    the boxes that `labels` has for it, else with those that the estimator's detector finds.
    """
    people = _by_picture(labels)
    known = {} if labels is None else {name: i for i, name in enumerate(labels.file_names)}
    every = [*known, *(name for name in names if name not in known)]
    seen: list[tuple[str, Views]] = []
    doubtful: list[Doubtful] = []
    unread: list[str] = []
    for done, name in enumerate(every, start=1):
        own = people.get(known.get(name, -1), np.zeros(0, np.int64))
        with_joints = own if labels is None else own[labels.labelled[own].any(axis=1)]
        try:
            image = source.read(name)
            if labels is not None and len(with_joints):
                views = look(estimator, Picture.of(image, labels.boxes[with_joints]))
                doubtful += _doubts(labels, with_joints, views, name)
            else:
                boxes = None if labels is None or not len(own) else labels.boxes[own]
                picture = estimator.picture(image, boxes)
                if len(picture.boxes):
                    seen.append((name, look(estimator, picture)))
        except UserError as error:
            unread.append(str(error))
        progress(done, len(every))
    return Ranking(_ranked(seen), sorted(doubtful, key=lambda each: -each.doubt), unread)


def _by_picture(labels: Labels | None) -> dict[int, NDArray[np.int64]]:
    if labels is None:
        return {}
    can = np.flatnonzero(usable(labels))
    return {image: can[own] for image, own in group_by_image(labels.image_index[can]).items()}


def _ranked(seen: Sequence[tuple[str, Views]]) -> list[Unlabelled]:
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
        rows.append(Unlabelled(name, means[0], len(own), means[1], means[2]))
    return sorted(rows, key=lambda row: -row.gain)


def _doubts(
    labels: Labels, people: NDArray[np.int64], views: Views, name: str
) -> Iterator[Doubtful]:
    assert labels.skeleton is not None
    points, twin = labels.keypoints[people, :, :2], labels.skeleton.flip_permutation
    sizes = np.sqrt(labels.boxes[people, 2:].prod(axis=1))[:, None]
    off = np.linalg.norm(points - views.points, axis=-1) / sizes
    other = np.linalg.norm(points[:, twin] - views.points, axis=-1) / sizes
    doubt = np.minimum(off, 1) * views.scores
    for row, joint in np.argwhere(labels.labelled[people] & (off >= DOUBTFUL)).tolist():
        there = labels.labelled[people[row], twin[joint]] and twin[joint] != joint
        yield Doubtful(
            name,
            int(labels.annotation_ids[people[row]]),
            labels.names[joint],
            float(off[row, joint]),
            float(views.scores[row, joint]),
            float(doubt[row, joint]),
            bool(there and other[row, joint] < 0.5 * off[row, joint]),
        )


def as_dict(ranking: Ranking) -> dict[str, Any]:
    """For JSON."""
    return {
        "unlabelled": [_plain(row) for row in ranking.unlabelled],
        "doubtful": [_plain(row) for row in ranking.doubtful],
        "unread": list(ranking.unread),
    }


def _plain(row: Unlabelled | Doubtful) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in row.__slots__}
    return {name: round(v, 4) if isinstance(v, float) else v for name, v in values.items()}
