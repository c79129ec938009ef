"""Crops and their warp: equal to the official numbers, and exactly invertible."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden_rules
from hrpose.geometry import Crop, transform, warp

CROPS = golden_rules.facts("pipeline")["crops"]
NUMBERS = golden_rules.arrays("pipeline")


def golden_crop(index: int) -> Crop:
    facts = CROPS[index]
    return Crop.from_box(
        facts["box_xywh"], tuple(facts["input_wh"]), rotation_deg=facts["rotation_deg"]
    )


@pytest.mark.parametrize("index", range(len(CROPS)))
def test_golden_crop(index: int) -> None:
    crop = golden_crop(index)
    np.testing.assert_allclose(crop.center, NUMBERS[f"crop{index}_center"], rtol=1e-6)
    np.testing.assert_allclose(crop.size, NUMBERS[f"crop{index}_size_px"], rtol=1e-6)
    np.testing.assert_allclose(crop.matrix, NUMBERS[f"crop{index}_matrix"], atol=1e-4)
    np.testing.assert_allclose(crop.inverse_matrix, NUMBERS[f"crop{index}_inverse"], atol=1e-4)


@pytest.mark.parametrize("index", range(len(CROPS)))
def test_golden_warp(index: int) -> None:
    facts = CROPS[index]
    image = golden_rules.picture(facts["picture_seed"], *facts["image_hw"])
    warped = warp(image, golden_crop(index))
    expected = NUMBERS[f"crop{index}_image"]
    assert warped.shape == expected.shape
    assert warped.dtype == np.uint8
    difference = np.abs(warped.astype(int) - expected)
    assert (difference <= 2).mean() >= 0.999


finite = st.floats(-5000, 5000)
crops = st.builds(
    Crop.from_box,
    st.tuples(finite, finite, st.floats(1, 3000), st.floats(1, 3000)),
    st.sampled_from([(192, 256), (288, 384), (256, 256), (96, 128)]),
    padding=st.floats(0.5, 2),
    rotation_deg=st.floats(-180, 180),
)
points = st.lists(st.tuples(finite, finite), min_size=1, max_size=20)


@given(crops, points, st.booleans())
def test_there_and_back_is_the_identity(
    crop: Crop, points_xy: list[tuple[float, float]], mirrored: bool
) -> None:
    if mirrored:
        crop = Crop(crop.center, crop.size, crop.input_wh, crop.rotation_deg, mirrored=True)
    inside = transform(points_xy, crop.matrix)
    np.testing.assert_allclose(transform(inside, crop.inverse_matrix), points_xy, atol=1e-6)


@given(crops, points)
def test_mirroring_reverses_the_columns_about_the_centre(
    crop: Crop, points_xy: list[tuple[float, float]]
) -> None:
    upright = Crop(crop.center, crop.size, crop.input_wh)
    mirrored = Crop(crop.center, crop.size, crop.input_wh, mirrored=True)
    expected = transform(points_xy, upright.matrix)
    expected[:, 0] = crop.input_wh[0] - expected[:, 0]
    np.testing.assert_allclose(transform(points_xy, mirrored.matrix), expected, atol=1e-6)


@given(crops)
def test_the_centre_stays_in_the_middle_and_the_aspect_is_the_inputs(crop: Crop) -> None:
    width, height = crop.input_wh
    middle = transform([crop.center], crop.matrix)[0]
    np.testing.assert_allclose(middle, (width / 2, height / 2), atol=1e-6)
    assert crop.size[0] / crop.size[1] == pytest.approx(width / height)


@given(crops, points)
def test_many_matrices_equal_one_at_a_time(
    crop: Crop, points_xy: list[tuple[float, float]]
) -> None:
    matrices = np.stack([crop.matrix, crop.inverse_matrix])
    together = transform(np.stack([points_xy, points_xy]), matrices)
    for result, matrix in zip(together, matrices, strict=True):
        np.testing.assert_allclose(result, transform(points_xy, matrix), rtol=1e-12, atol=1e-9)


def test_rotation_turns_the_picture_clockwise() -> None:
    upright = Crop((50, 50), (100, 100), (100, 100))
    turned = Crop((50, 50), (100, 100), (100, 100), rotation_deg=90)
    above = [(50.0, 20.0)]
    np.testing.assert_allclose(transform(above, upright.matrix), [(50, 20)], atol=1e-9)
    side = transform(above, turned.matrix)[0]
    image = np.zeros((100, 100, 3), np.uint8)
    image[18:23, 48:53] = 255
    rows, columns = np.nonzero(warp(image, turned)[..., 0] > 128)
    np.testing.assert_allclose((columns.mean(), rows.mean()), side, atol=1)


def test_outside_the_image_is_black() -> None:
    image = np.full((40, 30, 3), 200, np.uint8)
    assert not warp(image, Crop.from_box((500, 500, 20, 20), (96, 128))).any()


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 0, 10),
        (0, 0, 10, 0),
        (0, 0, -5, 10),
        (0, 0, 10, float("nan")),
        (float("inf"), 0, 10, 10),
        (0, 0, 10),
        (0, 0, 10, 10, 1),
        [[0, 0, 10, 10]],
    ],
)
def test_a_box_that_is_none_is_refused(box: object) -> None:
    with pytest.raises(ValueError, match="box: expected four finite numbers"):
        Crop.from_box(box, (192, 256))  # type: ignore[arg-type]
