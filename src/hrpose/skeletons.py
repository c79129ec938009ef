"""The shipped skeletons, with the keypoints of the data sets that they are named after."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
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


# PoseTrack18 (Andriluka et al., CVPR 2018): COCO's keypoints with the head's ends for the eyes, and
# MMPose's published metrics with COCO's constants.
POSETRACK18_17 = replace(
    COCO_17,
    name="posetrack18-17",
    keypoints=("nose", "head_bottom", "head_top", *COCO_17.keypoints[3:]),
    flip_pairs=COCO_17.flip_pairs[1:],
    limbs=(*COCO_17.limbs[:12], (0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (1, 6)),
)

# AI Challenger 2017, with the OKS constants of its evaluation.
AIC_14 = Skeleton(
    name="aic-14",
    keypoints=(
        "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
        "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "head_top",
        "neck",
    ),
    flip_pairs=((3, 0), (4, 1), (5, 2), (9, 6), (10, 7), (11, 8)),
    limbs=(
        (2, 1), (1, 0), (0, 13), (13, 3), (3, 4), (4, 5), (8, 7), (7, 6), (6, 9), (9, 10), (10, 11),
        (12, 13), (0, 6), (3, 9),
    ),
    sigmas=(
        0.01388152, 0.01515228, 0.01057665, 0.01417709, 0.01497891, 0.01402144, 0.03909642,
        0.03686941, 0.01981803, 0.03843971, 0.03412318, 0.02415081, 0.01291456, 0.01236173,
    ),
    weights=(1, 1.2, 1.5, 1, 1.2, 1.5, 1, 1.2, 1.5, 1, 1.2, 1.5, 1, 1),
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


# Animal-Pose (Cao et al., ICCV 2019). Its OKS constants are those of MMPose's published metrics.
ANIMALPOSE_20 = Skeleton(
    name="animalpose-20",
    keypoints=(
        "left_eye", "right_eye", "left_ear_base", "right_ear_base", "nose", "throat", "tail_base",
        "withers", "left_front_elbow", "right_front_elbow", "left_back_elbow", "right_back_elbow",
        "left_front_knee", "right_front_knee", "left_back_knee", "right_back_knee",
        "left_front_paw", "right_front_paw", "left_back_paw", "right_back_paw",
    ),
    flip_pairs=((0, 1), (2, 3), (8, 9), (10, 11), (12, 13), (14, 15), (16, 17), (18, 19)),
    limbs=(
        (0, 1), (0, 2), (1, 3), (0, 4), (1, 4), (4, 5), (5, 7), (7, 6), (5, 8), (8, 12), (12, 16),
        (5, 9), (9, 13), (13, 17), (6, 10), (10, 14), (14, 18), (6, 11), (11, 15), (15, 19),
    ),
    sigmas=(0.025, 0.025, 0.026, 0.035, 0.035, *(0.1,) * 3, *(0.107,) * 4, *(0.087,) * 4,
            *(0.089,) * 4),
    weights=(*(1.0,) * 12, *(1.2,) * 4, *(1.5,) * 4),
    upper_body=(0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17),
    category="animal",
)  # fmt: skip

_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
_FINGER_COLORS = ((255, 140, 0), (255, 110, 200), (0, 158, 255), (240, 70, 70), (90, 220, 120))
_WRIST_COLOR = (200, 200, 200)
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

# One hand, left or right: its mirror image is a hand too, so no keypoints swap. The order of
# COCO-WholeBody, OneHand10K, FreiHAND and Panoptic.
HAND_21 = Skeleton(
    name="hand-21",
    keypoints=("wrist", *_HAND),
    limbs=_HAND_LIMBS,
    sigmas=_HAND_SIGMAS,
    colors=(_WRIST_COLOR, *(color for color in _FINGER_COLORS for _ in range(4))),
    category="hand",
)


def _hand_in_order(name: str, keypoints: tuple[str, ...]) -> Skeleton:
    """The same hand as `HAND_21`, with the keypoints of other data sets' order."""
    place = [HAND_21.keypoints.index(keypoint) for keypoint in keypoints]
    return Skeleton(
        name=name,
        keypoints=keypoints,
        limbs=tuple((place.index(a), place.index(b)) for a, b in HAND_21.limbs),
        sigmas=tuple(HAND_21.sigmas[i] for i in place),
        colors=tuple(HAND_21.colors[i] for i in place),
        category="hand",
    )


_FROM_TIPS = tuple(f"{finger}{keypoint}" for finger in _FINGERS for keypoint in (4, 3, 2, 1))
# RHD (Zimmermann and Brox, ICCV 2017) and InterHand2.6M (Moon et al., ECCV 2020) go from the tips
# to the palm. MMPose's names of RHD count from the tip; here 1 is at the palm in every skeleton.
RHD_21 = _hand_in_order("rhd-21", ("wrist", *_FROM_TIPS))
INTERHAND_21 = _hand_in_order("interhand-21", (*_FROM_TIPS, "wrist"))

_FEET = ("big_toe", "small_toe", "heel")
_FEET_SIGMAS = (0.068, 0.066, 0.066, 0.092, 0.094, 0.094)

# COCO's keypoints and the feet, in COCO-WholeBody's order: by side, where Halpe's is by part.
COCO_FEET_23 = Skeleton(
    name="coco-feet-23",
    keypoints=(
        *COCO_17.keypoints,
        *(f"{side}_{part}" for side in ("left", "right") for part in _FEET),
    ),
    flip_pairs=(*COCO_17.flip_pairs, *((17 + i, 20 + i) for i in range(3))),
    limbs=(*COCO_17.limbs, *((15, 17 + i) for i in range(3)), *((16, 20 + i) for i in range(3))),
    sigmas=(*COCO_17.sigmas, *_FEET_SIGMAS),
    upper_body=COCO_17.upper_body,
    category="person",
)

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

# The outlines that OpenPose draws: jaw, eyebrows, bridge and wings of the nose, eyes, lips.
_FACE_LIMBS = (
    *((i, i + 1) for i in range(67) if i not in (16, 21, 26, 30, 35, 41, 47, 59)),
    (41, 36), (47, 42), (59, 48), (67, 60),
)  # fmt: skip

# One face: iBUG's 68 points (300-W), which are those of COCO-WholeBody's and Halpe's faces too.
FACE_68 = Skeleton(
    name="face-68",
    keypoints=tuple(f"face-{i}" for i in range(68)),
    flip_pairs=_FACE_PAIRS,
    limbs=_FACE_LIMBS,
    sigmas=_FACE_SIGMAS,
    category="face",
)

# WFLW (Wu et al., CVPR 2018), COFW (Burgos-Artizzu et al., ICCV 2013) and AFLW (Koestinger et al.,
# ICCVW 2011), as MMPose has them: pairs of points, without names, limbs or OKS constants; their
# measure is NME. Of COFW and AFLW no source says which of a pair is the person's left.
WFLW_98 = Skeleton(
    name="wflw-98",
    keypoints=tuple(f"wflw-{i}" for i in range(98)),
    flip_pairs=(
        *((32 - i, i) for i in range(16)),
        (46, 33), (45, 34), (44, 35), (43, 36), (42, 37), (50, 38), (49, 39), (48, 40), (47, 41),
        (59, 55), (58, 56),
        (72, 60), (71, 61), (70, 62), (69, 63), (68, 64), (75, 65), (74, 66), (73, 67),
        (82, 76), (81, 77), (80, 78), (83, 87), (84, 86), (92, 88), (91, 89), (93, 95), (97, 96),
    ),
    category="face",
)  # fmt: skip
COFW_29 = Skeleton(
    name="cofw-29",
    keypoints=tuple(f"cofw-{i}" for i in range(29)),
    flip_pairs=(
        (0, 1), (2, 3), (4, 6), (5, 7), (8, 9), (10, 11), (12, 14), (13, 15), (16, 17), (18, 19),
        (22, 23),
    ),
    category="face",
)  # fmt: skip
AFLW_19 = Skeleton(
    name="aflw-19",
    keypoints=tuple(f"aflw-{i}" for i in range(19)),
    flip_pairs=((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9), (12, 14), (15, 17)),
    category="face",
)


def _with_face(body: Skeleton) -> Skeleton:
    """A body and a face: the face's keypoints behind the body's."""
    at = len(body)
    return replace(
        body,
        keypoints=(*body.keypoints, *FACE_68.keypoints),
        flip_pairs=(*body.flip_pairs, *((at + a, at + b) for a, b in FACE_68.flip_pairs)),
        limbs=(*body.limbs, *((at + a, at + b) for a, b in FACE_68.limbs)),
        sigmas=(*body.sigmas, *FACE_68.sigmas),
        weights=(*body.weights, *FACE_68.weights),
        upper_body=(*body.upper_body, *range(at, at + 68)),
    )


def with_hands(body: Skeleton) -> Skeleton:
    """A body and its hands, with COCO-WholeBody's names: the left hand's 21 keypoints behind the
    body's, then the right hand's. A body that has them all is returned as it is.

    The limbs of a hand start at its root, as OpenPose draws them; MMPose's start at the wrist.
    """
    names = tuple(f"{side}_{part}" for side in ("left", "right") for part in ("hand_root", *_HAND))
    if set(names) <= set(body.keypoints):
        return body
    left = len(body)
    right = left + 21
    return replace(
        body,
        name=f"{body.name.rpartition('-')[0] or body.name}-hands-{left + 42}",
        keypoints=(*body.keypoints, *names),
        flip_pairs=(*body.flip_pairs, *((left + i, right + i) for i in range(21))),
        limbs=(*body.limbs, *((at + a, at + b) for at in (left, right) for a, b in _HAND_LIMBS)),
        sigmas=(*body.sigmas, *_HAND_SIGMAS, *_HAND_SIGMAS),
        weights=(*body.weights, *(1.0,) * 42),
        upper_body=(*body.upper_body, *range(left, left + 42)),
    )


COCO_HANDS_59, HALPE_HANDS_68 = with_hands(COCO_17), with_hands(HALPE_26)
# COCO-WholeBody (Jin et al., ECCV 2020); its weights of keypoints are 1, also where COCO's are not.
WHOLEBODY_133 = replace(
    with_hands(_with_face(COCO_FEET_23)), name="coco-wholebody-133", weights=(1.0,) * 133
)
# Halpe in full. MMPose names the root of a hand as the wrist, which is a keypoint of the body; its
# sigmas are those of Halpe's own evaluation, 0.015 for face and hands.
HALPE_136 = replace(
    with_hands(_with_face(HALPE_26)),
    name="halpe-136",
    weights=(1.0,) * 136,
    sigmas=(*HALPE_26.sigmas, *(0.015,) * 110),
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
        HALPE_136,
        COCO_FEET_23,
        COCO_HANDS_59,
        HALPE_HANDS_68,
        HAND_21,
        RHD_21,
        INTERHAND_21,
        FACE_68,
        WFLW_98,
        COFW_29,
        AFLW_19,
        AP_10K,
        POSETRACK18_17,
        AIC_14,
        ANIMALPOSE_20,
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
