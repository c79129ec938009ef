"""Rectangles of JPEG files: the same pixels as in the whole, whatever the size."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hrpose.data import tiled_jpeg
from hrpose.data.augmentation import Augmentation
from hrpose.data.coco import load_persons
from hrpose.data.dataset import Draw, PoseDataset, open_cutouts
from hrpose.data.packed import PackSettings, write_pack
from hrpose.geometry import Crop, warp
from hrpose.synthetic import write_dataset

lengths = st.integers(1, 90)


def image(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height))  # type: ignore[return-value]


def decoded(content: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return image  # type: ignore[return-value]


@settings(max_examples=60, deadline=None)
@given(lengths, lengths, st.tuples(*[st.integers(-40, 120)] * 4))
def test_a_rectangle_has_the_pixels_of_the_whole(
    width: int, height: int, corners: tuple[int, int, int, int]
) -> None:
    content = tiled_jpeg.encode(image(width, height), 85)
    whole = decoded(content)
    assert whole.shape == (height, width, 3)
    left, right = sorted(corners[:2])
    top, bottom = sorted(corners[2:])
    part = tiled_jpeg.rectangle(content, (left, top), (right, bottom))
    touches = left < min(right, width) and top < min(bottom, height) and right > 0 and bottom > 0
    if part is None:
        assert not touches
        return
    found, (x, y) = decoded(part[0]), part[1]
    behind = x + found.shape[1], y + found.shape[0]
    assert all(np.array((x, y)) <= np.maximum((left, top), 0))
    assert all(np.array(behind) >= np.minimum((right, bottom), (width, height)))
    same = (found == whole[y : y + found.shape[0], x : x + found.shape[1]]).all(axis=2)
    m = tiled_jpeg.SMOOTHED
    # Color is smoothed over cuts, not over the edges of the image.
    inner = same[
        m * (y > 0) : len(same) - m * (y + found.shape[0] < height),
        m * (x > 0) : same.shape[1] - m * (x + found.shape[1] < width),
    ]
    assert inner.all()


@pytest.mark.parametrize("flags", [[], [cv2.IMWRITE_JPEG_RST_INTERVAL, 3]])
def test_other_files_have_no_rectangles(flags: list[int]) -> None:
    content = cv2.imencode(".jpg", image(100, 100), flags)[1].tobytes()
    assert tiled_jpeg.rectangle(content, (0, 0), (50, 50)) is None


def test_a_rectangle_is_a_part_of_the_bytes() -> None:
    content = tiled_jpeg.encode(image(320, 320), 85)
    part = tiled_jpeg.rectangle(content, (100, 100), (200, 200))
    assert part is not None
    assert len(part[0]) < 0.4 * len(content)
    assert tiled_jpeg.jpeg_size(part[0]) == (112, 112)


@given(st.binary(max_size=80))
def test_no_bytes_break_it(tail: bytes) -> None:
    whole = tiled_jpeg.encode(image(40, 40), 85)
    for content in (tail, b"\xff\xd8\xff" + tail, whole[: 40 + len(tail)], whole[:-30] + tail):
        tiled_jpeg.rectangle(content, (3, 3), (30, 30))


def test_samples_of_a_part_equal_those_of_the_whole(tmp_path: Path) -> None:
    annotations = write_dataset(tmp_path, 3, seed=5)
    *_, _ = write_pack(annotations, tmp_path / "images", tmp_path / "pack", PackSettings())
    table = load_persons(annotations)
    pack = open_cutouts(tmp_path / "pack", table)
    dataset = PoseDataset(table, pack, (96, 128), augmentation=Augmentation(shift=0.05))
    smaller = 0
    for person in range(len(table)):
        whole = pack.read(person)
        for seed in range(6):
            draw = Draw(person, (1, seed))
            crop, _ = dataset.crop_of(draw)
            expected = warp(whole.image, crop.inside(whole.origin, whole.shrunk))
            # The warp rounds a matrix with another shift: a few values differ by 1.
            difference = np.abs(dataset[draw].image.numpy().astype(int) - expected)
            assert difference.max() <= 1
            assert difference.mean() < 0.001
            smaller += pack.read(person, crop).image.size < whole.image.size
    assert smaller > 0
    beside = Crop((-5000.0, -5000.0), (96.0, 128.0), (96, 128))
    assert pack.read(0, beside).image.shape == pack.read(0).image.shape
