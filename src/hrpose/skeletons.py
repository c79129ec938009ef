"""The shipped skeletons, with the keypoints of the data sets that they are named after."""

from collections.abc import Mapping, Sequence
from typing import Any

from hrpose.skeleton import Skeleton, guess_flip_pairs, spelled_alike

COCO_17 = Skeleton(
    name="coco-17",
    keypoints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
        "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
        "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
        (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    # cocodataset.org, "keypoints evaluation": measured on 5,000 images annotated twice.
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107,
        0.087, 0.087, 0.089, 0.089,
    ),
    weights=(1, 1, 1, 1, 1, 1, 1, 1.2, 1.2, 1.5, 1.5, 1, 1, 1.2, 1.2, 1.5, 1.5),
    upper_body=tuple(range(11)),
    category="person",
)  # fmt: skip

# MPII's order. Its measure is PCKh; the OKS constants are COCO's where COCO has the keypoint, and
# for the four on the body's axis those of the nearest that it has.
MPII_16 = Skeleton(
    name="mpii-16",
    keypoints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis",
        "thorax", "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder",
        "left_shoulder", "left_elbow", "left_wrist",
    ),
    flip_pairs=((5, 0), (4, 1), (3, 2), (15, 10), (14, 11), (13, 12)),
    limbs=(
        (0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (10, 11), (11, 12),
        (12, 7), (7, 13), (13, 14), (14, 15),
    ),
    sigmas=(
        0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.107, 0.079, 0.079, 0.035, 0.062, 0.072, 0.079,
        0.079, 0.072, 0.062,
    ),
    upper_body=tuple(range(7, 16)),
    category="person",
)  # fmt: skip

# Leeds Sports Pose and its extension, in the order of their `joints.mat`. Its measure is PCK;
# the OKS constants are MPII's for the same keypoints.
LSP_14 = Skeleton(
    name="lsp-14",
    keypoints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
        "neck", "head_top",
    ),
    flip_pairs=((5, 0), (4, 1), (3, 2), (11, 6), (10, 7), (9, 8)),
    limbs=(
        (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 12), (12, 9), (9, 10), (10, 11),
        (12, 13), (8, 2), (9, 3),
    ),
    sigmas=(
        0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.062, 0.072, 0.079, 0.079, 0.072, 0.062, 0.079,
        0.035,
    ),
    upper_body=tuple(range(6, 14)),
    category="person",
)  # fmt: skip

# Body and feet of Halpe (Fang et al., AlphaPose, TPAMI 2022): COCO's keypoints, the body's axis and
# the feet. Names, order, limbs and weights are MMPose's (`_base_/datasets/halpe26.py`), the OKS
# constants those of Halpe's own evaluation (`halpecocotools/cocoeval.py`). For what COCO lacks,
# MMPose has others: 0.026 for head and neck, 0.066 for the hip, 0.079 for the feet.
HALPE_26 = Skeleton(
    name="halpe-26",
    keypoints=(
        *COCO_17.keypoints, "head", "neck", "hip", "left_big_toe", "right_big_toe",
        "left_small_toe", "right_small_toe", "left_heel", "right_heel",
    ),
    flip_pairs=(*COCO_17.flip_pairs, (20, 21), (22, 23), (24, 25)),
    limbs=(
        (15, 13), (13, 11), (11, 19), (16, 14), (14, 12), (12, 19), (17, 18), (18, 19), (18, 5),
        (5, 7), (7, 9), (18, 6), (6, 8), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5),
        (4, 6), (15, 20), (15, 22), (15, 24), (16, 21), (16, 23), (16, 25),
    ),
    sigmas=(*COCO_17.sigmas, 0.08, 0.08, 0.08, 0.089, 0.089, 0.089, 0.089, 0.089, 0.089),
    weights=(*COCO_17.weights, 1, 1, 1.2, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5),
    upper_body=(*COCO_17.upper_body, 17, 18),
    category="person",
)  # fmt: skip

# CrowdPose (Li et al., CVPR 2019), with the OKS constants of its own evaluation.
CROWDPOSE_14 = Skeleton(
    name="crowdpose-14",
    keypoints=(
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head",
        "neck",
    ),
    flip_pairs=((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11)),
    limbs=(
        (12, 13), (13, 0), (13, 1), (0, 2), (2, 4), (1, 3), (3, 5), (0, 6), (1, 7), (6, 7), (6, 8),
        (8, 10), (7, 9), (9, 11),
    ),
    sigmas=(
        0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079,
        0.079,
    ),
    upper_body=(0, 1, 2, 3, 4, 5, 12, 13),
    category="person",
)  # fmt: skip


# AP-10K (Yu et al., NeurIPS 2021). Its authors measured no OKS constants. These are the numbers, in
# this order, that published metrics were computed with: COCO's, assigned regardless of the
# keypoints, so that the sides differ.
AP_10K = Skeleton(
    name="ap-10k",
    keypoints=(
        "left_eye", "right_eye", "nose", "neck", "root_of_tail", "left_shoulder", "left_elbow",
        "left_front_paw", "right_shoulder", "right_elbow", "right_front_paw", "left_hip",
        "left_knee", "left_back_paw", "right_hip", "right_knee", "right_back_paw",
    ),
    flip_pairs=((0, 1), (5, 8), (6, 9), (7, 10), (11, 14), (12, 15), (13, 16)),
    limbs=(
        (0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (3, 5), (5, 6), (6, 7), (3, 8), (8, 9), (9, 10),
        (4, 11), (11, 12), (12, 13), (4, 14), (14, 15), (15, 16),
    ),
    sigmas=(
        0.025, 0.025, 0.026, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107,
        0.087, 0.087, 0.089, 0.089,
    ),
    upper_body=(0, 1, 2, 3, 5, 6, 7, 8, 9, 10),
    category="animal",
)  # fmt: skip


_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
_FINGER_COLORS = ((255, 140, 0), (255, 110, 200), (0, 158, 255), (240, 70, 70), (90, 220, 120))
# Each finger has four keypoints, from the palm to its tip.
_HAND = tuple(f"{finger}{keypoint}" for finger in _FINGERS for keypoint in range(1, 5))
_HAND_LIMBS = tuple((0 if tip % 4 == 1 else tip - 1, tip) for tip in range(1, 21))
# The sigmas of hand, face and feet are those of COCO-WholeBody's own evaluation.
_HAND_SIGMAS = (
    0.029,  # the root, then four for each finger
    0.022, 0.035, 0.037, 0.047,
    0.026, 0.025, 0.024, 0.035,
    0.018, 0.024, 0.022, 0.026,
    0.017, 0.021, 0.021, 0.032,
    0.020, 0.019, 0.022, 0.031,
)  # fmt: skip

# One hand, left or right: its mirror image is a hand too, so no keypoints swap.
HAND_21 = Skeleton(
    name="hand-21",
    keypoints=("wrist", *_HAND),
    limbs=_HAND_LIMBS,
    sigmas=_HAND_SIGMAS,
    colors=((200, 200, 200), *(color for color in _FINGER_COLORS for _ in range(4))),
    category="hand",
)

_FEET = ("big_toe", "small_toe", "heel")
_FEET_AT, _FACE_AT, _LEFT_HAND_AT, _RIGHT_HAND_AT = 17, 23, 91, 112
# Face points (iBUG's 68) that swap in the mirror image, the person's left first: jaw, eyebrows,
# nostrils, eyes, outer and inner lips.
_FACE_PAIRS = (
    *((16 - i, i) for i in range(8)),
    *((26 - i, 17 + i) for i in range(5)),
    (35, 31), (34, 32),
    (45, 36), (44, 37), (43, 38), (42, 39), (47, 40), (46, 41),
    (54, 48), (53, 49), (52, 50), (55, 59), (56, 58),
    (64, 60), (63, 61), (65, 67),
)  # fmt: skip
_FACE_SIGMAS = (
    # jaw
    0.042, 0.043, 0.044, 0.043, 0.040, 0.035, 0.031, 0.025, 0.020, 0.023, 0.029, 0.032, 0.037,
    0.038, 0.043, 0.041, 0.045,
    # eyebrows
    0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011, 0.013, 0.015,
    # nose
    0.009, 0.007, 0.007, 0.007, 0.012, 0.009, 0.008, 0.016, 0.010,
    # eyes
    0.017, 0.011, 0.009, 0.011, 0.009, 0.007, 0.013, 0.008, 0.011, 0.012, 0.010, 0.034,
    # outer lips
    0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.010, 0.008, 0.009, 0.009, 0.009, 0.007,
    # inner lips
    0.007, 0.008, 0.011, 0.008, 0.008, 0.008, 0.010, 0.008,
)  # fmt: skip

WHOLEBODY_133 = Skeleton(
    name="coco-wholebody-133",
    keypoints=(
        *COCO_17.keypoints,
        *(f"{side}_{part}" for side in ("left", "right") for part in _FEET),
        *(f"face-{i}" for i in range(68)),
        *(f"{side}_{part}" for side in ("left", "right") for part in ("hand_root", *_HAND)),
    ),
    flip_pairs=(
        *COCO_17.flip_pairs,
        *((_FEET_AT + i, _FEET_AT + 3 + i) for i in range(3)),
        *((_FACE_AT + left, _FACE_AT + right) for left, right in _FACE_PAIRS),
        *((_LEFT_HAND_AT + i, _RIGHT_HAND_AT + i) for i in range(21)),
    ),
    limbs=(
        *COCO_17.limbs,
        *((15, _FEET_AT + i) for i in range(3)),
        *((16, _FEET_AT + 3 + i) for i in range(3)),
        *((at + a, at + b) for at in (_LEFT_HAND_AT, _RIGHT_HAND_AT) for a, b in _HAND_LIMBS),
    ),
    sigmas=(
        *COCO_17.sigmas,
        *(0.068, 0.066, 0.066, 0.092, 0.094, 0.094),
        *_FACE_SIGMAS,
        *_HAND_SIGMAS,
        *_HAND_SIGMAS,
    ),
    upper_body=(*COCO_17.upper_body, *range(_FACE_AT, 133)),
    category="person",
)


SHIPPED = {
    skeleton.name: skeleton
    for skeleton in (
        COCO_17,
        MPII_16,
        LSP_14,
        HALPE_26,
        CROWDPOSE_14,
        WHOLEBODY_133,
        HAND_21,
        AP_10K,
    )
}


def from_coco_category(category: Mapping[str, Any]) -> Skeleton:
    """Read a COCO category with `keypoints` and, where present, `skeleton` (pairs, see `limbs_of`).

    A category with the names of a shipped skeleton, in any spelling, is that skeleton. Flip pairs
    of others are found by their left/right names (see `guess_flip_pairs`).
    """
    names = tuple(str(name) for name in category["keypoints"])
    for known in SHIPPED.values():
        if names == known.keypoints or spelled_alike(names, known.keypoints):
            return known
    limbs, _, _ = limbs_of(category.get("skeleton") or (), len(names))
    name = str(category.get("name", "unnamed"))
    return Skeleton(name, names, flip_pairs=guess_flip_pairs(names), limbs=limbs)


def limbs_of(pairs: Sequence[Any], k: int) -> tuple[tuple[tuple[int, int], ...], bool, list[Any]]:
    """The limbs of a COCO `skeleton` of k keypoints as indices; whether it counts from 0, against
    COCO's rule; and the pairs that do not connect two keypoints.
    """
    read: list[tuple[Any, tuple[int, int] | None]] = []
    for pair in pairs:
        try:
            a, b = (int(index) for index in pair)
        except (TypeError, ValueError, OverflowError):
            read.append((pair, None))
        else:
            read.append((pair, (a, b)))
    known = [pair for _, pair in read if pair is not None]
    start = 0 if any(0 in pair for pair in known) and all(max(pair) < k for pair in known) else 1
    limbs, dropped = [], []
    for given, found in read:
        a, b = found or (0, 0)
        if found is None or a == b or not all(start <= i < k + start for i in found):
            dropped.append(given)
        else:
            limbs.append((a - start, b - start))
    return tuple(limbs), start == 0, dropped
