"""Where downloaded weights lie, and how a published file becomes one that can be run."""

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from hrpose.errors import UserError
from hrpose.weights.download import Progress, adopt, download, file_sha256
from hrpose.weights.registry import RELEASED, Released


def home() -> Path:
    """Hrpose's folder for this user: HRPOSE_HOME, or the platform's place for caches."""
    if given := os.environ.get("HRPOSE_HOME"):
        return Path(given).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "hrpose"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/hrpose"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hrpose"


def published_file(row: Released) -> Path:
    """Where the file is as its publishers made it."""
    return home() / "weights" / row.file_name


def usable_file(row: Released) -> Path:
    """Where the file is that hrpose runs: for pose networks one with a passport."""
    if row.kind == "pose":
        return home() / "weights" / f"{row.name}.safetensors"
    return published_file(row)


def released(name: str) -> Released:
    """The row of the table. Raises UserError, naming those that exist."""
    if name not in RELEASED:
        raise UserError(f"{name}: no such released weights; expected one of {', '.join(RELEASED)}")
    return RELEASED[name]


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
    """Read the publishers' checkpoint without running code from it; write it with its passport."""
    try:
        from hrpose.network import convert
    except ModuleNotFoundError as error:
        raise UserError(
            f"{row.name}: is fetched, as {published}; to make it ready to run, "
            "pip install 'hrpose[train]' and give the same command again"
        ) from error
    convert.write_hrpose(usable, convert.read(published), row.passport)
