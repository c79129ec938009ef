"""The three codecs: what each removes of the paper's bias, and that they agree with themselves."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hrpose.codec import CODECS, Codec
from hrpose.geometry import Crop, transform, warp
from hrpose.skeletons import COCO_17

INPUT_WH = (192, 256)


def as_torch(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


both = pytest.mark.parametrize("to", [np.array, as_torch], ids=["numpy", "torch"])


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
def test_a_batch_equals_its_singles(to: Any, name: str) -> None:
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
