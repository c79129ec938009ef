"""HDF5 files of annotation tools, read within bounds: numbers and text from the file itself.

h5py (extra `hdf5`) reads them, in a process of its own: the HDF5 library may crash or loop for ever
on damaged files. That process copies what is wanted into plain files; links, external and virtual
data, which lead out of the file, and pickled objects, which PyTables writes for columns of mixed
values, are left out.
"""

import contextlib
import faulthandler
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError, missing

_SECONDS = 60
_MAX_BYTES = 2_000_000_000  # of all arrays
_MAX_MEMORY = 8_000_000_000  # of the process, which holds an array more than once
_MAX_ENTRIES = 20_000
_MAX_TEXTS, _MAX_TEXT_BYTES = 100_000, 200_000_000


@dataclass(frozen=True, slots=True)
class Hdf5:
    """The content of a file. Its methods raise UserError, naming the file and the entry.

    `entries` has by name: `kind` (group, array, rows, texts, or why it was not read), `value` and
    `attributes`.
    """

    path: Path
    entries: dict[str, dict[str, Any]] = field(repr=False)

    @classmethod
    def load(cls, path: Path, folder: Path) -> "Hdf5":
        """The content that was copied into a folder."""
        entries = json.loads((folder / "entries.json").read_bytes())
        for entry in entries.values():
            if entry["kind"] == "texts":
                entry["value"] = json.loads((folder / entry["file"]).read_bytes())
            elif "file" in entry:
                entry["value"] = np.load(folder / entry["file"])
            if entry["kind"] == "rows":
                lengths = np.load((folder / entry["file"]).with_suffix(".lengths.npy")).tolist()
                content, ends = entry["value"], np.cumsum([0, *lengths]).tolist()
                entry["value"] = [content[a:b].tobytes() for a, b in pairwise(ends)]
        return cls(path, entries)

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def groups(self) -> list[str]:
        """The names of the groups at the top."""
        return [n for n, e in self.entries.items() if e["kind"] == "group" and "/" not in n]

    def numbers(self, name: str, dimensions: int = 1) -> NDArray[Any]:
        """An array of numbers."""
        array: NDArray[Any] = self._value(name, "array", "numbers")
        if array.dtype.kind not in "iufb" or array.ndim != dimensions:
            found = f"{array.dtype} of shape {array.shape}"
            raise self.error(name, f"numbers in {dimensions} dimensions", found)
        return array

    def records(self, name: str, fields: tuple[str, ...]) -> NDArray[Any]:
        """A table of numbers with these columns."""
        table: NDArray[Any] = self._value(name, "array", "a table")
        names = table.dtype.names or ()
        if table.ndim != 1 or not set(fields) <= set(names):
            raise self.error(name, f"the columns {', '.join(fields)}", ", ".join(names))
        if any(table.dtype[column].kind not in "iufb" for column in fields):
            raise self.error(name, "columns of numbers", str(table.dtype))
        return table

    def texts(self, name: str) -> list[str]:
        """A list of texts."""
        texts: list[str] = self._value(name, "texts", "text")
        for text in texts:
            if any("\ud800" <= letter <= "\udfff" for letter in text):
                raise self.error(name, "text in UTF-8", text)
        return texts

    def rows(self, name: str) -> list[bytes]:
        """The rows of an array of bytes, of fixed or any length."""
        rows: list[bytes] = self._value(name, "rows", "rows of bytes")
        return rows

    def attribute(self, name: str, key: str) -> Any:
        """A number or text beside an entry; None where there is none, or where it is another."""
        return self.entries.get(name, {}).get("attributes", {}).get(key)

    def json(self, where: str, text: object) -> Any:
        """The JSON in a text of the file."""
        try:
            return json.loads(text if isinstance(text, str) else "")
        except (ValueError, RecursionError) as error:
            raise self.error(where, "JSON", str(error)) from error

    def error(self, where: str, expected: str, found: object) -> UserError:
        """The error for an entry."""
        from hrpose.data.formats.pose_set import invalid

        return invalid(f"{self.path}: {where}", expected, found)

    def _value(self, name: str, kind: str, expected: str) -> Any:
        entry = self.entries.get(name, {"kind": "nothing"})
        if entry["kind"] != kind:
            raise self.error(name, expected, entry["kind"])
        return entry["value"]


def read_hdf5(path: Path) -> Hdf5:
    """Read a file. Raises UserError where it is missing, damaged, or no HDF5 file."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the name", code="file-unreadable")
    with tempfile.TemporaryDirectory(prefix="hrpose-hdf5-") as folder:
        copy(path, Path(folder))
        return Hdf5.load(path, Path(folder))


def copy(path: Path, folder: Path) -> None:
    """Copy the content of a file into a folder, by another process, which bounds itself too."""
    command = [sys.executable, "-m", __name__, str(path.resolve()), str(folder)]
    try:
        done = subprocess.run(command, timeout=_SECONDS, capture_output=True, check=False)
    except subprocess.TimeoutExpired:
        raise _damaged(path, f"nothing read within {_SECONDS} seconds") from None
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        if "No module named 'h5py'" in reason:
            error = ModuleNotFoundError("No module named 'h5py'", name="h5py")
            raise missing(str(path), error, "hrpose[hdf5]") from error
        raise _damaged(path, reason[:200] or f"its reader ended with {done.returncode}")


def _damaged(path: Path, found: str) -> UserError:
    return UserError(
        f"{path}: expected an HDF5 file, found damage ({found}); copy or export it again",
        code="hdf5-invalid",
    )


class _Copier:
    """Copies the content of a file into a folder; runs in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: dict[str, dict[str, Any]] = {}
        self.left = _MAX_BYTES

    def copy(self, path: str) -> None:
        import h5py

        with h5py.File(path, "r") as file:
            self._group(file, "", 0)
        (self.folder / "entries.json").write_text(json.dumps(self.entries))

    def _group(self, group: Any, above: str, depth: int) -> None:
        import h5py

        for name in group:
            link = group.get(name, getlink=True)
            if len(self.entries) >= _MAX_ENTRIES or depth > 10:
                raise ValueError(f"more than {_MAX_ENTRIES:,} entries, or folders in a circle")
            full = f"{above}{name}"
            if not isinstance(link, h5py.HardLink):
                self.entries[full] = {"kind": "a link", "attributes": {}}
                continue
            entry = group[name]
            self.entries[full] = {"kind": "a type", "attributes": dict(self._attributes(entry))}
            if isinstance(entry, h5py.Group):
                self.entries[full]["kind"] = "group"
                self._group(entry, f"{full}/", depth + 1)
            elif isinstance(entry, h5py.Dataset):
                self.entries[full] |= self._dataset(entry)

    def _attributes(self, entry: Any) -> Iterator[tuple[str, Any]]:
        for key in entry.attrs:
            try:
                value = entry.attrs[key]
            except (OSError, TypeError, ValueError, KeyError, RuntimeError):
                continue  # of a kind that h5py does not know, as enumerations of PyTables
            if isinstance(value, bytes | str):
                yield key, value if isinstance(value, str) else value.decode(errors="replace")
            elif isinstance(value, np.generic) and value.dtype.kind in "iufb":
                yield key, value.item()

    def _dataset(self, data: Any) -> dict[str, Any]:
        import h5py

        if data.external or data.is_virtual:
            return {"kind": "data in another file, which are not read"}
        if data.shape is None:
            return {"kind": "nothing"}
        name = f"{len(self.entries)}.npy"
        if h5py.check_string_dtype(data.dtype) is not None and data.ndim == 1:
            return self._texts(data, name)
        inner = h5py.check_vlen_dtype(data.dtype)
        if inner is not None and inner in (np.int8, np.uint8) and data.ndim == 1:
            return self._rows(data, name)
        if data.dtype.hasobject or data.dtype.kind not in "iufbV":
            return {"kind": "pickled or other objects, which are not read"}
        self._take(data.size * data.dtype.itemsize)
        if data.ndim == 2 and data.dtype in (np.int8, np.uint8):
            np.save(self.folder / name, data[()].reshape(-1))
            lengths = np.full(len(data), data.shape[1])
            np.save((self.folder / name).with_suffix(".lengths.npy"), lengths)
            return {"kind": "rows", "file": name}
        np.save(self.folder / name, data[()])
        return {"kind": "array", "file": name}

    def _texts(self, data: Any, name: str) -> dict[str, Any]:
        if len(data) > _MAX_TEXTS:
            return {"kind": f"more than {_MAX_TEXTS:,} texts"}
        if data.dtype.kind == "S":
            self._take(data.size * data.dtype.itemsize)
            values = data[()].tolist()
        else:
            values, size = [], 0
            for row in range(len(data)):
                values.append(data[row])
                size += len(values[-1])
                if size > _MAX_TEXT_BYTES:
                    raise ValueError(f"more than {_MAX_TEXT_BYTES:,} bytes of text")
        texts = [v if isinstance(v, str) else v.decode(errors="surrogateescape") for v in values]
        (self.folder / name).write_text(json.dumps(texts))
        return {"kind": "texts", "file": name}

    def _rows(self, data: Any, name: str) -> dict[str, Any]:
        lengths = []
        with (self.folder / "rows").open("wb") as file:
            for row in range(len(data)):
                content = np.asarray(data[row])
                self._take(content.nbytes)
                lengths.append(content.nbytes)
                file.write(content.tobytes())
        np.save(self.folder / name, np.fromfile(self.folder / "rows", np.uint8))
        np.save((self.folder / name).with_suffix(".lengths.npy"), np.array(lengths, np.int64))
        return {"kind": "rows", "file": name}

    def _take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise ValueError(f"more than {_MAX_BYTES:,} bytes")


def bound(seconds: int, size: int) -> None:
    """End this process after some seconds, and refuse it more than `size` bytes of memory.

    Its parent stops it sooner, unless that was killed meanwhile. The HDF5 library may loop without
    giving Python a chance, which faulthandler's watchdog does not need.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    limits = ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, size), (resource.RLIMIT_CORE, 0))
    for kind, most in limits:
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        with contextlib.suppress(ValueError, OSError):  # as macOS has it for memory
            resource.setrlimit(kind, (most, hard))


if __name__ == "__main__":
    bound(_SECONDS + 5, _MAX_MEMORY)
    try:
        _Copier(Path(sys.argv[2])).copy(sys.argv[1])
    except Exception as error:
        sys.exit(" ".join(str(error).split()) or type(error).__name__)
