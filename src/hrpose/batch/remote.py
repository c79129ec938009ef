"""Files at addresses such as s3://bucket/a.jpg, through fsspec: bounded, and tried again."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from hrpose.errors import UserError, missing
from hrpose.image import MAX_BYTES, ImageError

# What fsspec may open, and the package that each needs. It knows many more: some run code that
# they fetch, and none of them holds images.
PACKAGES = {
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
}
# Seconds to wait before a read is tried again. Networks fail; files that are not there do not come.
PAUSES = (0.5, 3.0)
# Seconds in which a web server has to give a full image.
PATIENCE = 60


def is_address(text: str) -> bool:
    """Whether a place or a name is to be opened by fsspec, not as a file."""
    return "://" in text


def shown(place: str) -> str:
    """What messages call a place: without what stands behind an address's question mark, which may
    be a key.
    """
    return place.partition("?")[0] if is_address(place) else place


def check(address: str) -> None:
    """Raise UserError for an address that cannot be opened here."""
    _opened(address)


def content(address: str) -> bytes:
    """The bytes of a file, at most one more than `MAX_BYTES`.

    Raises UserError where it cannot be read.
    """
    files, path = _opened(address)
    label = shown(address)
    pauses = iter(PAUSES)
    while True:
        try:
            return _content(files, path)
        except FileNotFoundError:
            raise ImageError(f"{label}: no such file; check the name") from None
        except Exception as error:  # every store has exceptions of its own
            pause = next(pauses, None)
            if pause is None or isinstance(error, PermissionError):
                raise ImageError(
                    f"{label}: cannot be read ({_reason(error)}); check the store and your rights"
                ) from None
            time.sleep(pause)


def _content(files: Any, path: str) -> bytes:
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


def names_below(address: str) -> Iterator[str]:
    """All files below `address`, folder by folder; each folder's names are in memory at once."""
    files, path = _opened(address)
    root = path.rstrip("/") + "/"
    try:
        if not files.exists(path) and not files.exists(root):
            raise UserError(f"{shown(address)}: no such folder; check the address")
        for _, _, found in files.walk(root, detail=True, on_error="raise"):
            names = (entry["name"] for entry in found.values())
            yield from sorted(name[len(root) :] for name in names if name.startswith(root))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{shown(address)}: cannot be listed ({_reason(error)}); check the address and your "
            "rights"
        ) from error


@contextmanager
def opened(text: str) -> Iterator[IO[bytes]]:
    """A file, local or at an address, open for reading.

    Raises UserError where it cannot be opened, or read by what is done with it.
    """
    label = shown(text)
    try:
        with ExitStack() as stack:
            if is_address(text):
                files, path = _opened(text)
                yield stack.enter_context(files.open(path, "rb"))
            else:
                yield stack.enter_context(Path(text).open("rb"))
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{label}: no such file; check the name") from None
    except Exception as error:  # every store has exceptions of its own
        raise UserError(f"{label}: cannot be read ({_reason(error)}); check the file") from error


def _opened(address: str) -> tuple[Any, str]:
    """Fsspec's file system for an address, and the path on it. Both are quick to make again."""
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise ImageError(f"{shown(address)}: expected an address ({error})") from None
    label = shown(address)
    if parts.scheme not in PACKAGES or "::" in address:
        raise ImageError(
            f"{label}: expected an address that begins with {', '.join(PACKAGES)}://, "
            "or a file without one"
        )
    if "@" in parts.netloc:
        raise ImageError(
            f"{parts.scheme}://...@{parts.hostname}: expected no password in an address, for it "
            "would stand in the results; give it in the store's environment variables"
        )
    options: dict[str, Any] = {"use_listings_cache": False}
    try:
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]

        if parts.scheme in ("http", "https"):
            from aiohttp import ClientTimeout

            options["client_kwargs"] = {"timeout": ClientTimeout(total=PATIENCE)}
        files, path = url_to_fs(address, **options)
    except ImportError as error:
        package = "hrpose[archives]" if error.name == "fsspec" else PACKAGES[parts.scheme]
        raise missing(label, error, package) from error
    return files, path


def _reason(error: Exception) -> str:
    """One line. The texts of web errors hold whole addresses, with keys in them."""
    status = getattr(error, "status", None)
    if status is not None:
        return f"status {status}"
    said = getattr(error, "strerror", None) or str(error)
    return " ".join(said.split()) if said and "?" not in said else type(error).__name__
