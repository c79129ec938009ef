"""Sources of images: a folder, a zip file, a list, a Parquet table or an address.

Addresses such as s3://bucket/a.jpg are read through fsspec, with a bound in bytes and with retries.
"""

import io
import os
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, Protocol
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from hrpose.data.images import ImageFiles, stays_inside
from hrpose.errors import UserError, missing
from hrpose.file_kinds import CLIP_SUFFIXES, SUFFIXES, ImageError
from hrpose.image import MAX_BYTES
from hrpose.io import natural_key, read_file, without_secrets

LISTS = (".txt", ".lst", ".parquet")
# The column of a Parquet list that names the images: the first of these that is there.
COLUMNS = ("file", "path", "url", "file_name")
# In bytes.
_LONGEST_NAME = 16_384

# The protocols that fsspec may open, and the package that each needs. It knows many more: some run
# code that they fetch, and none of them holds images.
PACKAGES = {
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
}
# Seconds to wait before a failed read is retried. A file that is not there is not retried.
PAUSES = (0.5, 3.0)
# Seconds in which a web server has to send a whole image.
TIMEOUT = 60
# What it says of Motion JPEG, and of a playlist of HLS.
CLIP_TYPES = (
    "multipart/x-mixed-replace",
    "application/vnd.apple.mpegurl",
    "application/x-mpegurl",
    "audio/mpegurl",
)
# Seconds in which it has to say what it has.
ASK_TIMEOUT = 10


class Source(Protocol):
    """Images by name. Holds no open file, so that every worker can open its own."""

    def names(self) -> Iterator[str]:
        """All images, in a stable order, as text that UTF-8 can hold.

        Raises UserError where they cannot be listed.
        """
        ...

    def content(self, name: str) -> bytes:
        """The bytes of an image's file, at most one more than `hrpose.image.MAX_BYTES`.

        Thread-safe. Raises UserError where it cannot be read.
        """
        ...


def open_source(text: str) -> Source:
    """The images at `text`, which is as `absolute` returns it.

    A folder or a zip file with all that is below, a list (.txt, .lst: one image on each line;
    .parquet: in a column `file`, `path`, `url` or `file_name`), or an address such as
    s3://bucket/folder. Raises UserError for anything else.
    """
    if text.lower().endswith(LISTS) and not Path(text).is_dir():
        return _List(text)
    if is_address(text):
        return _Address(text)
    if Path(text).suffix.lower() in SUFFIXES and Path(text).is_file():
        raise UserError(
            f"{text}: expected a folder, a zip file, a list or an address of images, found one "
            "image; use `hrpose predict`",
            code="images-missing",
        )
    return _Local(text)


def absolute(text: str) -> str:
    """The same source for a process that was started in another folder."""
    return text if is_address(text) else os.path.abspath(text)


class _Local:
    """The images in a folder or a zip file, by their suffixes."""

    def __init__(self, text: str) -> None:
        self._files = ImageFiles(text)

    def names(self) -> Iterator[str]:
        return (name for name in self._files.names() if name.lower().endswith(SUFFIXES))

    def content(self, name: str) -> bytes:
        return self._files.content(name)


class _Address:
    """The images below an address, by their suffixes."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        check_address(address)

    def names(self) -> Iterator[str]:
        return (name for name in list_address(self._address) if name.lower().endswith(SUFFIXES))

    def content(self, name: str) -> bytes:
        return read_address(f"{self._address}/{name}")


class _List:
    """The images that a file names: addresses, and paths relative to the list's folder.

    The list is the user's own input, as the command line is: its names may lead anywhere.
    """

    def __init__(self, text: str) -> None:
        self._text, self._label = text, without_query(text)
        self._folder = text.rpartition("/")[0] if is_address(text) else Path(text).parent

    def names(self) -> Iterator[str]:
        return self._column() if self._text.lower().endswith(".parquet") else self._lines()

    def content(self, name: str) -> bytes:
        if is_address(name):
            return read_address(name)
        if isinstance(self._folder, str):
            return read_address(f"{self._folder}/{name}")
        return read_file(self._folder / name, MAX_BYTES)

    def _lines(self) -> Iterator[str]:
        with _opened(self._text) as file:
            # Files of fsspec read a line whole, however long it is.
            buffered = io.BufferedReader(file)  # type: ignore[type-var]
            lines = iter(lambda: buffered.readline(_LONGEST_NAME + 3), b"")
            for number, line in enumerate(lines, start=1):
                content = line.rstrip(b"\r\n")
                if len(content) > _LONGEST_NAME or b"\0" in content:
                    raise self._error(
                        f"line {number}: expected the name of an image, found {content[:20]!r}...; "
                        "a list is text with one name on each line"
                    )
                try:
                    name = content.decode("utf-8")
                except UnicodeDecodeError:
                    raise self._error(f"line {number}: expected UTF-8, found other bytes") from None
                if name:
                    yield name

    def _column(self) -> Iterator[str]:
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        with _opened(self._text) as file:
            try:
                table = pq.ParquetFile(file, page_checksum_verification=True)
                column = next((name for name in COLUMNS if name in table.schema_arrow.names), None)
                if column is None:
                    raise self._error(
                        f"expected a column {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}, found "
                        f"{', '.join(table.schema_arrow.names)}"
                    )
                for batch in table.iter_batches(10_000, columns=[column]):
                    for name in batch.column(0).to_pylist():
                        if not isinstance(name, str) or not name:
                            raise self._error(
                                f"expected names of images in the column {column}, found {name!r}"
                            )
                        yield name
            except UserError:
                raise
            except (OSError, ValueError) as error:  # pyarrow's own are ValueErrors
                raise self._error(f"expected a Parquet file ({error})") from error

    def _error(self, message: str) -> UserError:
        return UserError(f"{self._label}: {message}", code="list-invalid")


def is_address(text: str) -> bool:
    """Whether a source or a name is opened through fsspec, not as a file."""
    return "://" in text


def without_query(text: str) -> str:
    """A source as messages show it: what follows an address's question mark may be a key."""
    return text.partition("?")[0] if is_address(text) else text


def check_address(address: str) -> None:
    """Raise UserError for an address that cannot be opened here."""
    _file_system(address)


def sources_at(address: str) -> Iterator[tuple[str, Literal["image", "clip"], str]]:
    """The stream, clip or images at an address: addresses, what each is, and names of images.

    Raises UserError where there are none.
    """
    try:
        urlsplit(address)
    except ValueError as error:  # of brackets that do not fit
        raise UserError(
            f"{without_secrets(address)}: expected an address ({error}); check it",
            code="address-invalid",
        ) from error
    scheme, name = address.partition("://")[0], PurePosixPath(without_query(address)).name
    suffix = PurePosixPath(name).suffix.lower()
    if scheme in ("rtsp", "rtsps"):
        yield address, "clip", ""
        return
    if scheme in ("http", "https") and suffix not in SUFFIXES:
        kind = "video/" if suffix in (*CLIP_SUFFIXES, ".m3u8") else content_type(address)
        if kind in CLIP_TYPES or kind.startswith("video/"):
            yield address, "clip", ""
            return
        if kind.startswith("image/"):
            yield address, "image", name
            return
        if not kind:
            raise UserError(
                f"{without_secrets(address)}: gives no answer; check the address, the network, and "
                "user and password",
                code="download-failed",
            )
    check_address(address)
    if suffix in SUFFIXES:
        yield address, "image", name
        return
    names = [name for name in list_address(address) if name.lower().endswith(SUFFIXES)]
    if not names:
        raise UserError(
            f"{without_query(address)}: expected images ({', '.join(SUFFIXES)}), found none",
            code="images-missing",
        )
    for name in sorted(names, key=natural_key):
        inside = name if stays_inside(name) else PurePosixPath(name).name
        yield f"{address.rstrip('/')}/{name}", "image", inside


def content_type(address: str) -> str:
    """What a web server says is at an address, such as "image/jpeg"; "" where it gives no answer.

    Nothing but the answer's head is read.
    """
    parts = urlsplit(address)
    headers = {"User-Agent": "hrpose"}
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {b64encode(secret.encode()).decode()}"
    host = parts.netloc.rpartition("@")[2]
    request = Request(parts._replace(netloc=host, fragment="").geturl(), headers=headers)
    try:
        with urlopen(request, timeout=ASK_TIMEOUT) as response:
            return str(response.headers.get_content_type())
    except (OSError, ValueError, HTTPException):  # whoever reads it will report what is wrong
        return ""


def read_address(address: str) -> bytes:
    """The bytes of a file, at most one more than `MAX_BYTES`. Raises UserError if unreadable."""
    files, path = _file_system(address)
    label = without_query(address)
    pauses = iter(PAUSES)
    while True:
        try:
            return _bounded(files, path)
        except FileNotFoundError:
            raise ImageError(
                f"{label}: no such file; check the name", code="file-unreadable"
            ) from None
        except Exception as error:  # every store has exceptions of its own
            pause = next(pauses, None)
            if pause is None or isinstance(error, PermissionError):
                raise ImageError(
                    f"{label}: cannot be read ({_reason(error)}); check the store and your rights",
                    code="download-failed",
                ) from None
            time.sleep(pause)


def list_address(address: str) -> Iterator[str]:
    """All files below `address`, folder by folder; each folder's names are in memory at once.

    Raises UserError where they cannot be listed.
    """
    files, path = _file_system(address)
    label, root = without_query(address), path.rstrip("/") + "/"
    try:
        if not files.exists(path) and not files.exists(root):
            raise UserError(f"{label}: no such folder; check the address", code="file-unreadable")
        for _, _, found in files.walk(root, detail=True, on_error="raise"):
            names = (entry["name"] for entry in found.values())
            yield from sorted(name[len(root) :] for name in names if name.startswith(root))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{label}: cannot be listed ({_reason(error)}); check the address and your rights",
            code="download-failed",
        ) from error


@contextmanager
def _opened(text: str) -> Iterator[IO[bytes]]:
    """A file, local or at an address, open for reading.

    Raises UserError where it cannot be opened, and where the body fails at reading it.
    """
    label = without_query(text)
    try:
        with ExitStack() as stack:
            if is_address(text):
                files, path = _file_system(text)
                yield stack.enter_context(files.open(path, "rb"))
            else:
                yield stack.enter_context(Path(text).open("rb"))
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{label}: no such file; check the name", code="file-unreadable") from None
    except Exception as error:  # every store has exceptions of its own
        raise UserError(
            f"{label}: cannot be read ({_reason(error)}); check the file", code="file-unreadable"
        ) from error


def _bounded(files: Any, path: str) -> bytes:
    if not path.startswith(("http://", "https://")):
        found: bytes = files.cat_file(path, start=0, end=MAX_BYTES + 1)
        return found
    # Not all web servers know ranges. Read as a stream, which stops at the bound; it needs no
    # size, and `size` only keeps fsspec from asking for it.
    parts, length = [], 0
    with files.open(path, "rb", block_size=0, size=1) as file:
        while length <= MAX_BYTES and (part := file.read(MAX_BYTES + 1 - length)):
            parts.append(part)
            length += len(part)
    return b"".join(parts)


def _file_system(address: str) -> tuple[Any, str]:
    """Fsspec's file system for an address, and the path on it. Both are quick to make again."""
    label = without_query(address)
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise ImageError(
            f"{label}: expected an address ({error})", code="address-invalid"
        ) from None
    if parts.scheme not in PACKAGES or "::" in address:
        raise ImageError(
            f"{label}: expected an address that begins with {', '.join(PACKAGES)}://, "
            "or a file without one",
            code="address-invalid",
        )
    if "@" in parts.netloc:
        raise ImageError(
            f"{parts.scheme}://...@{parts.hostname}: expected no password in an address, for it "
            "would stand in the results; give it in the store's environment variables",
            code="address-invalid",
        )
    options: dict[str, Any] = {"use_listings_cache": False}
    try:
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]

        if parts.scheme in ("http", "https"):
            from aiohttp import ClientTimeout

            options["client_kwargs"] = {"timeout": ClientTimeout(total=TIMEOUT)}
        files, path = url_to_fs(address, **options)
    except ImportError as error:
        package = "hrpose[archives]" if error.name == "fsspec" else PACKAGES[parts.scheme]
        raise missing(label, error, package) from error
    return files, path


def _reason(error: Exception) -> str:
    """One line. The messages of web errors hold whole addresses, with keys in them."""
    status = getattr(error, "status", None)
    if status is not None:
        return f"status {status}"
    message = getattr(error, "strerror", None) or str(error)
    if not message or "?" in message:
        return type(error).__name__
    return " ".join(message.split())
