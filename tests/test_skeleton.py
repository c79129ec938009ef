"""Skeletons: what fits together is accepted, what does not is named."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrpose.skeleton import DEFAULT_SIGMA, Skeleton, guess_flip_pairs, one_sided, spelled_alike
from hrpose.skeletons import (
    AFLW_19,
    AP_10K,
    COCO_17,
    COCO_FEET_23,
    COCO_HANDS_59,
    COFW_29,
    CROWDPOSE_14,
    FACE_68,
    HALPE_26,
    HALPE_136,
    HAND_21,
    INTERHAND_21,
    LSP_14,
    MPII_16,
    RHD_21,
    SHIPPED,
    WFLW_98,
    WHOLEBODY_133,
    from_coco_category,
    with_hands,
)

# Faces whose points have numbers for names.
NUMBERED = (FACE_68, WFLW_98, COFW_29, AFLW_19)


def test_coco() -> None:
    assert len(COCO_17) == 17
    assert len(COCO_17.limbs) == 19
    for left, right in COCO_17.flip_pairs:
        twin = COCO_17.keypoints[left].replace("left", "right")
        assert COCO_17.keypoints[right] == twin
        assert COCO_17.sigmas[left] == COCO_17.sigmas[right]
        assert COCO_17.weights[left] == COCO_17.weights[right]
    assert len(COCO_17.flip_pairs) == 8
    assert COCO_17.lower_body == (11, 12, 13, 14, 15, 16)


def test_mpii() -> None:
    assert len(MPII_16) == 16
    for left, right in MPII_16.flip_pairs:
        assert MPII_16.keypoints[left].replace("left", "right") == MPII_16.keypoints[right]
        assert MPII_16.sigmas[left] == MPII_16.sigmas[right]
    # The pairs of the official code are all pairs that the names have.
    assert set(guess_flip_pairs(MPII_16.keypoints)) == set(MPII_16.flip_pairs)
    assert MPII_16.lower_body == tuple(range(7))
    shared = set(COCO_17.keypoints) & set(MPII_16.keypoints)
    assert len(shared) == 12
    for name in shared:
        ours, cocos = MPII_16.keypoints.index(name), COCO_17.keypoints.index(name)
        assert MPII_16.sigmas[ours] == COCO_17.sigmas[cocos]


def test_constants_equal_to_the_default_are_given_where_they_were_given() -> None:
    none, given = Skeleton("a", ("b", "c")), Skeleton("a", ("b", "c"), sigmas=(0.05, 0.05))
    assert none.sigmas == given.sigmas
    assert [each.has_sigmas for each in (none, given)] == [False, True]
    for skeleton in (none, given, replace(none, sigmas=(0.05, 0.06))):
        for again in (replace(skeleton, name="d"), Skeleton.from_dict(skeleton.to_dict())):
            assert again.has_sigmas is skeleton.has_sigmas
    # Weights of earlier versions list constants that nobody gave.
    old = {**none.to_dict(), "sigmas": [0.05, 0.05]}
    assert Skeleton.from_dict(old).has_sigmas is False
    assert "has_sigmas" not in none.to_dict()


SPELLINGS = [
    ("left_eye", ["Left Eye", "LEye", "l_eye", "eye.left", "EYE_LEFT", "leftEye", "L-Eye", "leye"],
     ["right_eye", "eye", "left_ear", "lefteyes", "left_eye_2", ""]),
    ("nose", ["Nose", "NOSE", " nose "], ["nose_1", "noses"]),
    ("left_shoulder", ["Lshoulder", "lShoulder", "shoulder_l"], ["rshoulder"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "alike", "others"), SPELLINGS)
def test_names_in_other_spellings(name: str, alike: list[str], others: list[str]) -> None:
    for spelling in alike:
        assert spelled_alike([spelling], [name]), spelling
    for other in others:
        assert not spelled_alike([other], [name]), other
    assert not spelled_alike([name, name], [name])


@pytest.mark.parametrize("skeleton", SHIPPED.values(), ids=SHIPPED)
def test_the_shipped_skeletons(skeleton: Skeleton) -> None:
    assert skeleton.name.endswith(str(len(skeleton))) or skeleton is AP_10K
    assert skeleton.has_sigmas or skeleton in NUMBERED[1:]
    # Every pair that the names have, and beside them only the points of a face, which have numbers.
    guessed, pairs = set(guess_flip_pairs(skeleton.keypoints)), set(skeleton.flip_pairs)
    assert guessed <= pairs
    numbers = tuple(f"{face.keypoints[0].partition('-')[0]}-" for face in NUMBERED)
    for pair in pairs - guessed:
        assert all(skeleton.keypoints[index].startswith(numbers) for index in pair)
    # Mirrored, the limbs are the same limbs.
    order = skeleton.flip_permutation
    limbs = {frozenset(limb) for limb in skeleton.limbs}
    assert {frozenset(int(order[end]) for end in limb) for limb in limbs} == limbs
    connected = {index for limb in limbs for index in limb}
    loose = {skeleton.keypoints[index] for index in set(range(len(skeleton))) - connected}
    assert not loose or skeleton in NUMBERED[1:]
    upper = {int(order[index]) for index in skeleton.upper_body}
    assert upper == set(skeleton.upper_body)


def test_a_keypoint_of_two_skeletons_has_one_sigma() -> None:
    for skeleton in (MPII_16, LSP_14, HALPE_26, CROWDPOSE_14, COCO_FEET_23, WHOLEBODY_133):
        for name in set(COCO_17.keypoints) & set(skeleton.keypoints):
            sigma = skeleton.sigmas[skeleton.keypoints.index(name)]
            assert sigma == COCO_17.sigmas[COCO_17.keypoints.index(name)]


def test_halpe() -> None:
    assert HALPE_26.keypoints[:17] == COCO_17.keypoints
    names = HALPE_26.keypoints
    # Halpe lists the feet by part, COCO-WholeBody by side; the middle of the body has no twin.
    assert names[20:24] == ("left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe")
    assert {names[i] for i in range(26) if HALPE_26.flip_permutation[i] == i} == {
        "nose", "head", "neck", "hip",
    }  # fmt: skip
    assert {names[i] for i in HALPE_26.lower_body} == {
        name for name in names if name.rpartition("_")[2] in ("hip", "knee", "ankle", "toe", "heel")
    }
    # As AlphaPose spells them.
    body = "Nose LEye REye LEar REar LShoulder RShoulder LElbow RElbow LWrist RWrist LHip RHip"
    legs = "LKnee Rknee LAnkle RAnkle Head Neck Hip LBigToe RBigToe LSmallToe RSmallToe LHeel RHeel"
    assert from_coco_category({"keypoints": f"{body} {legs}".split()}) is HALPE_26


def test_whole_body() -> None:
    assert WHOLEBODY_133.keypoints[:17] == COCO_17.keypoints
    assert len(WHOLEBODY_133.flip_pairs) == 8 + 3 + 29 + 21
    # The tip of the nose and the chin are in the middle of a face.
    assert [int(WHOLEBODY_133.flip_permutation[23 + i]) - 23 for i in (8, 30, 0)] == [8, 30, 16]
    assert WHOLEBODY_133.sigmas[91:112] == WHOLEBODY_133.sigmas[112:] == HAND_21.sigmas
    assert WHOLEBODY_133.keypoints[:23] == COCO_FEET_23.keypoints
    assert WHOLEBODY_133.keypoints[23:91] == HALPE_136.keypoints[26:94] == FACE_68.keypoints
    # Everything but the hands, and a name, is what two looks begin with.
    assert COCO_HANDS_59.keypoints[17:] == WHOLEBODY_133.keypoints[91:]
    assert with_hands(WHOLEBODY_133) is WHOLEBODY_133


def test_the_outlines_of_a_face() -> None:
    # Jaw, two eyebrows, bridge and wings of the nose are lines; eyes and lips are closed.
    count = dict.fromkeys(range(68), 0)
    for limb in FACE_68.limbs:
        for index in limb:
            count[index] += 1
    ends = {index for index, limbs in count.items() if limbs == 1}
    assert ends == {0, 16, 17, 21, 22, 26, 27, 30, 31, 35}
    assert set(count.values()) == {1, 2}


@pytest.mark.parametrize("skeleton", [RHD_21, INTERHAND_21], ids=lambda s: s.name)
def test_hands_in_other_orders_are_the_same_hand(skeleton: Skeleton) -> None:
    assert skeleton.keypoints != HAND_21.keypoints
    assert set(skeleton.keypoints) == set(HAND_21.keypoints)

    def named(hand: Skeleton) -> tuple[set[frozenset[str]], dict[str, tuple[object, ...]]]:
        limbs = {frozenset(hand.keypoints[end] for end in limb) for limb in hand.limbs}
        looks = zip(hand.sigmas, hand.colors, strict=True)
        return limbs, dict(zip(hand.keypoints, looks, strict=True))

    assert named(skeleton) == named(HAND_21)
    # InterHand2.6M lists the wrist last; a finger is a chain from it to the tip.
    assert INTERHAND_21.keypoints[-1] == "wrist"
    assert (20, 3) in INTERHAND_21.limbs


@pytest.mark.parametrize("face", NUMBERED, ids=lambda s: s.name)
def test_the_middle_of_a_face_stays_in_place(face: Skeleton) -> None:
    middle = {
        "face-68": [8, 27, 28, 29, 30, 33, 51, 57, 62, 66],
        "wflw-98": [16, 51, 52, 53, 54, 57, 79, 85, 90, 94],
        "cofw-29": [20, 21, 24, 25, 26, 27, 28],
        "aflw-19": [13, 16, 18],
    }[face.name]
    assert [i for i in range(len(face)) if face.flip_permutation[i] == i] == middle


def test_the_body_of_a_whole_body() -> None:
    assert COCO_HANDS_59.subset(COCO_HANDS_59.body) == replace(COCO_17, name="coco-hands-59")
    for skeleton, k in ((WHOLEBODY_133, 23), (HALPE_136, 26), (HAND_21, 21), (FACE_68, 68)):
        assert skeleton.body == tuple(range(k))
        assert skeleton.subset(range(len(skeleton))) == skeleton
    parts = dict.fromkeys(WHOLEBODY_133.parts, 0)
    for part in WHOLEBODY_133.parts:
        parts[part] += 1
    # As COCO-WholeBody's evaluation counts them.
    assert parts == {"body": 17, "foot": 6, "face": 68, "left_hand": 21, "right_hand": 21}
    right = HAND_21.subset([0, 4])
    assert (right.keypoints, right.limbs) == (("wrist", "thumb4"), ())


OTHER_NAMES = [
    ("LThumb1", "left_hand", 0), ("index_finger_tip", "hand", 1),
    ("R_MiddleFinger2", "right_hand", 2), ("left_ring_finger3", "left_hand", 3),
    ("RightPinky", "right_hand", 4),
    ("left_hand_root", "left_hand", None), ("LBigToe", "foot", None), ("face_12", "face", None),
    ("left_wrist", "body", None), ("middle_of_back", "body", None), ("earring", "body", None),
    ("left_front_paw", "body", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "part", "finger"), OTHER_NAMES)
def test_names_say_the_part(name: str, part: str, finger: int | None) -> None:
    skeleton = Skeleton("one", (name,))
    assert (skeleton.parts, skeleton.fingers) == ((part,), (finger,))


@pytest.mark.parametrize("pairs", [(), ((0, 1),), ((0, 3), (1, 2))])
def test_mirroring_twice_is_the_identity(pairs: tuple[tuple[int, int], ...]) -> None:
    skeleton = Skeleton("four", ("a", "b", "c", "d"), flip_pairs=pairs)
    order = skeleton.flip_permutation
    np.testing.assert_array_equal(order[order], range(4))
    for left, right in pairs:
        assert order[left] == right


def test_what_is_left_out_has_defaults() -> None:
    skeleton = Skeleton("two", ("a", "b"))
    assert skeleton.sigmas == (DEFAULT_SIGMA, DEFAULT_SIGMA)
    assert skeleton.weights == (1.0, 1.0)
    assert skeleton.lower_body == ()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"keypoints": ()}, "keypoints: expected at least one name"),
        ({"keypoints": ("a", "a")}, "no name twice"),
        ({"sigmas": (0.1,)}, "sigmas: expected 3 positive numbers"),
        ({"sigmas": (0.1, 0.1, 0)}, "sigmas: expected 3 positive numbers"),
        ({"weights": (1, 1, float("nan"))}, "weights: expected 3 positive numbers"),
        ({"flip_pairs": ((0, 3),)}, "flip_pairs: expected pairs of different indices below 3"),
        ({"flip_pairs": ((1, 1),)}, "flip_pairs: expected pairs of different indices"),
        ({"flip_pairs": ((0, 1), (1, 2))}, "each keypoint in at most one pair"),
        ({"limbs": ((-1, 2),)}, "limbs: expected pairs"),
        ({"limbs": ((0, 1, 2),)}, "limbs: expected pairs"),
        ({"upper_body": (3,)}, "upper_body: expected indices below 3"),
        ({"colors": ((0, 0, 0),)}, "colors: expected 3 of red, green and blue"),
        ({"colors": ((0, 0, 256),) * 3}, "colors: expected 3 of red, green and blue"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"skeleton 'odd', .*{message}"):
        Skeleton(**{"name": "odd", "keypoints": ("a", "b", "c"), **parts})


@pytest.mark.parametrize("known", SHIPPED.values(), ids=SHIPPED)
def test_a_known_category_is_its_skeleton(known: Skeleton) -> None:
    assert from_coco_category(known.to_coco_category()) is known


def test_a_category_of_ones_own() -> None:
    category = {
        "name": "horse",
        "keypoints": ["nose", "l_ear", "r_ear", "tail"],
        "skeleton": [[1, 2], [1, 3]],
    }
    horse = from_coco_category(category)
    assert horse.name == "horse"
    assert horse.flip_pairs == ((1, 2),)
    assert horse.limbs == ((0, 1), (0, 2))
    assert horse.to_coco_category(7) == {"id": 7, **category}


def test_a_category_without_limbs() -> None:
    assert from_coco_category({"keypoints": ["a"], "skeleton": None}).limbs == ()


@pytest.mark.parametrize(
    "skeleton", [COCO_17, HAND_21, Skeleton("one", ("a",))], ids=lambda s: s.name
)
def test_a_dictionary_and_back(skeleton: Skeleton) -> None:
    assert Skeleton.from_dict(skeleton.to_dict()) == skeleton


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (("left_ear", "right_ear", "nose"), ((0, 1),)),
        (("right_ear", "left_ear"), ((1, 0),)),
        (("LeftHip", "RightHip"), ((0, 1),)),
        (("l_hip", "r_hip"), ((0, 1),)),
        (("hip_l", "hip_r"), ((0, 1),)),
        (("lhip", "rhip", "lank", "rank"), ((0, 1), (2, 3))),
        (("hip.L", "hip.R"), ((0, 1),)),
        (("L_Eye", "R_Eye", "Root of tail"), ((0, 1),)),
        (("左耳", "右耳", "鼻"), ((0, 1),)),
        (("earL", "earR"), ((0, 1),)),
        (("R1", "R2", "L1", "L2"), ((2, 0), (3, 1))),
        (("Lshoulder", "Rshoulder"), ((0, 1),)),
        (("LEye", "REye", "LEYE_top", "REYE_top"), ((0, 1), (2, 3))),
        (("Left Eye", "Right Eye"), ((0, 1),)),
        (("l-eye", "r-eye"), ((0, 1),)),
        (("eye 左", "eye 右", "左前足", "右前足"), ((0, 1), (2, 3))),
        (
            (
                "left_eye_left_corner",
                "left_eye_right_corner",
                "right_eye_left_corner",
                "right_eye_right_corner",
            ),
            ((0, 3), (1, 2)),
        ),
        (("bright_left", "bright_right"), ((0, 1),)),
        (("LF", "RF", "LH", "RH"), ((0, 1), (2, 3))),
        # Not by chance.
        (("ear", "rear", "leg", "reg", "lip"), ()),
        (("left_ear", "rear", "leg"), ()),
        (("front_light", "front_right"), ()),
        (("L1", "L2", "L3"), ()),
        (("lip", "nose"), ()),
        (("left_ear", "nose"), ()),
        ((), ()),
    ],
)
def test_flip_pairs_are_guessed_by_name(
    names: tuple[str, ...], pairs: tuple[tuple[int, int], ...]
) -> None:
    assert guess_flip_pairs(names) == pairs


# How annotators write the two sides of a keypoint.
STYLES: dict[str, Callable[[str, str], str]] = {
    "left_ear": lambda side, name: f"{side}_{name}",
    "ear_left": lambda side, name: f"{name}_{side}",
    "Left Ear": lambda side, name: f"{side} {name}".title(),
    "LeftEar": lambda side, name: side.title() + name.title(),
    "LEFT-EAR": lambda side, name: f"{side}-{name}".upper(),
    "frontleft": lambda side, name: f"{name}{side}",
    "l_ear": lambda side, name: f"{side[0]}_{name}",
    "l-ear": lambda side, name: f"{side[0]}-{name}",
    "ear_l": lambda side, name: f"{name}_{side[0]}",
    "ear.L": lambda side, name: f"{name}.{side[0].upper()}",
    "earL": lambda side, name: f"{name}{side[0].upper()}",
    "LEar": lambda side, name: side[0].upper() + name.title(),
    "lEar": lambda side, name: side[0] + name.title(),
    "lear": lambda side, name: f"{side[0]}{name}",
    "Lear": lambda side, name: f"{side[0].upper()}{name}",
    "L1": lambda side, name: f"{side[0].upper()}{len(name)}{ord(name[0])}{ord(name[-1])}",
    "左ear": lambda side, name: ("左" if side == "left" else "右") + name,
}
PARTS = ("ear", "eye", "hip", "shoulder", "wrist", "knee", "paw", "wing")


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=30)
@given(data=st.data())
def test_the_same_pairs_in_every_style(style: str, data: st.DataObject) -> None:
    parts = data.draw(st.lists(st.sampled_from(PARTS), unique=True))
    names = [STYLES[style](side, part) for part in parts for side in ("left", "right")]
    middle = data.draw(st.lists(st.sampled_from(("nose", "rear", "Lip", "neck")), unique=True))
    names += [name for name in middle if name not in map(str.lower, names)]
    order = data.draw(st.permutations(range(len(names))))
    shuffled = [names[i] for i in order]
    expected = {(2 * i, 2 * i + 1) for i in range(len(parts))}
    assert {(order[a], order[b]) for a, b in guess_flip_pairs(shuffled)} == expected


@given(st.lists(st.text(max_size=12), unique=True))
def test_guessed_pairs_fit_into_a_skeleton(names: list[str]) -> None:
    pairs = guess_flip_pairs(names)
    if names:
        Skeleton("any", tuple(names), flip_pairs=pairs)
    assert not set(one_sided(names, pairs)) & {names[i] for pair in pairs for i in pair}


def test_a_side_without_its_twin_is_told() -> None:
    names = ("left_ear", "right_ear", "tailL", "nose", "rear")
    assert one_sided(names, guess_flip_pairs(names)) == ("tailL",)
