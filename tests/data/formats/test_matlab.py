"""MATLAB files: read as SciPy reads them, and refused where their tags or sizes are wrong."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy.io import loadmat, savemat

from hrpose.data.formats.matlab import read_mat, write_mat
from refusals import refused

KINDS = st.sampled_from(["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mat")


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True),
        KINDS.flatmap(lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=2))),
        max_size=3,
    ),
    st.booleans(),
)
def test_any_numbers_are_read_as_scipy_reads_them(
    folder: Path, entries: dict[str, NDArray[Any]], compressed: bool
) -> None:
    file = folder / "a.mat"
    others = {"Text": "words", "Cells": np.array([[{}, 1]], object), "Sparse": {"a": 1}}
    savemat(file, {**others, **entries}, do_compression=compressed)
    expected = loadmat(file, mat_dtype=True)
    found = read_mat(file, {name: array.shape for name, array in entries.items()})
    assert found.keys() == entries.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], strict=True)
        np.testing.assert_array_equal(array, entries[name])


def test_big_endian_files_and_axes_of_length_one(tmp_path: Path) -> None:
    content = b"MATLAB 5.0".ljust(124) + struct.pack(">H", 0x0100) + b"MI"
    # A name in its small form, and doubles that are stored as two bytes.
    body = struct.pack(">6I", 6, 8, 6, 0, 5, 8) + struct.pack(">2i", 2, 3)
    body += struct.pack(">2H", 2, 1) + b"ab\0\0" + struct.pack(">2I", 3, 12)
    body += struct.pack(">6h", 1, 2, 3, 4, 5, -6) + bytes(4)
    file = tmp_path / "a.mat"
    file.write_bytes(content + struct.pack(">2I", 14, len(body)) + body)
    found = read_mat(file, {"ab": (2, "n", 1)})["ab"]
    expected = np.array([[1, 3, 5], [2, 4, -6]], np.float64)[..., None]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype.kind == "f"
    np.testing.assert_array_equal(found[..., 0], loadmat(file)["ab"])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    points = np.arange(24.0).reshape(2, 3, 4)
    file = tmp_path / "a.mat"
    write_mat(file, {"points": points})
    np.testing.assert_array_equal(read_mat(file, {"points": (2, "n", 4)})["points"], points)


def header(version: int = 0x0100) -> bytes:
    return b"MATLAB 5.0".ljust(124) + struct.pack("<H", version) + b"IM"


def packed(content: bytes) -> bytes:
    data = zlib.compress(content, 9)
    return struct.pack("<2I", 15, len(data)) + data


def matrix(
    name: bytes, dims: tuple[int, ...], kind: int = 6, length: int = 8, stored: int = 9
) -> bytes:
    """The start of an array that claims `dims`, and has `length` bytes of numbers."""
    shape = struct.pack(f"<2I{len(dims)}i", 5, 4 * len(dims), *dims)
    shape += bytes(-len(shape) % 8)
    named = struct.pack("<2I", 1, len(name)) + name + bytes(-len(name) % 8)
    flags = struct.pack("<4I", 6, 8, kind, 0)
    data = struct.pack("<2I", stored, length) + bytes(8)
    body = flags + shape + named + data
    return struct.pack("<2I", 14, len(body)) + body


@pytest.mark.parametrize(
    ("content", "mention"),
    [
        (b"", "version 5 to 7"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "version 5 to 7"),
        (header(0x0200) + bytes(400), "-v7"),
        (header(), "'a'"),
        (header() + b"\x0e\0", ""),
        (header() + struct.pack("<2I", 14, 1000) + bytes(8), "1000 bytes"),
        (header() + struct.pack("<2I", 15, 8) + bytes(8), ""),
        (header() + struct.pack("<2I", 14, 70_000_000) + bytes(70_000_000), "64,000,000"),
        # 80 MB in 80 kB.
        (header() + packed(bytes(80_000_000)), "64,000,000"),
        (header() + packed(matrix(b"a", (2, 3)))[:-4], ""),
        (header() + struct.pack("<2I", 15, 60) + zlib.compress(bytes(200))[:-4].ljust(60), ""),
        # Claims that would fill the memory: a large array, and a large cell array.
        (header() + matrix(b"a", (2, 1 << 30)), ""),
        (header() + matrix(b"a", (2, 1 << 30), kind=1), "'a'"),
        (header() + packed(matrix(b"a", (2, 3))), ""),
        (header() + matrix(b"a", (-1, -1)), ""),
        (header() + matrix(b"a", (2, 3), length=1 << 31), "2147483648"),
        # Numbers of no type that there is, at which SciPy reads beyond its tables.
        (header() + matrix(b"a", (1, 1), stored=255), "type 255"),
        (header() + 2 * matrix(b"a", (1, 1)), ""),
        (header() + matrix(b"a", (1, 1), kind=6 | 0x800), ""),
        (header() + struct.pack("<4I", 14, 8, 6, 0), ""),
        (header() + struct.pack("<2I", 9, 8) + bytes(8), "type 9"),
    ],
)
def test_hostile_mat_files(tmp_path: Path, content: bytes, mention: str) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(content)
    code = "file-too-large" if len(content) > 64_000_000 else "mat-invalid"
    with refused(code, str(path), mention):
        read_mat(path, {"a": (2, "n")})
