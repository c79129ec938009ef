"""People worth looking at: the worst found, and those whose score surprises."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrpose.analysis.errors import JointErrors, Kind
from hrpose.analysis.matching import Matches
from hrpose.analysis.read import Found, Truth
from hrpose.data.pictures import PictureSource
from hrpose.drawing import draw, overlay
from hrpose.geometry import Crop, box_around, transform, warp, xywh_to_xyxy
from hrpose.poses import Poses
from hrpose.runtime.estimator import PoseEstimator

HOW_MANY = 6
# Fewer labelled joints say little about a pose.
FEWEST_JOINTS = 6
# In pixels; what is shown around a person, and how far beyond the box.
TILE_WH = (240, 320)
PADDING = 1.4
# Of the joints that are most wrong, so many heatmaps.
HEATMAPS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One person: `labelled` and `found` poses on the picture, (320, 240, 3) uint8 each, and
    `heatmaps` of the worst joints where weights were given. `pose` is the row of the matches,
    `joints` says what is wrong with which.
    """

    picture: str
    annotation: int
    oks: float
    score: float
    joints: dict[str, list[str]]
    labelled: NDArray[np.uint8]
    found: NDArray[np.uint8]
    heatmaps: dict[str, NDArray[np.uint8]]


def choose(found: Found, matches: Matches, errors: JointErrors) -> dict[str, NDArray[np.int64]]:
    """Positions among the matched poses, up to six of each: the lowest OKS; sure of themselves and
    wrong; unsure and right. The last two by how far score and OKS lie apart in rank.
    """
    oks, scores = matches.oks[matches.poses], found.scores[matches.poses]
    enough = np.flatnonzero((errors.kinds >= 0).sum(axis=1) >= FEWEST_JOINTS)
    ranks = [np.argsort(np.argsort(values[enough], kind="stable")) for values in (scores, oks)]
    surprise = ranks[0] - ranks[1]
    order = {
        "worst": np.argsort(oks[enough], kind="stable"),
        "overrated": np.argsort(-surprise, kind="stable"),
        "underrated": np.argsort(surprise, kind="stable"),
    }
    return {name: enough[each[:HOW_MANY]] for name, each in order.items()}


def show(
    position: int,
    truth: Truth,
    found: Found,
    matches: Matches,
    errors: JointErrors,
    source: PictureSource,
    estimator: PoseEstimator | None,
) -> Example:
    """Draw the matched pose at `position`. Raises UserError where its picture cannot be read."""
    table, skeleton = truth.table, truth.table.skeleton
    pose, person = matches.poses[position], matches.people[position]
    image = source.read(table.picture_name(person))
    labels = table.keypoints[person].astype(np.float64)
    shown = np.concatenate(
        [labels[labels[:, 2] > 0, :2], xywh_to_xyxy(table.boxes[person]).reshape(2, 2)]
    )
    x, y, w, h = box_around(shown)
    crop = Crop.from_box([x, y, max(w, 1), max(h, 1)], TILE_WH, PADDING)
    tile = warp(image, crop)

    def drawn(keypoints: NDArray[np.float64]) -> NDArray[np.uint8]:
        placed = np.concatenate(
            [transform(keypoints[:, :2], crop.matrix), keypoints[:, 2:]], axis=1
        )
        box = np.array([[0, 0, *TILE_WH]], np.float32)
        poses = Poses(placed[None].astype(np.float32), box, np.ones(1, np.float32), skeleton)
        return draw(tile, poses, threshold=0.5)

    labels[:, 2] = labels[:, 2] > 0
    guess = found.keypoints[pose].copy()
    # Only what is labelled can be right or wrong.
    guess[:, 2] = labels[:, 2]
    kinds = errors.kinds[position]
    wrong = {
        kind.name.lower(): [skeleton.keypoints[j] for j in np.flatnonzero(kinds == kind)]
        for kind in Kind
        if kind > Kind.GOOD and (kinds == kind).any()
    }
    return Example(
        picture=table.picture_name(person),
        annotation=int(table.annotation_ids[person]),
        oks=float(matches.oks[pose]),
        score=float(found.scores[pose]),
        joints=wrong,
        labelled=drawn(labels),
        found=drawn(guess),
        heatmaps={}
        if estimator is None
        else _heatmaps(estimator, image, table.boxes[person], errors, position),
    )


def _heatmaps(
    estimator: PoseEstimator,
    image: NDArray[np.uint8],
    box: NDArray[np.float64],
    errors: JointErrors,
    position: int,
) -> dict[str, NDArray[np.uint8]]:
    """The heatmaps of the joints that are most wrong, over the labelled box's crop."""
    passport = estimator.passport
    crop = warp(image, passport.crop(box))
    heatmaps = estimator.heatmaps(crop[None])[0]
    similar = np.where(errors.kinds[position] >= 0, errors.similarities[position], np.inf)
    worst = np.argsort(similar, kind="stable")[:HEATMAPS]
    strides = passport.codec.strides(passport.heatmap_wh)
    names = passport.skeleton.keypoints
    return {names[j]: overlay(crop, heatmaps[j], strides, 2) for j in worst}
