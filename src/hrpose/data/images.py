"""A data set's images: in a folder, or in a zip file that is never unpacked to disk."""

import hashlib
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError
from hrpose.image import MAX_BYTES, image_size, read_image
from hrpose.io import name_to_text, read_file, text_to_name

_ENCRYPTED = 0x1
# Images whose size is compared before a training or evaluation starts.
_HEADERS = 1000
_SPELLED_BYTE = re.compile(r"\\x[89a-f][0-9a-f]")  # by hrpose.io.name_to_text


class ImageFiles:
    """The images below `path`, by their names.

    `path` is a folder, a zip file (`val2017.zip`) or a folder inside one (`val2017.zip@/val2017`).
    Names in a zip file may leave out the one folder that holds all the images, as in many
    archives. Names of files that are not UTF-8 are as `hrpose.io.name_to_text` spells them. Worker
    processes and threads may share an instance. Raises UserError where `path` is neither.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        archive, at, inside = str(path).partition(".zip@")
        self._zip: _Zip | None = None
        if at and not self.path.is_dir():
            self._zip = _Zip(Path(f"{archive}.zip"), inside.replace("\\", "/").strip("/"))
        elif self.path.is_file():
            self._zip = _Zip(self.path, None)
        elif not self.path.is_dir():
            raise UserError(
                f"{path}: expected the folder of the images or a zip file of them, found neither; "
                "check the path",
                code="images-missing",
            )

    def __contains__(self, name: str) -> bool:
        if self._zip is not None:
            return self._zip.member(name) is not None
        try:
            return stays_inside(name) and self._path(name).is_file()
        except OSError:  # a name that no file can have
            return False

    def read(self, name: str) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB, with the bounds and errors of `hrpose.image.read_image`."""
        data, label = self._bytes(name)
        return read_image(data, label)

    def size(self, name: str) -> tuple[int, int]:
        """(w, h) of the image, from its header alone."""
        data, label = self._bytes(name)
        return image_size(data, label)

    def content(self, name: str) -> bytes:
        """The bytes of the image's file, at most `hrpose.image.MAX_BYTES`."""
        data, label = self._bytes(name)
        return data if isinstance(data, bytes) else read_file(data, MAX_BYTES, label)

    def digest(self, names: Iterable[str]) -> str:
        """A hash of the names and the sizes in bytes of some of the images."""
        digest = hashlib.sha256()
        for name in names:
            if self._zip is None:
                size = self._path(name).stat().st_size
            else:
                member = self._zip.member(name)
                size = -1 if member is None else member.file_size
            digest.update(f"{name}\n{size}\n".encode())
        return digest.hexdigest()

    def names(self) -> Iterator[str]:
        """The names of all files below the path, images or not, in a fixed order."""
        if self._zip is not None:
            yield from self._zip.names()
        else:
            yield from map(name_to_text, _names_below(self.path))

    def _bytes(self, name: str) -> tuple[bytes | Path, str]:
        """The image's bytes, or the file that holds them, and its name for messages."""
        if self._zip is not None:
            return self._zip.read(name), f"{self._zip.path}@/{name}"
        if not stays_inside(name):
            raise UserError(
                f"{self.path}: expected a name inside the folder, found {name!r}",
                code="annotations-invalid",
            )
        return self._path(name), str(self.path / name)

    def _path(self, name: str) -> Path:
        path = self.path / name
        if "\\" in name and not path.is_file():
            with suppress(UnicodeEncodeError):  # a name that no file can have
                os.fsencode(meant := text_to_name(name))
                return self.path / meant
        return path


def compare_sizes(
    files: ImageFiles, names: NDArray[np.bytes_], image_wh: NDArray[np.int32], where: object
) -> None:
    """Compare the sizes (m, 2) of images with those of their files, by the headers of at most 1000
    of them, evenly spread; the others are compared when they are read (`check_size`).

    Images that are not there or cannot be read are left out. Raises UserError, naming the
    annotations `where`.
    """
    rows = np.unique(np.linspace(0, len(names) - 1, min(len(names), _HEADERS)).astype(int))
    compared, differ = 0, []
    for row in rows.tolist():
        name, expected = names[row].decode(), tuple(image_wh[row].tolist())
        if name not in files:
            continue
        try:
            found = files.size(name)
        except UserError:  # reported, if a second attempt fails too, when it is read
            continue
        compared += 1
        if found != expected:
            differ.append((name, expected, found))
    if differ:
        name, expected, found = differ[0]
        raise _size_differs(
            f"{where}: {len(differ):,} of {compared:,} images have another size than the "
            f"annotations say, such as {name}",
            expected,
            found,
        )


def check_size(pixels: NDArray[np.uint8], image_wh: NDArray[np.int32], name: str) -> None:
    """Raise UserError where an image (h, w, 3) does not have the size (2,) of the annotations."""
    (height, width), expected = pixels.shape[:2], tuple(image_wh.tolist())
    if (width, height) != expected:
        raise _size_differs(
            f"{name}: the image has another size than the annotations say",
            expected,
            (width, height),
        )


def _size_differs(what: str, expected: tuple[int, ...], found: tuple[int, int]) -> UserError:
    hint = "; give the images that were labeled, or correct the annotations"
    if _same_shape(expected, found):
        hint = (
            "; give the images that were labeled, or scale the labels with "
            "'hrpose data convert coco ANNOTATIONS --out OUT --scale-to-images'"
        )
    elif expected == found[::-1]:
        hint = (
            "; either width and height are swapped in the annotations, or the labels are for the "
            "image before EXIF turns it: correct them ('hrpose data convert crowdpose' those of "
            "CrowdPose), or save the images upright"
        )
    shown = (f"{width} x {height}" for width, height in (expected, found))
    return UserError(
        f"{what}: expected {next(shown)}, found {next(shown)}{hint}", code="size-differs"
    )


def check_shape(name: str, expected_wh: tuple[int, int], found_wh: tuple[int, int]) -> None:
    """Raise UserError where one size is not the other, scaled and rounded to whole pixels."""
    if not _same_shape(expected_wh, found_wh):
        what = f"{name}: the image has another shape than the annotations say"
        raise _size_differs(what, expected_wh, found_wh)


def _same_shape(a_wh: tuple[int, ...], b_wh: tuple[int, ...]) -> bool:
    (a_w, a_h), (b_w, b_h) = a_wh, b_wh
    scale = max(b_w, b_h) / max(a_w, a_h)
    return abs(a_w * scale - b_w) <= 1 and abs(a_h * scale - b_h) <= 1


def images_beside(file: Path) -> ImageFiles | None:
    """The folder `images` or the file `images.zip` beside an annotation file, if there is one."""
    folder = file if file.is_dir() else file.parent
    for name in ("images", "images.zip"):
        if (folder / name).exists():
            return ImageFiles(folder / name)
    return None


def _names_below(folder: Path, above: str = "") -> Iterator[str]:
    """Folder by folder, so that only one folder's names are in memory; links are not followed.

    Raises UserError for a folder that cannot be read: no image may be left out unnoticed.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be read ({error.strerror}); check the folder", code="file-unreadable"
        ) from error
    for entry in entries:
        name = f"{above}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _names_below(Path(entry.path), f"{name}/")
        # `entry` fails at links in a circle.
        elif Path(entry.path).is_file() if entry.is_symlink() else entry.is_file():
            yield name


def stays_inside(name: str) -> bool:
    """Whether a relative path stays inside its folder, on any system."""
    if name.isascii() and name.replace(".", "", 1).replace("_", "").isalnum():
        return True  # 000000000785.jpg, and most others
    # What begins a spelled byte is no separator; Windows has no such names.
    plain = name if sys.platform == "win32" else _SPELLED_BYTE.sub("_", name)
    path = PurePosixPath(plain.replace("\\", "/"))
    return (
        bool(name)
        and not path.is_absolute()
        and ".." not in path.parts
        and not any(c in ":\0" or "\ud800" <= c <= "\udfff" for c in name)
    )


class _Zip:
    """A zip file, opened once per process; any thread may read its members."""

    def __init__(self, path: Path, folder: str | None) -> None:
        self.path = path
        self._opened: tuple[int, zipfile.ZipFile] | None = None
        try:
            found = self._archive().infolist()
        except FileNotFoundError:
            raise UserError(
                f"{path}: no such file; check the name", code="file-unreadable"
            ) from None
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
            raise _invalid(
                f"{path}: expected a folder of images or a zip file of them, found neither "
                f"({error}); check the path or download it again"
            ) from error
        # What macOS adds is no part of the data set, and members without a name cannot be read.
        self._members = {
            member.filename: member
            for member in found
            if member.filename
            and not member.is_dir()
            and not member.filename.startswith("__MACOSX/")
        }
        self._folders: tuple[str, ...]
        if folder is None:
            self._folders = ("", f"{top}/") if (top := self._top()) else ("",)
        else:
            self._folders = (f"{folder}/",) if folder else ("",)
            if not any(name.startswith(self._folders[0]) for name in self._members):
                raise UserError(
                    f"{path}: expected a folder '{folder}' inside, found none; "
                    f"its files are like {next(iter(self._members), 'nothing')}",
                    code="images-missing",
                )

    def _top(self) -> str:
        """The folder that holds all the files; empty where there are several."""
        parents = [PurePosixPath(name).parent.parts for name in self._members]
        if not parents:
            return ""
        # What the first and the last in sorted order share, all share.
        first, last = min(parents), max(parents)
        shared = 0
        while shared < min(len(first), len(last)) and first[shared] == last[shared]:
            shared += 1
        return "/".join(first[:shared])

    def names(self) -> Iterator[str]:
        inside = self._folders[-1]
        return (name.removeprefix(inside) for name in self._members if name.startswith(inside))

    def member(self, name: str) -> zipfile.ZipInfo | None:
        for folder in self._folders:
            if (found := self._members.get(folder + name)) is not None:
                return found
        return None

    def read(self, name: str) -> bytes:
        """A member's bytes, at most `MAX_BYTES`, checked against its CRC."""
        member, label = self.member(name), f"{self.path}@/{name}"
        if member is None:
            raise UserError(
                f"{label}: no such file in the zip file; check the annotations",
                code="images-missing",
            )
        if member.file_size > MAX_BYTES:
            raise UserError(
                f"{label}: expected at most {MAX_BYTES:,} bytes, found {member.file_size:,}",
                code="file-too-large",
            )
        if member.flag_bits & _ENCRYPTED:
            raise _invalid(f"{label}: expected a file without a password, found an encrypted one")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _invalid(
                f"{label}: expected a stored or deflated file, found compression "
                f"{member.compress_type}; pack the images again"
            )
        try:
            with self._archive().open(member) as file:
                # Without a number, zipfile unpacks all that is there before it looks at the size.
                content = file.read(member.file_size + 1)
            if len(content) != member.file_size:
                raise ValueError(f"expected {member.file_size:,} bytes, found {len(content):,}")
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise _invalid(
                f"{label}: damaged or cut off ({error}); copy or download it again"
            ) from error
        return content

    def _archive(self) -> zipfile.ZipFile:
        """The open file. A forked process opens its own: position and lock must not be shared."""
        owner, archive = self._opened or (0, None)
        if archive is None or owner != os.getpid():
            archive = zipfile.ZipFile(self.path)
            self._opened = os.getpid(), archive
        return archive

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def _invalid(message: str) -> UserError:
    return UserError(message, code="archive-invalid")
