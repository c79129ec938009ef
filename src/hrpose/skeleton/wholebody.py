"""COCO-WholeBody (Jin et al., ECCV 2020): body, feet, face and hands; and a hand alone."""

from hrpose.skeleton.definition import Skeleton
from hrpose.skeleton.people import COCO_17

_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
_FINGER_COLOURS = ((255, 140, 0), (255, 110, 200), (0, 158, 255), (240, 70, 70), (90, 220, 120))
# Each finger has four joints, from the palm to its tip.
_HAND = tuple(f"{finger}{joint}" for finger in _FINGERS for joint in range(1, 5))
_HAND_LIMBS = tuple((0 if tip % 4 == 1 else tip - 1, tip) for tip in range(1, 21))
# These and the face's and feet's are those of COCO-WholeBody's own evaluation.
_HAND_SIGMAS = (
    0.029,  # the root, then four for each finger
    0.022, 0.035, 0.037, 0.047,
    0.026, 0.025, 0.024, 0.035,
    0.018, 0.024, 0.022, 0.026,
    0.017, 0.021, 0.021, 0.032,
    0.020, 0.019, 0.022, 0.031,
)  # fmt: skip

# One hand, left or right: mirrored it is a hand still, so nothing changes places.
HAND_21 = Skeleton(
    name="hand-21",
    keypoints=("wrist", *_HAND),
    limbs=_HAND_LIMBS,
    sigmas=_HAND_SIGMAS,
    colours=((200, 200, 200), *(colour for colour in _FINGER_COLOURS for _ in range(4))),
    category="hand",
)

_FEET = ("big_toe", "small_toe", "heel")
_FEET_AT, _FACE_AT, _LEFT_HAND_AT, _RIGHT_HAND_AT = 17, 23, 91, 112
# Face points (iBUG's 68) that change places, the person's left first: jaw, eyebrows, nostrils,
# eyes, outer and inner lips.
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
