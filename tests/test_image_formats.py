"""Images with more than 8 bits a channel: dark ones become visible, as their 8-bit twins are."""

import io
import logging
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from hrpose.image import read_image
from hrpose.image_formats import by_bits, scaling_of

SCENE = np.add.outer(np.arange(60), np.arange(80) * 2).astype(np.uint16) + 20  # 20 to 237


def png(values: NDArray[np.uint16], *chunks: tuple[bytes, bytes]) -> bytes:
    _, data = cv2.imencode(".png", values)
    file = data.tobytes()
    at = file.index(b"IDAT") - 4
    extra = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return file[:at] + extra + file[at:]


def tiff(values: NDArray[np.uint16], **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF", **options)
    return file.getvalue()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("encode", [png, tiff])
def test_gray_of_every_depth_is_as_in_8_bits(bits: int, encode: Any) -> None:
    found = read_image(encode(SCENE << (bits - 8)))
    assert np.abs(found[..., 0].astype(int) - SCENE).max() <= 1


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [3, 4])
def test_color_of_every_depth_is_as_in_8_bits(bits: int, suffix: str, channels: int) -> None:
    colors = np.stack([SCENE, SCENE // 2, SCENE[::-1]], axis=-1)
    wide = colors << (bits - 8)
    if channels == 4:
        wide = np.concatenate([wide, np.full_like(wide[..., :1], 65535)], axis=-1)
    _, data = cv2.imencode(suffix, wide)
    found = read_image(data.tobytes())
    assert np.abs(found[..., ::-1].astype(int) - colors).max() <= 1


def test_what_the_file_says() -> None:
    """A dark image of 12 bits stays dark; one that was scaled to 16 bits is not scaled again."""
    dark = (SCENE // 2) << 4
    assert read_image(png(dark, (b"sBIT", b"\x0c"))).max() == (SCENE // 2).max()
    assert read_image(tiff(dark, tiffinfo={281: 4095})).max() == (SCENE // 2).max()
    assert read_image(png(SCENE << 8, (b"sBIT", b"\x0c"))).max() == SCENE.max() - 1


def test_a_thermal_image_is_stretched() -> None:
    """Its values are a small part of their depth; dead pixels have no say."""
    thermal = 7000 + SCENE * 4
    thermal[0, 0], thermal[3, 3] = 65535, 0
    found = read_image(png(thermal))[..., 0]
    assert np.quantile(found, 0.01) < 15
    assert np.quantile(found, 0.99) > 240


def test_a_depth_can_be_forced_and_is_noted_otherwise(caplog: pytest.LogCaptureFixture) -> None:
    data = png(SCENE << 4)
    with caplog.at_level(logging.INFO, "hrpose"):
        assert read_image(data, "a.png", bit_depth=16).max() == round(SCENE.max() / 16)
        assert not caplog.records
        read_image(data, "a.png")
        read_image(png(SCENE << 8), "b.png")
    (record,) = caplog.records
    assert record.args is not None
    assert next(iter(record.args)) == "a.png"
    assert "12 significant bits" in record.getMessage()


@pytest.mark.parametrize("maxval", [1023, 4095, 65535])
def test_portable_graymaps(maxval: int) -> None:
    values = (SCENE.astype(np.uint32) * maxval // 255).astype(">u2")
    data = f"P5 80 60 {maxval}\n".encode() + values.tobytes()
    assert np.abs(read_image(data)[..., 0].astype(int) - SCENE).max() <= 1


@given(st.integers(1, 16), st.lists(st.integers(0, 65535), min_size=1, max_size=50))
def test_scalings_are_monotonic_and_in_range(bits: int, values: list[int]) -> None:
    array = np.array([sorted(values)], np.uint16)
    for scaling in (by_bits(bits), scaling_of(array), scaling_of(array, bits)):
        found = scaling(array)[0].astype(int)
        assert (np.diff(found) >= 0).all()
        assert (found <= 255).all()
    assert by_bits(bits)(np.array([0, 2**bits - 1], np.uint16)).tolist() == [0, 255]
