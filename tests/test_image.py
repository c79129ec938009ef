"""Reading images, good and bad, and encoding them."""

import base64
import contextlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from hrpose import file_kinds
from hrpose import image as image_module
from hrpose.errors import UserError
from hrpose.image import encode, exif_orientation, image_size, read_image, read_reduced
from refusals import refused


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    """Every corner differs, so that a turn shows."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 255 // (width - 1), y * 255 // (height - 1), 0 * x + 128], axis=-1)
    return Image.fromarray(rgb.astype(np.uint8))


PIXELS = np.array(gradient())
HAS_AVIF = ".avif" in Image.registered_extensions()  # Pillow 11.3


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 95}, 12),
        ("MPO", {"quality": 95, "save_all": True, "append_images": [gradient()]}, 12),
        ("GIF", {}, 40),
        pytest.param(
            *("AVIF", {"quality": 95}, 12),
            marks=pytest.mark.skipif(not HAS_AVIF, reason="needs Pillow 11.3 or newer"),
        ),
        ("JPEG2000", {}, 0),
        ("PPM", {}, 0),
        ("PCX", {}, 0),
        ("SGI", {}, 0),
        ("TGA", {}, 0),
    ],
)
def test_every_kind_of_file(kind: str, options: dict[str, Any], tolerance: int) -> None:
    data = encoded(gradient(), kind, **options)
    found = read_image(data)
    assert found.dtype == np.uint8
    assert found.flags.writeable
    assert found.flags.c_contiguous
    assert np.abs(found.astype(int) - PIXELS).max() <= tolerance
    assert image_size(data) == (40, 30)


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("L", (4, 3), 77), "PNG", (77, 77, 77)),
        (Image.new("L", (16, 16), 77), "JPEG", (77, 77, 77)),
        (Image.new("1", (4, 3), 1), "PNG", (255, 255, 255)),
        (Image.new("RGB", (4, 3), (9, 8, 7)).quantize(4), "PNG", (9, 8, 7)),
        (Image.new("RGB", (16, 16), (200, 100, 50)).convert("CMYK"), "JPEG", (200, 100, 50)),
        (Image.new("I;16", (4, 3), 65535), "PNG", (255, 255, 255)),
        (Image.new("I;16", (4, 3), 32896), "PNG", (128, 128, 128)),
        (Image.new("I;16", (4, 3), 16448), "TIFF", (64, 64, 64)),
        (Image.new("RGBA", (4, 3), (10, 20, 30, 255)), "PNG", (10, 20, 30)),
        (Image.new("RGBA", (4, 3), (10, 20, 30, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (4, 3), (0, 0, 0, 51)), "PNG", (204, 204, 204)),
        (Image.new("LA", (4, 3), (100, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGB", (1, 1), (1, 2, 3)), "PNG", (1, 2, 3)),
    ],
    ids=lambda value: f"{value.mode}{value.size}" if isinstance(value, Image.Image) else None,
)
def test_every_kind_of_pixel_becomes_rgb(
    image: Image.Image, kind: str, expected: tuple[int, int, int]
) -> None:
    found = read_image(encoded(image, kind))
    assert found.shape == (image.height, image.width, 3)
    assert np.abs(found.astype(int) - expected).max() <= 2


def test_a_transparent_color_of_a_palette_is_white() -> None:
    image = Image.new("P", (4, 3), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    found = read_image(encoded(image, transparency=b"\xff\x00"))
    assert (found == 255).all()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG file."""
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def test_sixteen_bit_color() -> None:
    # Pillow cannot write it, so here is the file by hand: one pixel, three channels.
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0" + struct.pack(">HHH", 65535, 32768, 0))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel)
    found = read_image(data + chunk(b"IEND", b""))
    assert found.tolist() == [[[255, 128, 0]]]


# How each orientation stores the upright image: the inverse of what brings it upright.
STORED: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_exif_orientation_is_honored(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](PIXELS)))
    options = {"PNG": {}, "TIFF": {}, "JPEG": {"quality": 95}, "WEBP": {"lossless": True}}[kind]
    data = encoded(stored, kind, exif=exif, **options)
    found = read_image(data)
    assert found.shape == PIXELS.shape
    assert np.abs(found.astype(int) - PIXELS).max() <= (12 if kind == "JPEG" else 0)
    assert image_size(data) == (40, 30)


# Where else a turn by a quarter may be said: in the file's text, and behind its pixels.
XMP = '<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
EXIF = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"


def png_that_says(parts: bytes, behind: bool, frames: int = 1) -> bytes:
    stored = Image.fromarray(np.ascontiguousarray(STORED[6](PIXELS)))
    data = encoded(stored, save_all=True, append_images=[gradient(30, 40)] * (frames - 1))
    place = data.rindex(b"IEND") - 4 if behind else data.index(b"IDAT") - 4
    return data[:place] + parts + data[place:]


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    "parts",
    [
        chunk(b"eXIf", EXIF),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP.encode()),
        chunk(
            b"zTXt",
            b"Raw profile type exif\0\0"
            + zlib.compress(f"\nexif\n{len(EXIF)}\n{EXIF.hex()}\n".encode()),
        ),
        chunk(b"eXIf", EXIF)[:-4] + b"sum?",
    ],
    ids=["eXIf", "XMP", "text", "wrong sum"],
)
def test_png_files_may_say_their_turn_anywhere(parts: bytes, behind: bool) -> None:
    data = png_that_says(parts, behind)
    if parts.endswith(b"sum?") and not behind:
        with refused("image-unsupported"):
            image_size(data)
        return
    np.testing.assert_array_equal(read_image(data), PIXELS)
    assert (image_size(data), exif_orientation(data)) == ((40, 30), 6)


def test_what_png_files_say_behind_their_first_image_is_of_the_next() -> None:
    data = png_that_says(chunk(b"eXIf", EXIF), behind=True, frames=2)
    assert read_image(data).shape == (40, 30, 3)
    assert image_size(data) == (30, 40)


def test_damage_behind_the_pixels_leaves_the_header_as_it_is() -> None:
    data = png_that_says(chunk(b"eXIf", EXIF), behind=False)
    text = chunk(b"iTXt", b"Title\0\0\0\xff\xff\0\0\xff")
    assert image_size(data.replace(chunk(b"IEND", b""), text)) == (40, 30)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP", "BMP", "GIF"])
def test_sizes_are_told_without_decoding(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(gradient(), kind, exif=exif)  # BMP and GIF have none

    def load(_image: Image.Image) -> Any:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    monkeypatch.setattr(Image.Image, "load", load)
    turned = kind not in ("BMP", "GIF")
    assert image_size(data) == ((30, 40) if turned else (40, 30))
    # TIFF files are turned while they are decoded.
    assert exif_orientation(data) == (6 if turned and kind != "TIFF" else 1)


def test_odd_tags_of_a_tiff_file_give_no_warning() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(encoded(gradient(), "TIFF", exif=exif))
    tag = struct.pack("<HHI", 0x0112, 3, 1)
    place = data.index(tag)
    data[place : place + 8] = struct.pack("<HHI", 0x0112, 3, 2)  # two orientations
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read_image(bytes(data)).shape[1::-1] == image_size(bytes(data)) == (30, 40)
    assert not caught


def test_images_are_decoded_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    # A lock that is held while one image is decoded would let the other threads wait for it.
    held = []
    decode = ImageFile.ImageFile.load

    def load(image: ImageFile.ImageFile) -> Any:
        if image.tile:  # else it is decoded already
            held.append(image_module._filters.locked())
        return decode(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    for kind in ("PNG", "TIFF", "JPEG"):
        read_image(encoded(gradient(), kind))
    assert len(held) >= 3
    assert not any(held)


@pytest.mark.parametrize("orientation", [0, 9, 4711])
def test_an_orientation_that_does_not_exist_is_none(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(read_image(encoded(gradient(), exif=exif)), PIXELS)


def test_damaged_metadata_do_not_spoil_the_image() -> None:
    data = encoded(
        gradient(), "JPEG", quality=95, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff" + 9 * b"\xff"
    )
    assert read_image(data).shape == (30, 40, 3)


def test_the_first_image_of_several() -> None:
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "blue")]
    for kind in ("GIF", "TIFF", "PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert (read_image(data) == (255, 0, 0)).all(), kind


JPEG = encoded(gradient(400, 300), "JPEG", quality=90)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "image-damaged"),
        (b"these are words, not an image", "image-unsupported"),
        (JPEG[: len(JPEG) // 2], "image-damaged"),
        (JPEG[:-20], "image-damaged"),
        (JPEG[:10], "image-damaged"),
        (encoded(gradient())[:-40], "image-damaged"),
        (encoded(gradient())[:60], "image-damaged"),
        (encoded(gradient(), "WEBP")[:-30], "image-damaged"),
        (encoded(gradient(), "BMP")[:-30], "image-damaged"),
        (encoded(gradient(), "TIFF")[:-30], "image-damaged"),
        (encoded(gradient(), "TIFF")[:40], "image-unsupported"),
        (encoded(gradient(), "GIF")[:-300], "image-damaged"),
        (encoded(gradient(), "EPS"), "image-unsupported"),
        (encoded(gradient(), "ICNS"), "image-unsupported"),
        (encoded(gradient(), "PDF"), "image-unsupported"),
        (encoded(Image.new("F", (4, 3), 0.5), "TIFF"), "image-unsupported"),
        (encoded(Image.new("I", (4, 3), 70000), "TIFF"), "image-unsupported"),
        (encoded(Image.new("1", (20000, 20000))), "image-too-large"),
        (encoded(Image.new("1", (10001, 10001))), "image-too-large"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_it(
    data: bytes, code: str, tmp_path: Path
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with refused(code, str(path)):
        read_image(path)


def test_a_large_image_within_the_bound_is_read_without_a_warning() -> None:
    found = image_size(encoded(Image.new("1", (10000, 9999))))
    assert found == (10000, 9999)


@pytest.mark.parametrize(
    ("bound", "code"), [("max_bytes", "file-too-large"), ("max_pixels", "image-too-large")]
)
def test_bounds_can_be_tighter(bound: str, code: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(gradient()))
    for source in (path, path.read_bytes()):
        with refused(code, "100"):
            read_image(source, **{bound: 100})


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    for path in (tmp_path / "missing.jpg", tmp_path, pipe, "null\0.jpg", tmp_path / ("long" * 100)):
        with refused("file-unreadable"):
            read_image(path)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(JPEG)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with refused("file-unreadable", "photo.jpg", "Permission denied"):
        read_image(path)


def test_a_name_stays_on_one_line() -> None:
    with refused("image-unsupported", "two\\nlines\\x1b[31m.jpg"):
        read_image(b"words", name="two\nlines\x1b[31m.jpg")


# A gradient of 64 x 48 pixels; the package that reads HEIC does not write it.
HEIC = zlib.decompress(base64.b85decode(
    b"c-muNV30{GsVvAy%}izhg51nBLl8SRGck>Ufw49>wIq=N0u(b+a*CjAhJwuG5(YG&l$nzcHpIn&fe{FSfN>#&27*"
    b"u^R?f`KO9S&jqM|@fDif5KQI>27V)7MamgK^f{LL&VDge@VGYgXQfpi&AnKL6ZNN56Bk=zG{KYxGxU|`^9P5|nVa"
    b"A4$N{Qn=MfElEM8HD6^F*zgxCAFLw8PQ}GC^WK8d-Y`5&K(>X1`0qSW)Q)km;_YL=E8We_&_Jn65-_hoT9wsoC=^"
    b"QF9TZxP)H=RxF8kkGY2TvNX|(tfU-f3H-OS0!1VwB{|_J<hy@BVD>6ZX%p4pXKuRLBAQu+Mz;I)2WMXD*0kUIrQx"
    b"ZXe9H_y#KH}N`FaC^L6GT_Co}VW=Pxb5D*Sk*e?#?SZbo5BlE)LJEna&0ZPdIi*y*2$@XY*7((vUgL>hA838PDzu"
    b"PKu~(@l^<HNL}~jcDa2)@wvAEloN5`"
))  # fmt: skip


def test_heic_is_read() -> None:
    pytest.importorskip("pi_heif", reason="needs hrpose[heic]")
    found = read_image(HEIC)
    assert found.shape == (48, 64, 3)
    assert image_size(HEIC) == (64, 48)
    assert found[0, 0, 0] < 20 < 230 < found[0, -1, 0]


def test_heic_without_its_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_kinds, "_HEIF_PACKAGES", ("no_such_package",))
    monkeypatch.setattr(Image, "OPEN", {
        name: opener for name, opener in Image.OPEN.items() if name != "HEIF"
    })  # fmt: skip
    file_kinds.other_formats.cache_clear()
    with refused("package-missing", "a.heic", "hrpose[heic]"):
        read_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "a.heic")
    file_kinds.other_formats.cache_clear()


@pytest.mark.parametrize(
    ("data", "mention"),
    [(b"%PDF-1.4 \x80", "a PDF"), (b"words", "a text file"), (b"PK\3\4..", "zip")],
)
def test_a_message_says_what_else_it_is(data: bytes, mention: str) -> None:
    with refused("image-unsupported", mention):
        read_image(data)


def test_further_pages_and_frames_are_noted(caplog: pytest.LogCaptureFixture) -> None:
    for kind, count in (("TIFF", "3 pages"), ("GIF", "several frames")):
        frames = [Image.new("RGB", (8, 6), color) for color in ("red", "blue", "green")]
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        caplog.clear()
        with caplog.at_level("INFO", "hrpose"):
            read_image(data, "a")
        assert [count in record.getMessage() for record in caplog.records] == [True]


def test_files_of_proc_are_not_read() -> None:
    """They say that they are empty, and some block their reader."""
    path = Path("/proc/kmsg")
    if not path.exists():
        pytest.skip("no /proc")
    with pytest.raises(UserError):
        read_image(path)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.sampled_from(
        [
            "PNG",
            "JPEG",
            "GIF",
            "BMP",
            "TIFF",
            "WEBP",
            "MPO",
            *(["AVIF"] if HAS_AVIF else []),
            "JPEG2000",
            "PPM",
            "PCX",
            "SGI",
            "TGA",
        ]
    ),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=30),
)
def test_damaged_bytes_give_a_image_or_a_clear_error(
    kind: str, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(encoded(gradient(), kind))
    for place, value in changes:
        data[place % len(data)] = value
    # Warnings are errors in tests: none may leak out of a decoder either.
    with contextlib.suppress(UserError):
        assert read_image(bytes(data), max_pixels=10**6).ndim == 3


def smooth(width: int, height: int) -> Image.Image:
    """One slow wave for each axis, so that a mean of neighbors is their middle's value."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [127 + 120 * np.sin(x / 40), 127 + 120 * np.sin(y / 30), 127 + 90 * np.cos(x / 50)]
    return Image.fromarray(np.stack(planes, axis=-1).round().astype(np.uint8))


def between(image: NDArray[np.uint8], factor: int, wh: tuple[int, int]) -> NDArray[np.uint8]:
    """What an image of `wh` shows whose pixel i has its center at f * i + (f - 1) / 2."""
    x, y = (
        np.minimum(factor * np.arange(n) + (factor - 1) / 2, whole - 1)
        for n, whole in zip(wh, image.shape[1::-1], strict=True)
    )
    columns, rows = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return np.asarray(cv2.remap(image, columns, rows, cv2.INTER_LINEAR), np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("most", [1, 1.9, 2, 3, 4, 7, 8, 100])
@pytest.mark.parametrize("size", [(320, 240), (325, 243)])
def test_reduced_images_show_the_same(size: tuple[int, int], most: float, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(smooth(*size), "JPEG", quality=97, subsampling=0, exif=exif)
    whole = read_image(data)
    reduced, factor = read_reduced(data, most)
    if size == (320, 240) or orientation == 1:
        assert factor == max(f for f in (1, 2, 4, 8) if f <= most)
    else:
        assert factor == 1, "an odd edge would come to lie at the other side"
    height, width = whole.shape[:2]
    assert reduced.shape == (-(-height // factor), -(-width // factor), 3)
    difference = reduced.astype(int) - between(whole, factor, (reduced.shape[1], reduced.shape[0]))
    # What reaches over an edge is padding, which is the encoder's choice.
    assert np.abs(difference[: height // factor, : width // factor]).max() <= 6


@given(st.integers(1, 70), st.integers(1, 70), st.floats(1, 20))
def test_reduced_images_of_every_size(width: int, height: int, most: float) -> None:
    data = encoded(Image.new("RGB", (width, height), (200, 100, 50)), "JPEG")
    reduced, factor = read_reduced(data, most)
    assert factor <= most
    assert reduced.shape == (-(-height // factor), -(-width // factor), 3)
    assert np.abs(reduced.astype(int) - (200, 100, 50)).max() <= 4


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        ("L", "JPEG", 4),
        ("CMYK", "JPEG", 4),
        ("RGB", "MPO", 4),
        ("RGB", "PNG", 1),
        ("RGB", "WEBP", 1),
        ("RGB", "TIFF", 1),
    ],
)
def test_which_kinds_of_files_can_be_reduced(mode: str, kind: str, expected: int) -> None:
    options = {"save_all": True, "append_images": [smooth(64, 48)]} if kind == "MPO" else {}
    data = encoded(smooth(64, 48).convert(mode), kind, **options)
    reduced, factor = read_reduced(data, 4)
    assert factor == expected
    assert reduced.shape == (48 // factor, 64 // factor, 3)
    assert np.abs(reduced.mean(axis=(0, 1)) - read_image(data).mean(axis=(0, 1))).max() < 2


def test_a_damaged_file_is_refused_reduced_too() -> None:
    data = encoded(smooth(320, 240), "JPEG")
    with refused("image-damaged", "wave.jpg"):
        read_reduced(data[: len(data) // 2], 4, "wave.jpg")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_the_pixels_come_back(suffix: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(read_image(encode(image, suffix)), image)
    gray = image[..., 0]
    assert (read_image(encode(gray, suffix)) == gray[..., None]).all()


def test_settings_are_passed_on() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    small, large = (encode(image, ".jpg", {cv2.IMWRITE_JPEG_QUALITY: q}) for q in (10, 90))
    assert len(small) < len(large)


@pytest.mark.parametrize(("suffix", "width"), [(".jpg", 65_501), (".webp", 16_384)])
def test_an_image_that_is_too_wide_is_refused(suffix: str, width: int) -> None:
    with refused("image-too-large", f"{width} x 1", suffix):
        encode(np.zeros((1, width, 3), np.uint8), suffix)
