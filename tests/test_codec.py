"""The codec: heatmaps and points as round trips (golden numbers: tests/evaluation/parity)."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hrpose.codec import CODECS, Codec, decode, encode, flip_back, merge_flipped, sigma_for
from hrpose.geometry import Crop, transform, warp
from hrpose.skeletons import COCO_17


def as_numpy(array: Any) -> Any:
    return np.array(array)


def as_torch(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


both = pytest.mark.parametrize("to", [as_numpy, as_torch], ids=["numpy", "torch"])


SIZES = st.sampled_from([(48, 64), (72, 96), (64, 64), (24, 32)])


@st.composite
def labeled_points(draw: st.DrawFn) -> tuple[tuple[int, int], Any]:
    """A heatmap size, and points (n, k, 2) in input pixels whose heatmap pixel is inside."""
    width, height = draw(SIZES)
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 5)))
    x = draw(hnp.arrays(np.float64, shape, elements=st.floats(0, 4 * (width - 1))))
    y = draw(hnp.arrays(np.float64, shape, elements=st.floats(0, 4 * (height - 1))))
    return (width, height), np.stack([x, y], axis=-1)


@both
@given(case=labeled_points(), sigma=st.floats(1, 3))
def test_decoding_comes_back_within_half_a_heatmap_pixel(
    to: Any, case: tuple[tuple[int, int], Any], sigma: float
) -> None:
    size, points = case
    heatmaps, weights = encode(to(points), to(np.ones(points.shape[:2])), size, sigma)
    found, scores = decode(heatmaps)
    assert (np.asarray(weights) == 1).all()
    assert (np.asarray(scores) == 1).all()
    assert np.abs(np.asarray(found) - points / 4).max() <= 0.5 + 1e-6


@both
@given(case=labeled_points(), sigma=st.floats(1, 3))
def test_decoding_is_exact_for_points_on_whole_heatmap_pixels(
    to: Any, case: tuple[tuple[int, int], Any], sigma: float
) -> None:
    size, points = case
    whole = np.rint(points / 4)
    heatmaps, _ = encode(to(4 * whole), to(np.ones(points.shape[:2])), size, sigma)
    np.testing.assert_array_equal(decode(heatmaps)[0], whole)


heatmaps_of_17 = hnp.arrays(
    np.float32,
    (2, 17, 8, 6),
    elements=st.integers(-64, 64).map(lambda level: level / 64),  # halved without rounding
    fill=st.just(0.0),
)


@both
@given(heatmaps_of_17)
def test_a_batch_equals_its_singles(to: Any, heatmaps: Any) -> None:
    points, scores = decode(to(heatmaps))
    merged = merge_flipped(to(heatmaps), to(heatmaps), COCO_17.flip_permutation)
    for i, single in enumerate(heatmaps):
        one_points, one_scores = decode(to(single))
        np.testing.assert_array_equal(points[i], one_points)
        np.testing.assert_array_equal(scores[i], one_scores)
        one = merge_flipped(to(single), to(single), COCO_17.flip_permutation)
        np.testing.assert_array_equal(merged[i], one)


@both
@given(case=labeled_points())
def test_a_batch_of_targets_equals_its_singles(to: Any, case: tuple[tuple[int, int], Any]) -> None:
    size, points = case
    visible = np.ones(points.shape[:2])
    heatmaps, weights = encode(to(points), to(visible), size, 2)
    for i in range(len(points)):
        one_heatmaps, one_weights = encode(to(points[i]), to(visible[i]), size, 2)
        np.testing.assert_array_equal(heatmaps[i], one_heatmaps)
        np.testing.assert_array_equal(weights[i], one_weights)


@both
@given(heatmaps_of_17)
def test_mirroring_twice_is_the_identity(to: Any, heatmaps: Any) -> None:
    order = COCO_17.flip_permutation
    exact = flip_back(flip_back(to(heatmaps), order, shift=False), order, shift=False)
    np.testing.assert_array_equal(exact, heatmaps)
    # Mirrored again and shifted the same way it is where it was, but for the border columns.
    twice = flip_back(flip_back(to(heatmaps), order), order)
    np.testing.assert_array_equal(np.asarray(twice)[..., 1:], heatmaps[..., 1:])


@both
@given(heatmaps_of_17, st.booleans())
def test_the_flip_test_is_the_mean_of_both_views(to: Any, heatmaps: Any, shift: bool) -> None:
    back = flip_back(to(heatmaps), COCO_17.flip_permutation, shift=shift)
    assert back.shape == heatmaps.shape
    for keypoint, twin in enumerate(COCO_17.flip_permutation):
        columns = heatmaps[:, twin, :, ::-1]
        if shift:
            columns = np.concatenate([columns[..., :1], columns[..., :-1]], axis=-1)
        np.testing.assert_array_equal(back[:, keypoint], columns)
    direct = to(np.ones_like(heatmaps))
    merged = merge_flipped(direct, to(heatmaps), COCO_17.flip_permutation, shift=shift)
    np.testing.assert_array_equal(merged, (1 + np.asarray(back)) / 2)


@both
def test_the_flip_test_of_a_mirrored_person_is_the_person(to: Any) -> None:
    # The crop's column x is column 191 - x of the mirrored one. Heatmap pixel 10 shows column 40;
    # column 151 falls on pixel 38, which mirrored back is 9 and, moved to the right, 10 again.
    points = np.array([[[40.0, 80.0]] * 17])
    mirrored_points = np.array([[[191 - 40.0, 80.0]] * 17])
    visible = np.ones((1, 17))
    direct, _ = encode(to(points), to(visible), (48, 64), 2)
    mirrored, _ = encode(to(mirrored_points), to(visible), (48, 64), 2)
    merged = merge_flipped(direct, mirrored, COCO_17.flip_permutation)
    np.testing.assert_allclose(merged, direct, atol=1e-6)


@both
@pytest.mark.parametrize(
    ("point", "weight"),
    [
        ((0.0, 0.0), 1),
        ((-24.0, 10.0), 1),  # the square of 3 sigma still touches the first column
        ((-37.0, 10.0), 0),
        ((10.0, -400.0), 0),
        ((1e12, 10.0), 0),
        ((float("nan"), 10.0), 0),
        ((10.0, float("inf")), 0),
    ],
)
def test_points_off_the_heatmap_have_no_weight(
    to: Any, point: tuple[float, float], weight: int
) -> None:
    heatmaps, weights = encode(to(np.array([[point]])), to(np.ones((1, 1))), (48, 64), 2)
    assert np.asarray(weights).tolist() == [[weight]]
    assert np.isfinite(np.asarray(heatmaps)).all()
    assert bool(np.asarray(heatmaps).any()) == bool(weight)


@both
def test_unlabeled_keypoints_have_no_weight(to: Any) -> None:
    points, visible = np.full((1, 3, 2), 50.0), np.array([[0, 1, 2]])
    heatmaps, weights = encode(to(points), to(visible), (48, 64), 2)
    assert np.asarray(weights).tolist() == [[0, 1, 1]]
    assert not np.asarray(heatmaps)[0, 0].any()


@both
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (1, 5), (5, 1), (3, 3)])
def test_small_heatmaps_decode_to_their_peak(to: Any, shape: tuple[int, int]) -> None:
    heatmaps = np.zeros((1, *shape), np.float32)
    heatmaps[0, -1, -1] = 1
    points, scores = decode(to(heatmaps))
    assert np.asarray(points).tolist() == [[shape[1] - 1, shape[0] - 1]]
    assert np.asarray(scores).tolist() == [1]


@both
def test_no_peak_gives_the_corner(to: Any) -> None:
    points, scores = decode(to(np.full((2, 17, 8, 6), -0.5, np.float32)))
    assert not np.asarray(points).any()
    assert (np.asarray(scores) == -0.5).all()


@both
def test_no_persons(to: Any) -> None:
    heatmaps, weights = encode(to(np.zeros((0, 17, 2))), to(np.zeros((0, 17))), (48, 64), sigma=2)
    assert heatmaps.shape == (0, 17, 64, 48)
    assert weights.shape == (0, 17)
    points, scores = decode(heatmaps)
    assert points.shape == (0, 17, 2)
    assert scores.shape == (0, 17)


@pytest.mark.parametrize(
    ("input_wh", "sigma"),
    [((192, 256), 2), ((288, 384), 3), ((144, 192), 1.5), ((96, 128), 1), ((48, 64), 1)],
)
def test_sigma_follows_the_input(input_wh: tuple[int, int], sigma: float) -> None:
    assert sigma_for(input_wh) == sigma


INPUT_WH = (192, 256)


def inner_points(count: int, seed: int = 0, input_wh: tuple[int, int] = INPUT_WH) -> Any:
    """(count, 17, 2) points in input pixels, at least eight heatmap pixels from the border."""
    rng = np.random.default_rng(seed)
    return rng.uniform(32, np.array(input_wh) - 33, (count, 17, 2))


def mean_error(codec: Codec, to: Any, input_wh: tuple[int, int]) -> float:
    """In heatmap pixels, over points encoded exactly and decoded by `codec`."""
    points = inner_points(100, input_wh=input_wh)
    maker = codec if codec.name == "udp" else replace(codec, name="dark")
    heatmaps, weights = maker.encode(to(points), to(np.ones((100, 17))), input_wh)
    assert (np.asarray(weights) == 1).all()
    found, _ = codec.decode(heatmaps)
    distance = np.linalg.norm(np.asarray(found) - points, axis=-1)
    return float(distance.mean()) / codec.stride


@both
@pytest.mark.parametrize(("input_wh", "sigma"), [((192, 256), 2.0), ((288, 384), 3.0)])
def test_what_each_codec_loses_of_exact_gaussians(
    to: Any, input_wh: tuple[int, int], sigma: float
) -> None:
    error = {name: mean_error(Codec(name, sigma), to, input_wh) for name in CODECS}
    assert 0.12 < error["gaussian"] < 0.25  # what the quarter offset leaves
    assert error["dark"] < 0.02
    assert error["udp"] < 0.02


def test_targets_on_whole_pixels_are_biased_and_exact_ones_are_not() -> None:
    points, visible = inner_points(50), np.ones((50, 17))
    heatmaps = {
        name: Codec(name).encode(points, visible, INPUT_WH)[0] for name in ("gaussian", "dark")
    }
    reader = Codec("dark")
    errors = {
        name: np.linalg.norm(reader.decode(maps)[0] - points, axis=-1).mean() / 4
        for name, maps in heatmaps.items()
    }
    assert errors["gaussian"] > 0.3  # half a pixel at most along each axis
    assert errors["dark"] < 0.02


@both
def test_the_flip_test_of_udp_is_exact(to: Any) -> None:
    codec, points, visible = Codec("udp"), inner_points(8), np.ones((8, 17))
    mirrored_points = points[:, COCO_17.flip_permutation]
    mirrored_points[..., 0] = INPUT_WH[0] - 1 - mirrored_points[..., 0]
    direct, _ = codec.encode(to(points), to(visible), INPUT_WH)
    mirrored, _ = codec.encode(to(mirrored_points), to(visible), INPUT_WH)
    merged = codec.merge_flipped(direct, mirrored, COCO_17.flip_permutation)
    np.testing.assert_allclose(merged, direct, atol=1e-6)
    back = codec.flip_back(mirrored, COCO_17.flip_permutation)
    np.testing.assert_allclose(back, direct, atol=1e-6)


def test_without_unit_lengths_the_flip_test_is_off_by_a_part_of_a_pixel() -> None:
    codec, points, visible = Codec("dark"), inner_points(8), np.ones((8, 17))
    mirrored_points = points[:, COCO_17.flip_permutation]
    mirrored_points[..., 0] = INPUT_WH[0] - 1 - mirrored_points[..., 0]
    direct, _ = codec.encode(points, visible, INPUT_WH)
    mirrored, _ = codec.encode(mirrored_points, visible, INPUT_WH)
    merged = codec.merge_flipped(direct, mirrored, COCO_17.flip_permutation)
    assert np.abs(merged - direct).max() > 0.01


boxes = st.tuples(st.floats(0, 200), st.floats(0, 200), st.floats(20, 300), st.floats(20, 300))


@given(boxes, st.floats(-90, 90))
def test_unit_lengths_lead_the_boxes_corners_to_the_outermost_pixel_centers(
    box: tuple[float, ...], rotation: float
) -> None:
    upright = Crop.from_box(box, INPUT_WH, unit_lengths=True)
    (x, y), (w, h) = upright.center, upright.size
    corners = [(x - w / 2, y - h / 2), (x + w / 2, y + h / 2)]
    inside = transform(corners, upright.matrix)
    np.testing.assert_allclose(inside, [(0, 0), (191, 255)], atol=1e-9)
    turned = Crop.from_box(box, INPUT_WH, rotation_deg=rotation, unit_lengths=True)
    back = transform(transform(corners, turned.matrix), turned.inverse_matrix)
    np.testing.assert_allclose(back, corners, atol=1e-9)


def test_a_mirrored_crop_with_unit_lengths_is_the_mirror_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    crop = Crop.from_box((30, 20, 60, 80), (48, 64), unit_lengths=True)
    mirrored = warp(image, replace(crop, mirrored=True)).astype(int)
    assert np.abs(mirrored[:, ::-1] - warp(image, crop)).max() <= 2  # the warp's own rounding
    biased = Crop.from_box((30, 20, 60, 80), (48, 64))
    shifted = warp(image, replace(biased, mirrored=True)).astype(int)
    assert np.abs(shifted[:, ::-1] - warp(image, biased)).max() > 20


@both
@pytest.mark.parametrize("name", CODECS)
def test_a_batch_of_a_codec_equals_its_singles(to: Any, name: str) -> None:
    heatmaps = np.random.default_rng(1).normal(0.2, 0.3, (3, 17, 24, 18)).astype(np.float32)
    points, scores = Codec(name).decode(to(heatmaps))
    for i, single in enumerate(heatmaps):
        one_points, one_scores = Codec(name).decode(to(single))
        np.testing.assert_allclose(points[i], one_points, atol=1e-5)
        np.testing.assert_array_equal(scores[i], one_scores)


@pytest.mark.parametrize("name", ["dark", "udp"])
def test_the_step_stays_within_a_pixel_of_the_peak(name: str) -> None:
    heatmaps = np.random.default_rng(2).normal(0, 1, (4, 17, 16, 12)).astype(np.float32)
    codec = Codec(name, sigma=1.0)
    points, _ = codec.decode(heatmaps)
    places = points / codec.strides((12, 16))
    peak = heatmaps.reshape(4, 17, -1).argmax(axis=-1)
    assert np.abs(places - np.stack([peak % 12, peak // 12], axis=-1)).max() <= 1 + 1e-5


@both
@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("shape", [(0, 17, 8, 6), (1, 2, 1, 1), (2, 17, 3, 2)])
def test_edge_cases(to: Any, name: str, shape: tuple[int, ...]) -> None:
    points, scores = Codec(name).decode(to(np.zeros(shape, np.float32)))
    assert points.shape == (*shape[:2], 2)
    assert scores.shape == shape[:2]
    assert not np.asarray(points).any()


def test_numpy_and_torch_agree() -> None:
    heatmaps = np.random.default_rng(3).normal(0.2, 0.3, (3, 17, 24, 18)).astype(np.float32)
    for name in CODECS:
        ours, theirs = Codec(name).decode(heatmaps)[0], Codec(name).decode(as_torch(heatmaps))[0]
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_an_unknown_codec_is_named() -> None:
    with pytest.raises(ValueError, match="expected one of gaussian, dark, udp, found 'simcc'"):
        Codec("simcc")
