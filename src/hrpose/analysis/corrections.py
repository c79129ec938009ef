"""The AP that each kind of error costs: mend it, evaluate again (Ronchi and Perona, section 3).

Joints are mended by putting them on their label, scores by giving each pose the OKS that it has to
the person it is most like, background by leaving it out, missed people by adding their labels.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hrpose.analysis.errors import JointErrors, Kind
from hrpose.analysis.matching import NOBODY, Matches
from hrpose.analysis.read import Found, Truth
from hrpose.data.persons import group_by_image
from hrpose.metrics.coco import KeypointScores, evaluate_keypoints
from hrpose.metrics.oks import oks

# In the order in which they are mended one after the other. `good` is what distance remains in
# joints that are counted as good; without it the last AP would not be 1.
JOINT_ERRORS = {
    "miss": Kind.MISS,
    "swap": Kind.SWAP,
    "inversion": Kind.INVERSION,
    "jitter": Kind.JITTER,
    "good": Kind.GOOD,
}
ERRORS = (*JOINT_ERRORS, "score", "background", "missed")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Gain:
    """What mending one kind of error gives back.

    `scores` with this kind alone mended; `so_far` with this and all kinds before it.
    """

    error: str
    scores: KeypointScores
    so_far: KeypointScores


def gains(
    truth: Truth, found: Found, matches: Matches, errors: JointErrors, progress: Progress
) -> list[Gain]:
    """Of each kind of error, in the order of `ERRORS`."""
    result = []
    for step, error in enumerate(ERRORS):
        alone = corrected(truth, found, matches, errors, {error})
        so_far = corrected(truth, found, matches, errors, ERRORS[: step + 1])
        result.append(Gain(error, score(truth, alone), score(truth, so_far)))
        progress(step + 1, len(ERRORS))
    return result


def joint_gains(
    truth: Truth, found: Found, matches: Matches, errors: JointErrors, progress: Progress
) -> list[float]:
    """The AP with all errors of one joint mended, for each joint."""
    result = []
    kinds = set(JOINT_ERRORS) - {"good"}
    for joint in range(len(truth.table.skeleton)):
        mended = corrected(truth, found, matches, errors, kinds, joint)
        result.append(score(truth, mended).AP)
        progress(joint + 1, len(truth.table.skeleton))
    return result


def score(truth: Truth, found: Found) -> KeypointScores:
    """COCO's ten figures."""
    sigmas = truth.table.skeleton.sigmas
    return evaluate_keypoints(truth.annotations, found.to_results(truth.table), sigmas)


def corrected(
    truth: Truth,
    found: Found,
    matches: Matches,
    errors: JointErrors,
    mend: Collection[str],
    joint: int | None = None,
) -> Found:
    """The poses without the kinds of errors in `mend`; of one `joint` only, where it is given."""
    table, poses = truth.table, matches.poses
    kinds = [kind for name, kind in JOINT_ERRORS.items() if name in mend]
    wrong = np.isin(errors.kinds, kinds)
    if joint is not None:
        wrong &= np.arange(wrong.shape[1]) == joint
    keypoints = found.keypoints.copy()
    labels = table.keypoints[matches.people, :, :2]
    keypoints[poses, :, :2] = np.where(wrong[..., None], labels, keypoints[poses, :, :2])
    result = replace(found, keypoints=keypoints)
    if "score" in mend:
        result = replace(result, scores=_best_oks(truth, result))
    if "background" in mend:
        result = result.select(matches.person != NOBODY)
    if "missed" in mend:
        result = _with_people(result, truth, matches.missed(truth))
    return result


def _best_oks(truth: Truth, found: Found) -> NDArray[np.float64]:
    """(n,): the OKS of each pose to the counted person of its picture that it is most like."""
    table, best = truth.table, np.zeros(len(found))
    people_of, none = group_by_image(table.image_index), np.zeros(0, np.intp)
    for picture, here in group_by_image(found.picture).items():
        people = people_of.get(picture, none)
        people = people[truth.counted[people]]
        if len(people):
            labels, areas = table.keypoints[people], table.areas[people]
            like = oks(found.keypoints[here], labels, areas, table.skeleton.sigmas)
            best[here] = like.max(axis=1)
    return best


def _with_people(found: Found, truth: Truth, people: NDArray[np.int64]) -> Found:
    """With the labels of these people as poses, as sure as the surest."""
    table = truth.table
    surest = max(1.0, found.scores.max(initial=0.0))
    return Found(
        np.concatenate([found.picture, table.image_index[people]]),
        np.concatenate([found.keypoints, table.keypoints[people]]),
        np.concatenate([found.scores, np.full(len(people), surest)]),
    )
