"""The trace: its steps are those of the estimator, and lead to the same pose."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hrpose.codec import CODECS, Codec
from hrpose.estimator import PoseEstimator
from hrpose.explain import trace
from hrpose.geometry import transform
from hrpose.session import Session, open_session
from refusals import refused
from tiny_weights import METADATA, write_tiny_weights

BOX = np.array([12.0, 20.0, 70.0, 60.0])


@pytest.fixture(scope="module", params=CODECS)
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Session:
    metadata = replace(METADATA, codec=Codec(request.param, sigma=1.2))
    path = tmp_path_factory.mktemp("weights") / "tiny.onnx"
    return open_session(write_tiny_weights(path, metadata), threads=1)


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    """Soft blobs, so that peaks lie anywhere."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:90, :110]
    image = np.zeros((90, 110, 3))
    for channel in range(3):
        for _ in range(3):
            cx, cy = rng.uniform(20, 80, 2)
            image[..., channel] += 120 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 200)
    return np.clip(image, 0, 255).astype(np.uint8)


def test_it_ends_at_the_estimators_pose(session: Session, image: NDArray[np.uint8]) -> None:
    traced = trace(session, image, BOX, "")
    poses = PoseEstimator(session, flip_test=True)(image, [BOX])
    np.testing.assert_array_equal(traced.poses.keypoints, poses.keypoints)
    back = transform(traced.in_crop, traced.crop.inverse_matrix)
    np.testing.assert_allclose(back, poses.keypoints[0, :, :2], atol=1e-4)
    np.testing.assert_array_equal(np.clip(traced.peaks, 0, 1), poses.keypoints[0, :, 2])


def test_the_flip_tests_steps_add_up(session: Session, image: NDArray[np.uint8]) -> None:
    traced = trace(session, image, BOX, "")
    flipped = traced.flipped_back
    if not traced.metadata.codec.unit_lengths:
        flipped = np.concatenate([flipped[..., :1], flipped[..., :-1]], axis=-1)
    np.testing.assert_allclose((traced.direct + flipped) / 2, traced.merged, atol=1e-6)


def test_the_place_is_near_the_highest_pixel(session: Session, image: NDArray[np.uint8]) -> None:
    traced = trace(session, image, BOX, "")
    rows = np.arange(len(traced.merged))
    x, y = traced.peak_pixels.T
    np.testing.assert_array_equal(traced.merged[rows, y, x], traced.merged.max(axis=(1, 2)))
    assert np.abs(traced.in_heatmap - traced.peak_pixels).max() <= 1 + 1e-6
    # The chosen keypoint shows how the position leaves the center of the pixel.
    move = traced.in_heatmap[traced.keypoint] - traced.peak_pixels[traced.keypoint]
    assert (np.abs(move) > 0).all()


@pytest.mark.parametrize("keypoint", ["left_wrist", "left wrist", " left-wrist "])
def test_a_keypoint_by_its_name(session: Session, image: NDArray[np.uint8], keypoint: str) -> None:
    traced = trace(session, image, BOX, "", keypoint)
    assert traced.name == "left wrist"
    assert traced.metadata.skeleton.keypoints[traced.twin] == "right_wrist"


def test_a_keypoint_that_is_not_there(session: Session, image: NDArray[np.uint8]) -> None:
    with refused("option-invalid", "'tail'", "nose, left_eye"):
        trace(session, image, BOX, "", "tail")


def test_a_box_beside_the_image(session: Session, image: NDArray[np.uint8]) -> None:
    with refused("boxes-invalid", "box 0"):
        trace(session, image, BOX + np.array([500, 0, 0, 0]), "")


def test_the_embedded_weights_too(tmp_path: Path) -> None:
    from hrpose import weights

    image = np.full((60, 50, 3), 128, np.uint8)
    traced = trace(open_session(weights.find("w16-small"), 1), image, np.array([0, 0, 50, 60]), "")
    assert traced.view.shape[:2][::-1] == traced.metadata.input_wh
