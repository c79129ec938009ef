"""Crops and their warp, exactly invertible (golden numbers: tests/evaluation/parity), and boxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hrpose.geometry import (
    Crop,
    box_around,
    clip_boxes,
    expand_boxes,
    iou,
    iou_of_pairs,
    nms,
    transform,
    transform_boxes,
    warp,
    xywh_to_xyxy,
    xyxy_to_xywh,
)

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
def test_mirroring_reverses_the_columns_about_the_center(
    crop: Crop, points_xy: list[tuple[float, float]]
) -> None:
    upright = Crop(crop.center, crop.size, crop.input_wh)
    mirrored = Crop(crop.center, crop.size, crop.input_wh, mirrored=True)
    expected = transform(points_xy, upright.matrix)
    expected[:, 0] = crop.input_wh[0] - expected[:, 0]
    np.testing.assert_allclose(transform(points_xy, mirrored.matrix), expected, atol=1e-6)


@given(crops)
def test_the_center_stays_in_the_middle_and_the_aspect_is_the_inputs(crop: Crop) -> None:
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


def test_rotation_turns_the_image_clockwise() -> None:
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


# Whole numbers, so that nothing is rounded.
places, lengths = st.integers(-50, 100).map(float), st.integers(1, 80).map(float)
box_lists = st.lists(st.tuples(places, places, lengths, lengths), max_size=12).map(
    lambda rows: np.array(rows, np.float64).reshape(-1, 4)
)


@given(box_lists)
def test_corners_and_back(boxes: NDArray[np.float64]) -> None:
    corners = xywh_to_xyxy(boxes)
    np.testing.assert_array_equal(corners[:, 2:] - corners[:, :2], boxes[:, 2:])
    np.testing.assert_array_equal(xyxy_to_xywh(corners), boxes)
    assert xywh_to_xyxy(boxes.astype(np.float32)).dtype == np.float32


@given(box_lists, st.booleans())
def test_boxes_go_where_their_pixels_go(boxes: NDArray[np.float64], mirrored: bool) -> None:
    # 2 input pixels for one of the image, around its pixel (30, 40).
    crop = Crop((30.0, 40.0), (24.0, 32.0), (48, 64), mirrored=mirrored, unit_lengths=True)
    moved = transform_boxes(boxes, crop.matrix)
    np.testing.assert_allclose(moved[:, 2:], boxes[:, 2:] * [47 / 24, 63 / 32])
    middle = transform(boxes[:, :2] + boxes[:, 2:] / 2 - 0.5, crop.matrix)
    np.testing.assert_allclose(moved[:, :2] + moved[:, 2:] / 2 - 0.5, middle, atol=1e-9)
    np.testing.assert_allclose(transform_boxes(moved, crop.inverse_matrix), boxes, atol=1e-9)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([10, 20, 30, 40], [10, 20, 30, 40]),
        ([-10, 20, 30, 40], [0, 20, 20, 40]),
        ([90, 70, 30, 40], [90, 70, 10, 10]),
        ([-10, -10, 500, 500], [0, 0, 100, 80]),
        ([200, 20, 30, 40], [100, 20, 0, 40]),
    ],
)
def test_boxes_are_cut_at_the_edges(box: list[float], expected: list[float]) -> None:
    assert clip_boxes(np.array(box, float), (100, 80)).tolist() == expected


@given(box_lists, st.integers(0, 20))
def test_a_margin_is_on_every_side(boxes: NDArray[np.float64], margin: float) -> None:
    expected = xywh_to_xyxy(boxes) + np.array([-margin, -margin, margin, margin])
    np.testing.assert_array_equal(xywh_to_xyxy(expand_boxes(boxes, margin)), expected)
    each = expand_boxes(boxes, np.full(len(boxes), margin))
    np.testing.assert_array_equal(each, expand_boxes(boxes, margin))


@given(st.lists(st.tuples(places, places, st.booleans()), max_size=9))
def test_the_box_around_points_touches_the_outermost(rows: list[tuple[float, float, bool]]) -> None:
    points = np.array([row[:2] for row in rows]).reshape(-1, 2)
    counted = np.array([row[2] for row in rows], bool)
    box = box_around(np.stack([points, points]), np.stack([counted, ~counted]))
    for found, there in zip(box, (counted, ~counted), strict=True):
        if there.any():
            low, high = points[there].min(axis=0), points[there].max(axis=0)
            assert xywh_to_xyxy(found).tolist() == [*low, *high]
        else:
            assert np.isnan(found).all()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1.0),
        ([0, 0, 10, 10], [5, 0, 10, 10], 1 / 3),
        ([0, 0, 10, 10], [10, 0, 10, 10], 0.0),
        ([0, 0, 10, 10], [50, 50, 1, 1], 0.0),
        ([0, 0, 10, 10], [2, 2, 5, 4], 0.2),
        ([0, 0, 0, 0], [0, 0, 0, 0], 0.0),
    ],
)
def test_iou(one: list[float], other: list[float], expected: float) -> None:
    found = iou(np.array([one], float), np.array([other], float))
    assert found == pytest.approx(np.array([[expected]]))
    assert iou_of_pairs(np.array(other), np.array(one)) == pytest.approx(expected)


@given(box_lists, box_lists)
def test_iou_of_all_is_that_of_each(a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    every = iou(a, b)
    assert every.shape == (len(a), len(b))
    for i, j in np.ndindex(every.shape):
        assert every[i, j] == iou_of_pairs(a[i], b[j])


@given(box_lists, st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_nms_keeps_the_best_and_no_two_alike(
    boxes: NDArray[np.float64], most: float, seed: int
) -> None:
    scores = np.random.default_rng(seed).integers(0, 5, len(boxes)) / 4
    kept = nms(boxes, scores, most)
    assert (np.diff(scores[kept]) <= 0).all()
    alike = iou(boxes, boxes)
    assert (alike[np.ix_(kept, kept)][~np.eye(len(kept), dtype=bool)] <= most).all()
    # Who went had to make way for a better one.
    for gone in set(range(len(boxes))) - set(kept.tolist()):
        better = kept[scores[kept] >= scores[gone]]
        assert (alike[gone, better] > most).any()


def test_of_equal_boxes_the_first_stays() -> None:
    box = np.array([[3.0, 4.0, 5.0, 6.0]] * 3)
    assert nms(box, np.array([0.5, 0.5, 0.5]), 0.5).tolist() == [0]
    assert nms(box, np.array([0.5, 0.5, 0.5]), 1.0).tolist() == [0, 1, 2]
    assert nms(box[:0], np.zeros(0), 0.5).tolist() == []
