"""Where an archive's images are: a folder, a zip file, a list, a table or an address."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pyarrow.parquet as pq  # type: ignore[import-untyped]

from hrpose.batch import remote
from hrpose.data.images import ImageFiles
from hrpose.errors import UserError
from hrpose.image import SUFFIXES, read_bytes

LISTS = (".txt", ".lst", ".parquet")
# The column of a Parquet list that names the images: the first of these that is there.
COLUMNS = ("file", "path", "url", "file_name")
# In bytes.
_LONGEST_NAME = 16_384


class Place(Protocol):
    """Images by name. Holds no open file; workers open it anew wherever they are."""

    def names(self) -> Iterator[str]:
        """All images, in an order that stays. Raises UserError where they cannot be listed."""
        ...

    def content(self, name: str) -> bytes:
        """The bytes of an image's file, at most one more than `hrpose.image.MAX_BYTES`.

        May be called from several threads. Raises UserError where it cannot be read.
        """
        ...


def open_place(text: str) -> Place:
    """The images at `text`, which is as `absolute` gives it.

    A folder or a zip file with all that is below, a list (.txt, .lst: one image on each line;
    .parquet: in a column `file`, `path`, `url` or `file_name`), or an address such as
    s3://bucket/folder. Raises UserError for anything else.
    """
    if text.lower().endswith(LISTS) and not Path(text).is_dir():
        return _Listed(text)
    if remote.is_address(text):
        return _Below(text)
    if Path(text).suffix.lower() in SUFFIXES and Path(text).is_file():
        raise UserError(
            f"{text}: expected a folder, a zip file, a list or an address of images, found one "
            "image; `hrpose predict` does it"
        )
    return _Local(text)


def absolute(text: str) -> str:
    """The same place for a process that was started in another folder."""
    return text if remote.is_address(text) else os.path.abspath(text)


class _Local:
    """The images in a folder or a zip file, known by their endings."""

    def __init__(self, text: str) -> None:
        self._source = ImageFiles(text)

    def names(self) -> Iterator[str]:
        return (name for name in self._source.names() if name.lower().endswith(SUFFIXES))

    def content(self, name: str) -> bytes:
        return self._source.content(name)


class _Below:
    """The images below an address, known by their endings."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        remote.check(address)

    def names(self) -> Iterator[str]:
        found = remote.names_below(self._address)
        return (name for name in found if name.lower().endswith(SUFFIXES))

    def content(self, name: str) -> bytes:
        return remote.content(f"{self._address}/{name}")


class _Listed:
    """The images that a file names: addresses, and files from the list's folder on.

    The list is the user's own words, as a command line is: its names may lead anywhere.
    """

    def __init__(self, text: str) -> None:
        self._text, self._shown = text, remote.shown(text)
        self._folder = text.rpartition("/")[0] if remote.is_address(text) else Path(text).parent

    def names(self) -> Iterator[str]:
        return self._column() if self._text.lower().endswith(".parquet") else self._lines()

    def content(self, name: str) -> bytes:
        if remote.is_address(name):
            return remote.content(name)
        if isinstance(self._folder, str):
            return remote.content(f"{self._folder}/{name}")
        return read_bytes(self._folder / name)

    def _lines(self) -> Iterator[str]:
        with remote.opened(self._text) as file:
            # Files of fsspec read a line whole, however long it is.
            buffered = io.BufferedReader(file)  # type: ignore[type-var]
            lines = iter(lambda: buffered.readline(_LONGEST_NAME + 3), b"")
            for number, line in enumerate(lines, start=1):
                content = line.rstrip(b"\r\n")
                if len(content) > _LONGEST_NAME or b"\0" in content:
                    raise UserError(
                        f"{self._shown}: line {number}: expected the name of an image, found "
                        f"{content[:20]!r}...; a list is text with one name on each line"
                    )
                try:
                    name = content.decode("utf-8")
                except UnicodeDecodeError:
                    raise UserError(
                        f"{self._shown}: line {number}: expected UTF-8, found other bytes"
                    ) from None
                if name:
                    yield name

    def _column(self) -> Iterator[str]:
        with remote.opened(self._text) as file:
            try:
                table = pq.ParquetFile(file)
                column = next((name for name in COLUMNS if name in table.schema_arrow.names), None)
                if column is None:
                    raise UserError(
                        f"{self._shown}: expected a column {', '.join(COLUMNS[:-1])} or "
                        f"{COLUMNS[-1]}, found {', '.join(table.schema_arrow.names)}"
                    )
                for batch in table.iter_batches(10_000, columns=[column]):
                    for name in batch.column(0).to_pylist():
                        if not isinstance(name, str) or not name:
                            raise UserError(
                                f"{self._shown}: expected names of images in the column "
                                f"{column}, found {name!r}"
                            )
                        yield name
            except UserError:
                raise
            except (OSError, ValueError) as error:  # pyarrow's own are ValueErrors
                raise UserError(f"{self._shown}: expected a Parquet file ({error})") from error
