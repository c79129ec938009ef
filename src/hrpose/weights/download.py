"""Fetching a file over HTTP: resumed where it was cut, bounded, verified before it gets its name.

What has come so far is kept in a `.part` file beside the target and asked for no second time. Only
a file whose sha256 is the expected one is given the target's name; any other is deleted.
"""

import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from hrpose._version import __version__
from hrpose.errors import UserError
from hrpose.io import MAX_MODEL_BYTES
from hrpose.weights.registry import Released, published_file, usable_file

_BLOCK = 1 << 18
_TRIES = 3

# Called with the bytes that are there and, where the server says it, those of the whole file.
Progress = Callable[[int, int | None], None]


def download(
    address: str,
    target: Path,
    sha256: str,
    progress: Progress | None = None,
    *,
    largest: int = MAX_MODEL_BYTES,
    timeout: float = 30,
) -> None:
    """Fetch `address` to `target`.

    `sha256` is the whole hash in lower case or its first digits; `largest` bounds the size in
    bytes; `timeout` in seconds is for each answer of the server. A connection that breaks is taken
    up again a few times; after that the next call goes on from the same byte. Raises UserError
    where the file cannot be had, is too large, or is another one.
    """
    if urlsplit(address).scheme not in ("http", "https"):
        raise UserError(f"{address}: expected an address that starts with https:// or http://")
    part = target.with_name(f"{target.name}.part")
    watch = progress or _quiet
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        resumed = part.is_file()
        _fetch(address, part, watch, largest, timeout)
        if resumed and not file_sha256(part).startswith(sha256):
            part.unlink()  # What was there may have been another file's beginning.
            _fetch(address, part, watch, largest, timeout)
        adopt(part, target, sha256, address)
    except OSError as error:
        raise UserError(
            f"{target}: cannot be written ({error.strerror or error}); set HRPOSE_HOME to a folder "
            "with space"
        ) from error


def adopt(part: Path, target: Path, sha256: str, origin: object) -> None:
    """Give `part` the name `target` where it is the expected file; delete it where it is not."""
    found = file_sha256(part)
    if not found.startswith(sha256):
        part.unlink()
        raise UserError(
            f"{origin}: is not the published file: expected sha256 {sha256}, found "
            f"{found[: max(len(sha256), 8)]}; nothing was kept; try again later, or take the file "
            "from another place with --from"
        )
    os.replace(part, target)


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Cut(Exception):
    """The network failed; what has come so far is good."""


def _fetch(address: str, part: Path, progress: Progress, largest: int, timeout: float) -> None:
    """Bring `part` to its whole length, over several connections where one breaks."""
    for attempt in range(1, _TRIES + 1):
        try:
            return _transfer(address, part, progress, largest, timeout)
        except urllib.error.HTTPError as error:
            error.close()
            raise UserError(_unreachable(address, part, error)) from error
        except _Cut as error:
            if attempt == _TRIES:
                raise UserError(_unreachable(address, part, error)) from error


def _transfer(address: str, part: Path, progress: Progress, largest: int, timeout: float) -> None:
    there = part.stat().st_size if part.is_file() else 0
    response = _open(address, there, timeout)
    if response is None:
        return
    with response:
        if response.status != 206:
            there = 0
        length = response.headers.get("Content-Length", "")
        total = there + int(length) if length.isdecimal() else None
        _bound(address, part, total or 0, largest)
        with part.open("ab" if there else "wb") as file:
            progress(there, total)
            for block in _blocks(response):
                there += len(block)
                _bound(address, part, there, largest)
                file.write(block)
                progress(there, total)
    if total is not None and there < total:
        raise _Cut("the connection was cut")


def _open(address: str, start: int, timeout: float) -> http.client.HTTPResponse | None:
    """The answer, from byte `start` on where the server can; None where nothing comes after it."""
    headers = {"User-Agent": f"hrpose/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(address, headers=headers)
    try:
        response: http.client.HTTPResponse = _opener().open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            error.close()
            return None
        raise
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(getattr(error, "reason", None) or error or type(error).__name__) from error
    content = response.headers.get("Content-Range", "")
    if response.status == 206 and not content.startswith(f"bytes {start}-"):
        response.close()
        raise _Cut(f"asked for what follows byte {start}, was sent '{content}'")
    return response


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while block := response.read(_BLOCK):
            yield block
    except (OSError, http.client.HTTPException) as error:
        raise _Cut("the connection was cut") from error


def _bound(address: str, part: Path, size: int, largest: int) -> None:
    if size > largest:
        part.unlink(missing_ok=True)
        raise UserError(
            f"{address}: expected at most {largest / 1e6:.0f} MB, found more; nothing was kept"
        )


def _unreachable(address: str, part: Path, error: Exception) -> str:
    kept = part.stat().st_size if part.is_file() else 0
    again = (
        f"{kept / 1e6:.1f} MB are kept and the same command goes on from there"
        if kept
        else "try again when the network is there"
    )
    return (
        f"{address}: cannot be fetched ({' '.join(str(error).split())}); {again}, or fetch the "
        "file elsewhere and give it with --from FILE"
    )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to another address, but never from https to http."""

    def redirect_request(  # type: ignore[no-untyped-def]
        self, req: urllib.request.Request, fp, code, msg, headers, newurl: str
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise urllib.error.URLError(f"led away from https to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """For http and https alone: urllib's own would read files and FTP as well."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        _Redirects,
    ):
        opener.add_handler(handler())
    return opener


def _quiet(_there: int, _total: int | None) -> None:
    """Progress that nobody watches."""


def fetch(row: Released, origin: str | None = None, progress: Progress | None = None) -> Path:
    """Bring the published file into the cache and make it usable; returns the usable file.

    What is there already is not fetched again. `origin` is another address, or a file that was
    fetched elsewhere; its hash must be the published one all the same. Without it the table's
    addresses are tried in turn. Making a pose network usable needs PyTorch.
    """
    target = published_file(row)
    if not target.is_file():
        if origin is None:
            _fetch_anywhere(row, target, progress)
        elif "://" in origin:
            download(origin, target, row.sha256, progress)
        else:
            _copy(Path(origin), target, row.sha256)
    usable = usable_file(row)
    if not usable.is_file():
        _convert(row, target, usable)
    return usable


def is_sound(row: Released) -> bool | None:
    """Whether the published file in the cache has its hash; None where there is no file."""
    file = published_file(row)
    return file_sha256(file).startswith(row.sha256) if file.is_file() else None


def _fetch_anywhere(row: Released, target: Path, progress: Progress | None) -> None:
    faults = []
    for address in row.addresses:
        try:
            return download(address, target, row.sha256, progress)
        except UserError as error:
            faults.append(error)
    raise UserError("; ".join(str(fault) for fault in faults))


def _copy(origin: Path, target: Path, sha256: str) -> None:
    part = target.with_name(f"{target.name}.copy")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(origin, part)
        adopt(part, target, sha256, origin)
    except OSError as error:
        raise UserError(
            f"{error.filename or origin}: cannot be copied ({error.strerror or error})"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _convert(row: Released, published: Path, usable: Path) -> None:
    """Read the publishers' checkpoint without running code from it; write it with its metadata."""
    try:
        from hrpose.models import convert
    except ModuleNotFoundError as error:
        raise UserError(
            f"{row.name}: is fetched, as {published}; to make it ready to run, "
            "pip install 'hrpose[train]' and give the same command again"
        ) from error
    convert.write_hrpose(usable, convert.read(published), row.metadata)
