"""Tables of keypoints: a row for each, as CSV, Parquet or a data frame."""

from __future__ import annotations  # so that help() shows the names of types, not their contents

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

from hrpose.errors import missing
from hrpose.poses import THRESHOLD, Poses

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

# The status of an image or frame in results.
OK, NO_PERSONS, FAILED = "ok", "no-persons", "failed"
# Rows of a table that are in memory at once.
ROW_GROUP = 100_000


class Row(NamedTuple):
    """One keypoint of one person. The fields are the table's columns, in this order.

    `file` is the name of the image or clip; `frame` counts the frames of a clip from 0 and `time`
    is in seconds, both None for an image; `track_id` is None outside videos; `person` counts the
    persons of an image from 0. `x` and `y` are pixels of the image, rounded to 1/1000, `score` is
    in [0, 1], rounded to 1/10000. `present` is false where the score is below the threshold: the
    position is then only the network's best guess.

    An image without persons has one row, in which all of these but file, frame and time are None;
    its `status` is no-persons, or failed, then with the error's `code` and `reason`. `filled` is
    true where the offline pass of a clip interpolated the keypoint.
    """

    file: str
    frame: int | None
    time: float | None
    track_id: int | None
    person: int | None
    keypoint: str | None
    x: float | None
    y: float | None
    score: float | None
    present: bool | None
    status: str = OK
    code: str | None = None
    reason: str | None = None
    filled: bool | None = False


def rows(
    poses: Poses,
    *,
    file: str = "",
    frame: int | None = None,
    time: float | None = None,
    threshold: float = THRESHOLD,
) -> list[Row]:
    """The keypoints of the persons in one image: n k rows, person by person."""
    table = []
    ids = [None] * len(poses) if poses.track_ids is None else poses.track_ids.tolist()
    filled = np.zeros(poses.keypoints.shape[:2], np.bool_) if poses.filled is None else poses.filled
    for person, (track_id, keypoints) in enumerate(zip(ids, poses.keypoints, strict=True)):
        present = (keypoints[:, 2] >= threshold).tolist()
        for keypoint, (x, y, score), shown, interpolated in zip(
            poses.skeleton.keypoints,
            keypoints.tolist(),
            present,
            filled[person].tolist(),
            strict=True,
        ):
            values = (round(x, 3), round(y, 3), round(min(max(score, 0.0), 1.0), 4))
            row = Row(
                file, frame, time, track_id, person, keypoint, *values, shown, filled=interpolated
            )
            table.append(row)
    return table


def no_row(
    *,
    file: str = "",
    frame: int | None = None,
    time: float | None = None,
    status: str = NO_PERSONS,
    code: str | None = None,
    reason: str | None = None,
) -> Row:
    """The row of an image without persons."""
    nothing = (None, None, None, None, None, None, None)
    return Row(file, frame, time, *nothing, status, code, reason, None)


def write_csv(file: IO[bytes], table: Iterable[Row]) -> None:
    """Write a CSV file, with a header, row by row. None is empty; booleans are true or false."""
    text = io.TextIOWrapper(file, "utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row._fields)
    for row in table:
        writer.writerow(str(v).lower() if isinstance(v, bool) else v for v in row)
    text.detach()


def write_parquet(file: IO[bytes], table: Iterable[Row]) -> None:
    """Write a Parquet file, `ROW_GROUP` rows at a time; None is null.

    Its pages have checksums. Raises UserError without pyarrow.
    """
    check_parquet()
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    kinds = (
        pa.string(), pa.int64(), pa.float64(), pa.int64(), pa.int64(), pa.string(),
        pa.float64(), pa.float64(), pa.float64(), pa.bool_(), pa.string(), pa.string(), pa.string(),
        pa.bool_(),
    )  # fmt: skip
    schema = pa.schema(list(zip(Row._fields, kinds, strict=True)))
    remaining = iter(table)
    with pq.ParquetWriter(file, schema, write_page_checksum=True) as writer:
        while group := list(islice(remaining, ROW_GROUP)):
            columns = zip(zip(*group, strict=True), kinds, strict=True)
            writer.write_table(
                pa.table([pa.array(column, kind) for column, kind in columns], schema=schema)
            )


def check_parquet() -> None:
    """Raises UserError where Parquet cannot be written, before the work begins."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing("parquet", error, "hrpose[tables]") from error


def to_pandas(table: Sequence[Row]) -> pd.DataFrame:
    """A data frame with the columns of `Row`. Raises UserError without pandas."""
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise missing("to_pandas", error, "hrpose[tables]") from error
    frame = pd.DataFrame.from_records(table, columns=list(Row._fields))
    # Integers that may be missing, and types that do not depend on the rows.
    return frame.astype(
        {
            "file": "str",
            "frame": "Int64",
            "time": "float64",
            "track_id": "Int64",
            "person": "Int64",
            "keypoint": "str",
            "x": "float64",
            "y": "float64",
            "score": "float64",
            "present": "boolean",
            "status": "str",
            "code": "object",
            "reason": "object",
            "filled": "boolean",
        }
    )
