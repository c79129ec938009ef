"""Bundles of weights for machines without internet, and the other places that `--from` names.

A bundle is a zip file of published files, as their publishers made them, with `SHA256SUMS` (for
`sha256sum -c`) and a `README.txt` that has their licenses. Unpacked, it is a folder that `--from`
reads as well, and that any web server can offer to a laboratory. Nothing in it is trusted: whatever
is read from it must have the hash of the table.
"""

import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hrpose.errors import UserError
from hrpose.io import MAX_MODEL_BYTES, not_regular, replacing
from hrpose.models.torch_file import BoundedDirectory
from hrpose.weights.registry import RELEASED, Released, file_sha256, published_file, released

SUMS, README = "SHA256SUMS", "README.txt"
_BLOCK = 1 << 20
_ENCRYPTED = 0x1
# The oldest time of a zip file: bundles of the same files are the same, whenever they are made.
_TIME = (1980, 1, 1, 0, 0, 0)

# Called with the number of bytes that are written, and that of all.
Progress = Callable[[int, int | None], None]


def write_bundle(rows: Sequence[Released], out: Path, progress: Progress | None = None) -> None:
    """Write the published files of these rows, which are in the cache, as one zip file.

    Raises UserError where it cannot be written.
    """
    files = {row.file_name: published_file(row) for row in rows}
    total, done = sum(file.stat().st_size for file in files.values()), 0
    with replacing(out) as target, zipfile.ZipFile(target, "w") as archive:
        sums = "".join(f"{file_sha256(file)}  {name}\n" for name, file in files.items())
        for name, text in ((README, _readme(rows, out.name)), (SUMS, sums)):
            archive.writestr(_member(name), text)
        for name, file in files.items():
            with (
                file.open("rb") as source,
                archive.open(_member(name), "w", force_zip64=True) as to,
            ):
                while block := source.read(_BLOCK):
                    to.write(block)
                    done += len(block)
                    if progress is not None:
                        progress(done, total)


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _TIME)
    member.external_attr = 0o644 << 16
    return member


def _readme(rows: Sequence[Released], name: str) -> str:
    lines = [
        "Weights of human pose estimation, as their publishers made them.",
        "",
        "To use them on a machine without internet:",
        "",
        f"    hrpose weights download --from {name}",
        "",
        "A folder into which this file was unpacked does as well, and so does the address of such",
        "a folder on a web server (it ends in /, and needs the names). SHA256SUMS is for",
        "`sha256sum -c SHA256SUMS`.",
    ]
    for row in rows:
        lines += [
            "",
            row.name,
            f"    file: {row.file_name}",
            f"    from: {row.addresses[0]}",
            f"    license: {row.license}",
        ]
        if row.score is not None:
            lines.append(f"    published: {row.metric} {row.score:.3f} ({row.measured})")
    return "\n".join([*lines, ""])


def rows_from(names: Sequence[str], origin: str | None = None) -> list[Released]:
    """The rows of these names, each once; without names, all whose file is in the place `origin`.

    Raises UserError for unknown names, where neither says which rows, and for one file that should
    be several.
    """
    here = None if origin is None or "://" in origin else Path(origin)
    is_several = here is not None and (here.is_dir() or here.suffix == ".zip")
    if not names:
        if here is not None and not here.exists():
            raise _unreadable(here, FileNotFoundError())
        if here is None or not is_several:
            where = "" if origin is None else f"--from {origin}: "
            raise UserError(
                f"{where}expected a name of `hrpose weights list`; without names, --from a bundle "
                "(.zip) or a folder on this machine",
                code="option-missing",
            )
        return _rows_in(here)
    rows = list({row.name: row for row in map(released, names)}.values())
    if len(rows) > 1 and here is not None and not is_several:
        raise UserError(
            f"--from {origin}: expected a bundle (.zip) or a folder for {len(rows)} names, found "
            "neither",
            code="option-invalid",
        )
    return rows


def _rows_in(origin: Path) -> list[Released]:
    if origin.is_dir():
        names = {file.name for file in origin.iterdir()}
    else:
        with _archive(origin) as archive:
            names = set(archive.namelist())
    rows = [row for row in RELEASED.values() if row.file_name in names]
    if not rows:
        raise UserError(
            f"--from {origin}: has none of the files of `hrpose weights list`; their names are "
            "those that the publishers gave them",
            code="file-unreadable",
        )
    return rows


def address_in(origin: str, row: Released, several: bool = False) -> str:
    """The address of the row's file. An address that ends in / is that of a folder.

    So is any where `several` files are wanted of it. Raises UserError for that of a bundle.
    """
    if origin.endswith(".zip"):
        raise UserError(
            f"--from {origin}: expected a file of weights, or an address that ends in / for a "
            "folder of them; download the bundle and name the file",
            code="option-invalid",
        )
    if not several and not origin.endswith("/"):
        return origin
    return f"{origin.rstrip('/')}/{row.file_name}"


@contextmanager
def opened(origin: Path, row: Released) -> Iterator[IO[bytes]]:
    """The row's file in a bundle (.zip) or folder, or the file itself, open for reading.

    Raises UserError where it is not there, cannot be read, is too large, or is no regular file.
    """
    if origin.suffix == ".zip":
        with _archive(origin) as archive, _opened(origin, archive, row) as file:
            yield file
    else:
        path = origin / row.file_name if origin.is_dir() else origin
        try:
            about = path.stat()
            if not stat.S_ISREG(about.st_mode):
                raise not_regular(path, about.st_mode)
            found = path.open("rb")
        except OSError as error:
            raise _unreadable(path, error) from error
        with found:
            _bound(f"{path}", about.st_size)
            yield found


def _unreadable(path: Path, error: OSError) -> UserError:
    reason = f"cannot be read ({error.strerror or error})"
    if isinstance(error, FileNotFoundError):
        reason = "no such file or folder; an address begins with https:// or http://"
    return UserError(f"{path}: {reason}", code="file-unreadable")


def _bound(where: str, size: int) -> None:
    if size > MAX_MODEL_BYTES:
        raise UserError(
            f"{where}: expected at most {MAX_MODEL_BYTES / 1e6:.0f} MB, found {size / 1e6:.0f} MB",
            code="file-too-large",
        )


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """A bundle, open; what is wrong with it, also while it is read, becomes a UserError."""
    try:
        with BoundedDirectory(path) as file, zipfile.ZipFile(file) as archive:
            yield archive
    except UserError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"{path}: damaged, or no zip file ({error}); copy it again", code="archive-invalid"
        ) from error


@contextmanager
def _opened(origin: Path, archive: zipfile.ZipFile, row: Released) -> Iterator[IO[bytes]]:
    if row.file_name not in archive.namelist():
        raise UserError(
            f"{origin}: expected {row.file_name} for {row.name}, found "
            f"{', '.join(archive.namelist()[:10]) or 'nothing'}",
            code="file-unreadable",
        )
    member = archive.getinfo(row.file_name)
    _bound(f"{origin}: {row.file_name}", member.file_size)
    if member.flag_bits & _ENCRYPTED:
        raise UserError(
            f"{origin}: expected a file without a password, found an encrypted one",
            code="archive-invalid",
        )
    with archive.open(member) as file:
        yield file
