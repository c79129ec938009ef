"""Packs: the same samples as from the images, up to JPEG; made once, whole or resumable."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from hrpose.cli.main import app
from hrpose.data.augmentation import Augmentation
from hrpose.data.coco import load_persons
from hrpose.data.dataset import Draw, PoseDataset, open_cutouts
from hrpose.data.packed import Pack, PackSettings, part_file, reach_of, write_pack
from hrpose.data.tiled_jpeg import jpeg_size
from hrpose.errors import UserError
from hrpose.geometry import Crop, transform, warp
from hrpose.synthetic import write_dataset

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
        PoseDataset(table, open_cutouts(place, table), (192, 256), augmentation=paper)
        for place in (images / "images", pack)
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


def test_large_persons_are_shrunk_by_a_whole_factor_and_stay_in_place(tmp_path: Path) -> None:
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


def test_a_stopped_pack_goes_on_where_it_was(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hrpose.data.packed.PERSONS_IN_A_PART", 4)
    out = tmp_path / "pack"
    making = write_pack(images / "annotations.json", images / "images", out, LOSSLESS)
    assert next(making)[0] == 0
    first, _ = next(making)
    making.close()
    assert first == 4
    with pytest.raises(UserError, match="expected a finished pack"):
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
    with pytest.raises(UserError, match="made with other settings"):
        next(other)


def test_a_finished_pack_is_not_written_over(images: Path, pack: Path) -> None:
    with pytest.raises(UserError, match="holds a finished pack already"):
        next(write_pack(images / "annotations.json", images / "images", pack, LOSSLESS))


def test_other_annotations_are_refused(pack: Path, tmp_path: Path) -> None:
    table = load_persons(write_dataset(tmp_path, 2, seed=1))
    with pytest.raises(UserError, match=r"expected the annotations that .* was made from"):
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


def test_packs_of_before_there_was_room_for_a_shift(images: Path, tmp_path: Path) -> None:
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
def test_damage_is_said_in_one_line(images: Path, tmp_path: Path, damage: str) -> None:
    out = packed(images, tmp_path / "pack")
    if damage == "cut":
        content = part_file(out, 0).read_bytes()
        part_file(out, 0).write_bytes(content[: len(content) // 2])
    elif damage == "index":
        (out / "index.npy").write_bytes(b"\x93NUMPY")
    else:
        (out / "pack.json").write_text("{")
    last = len(load_persons(out / "annotations.json")) - 1
    with pytest.raises(UserError) as caught:
        Pack(out).read(last)
    assert "\n" not in str(caught.value)
    assert str(out) in str(caught.value)


@pytest.mark.parametrize("header", [b"{(", b"'\0'", b"[}", b"\x80", b"'a"])
def test_a_header_that_is_no_python(images: Path, tmp_path: Path, header: bytes) -> None:
    out = packed(images, tmp_path / "pack")
    length = len(header).to_bytes(2, "little")
    (out / "index.npy").write_bytes(b"\x93NUMPY\x01\0" + length + header)
    with pytest.raises(UserError, match="expected a finished pack"):
        Pack(out)


@pytest.mark.parametrize(
    ("field", "value"), [("length", -1), ("length", 0), ("offset", -5), ("shrunk", 0)]
)
def test_an_index_that_leads_astray(images: Path, tmp_path: Path, field: str, value: int) -> None:
    out = packed(images, tmp_path / "pack")
    index = np.load(out / "index.npy")
    index[field][0] = value
    np.save(out / "index.npy", index)
    with pytest.raises(UserError, match=r"index\.npy: person 0: damaged"):
        Pack(out).read(0)


def test_the_command(images: Path, tmp_path: Path) -> None:
    arguments = [images / "annotations.json", images / "images", tmp_path / "pack", "--workers", 1]
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


def test_a_image_that_claims_to_be_huge_is_refused(images: Path, tmp_path: Path) -> None:
    out = packed(images, tmp_path / "pack")
    content = bytearray(part_file(out, 0).read_bytes())
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = b"\xff\xff\xff\xff"
    part_file(out, 0).write_bytes(bytes(content))
    first = int(np.argmin(Pack(out).index["offset"]))
    with pytest.raises(UserError, match="expected a JPEG image"):
        Pack(out).read(first)
