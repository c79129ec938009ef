"""MATLAB's .mat files, in which older data sets keep their labels. Needs SciPy (extra `train`)."""

import io
import struct
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.errors import UserError
from hrpose.files import write_atomically

# MPII's heads and joints take 1 MB. Packed parts are counted unpacked.
_MAX_BYTES = 64_000_000
_HEADER = 128
_COMPRESSED = 15
_PLAIN = {
    *("double", "single", "logical"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}


def read_mat(path: Path, shapes: Mapping[str, tuple[int | str, ...]]) -> dict[str, NDArray[Any]]:
    """The named arrays of a .mat file, each with its expected shape; other entries are not read.

    A letter in a shape stands for any length, the same wherever it appears. Sizes are checked
    before anything is unpacked, and only plain numbers are read. Raises UserError, naming the file
    and the entry, where it is not such a file.
    """
    from scipy.io import loadmat, whosmat

    content = _bounded(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # about entries that are there twice
            found = {name: (shape, kind) for name, shape, kind in whosmat(io.BytesIO(content))}
            _check(path, found, shapes)
            arrays = loadmat(io.BytesIO(content), variable_names=list(shapes))
            # MATLAB drops a last axis of length 1.
            return {
                name: arrays[name].reshape(_padded(found[name][0], shapes[name])) for name in shapes
            }
    except UserError:
        raise
    except Exception as error:  # SciPy may raise anything at damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: expected a .mat file, found damage ({reason})") from error


def write_mat(path: Path, entries: Mapping[str, ArrayLike]) -> None:
    """Write a .mat file of version 5, whole or not at all."""
    from scipy.io import savemat

    content = io.BytesIO()
    savemat(content, dict(entries))
    write_atomically(path, content.getvalue())


def _check(
    path: Path,
    found: Mapping[str, tuple[tuple[int, ...], str]],
    expected: Mapping[str, tuple[int | str, ...]],
) -> None:
    lengths: dict[str, int] = {}
    for name, shape in expected.items():
        actual, kind = found.get(name, ((), "nothing"))
        actual = _padded(actual, shape)
        fits = kind in _PLAIN and len(actual) == len(shape)
        for length, wanted in zip(actual, shape, strict=fits):
            known = wanted if isinstance(wanted, int) else lengths.setdefault(wanted, length)
            fits = fits and length == known
        # Plain numbers of one byte at least, so no array is larger than the file's content.
        if not fits or np.prod(actual, dtype=np.float64) > _MAX_BYTES:
            form = ", ".join(str(lengths.get(str(wanted), wanted)) for wanted in shape)
            raise UserError(
                f"{path}: '{name}': expected numbers of shape ({form}), found {kind}"
                f"{f' of shape {actual}' if actual else ''}"
            )


def _padded(actual: tuple[int, ...], wanted: tuple[int | str, ...]) -> tuple[int, ...]:
    return actual + (1,) * (len(wanted) - len(actual)) if actual else actual


def _bounded(path: Path) -> bytes:
    """The file's bytes, once it is known how large they are unpacked."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER])
    if order is None or struct.unpack(f"{order}H", content[124:126]) != (0x0100,):
        raise UserError(
            f"{path}: expected a MATLAB file of version 5 to 7, found something else; "
            "save it with MATLAB's option -v7"
        )
    left, place = _MAX_BYTES, _HEADER
    while place < len(content) and left >= 0:
        head = content[place : place + 8]
        if len(head) < 8:
            raise UserError(f"{path}: cut off at byte {len(content):,}; copy or download it again")
        kind, length = struct.unpack(f"{order}2I", head)
        part = content[place + 8 : place + 8 + length]
        if len(part) < length:
            raise UserError(f"{path}: cut off at byte {len(content):,}; copy or download it again")
        left -= _unpacked_length(path, part, left) if kind == _COMPRESSED else length
        place += 8 + length
    if left < 0:
        raise UserError(f"{path}: expected at most {_MAX_BYTES:,} bytes unpacked, found more")
    return content


def _unpacked_length(path: Path, packed: bytes, most: int) -> int:
    """How many bytes a part unpacks to; counting stops soon above `most`."""
    unpacker, length = zlib.decompressobj(), 0
    try:
        while packed and length <= most:
            length += len(unpacker.decompress(packed, 1 << 20))
            packed = unpacker.unconsumed_tail
    except zlib.error as error:
        raise UserError(f"{path}: damaged ({error}); copy or download it again") from error
    return length
