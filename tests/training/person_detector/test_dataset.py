"""Frames of boxed images: inside the image, with boxes on the persons, and reproducible."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hrpose.data.images import ImageFiles
from hrpose.data.persons import BoxTable
from hrpose.errors import UserError
from hrpose.geometry import Crop, transform_boxes
from hrpose.training.person_detector.dataset import (
    BoxedImages,
    DetectorDataset,
    FrameDraw,
    FrameSampler,
    draw_frame,
    targets_of,
)
from hrpose.training.recipe import Framing

INPUT = (64, 64)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DetectorDataset:
    """One image with one person, the only bright region."""
    folder = tmp_path_factory.mktemp("images")
    pixels = np.zeros((96, 128, 3), np.uint8)
    pixels[30:80, 40:60] = 255
    Image.fromarray(pixels).save(folder / "a.png")
    boxes = (np.array([[40.0, 30.0, 20.0, 50.0]]),)
    table = BoxTable(("a.png",), boxes, ("",))
    framing = Framing(zoom=(0.7, 1.3), close=0.5, photometric=0.0)
    return DetectorDataset([BoxedImages(table, ImageFiles(folder), framing)], INPUT)


@given(st.integers(0, 10_000))
def test_the_box_is_on_the_person(dataset: DetectorDataset, seed: int) -> None:
    pixels, (box,) = dataset.frame(FrameDraw(0, (seed,)))
    rows, columns = np.nonzero(pixels[..., 0] > 127)
    seen = np.clip([box[0], box[1], box[0] + box[2], box[1] + box[3]], 0, 64)
    if len(rows) and (seen[2:] - seen[:2]).min() > 3:
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(seen, found, atol=0.6)


def test_a_draw_is_always_the_same_frame(dataset: DetectorDataset) -> None:
    first, second, other = (dataset[FrameDraw(0, (seed,))].image for seed in (1, 1, 2))
    assert (first == second).all()
    assert not (first == other).all()


@pytest.mark.parametrize(("limit", "kept"), [(0, 0), (96 * 128 * 3, 1), (1 << 20, 2)])
def test_decoded_images_are_kept_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, kept: int
) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (128, 96)).save(tmp_path / name)
    boxes = (np.array([[40.0, 30.0, 20.0, 50.0]]),) * 2
    images = ImageFiles(tmp_path)
    monkeypatch.setattr("hrpose.training.person_detector.dataset.CACHE_BYTES", limit)
    parts = [BoxedImages(BoxTable(("a.png", "b.png"), boxes, ("", "")), images)]
    data = DetectorDataset(parts, INPUT)
    for image in (0, 1):
        data.frame(FrameDraw(image))
    for name in ("a.png", "b.png"):
        (tmp_path / name).unlink()
    again = 0
    for image in (0, 1):
        with suppress(UserError):
            data.frame(FrameDraw(image))
            again += 1
    assert again == kept


def test_without_a_seed_it_is_the_full_image(dataset: DetectorDataset) -> None:
    _, (box,) = dataset.frame(FrameDraw(0))
    np.testing.assert_allclose(box, [20.25, 15.25 + 8, 10, 25])


@given(st.integers(50, 900), st.integers(50, 900), st.floats(0.3, 1.0), st.integers(0, 10_000))
def test_a_smaller_frame_is_inside_the_image(
    width: int, height: int, zoom: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    persons = np.array([[0.2, 0.3, 0.3, 0.6]]) * [width, height, width, height]
    crop = draw_frame((width, height), persons, INPUT, Framing(zoom=(zoom, zoom), close=0.5), rng)
    for middle, size, image in zip(crop.center, crop.size, (width, height), strict=True):
        low, high = middle - size / 2, middle + size / 2
        inside = low >= -1e-6 and high <= image + 1e-6
        around = low <= 1e-6 and high >= image - 1e-6
        assert inside or around


@given(st.integers(0, 10_000))
def test_a_close_frame_shows_most_of_its_person(seed: int) -> None:
    person = np.array([[100.0, 60.0, 80.0, 200.0]])
    crop = draw_frame((640, 480), person, INPUT, Framing(close=1.0), np.random.default_rng(seed))
    ((x, y, w, h),) = transform_boxes(person, crop.matrix)
    assert 0.3 * 64 <= h <= 1.15 * 64
    shown = (min(x + w, 64) - max(x, 0)) * (min(y + h, 64) - max(y, 0))
    assert shown >= 0.4 * w * h


def test_a_mirrored_box_is_still_a_box() -> None:
    crop = Crop((50, 50), (100, 100), INPUT, mirrored=True)
    (box,) = transform_boxes(np.array([[10.0, 20.0, 30.0, 40.0]]), crop.matrix)
    np.testing.assert_allclose(box, [0.82 + 0.6 * 64, 0.18 + 12.8, 19.2, 25.6])


@pytest.mark.parametrize(
    ("box", "person", "ignored"),
    [
        ([10.0, 10.0, 20.0, 40.0], True, False),
        ([10.0, 10.0, 4.0, 8.0], False, True),  # too small
        ([-18.0, 10.0, 20.0, 40.0], False, True),  # nearly outside
        ([-10.0, 10.0, 20.0, 40.0], True, False),
        ([80.0, 10.0, 20.0, 40.0], False, False),  # outside
    ],
)
def test_small_and_outside_persons_are_ignored(
    box: list[float], person: bool, ignored: bool
) -> None:
    targets, counts = targets_of(np.array([box]), INPUT)
    assert bool(targets.heat.max() == 1) is person
    assert bool(counts.min() == 0) is ignored


def test_outside_incomplete_boxes_nothing_counts() -> None:
    boxes = np.array([[8.0, 8.0, 16.0, 32.0]])
    complete, everywhere = targets_of(boxes, INPUT)
    partly, counts = targets_of(boxes, INPUT, complete=False)
    np.testing.assert_array_equal(partly.heat, complete.heat)
    assert everywhere.all()
    rows, columns = np.nonzero(counts)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 9, 2, 5)
    assert counts.sum() == 8 * 4


def test_partly_boxed_images_come_after_the_others(dataset: DetectorDataset) -> None:
    (complete,) = dataset.parts
    both = DetectorDataset([complete, replace(complete, complete=False)], INPUT)
    assert len(both) == 2
    known, partly = (both[FrameDraw(image, (1,))] for image in (0, 1))
    assert (known.image == partly.image).all()
    assert (known.heat == partly.heat).all()
    assert known.counts.min() == 1
    assert partly.counts.min() == 0


def test_parts_are_drawn_by_their_shares() -> None:
    sampler = FrameSampler([10, 1000], 2000, seed=3, shares=[0.75, 0.25])
    images = np.array([draw.image for draw in sampler])
    assert 0.22 < (images >= 10).mean() < 0.28
    assert set(images[images < 10]) == set(range(10))
    assert images.max() < 1010


def test_draws_depend_on_seed_and_epoch() -> None:
    sampler, again = FrameSampler([10], 30, seed=3), FrameSampler([10], 30, seed=3)
    first = list(sampler)
    assert first == list(again)
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert len(first) == len(sampler) == 30
