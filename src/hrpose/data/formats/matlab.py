"""MATLAB's .mat files (versions 5 to 7), and Leeds Sports Pose, which is one.

SciPy (extra `train`) reads and writes them. It trusts their sizes and tags, so both are checked
first. Source: "MAT-File Format", chapter 1.

Leeds Sports Pose (LSP) and its extension (LSPET) are `joints.mat` beside the folder `images`, with
one person an image. LSPET has `joints` of 14 x 3 x n, whose third value is 1 for
usable joints, and images im00001.jpg on; LSP has 3 x 14 x n, whose third value is 1 for hidden
ones, and images im0001.jpg on. Coordinates are used as they are, as it is unknown whether they
count from 0 or from 1.
"""

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.data.formats.pose_set import (
    LabeledImage,
    Person,
    PoseSet,
    ReadOptions,
    invalid,
    pose_set,
)
from hrpose.errors import UserError
from hrpose.io import read_file, write_atomically
from hrpose.skeletons import LSP_14

# MPII's heads and joints take 1 MB. Compressed parts are counted decompressed.
_MAX_BYTES = 64_000_000
_HEADER = 128
_ARRAY, _COMPRESSED = 14, 15
# Types of elements. For any other SciPy reads beyond its table, and the process crashes.
_TYPES = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13, _ARRAY, 16, 17, 18}
_NUMBERS = {"double", "single", "logical"} | {
    f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)
}


class _Damage(Exception):
    """How the bytes break the format."""


def read_mat(path: Path, shapes: Mapping[str, tuple[int | str, ...]]) -> dict[str, NDArray[Any]]:
    """The named arrays of a .mat file, each with its expected shape; other entries are ignored.

    A letter in a shape stands for any length, the same wherever it appears. Only real numbers are
    read, with the type that they have in MATLAB. Raises UserError, naming the file and the entry,
    for any other file.
    """
    from scipy.io import loadmat, whosmat

    content = _read(path)
    try:
        content = _decompressed(content)
        entries = whosmat(io.BytesIO(content))
        kinds = {name: kind for name, _, kind in entries}
        if len(kinds) < len(entries):
            raise _Damage("two entries of one name")
        wanted = [name for name in shapes if kinds.get(name) in _NUMBERS]
        numbers = loadmat(io.BytesIO(content), variable_names=wanted, mat_dtype=True)
    # SciPy promises no kind of error for damaged files.
    except Exception as error:
        raise UserError(
            f"{path}: expected a .mat file, found damage ({' '.join(str(error).split())}); "
            "copy or download it again",
            code="mat-invalid",
        ) from error
    lengths: dict[str, int] = {}
    return {
        name: _expected(path, name, kinds.get(name, "nothing"), numbers.get(name), shape, lengths)
        for name, shape in shapes.items()
    }


def write_mat(path: Path, entries: Mapping[str, ArrayLike]) -> None:
    """Write a .mat file of version 5, whole or not at all."""
    from scipy.io import savemat

    content = io.BytesIO()
    savemat(content, dict(entries))
    write_atomically(path, content.getvalue())


def _expected(
    path: Path,
    name: str,
    kind: str,
    numbers: NDArray[Any] | None,
    wanted: tuple[int | str, ...],
    lengths: dict[str, int],
) -> NDArray[Any]:
    """The numbers, of the wanted shape. `lengths` has those that letters stand for."""
    fits, found = False, kind
    if numbers is not None:
        # MATLAB drops a last axis of length 1.
        shape = numbers.shape + (1,) * (len(wanted) - numbers.ndim)
        found = f"{'complex ' if np.iscomplexobj(numbers) else ''}numbers of shape {shape}"
        fits = len(shape) == len(wanted) and not np.iscomplexobj(numbers)
        for length, known in zip(shape, wanted, strict=fits):
            fits &= length == (
                known if isinstance(known, int) else lengths.setdefault(known, length)
            )
    if numbers is None or not fits:
        form = ", ".join(str(lengths.get(str(known), known)) for known in wanted)
        raise UserError(
            f"{path}: '{name}': expected numbers of shape ({form}), found {found}",
            code="mat-invalid",
        )
    return numbers.reshape(shape)


def _read(path: Path) -> bytes:
    """The file's bytes, behind a header of version 5 to 7."""
    content = read_file(path, _MAX_BYTES)
    if content[124:_HEADER] not in (b"\x00\x01IM", b"\x01\x00MI"):
        raise UserError(
            f"{path}: expected a MATLAB file of version 5 to 7, found something else; "
            "save it with MATLAB's option -v7",
            code="mat-invalid",
        )
    return content


def _decompressed(content: bytes) -> bytes:
    """The file without compression, at most `_MAX_BYTES`, with all tags checked."""
    order = "<" if content[126:_HEADER] == b"IM" else ">"
    parts = [content[:_HEADER]]
    size = 0
    for kind, data, tag in _elements(content[_HEADER:], order, aligned=False):
        if kind == _COMPRESSED:
            decompressor = zlib.decompressobj()
            part = decompressor.decompress(data, _MAX_BYTES - size + 1)
        else:
            part = tag + data
        size += len(part)
        if size > _MAX_BYTES:
            raise _Damage(f"more than {_MAX_BYTES:,} bytes decompressed")
        for kind, array, _ in _elements(part, order, aligned=False):
            if kind != _ARRAY:
                raise _Damage(f"an element of type {kind} where an array is expected")
            for kind, _, _ in _elements(array, order):
                if kind not in _TYPES:
                    raise _Damage(f"an element of type {kind}, which does not exist")
        parts.append(part)
    return b"".join(parts)


def _elements(
    content: bytes, order: str, aligned: bool = True
) -> Iterator[tuple[int, bytes, bytes]]:
    """The type, the bytes and the tag of each element.

    Within an array each begins at a multiple of eight bytes, and those of up to four bytes take no
    more than that with their type and length.
    """
    position = 0
    while position < len(content):
        tag = content[position : position + 8]
        if len(tag) < 8:
            raise _Damage("cut off")
        kind, length = struct.unpack(f"{order}2I", tag)
        start = position + 8
        end = start + length + (-length % 8 if aligned else 0)
        if kind >> 16:
            kind, length, start, end = kind & 0xFFFF, kind >> 16, position + 4, position + 8
            if length > 4:
                raise _Damage(f"{length} bytes where at most 4 are")
        if start + length > len(content):
            raise _Damage(f"an element of {length} bytes where {len(content) - start} are left")
        yield kind, content[start : start + length], tag
        position = end


def read(source: Path, options: ReadOptions) -> PoseSet:
    """Read the `joints.mat` of LSP or LSPET. Raises UserError, naming the file and the image."""
    joints = read_mat(source, {"joints": ("a", "b", "n")})["joints"]
    if joints.shape[:2] == (14, 3):
        joints, name, third_is_hidden = joints.transpose(2, 0, 1), "im{:05d}.jpg", False
    elif joints.shape[:2] == (3, 14):
        joints, name, third_is_hidden = joints.transpose(2, 1, 0), "im{:04d}.jpg", True
    else:
        expected = "the shape (14, 3, n) of LSPET or (3, 14, n) of LSP"
        raise invalid(f"{source}: 'joints'", expected, joints.shape)
    joints = joints.astype(np.float64)
    faulty = ~np.isfinite(joints).all(axis=(1, 2)) | ~np.isin(joints[..., 2], (0, 1)).all(axis=1)
    faulty |= (np.abs(joints) > 1e6).any(axis=(1, 2))
    if faulty.any():
        row = int(np.argmax(faulty)) + 1
        finite = np.isfinite(joints[row - 1]).all()
        found = "other values" if finite else "NaN or infinity"
        raise invalid(f"{source}: image {row}", "finite coordinates and 0 or 1", found)
    names = options.skeleton.keypoints if options.skeleton else LSP_14.keypoints
    if len(names) != 14:
        raise UserError(
            f"{source}: expected a skeleton of 14 keypoints, found {len(names)}",
            code="keypoints-differ",
        )
    images = []
    for row, rows in enumerate(joints.tolist(), 1):
        labeled = {
            joint: (x, y, 1 if third_is_hidden and third else 2)
            for joint, (x, y, third) in zip(names, rows, strict=True)
            if third_is_hidden or third
        }
        persons = (Person(labeled, where=f"{source}: image {row}"),) if labeled else ()
        images.append(LabeledImage(name.format(row), persons))
    return pose_set(source, images, options, options.images_for(source), LSP_14)
