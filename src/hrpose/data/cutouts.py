"""Where a training finds the picture of a person: in the photos themselves, or in a pack."""

import errno
import time
from pathlib import Path
from typing import Protocol

import numpy as np

from hrpose.data.pack import Cutout, Pack, is_pack
from hrpose.data.persons import PersonTable
from hrpose.data.pictures import PictureSource
from hrpose.errors import UserError
from hrpose.geometry import Crop

# Seconds between attempts to read a picture.
_PAUSES = (0.1, 1.0)
# How the system says that a file cannot be had, now or later.
_LASTING = (
    *(None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EACCES, errno.EPERM),
)


class Cutouts(Protocol):
    """The pictures of the people of a table, by row."""

    def read(self, person: int, crop: Crop | None = None) -> Cutout:
        """A photo, or the part of one, in which `crop` lies; without, every crop of the person."""
        ...


def read_patiently(cutouts: Cutouts, person: int, crop: Crop) -> Cutout:
    """`cutouts.read`, and again after a moment where the disk failed.

    Disks across a network fail for moments, and a training of days must not end for one. Raises
    UserError where the picture stays unreadable, and at once where waiting cannot help: it is
    missing, forbidden or damaged.
    """
    for pause in _PAUSES:
        try:
            return cutouts.read(person, crop)
        except UserError as error:
            if not _may_pass(error.__cause__):
                raise
            time.sleep(pause)
    return cutouts.read(person, crop)


def _may_pass(cause: BaseException | None) -> bool:
    """Whether reading failed for the moment; decoders raise OSError without a number."""
    return isinstance(cause, OSError) and cause.errno not in _LASTING


class Photos:
    """Whole photos, from a folder or a zip file."""

    def __init__(self, table: PersonTable, source: PictureSource) -> None:
        self.table = table
        self.source = source

    def read(self, person: int, crop: Crop | None = None) -> Cutout:
        """The person's photo."""
        return Cutout(self.source.read(self.table.picture_name(person)))


def open_cutouts(place: str | Path, table: PersonTable, where: object = "annotations") -> Cutouts:
    """Open a folder, a zip file or a pack, and see that every person's picture is in it.

    Raises UserError that says what is missing; `where` names the annotations in it.
    """
    if is_pack(place):
        pack = Pack(Path(place))
        pack.check(table, where)
        return pack
    source = PictureSource(place)
    used = np.unique(table.file_names[table.image_index])
    missing = [name.decode() for name in used if name.decode() not in source]
    if missing:
        raise UserError(
            f"{where}: {len(missing)} of {len(used)} pictures are not in {place}, "
            f"such as {missing[0]}"
        )
    return Photos(table, source)
