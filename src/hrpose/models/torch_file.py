"""PyTorch files, read as NumPy arrays without PyTorch, and without running anything they ask for.

`torch.save` writes a pickle, in which tensors are references to storages: runs of numbers elsewhere
in the file. A pickle is a program for a stack machine. The one here knows the few instructions that
build plain values; of functions it knows the names that build tensors, and calls none: it keeps
their arguments. Any other name is refused. The numbers are views of the mapped file, so nothing is
allocated by what a file says.

Both forms are read: the zip file of PyTorch 1.6 and later, and the older one, in which pickles and
storages follow each other.
"""

import io
import math
import mmap
import pickletools
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError
from hrpose.io import MAX_MODEL_BYTES

# Bounds of what is read into memory: the pickle, and the zip file's directory.
_MAX_PICKLE = _MAX_DIRECTORY = 16_000_000
# The first value of the older form, the version of it, and the bytes of a storage's length.
_MAGIC, _VERSION, _LENGTH = 0x1950A86A20F9469CFC6C, 1001, 8
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ZIP = b"PK\x03\x04"
_MAX_DEPTH = 100
Order = Literal["<", ">"]

# The types of numbers, by the names of their storages.
_STORAGES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2",
    "BFloat16Storage": "bf16",  # NumPy has none
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1",
    "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip
_DICTS = ("collections.OrderedDict", "builtins.dict")
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
# What training programs store beside the weights. It is not made; a placeholder stands for it.
_LEFT_OUT = (
    "_codecs.encode", "argparse.Namespace",
    "builtins.bytearray", "builtins.complex", "builtins.set",
    "collections.Counter", "collections.defaultdict", "numpy.dtype", "numpy.ndarray",
    "numpy.core.multiarray._reconstruct", "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct", "numpy._core.multiarray.scalar",
    "pathlib.PosixPath", "pathlib.WindowsPath", "torch.Size", "torch.device",
)  # fmt: skip
_KNOWN = (*_DICTS, _TENSOR, _PARAMETER, *_LEFT_OUT, *(f"torch.{name}" for name in _STORAGES))
_PYTHON_2 = {"__builtin__": "builtins"}
# What reading damaged bytes can raise.
_DAMAGE = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError),
    *(EOFError, NotImplementedError, struct.error, zipfile.BadZipFile, RecursionError),
)


def read(path: Path) -> Any:
    """The content of a PyTorch file: plain values and NumPy arrays in dicts, lists and tuples.

    Arrays are views of the file, which must not change while they are used; numbers of the type
    bfloat16 become float32. Other values that training programs store are `LEFT_OUT`. Raises
    UserError where the file is missing, damaged or too large, and where it asks for code.
    """
    try:
        with path.open("rb") as file:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode) or not found.st_size:
                raise _damaged(path, "it is empty, or no regular file")
            if found.st_size > MAX_MODEL_BYTES:
                raise UserError(
                    f"{path}: expected at most {MAX_MODEL_BYTES:,} bytes, found more",
                    code="file-too-large",
                )
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); check the path",
            code="file-unreadable",
        ) from error
    try:
        content = memoryview(mapped)
        return _zipped(path, content) if content[:4] == _ZIP else _older(content)
    except _Refused as error:
        raise UserError(
            f"{path}: refused, because {error}; expected a PyTorch file of tensors and plain "
            "values, as torch.save writes it",
            code="weights-unsafe",
        ) from error
    except _DAMAGE as error:
        raise _damaged(path, " ".join(str(error).split())[:200]) from error


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path}: expected a PyTorch file, found another or a broken one ({reason})",
        code="weights-damaged",
    )


class _Refused(Exception):
    """The file asks for more than tensors and plain values."""


@dataclass(frozen=True, slots=True)
class _Name:
    """A function or class by its name."""

    name: str


class _LeftOut:
    """Stands for a value that is not made."""


LEFT_OUT = _LeftOut()


@dataclass(frozen=True, slots=True)
class _Storage:
    """A reference to `count` numbers, which begin at number `start` of storage `key`."""

    key: str
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """Numbers of a storage in a shape: number (i, j, ...) is at offset + i strides[0] + ..."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.shape, *self.strides)
        if len(self.shape) != len(self.strides) or len(self.shape) > 32:
            raise ValueError(f"a tensor of {len(self.shape)} lengths")
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("a tensor whose place is no number")
        if 0 in self.shape:
            return
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        # Strides of 0 would let a small file be any number of values.
        if last >= self.storage.count or math.prod(self.shape) > self.storage.count:
            raise ValueError("a tensor that is larger than its storage")

    def array(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """The view of the numbers of its storage."""
        if 0 in self.shape:
            return np.zeros(self.shape, numbers.dtype)
        if self.storage.start + self.storage.count > len(numbers):
            raise ValueError(f"storage {self.storage.key!r:.20} is shorter than it should be")
        first = self.storage.start + self.offset
        return np.lib.stride_tricks.as_strided(
            numbers[first:],
            self.shape,
            [stride * numbers.itemsize for stride in self.strides],
            writeable=False,
        )


def _numbers(content: memoryview, at: int, kind: str, count: int, order: Order) -> NDArray[Any]:
    """The `count` numbers of a type that begin at byte `at`; `order` is < or >."""
    dtype = np.dtype("u2" if kind == "bf16" else kind).newbyteorder(order)
    numbers = np.frombuffer(content, dtype, count, at) if count else np.zeros(0, dtype)
    # bfloat16 is the upper half of float32.
    return (numbers.astype(np.uint32) << 16).view(np.float32) if kind == "bf16" else numbers


def _size(kind: str) -> int:
    return 2 if kind == "bf16" else np.dtype(kind).itemsize


def _filled(value: Any, storages: Mapping[str, NDArray[Any]]) -> Any:
    """`value` with arrays in place of tensors; containers are copied, each once."""
    done: dict[int, Any] = {}

    def filled(value: Any, depth: int = 0) -> Any:
        if depth > _MAX_DEPTH:
            raise ValueError("values in values without end")
        if isinstance(value, _Tensor):
            return value.array(storages[value.storage.key])
        if not isinstance(value, dict | list | tuple):
            return value
        if id(value) not in done:
            if isinstance(value, dict):
                done[id(value)] = {k: filled(v, depth + 1) for k, v in value.items()}
            else:
                done[id(value)] = type(value)(filled(v, depth + 1) for v in value)
        return done[id(value)]

    return filled(value)


class BoundedDirectory(io.FileIO):
    """A zip file, of whose directory no more is read than is bounded."""

    def read(self, size: int | None = -1) -> Any:
        if size is None or size < 0 or size > _MAX_DIRECTORY:
            size = _MAX_DIRECTORY + 1
        found = super().read(size)
        if len(found) > _MAX_DIRECTORY:
            raise ValueError("a directory of too many entries")
        return found


def _zipped(path: Path, content: memoryview) -> Any:
    """The content of the form of PyTorch 1.6 and later: members of a zip file, not compressed."""
    with BoundedDirectory(path) as file, zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
    packed = next((m for m in members.values() if m.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        raise _Refused(f"its member {packed.filename!r} is compressed")
    root = next(iter(members), "").partition("/")[0]

    def member(name: str) -> memoryview:
        info = members[f"{root}/{name}"]
        found = content[slice(*_place(content, info))]
        if zlib.crc32(found) != info.CRC:
            raise ValueError(f"{name} is damaged")
        return found

    named = f"{root}/byteorder" in members
    order: Order = ">" if named and bytes(member("byteorder")[:3]) == b"big" else "<"
    pickled = member("data.pkl")
    if len(pickled) > _MAX_PICKLE:
        raise ValueError(f"a pickle of {len(pickled):,} bytes")
    machine = _Machine()
    value = machine.run(io.BytesIO(pickled))
    storages = {}
    for key, kind in machine.storages.items():
        data = member(f"data/{key}")
        storages[key] = _numbers(data, 0, kind, len(data) // _size(kind), order)
    return _filled(value, storages)


def _place(content: memoryview, info: zipfile.ZipInfo) -> tuple[int, int]:
    """Where the bytes of a member begin and end."""
    signature, name, extra = _LOCAL_HEADER.unpack_from(content, info.header_offset)
    start = info.header_offset + _LOCAL_HEADER.size + name + extra
    end = start + info.file_size
    if signature != _ZIP or info.file_size != info.compress_size or end > len(content):
        raise ValueError(f"its member {info.filename!r} is not where it should be")
    return start, end


def _older(content: memoryview) -> Any:
    """The content of the older form: five pickles, then each storage with its length."""
    file, machine = io.BytesIO(content[:_MAX_PICKLE]), _Machine()
    if bytes(content[:1]) != b"\x80":
        raise ValueError("its first bytes are those of no such file")
    if machine.run(file) != _MAGIC:
        raise _Refused("it is another kind of pickle")
    version, system = machine.run(file), machine.run(file)
    if version != _VERSION or not isinstance(system, dict):
        raise ValueError("an unknown version")
    order: Order = "<" if system.get("little_endian", True) else ">"
    value, keys = machine.run(file), machine.run(file)
    at = file.tell()
    storages = {}
    for key in keys:
        kind = machine.storages[key]
        count = int.from_bytes(content[at : at + _LENGTH], "little")
        at += _LENGTH
        storages[key] = _numbers(content, at, kind, count, order)
        at += count * _size(kind)
    return _filled(value, storages)


class _Machine:
    """Runs pickles, which are programs for a stack machine, without running what they name.

    `storages` are the types of the storages that they refer to, by their keys.
    """

    def __init__(self) -> None:
        self.storages: dict[str, str] = {}

    def run(self, file: io.BytesIO) -> Any:
        """The value of the pickle that begins here; afterwards `file` is behind it."""
        stack: list[Any] = []
        marked: list[list[Any]] = []  # what was below each mark
        memo: dict[int, Any] = {}
        for opcode, argument, _ in pickletools.genops(file):
            name = opcode.name
            if name in _LITERALS:
                stack.append(_LITERALS[name]() if argument is None else argument)
            elif name == "MARK":
                marked.append(stack)
                stack = []
            elif name in _FROM_MARK:
                items, stack = stack, marked.pop()
                _FROM_MARK[name](stack, items)
            elif name in _TUPLES:
                count = _TUPLES[name]
                stack[-count:] = [tuple(_last(stack, count))]
            elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
                memo[argument if isinstance(argument, int) else len(memo)] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET", "GET"):
                stack.append(memo[int(argument or 0)])
            elif name == "APPEND":
                _append(stack, [stack.pop()])
            elif name == "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set_items(stack, [key, value])
            elif name == "POP":
                stack.pop()
            elif name in ("GLOBAL", "STACK_GLOBAL"):
                parts = argument.split(" ", 1) if argument else _popped(stack, 2)
                stack.append(_named(*parts))
            elif name in ("REDUCE", "NEWOBJ"):
                function, arguments = _popped(stack, 2)
                stack.append(_made(function, arguments))
            elif name == "BUILD":  # attributes, such as the versions of modules in a state dict
                stack.pop()
            elif name == "BINPERSID":
                stack.append(self._storage(stack.pop()))
            elif name == "STOP":
                return stack.pop()
            elif name not in ("PROTO", "FRAME"):
                raise _Refused(f"it has the instruction {name}")
        raise ValueError("a pickle without an end")

    def _storage(self, reference: Any) -> _Storage:
        """("storage", type, key, device, count), and in older files (key, start, count) of a part
        of it.
        """
        if not isinstance(reference, tuple) or reference[:1] != ("storage",):
            raise _Refused("it refers to more than storages")
        (_, kind, key, _, count), parts = reference[:5], reference[5:]
        start = 0
        if parts and parts[0] is not None:
            _, start, count = parts[0]
        dtype = _STORAGES[kind.name.removeprefix("torch.")]
        if not isinstance(key, str) or not type(start) is type(count) is int or start < 0:
            raise ValueError("a storage without a place")
        if self.storages.setdefault(key, dtype) != dtype:
            raise ValueError(f"a storage of two types, {dtype} and {self.storages[key]}")
        return _Storage(key, start, count)


_LITERALS: dict[str, Callable[[], Any]] = {
    **dict.fromkeys(
        ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"), int
    ),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), str),
    **dict.fromkeys(("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), str),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), bytes),
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _last(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise ValueError("an empty stack")
    return stack[-count:]


def _popped(stack: list[Any], count: int) -> list[Any]:
    found = _last(stack, count)
    del stack[-count:]
    return found


def _append(stack: list[Any], items: list[Any]) -> None:
    if isinstance(stack[-1], list):
        stack[-1].extend(items)
    elif stack[-1] is not LEFT_OUT:
        raise ValueError("items of what is no list")


def _set_items(stack: list[Any], items: list[Any]) -> None:
    if stack[-1] is LEFT_OUT:
        return
    if not isinstance(stack[-1], dict) or len(items) % 2:
        raise ValueError("entries of what is no dict")
    # Only plain keys: the hash of tuples in tuples can take forever.
    if not all(isinstance(key, str | bytes | int | float | None) for key in items[::2]):
        raise ValueError("a key that is no plain value")
    stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _new_dict(stack: list[Any], items: list[Any]) -> None:
    stack.append({})
    _set_items(stack, items)


# What is done with the items above the last mark.
_FROM_MARK: dict[str, Callable[[list[Any], list[Any]], None]] = {
    "TUPLE": lambda stack, items: stack.append(tuple(items)),
    "LIST": lambda stack, items: stack.append(items),
    "FROZENSET": lambda stack, items: stack.append(items),
    "DICT": _new_dict,
    "APPENDS": _append,
    "ADDITEMS": _append,
    "SETITEMS": _set_items,
    "POP_MARK": lambda stack, items: None,
}


def _named(module: Any, name: Any) -> _Name:
    full = f"{_PYTHON_2.get(module, module)}.{name}"
    if full not in _KNOWN:
        raise _Refused(f"it asks for {full!r}, which is code"[:200])
    return _Name(full)


def _made(function: Any, arguments: Any) -> Any:
    """What a function of these names returns, or `LEFT_OUT`; nothing is called."""
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise _Refused("it calls what is no function")
    if function.name in _DICTS:
        made: list[Any] = [{}]
        for pairs in arguments[:1]:
            _set_items(made, [part for pair in pairs for part in pair])
        return made[0]
    if function.name == _PARAMETER:
        return arguments[0]
    if function.name == _TENSOR:
        storage, offset, shape, strides = arguments[:4]
        if not isinstance(storage, _Storage):
            raise ValueError("a tensor without a storage")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))
    if function.name in _LEFT_OUT:
        return LEFT_OUT
    raise _Refused(f"it calls {function.name!r}")
