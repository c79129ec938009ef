"""Poses as a table, one row per joint: CSV, Parquet and pandas.

CSV needs only Python. Parquet needs pyarrow, data frames pandas: `pip install 'hrpose[tables]'`.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hrpose.errors import missing
from hrpose.poses import THRESHOLD, Poses

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]


class Row(NamedTuple):
    """One joint of one person. The fields are the table's columns, in this order.

    `file` is the picture's or the clip's name; `frame` counts a clip's pictures from 0 and `time`
    is in seconds, both None for a photo; `track_id` is None where nobody was followed; `person`
    counts the people of one picture from 0. `x` and `y` are pixels of the picture, rounded to
    1/1000, `score` is in [0, 1], rounded to 1/10000. `present` is false where the score is below
    the threshold: the place is then only the network's best guess.
    """

    file: str
    frame: int | None
    time: float | None
    track_id: int | None
    person: int
    joint: str
    x: float
    y: float
    score: float
    present: bool


def rows(
    poses: Poses,
    *,
    file: str = "",
    frame: int | None = None,
    time: float | None = None,
    threshold: float = THRESHOLD,
) -> list[Row]:
    """The joints of the people in one picture: n k rows, person by person."""
    found = []
    ids = [None] * len(poses) if poses.track_ids is None else poses.track_ids.tolist()
    for person, (track_id, keypoints) in enumerate(zip(ids, poses.keypoints, strict=True)):
        present = (keypoints[:, 2] >= threshold).tolist()
        for joint, (x, y, score), shown in zip(
            poses.skeleton.keypoints, keypoints.tolist(), present, strict=True
        ):
            place = (round(x, 3), round(y, 3), round(min(max(score, 0.0), 1.0), 4))
            found.append(Row(file, frame, time, track_id, person, joint, *place, shown))
    return found


def to_csv(table: Iterable[Row]) -> str:
    """A CSV file's text, with a header. What is unknown is empty; present is true or false."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row._fields)
    for row in table:
        writer.writerow([*row[:-1], "true" if row.present else "false"])
    return text.getvalue()


def to_parquet(table: Sequence[Row]) -> bytes:
    """A Parquet file's bytes; what is unknown is null. Raises UserError without pyarrow."""
    check_parquet()
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    kinds = (
        pa.string(), pa.int64(), pa.float64(), pa.int64(), pa.int64(), pa.string(),
        pa.float64(), pa.float64(), pa.float64(), pa.bool_(),
    )  # fmt: skip
    columns = list(zip(*table, strict=True)) or [()] * len(Row._fields)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(pa.table(arrays, names=list(Row._fields)), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def check_parquet() -> None:
    """Raise UserError where Parquet cannot be written, before any work is done for it."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing("parquet", error, "hrpose[tables]") from error


def to_pandas(table: Sequence[Row]) -> "pd.DataFrame":
    """A data frame with the columns of `Row`. Raises UserError without pandas."""
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise missing("to_pandas", error, "hrpose[tables]") from error
    frame = pd.DataFrame.from_records(table, columns=list(Row._fields))
    # Whole numbers that may be missing, and types that do not depend on the rows.
    return frame.astype(
        {
            "file": "str",
            "frame": "Int64",
            "time": "float64",
            "track_id": "Int64",
            "person": "int64",
            "joint": "str",
            "x": "float64",
            "y": "float64",
            "score": "float64",
            "present": "bool",
        }
    )
