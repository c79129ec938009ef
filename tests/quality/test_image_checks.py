"""The hash and its search: what is found, and that the parts lose nothing."""

import cv2
import numpy as np
import pytest

from hrpose.quality.image_checks import RADIUS, Fingerprints, _candidates, near_duplicates, small
from hrpose.synthetic import render_image


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [render_image(np.random.default_rng(seed), (160, 120)).image for seed in range(24)]


def fingerprints(images: list[np.ndarray]) -> Fingerprints:
    return Fingerprints.of(np.array([small(image) for image in images]))


@pytest.mark.parametrize(
    "changed",
    [
        lambda image: image,
        lambda image: cv2.resize(image, (97, 71), interpolation=cv2.INTER_AREA),
        lambda image: cv2.convertScaleAbs(image, alpha=0.8, beta=20),
        lambda image: image[2:-2, 3:-3],
        lambda image: image[:, ::-1],
    ],
    ids=["same", "smaller", "brighter", "cut", "mirrored"],
)
def test_the_same_image_is_found(images: list[np.ndarray], changed: object) -> None:
    others = [changed(np.ascontiguousarray(image)) for image in images]  # type: ignore[operator]
    found = near_duplicates(fingerprints(images), fingerprints(others))
    right = sum(mine == other for mine, other, _, _ in found)
    assert right == len(found) >= 23


def test_other_and_flat_images_are_not(images: list[np.ndarray]) -> None:
    flat = np.full((120, 160, 3), 90, np.uint8)
    assert (
        near_duplicates(fingerprints([*images[:12], flat]), fingerprints([*images[12:], flat]))
        == []
    )


def test_the_search_finds_every_pair_within_the_radius() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 300, dtype=np.uint64)
    queries = hashes[:50].copy()
    for row, query in enumerate(queries):
        for bit in rng.choice(64, row % (RADIUS + 3), replace=False):
            query ^= np.uint64(1) << np.uint64(bit)
        queries[row] = query
    near = np.bitwise_count(queries[:, None] ^ hashes[None]) <= RADIUS
    found = {pair for own, other in _candidates(queries, hashes)
             for pair in zip(own.tolist(), other.tolist(), strict=True)}  # fmt: skip
    assert found == set(zip(*(x.tolist() for x in np.nonzero(near)), strict=True))
