"""Downloads of released weights: resumed, bounded in size, and verified by sha256.

A download is a `.part` file beside the target until it is complete; an interrupted one is resumed
from there. Only a file with the expected sha256 gets the target's name; any other is deleted. Of
several processes that want one file, one downloads it and the others wait.
"""

import hashlib
import http.client
import logging
import os
import string
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from hrpose._version import __version__
from hrpose.errors import UserError, missing
from hrpose.io import MAX_MODEL_BYTES, replacing, write_error
from hrpose.metadata import check_weights
from hrpose.weights.bundle import address_in, opened
from hrpose.weights.registry import Released, file_sha256, published_file, usable_file

if TYPE_CHECKING:
    from filelock import BaseFileLock

_BLOCK = 1 << 18
_TRIES = 3

# Called with the number of bytes that are here and, where the server states it, that of the file.
Progress = Callable[[int, int | None], None]


def download(
    address: str,
    target: Path,
    sha256: str,
    progress: Progress | None = None,
    *,
    max_bytes: int = MAX_MODEL_BYTES,
    timeout: float = 30,
    patient: bool = True,
) -> None:
    """Download `address` to `target`.

    `sha256` is the hash in lower case or its first digits; `max_bytes` bounds the size; `timeout`
    in seconds is for each response of the server. A broken connection is resumed a few times, and a
    `patient` call does so where nothing came at all; after that the next call resumes it. Raises
    UserError where the file cannot be downloaded, is too large, or has another hash.
    """
    _check_address(address)
    report = progress or _quiet
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _part_of(target) as part:
            if target.is_file() and file_sha256(target).startswith(sha256):
                return  # Another process was faster.
            resumed = _size(part) > 0
            _fetch(address, part, report, max_bytes, timeout, patient)
            if resumed and not file_sha256(part).startswith(sha256):
                part.unlink()  # It may have been the beginning of another file.
                _fetch(address, part, report, max_bytes, timeout, patient)
            if not (found := file_sha256(part)).startswith(sha256):
                page = " (a web page)" if _is_page(part) else ""
                part.unlink()
                remedy = "try again later, or give a copy with --from"
                raise _differs(f"{address}{page}", sha256, found, remedy)
            os.replace(part, target)
    except OSError as error:
        raise write_error(target, error, "set HRPOSE_HOME to a folder with space") from error


@contextmanager
def _part_of(target: Path) -> Iterator[Path]:
    """The file to download into, which is this process's alone.

    Others wait until it is done. Where the disk has no locks, each process has a file of its own,
    which is not resumed.
    """
    lock = _lock(target)
    if lock is None:
        handle, name = tempfile.mkstemp(".part", ".hrpose-", target.parent)
        os.close(handle)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)
    else:
        with lock:
            yield target.with_name(f"{target.name}.part")


def _lock(target: Path) -> "BaseFileLock | None":
    """A lock that is held, None where the disk has none. Its file stays: others have it open."""
    from filelock import FileLock, Timeout  # takes a while to import

    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logging.getLogger("hrpose").warning("%s: another process downloads it", target.name)
            lock.acquire(poll_interval=0.1)
    except (OSError, NotImplementedError):
        return None
    return lock


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        scheme, host, user = parts.scheme, parts.hostname, parts.username
    except ValueError:  # of brackets that do not fit
        scheme, host, user = "", None, None
    if scheme not in ("http", "https") or not host:
        raise UserError(
            f"{address}: expected an address that starts with https:// or http:// and has a host",
            code="address-invalid",
        )
    if user is not None:
        raise UserError(
            f"{host}: expected an address without a name and password, found them before the host; "
            "download the file elsewhere and give it with --from FILE",
            code="address-invalid",
        )


def _is_page(part: Path) -> bool:
    """Whether a web page came, such as that of a network which wants a login."""
    with part.open("rb") as file:
        start = file.read(1000).lstrip().lower()
    return start.startswith((b"<!doctype html", b"<html"))


def _differs(origin: object, expected: str, found: str, remedy: str) -> UserError:
    return UserError(
        f"{origin}: is not the published file: expected sha256 {expected}, found "
        f"{found[: max(len(expected), 8)]}; it was not kept; {remedy}",
        code="hash-differs",
    )


class _Interrupted(Exception):
    """The connection broke; what was downloaded so far is good."""


def _fetch(
    address: str, part: Path, progress: Progress, max_bytes: int, timeout: float, patient: bool
) -> None:
    """Download until `part` is complete, over several connections where one breaks."""
    for attempt in range(1, _TRIES + 1):
        before = _size(part)
        try:
            return _transfer(address, part, progress, max_bytes, timeout)
        except urllib.error.HTTPError as error:
            error.close()
            raise _unreachable(address, part, error) from error
        except _Interrupted as error:
            if attempt == _TRIES or not (patient or _size(part) > before):
                raise _unreachable(address, part, error) from error


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _transfer(address: str, part: Path, progress: Progress, max_bytes: int, timeout: float) -> None:
    there = _size(part)
    response = _open(address, there, timeout)
    if response is None:
        return
    with response:
        if response.status != 206:
            there = 0
        length = response.headers.get("Content-Length", "")
        total = there + int(length) if length.isdecimal() else None
        _bound(address, part, total or 0, max_bytes)
        with part.open("ab" if there else "wb") as file:
            progress(there, total)
            for block in _blocks(response):
                there += len(block)
                _bound(address, part, there, max_bytes)
                file.write(block)
                progress(there, total)
    if total is not None and there < total:
        raise _Interrupted("the connection was interrupted")


def _open(address: str, start: int, timeout: float) -> http.client.HTTPResponse | None:
    """The response, from byte `start` if the server can; None where nothing follows it."""
    headers = {"User-Agent": f"hrpose/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(quote(address, safe=string.punctuation), headers=headers)
    try:
        response: http.client.HTTPResponse = _opener().open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            error.close()
            return None
        raise
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(
            getattr(error, "reason", None) or error or type(error).__name__
        ) from error
    content = response.headers.get("Content-Range", "")
    if response.status == 206 and not content.startswith(f"bytes {start}-"):
        response.close()
        raise _Interrupted(f"requested the bytes from {start} on, received '{content}'")
    return response


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while block := response.read(_BLOCK):
            yield block
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted("the connection was interrupted") from error


def _bound(address: str, part: Path, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        part.unlink(missing_ok=True)
        raise UserError(
            f"{address}: expected at most {max_bytes / 1e6:.0f} MB, found more; it was deleted",
            code="file-too-large",
        )


def _unreachable(address: str, part: Path, error: Exception) -> UserError:
    size = _size(part)
    again = (
        f"{size / 1e6:.1f} MB are here, and the same command resumes the download"
        if size
        else "check the address"
        if isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500
        else "check the connection and try again"
    )
    return UserError(
        f"{address}: cannot be downloaded ({' '.join(str(error).split())}); {again}, or download "
        "the file elsewhere and give it with --from FILE",
        code="download-failed",
    )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to http."""

    def redirect_request(  # type: ignore[no-untyped-def]
        self, req: urllib.request.Request, fp, code, msg, headers, newurl: str
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise urllib.error.URLError(f"redirected from https to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """For http and https only: urllib's default would read files and FTP as well."""
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
    """Progress that is not shown."""


def fetch(
    row: Released,
    origin: str | None = None,
    progress: Progress | None = None,
    *,
    several: bool = False,
) -> Path:
    """Download the published file and make it usable; returns the usable file.

    Arguments are those of `published`. Pose models are written as ONNX, which needs
    `hrpose[weights]`; without it nothing is downloaded.
    """
    check_package(row)
    target = published(row, origin, progress, several=several)
    usable = usable_file(row)
    if not _is_whole(usable):
        from hrpose.models import convert  # takes a while to import

        convert.write_hrpose(usable, convert.read(target), row.metadata)
    return usable


def published(
    row: Released,
    origin: str | None = None,
    progress: Progress | None = None,
    *,
    several: bool = False,
) -> Path:
    """The published file in the cache, downloaded and verified if it is not there.

    By default the addresses of the table are tried one after the other. `origin` is another
    address, of the file or of a folder (it ends in /, or `several` files are wanted of it), or a
    file, folder or bundle on this machine; the hash must be the published one all the same.
    """
    target = published_file(row)
    if not is_sound(row):
        if origin is None:
            _fetch_anywhere(row, target, progress)
        elif "://" in origin:
            download(address_in(origin, row, several), target, row.sha256, progress)
        else:
            _copy(Path(origin), target, row)
    return target


def _is_whole(usable: Path) -> bool:
    try:
        check_weights(usable)
    except UserError:
        return False
    return usable.is_file()


def check_package(row: Released) -> None:
    """Raises UserError where the package is missing that makes the weights usable."""
    if row.kind == "pose" and find_spec("onnx") is None:
        raise missing(row.name, ModuleNotFoundError(name="onnx"), "hrpose[weights]")


def is_sound(row: Released) -> bool | None:
    """Whether the published file in the cache has the right hash; None if there is no file."""
    file = published_file(row)
    return file_sha256(file).startswith(row.sha256) if file.is_file() else None


def _fetch_anywhere(row: Released, target: Path, progress: Progress | None) -> None:
    """Download from the first address that has the file; what one began the next continues."""
    faults: list[str] = []
    for address in row.addresses:
        last = address == row.addresses[-1]
        try:
            return download(address, target, row.sha256, progress, patient=last)
        except UserError as error:
            if len(row.addresses) == 1:
                raise
            host = urlsplit(address).netloc
            faults.append(f"{host}: {_reason(error)}")
            if last:
                raise UserError(
                    f"{row.name}: cannot be downloaded ({'; '.join(faults)}); the same command "
                    f"tries again, or download {row.file_name} elsewhere and give it with --from",
                    code=error.code,
                ) from error
            logging.getLogger("hrpose").warning("%s; trying the next address", faults[-1])


def _reason(error: UserError) -> str:
    """Why a download failed, without the address and the remedy."""
    if error.code == "hash-differs":
        return "gave another file"
    return " ".join(str(error.__cause__ or error).split())


def _copy(origin: Path, target: Path, row: Released) -> None:
    hasher = hashlib.sha256()
    with opened(origin, row) as file, replacing(target) as copy:
        while block := file.read(_BLOCK):
            hasher.update(block)
            copy.write(block)
        if not (found := hasher.hexdigest()).startswith(row.sha256):
            place = origin if origin.name == row.file_name else f"{origin}: {row.file_name}"
            raise _differs(place, row.sha256, found, "copy it again from its publisher")
