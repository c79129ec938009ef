"""Tables of keypoints: a row for each, as CSV and Parquet, written and read, or a data frame."""

from __future__ import annotations  # so that help() shows the names of types, not their contents

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hrpose.errors import UserError, missing
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
    true where the offline pass of a clip interpolated the keypoint. `var_x`, `cov_xy` and `var_y`,
    in pixels², are the keypoint's covariance; tables have these columns where it was asked for.
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
    var_x: float | None = None
    cov_xy: float | None = None
    var_y: float | None = None


_KINDS: dict[str, type] = {
    "file": str, "frame": int, "time": float, "track_id": int, "person": int, "keypoint": str,
    "x": float, "y": float, "score": float, "present": bool, "status": str, "code": str,
    "reason": str, "filled": bool, "var_x": float, "cov_xy": float, "var_y": float,
}  # fmt: skip
# The columns of the covariance, which are the last ones.
COVARIANCE = ("var_x", "cov_xy", "var_y")


def columns(*, covariance: bool = False) -> tuple[str, ...]:
    """The names of a table's columns, with or without those of the covariance."""
    return Row._fields if covariance else Row._fields[: -len(COVARIANCE)]


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
        spread: list[Any] = [(None, None, None)] * len(keypoints)
        if poses.covariance is not None:
            spread = poses.covariance[person][:, [0, 0, 1], [0, 1, 1]].tolist()
            spread = [[float(f"{value:.5g}") for value in values] for values in spread]
        for keypoint, (x, y, score), shown, interpolated, (var_x, cov_xy, var_y) in zip(
            poses.skeleton.keypoints,
            keypoints.tolist(),
            present,
            filled[person].tolist(),
            spread,
            strict=True,
        ):
            values = (round(x, 3), round(y, 3), round(min(max(score, 0.0), 1.0), 4))
            table.append(
                Row(
                    file, frame, time, track_id, person, keypoint, *values, shown,
                    filled=interpolated, var_x=var_x, cov_xy=cov_xy, var_y=var_y,
                )
            )  # fmt: skip
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


def write_csv(file: IO[bytes], table: Iterable[Row], *, covariance: bool = False) -> None:
    """Write a CSV file, with a header, row by row. None is empty; booleans are true or false.

    With `covariance` it has the columns of the covariance too.
    """
    text = io.TextIOWrapper(file, "utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    names = columns(covariance=covariance)
    writer.writerow(names)
    for row in table:
        writer.writerow(str(v).lower() if isinstance(v, bool) else v for v in row[: len(names)])
    text.detach()


def write_parquet(file: IO[bytes], table: Iterable[Row], *, covariance: bool = False) -> None:
    """Write a Parquet file, `ROW_GROUP` rows at a time; None is null.

    With `covariance` it has the columns of the covariance too. Its pages have checksums. Raises
    UserError without pyarrow.
    """
    check_parquet()
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    names = columns(covariance=covariance)
    typed = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    kinds = [typed[_KINDS[name]] for name in names]
    schema = pa.schema(list(zip(names, kinds, strict=True)))
    remaining = (row[: len(names)] for row in table)
    with pq.ParquetWriter(file, schema, write_page_checksum=True) as writer:
        while group := list(islice(remaining, ROW_GROUP)):
            parts = zip(zip(*group, strict=True), kinds, strict=True)
            writer.write_table(
                pa.table([pa.array(column, kind) for column, kind in parts], schema=schema)
            )


def read_table(path: Path) -> Iterator[Row]:
    """The rows of a table that `write_csv` or `write_parquet` wrote, by its suffix.

    Columns may be in any order, others are ignored, and those that are not there are None. Raises
    UserError for another suffix, a file that cannot be read, and a value of another type.
    """
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"{path}: expected a table, .csv or .parquet", code="file-unsupported")
    read = _read_csv if path.suffix.lower() == ".csv" else _read_parquet
    row = 1
    try:
        for values in read(path):
            known = {name: value for name, value in values.items() if value is not None}
            found = {name: _KINDS[name](known[name]) for name in _KINDS.keys() & known.keys()}
            yield Row(**{**dict.fromkeys(Row._fields), "file": "", **found})
            row += 1
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); check the path",
            code="file-unreadable",
        ) from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(
            f"{path}: row {row}: expected a table of `hrpose predict` "
            f"({' '.join(str(error).split())}); predict again",
            code="table-invalid",
        ) from error


def _read_csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        _check_columns(reader.fieldnames or ())
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"expected {len(reader.fieldnames or ())} cells")
            values: dict[str, Any] = {name: value or None for name, value in row.items()}
            for name in ("present", "filled"):
                if values.get(name) is not None:
                    values[name] = {"true": True, "false": False}[values[name]]
            yield values


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    check_parquet()
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        _check_columns(file.schema_arrow.names)
        names = [name for name in file.schema_arrow.names if name in _KINDS]
        for batch in file.iter_batches(ROW_GROUP, columns=names):
            yield from batch.to_pylist()


def _check_columns(found: Sequence[str]) -> None:
    """Raises ValueError where a column that every table has is missing."""
    missed = [name for name in columns() if name not in found]
    if missed:
        raise ValueError(
            f"expected the columns {', '.join(missed)} too, found "
            f"{', '.join(found)[:100] or 'none'}"
        )


def check_parquet() -> None:
    """Raises UserError where Parquet cannot be written, before the work begins."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing("parquet", error, "hrpose[tables]") from error


def to_pandas(table: Sequence[Row], *, covariance: bool = False) -> pd.DataFrame:
    """A data frame with the columns of `Row`, with `covariance` those of the covariance too.

    Raises UserError without pandas.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise missing("to_pandas", error, "hrpose[tables]") from error
    names = columns(covariance=covariance)
    frame = pd.DataFrame.from_records([row[: len(names)] for row in table], columns=list(names))
    # Integers that may be missing, and types that do not depend on the rows.
    return frame.astype(
        {
            **(dict.fromkeys(COVARIANCE, "float64") if covariance else {}),
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
