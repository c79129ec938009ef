"""Packs: the same samples as from the images, up to JPEG; made once, whole or resumable."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

from hrpose.cli.main import app
from hrpose.data.augmentation import Augmentation
from hrpose.data.coco import load_persons
from hrpose.data.dataset import Draw, PoseDataset, open_cutouts
from hrpose.data.packed import (
    SMOOTHED,
    Pack,
    PackSettings,
    encode_tiled,
    jpeg_size,
    part_file,
    reach_of,
    rectangle,
    write_pack,
)
from hrpose.geometry import Crop, transform, warp
from hrpose.synthetic import write_dataset
from refusals import refused

pytestmark = pytest.mark.slow

LOSSLESS = PackSettings(quality=100)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_dataset(folder, 5, seed=7)
    return folder


def packed(images: Path, out: Path, settings: PackSettings = LOSSLESS) -> Path:
    *_, (done, total) = write_pack(images / "annotations.json", images / "images", out, settings)
    assert done == total == len(load_persons(images / "annotations.json"))
    return out


@pytest.fixture(scope="module")
def pack(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(images, tmp_path_factory.mktemp("packs") / "pack")


def test_samples_equal_those_of_the_images_up_to_jpeg(images: Path, pack: Path) -> None:
    table = load_persons(images / "annotations.json")
    paper = Augmentation()
    one, other = (
        PoseDataset(table, open_cutouts(path, table), (192, 256), augmentation=paper)
        for path in (images / "images", pack)
    )
    for person in range(len(table)):
        for seed in range(8):
            draw = Draw(person, (3, seed))
            a, b = one[draw], other[draw]
            assert a.points.equal(b.points)
            assert a.to_image.equal(b.to_image)
            difference = (a.image.int() - b.image.int()).abs().float()
            # Quality 100 still halves the resolution of color; light is nearly exact.
            assert difference.mean() < 2.5
            assert (difference > 60).float().mean() < 0.005


def test_large_persons_are_reduced_by_a_whole_factor(tmp_path: Path) -> None:
    # A smooth image, so that shrinking loses nothing that counts.
    y, x = np.mgrid[0:900, 0:700].astype(float)
    waves = [127 + 100 * np.sin(x / 60 + i) * np.cos(y / 75 - i) for i in range(3)]
    image = np.stack(waves, axis=-1).astype(np.uint8)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "000001.png"), image[..., ::-1])
    document = json.loads(write_dataset(tmp_path / "template", 1, seed=0).read_text())
    person = {**document["annotations"][0], "bbox": [100, 60, 420, 760], "image_id": 1}
    person["keypoints"] = [v for i in range(17) for v in (200 + 9 * i, 150 + 30 * i, 2)]
    document["images"] = [{"id": 1, "file_name": "000001.png", "width": 700, "height": 900}]
    document["annotations"] = [person]
    (tmp_path / "annotations.json").write_text(json.dumps(document))
    table = load_persons(tmp_path / "annotations.json")
    pack = Pack(packed(tmp_path, tmp_path / "pack", replace(LOSSLESS, height=200)))
    cutout = pack.read(0)
    assert cutout.shrunk == 4  # the crop is 950 pixels high
    crop = Crop.from_box(table.boxes[0], (96, 128), rotation_deg=20)
    direct = warp(image, crop).astype(int)
    through = warp(cutout.image, crop.inside(cutout.origin, cutout.shrunk)).astype(int)
    inner = (direct > 0).all(axis=-1) & (through > 0).all(axis=-1)
    assert inner.mean() > 0.5
    # A shift by half a pixel of the image would show as a mean difference of about 1.
    assert np.abs(direct - through)[inner].mean() < 2
    shifted = warp(cutout.image, crop.inside((cutout.origin[0] + 8, cutout.origin[1]), 4))
    assert np.abs(direct - shifted)[inner].mean() > 4


def test_a_stopped_pack_is_continued(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hrpose.data.packed.PERSONS_IN_A_PART", 4)
    out = tmp_path / "pack"
    making = write_pack(images / "annotations.json", images / "images", out, LOSSLESS)
    assert next(making)[0] == 0
    first, _ = next(making)
    making.close()
    assert first == 4
    with refused("pack-invalid", str(out)):
        Pack(out)
    when = part_file(out, 0).stat().st_mtime_ns
    again = write_pack(images / "annotations.json", images / "images", out, LOSSLESS)
    assert next(again)[0] >= 4
    for _ in again:
        pass
    assert part_file(out, 0).stat().st_mtime_ns == when
    table = load_persons(images / "annotations.json")
    whole = Pack(packed(images, tmp_path / "whole"))
    for person in range(len(table)):
        np.testing.assert_array_equal(Pack(out).read(person).image, whole.read(person).image)
    assert not list(out.glob("*.rows.npy"))


def test_other_settings_do_not_mix(images: Path, tmp_path: Path) -> None:
    making = write_pack(images / "annotations.json", images / "images", tmp_path, LOSSLESS)
    next(making)
    making.close()
    other = write_pack(images / "annotations.json", images / "images", tmp_path, PackSettings())
    with refused("folder-not-empty", str(tmp_path)):
        next(other)


def test_a_finished_pack_is_not_replaced(images: Path, pack: Path) -> None:
    with refused("folder-not-empty", str(pack)):
        next(write_pack(images / "annotations.json", images / "images", pack, LOSSLESS))


def test_other_annotations_are_refused(pack: Path, tmp_path: Path) -> None:
    table = load_persons(write_dataset(tmp_path, 2, seed=1))
    with refused("pack-unsuitable", str(pack), "annotations.json"):
        open_cutouts(pack, table)


@pytest.mark.parametrize(
    ("input_wh", "padding", "changes", "lacking"),
    [
        ((192, 256), 1.25, {}, []),
        ((192, 256), 1.25, {"shift": 0.04}, []),
        ((192, 256), 1.25, {"shift": 0.05}, ["--reach 1.65"]),
        ((192, 256), 1.25, {"scale": 0.61}, ["--reach 1.61"]),
        ((192, 256), 1.5, {"scale": 0.1}, []),
        ((192, 256), 2.0, {"scale": 0.1}, ["--reach 1.76"]),
        ((192, 256), 1.25, {"half_body_padding": 2.0}, ["--reach 1.8"]),
        ((192, 256), 1.25, {"half_body_padding": 2.0, "half_body_probability": 0}, []),
        (
            (192, 256),
            1.25,
            {"half_body_min_keypoints": 4},
            ["augmentation.half_body_min_keypoints=8"],
        ),
        ((256, 256), 1.25, {}, ["--aspect 1"]),
        ((288, 384), 1.25, {}, ["--height 384"]),
        ((192, 256), 1.0, {}, ["--height 320"]),
    ],
)
def test_what_a_pack_lacks(
    pack: Path,
    input_wh: tuple[int, int],
    padding: float,
    changes: dict[str, float],
    lacking: list[str],
) -> None:
    assert Pack(pack).lacks(input_wh, padding, Augmentation(**changes)) == lacking


def test_older_packs_do_not_cover_a_shift(images: Path, tmp_path: Path) -> None:
    old = Pack(packed(images, tmp_path / "pack", PackSettings(reach=1.35)))
    assert old.lacks((192, 256), 1.25, Augmentation()) == []
    assert old.lacks((192, 256), 1.25, Augmentation(shift=0.04)) == ["--reach 1.59"]


@pytest.mark.parametrize("reach", [1.0, 1.6])
def test_shifted_crops_stay_inside_a_pack_that_covers_them(
    images: Path, tmp_path: Path, reach: float
) -> None:
    settings = PackSettings(reach=reach)
    augmentation = Augmentation(shift=0.04)
    table = load_persons(images / "annotations.json")
    pack = Pack(packed(images, tmp_path / "pack", settings))
    dataset = PoseDataset(table, pack, (192, 256), augmentation=augmentation)
    outside = 0
    for person in range(len(table)):
        straight, radius = reach_of(table, person, settings)
        for seed in range(100):
            crop, _ = dataset.crop_of(Draw(person, (seed,)))
            corners = transform([(0, 0), (191, 0), (0, 255), (191, 255)], crop.inverse_matrix)
            far = np.linalg.norm(corners - straight.center, axis=1).max()
            outside += bool(far > radius)
    assert (outside == 0) == (pack.lacks((192, 256), 1.25, augmentation) == [])


@pytest.mark.parametrize("damage", ["cut", "index", "json"])
def test_damaged_packs(images: Path, tmp_path: Path, damage: str) -> None:
    out = packed(images, tmp_path / "pack")
    if damage == "cut":
        content = part_file(out, 0).read_bytes()
        part_file(out, 0).write_bytes(content[: len(content) // 2])
    elif damage == "index":
        (out / "index.npy").write_bytes(b"\x93NUMPY")
    else:
        (out / "pack.json").write_text("{")
    last = len(load_persons(out / "annotations.json")) - 1
    with refused("pack-invalid", str(out)):
        Pack(out).read(last)


@pytest.mark.parametrize("header", [b"{(", b"'\0'", b"[}", b"\x80", b"'a"])
def test_an_index_with_a_damaged_header(images: Path, tmp_path: Path, header: bytes) -> None:
    out = packed(images, tmp_path / "pack")
    length = len(header).to_bytes(2, "little")
    (out / "index.npy").write_bytes(b"\x93NUMPY\x01\0" + length + header)
    with refused("pack-invalid", str(out)):
        Pack(out)


@pytest.mark.parametrize(
    ("field", "value"), [("length", -1), ("length", 0), ("offset", -5), ("shrunk", 0)]
)
def test_a_damaged_index(images: Path, tmp_path: Path, field: str, value: int) -> None:
    out = packed(images, tmp_path / "pack")
    index = np.load(out / "index.npy")
    index[field][0] = value
    np.save(out / "index.npy", index)
    with refused("pack-invalid", "index.npy: person 0"):
        Pack(out).read(0)


def test_the_command(images: Path, tmp_path: Path) -> None:
    places = ["--images", images / "images", "--out", tmp_path / "pack"]
    arguments = [images / "annotations.json", *places, "--workers", 1]
    done = CliRunner().invoke(app, ["data", "pack", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    assert "persons" in done.output
    assert Pack(tmp_path / "pack").settings == PackSettings()


@pytest.mark.parametrize("shape", [(1, 1, 3), (480, 640, 3), (333, 7, 3)])
@pytest.mark.parametrize("progressive", [0, 1])
def test_the_size_of_a_jpeg(shape: tuple[int, int, int], progressive: int) -> None:
    flags = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    content = cv2.imencode(".jpg", np.zeros(shape, np.uint8), flags)[1].tobytes()
    assert jpeg_size(content) == (shape[1], shape[0])


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reading_of_a_size(tail: bytes) -> None:
    jpeg_size(tail)
    jpeg_size(b"\xff\xd8\xff" + tail)


def test_an_image_with_a_huge_size_in_its_header(images: Path, tmp_path: Path) -> None:
    out = packed(images, tmp_path / "pack")
    content = bytearray(part_file(out, 0).read_bytes())
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = b"\xff\xff\xff\xff"
    part_file(out, 0).write_bytes(bytes(content))
    first = int(np.argmin(Pack(out).index["offset"]))
    with refused("pack-invalid", str(out), "person"):
        Pack(out).read(first)


LENGTHS = st.integers(1, 90)


def smooth_image(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height))  # type: ignore[return-value]


def decoded(content: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return image  # type: ignore[return-value]


@hypothesis_settings(max_examples=60, deadline=None)
@given(LENGTHS, LENGTHS, st.tuples(*[st.integers(-40, 120)] * 4))
def test_a_rectangle_has_the_pixels_of_the_whole(
    width: int, height: int, corners: tuple[int, int, int, int]
) -> None:
    content = encode_tiled(smooth_image(width, height), 85)
    whole = decoded(content)
    assert whole.shape == (height, width, 3)
    left, right = sorted(corners[:2])
    top, bottom = sorted(corners[2:])
    part = rectangle(content, (left, top), (right, bottom))
    touches = left < min(right, width) and top < min(bottom, height) and right > 0 and bottom > 0
    if part is None:
        assert not touches
        return
    found, (x, y) = decoded(part[0]), part[1]
    behind = x + found.shape[1], y + found.shape[0]
    assert all(np.array((x, y)) <= np.maximum((left, top), 0))
    assert all(np.array(behind) >= np.minimum((right, bottom), (width, height)))
    same = (found == whole[y : y + found.shape[0], x : x + found.shape[1]]).all(axis=2)
    m = SMOOTHED
    # Color is smoothed over cuts, not over the edges of the image.
    inner = same[
        m * (y > 0) : len(same) - m * (y + found.shape[0] < height),
        m * (x > 0) : same.shape[1] - m * (x + found.shape[1] < width),
    ]
    assert inner.all()


@pytest.mark.parametrize("flags", [[], [cv2.IMWRITE_JPEG_RST_INTERVAL, 3]])
def test_other_files_have_no_rectangles(flags: list[int]) -> None:
    content = cv2.imencode(".jpg", smooth_image(100, 100), flags)[1].tobytes()
    assert rectangle(content, (0, 0), (50, 50)) is None


def test_a_rectangle_is_a_part_of_the_bytes() -> None:
    content = encode_tiled(smooth_image(320, 320), 85)
    part = rectangle(content, (100, 100), (200, 200))
    assert part is not None
    assert len(part[0]) < 0.4 * len(content)
    assert jpeg_size(part[0]) == (112, 112)


@given(st.binary(max_size=80))
def test_any_bytes_behind_a_header(tail: bytes) -> None:
    whole = encode_tiled(smooth_image(40, 40), 85)
    for content in (tail, b"\xff\xd8\xff" + tail, whole[: 40 + len(tail)], whole[:-30] + tail):
        rectangle(content, (3, 3), (30, 30))


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
