"""The folder of a batch job: its list of images, frozen before the work begins, and its tables.

    job.json                      the settings that decide the results, and the number of images
    manifest/part-000000.parquet  the names of the images, one file for each partition
    poses/part-000000.parquet     their poses: one row for each image, with its persons inside
    .lock                         held by the one process that writes here

job.json is written last, so that a list is frozen completely or not at all.
"""

import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from hrpose._version import __version__
from hrpose.batch.source import without_query
from hrpose.errors import UserError
from hrpose.io import printable, write_atomically
from hrpose.metadata import CHECKSUM_KEY, NO_CHECKSUM, checksum_holds, with_checksum
from hrpose.poses import Poses
from hrpose.tables import FAILED, NO_PERSONS, OK, Row, no_row, rows

VERSION = 2


@dataclass(frozen=True, slots=True)
class Job:
    """One list of images, and the settings that decide the results: plain values by name.

    `id` is a hash of both; each file of results carries it.
    """

    folder: Path
    id: str
    source: str
    images: int
    partition: int
    settings: dict[str, Any]

    @property
    def partitions(self) -> int:
        return -(-self.images // self.partition)

    def size(self, number: int) -> int:
        """The number of images in a partition: the same for all but the last."""
        return min(self.partition, self.images - number * self.partition)

    def names(self, number: int) -> list[str]:
        """The images of a partition. Raises UserError where the manifest is damaged."""
        path = part(self.folder / "manifest", number)
        try:
            _check(path)
            table = pq.read_table(path, page_checksum_verification=True)
            names: list[str] = table["file"].to_pylist()
        except (OSError, ValueError, KeyError) as error:
            raise _damaged(path, str(error)) from error
        if len(names) != self.size(number):
            raise _damaged(path, f"expected {self.size(number)} names, found {len(names)}")
        return names

    def results(self, number: int) -> Path:
        return part(self.folder / "poses", number)


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path}: damaged ({reason}); start again with another --out", code="job-damaged"
    )


def part(folder: Path, number: int) -> Path:
    """The file of a partition."""
    return folder / f"part-{number:06d}.parquet"


def freeze(
    folder: Path,
    source: str,
    names: Iterable[str],
    partition: int,
    settings: dict[str, Any],
    progress: Callable[[int], None] = lambda count: None,
) -> Job:
    """Write the list of images in partitions, and then the job.

    `source` is as messages show it (`without_query`): job.json keeps no key of an address.
    `progress` is called with the number of names so far. Raises UserError where there are no names,
    or one is there twice, or `folder` holds results without a job.
    """
    if any((folder / "poses").glob("part-*.parquet")):
        raise UserError(
            f"{folder / 'poses'}: holds results without a job.json; choose another --out",
            code="folder-not-empty",
        )
    for leftover in (folder / "manifest").glob("part-*.parquet"):
        leftover.unlink()
    whole, hashes, count = hashlib.sha256(), array("Q"), 0
    rest_of_names = iter(names)
    for number, group in enumerate(iter(lambda: list(islice(rest_of_names, partition)), [])):
        written = [name.encode() for name in group]
        for name in written:
            whole.update(len(name).to_bytes(4, "little") + name)
            hashes.append(int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little"))
        table = pa.table({"file": pa.array([name.decode() for name in written], pa.string())})
        write_atomically(part(folder / "manifest", number), parquet(table))
        count += len(written)
        progress(count)
    if not count:
        raise UserError(
            f"{source}: expected images, found none; check the name", code="images-missing"
        )
    about = {"version": VERSION, "place": source, "images": count, "partition": partition}
    rest = {"settings": settings, "names_sha256": whole.hexdigest()}
    id = hashlib.sha256(json.dumps({**about, **rest}, sort_keys=True).encode()).hexdigest()
    job = Job(folder, id, source, count, partition, settings)
    _check_distinct(job, np.frombuffer(hashes, np.uint64))
    document = {**about, "id": id, "hrpose": __version__, **rest}
    write_atomically(folder / "job.json", json.dumps(document, indent=1) + "\n")
    return job


def load_job(folder: Path) -> Job | None:
    """The job that was frozen in `folder`, if one was. Raises UserError where it is damaged."""
    path = folder / "job.json"
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    kinds = {"id": str, "place": str, "images": int, "partition": int, "settings": dict}
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise _damaged(path, f"expected a job of version {VERSION}")
    for key, kind in kinds.items():
        if not isinstance(document.get(key), kind):
            raise _damaged(path, f"expected {kind.__name__} '{key}'")
    if document["images"] < 1 or document["partition"] < 1:
        raise _damaged(path, "expected counts of at least 1")
    return Job(folder, *(document[key] for key in kinds))


def check_same(job: Job, source: str, partition: int | None, settings: dict[str, Any]) -> None:
    """Raise UserError where a job would be resumed with other settings than it was started with."""
    now = {"source": source, **settings}
    then = {"source": job.source, **job.settings}
    if partition is not None:
        now["partition"], then["partition"] = partition, job.partition
    for key in chain(now, then):
        if now.get(key) != then.get(key):
            raise UserError(
                f"{job.folder}: holds a job that was started with {key} {_short(then.get(key))}, "
                f"found {_short(now.get(key))}; use the same, or choose another --out",
                code="job-differs",
            )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _check_distinct(job: Job, hashes: np.ndarray[Any, np.dtype[np.uint64]]) -> None:
    """Only lists can name an image twice. `hashes` are 8 bytes for each name."""
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    for first, second in ((int(order[i]), int(order[i + 1])) for i in same):
        pair = [job.names(i // job.partition)[i % job.partition] for i in (first, second)]
        if pair[0] == pair[1]:
            raise UserError(
                f"{job.source}: expected each image once, found {without_query(pair[0])} twice; "
                "leave the second out (`sort -u` does)",
                code="names-collide",
            )


def parquet(table: Any) -> bytearray:
    """A Parquet file's bytes, with a checksum of each page, and of the whole file in its footer."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression="zstd", write_page_checksum=True) as file:
        file.write_table(table)
        file.add_key_value_metadata({CHECKSUM_KEY: NO_CHECKSUM})
    return with_checksum(sink.getvalue().to_pybytes())


def _check(path: Path) -> None:
    """Raises ValueError where the checksum of a file is not that of its bytes; older have none."""
    if checksum_holds(path) is False:
        raise ValueError("its bytes do not have the sha256 that is in it")


# The names of `hrpose.poses.Row`. 32 bits hold 1/1000 of a pixel up to 8,192 pixels.
_KEYPOINT = pa.struct(
    [
        ("keypoint", pa.string()),
        ("x", pa.float32()),
        ("y", pa.float32()),
        ("score", pa.float32()),
        ("present", pa.bool_()),
    ]
)
_PERSON = pa.struct(
    [("box", pa.list_(pa.float32())), ("score", pa.float32()), ("keypoints", pa.list_(_KEYPOINT))]
)
SCHEMA = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        ("width", pa.int32()),
        ("height", pa.int32()),
        pa.field("status", pa.string(), nullable=False),
        ("code", pa.string()),
        ("reason", pa.string()),
        ("persons", pa.list_(_PERSON)),
    ]
)
_LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Counts:
    """Finished images, how many of them failed, and the persons in the others."""

    images: int = 0
    failed: int = 0
    persons: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.images + other.images, self.failed + other.failed, self.persons + other.persons
        )


def image_row(file: str, wh: tuple[int, int], poses: Poses, threshold: float) -> dict[str, Any]:
    """The row of an image of `wh` pixels, rounded as the other tables are."""
    k = len(poses.skeleton)
    keypoints = [
        {
            "keypoint": row.keypoint,
            "x": row.x,
            "y": row.y,
            "score": row.score,
            "present": row.present,
        }
        for row in rows(poses, threshold=threshold)
    ]
    persons = [
        {
            "box": [round(float(v), 3) for v in box],
            "score": round(float(score), 4),
            "keypoints": keypoints[person * k : (person + 1) * k],
        }
        for person, (box, score) in enumerate(zip(poses.boxes, poses.scores, strict=True))
    ]
    status = OK if persons else NO_PERSONS
    return {"file": file, "width": wh[0], "height": wh[1], "status": status, "persons": persons}


def failed_row(file: str, reason: str, code: str | None = None) -> dict[str, Any]:
    """The row of an image that failed, with a reason of one line, and the code of a UserError."""
    line = " ".join(printable(reason).split())
    return {
        "file": file,
        "status": FAILED,
        "code": code,
        "reason": line[:_LONGEST_REASON] or "unknown",
    }


def to_table(rows: Sequence[dict[str, Any]]) -> Any:
    """A pyarrow table of `SCHEMA`."""
    return pa.Table.from_pylist(list(rows), SCHEMA)


def write(job: Job, number: int, table: Any) -> Counts:
    """Write a partition's results, completely or not at all."""
    count = Counts(
        len(table),
        len(table) - table["reason"].null_count,
        int(pc.sum(pc.list_value_length(table["persons"])).as_py() or 0),
    )
    notes = {
        b"hrpose.job": job.id,
        b"hrpose.failed": str(count.failed),
        b"hrpose.persons": str(count.persons),
    }
    write_atomically(job.results(number), parquet(table.replace_schema_metadata(notes)))
    return count


def written(job: Job, number: int) -> Counts | None:
    """The counts of a partition's file, from its footer. None where the file is missing, cut off or
    of another job: then the partition has to be done.
    """
    try:
        footer = pq.read_metadata(job.results(number))
        notes = footer.metadata or {}
        count = Counts(footer.num_rows, int(notes[b"hrpose.failed"]), int(notes[b"hrpose.persons"]))
    except (OSError, ValueError, KeyError):  # pyarrow's own are ValueErrors
        return None
    same = notes.get(b"hrpose.job") == job.id.encode() and count.images == job.size(number)
    return count if same else None


def failures(job: Job, most: int) -> list[str]:
    """The reasons of the first `most` failed images. Raises UserError for a damaged file."""
    reasons: list[str] = []
    for number in range(job.partitions):
        count = written(job, number)
        if count is not None and count.failed:
            reasons += (row["reason"] for row in _rows(job.results(number)) if row["reason"])
        if len(reasons) >= most:
            break
    return reasons[:most]


def read_images(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of all finished partitions in `folder`, as plain values, in the list's order.

    Raises UserError for a file that is damaged: each has a checksum.
    """
    for path in sorted((folder / "poses").glob("part-*.parquet")):
        yield from _rows(path)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        _check(path)
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(1000):
                yield from batch.to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's own are ValueErrors
        raise UserError(
            f"{path}: damaged ({printable(str(error))}); remove it and run `hrpose batch` "
            "again, which repeats its images",
            code="job-damaged",
        ) from error


def read_rows(folder: Path) -> Iterator[Row]:
    """The same as rows of `hrpose.poses`: one for each keypoint, or one without persons."""
    for image in read_images(folder):
        if not image["persons"]:
            about = {name: image[name] for name in ("file", "status", "code", "reason")}
            yield no_row(**about)
        for index, person in enumerate(image["persons"] or ()):
            for keypoint in person["keypoints"]:
                values = (
                    round(keypoint["x"], 3),
                    round(keypoint["y"], 3),
                    round(keypoint["score"], 4),
                )
                yield Row(
                    image["file"], None, None, None, index, keypoint["keypoint"], *values,
                    keypoint["present"],
                )  # fmt: skip
