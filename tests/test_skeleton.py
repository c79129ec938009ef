"""Skeletons: what fits together is accepted, what does not is named."""

from typing import Any

import numpy as np
import pytest

from hrpose.skeleton import DEFAULT_SIGMA, Skeleton, guess_flip_pairs
from hrpose.skeletons import (
    AP_10K,
    COCO_17,
    CROWDPOSE_14,
    HAND_21,
    LSP_14,
    MPII_16,
    SHIPPED,
    WHOLEBODY_133,
    from_coco_category,
)


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


@pytest.mark.parametrize("skeleton", SHIPPED.values(), ids=SHIPPED)
def test_the_shipped_skeletons(skeleton: Skeleton) -> None:
    assert skeleton.name.endswith(str(len(skeleton))) or skeleton is AP_10K
    assert skeleton.has_sigmas
    # Every pair that the names have, and beside them only the points of a face, which have numbers.
    guessed, pairs = set(guess_flip_pairs(skeleton.keypoints)), set(skeleton.flip_pairs)
    assert guessed <= pairs
    for pair in pairs - guessed:
        assert all(skeleton.keypoints[index].startswith("face-") for index in pair)
    # Mirrored, the limbs are the same limbs.
    order = skeleton.flip_permutation
    limbs = {frozenset(limb) for limb in skeleton.limbs}
    assert {frozenset(int(order[end]) for end in limb) for limb in limbs} == limbs
    connected = {index for limb in limbs for index in limb}
    loose = {skeleton.keypoints[index] for index in set(range(len(skeleton))) - connected}
    assert all(name.startswith("face-") for name in loose)
    upper = {int(order[index]) for index in skeleton.upper_body}
    assert upper == set(skeleton.upper_body)


def test_a_keypoint_of_two_skeletons_has_one_sigma() -> None:
    for skeleton in (MPII_16, LSP_14, CROWDPOSE_14, WHOLEBODY_133):
        for name in set(COCO_17.keypoints) & set(skeleton.keypoints):
            sigma = skeleton.sigmas[skeleton.keypoints.index(name)]
            assert sigma == COCO_17.sigmas[COCO_17.keypoints.index(name)]


def test_whole_body() -> None:
    assert WHOLEBODY_133.keypoints[:17] == COCO_17.keypoints
    assert len(WHOLEBODY_133.flip_pairs) == 8 + 3 + 29 + 21
    # The tip of the nose and the chin are in the middle of a face.
    assert [int(WHOLEBODY_133.flip_permutation[23 + i]) - 23 for i in (8, 30, 0)] == [8, 30, 16]
    assert WHOLEBODY_133.sigmas[91:112] == WHOLEBODY_133.sigmas[112:] == HAND_21.sigmas


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
        (("lip", "nose"), ()),
        (("left_ear", "nose"), ()),
        ((), ()),
    ],
)
def test_flip_pairs_are_guessed_by_name(
    names: tuple[str, ...], pairs: tuple[tuple[int, int], ...]
) -> None:
    assert guess_flip_pairs(names) == pairs
