"""The example images, which the shipped model gets right, and the images of the documentation."""

from pathlib import Path

import numpy as np
import pytest

import hrpose

ROOT = Path(__file__).resolve().parents[2]
PEOPLE, IMAGES = ROOT / "examples" / "people", ROOT / "docs" / "images"
PAGE = ROOT / "src" / "hrpose" / "serve" / "page" / "examples"


@pytest.fixture(scope="module")
def estimator() -> hrpose.PoseEstimator:
    return hrpose.load()


@pytest.mark.parametrize(
    ("name", "persons"), [("walking", 1), ("balancing", 2), ("two-people", 3), ("photographer", 1)]
)
def test_everybody_is_found(estimator: hrpose.PoseEstimator, name: str, persons: int) -> None:
    assert len(estimator(PEOPLE / f"{name}.jpg")) == persons


def test_the_walking_woman_is_right(estimator: hrpose.PoseEstimator) -> None:
    poses = estimator(PEOPLE / "walking.jpg")
    seen = {  # by eye
        "nose": (331, 95),
        "left_hip": (350, 262),
        "left_ankle": (325, 452),
        "right_ankle": (442, 420),
    }
    for name, place in seen.items():
        x, y, score = poses.keypoint(name)[0]
        assert np.hypot(x - place[0], y - place[1]) < 25, name
        assert score > 0.3


def test_the_page_offers_the_same_images() -> None:
    for image in PEOPLE.glob("*.jpg"):
        assert (PAGE / image.name).read_bytes() == image.read_bytes()


def test_images_are_small_enough_for_a_readme() -> None:
    sizes = {path.name: path.stat().st_size for path in IMAGES.glob("*.*")}
    assert sizes["clip.webp"] < 1_500_000
    assert max(sizes[name] for name in ("demo.jpg", "failures.jpg", "server.jpg")) < 250_000
