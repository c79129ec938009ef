"""MATLAB's .mat files, in which older data sets keep their labels.

They are read here and not by SciPy, in which some damaged files end the process. SciPy (extra
`train`) writes them. Source: "MAT-File Format", chapter 1 (version 5).
"""

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.errors import UserError
from hrpose.files import write_atomically

# MPII's heads and joints take 1 MB. Packed parts are counted unpacked.
_MAX_BYTES = 64_000_000
_HEADER = 128

# Types of elements: numbers as they are stored, and what holds other elements.
_STORED = dict(zip((1, 2, 3, 4, 5, 6, 7, 9, 12, 13), "bBhHiIfdqQ", strict=True))
_ARRAY, _COMPRESSED = 14, 15
# Classes of arrays: numbers, whatever they are stored as, and others.
_NUMBERS = dict(zip(range(6, 16), "dfbBhHiIqQ", strict=True))
_OTHERS = {1: "cells", 2: "a struct", 3: "an object", 4: "text", 5: "a sparse array"}
_COMPLEX = 0x800


class _Damage(Exception):
    """Says in which way the bytes are not what the format wants."""


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """One named array: its kind in words, and its numbers where they are plain."""

    name: str
    kind: str
    shape: tuple[int, ...]
    numbers: NDArray[Any] | None


def read_mat(path: Path, shapes: Mapping[str, tuple[int | str, ...]]) -> dict[str, NDArray[Any]]:
    """The named arrays of a .mat file, each with its expected shape; other entries are passed over.

    A letter in a shape stands for any length, the same wherever it appears. Unpacking
    stops at a bound, and only plain numbers are read. Raises UserError, naming the file
    and the entry, where it is not such a file.
    """
    content, order = _read(path)
    found: dict[str, _Entry] = {}
    try:
        for kind, data in _parts(path, content, order):
            entry = _entry(kind, data, order)
            if entry.name in found:
                raise _Damage(f"'{entry.name}' is there twice")
            found[entry.name] = entry
    except _Damage as damage:
        raise UserError(f"{path}: expected a .mat file, found damage ({damage})") from damage
    lengths: dict[str, int] = {}
    return {
        name: _expected(path, found.get(name, _Entry(name, "nothing", (), None)), shape, lengths)
        for name, shape in shapes.items()
    }


def write_mat(path: Path, entries: Mapping[str, ArrayLike]) -> None:
    """Write a .mat file of version 5, whole or not at all."""
    from scipy.io import savemat

    content = io.BytesIO()
    savemat(content, dict(entries))
    write_atomically(path, content.getvalue())


def _expected(
    path: Path, entry: _Entry, wanted: tuple[int | str, ...], lengths: dict[str, int]
) -> NDArray[Any]:
    """The entry's numbers, of the wanted shape. `lengths` has those that letters stand for."""
    # MATLAB drops a last axis of length 1.
    shape = entry.shape + (1,) * (len(wanted) - len(entry.shape)) if entry.shape else ()
    fits = entry.numbers is not None and len(shape) == len(wanted)
    for length, known in zip(shape, wanted, strict=fits):
        number = known if isinstance(known, int) else lengths.setdefault(known, length)
        fits = fits and length == number
    if entry.numbers is None or not fits:
        form = ", ".join(str(lengths.get(str(known), known)) for known in wanted)
        raise UserError(
            f"{path}: '{entry.name}': expected numbers of shape ({form}), found {entry.kind}"
            f"{f' of shape {shape}' if shape else ''}"
        )
    return entry.numbers.reshape(shape)


def _entry(kind: int, data: bytes, order: str) -> _Entry:
    """An array: its flags, shape, name and numbers, each an element of its own."""
    if kind != _ARRAY:
        raise _Damage(f"an element of type {kind} where an array is expected")
    parts = _elements(data, order)
    head = [next(parts, (0, b"")) for _ in range(3)]
    if [kind for kind, _ in head] != [6, 5, 1] or len(head[0][1]) != 8:
        raise _Damage("an array without flags, shape and name")
    flags = int(np.frombuffer(head[0][1], f"{order}u4")[0])
    shape = tuple(int(n) for n in _plain(*head[1], order))
    name = head[2][1].decode("latin-1")
    which = flags & 0xFF
    if which not in _NUMBERS:
        return _Entry(name, _OTHERS.get(which, f"an array of class {which}"), shape, None)
    if flags & _COMPLEX:
        return _Entry(name, "complex numbers", shape, None)
    numbers = _plain(*next(parts, (0, b"")), order)
    if min(shape, default=-1) < 0 or prod(shape) != len(numbers):
        raise _Damage(f"'{name}': {len(numbers)} numbers for the shape {shape}")
    # As MATLAB counts: the first axis is the fastest.
    numbers = numbers.astype(_NUMBERS[which]).reshape(shape, order="F")
    return _Entry(name, "numbers", shape, numbers)


def _plain(kind: int, data: bytes, order: str) -> NDArray[Any]:
    stored = np.dtype(f"{order}{_STORED[kind]}") if kind in _STORED else None
    if stored is None or len(data) % stored.itemsize:
        raise _Damage(f"{len(data)} bytes of type {kind} where numbers are expected")
    return np.frombuffer(data, stored)


def _elements(content: bytes, order: str, aligned: bool = True) -> Iterator[tuple[int, bytes]]:
    """The types of the elements in `content`, and their bytes.

    Within an array each begins at a multiple of eight bytes, and those of up to four bytes take no
    more than that with their type and length.
    """
    place = 0
    while place + 8 <= len(content):
        kind, length = struct.unpack(f"{order}2I", content[place : place + 8])
        start = place + 8
        if kind >> 16:
            kind, length, start = kind & 0xFFFF, kind >> 16, place + 4
            if length > 4:
                raise _Damage(f"{length} bytes where at most 4 are")
            end = place + 8
        else:
            end = start + length + (-length % 8 if aligned else 0)
        if start + length > len(content):
            raise _Damage(f"an element of {length} bytes where {len(content) - start} are left")
        yield kind, content[start : start + length]
        place = end


def _read(path: Path) -> tuple[bytes, str]:
    """The file's bytes, and their order."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > _MAX_BYTES:
        raise UserError(f"{path}: expected at most {_MAX_BYTES:,} bytes, found more")
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER])
    if order is None or struct.unpack(f"{order}H", content[124:126]) != (0x0100,):
        raise UserError(
            f"{path}: expected a MATLAB file of version 5 to 7, found something else; "
            "save it with MATLAB's option -v7"
        )
    return content, order


def _parts(path: Path, content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """The file's elements, unpacked, no more of them than `_MAX_BYTES`."""
    left, place = _MAX_BYTES, _HEADER
    while place < len(content):
        head = content[place : place + 8].ljust(8, b"\0")
        kind, length = struct.unpack(f"{order}2I", head)
        end = place + 8 + length
        if end > len(content):
            raise UserError(f"{path}: cut off at byte {len(content):,}; copy or download it again")
        data = content[place + 8 : end]
        if kind == _COMPRESSED:
            data = _unpacked(path, data, left)
        left -= len(data)
        if left < 0:
            raise UserError(f"{path}: expected at most {_MAX_BYTES:,} bytes unpacked, found more")
        if kind == _COMPRESSED:
            yield from _elements(data, order, aligned=False)
        else:
            yield kind, data
        place = end


def _unpacked(path: Path, packed: bytes, most: int) -> bytes:
    """What a part unpacks to; of more than `most` bytes, one more than that."""
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, most + 1)
    except zlib.error as error:
        raise UserError(f"{path}: damaged ({error}); copy or download it again") from error
    if len(data) <= most and not unpacker.eof:
        raise UserError(f"{path}: damaged (packed data cut off); copy or download it again")
    return data
