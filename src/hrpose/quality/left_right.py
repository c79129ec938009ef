"""Left and right that changed places, found by comparison with what a model sees."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hrpose.data.images import ImageFiles
from hrpose.data.persons import group_by_image
from hrpose.errors import UserError
from hrpose.estimator import InputImage, PoseEstimator
from hrpose.quality.annotations import Labels
from hrpose.skeleton import Skeleton

# Keypoints that the model is less sure of say nothing, nor pairs nearer than this part of the size.
_LEAST_SCORE = 0.2
_APART = 0.1
# Beyond this part of the size one miss is like another.
_FARTHEST = 0.3
# Of all that swapping could win: 1 where the model's keypoints lie on the labels of the other side.
CLEARLY = 0.5


@dataclass(frozen=True, slots=True)
class Group:
    """Flip pairs (indices into the skeleton's) that may be swapped together; `whole`: all."""

    pairs: tuple[int, ...]
    whole: bool

    def permutation(self, skeleton: Skeleton) -> NDArray[np.int64]:
        """(k,): the keypoint that each becomes where this group is swapped."""
        order = np.arange(len(skeleton))
        for pair in self.pairs:
            left, right = skeleton.flip_pairs[pair]
            order[[left, right]] = right, left
        return order

    def keypoints(self, skeleton: Skeleton) -> list[int]:
        return [keypoint for pair in self.pairs for keypoint in skeleton.flip_pairs[pair]]


def groups(skeleton: Skeleton) -> list[Group]:
    """What gets swapped in practice: everybody's all, one pair, or all that hangs on one limb.

    Pairs and keypoints on their own are the nodes of a graph, limbs its edges. Where taking one
    edge away cuts the graph in two, the smaller part is a group: knees and ankles, arms, a face.
    """
    pairs = skeleton.flip_pairs
    if not pairs:
        return []
    node = {keypoint: number for number, pair in enumerate(pairs) for keypoint in pair}
    for keypoint in range(len(skeleton)):
        node.setdefault(keypoint, len(pairs) + keypoint)
    edges = {frozenset((node[a], node[b])) for a, b in skeleton.limbs}
    edges = {edge for edge in edges if len(edge) == 2}
    every = frozenset(range(len(pairs)))
    parts = {frozenset([pair]) for pair in every}
    for edge in edges:
        start, end = edge
        near = _reachable(start, edges - {edge})
        if end not in near:
            parts.add(min(every & near, every - near, key=lambda part: (len(part), sorted(part))))
    parts -= {frozenset(), every}
    whole = Group(tuple(sorted(every)), whole=True)
    return [whole, *(Group(tuple(p), False) for p in sorted(map(sorted, parts)))]


def _reachable(start: int, edges: Iterable[frozenset[int]]) -> set[int]:
    neighbors: dict[int, set[int]] = {}
    for a, b in edges:
        neighbors.setdefault(a, set()).add(b)
        neighbors.setdefault(b, set()).add(a)
    found, waiting = {start}, [start]
    while waiting:
        more = neighbors.get(waiting.pop(), set()) - found
        found |= more
        waiting += more
    return found


def evidence(
    poses: NDArray[np.float64],
    keypoints: NDArray[np.float64],
    sizes: NDArray[np.float64],
    skeleton: Skeleton,
    known: list[Group],
) -> NDArray[np.float64]:
    """(n, g) in [-1, 1]: how far each group's labels fit the model's keypoints better when swapped.

    `poses` and `keypoints` (n, k, 3), `sizes` (n,) in pixels. 0 where the model says nothing: of
    the keypoints too few are sure or far from their twin. A group of all pairs needs three of them.
    """
    result = np.zeros((len(poses), len(known)))
    if not len(known):
        return result
    sure = np.nan_to_num(poses[..., 2]) >= _LEAST_SCORE
    labeled = keypoints[..., 2] > 0
    own = _distances(poses, keypoints, sizes)
    twin = skeleton.flip_permutation
    other = _distances(poses, keypoints[:, twin], sizes)
    apart = _distances(keypoints, keypoints[:, twin], sizes)
    told = sure & labeled & labeled[:, twin] & (apart > _APART)
    weight = np.where(told, np.nan_to_num(poses[..., 2]), 0)
    gain = weight * np.where(told, own - other, 0)
    most = weight * np.minimum(apart, _FARTHEST)
    for column, group in enumerate(known):
        columns = group.keypoints(skeleton)
        enough = told[:, columns].sum(axis=1) >= (6 if group.whole and len(columns) > 4 else 1)
        share = gain[:, columns].sum(axis=1) / np.maximum(most[:, columns].sum(axis=1), 1e-9)
        result[:, column] = np.where(enough, share, 0)
    return result


def _distances(
    a: NDArray[np.float64], b: NDArray[np.float64], sizes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, k): as parts of the size, at most `_FARTHEST`."""
    lengths = np.linalg.norm(a[..., :2] - b[..., :2], axis=-1) / sizes[:, None]
    result: NDArray[np.float64] = np.minimum(np.nan_to_num(lengths, nan=_FARTHEST), _FARTHEST)
    return result


def swapped(known: list[Group], seen: NDArray[np.float64]) -> Iterator[tuple[int, int, float]]:
    """(person, group, evidence in [0, 1]) where the model finds a group swapped.

    `seen` (n, g) is the `evidence` of the groups `known`. Of several groups of a person it is the
    one with the most pairs that agree.
    """
    pairs = np.array([len(group.pairs) for group in known])
    agreed = np.where(seen > CLEARLY, seen * pairs, 0)
    for person in np.flatnonzero(agreed.any(axis=1)).tolist():
        group = int(np.argmax(agreed[person]))
        yield person, group, float(seen[person, group])


Progress = Callable[[int, int], None]


def check_keypoints(estimator: PoseEstimator, labels: Labels) -> None:
    """Raises UserError where the model finds other keypoints than are labeled."""
    found = estimator.metadata.skeleton.keypoints
    if labels.names != found:
        raise UserError(
            f"--weights: expected the keypoints of the annotations ({', '.join(labels.names)}), "
            f"found {', '.join(found)}"
        )


def usable(labels: Labels) -> NDArray[np.bool_]:
    """(n,): people whose box is inside their image, at least in part."""
    size = labels.image_wh[labels.image_index]
    low, high = labels.boxes[:, :2], labels.boxes[:, :2] + labels.boxes[:, 2:]
    right = (labels.boxes[:, 2:] > 0) & (low < size) & (high > 0)
    inside: NDArray[np.bool_] = np.all(right, axis=1)
    return inside


def predicted(
    estimator: PoseEstimator,
    labels: Labels,
    source: ImageFiles,
    persons: NDArray[np.int64],
    progress: Progress,
) -> NDArray[np.float64]:
    """(n, k, 3): the pose that the model sees in each of the boxes `persons`, NaN for the others
    and for those whose image cannot be read.
    """
    poses = np.full((len(labels), len(labels.names), 3), np.nan)
    persons = persons[usable(labels)[persons]]
    owners = [persons[own] for own in group_by_image(labels.image_index[persons]).values()]

    def images() -> Iterator[InputImage]:
        for done, own in enumerate(owners, start=1):
            progress(done, len(owners))
            try:
                image = source.read(labels.file_names[int(labels.image_index[own[0]])])
                item = InputImage.of(image, labels.boxes[own])
            except UserError:
                continue
            yield replace(item, key=own)

    for item, found in estimator.stream(images()):
        poses[item.key] = found.keypoints
    return poses
