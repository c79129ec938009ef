"""The record of a source's results: one line of JSON for each image or frame, written as they come.

    {"format": "hrpose-record", "version": 1, "kind": "clip", "source": "walk.mp4", ...}
    {"file_name": "walk.mp4", "image_id": 1, "frame": 0, "status": "ok", ..., "persons": [...]}
    {"end": {"entries": 250, "persons": 250, "failed": 0, ...}}

Each line reaches the operating system before the next one begins, so that a killed process leaves
everything but the line it was writing. The end says that the work was finished, or stopped by the
user; a record without it was cut off. `write_files` makes the other files of results from a record,
entry by entry.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Literal

from hrpose._version import __version__
from hrpose.data.dataset_folder import CocoSet, replacing_folder
from hrpose.errors import UserError
from hrpose.io import replacing, write_error
from hrpose.poses import Poses
from hrpose.predict import FORMATS
from hrpose.skeleton import Skeleton
from hrpose.tables import FAILED, NO_PERSONS, OK, Row, no_row, rows, write_csv, write_parquet

FORMAT, VERSION = "hrpose-record", 1
# More than a frame with 10,000 persons of 133 keypoints has.
MAX_LINE = 64_000_000
# Calls that wait in the background: each holds an image.
MAX_WAITING = 4
# What a line that is JSON but no record can raise.
_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)

Kind = Literal["images", "clip"]
STATUSES = (OK, NO_PERSONS, FAILED)


@dataclass(frozen=True, slots=True)
class Header:
    """What the entries of a record have in common.

    `source` is a clip's file or camera. `weights`, `detector` and `engine`, what runs the networks,
    are words for people. Keypoints with a score below `threshold` count as absent. For a clip,
    `width` and `height` are pixels of its upright frames, `rate` is its mean frames per second and
    `time_base` the unit of its own times in seconds, as "1/12800"; `offline` says that its poses
    went through the offline pass. `covariance` says that persons have covariances.
    """

    kind: Kind
    skeleton: Skeleton
    threshold: float
    source: str | None = None
    weights: str | None = None
    detector: str | None = None
    width: int | None = None
    height: int | None = None
    rate: float | None = None
    time_base: str | None = None
    offline: bool = False
    engine: str | None = None
    covariance: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The header's line."""
        about = {"format": FORMAT, "version": VERSION, "hrpose": __version__, "kind": self.kind}
        clip = ("width", "height", "rate", "time_base", "offline")
        names = ("source", "weights", "detector", "engine", "threshold")
        for name in names + (clip if self.kind == "clip" else ()):
            about[name] = getattr(self, name)
        if self.covariance:
            about["covariance"] = True
        return {**about, "skeleton": self.skeleton.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Header":
        """The inverse of `to_dict`."""
        names = ("source", "weights", "detector", "engine", "width", "height", "rate", "time_base")
        kind: Kind = "clip" if data["kind"] == "clip" else "images"
        skeleton, threshold = Skeleton.from_dict(data["skeleton"]), float(data["threshold"])
        about = {name: data.get(name) for name in names}
        return cls(
            kind,
            skeleton,
            threshold,
            **about,
            offline=bool(data.get("offline")),
            covariance=bool(data.get("covariance")),
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One image, or one frame of a clip.

    `file_name` is the name of the image or clip, as `hrpose.io.name_to_text` spells it, and
    `image_id` is unique in the record; `frame` counts from 0 and `time` is in seconds, both None
    for an image. `width` and `height` are pixels, upright, None where the image could not be read.
    `status` is ok, no-persons or failed, then with the error's `code` and `reason`. `persons` are
    entries of COCO results. `image` is the name of its copy in a data set, if there is one.
    """

    file_name: str
    image_id: int
    status: str
    width: int | None = None
    height: int | None = None
    frame: int | None = None
    time: float | None = None
    code: str | None = None
    reason: str | None = None
    image: str | None = None
    persons: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(
        cls,
        file_name: str,
        image_id: int,
        size_wh: tuple[int, int],
        poses: Poses,
        *,
        frame: int | None = None,
        time: float | None = None,
        image: str | None = None,
    ) -> "Entry":
        """The entry of an image, or of a frame at `time`, with these poses."""
        return cls(
            file_name,
            image_id,
            OK if len(poses) else NO_PERSONS,
            *size_wh,
            frame=frame,
            time=None if time is None else round(time, 6),
            image=image,
            persons=tuple(poses.to_coco(image_id)),
        )

    def poses(self, skeleton: Skeleton) -> Poses:
        """The poses, rounded as `Poses.to_coco` rounds."""
        return Poses.from_coco(self.persons, skeleton)

    def coco(self) -> Iterator[dict[str, Any]]:
        """Entries of a COCO results file, which also name the file, the frame and the time."""
        about: dict[str, Any] = {"file_name": self.file_name}
        if self.frame is not None:
            about |= {"frame": self.frame, "time": self.time}
        yield from ({**about, **person} for person in self.persons)

    def rows(self, skeleton: Skeleton, threshold: float) -> Iterator[Row]:
        """One row for each keypoint; one row without keypoints where there are no persons."""
        where: Any = {"file": self.file_name, "frame": self.frame, "time": self.time}
        if self.persons:
            yield from rows(self.poses(skeleton), **where, threshold=threshold)
        else:
            yield no_row(**where, status=self.status, code=self.code, reason=self.reason)

    def to_dict(self) -> dict[str, Any]:
        """The entry's line: what an image has not is left out, but for its size."""
        line: dict[str, Any] = {"file_name": self.file_name, "image_id": self.image_id}
        for name in ("frame", "time", "status", "code", "reason", "image"):
            if (value := getattr(self, name)) is not None:
                line[name] = value
        return {**line, "width": self.width, "height": self.height, "persons": list(self.persons)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Entry":
        """The inverse of `to_dict`. Raises one of `_DAMAGE` for another object."""
        if data["status"] not in STATUSES:
            raise ValueError(f"expected a status of {', '.join(STATUSES)}, found {data['status']}")
        names = ("width", "height", "frame", "time", "code", "reason", "image")
        return cls(
            str(data["file_name"]),
            int(data["image_id"]),
            data["status"],
            **{name: data.get(name) for name in names},
            persons=tuple(dict(person) for person in data["persons"]),
        )


class Background:
    """Makes calls one after another in a thread of its own, while the caller goes on.

    At most `MAX_WAITING` calls wait, so that memory is bounded; then the caller waits too. After a
    call that raises an error no other is made; the error is raised by the next `__call__`, or by
    `finish`.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._calls: deque[Future[None]] = deque()
        self._failed = False

    def __call__(self, work: Callable[..., None], *arguments: Any) -> None:
        """Call `work` with these arguments after all earlier calls."""
        self._calls.append(self._thread.submit(self._run, work, arguments))
        while len(self._calls) > MAX_WAITING or (self._calls and self._calls[0].done()):
            self._calls.popleft().result()

    def finish(self, *, drop: bool = False) -> None:
        """Wait for all calls, or with `drop` for the one that is running; may be repeated."""
        if drop:
            self._thread.shutdown(cancel_futures=True)
            self._calls.clear()
        while self._calls:
            self._calls.popleft().result()

    def _run(self, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self._failed:
            return
        try:
            work(*arguments)
        except BaseException:
            self._failed = True
            raise


class RecordWriter:
    """Writes a record to `path`, a line for each entry.

    The file is made at the first entry that has not failed; it replaces an older one, with
    `at_end` when it is closed: until then it is a hidden file. Until the first entry nothing is
    changed. Raises UserError where it cannot be written.
    """

    def __init__(self, path: Path, header: Header, *, at_end: bool = False) -> None:
        self.path = path
        self._hidden = path.with_name(f".{path.name}")
        self._written = self._hidden if at_end else path
        self.entries = self.persons = self.failed = 0
        self._header = header
        self._file: IO[str] | None = None
        self._failed_first: list[Entry] = []

    @property
    def begun(self) -> bool:
        """Whether there is a file."""
        return self._file is not None

    def add(self, entry: Entry) -> None:
        """Write one entry."""
        self.entries, self.failed = self.entries + 1, self.failed + (entry.status == FAILED)
        self.persons += len(entry.persons)
        if self._file is None:
            if entry.status == FAILED:
                self._failed_first.append(entry)
                return
            self._begin()
        self._write(entry.to_dict())

    def close(self, **about: Any) -> None:
        """Write the end, with counts and what else is known `about` it; then the disk has it."""
        if self._file is None or self._file.closed:
            return
        counts = {"entries": self.entries, "persons": self.persons, "failed": self.failed}
        try:
            self._write({"end": {**counts, **about}})
            os.fsync(self._file.fileno())
            self._file.close()
            self._written.replace(self.path)
        except OSError as error:
            raise write_error(self.path, error) from error
        finally:
            self._file.close()

    def remove(self) -> None:
        """Remove the file: its entries are not what was asked for."""
        if self._file is not None:
            self._file.close()
            self._written.unlink(missing_ok=True)

    def _begin(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # A new file, not the one that a link of this name leads to.
            for old in (self._hidden, self._written):
                old.unlink(missing_ok=True)
            self._file = self._written.open("x", encoding="utf-8", newline="\n")
        except OSError as error:
            raise write_error(self.path, error) from error
        self._write(self._header.to_dict())
        for entry in self._failed_first:
            self._write(entry.to_dict())
        self._failed_first.clear()

    def _write(self, line: Mapping[str, Any]) -> None:
        assert self._file is not None
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise write_error(self.path, error) from error


class Record:
    """A record that was written: its `header`, and its entries, read one by one at each iteration.

    A half line at the end, as a killed process leaves it, is ignored. `end` has the counts of the
    last line, and is None until the record was read to its end, and where it was cut off. Raises
    UserError for a file of another form, and at a damaged line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end: dict[str, Any] | None = None
        if not path.is_file():
            raise UserError(f"{path}: no such file; check the name", code="file-unreadable")
        first = next(self._lines(), (1, {}))[1]
        if first.get("format") != FORMAT:
            raise self._damaged("line 1", "expected the header of a record")
        if first.get("version") != VERSION:
            raise self._damaged("version", f"expected {VERSION}, found {first.get('version')}")
        try:
            self.header = Header.from_dict(first)
        except _DAMAGE as error:
            raise self._damaged("line 1", str(error)) from error

    def __iter__(self) -> Iterator[Entry]:
        for number, line in self._lines():
            if "end" in line:
                self.end = dict(line["end"])
            elif number > 1:
                try:
                    yield Entry.from_dict(line)
                except _DAMAGE as error:
                    raise self._damaged(f"line {number}", repr(error)) from error

    def _lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            with self.path.open("rb") as file:
                lines = iter(lambda: file.readline(MAX_LINE), b"")
                for number, line in enumerate(lines, start=1):
                    try:
                        content = json.loads(line)
                        if not isinstance(content, dict):
                            raise ValueError("expected an object")
                    except (ValueError, RecursionError) as error:
                        if not line.endswith(b"\n") and number > 1 and len(line) < MAX_LINE:
                            return
                        raise self._damaged(f"line {number}", str(error)) from error
                    yield number, content
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be read ({error.strerror or error}); check the path",
                code="file-unreadable",
            ) from error

    def _damaged(self, where: str, reason: str) -> UserError:
        return UserError(
            f"{self.path}: {where}: expected a record of `hrpose predict` ({reason}); "
            "copy it again, or predict again",
            code="record-invalid",
        )


def write_files(record: Path, paths: Mapping[str, Path], **options: object) -> None:
    """Write the results of a record in other forms: `paths` by kind (of `FORMATS`, or dataset).

    `options` are for the writers that take them. Entries are read one by one, for each kind. Raises
    UserError for a damaged record, and where a file cannot be written.
    """
    for kind, path in paths.items():
        source = Record(record)
        if kind == "dataset":
            with replacing(path) as file:
                _write_dataset(source, file)
            continue
        each = FORMATS[kind]
        module, _, name = each.writer.partition(":")
        write = getattr(import_module(f"hrpose.predict.{module}"), name)
        own = {option: value for option, value in options.items() if option in each.options}
        to = replacing_folder if each.suffix.endswith("/") else replacing
        with to(path) as target:
            write(source, target, **own)


def write_coco(record: Record, file: IO[bytes]) -> None:
    """COCO keypoint results."""
    separator = b"[\n"
    for entry in record:
        for person in entry.coco():
            file.write(separator + json.dumps(person).encode())
            separator = b",\n"
    file.write(b"[]\n" if separator == b"[\n" else b"\n]\n")


def write_table_csv(record: Record, file: IO[bytes]) -> None:
    """A row for each keypoint, as CSV."""
    write_csv(file, _rows(record), covariance=record.header.covariance)


def write_table_parquet(record: Record, file: IO[bytes]) -> None:
    """The same table as Parquet."""
    write_parquet(file, _rows(record), covariance=record.header.covariance)


def _rows(record: Record) -> Iterator[Row]:
    header = record.header
    for entry in record:
        yield from entry.rows(header.skeleton, header.threshold)


def _write_dataset(record: Record, file: IO[bytes]) -> None:
    dataset = CocoSet(file, record.header.skeleton, record.header.threshold)
    for entry in record:
        if entry.image is not None and entry.width is not None and entry.height is not None:
            poses = entry.poses(record.header.skeleton)
            dataset.add(entry.image_id, entry.image, (entry.width, entry.height), poses)
    dataset.close()
