"""Augmentation: the distributions that the paper and the official code state."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from hrpose.data.augmentation import Augmentation, draw_crop, half_body, photometric
from hrpose.geometry import Crop
from hrpose.skeletons import COCO_17

DRAWS = 20_000
CROP = Crop.from_box((10, 20, 60, 80), (192, 256))


def person() -> NDArray[np.float32]:
    """Seventeen labeled keypoints: the upper body at the top, the lower one below."""
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[:, 0] = 20 + np.arange(17)
    keypoints[:, 1] = [30 if i in COCO_17.upper_body else 80 for i in range(17)]
    keypoints[:, 1] += np.arange(17) / 10
    keypoints[:, 2] = 2
    return keypoints


def draws(augmentation: Augmentation, keypoints: NDArray[np.float32]) -> list[Crop]:
    rng = np.random.default_rng(3)
    return [draw_crop(CROP, keypoints, COCO_17, augmentation, rng) for _ in range(DRAWS)]


@pytest.fixture(scope="module")
def whole() -> list[Crop]:
    return draws(Augmentation(half_body_probability=0), person())


def test_scale_is_a_cut_normal(whole: list[Crop]) -> None:
    factors = np.array([crop.size[0] / CROP.size[0] for crop in whole])
    assert factors.min() == pytest.approx(0.65)
    assert factors.max() == pytest.approx(1.35)
    # A normal draw is beyond one standard deviation on either side with probability 0.1587.
    assert np.isclose(factors, 0.65).mean() == pytest.approx(0.1587, abs=0.01)
    assert np.isclose(factors, 1.35).mean() == pytest.approx(0.1587, abs=0.01)
    assert factors.mean() == pytest.approx(1, abs=0.01)


def test_scale_keeps_the_aspect_and_the_center(whole: list[Crop]) -> None:
    aspects = [crop.size[0] / crop.size[1] for crop in whole]
    np.testing.assert_allclose(aspects, 0.75)
    assert {crop.center for crop in whole} == {CROP.center}


def test_rotation_is_a_cut_normal_six_times_of_ten(whole: list[Crop]) -> None:
    angles = np.array([crop.rotation_deg for crop in whole])
    turned = angles[angles != 0]
    assert len(turned) / DRAWS == pytest.approx(0.6, abs=0.01)
    assert (turned.min(), turned.max()) == (-90, 90)
    # Beyond two standard deviations on either side: 0.0228.
    assert (turned == 90).mean() == pytest.approx(0.0228, abs=0.005)
    assert (abs(turned) < 45).mean() == pytest.approx(0.6827, abs=0.015)
    assert turned.mean() == pytest.approx(0, abs=1.5)


def test_uniform_draws() -> None:
    crops = draws(Augmentation(half_body_probability=0, draws="uniform"), person())
    factors = np.array([crop.size[0] / CROP.size[0] for crop in crops])
    angles = np.array([crop.rotation_deg for crop in crops])
    for values, low, high in ((factors, 0.65, 1.35), (angles[angles != 0], -45, 45)):
        shares, _ = np.histogram(values, bins=10, range=(low, high))
        assert shares.sum() == len(values)
        np.testing.assert_allclose(shares / len(values), 0.1, atol=0.012)


def test_half_are_mirrored(whole: list[Crop]) -> None:
    assert np.mean([crop.mirrored for crop in whole]) == pytest.approx(0.5, abs=0.012)


def test_the_choices_are_independent(whole: list[Crop]) -> None:
    columns = [(c.size[0], c.rotation_deg, c.mirrored, abs(c.rotation_deg) > 0) for c in whole]
    correlation = np.corrcoef(np.array(columns, float).T)[[0, 0, 0, 1, 2], [1, 2, 3, 2, 3]]
    assert np.abs(correlation).max() < 0.03


def test_half_bodies_come_three_times_of_ten_and_mostly_upper() -> None:
    heights = np.array([crop.center[1] for crop in draws(Augmentation(), person())])
    halves = heights != CROP.center[1]
    assert halves.mean() == pytest.approx(0.3, abs=0.01)
    assert (heights[halves] < 50).mean() == pytest.approx(0.69, abs=0.02)


def test_nothing_is_changed_where_nothing_is_asked_for() -> None:
    still = Augmentation(
        scale=0, rotation_deg=0, flip_probability=0, half_body_probability=0, shift=0
    )
    rng = np.random.default_rng(0)
    assert draw_crop(CROP, person(), COCO_17, still, rng) == CROP


def test_one_choice_never_shifts_the_others() -> None:
    def crops(augmentation: Augmentation) -> list[Crop]:
        rng = np.random.default_rng(4)
        return [draw_crop(CROP, person(), COCO_17, augmentation, rng) for _ in range(50)]

    with_flips, without = crops(Augmentation()), crops(Augmentation(flip_probability=0))
    assert [replace(crop, mirrored=False) for crop in with_flips] == without


def labeled(upper: int, lower: int) -> NDArray[np.float32]:
    keypoints = person()
    keypoints[:, 2] = 0
    keypoints[list(COCO_17.upper_body[:upper]), 2] = 1
    keypoints[list(COCO_17.lower_body[:lower]), 2] = 2
    return keypoints


@pytest.mark.parametrize(
    ("upper", "lower", "prefer_upper", "expected"),
    [
        (11, 6, True, "upper"),
        (11, 6, False, "lower"),
        (5, 3, True, None),  # eight labeled keypoints are not more than eight
        (5, 4, True, "upper"),
        (3, 6, True, "upper"),
        (3, 6, False, "lower"),
        (11, 2, False, "upper"),  # too few of the preferred lower half
        (11, 3, False, "lower"),
        (11, 0, False, "upper"),
    ],
)
def test_which_half_is_taken(
    upper: int, lower: int, prefer_upper: bool, expected: str | None
) -> None:
    keypoints = labeled(upper, lower)
    crop = half_body(CROP, keypoints, COCO_17, Augmentation(), prefer_upper)
    if expected is None:
        assert crop == CROP
        return
    chosen = COCO_17.upper_body[:upper] if expected == "upper" else COCO_17.lower_body[:lower]
    points = keypoints[list(chosen), :2]
    np.testing.assert_allclose(crop.center, points.mean(axis=0), rtol=1e-5)
    extent = np.ptp(points, axis=0)
    width = max(extent[0], extent[1] * 0.75, 1) * 1.5
    np.testing.assert_allclose(crop.size, (width, width / 0.75), rtol=1e-5)


@pytest.mark.parametrize(("prefer_upper", "expected"), [(True, "lower"), (False, "lower")])
def test_the_lower_half_stands_in_for_a_missing_upper_one(
    prefer_upper: bool, expected: str
) -> None:
    few = Augmentation(half_body_min_keypoints=5)
    crop = half_body(CROP, labeled(2, 6), COCO_17, few, prefer_upper)
    assert (crop.center[1] > 50) == (expected == "lower")


def test_no_half_has_enough() -> None:
    few = Augmentation(half_body_min_keypoints=0)
    assert half_body(CROP, labeled(1, 1), COCO_17, few, prefer_upper=True) == CROP


def test_photometric_changes_stay_in_range_and_repeat() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 24, 3)).astype(np.uint8)
    before = image.copy()
    seen = set()
    for seed in range(50):
        one = photometric(image, 1.0, np.random.default_rng(seed))
        other = photometric(image, 1.0, np.random.default_rng(seed))
        assert one.dtype == np.uint8
        assert one.shape == image.shape
        assert (one == other).all()
        seen.add(one.tobytes())
    assert len(seen) > 30
    assert (image == before).all()
    assert photometric(image, 0.0, np.random.default_rng(0)) is image
