"""Left and right that changed places, found by geometry for any skeleton.

Nobody says how a body looks; the set itself does. Swapping left and right in a person's labels
gives a wrong example of the same pose, so every person gives a right and a wrong one, and a
classifier learns to tell them apart: ridge regression to +1 for the labels as they are and -1 for
the swapped ones. Its features or kernels are odd under the swap, so one row of each suffices.
Each person is judged by what all the others teach, in closed form (leave one out), so a few wrong
labels are outvoted. What most of the set does is taken for right; where people really differ, as in
crossed legs, only margins that stand out are believed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrpose.skeleton import Skeleton

# Fewer people teach too little.
FEWEST_PEOPLE = 40
# People judged by each other: matrices of this size are solved, for all joints and for some.
_BLOCK, _BLOCK_PARTS = 1500, 6000
# Of pairs beyond these, some stand for all.
_MOST_PAIRS = 16
# A margin stands out below -0.3 and so many robust standard deviations from the median.
_SURE, _STANDS_OUT = 0.3, 3.0
# Of some joints, where it is rarer than this.
_CROSSED = 0.01
# Pairs that are nearer than this, in units of the pose's spread, could be either way round.
_APART = 0.3
_RIDGE, _RIDGE_PARTS = 1.0, 0.3
# Weight of a joint's visibility against a distance of one spread.
_VISIBILITY = 0.7

Floats = NDArray[np.float64]


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

    def joints(self, skeleton: Skeleton) -> list[int]:
        return [joint for pair in self.pairs for joint in skeleton.flip_pairs[pair]]


def groups(skeleton: Skeleton) -> list[Group]:
    """What gets swapped in practice: everybody's all, one pair, or all that hangs on one limb.

    Pairs and joints on their own are the nodes of a graph, limbs its edges. Where taking one edge
    away cuts the graph in two, the smaller part is a group: knees and ankles, arms, a face.
    """
    pairs = skeleton.flip_pairs
    if not pairs:
        return []
    node = {joint: number for number, pair in enumerate(pairs) for joint in pair}
    for joint in range(len(skeleton)):
        node.setdefault(joint, len(pairs) + joint)
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
    neighbours: dict[int, set[int]] = {}
    for a, b in edges:
        neighbours.setdefault(a, set()).add(b)
        neighbours.setdefault(b, set()).add(a)
    found, waiting = {start}, [start]
    while waiting:
        more = neighbours.get(waiting.pop(), set()) - found
        found |= more
        waiting += more
    return found


def side_margins(
    keypoints: Floats, skeleton: Skeleton, seed: int = 0
) -> tuple[list[Group], Floats]:
    """The groups g, and margins (n, g): 1 where the labels are surely right, -1 where they are
    surely swapped, 0 where nothing can be said.

    `keypoints` (n, k, 3) with visibility. The people are judged in random blocks, so that time
    grows with n and memory does not.
    """
    known = groups(skeleton)
    margins = np.zeros((len(keypoints), len(known)))
    judged = np.flatnonzero((keypoints[..., 2] > 0).sum(axis=1) >= min(4, len(skeleton)))
    if len(judged) < FEWEST_PEOPLE:
        return known, margins
    shuffled = np.random.default_rng(seed).permutation(judged)
    for column, group in enumerate(known):
        size = _BLOCK if group.whole else _BLOCK_PARTS
        for block in np.array_split(shuffled, -(-len(shuffled) // size)):
            margins[block, column] = _margins(keypoints[block], skeleton, group)
    return known, margins


def _margins(keypoints: Floats, skeleton: Skeleton, group: Group) -> Floats:
    """(n,): what everybody else says of each; with the target 1, by the inverse's diagonal."""
    pose = _normalised(keypoints)
    if group.whole:
        mirrored = pose[:, group.permutation(skeleton)]
        kernel = _odd_gaussian(_vectors(pose), _vectors(mirrored))
        inverse = np.linalg.inv(kernel + _RIDGE * np.eye(len(kernel)))
        margin = 1 - inverse.sum(axis=1) / np.diag(inverse)
    else:
        features = _relations(pose, skeleton, group)
        gram = features.T @ features + _RIDGE_PARTS * np.eye(features.shape[1])
        solved = np.linalg.solve(gram, features.T)
        leverage = np.einsum("nd,dn->n", features, solved)
        fitted = features @ solved.sum(axis=1)
        margin = 1 - (1 - fitted) / (1 - leverage)
    pairs = np.array([skeleton.flip_pairs[pair] for pair in group.pairs])
    apart = _lengths(pose, pairs[:, 0], pairs[:, 1]) * _both(pose, pairs[:, 0], pairs[:, 1])
    result: Floats = np.where(apart.max(axis=1) > _APART, margin, 0.0)
    return result


def _normalised(keypoints: Floats) -> Floats:
    """Labelled joints around their mean, the root mean square distance from it being 1."""
    mask = keypoints[..., 2:] > 0
    count = np.maximum(mask.sum(axis=1, keepdims=True), 1)
    points = np.where(mask, keypoints[..., :2], 0)
    points = np.where(mask, points - points.sum(axis=1, keepdims=True) / count, 0)
    spread = np.sqrt(np.square(points).sum(axis=(1, 2), keepdims=True) / count)
    return np.concatenate([points / np.maximum(spread, 1e-9), keypoints[..., 2:]], axis=2)


def _vectors(pose: Floats) -> Floats:
    """(n, 4 k): places, and which joints are not labelled or not seen."""
    seen = pose[..., 2]
    hidden = [_VISIBILITY * (seen == 0), _VISIBILITY * (seen == 1)]
    return np.concatenate([pose[..., 0], pose[..., 1], *hidden], axis=1)


def _odd_gaussian(straight: Floats, swapped: Floats) -> Floats:
    same, other = _squares(straight, straight), _squares(straight, swapped)
    width = max(float(np.median(same)), 1e-9)
    kernel: Floats = np.exp(-same / width) - np.exp(-other / width)
    return kernel


def _squares(a: Floats, b: Floats) -> Floats:
    squares: Floats = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T
    return np.maximum(squares, 0)


def _relations(pose: Floats, skeleton: Skeleton, group: Group) -> Floats:
    """(n, features): how the pairs of a group lie to every other pair; odd under the swap.

    From left to right: do both point the same way? And are joints of one side nearer to each other
    than to the other side? The second also where one joint of the group's pair has no label.
    """
    pairs = np.array(skeleton.flip_pairs)
    rest = _some(np.setdiff1d(np.arange(len(pairs)), group.pairs))
    features = [np.zeros((len(pose), 1))]
    for pair in _some(np.array(group.pairs)) if len(rest) else ():
        left, right = pairs[pair]
        lefts, rights = pairs[rest].T
        others = _both(pose, lefts, rights)
        mine = pose[:, left, 2] > 0, pose[:, right, 2] > 0
        way = pose[:, left, None, :2] - pose[:, right, None, :2]
        ways = pose[:, lefts, :2] - pose[:, rights, :2]
        dot = (way * ways).sum(axis=-1)
        cosine = dot / (np.linalg.norm(way, axis=-1) * np.linalg.norm(ways, axis=-1) + 0.05)
        from_left = _lengths(pose, left, rights) - _lengths(pose, left, lefts)
        from_right = _lengths(pose, right, lefts) - _lengths(pose, right, rights)
        both = others * (mine[0] & mine[1])[:, None]
        one = np.where(mine[0][:, None], from_left, from_right)
        features += [
            dot * both,
            cosine * both,
            (from_left + from_right) * both,
            one * others * (mine[0] ^ mine[1])[:, None],
        ]
    every = np.concatenate(features, axis=1)
    scale = every.std(axis=0)
    every = every / np.where(scale > 1e-6, scale, np.inf)
    result: Floats = every / np.sqrt(every.shape[1])
    return result


def _some(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    places = np.unique(np.linspace(0, len(pairs) - 1, _MOST_PAIRS).round().astype(int))
    chosen: NDArray[np.int64] = pairs[places] if len(pairs) else pairs
    return chosen


def _both(pose: Floats, a: NDArray[np.int64], b: NDArray[np.int64]) -> Floats:
    both: Floats = ((pose[:, a, 2] > 0) & (pose[:, b, 2] > 0)).astype(np.float64)
    return both


def _lengths(pose: Floats, a: object, b: NDArray[np.int64]) -> Floats:
    """(n, m): from joint `a`, or each of m, to each of the m joints `b`."""
    start = pose[:, np.atleast_1d(np.asarray(a)), :2]
    result: Floats = np.linalg.norm(start - pose[:, b, :2], axis=-1)
    return result


def swapped(known: list[Group], margins: Floats) -> Iterator[tuple[int, int, float]]:
    """(person, group, margin) where a margin (n, g) stands out; of several groups the lowest."""
    limits = np.array(
        [_limit(margins[:, column], group.whole) for column, group in enumerate(known)]
    )
    low = np.where(margins < limits, margins, np.inf)
    for person in np.flatnonzero(np.isfinite(low).any(axis=1)).tolist():
        group = int(np.argmin(low[person]))
        yield person, group, float(low[person, group])


def _limit(margins: Floats, whole: bool) -> float:
    """Below which margin a person's labels are taken for swapped."""
    told = np.sort(margins[margins != 0])
    if len(told) < FEWEST_PEOPLE:
        return -np.inf
    quarter, middle = np.quantile(told, [0.25, 0.5])
    deviation = (middle - quarter) / 0.6745
    limit = min(-_SURE, float(middle - _STANDS_OUT * deviation))
    if whole:
        return limit
    # A swap turns the margin's sign. Where as many as this lie below -m for those above m, it is
    # limbs that cross, as they do in life.
    low = told[told < limit]
    above = len(told) - np.searchsorted(told, -low)
    rare = np.arange(1, len(low) + 1) <= np.maximum(_CROSSED * above, 1)
    return limit if rare.all() else float(low[int(np.argmin(rare))])
