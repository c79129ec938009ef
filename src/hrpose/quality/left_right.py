"""Swapped left and right keypoints, found by comparison with a model's predictions."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hrpose.data.images import ImageFiles
from hrpose.data.persons import group_by_image
from hrpose.errors import UserError
from hrpose.estimator import InputImage, PoseEstimator
from hrpose.quality.labels import Finding, Labels
from hrpose.skeleton import Skeleton

# Keypoints with a lower score are ignored, and so are pairs that are closer, relative to the size.
_MIN_SCORE = 0.2
_MIN_DISTANCE = 0.1
# Longer distances, relative to the size, count like this one.
_MAX_DISTANCE = 0.3
# From this evidence on a group counts as swapped. It is relative to the most that swapping could
# gain: 1 where the predicted keypoints are on the labels of the other side.
MIN_EVIDENCE = 0.5

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Group:
    """Flip pairs (indices into the skeleton's) that may be swapped together; `all`: every pair."""

    pairs: tuple[int, ...]
    all: bool

    def keypoints(self, skeleton: Skeleton) -> list[int]:
        """The indices of the keypoints, pair by pair, left first."""
        return [keypoint for pair in self.pairs for keypoint in skeleton.flip_pairs[pair]]


def groups(skeleton: Skeleton) -> list[Group]:
    """The groups swapped in practice: all pairs, one pair, or all pairs beyond one limb.

    Pairs and unpaired keypoints are the nodes of a graph, limbs its edges. Where removing an edge
    splits the graph, the smaller part is a group: knees and ankles, arms, a face.
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
    return [
        Group(tuple(sorted(every)), all=True),
        *(Group(tuple(p), False) for p in sorted(map(sorted, parts))),
    ]


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
    """(n, g) in [-1, 1]: how much better a group's labels fit the predictions when swapped.

    `poses` (the predictions) and `keypoints` (the labels) (n, k, 3), `sizes` (n,) in pixels. 0
    where too few keypoints have a high score and are far from their twin: at least one, of all
    pairs six.
    """
    result = np.zeros((len(poses), len(known)))
    if not len(known):
        return result
    sure = np.nan_to_num(poses[..., 2]) >= _MIN_SCORE
    labeled = keypoints[..., 2] > 0
    own = _distances(poses, keypoints, sizes)
    twin = skeleton.flip_permutation
    other = _distances(poses, keypoints[:, twin], sizes)
    apart = _distances(keypoints, keypoints[:, twin], sizes)
    counted = sure & labeled & labeled[:, twin] & (apart > _MIN_DISTANCE)
    weight = np.where(counted, np.nan_to_num(poses[..., 2]), 0)
    gain = weight * np.where(counted, own - other, 0)
    most = weight * np.minimum(apart, _MAX_DISTANCE)
    for column, group in enumerate(known):
        columns = group.keypoints(skeleton)
        enough = counted[:, columns].sum(axis=1) >= (6 if group.all and len(columns) > 4 else 1)
        share = gain[:, columns].sum(axis=1) / np.maximum(most[:, columns].sum(axis=1), 1e-9)
        result[:, column] = np.where(enough, share, 0)
    return result


def _distances(
    a: NDArray[np.float64], b: NDArray[np.float64], sizes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, k): relative to the size, at most `_MAX_DISTANCE`."""
    lengths = np.linalg.norm(a[..., :2] - b[..., :2], axis=-1) / sizes[:, None]
    result: NDArray[np.float64] = np.minimum(
        np.nan_to_num(lengths, nan=_MAX_DISTANCE), _MAX_DISTANCE
    )
    return result


def swapped(known: list[Group], seen: NDArray[np.float64]) -> Iterator[tuple[int, int, float]]:
    """(person, group, evidence in [0, 1]) for each person with a swapped group.

    `seen` (n, g) is the `evidence` of the groups `known`. Of several groups of a person the one
    with the most pairs that agree is reported.
    """
    pairs = np.array([len(group.pairs) for group in known])
    agreed = np.where(seen > MIN_EVIDENCE, seen * pairs, 0)
    for person in np.flatnonzero(agreed.any(axis=1)).tolist():
        group = int(np.argmax(agreed[person]))
        yield person, group, float(seen[person, group])


def check_keypoints(estimator: PoseEstimator, labels: Labels) -> None:
    """Raises UserError where the model predicts other keypoints than are labeled."""
    found = estimator.metadata.skeleton.keypoints
    if labels.names != found:
        raise UserError(
            f"--weights: expected the keypoints of the annotations ({', '.join(labels.names)}), "
            f"found {', '.join(found)}",
            code="keypoints-differ",
        )


def predicted(
    estimator: PoseEstimator,
    labels: Labels,
    source: ImageFiles,
    persons: NDArray[np.int64],
    progress: Progress,
) -> NDArray[np.float64]:
    """(n, k, 3): the pose predicted in the box of each of the `persons`, NaN for the others and for
    those whose image cannot be read.
    """
    poses = np.full((len(labels), len(labels.names), 3), np.nan)
    persons = persons[labels.usable[persons]]
    groups_of_image = [persons[own] for own in group_by_image(labels.image_index[persons]).values()]

    def images() -> Iterator[InputImage]:
        for done, own in enumerate(groups_of_image, start=1):
            progress(done, len(groups_of_image))
            try:
                image = source.read(labels.file_names[int(labels.image_index[own[0]])])
                item = InputImage.of(image, labels.boxes[own])
            except UserError:
                continue
            yield replace(item, key=own)

    for item, found in estimator.stream(images()):
        poses[item.key] = found.keypoints
    return poses


def swapped_sides(
    labels: Labels,
    source: ImageFiles | None,
    estimator: PoseEstimator | None,
    notes: list[str],
    progress: Callable[[int, int], None],
) -> list[Finding]:
    """Persons whose labels fit the predictions better when left and right are swapped.

    Adds to `notes` where nothing can be compared. Raises UserError where the model predicts other
    keypoints than are labeled.
    """
    skeleton = labels.skeleton
    if skeleton is None or not skeleton.flip_pairs:
        notes.append("left and right were not checked: the skeleton has no flip pairs")
        return []
    if estimator is None or source is None:
        notes.append("left and right were not checked: add --weights and --images")
        return []
    check_keypoints(estimator, labels)
    persons = np.flatnonzero(labels.labeled.any(axis=1))
    poses = predicted(estimator, labels, source, persons, progress)
    sizes = np.sqrt(np.maximum(labels.boxes[:, 2:].prod(axis=1), 1.0))
    known = groups(skeleton)
    seen = evidence(poses, labels.keypoints, sizes, skeleton, known)
    findings = []
    for person, group, share in swapped(known, seen):
        keypoints = known[group].keypoints(skeleton)
        shown = "all pairs" if known[group].all else _left_names(labels, keypoints)
        labeled = [keypoint for keypoint in keypoints if labels.labeled[person, keypoint]]
        detail = f"{shown} swapped, by the model"
        findings.append(labels.finding("swapped-sides", person, detail, share, labeled))
    return findings


def _left_names(labels: Labels, keypoints: list[int]) -> str:
    """The names of the pairs' left keypoints."""
    return ", ".join(labels.names[keypoint].replace("_", " ") for keypoint in keypoints[::2][:4])
