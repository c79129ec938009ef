"""The record of results: what was written is read again, also where it was cut off."""

import csv
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrpose.errors import UserError
from hrpose.poses import Poses
from hrpose.predict.record import (
    MAX_WAITING,
    Background,
    Entry,
    Header,
    Record,
    RecordWriter,
    write_files,
)
from hrpose.skeletons import COCO_17
from hrpose.tables import FAILED
from refusals import refused

HEADER = Header("clip", COCO_17, 0.3, "walk.mp4", "w16-small", "builtin", 64, 48, 25.0, "1/12800")


def poses(count: int, seed: int = 0, ids: bool = True) -> Poses:
    rng = np.random.default_rng(seed)
    keypoints = rng.integers(0, 99, (count, 17, 3)).astype(np.float32)
    keypoints[..., 2] = rng.integers(0, 9, (count, 17)) / 8
    return Poses(
        keypoints,
        rng.integers(0, 99, (count, 4)).astype(np.float32),
        (rng.integers(0, 9, count) / 8).astype(np.float32),
        COCO_17,
        np.arange(count) + 1 if ids else None,
    )


def entry(frame: int, persons: int) -> Entry:
    return Entry.of(
        "walk.mp4", frame + 1, (64, 48), poses(persons, frame), frame=frame, time=frame / 25
    )


ENTRIES = [entry(0, 2), entry(1, 0), entry(2, 1)]
BROKEN = Entry("b.jpg", 2, FAILED, code="image-damaged", reason="b.jpg: cut off")


def written(path: Path, entries: list[Entry] = ENTRIES) -> Path:
    writer = RecordWriter(path, HEADER)
    for each in entries:
        writer.add(each)
    writer.close(complete=True)
    return path


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = Record(written(tmp_path / "walk.jsonl"))
    assert record.header == HEADER
    for _ in range(2):
        assert list(record) == ENTRIES
    assert record.end == {"entries": 3, "persons": 3, "failed": 0, "complete": True}
    assert [each.status for each in record] == ["ok", "no-persons", "ok"]
    again, before = ENTRIES[0].poses(COCO_17), poses(2)
    for field in ("keypoints", "boxes", "scores", "track_ids"):
        np.testing.assert_array_equal(getattr(again, field), getattr(before, field))


def test_each_line_is_plain_json(tmp_path: Path) -> None:
    lines = written(tmp_path / "walk.jsonl").read_text(encoding="utf-8").splitlines()
    header, first, nobody, *_ = map(json.loads, lines)
    assert (header["kind"], header["version"], header["rate"]) == ("clip", 1, 25.0)
    assert (header["width"], header["height"], header["time_base"]) == (64, 48, "1/12800")
    assert header["skeleton"]["keypoints"][0] == "nose"
    assert nobody == {
        "file_name": "walk.mp4", "image_id": 2, "frame": 1, "time": 0.04, "status": "no-persons",
        "width": 64, "height": 48, "persons": [],
    }  # fmt: skip
    assert first["persons"] == poses(2).to_coco(1)


def test_a_record_that_was_cut_off_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    content = written(tmp_path / "walk.jsonl").read_bytes()
    first = content.index(b"\n") + 1
    ends = [at + near for at, byte in enumerate(content) if byte == 10 for near in (-1, 0, 1, 2)]
    for length in sorted({*range(first, len(content), 50), *ends}):
        if not first <= length < len(content) - 1:
            continue
        (tmp_path / "cut.jsonl").write_bytes(content[:length])
        record = Record(tmp_path / "cut.jsonl")
        found = list(record)
        assert found == ENTRIES[: len(found)]
        # A line may be whole but for its end.
        whole = content[: length + 1].count(b"\n") - 1
        assert len(found) == min(whole, len(ENTRIES))
        assert record.end is None


@pytest.mark.parametrize(
    ("line", "text"),
    [(1, "{}"), (1, '{"format": "hrpose-record", "version": 9}'), (2, "{"), (2, "[]"),
     (3, '{"file_name": "a", "image_id": 1, "status": "perhaps", "persons": []}'),
     (3, '{"file_name": "a", "image_id": 1, "status": "ok", "persons": 7}')],
)  # fmt: skip
def test_a_damaged_line_is_named(tmp_path: Path, line: int, text: str) -> None:
    lines = written(tmp_path / "walk.jsonl").read_text().splitlines()
    lines[line - 1] = text
    (tmp_path / "bad.jsonl").write_text("\n".join(lines) + "\n")
    with refused("record-invalid", "bad.jsonl"):
        list(Record(tmp_path / "bad.jsonl"))


def test_no_file_before_something_was_read(tmp_path: Path) -> None:
    path = tmp_path / "poses.jsonl"
    path.write_text("an earlier record")
    writer = RecordWriter(path, HEADER)
    writer.add(BROKEN)
    writer.close()
    assert not writer.begun
    assert path.read_text() == "an earlier record"
    written(path, [BROKEN, ENTRIES[0], BROKEN])
    record = Record(path)
    assert list(record) == [BROKEN, ENTRIES[0], BROKEN]
    assert record.end is not None
    assert (record.end["entries"], record.end["failed"]) == (3, 2)


def files(folder: Path, entries: list[Entry]) -> dict[str, Path]:
    paths = {kind: folder / f"walk.{kind}" for kind in ("coco", "csv", "parquet", "dataset")}
    write_files(written(folder / "walk.jsonl", entries), paths)
    return paths


def test_files_are_made_from_a_record(tmp_path: Path) -> None:
    paths = files(tmp_path, [*ENTRIES, BROKEN])
    results = json.loads(paths["coco"].read_bytes())
    assert [(each["frame"], each["track_id"]) for each in results] == [(0, 1), (0, 2), (2, 1)]
    with paths["csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["ok"] * 34 + ["no-persons"] + ["ok"] * 17 + [
        "failed"
    ]
    assert rows[34] == {
        **dict.fromkeys(rows[0], ""), "file": "walk.mp4", "frame": "1", "time": "0.04",
        "status": "no-persons",
    }  # fmt: skip
    assert (rows[-1]["code"], rows[-1]["reason"]) == ("image-damaged", "b.jpg: cut off")
    pq = pytest.importorskip("pyarrow.parquet")
    assert pq.read_table(paths["parquet"]).num_rows == len(rows)


def test_nobody_anywhere_is_an_empty_list(tmp_path: Path) -> None:
    assert json.loads(files(tmp_path, [ENTRIES[1]])["coco"].read_bytes()) == []


def test_the_official_reader_reads_the_results(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    truth: dict[str, Any] = {
        "images": [{"id": number} for number in (1, 2, 3)],
        "annotations": [],
        "categories": [{"id": 1, "name": "person"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    paths = files(tmp_path, [*ENTRIES, BROKEN])
    read = coco.COCO(str(tmp_path / "truth.json")).loadRes(str(paths["coco"]))
    assert len(read.getAnnIds(imgIds=[1])) == 2


def test_calls_in_the_background_are_made_in_order_and_wait_for_each_other() -> None:
    made: list[int] = []
    threads: set[int] = set()

    def work(number: int) -> None:
        threads.add(threading.get_ident())
        time.sleep(0.01 if number % 3 == 0 else 0)
        made.append(number)

    background = Background()
    for number in range(30):
        background(work, number)
        assert number - len(made) <= MAX_WAITING + 1
    background.finish()
    background.finish()
    assert made == list(range(30))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_an_error_in_the_background_is_raised_once_and_ends_the_work() -> None:
    made: list[int] = []

    def work(number: int) -> None:
        if number == 2:
            raise UserError("full", code="write-failed")
        made.append(number)

    background = Background()
    with refused("write-failed", "full"):
        for number in range(9):
            background(work, number)
        background.finish()
    background.finish()
    assert made == [0, 1]


def test_what_waits_in_the_background_can_be_dropped() -> None:
    made: list[int] = []
    release = threading.Event()

    def work(number: int) -> None:
        release.wait(5)
        made.append(number)

    background = Background()
    for number in range(MAX_WAITING):
        background(work, number)
    threading.Timer(0.05, release.set).start()
    background.finish(drop=True)
    assert made == [0]
