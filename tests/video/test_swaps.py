import numpy as np
import pytest
from benchmarks.walkers import Planted, plant

from hrpose.skeletons import COCO_17, HAND_21, SHIPPED
from hrpose.video.tracks import _parts, find_swaps, swap


def found_in(walker: Planted) -> np.ndarray:
    """(t, 8) the swaps that are found."""
    points = walker.found[..., :2].astype(np.float64)
    noise = np.where(walker.found[..., 2] >= 0.2, 0.012 * walker.height, np.inf)
    return find_swaps(points, walker.times, noise, np.full(len(points), 6e4), COCO_17)


@pytest.mark.parametrize("kind", ["body", "legs", "arms", "shins"])
@pytest.mark.parametrize("yaw", [0.0, 0.8], ids=["front", "oblique"])
def test_planted_swaps_are_found(kind: str, yaw: float) -> None:
    walker = plant(
        np.random.default_rng(1), seconds=4, yaw=yaw, swaps=[kind], gaps=0, absences=0, outliers=0,
        swap_seconds=(0.2, 0.6),
    )  # fmt: skip
    found = found_in(walker)
    legs_and_arms = slice(2, None)  # eyes and ears are nearly as near as noise
    wrong = (found ^ walker.swapped)[:, legs_and_arms]
    assert walker.swapped.any()
    assert wrong.sum() <= 0.1 * walker.swapped[:, legs_and_arms].sum()


@pytest.mark.parametrize("yaw", [0.0, 0.8, 1.57], ids=["front", "oblique", "side"])
def test_nothing_is_found_where_nothing_is_swapped(yaw: float) -> None:
    """Legs that cross and arms that swing are no swaps."""
    walker = plant(np.random.default_rng(2), seconds=6, yaw=yaw, swaps=[], absences=0)
    assert not found_in(walker).any()


def test_of_two_labelings_the_usual_one_is_right() -> None:
    walker = plant(
        np.random.default_rng(3), seconds=4, yaw=0.0, swaps=["body"], gaps=0, absences=0,
        swap_seconds=(1.2, 1.4),
    )  # fmt: skip
    assert 0 < found_in(walker)[:, 2:].mean() < 0.5


def test_swapping_twice_changes_nothing() -> None:
    walker = plant(np.random.default_rng(4), seconds=2)
    once = swap(walker.found, walker.swapped, COCO_17)
    assert (once != walker.found).any()
    np.testing.assert_array_equal(swap(once, walker.swapped, COCO_17), walker.found)


@pytest.mark.parametrize("skeleton", SHIPPED.values(), ids=list(SHIPPED))
def test_each_pair_is_in_one_part(skeleton) -> None:  # type: ignore[no-untyped-def]
    members = [pair for part, _ in _parts(skeleton) for pair in part.tolist()]
    assert sorted(members) == list(range(len(skeleton.flip_pairs)))


def test_parts_of_coco_are_the_head_the_arms_and_the_legs() -> None:
    parts = [[COCO_17.keypoints[COCO_17.flip_pairs[i][0]] for i in p] for p, _ in _parts(COCO_17)]
    assert parts == [
        ["left_eye", "left_ear"],
        ["left_shoulder", "left_elbow", "left_wrist"],
        ["left_hip", "left_knee", "left_ankle"],
    ]


@pytest.mark.parametrize("frames", [0, 1, 2, 5])
def test_short_clips_and_skeletons_without_sides(frames: int) -> None:
    for skeleton in (COCO_17, HAND_21):
        points, noise = np.zeros((frames, len(skeleton), 2)), np.ones((frames, len(skeleton)))
        found = find_swaps(points, np.arange(frames) / 30, noise, np.ones(frames), skeleton)
        assert found.shape == (frames, len(skeleton.flip_pairs))
        assert not found.any()
