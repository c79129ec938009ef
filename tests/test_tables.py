"""Tables of keypoints, as CSV, Parquet and data frames, and what a missing package is."""

import csv
import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hrpose import tables
from hrpose.poses import Poses
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17
from refusals import refused

COLUMNS = [
    "file", "frame", "time", "track_id", "person", "keypoint", "x", "y", "score", "present",
    "status", "code", "reason", "filled",
]  # fmt: skip
HEADER = ",".join(COLUMNS) + "\n"
ARM = Skeleton("arm", ("shoulder", "wrist"), limbs=((0, 1),))


def arms(*persons: list[list[float]], ids: list[int] | None = None) -> Poses:
    n = len(persons)
    return Poses(
        np.array(persons, np.float32).reshape(n, 2, 3),
        np.tile(np.array([1, 2, 30, 40], np.float32), (n, 1)),
        np.ones(n, np.float32),
        ARM,
        None if ids is None else np.array(ids),
    )


TWO = arms([[1.5, 2.25, 0.875], [3, 4, 0.25]], [[-5, 6, 1.5], [7, 8, -0.5]], ids=[4, 9])


def test_one_row_per_keypoint() -> None:
    first, second, *_ = found = tables.rows(TWO, file="a.mp4", frame=3, time=0.1)
    assert list(tables.columns()) == COLUMNS
    assert list(tables.columns(covariance=True)) == [*COLUMNS, "var_x", "cov_xy", "var_y"]
    assert tables.Row._fields == tables.columns(covariance=True)
    assert len(found) == 4
    assert first[:10] == ("a.mp4", 3, 0.1, 4, 0, "shoulder", 1.5, 2.25, 0.875, True)
    assert second[:10] == ("a.mp4", 3, 0.1, 4, 0, "wrist", 3.0, 4.0, 0.25, False)
    assert first[10:] == ("ok", None, None, False, None, None, None)
    filled = replace(TWO, filled=np.array([[False, True], [False, False]]))
    assert [row.filled for row in tables.rows(filled)] == [False, True, False, False]


def test_scores_are_cut_to_0_and_1() -> None:
    assert [row.score for row in tables.rows(TWO)][2:] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("threshold", "present"),
    [(0, [True, True, True, False]), (0.25, [True, True, True, False]), (0.9, [0, 0, 1, 0])],
)
def test_the_threshold_says_who_is_present(threshold: float, present: list[bool]) -> None:
    assert [row.present for row in tables.rows(TWO, threshold=threshold)] == present


def to_csv(table: list[tables.Row]) -> str:
    file = io.BytesIO()
    tables.write_csv(file, table)
    return file.getvalue().decode()


def to_parquet(table: list[tables.Row]) -> bytes:
    file = io.BytesIO()
    tables.write_parquet(file, table)
    return file.getvalue()


NOBODY = tables.no_row(file="b", status="failed", code="image-damaged", reason="cut off")


def test_csv_has_a_header_and_leaves_the_unknown_empty() -> None:
    poses = arms([[1, 2, 0.5], [3.1234567, 4, 0.123456]])
    assert to_csv(tables.rows(poses, file='a, "b".jpg')).splitlines() == [
        ",".join(COLUMNS),
        '"a, ""b"".jpg",,,,0,shoulder,1.0,2.0,0.5,true,ok,,,false',
        '"a, ""b"".jpg",,,,0,wrist,3.123,4.0,0.1235,false,ok,,,false',
    ]


def test_nobody_is_a_table_without_rows() -> None:
    empty = tables.rows(Poses.empty(COCO_17))
    assert to_csv(empty) == ",".join(COLUMNS) + "\n"
    assert to_csv([NOBODY]).splitlines()[1] == "b,,,,,,,,,,failed,image-damaged,cut off,"
    assert list(tables.to_pandas(empty).columns) == COLUMNS


# Multiples of 1/8 within float32's reach survive the rounding.
EXACT = st.integers(-80_000, 80_000).map(lambda value: value / 8)


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 4), st.just(2), st.just(3)), elements=EXACT),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))),
)
def test_csv_is_read_back_as_it_was_written(keypoints: np.ndarray, file: str) -> None:
    n = len(keypoints)
    poses = Poses(keypoints, np.ones((n, 4), np.float32), np.ones(n, np.float32), ARM)
    table = tables.rows(poses, file=file)
    read = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert [row["file"] for row in read] == [file] * 2 * n
    places = [[float(row["x"]), float(row["y"])] for row in read]
    np.testing.assert_array_equal(np.reshape(places, (n, 2, 2)), keypoints[..., :2])


@pytest.mark.parametrize("table", [[*tables.rows(TWO, file="a", frame=0, time=0.5), NOBODY], []])
def test_parquet_keeps_rows_and_types(table: list[tables.Row]) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    read = pyarrow.parquet.read_table(pa.BufferReader(to_parquet(table)))
    assert read.column_names == COLUMNS
    assert [str(kind) for kind in read.schema.types] == [
        "string", "int64", "double", "int64", "int64", "string", "double", "double", "double",
        "bool", "string", "string", "string", "bool",
    ]  # fmt: skip
    assert [tuple(row.values()) for row in read.to_pylist()] == [row[:14] for row in table]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("covariance", [False, True])
def test_tables_are_read_again(tmp_path: Path, suffix: str, covariance: bool) -> None:
    spread = np.array([[2, 0.5], [0.5, 1.25]], np.float32) * np.ones((2, 2, 1, 1), np.float32)
    poses = replace(TWO, covariance=spread if covariance else None)
    table = [*tables.rows(poses, file='a "b"', frame=0, time=0.5), NOBODY]
    with (path := tmp_path / f"table{suffix}").open("wb") as file:
        write = tables.write_csv if suffix == ".csv" else tables.write_parquet
        write(file, table, covariance=covariance)
    assert list(tables.read_table(path)) == table
    assert table[0].cov_xy == (0.5 if covariance else None)


@pytest.mark.parametrize(
    ("name", "content", "code", "mention"),
    [
        ("a.csv", "file,x\na,1\n", "table-invalid", "frame"),
        ("a.csv", HEADER + "a,,,,0,nose,much,2,1,true,ok,,,false\n", "table-invalid", "row 1"),
        ("a.csv", HEADER + "a,,,,0,nose,1,2,1,yes,ok,,,false\n", "table-invalid", "yes"),
        ("a.parquet", "no", "table-invalid", "a.parquet"),
        ("a.txt", "", "file-unsupported", "a.txt"),
        ("b.csv", None, "file-unreadable", "b.csv"),
    ],
)  # fmt: skip
def test_other_files_are_no_tables(
    tmp_path: Path, name: str, content: str | None, code: str, mention: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with refused(code, mention):
        list(tables.read_table(tmp_path / name))


def test_parquet_has_null_for_the_unknown() -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    data = to_parquet(tables.rows(arms([[1, 2, 1], [3, 4, 1]])))
    (row, _) = pyarrow.parquet.read_table(pa.BufferReader(data)).to_pylist()
    assert (row["frame"], row["time"], row["track_id"]) == (None, None, None)


def test_a_flipped_bit_in_a_page_of_parquet_is_noticed() -> None:
    """By readers that compare the checksums of pages."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    names = [f"{i:05}.jpg" for i in range(300)]
    whole = to_parquet([row for name in names for row in tables.rows(TWO, file=name)])
    chunks = pq.ParquetFile(pa.BufferReader(whole)).metadata.row_group(0)
    for number in range(chunks.num_columns):
        chunk = chunks.column(number)
        damaged = bytearray(whole)
        # The page's content is at the end of its column's bytes.
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        damaged[start + chunk.total_compressed_size - 1] ^= 1
        with pytest.raises(OSError, match=r"(?i)crc|corrupt|checksum"):
            pq.read_table(pa.BufferReader(bytes(damaged)), page_checksum_verification=True)


def test_poses_as_a_data_frame() -> None:
    pytest.importorskip("pandas")
    frame = TWO.to_pandas(threshold=0.5)
    assert list(frame.columns) == COLUMNS
    assert frame["track_id"].tolist() == [4, 4, 9, 9]
    assert frame["frame"].isna().all()
    assert frame[frame.present].keypoint.tolist() == ["shoulder", "shoulder"]
    # The types do not depend on what is known.
    assert frame.dtypes.equals(Poses.empty(ARM).to_pandas().dtypes)


@pytest.mark.parametrize(
    ("package", "call", "remedy"),
    [
        ("pandas", "poses.to_pandas()", "hrpose[tables]"),
        ("pyarrow", "tables.write_parquet(io.BytesIO(), [])", "hrpose[tables]"),
        ("supervision", "poses.to_supervision()", "supervision>=0.29"),
    ],
)
def test_a_missing_package_is_named(package: str, call: str, remedy: str) -> None:
    code = (
        f"import io, sys; sys.modules['{package}'] = None\n"
        "from hrpose import UserError, tables\n"
        "from hrpose.poses import Poses\n"
        "from hrpose.skeletons import COCO_17\n"
        "poses = Poses.empty(COCO_17)\n"
        "tables.write_csv(io.BytesIO(), tables.rows(poses))\n"
        f"try: {call}\n"
        "except UserError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    assert package in line
    assert remedy in line
