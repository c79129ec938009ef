"""Files: bounded reading, JSON, atomic writes, locks, names, and the texts in model files.

Names of files need not be text: on Linux they are any bytes, which Python shows as surrogates where
they are not UTF-8. `name_to_text` spells them for JSON, tables and terminals.

Model files (.onnx, .safetensors) have texts beside their tensors, by keys: `metadata_props` and
`__metadata__`. They are read and replaced in the bytes: that needs neither PyTorch nor the formats'
own libraries, is fast for files of any size, and gives nothing of an untrusted file to code that is
not here.
"""

import errno
import gzip
import hashlib
import json
import mmap
import os
import re
import stat
import sys
import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any, BinaryIO, TypeVar

from hrpose.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
Bytes = bytes | mmap.mmap

# COCO's largest file has half a gigabyte.
MAX_JSON_BYTES = 2_000_000_000
# A model file ends there: protobuf, and with it ONNX, can be no larger.
MAX_MODEL_BYTES = 2 * 1024**3
# Bounds on what is read into memory, whatever a file says.
_MAX_HEADER = 100_000_000
_MAX_TEXT = 16_000_000
_GZIP = b"\x1f\x8b"
# What reading bytes of any kind can raise.
_DAMAGE = (ValueError, TypeError, AttributeError, KeyError, RecursionError, IndexError)
# Numbers of fields in ONNX's own description of its files (onnx.proto).
_METADATA_PROPS, _ENTRY_KEY, _ENTRY_VALUE = 14, 1, 2
# How protobuf stores a field (protobuf.dev, "Encoding").
_VARINT, _WITH_LENGTH = 0, 2
_FIXED = {1: 8, 5: 4}  # and how many bytes those have that are all of one length


def read_file(path: Path, max_bytes: int, label: str = "") -> bytes:
    """The content of a regular file, called `label` in errors, by default by its path.

    Raises UserError where it is missing, cannot be read or is larger.
    """
    label = label or str(path)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise not_regular(label, found.st_mode)
        content = b""
        if found.st_size:  # files of /proc say 0, and may block whoever reads them
            with path.open("rb") as file:
                content = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise UserError(f"{label}: no such file; check the name", code="file-unreadable") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        if isinstance(error, UserError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{label}: cannot be read ({reason}); check the path", code="file-unreadable"
        ) from error
    if len(content) > max_bytes:
        raise UserError(
            f"{label}: expected at most {max_bytes:,} bytes, found more", code="file-too-large"
        )
    return content


def not_regular(path: Path | str, mode: int) -> UserError:
    """The error for what is there but is no regular file, by its `st_mode`."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    kind = kinds.get(stat.S_IFMT(mode), "a device")
    return UserError(f"{path}: expected a file, found {kind}; name a file", code="file-unreadable")


def without_secrets(address: str) -> str:
    """An address as messages and results show it: without user, password and what follows a "?"."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def read_json(path: Path) -> Any:
    """Parse a JSON file, gzipped or not. Raises UserError where it is missing, too large, or not
    JSON.
    """
    content = read_file(path, MAX_JSON_BYTES)
    if content.startswith(_GZIP):
        content = _unpacked(path, content)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: expected JSON ({error}); check the file", code="json-invalid"
        ) from error


def _unpacked(path: Path, content: bytes) -> bytes:
    """The content of a gzip file, of bounded size."""
    try:
        with gzip.GzipFile(fileobj=BytesIO(content)) as file:
            unpacked = file.read(MAX_JSON_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path}: expected gzipped JSON, found damage ({error}); copy it again",
            code="json-invalid",
        ) from error
    if len(unpacked) > MAX_JSON_BYTES:
        raise UserError(
            f"{path}: expected at most {MAX_JSON_BYTES:,} bytes unpacked, found more",
            code="file-too-large",
        )
    return unpacked


def write_atomically(path: Path, data: bytes | bytearray | str) -> None:
    """Write `data` (text as UTF-8) to `path`: afterwards the file is the new one or the old one.

    The folder is made where it is missing. Raises UserError where it cannot be written.
    """
    with replacing(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, which replaces `path` at the end, or not at all after an error.

    The folder is made where it is missing. Raises UserError where it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not the name itself: it may be as long as names can be.
        handle, name = tempfile.mkstemp(prefix=".hrpose-", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes files for their owner alone; a result is an ordinary file.
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: Exception, remedy: str = "choose another folder") -> UserError:
    """The error to raise where `path` cannot be written."""
    reason = getattr(error, "strerror", None) or error
    return UserError(f"{path}: cannot be written ({reason}); {remedy}", code="write-failed")


@contextmanager
def locked(folder: Path, wait: float = 0) -> Iterator[None]:
    """Be the only process that writes into `folder`. The lock ends with the process.

    Raises UserError where another process holds the lock for `wait` seconds, or nothing can be
    written. On disks without locks there is none.
    """
    from filelock import FileLock, Timeout  # takes a while to import

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=wait)
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{folder}: another process writes here; wait for it, or choose another --out",
            code="folder-locked",
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise write_error(folder, error, "choose another --out") from error
    try:
        yield
    finally:
        with suppress(OSError):  # while it is held: who opened it meanwhile finds it gone
            Path(lock.lock_file).unlink()
        lock.release()


# The longest name of a file that common file systems hold, in bytes.
MAX_NAME = 255
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPELLED = re.compile(r"\\(?:\\|x([89a-f][0-9a-f])|u(d[89a-f][0-9a-f]{2}))")


def name_to_text(name: str) -> str:
    r"""The name of a file as text that UTF-8 can hold; `text_to_name` is the inverse.

    A byte that is not UTF-8 is spelled as in Python, `caf\xe9.jpg`, and backslashes of such a name
    are doubled. All other names stay as they are, unless they look like such a spelling.
    """
    if not _SURROGATE.search(name) and text_to_name(name) == name:
        return name
    return _SURROGATE.sub(lambda found: _spelled(found.group()), name.replace("\\", "\\\\"))


def text_to_name(text: str) -> str:
    """The name that `name_to_text` spelled as `text`."""

    def meant(found: re.Match[str]) -> str:
        byte, surrogate = found.groups()
        if byte is not None:
            return chr(0xDC00 + int(byte, 16))
        return "\\" if surrogate is None else chr(int(surrogate, 16))

    return _SPELLED.sub(meant, text)


def printable(text: str) -> str:
    r"""The text on one line: bytes that are not UTF-8, and what controls terminals, as `\xe9`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _spelled(c) for c in text)


def _spelled(character: str) -> str:
    code = ord(character)
    # Python's stand-in for a byte that is not UTF-8 is that byte above 0xDC00.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(character)[1:-1]


def fitted(name: str, most: int = MAX_NAME) -> str:
    """A name of at most `most` bytes: a longer one is cut, and ends in a hash and its suffix."""
    if len(_encoded(name)) <= most:
        return name
    suffix = PurePath(name).suffix
    suffix = suffix if suffix.isascii() and len(suffix) < 10 else ""
    end = f"~{hashlib.sha256(_encoded(name)).hexdigest()[:8]}{suffix}"
    start = name[: most - len(end)]
    while len(_encoded(start)) + len(end) > most:
        start = start[:-1]
    return start + end


def _encoded(name: str) -> bytes:
    # Only on Windows do names have surrogates that stand for no byte.
    return name.encode(errors="surrogatepass" if sys.platform == "win32" else "surrogateescape")


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """A key that sorts names with their numbers in order: frame2.jpg before frame10.jpg."""
    parts = re.split(r"([0-9]+)", name)
    return (*((0, int(part)) if i % 2 else (1, part) for i, part in enumerate(parts)), (1, name))


def prefetch(
    work: Callable[[T], R], items: Iterable[T], threads: int = 2, waiting: int = 4
) -> Iterator[R]:
    """The results of `work` for each item, in order, computed by threads before they are requested.

    At most `waiting` results wait, so that memory is bounded. An error of `work` is raised in place
    of the item's result.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="prefetch")
    begun: deque[Future[R]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) >= waiting:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        # Also where the caller stops early.
        pool.shutdown(cancel_futures=True)


def read_texts(path: Path) -> dict[str, str]:
    """The texts in an .onnx or .safetensors file, by their keys.

    Raises UserError where it is missing or of another form, and where the texts are not UTF-8.
    """
    texts = _texts_of_onnx if path.suffix == ".onnx" else _texts_of_safetensors
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return texts(content)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; check the name", code="file-unreadable") from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error})", code="file-unreadable"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: damaged (its metadata are not UTF-8: {error}); copy it here again",
            code="weights-damaged",
        ) from error
    except _DAMAGE as error:
        raise _unreadable(path, error) from error


def with_texts(path: Path, content: bytes, texts: Mapping[str, str | None]) -> bytes:
    """The `content` of a model file with these texts; None removes a text.

    The name of `path` says which form it has. All other texts and the tensors stay as they are.
    Raises UserError where it is of another form.
    """
    replaced = _replaced_in_onnx if path.suffix == ".onnx" else _replaced_in_safetensors
    try:
        return replaced(content, texts)
    except _DAMAGE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    kind = "an ONNX" if path.suffix == ".onnx" else "a safetensors"
    return UserError(f"{path}: expected {kind} file, found: {error}", code="weights-damaged")


def _header(content: Bytes) -> tuple[dict[str, Any], int]:
    """A safetensors file's header, and where the tensors begin.

    The file is the header's length in eight bytes, the header as JSON, and the tensors.
    """
    length = int.from_bytes(content[:8], "little")
    if not 0 < length <= min(_MAX_HEADER, len(content) - 8):
        raise ValueError("its header is longer than the file")
    header = json.loads(content[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError("its header is not an object")
    return header, 8 + length


def _texts_of_safetensors(content: Bytes) -> dict[str, str]:
    texts = _header(content)[0].get("__metadata__", {})
    return {str(key): str(value) for key, value in texts.items()}


def _replaced_in_safetensors(content: bytes, texts: Mapping[str, str | None]) -> bytes:
    header, tensors = _header(content)
    merged = {**_texts_of_safetensors(content), **texts}
    header["__metadata__"] = {key: text for key, text in merged.items() if text is not None}
    packed = json.dumps(header).encode()
    packed += b" " * (-len(packed) % 8)  # tensors begin at a multiple of eight
    return len(packed).to_bytes(8, "little") + packed + content[tensors:]


def _texts_of_onnx(content: Bytes) -> dict[str, str]:
    return {
        key: value
        for number, _, start, end in protobuf_fields(content, 0, len(content))
        if number == _METADATA_PROPS
        for key, value in [_entry(content, start, end)]
    }


def _replaced_in_onnx(content: bytes, texts: Mapping[str, str | None]) -> bytes:
    # A message is its fields one after the other, in any order.
    parts = [
        content[first:end]
        for number, first, start, end in protobuf_fields(content, 0, len(content))
        if number != _METADATA_PROPS or _entry(content, start, end)[0] not in texts
    ]
    for key, text in texts.items():
        if text is not None:
            entry = protobuf_field(_ENTRY_KEY, key.encode()) + protobuf_field(
                _ENTRY_VALUE, text.encode()
            )
            parts.append(protobuf_field(_METADATA_PROPS, entry))
    return b"".join(parts)


def _entry(content: Bytes, start: int, end: int) -> tuple[str, str]:
    """A key and its text."""
    if end - start > _MAX_TEXT:
        raise ValueError(f"a text of {end - start} bytes")
    parts = {
        number: content[first:last].decode()
        for number, _, first, last in protobuf_fields(content, start, end)
    }
    return parts.get(_ENTRY_KEY, ""), parts.get(_ENTRY_VALUE, "")


def protobuf_fields(content: Bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of the protobuf message from byte `at` to `end`.

    Of each its number, where it begins, and where its content begins and ends.
    """
    while at < end:
        first = at
        tag, at = _varint(content, at)
        start = at
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(content, at)
        elif kind == _WITH_LENGTH:
            length, start = _varint(content, at)
            at = start + length
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if at > end:
            raise ValueError("a field that ends after the file")
        yield tag >> 3, first, start, at


def _varint(content: Bytes, at: int) -> tuple[int, int]:
    """A number in base 128, the lowest digits first, and where it ends."""
    number = shift = 0
    while shift < 64:
        byte = content[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
    raise ValueError("a number of more than 64 bits")


def protobuf_field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message with this content."""
    return _digits(number << 3 | _WITH_LENGTH) + _digits(len(content)) + content


def _digits(number: int) -> bytes:
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])
