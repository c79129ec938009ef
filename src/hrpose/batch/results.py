"""Tables of poses: one row for each image, with its persons inside."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from hrpose.batch.job import Job, parquet
from hrpose.errors import UserError
from hrpose.io import printable, write_atomically
from hrpose.poses import Poses
from hrpose.tables import FAILED, NO_PERSONS, OK, Row, no_row, rows

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
    """The reasons of the first `most` failed images."""
    reasons: list[str] = []
    for number in range(job.partitions):
        count = written(job, number)
        if count is not None and count.failed:
            column = pq.read_table(job.results(number), columns=["reason"])["reason"]
            reasons += column.drop_null().to_pylist()
        if len(reasons) >= most:
            break
    return reasons[:most]


def read_images(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of all finished partitions in `folder`, as plain values, in the list's order.

    Raises UserError for a file that is damaged: each page has a checksum.
    """
    for path in sorted((folder / "poses").glob("part-*.parquet")):
        try:
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
