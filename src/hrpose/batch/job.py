"""The folder of a job: what is to be done, frozen before the work begins.

    job.json                      what decides the results, and how much there is to do
    manifest/part-000000.parquet  the names of the images, one file for each partition
    poses/part-000000.parquet     what was found in them, row by row
    .lock                         held by the one process that writes here

job.json is written last, so that a list is frozen wholly or not at all.
"""

import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from filelock import FileLock, Timeout

from hrpose._version import __version__
from hrpose.batch.remote import shown
from hrpose.errors import UserError
from hrpose.io import write_atomically

VERSION = 1


@dataclass(frozen=True, slots=True)
class Job:
    """One list of images and what decides the results: `settings`, plain values by name.

    `id` is a hash over both; each file of results carries it.
    """

    folder: Path
    id: str
    place: str
    images: int
    partition: int
    settings: dict[str, Any]

    @property
    def partitions(self) -> int:
        return -(-self.images // self.partition)

    def size(self, number: int) -> int:
        """How many images are in a partition: all have as many but the last."""
        return min(self.partition, self.images - number * self.partition)

    def names(self, number: int) -> list[str]:
        """The images of a partition. Raises UserError where the manifest is damaged."""
        path = part(self.folder / "manifest", number)
        try:
            names: list[str] = pq.read_table(path)["file"].to_pylist()
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path}: {_ONLY_ANEW} ({error})") from error
        if len(names) != self.size(number):
            raise UserError(
                f"{path}: {_ONLY_ANEW} (expected {self.size(number)} names, found {len(names)})"
            )
        return names

    def results(self, number: int) -> Path:
        return part(self.folder / "poses", number)


_ONLY_ANEW = "the manifest is damaged; begin anew in another --out"


def part(folder: Path, number: int) -> Path:
    """The file of a partition."""
    return folder / f"part-{number:06d}.parquet"


def freeze(
    folder: Path,
    place: str,
    names: Iterable[str],
    partition: int,
    settings: dict[str, Any],
    tell: Callable[[int], None] = lambda count: None,
) -> Job:
    """Write down the list of images in partitions, and then the job.

    `place` is what messages call it (`remote.shown`): job.json keeps no key of an address.
    `tell` hears how many names there are so far. Raises UserError where there is none, or where one
    is there twice.
    """
    if any((folder / "poses").glob("part-*.parquet")):
        raise UserError(
            f"{folder / 'poses'}: holds results, but no job.json says of what; choose another --out"
        )
    for leftover in (folder / "manifest").glob("part-*.parquet"):
        leftover.unlink()
    whole, hashes, count = hashlib.sha256(), array("Q"), 0
    rest_of_names = iter(names)
    for number, group in enumerate(iter(lambda: list(islice(rest_of_names, partition)), [])):
        # File names need not be text; such an image will be a row with a reason.
        written = [name.encode("utf-8", "backslashreplace") for name in group]
        for name in written:
            whole.update(len(name).to_bytes(4, "little") + name)
            hashes.append(int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little"))
        table = pa.table({"file": pa.array([name.decode() for name in written], pa.string())})
        write_atomically(part(folder / "manifest", number), parquet(table))
        count += len(written)
        tell(count)
    if not count:
        raise UserError(f"{place}: expected images, found none; check the place")
    about = {"version": VERSION, "place": place, "images": count, "partition": partition}
    rest = {"settings": settings, "names_sha256": whole.hexdigest()}
    id = hashlib.sha256(json.dumps({**about, **rest}, sort_keys=True).encode()).hexdigest()
    job = Job(folder, id, place, count, partition, settings)
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
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {_ONLY_ANEW} ({error})") from error
    kinds = {"id": str, "place": str, "images": int, "partition": int, "settings": dict}
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise UserError(f"{path}: expected a job of version {VERSION}; begin anew in another --out")
    for key, kind in kinds.items():
        if not isinstance(document.get(key), kind):
            raise UserError(f"{path}: {_ONLY_ANEW} (expected {kind.__name__} '{key}')")
    if document["images"] < 1 or document["partition"] < 1:
        raise UserError(f"{path}: {_ONLY_ANEW} (expected counts of at least 1)")
    return Job(folder, **{key: document[key] for key in kinds})


def check_same(job: Job, place: str, partition: int | None, settings: dict[str, Any]) -> None:
    """Raise UserError where a job is to go on with something else than it began with."""
    asked = {"place": place, **settings}
    began = {"place": job.place, **job.settings}
    if partition is not None:
        asked["partition"], began["partition"] = partition, job.partition
    for key in chain(asked, began):
        if asked.get(key) != began.get(key):
            raise UserError(
                f"{job.folder}: holds a job that began with {key} {_short(began.get(key))}, found "
                f"{_short(asked.get(key))}; give the same as then, or choose another --out"
            )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _check_distinct(job: Job, hashes: np.ndarray[Any, np.dtype[np.uint64]]) -> None:
    """Only lists can name an image twice; 8 bytes for each name are what it takes to see it."""
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    for first, second in ((int(order[i]), int(order[i + 1])) for i in same):
        pair = [job.names(i // job.partition)[i % job.partition] for i in (first, second)]
        if pair[0] == pair[1]:
            raise UserError(
                f"{job.place}: expected each image once, found {shown(pair[0])} twice; leave the "
                "second out (`sort -u` does)"
            )


def parquet(table: Any) -> bytes:
    """A Parquet file's bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only process that writes into `folder`. The system lets go when the process dies.

    Raises UserError where another one is at it, or nothing can be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{folder}: another process writes here; wait for it, or choose another --out"
        ) from None
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}); choose another --out"
        ) from error
    try:
        yield
    finally:
        lock.release()
