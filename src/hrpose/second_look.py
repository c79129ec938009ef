"""A second look at hands: a hand model on crops around the wrists, merged into the poses.

    Poses of bodies ─ wrists, elbows ─▶ boxes of hands ─ hand model ─▶ keypoints of hands ─▶ Poses

A hand is a tenth of a person: in the crop of the person it has a few pixels, in a crop of its own
it has all of them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError
from hrpose.estimator import InputImage, PoseEstimator
from hrpose.geometry import expand_boxes, iou_of_pairs
from hrpose.metadata import Metadata
from hrpose.poses import THRESHOLD, Poses
from hrpose.session import Session
from hrpose.skeleton import Skeleton
from hrpose.skeletons import HAND_21, with_hands

SIDES = ("left", "right")
# OpenPose's crop of a hand (`handDetector.cpp`): a square whose center is beyond the wrist by this
# part of the forearm, and whose side is this many times the forearm, or the part of the upper arm
# that is as long, where the forearm points to the camera. It holds 98.5 % of the keypoints of hands
# in COCO's images, and is 2.9 times as large as them in the median (81 hands, found by MediaPipe).
BEYOND_WRIST = 0.33
FOREARMS = 1.5
OF_UPPER_ARM = 0.9


class TwoLookEstimator(PoseEstimator):
    """A `PoseEstimator` of bodies that looks at each hand a second time, with a hand model.

    `hands` is the session of the hand model, with the 21 keypoints of a hand in any order; the
    `options` are those of `PoseEstimator`. The poses have the keypoints of the body and, behind
    them, those of both hands, see `hrpose.skeletons.with_hands`. Of a body that has hands, such as
    COCO-WholeBody's, the surer look at each hand is kept. A hand is looked at where its wrist and
    elbow are sure; the keypoints of others are at the wrist, with a score of 0. Boxes and scores of
    poses are those of the body. Hands are estimated in a large crop beside the wrist, and again in
    the box around what was found there. `flip_test` applies to bodies and hands, `refine` to
    bodies. Images are decoded in full, since crops of hands are small. Raises UserError where the
    body has no wrists and elbows, or `hands` are no hands.
    """

    def __init__(self, session: Session, hands: Session, **options: Any) -> None:
        super().__init__(session, **{**options, "exact": True})
        self.hands = PoseEstimator(
            hands,
            flip_test=self.flip_test,
            refine=True,  # the first crop is much larger than those that hand models learn from
            batch_size=self.batch_size,
            covariance=self.covariance,
        )
        names = f"{session.metadata.title}, hands: {hands.metadata.title}"
        self._metadata = replace(session.metadata, name=names)
        self._arms = arms_of(session.metadata.skeleton)
        self._skeleton = with_hands(session.metadata.skeleton)
        self._places = _places(self._skeleton, hands.metadata)

    @property
    def metadata(self) -> Metadata:
        """That of the body's weights; its name is of both, and is in results."""
        return self._metadata

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton of the poses: the body's, with hands."""
        return self._skeleton

    def stream(
        self, images: Iterable[InputImage], *, clip_scores: bool = True, select: bool = True
    ) -> Iterator[tuple[InputImage, Poses]]:
        """As `PoseEstimator.stream`; hands of neighboring images share batches too."""
        bodies = super().stream(images, clip_scores=clip_scores, select=select)
        looks = (self._look(image, poses) for image, poses in bodies)
        for look, hands in self.hands.stream(looks, clip_scores=clip_scores, select=False):
            image, poses, owners = look.key
            yield image, self._with_hands(poses, hands, owners)

    def _look(self, image: InputImage, poses: Poses) -> InputImage:
        """The image with the boxes of hands; its key is the image, its poses, and the person and
        side (m, 2) of each box.
        """
        crops = hand_crops(poses.keypoints, self._arms)
        # The hand model's own padding makes these crops of the boxes again.
        padding = self.hands.metadata.padding
        boxes = expand_boxes(crops, crops[..., 2] * (1 / padding - 1) / 2)
        owners = np.argwhere(iou_of_pairs(boxes, np.array([0, 0, *image.image_wh])) > 0)
        boxes = boxes[owners[:, 0], owners[:, 1]]
        scores, key = np.ones(len(boxes)), (image, poses, owners)
        return replace(image, boxes=boxes, box_scores=scores, detected=False, key=key)

    def _with_hands(self, poses: Poses, hands: Poses, owners: NDArray[np.int64]) -> Poses:
        """The poses with their `hands`, of the persons and sides `owners` (m, 2)."""
        own, more = len(poses.skeleton), len(self._skeleton) - len(poses.skeleton)
        keypoints = np.pad(poses.keypoints, ((0, 0), (0, more), (0, 0)))
        if more:
            for places, arm in zip(self._places, self._arms, strict=True):
                keypoints[:, places, :2] = poses.keypoints[:, arm[:1], :2]
        first = np.stack([keypoints[:, places, 2].mean(axis=1) for places in self._places], axis=1)
        surer = hands.keypoints[..., 2].mean(axis=1) >= first[owners[:, 0], owners[:, 1]]
        persons = owners[surer, 0][:, None]
        places = np.array(self._places)[owners[surer, 1]]
        keypoints[persons, places] = hands.keypoints[surer]
        covariance, presence = poses.covariance, poses.presence
        if covariance is not None and hands.covariance is not None:
            # Of keypoints that nobody looked for, only that they are somewhere near the person.
            spread = np.square(poses.boxes[:, 2:].max(axis=1))[:, None, None, None]
            unknown = np.broadcast_to(
                spread * np.eye(2, dtype=np.float32), (len(poses), more, 2, 2)
            )
            covariance = np.concatenate([covariance, unknown], axis=1)
            covariance[persons, places] = hands.covariance[surer]
        if presence is not None:
            presence = (
                None if hands.presence is None else np.pad(presence, ((0, 0), (0, more), (0, 0)))
            )
        if presence is not None and hands.presence is not None:
            presence[:, own:, 2] = 1
            presence[persons, places] = hands.presence[surer]
        return replace(
            poses,
            keypoints=keypoints,
            skeleton=self._skeleton,
            covariance=covariance,
            presence=presence,
        )


Arms = tuple[tuple[int, int, int], tuple[int, int, int]]


def arms_of(skeleton: Skeleton) -> Arms:
    """The indices of wrist, elbow and shoulder of the left and of the right arm.

    Without shoulders, elbows take their place. Raises UserError without wrists and elbows.
    """
    index = {name: place for place, name in enumerate(skeleton.keypoints)}
    needed = [f"{side}_{part}" for side in SIDES for part in ("wrist", "elbow")]
    if missing := [name for name in needed if name not in index]:
        raise UserError(
            f"hands: are looked for beside wrists and elbows, but the skeleton {skeleton.name} has "
            f"no {', '.join(missing)}; use weights of a body",
            code="keypoint-unknown",
        )
    left, right = (
        (index[f"{s}_wrist"], index[f"{s}_elbow"], index.get(f"{s}_shoulder", index[f"{s}_elbow"]))
        for s in SIDES
    )
    return left, right


def hand_crops(
    keypoints: NDArray[np.float32], arms: Arms, threshold: float = THRESHOLD
) -> NDArray[np.float64]:
    """(n, 2, 4) squares [x, y, w, h] around the left and the right hand of bodies (n, k, 3).

    NaN where the wrist or the elbow has a score below `threshold`, or both are at one place; see
    `BEYOND_WRIST` for the rule. An unsure shoulder leaves the forearm alone to tell the size.
    """
    wrist, elbow, shoulder = np.moveaxis(keypoints[:, np.array(arms)].astype(np.float64), 2, 0)
    forearm = wrist[..., :2] - elbow[..., :2]
    upper = np.linalg.norm(elbow[..., :2] - shoulder[..., :2], axis=-1)
    upper = np.where(shoulder[..., 2] >= threshold, upper, 0)
    side = FOREARMS * np.maximum(np.linalg.norm(forearm, axis=-1), OF_UPPER_ARM * upper)
    sure = (np.minimum(wrist[..., 2], elbow[..., 2]) >= threshold) & (side > 1)
    center = wrist[..., :2] + BEYOND_WRIST * forearm
    squares = np.concatenate([center - side[..., None] / 2, np.stack([side, side], -1)], axis=-1)
    return np.where(sure[..., None], squares, np.nan)


def _places(skeleton: Skeleton, hand: Metadata) -> tuple[list[int], list[int]]:
    """Where the keypoints of a hand are in a skeleton with hands: of the left one, of the right."""
    names = hand.skeleton.keypoints
    if set(names) != set(HAND_21.keypoints):
        raise UserError(
            f"{hand.title}: expected weights of a hand, with the {len(HAND_21)} keypoints of "
            f"{HAND_21.name}, found the skeleton {hand.skeleton.name}",
            code="weights-unsuitable",
        )
    roots = ["hand_root" if name == "wrist" else name for name in names]
    left, right = ([skeleton.keypoints.index(f"{s}_{root}") for root in roots] for s in SIDES)
    return left, right
