"""`hrpose measure`: results, images and clips in; tables and a page out."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import hrpose
from clips import colors, times, write_clip
from hrpose.cli.main import app
from hrpose.covariance import RADIUS, CovarianceFit
from hrpose.measurement.definitions import default_measures
from hrpose.measurement.propagation import FITTED, propagate
from hrpose.skeletons import COCO_17
from measurement.recorded import SIZE_WH, truth, write_results
from refusals import check_refusal
from tiny_weights import METADATA, write_tiny_weights


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_results(tmp_path_factory.mktemp("results"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["measure", *map(str, arguments)])


def rows(folder: Path, name: str = "measures.csv") -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def summary(done: Result) -> dict[str, Any]:
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_results_become_a_table(tmp_path: Path, results: dict[str, Path], suffix: str) -> None:
    done = run(results[suffix], "--out", tmp_path, "--save", "csv,parquet", "--only",
               "knee_left,thigh_left")  # fmt: skip
    assert done.exit_code == 0, done.output
    table = rows(tmp_path)
    assert len(table) == 2 * len(truth())
    assert [*table[0]] == ["file", "frame", "time", "person", "measure", "value", "low", "high",
                           "unit", "flag"]  # fmt: skip
    names = [measure.name for measure in default_measures(COCO_17)]
    knee = default_measures(COCO_17)[names.index("knee_left")]
    expected = propagate(knee, truth()).values
    found = [float(row["value"]) for row in table if row["measure"] == "knee_left"]
    assert found == pytest.approx(expected, abs=0.1)
    row = next(row for row in table if row["measure"] == "thigh_left" and row["frame"] == "30")
    assert (row["file"], row["time"], row["person"]) == ("walk.mp4", "1.0", "1")
    assert (row["unit"], row["flag"]) == ("px", "")
    assert float(row["high"]) - float(row["low"]) == pytest.approx(
        2 * FITTED.z95["length"] * 2 * 2**0.5, rel=1e-3
    )
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(tmp_path / "measures.parquet")
    assert frame["value"].tolist() == pytest.approx([float(row["value"]) for row in table])
    assert str(frame["frame"].dtype) == "Int64"


def test_the_summary_and_the_python_api_agree(tmp_path: Path, results: dict[str, Path]) -> None:
    done = run(results[".jsonl"], "--out", tmp_path, "--json", "--repetitions", "knee_left",
               "--height", 1.8)  # fmt: skip
    assert done.exit_code == 0, done.output
    found = summary(done)
    assert {Path(path).name for path in found["files"]} == {
        "measures.csv", "measures.html", "repetitions.csv",
    }  # fmt: skip
    (recording,) = found["recordings"]
    assert (recording["name"], recording["persons"]) == ("walk.mp4", 1)
    assert recording["rate"] == pytest.approx(30, abs=0.01)
    assert recording["intervals"] is True
    assert "1.8 m" in recording["scale"]
    measured = hrpose.measure(results[".jsonl"], height=1.8)
    by_name = {about["measure"]: about for about in found["measures"]}
    for about in measured.summary():
        assert by_name[about.measure]["median"] == pytest.approx(about.median)
    ((_, repetitions),) = measured.repetitions("knee_left")
    assert (
        found["repetitions"][0]["count"]
        == len(repetitions)
        == len(rows(tmp_path, "repetitions.csv"))
    )
    assert found["repetitions"][0]["cadence"] == pytest.approx(repetitions.cadence)
    assert len(measured.to_pandas()) == len(rows(tmp_path))


def test_meters_follow_from_the_height_and_from_two_points(
    tmp_path: Path, results: dict[str, Path]
) -> None:
    pixels = hrpose.measure(results[".jsonl"]).summary()
    by_height = hrpose.measure(results[".jsonl"], height=1.75).summary()
    by_points = hrpose.measure(results[".jsonl"], known="0,0,0,300=1.75").summary()
    for before, tall, known in zip(pixels, by_height, by_points, strict=True):
        if before.unit == "deg":
            assert before == tall == known
            continue
        assert (tall.unit, known.unit) == (before.unit.replace("px", "m"),) * 2
        assert known.median == pytest.approx(before.median * 1.75 / 300, rel=1e-6)
        # The walker of 300 pixels has its own proportions, close to those of the table.
        assert tall.median == pytest.approx(known.median, rel=0.05)
        # A height is a less exact scale, and the interval says so.
        if before.measure == "thigh_left":
            assert tall.half_interval > 1.3 * known.half_interval


def test_results_without_covariances_have_no_intervals(tmp_path: Path) -> None:
    path = write_results(tmp_path, sigma=None)[".csv"]
    done = run(path, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "no intervals" in done.stderr
    assert {(row["low"], row["high"]) for row in rows(tmp_path / "out")} == {("", "")}


FIT = CovarianceFit((0.2, 0.7), (2.0, 0.4), 1.0, (1.0,) * 17, (0.95,), ((RADIUS,) * 17,))


@pytest.mark.parametrize("offline", [True, False])
def test_clips_and_images_are_predicted(tmp_path: Path, offline: bool) -> None:
    weights = write_tiny_weights(tmp_path / "tiny.onnx", replace(METADATA, covariance=FIT))
    clip = write_clip(tmp_path / "a.mp4", colors(8), times(8))
    image = tmp_path / "b.png"
    Image.fromarray(colors(1)[0]).save(image)
    (tmp_path / "c.jpg").write_bytes(b"no image")
    out = tmp_path / "out"
    done = run(clip, image, tmp_path / "c.jpg", "--weights", weights, "--detector", "full-image",
               "--threshold", 0, "--out", out, "--offline" if offline else "--no-offline",
               "--json")  # fmt: skip
    assert done.exit_code == 1, done.output  # c.jpg is damaged
    assert len(summary(done)["errors"]) == summary(done)["failed"] == 1
    assert all(recording["intervals"] for recording in summary(done)["recordings"])
    table = rows(out)
    assert {row["file"] for row in table} == {"a.mp4", "b.png"}
    assert {row["frame"] for row in table if row["file"] == "a.mp4"} == {*map(str, range(8))}
    assert {row["frame"] for row in table if row["file"] == "b.png"} == {""}
    page = (out / "measures.html").read_text()
    assert page.count("data:image/jpeg;base64") == 9


def test_weights_without_a_fit_measure_without_intervals(tmp_path: Path) -> None:
    weights = write_tiny_weights(tmp_path / "tiny.onnx", replace(METADATA, name="mine"))
    image = tmp_path / "b.png"
    Image.fromarray(colors(1)[0]).save(image)
    done = run(image, "--weights", weights, "--detector", "full-image", "--threshold", 0,
               "--out", tmp_path / "out")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "without intervals" in done.stderr
    assert {row["low"] for row in rows(tmp_path / "out")} == {""}


@pytest.mark.parametrize(
    ("arguments", "code", "mentions"),
    [
        ((), "file-unreadable", ()),
        (("walk.jsonl", "--only", "kne_left"), "measure-unknown", ("'kne_left'", "knee_left")),
        (("walk.jsonl", "--repetitions", "knee"), "measure-unknown", ("'knee'",)),
        (("walk.jsonl", "--known", "1,2,3=4"), "option-invalid", ("1,2,3=4",)),
        (("walk.jsonl", "--known", "1,2,1,2=4"), "option-invalid", ("1,2,1,2=4",)),
        (("walk.jsonl", "--known", "0,0,1e-300,0=1"), "option-invalid", ("1e-300",)),
        (("walk.jsonl", "--known", "0,0,1e300,0=1"), "option-invalid", ("1e300",)),
        (("walk.jsonl", "--known", "1,2,3,4=1", "--height", "2"), "option-conflict", ()),
        (("walk.jsonl", "--prominence", "2"), "option-conflict", ("--repetitions",)),
        (("walk.jsonl", "--plane", "a.jpg"), "option-conflict", ("--calibrate",)),
        (("walk.jsonl", "--person", "7"), "person-unknown", ("7", "1")),
        (("walk.jsonl", "--save", "csv,xlsx"), "option-invalid", ("'xlsx'",)),
        (("walk.jsonl", "--camera", "walk.json"), "camera-invalid", ("walk.json",)),
        (("missing.csv",), "file-unreadable", ("missing.csv",)),
        (("walk.jsonl", "--definitions", "missing.yaml"), "file-unreadable", ("missing.yaml",)),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    results: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: str,
    mentions: tuple[str, ...],
) -> None:
    monkeypatch.chdir(results[".csv"].parent)
    done = run(*arguments, "--out", tmp_path / "out")
    check_refusal(done, code, *mentions)
    assert "median" not in done.output
    assert not (tmp_path / "out" / "measures.csv").exists()


@pytest.mark.parametrize(
    ("name", "content", "code", "mentions"),
    [
        ("a.json", "{}", "results-invalid", ("a.json",)),
        ("a.json", '[{"image_id": 1, "keypoints": [1, 2]}]', "skeleton-unknown", ("a.json",)),
        ("a.json", '[{"image_id": 1}]', "results-invalid", ("keypoints",)),
        ("a.json", json.dumps([{"image_id": 1, "keypoints": [0] * n} for n in (51, 42)]),
         "skeleton-differs", ("entry 1", "coco-17", "14")),
        ("a.json", json.dumps([{"image_id": 1, "keypoints": [0] * 51, "frame": 0, "time": None,
                                "score": 1, "bbox": [0, 0, 1, 1]}]), "results-invalid", ()),
        ("a.json", "[", "json-invalid", ("a.json",)),
        ("a.csv", "x,y\n1,2\n", "table-invalid", ("a.csv",)),
        ("a.csv", "", "table-invalid", ("found none",)),
        ("a.jsonl", "{}\n", "record-invalid", ("a.jsonl",)),
        ("a.parquet", "no", "table-invalid", ("a.parquet",)),
    ],
)  # fmt: skip
def test_foreign_files_are_named(
    tmp_path: Path, name: str, content: str, code: str, mentions: tuple[str, ...]
) -> None:
    (tmp_path / name).write_text(content)
    check_refusal(run(tmp_path / name, "--out", tmp_path / "out"), code, *mentions)


@pytest.mark.parametrize(
    ("key", "value", "mention"),
    [
        ("keypoints", [1e300] * 51, "1,000,000 pixels"),
        ("covariance", [-1.0, 0.0, 1.0] * 17, "nose"),
        ("covariance", [1.0, 5.0, 1.0] * 17, "nose"),
        ("covariance", [1.0, 2.0, 1.0], "(1, 17, 2, 2)"),
    ],
)
def test_impossible_numbers_are_refused(
    tmp_path: Path, key: str, value: list[float], mention: str
) -> None:
    path = write_results(tmp_path, xy=truth()[:4])[".jsonl"]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[3]["persons"][0][key] = value
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    done = run(path, "--out", tmp_path / "out")
    check_refusal(done, "results-invalid", "walk.jsonl", "frame 2", mention)
    assert not (tmp_path / "out").exists()


def test_a_table_that_ends_within_a_row_is_refused(tmp_path: Path) -> None:
    path = write_results(tmp_path, xy=truth()[:2])[".csv"]
    path.write_text(path.read_text().rsplit(",", 6)[0])
    check_refusal(run(path, "--out", tmp_path / "out"), "table-invalid", "row 34", "cells")


def test_results_without_entries_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    done = run(tmp_path / "a.json", "--out", tmp_path / "out")
    check_refusal(done, "persons-missing", "a.json")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.filterwarnings("error")
def test_persons_in_few_frames_are_measured(tmp_path: Path, frames: int) -> None:
    path = write_results(tmp_path, xy=truth()[:frames], sigma=None)[".jsonl"]
    done = run(path, "--out", tmp_path / "out", "--repetitions", "knee_left")
    assert done.exit_code == 0, done.output
    assert len(rows(tmp_path / "out")) == frames * len(default_measures(COCO_17))


def test_a_record_that_was_cut_off_is_measured_and_named(tmp_path: Path) -> None:
    path = write_results(tmp_path, xy=truth()[:3])[".jsonl"]
    path.write_text("\n".join(path.read_text().splitlines()[:-2]))
    done = run(path, "--out", tmp_path / "out", "--json")
    assert [each["complete"] for each in summary(done)["recordings"]] == [False]
    assert "cut off" in done.stderr


def test_clips_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        paths.append(write_results(tmp_path / name, xy=truth()[:3])[".jsonl"])
    done = run(*paths, paths[0], "--out", tmp_path / "out", "--only", "trunk")
    assert done.exit_code == 0, done.output
    assert [row["file"] for row in rows(tmp_path / "out")] == [
        f"{path}: walk.mp4" for path in paths for _ in range(3)
    ]


def test_times_that_go_back_are_refused(tmp_path: Path) -> None:
    path = write_results(tmp_path)[".json"]
    entries = json.loads(path.read_text())
    entries[5]["time"] = 0.0
    path.write_text(json.dumps(entries))
    check_refusal(run(path, "--out", tmp_path / "out"), "results-invalid", "frame 5", "walk.mp4")


def test_clips_of_different_rates_are_refused(tmp_path: Path) -> None:
    first, second = (write_results(tmp_path, name, rate)[".jsonl"]
                     for name, rate in (("a", 30.0), ("b", 50.0)))  # fmt: skip
    done = run(first, second, "--out", tmp_path / "out")
    check_refusal(done, "rates-differ", "b.mp4", "50", "30", "a.mp4")
    assert run(first, "--out", tmp_path / "out").exit_code == 0


def test_meters_in_a_definition_need_a_scale(tmp_path: Path, results: dict[str, Path]) -> None:
    mine = tmp_path / "my.yaml"
    mine.write_text("measures: {leg: {length: [left_hip, left_ankle], unit: m}}")
    given = (results[".jsonl"], "--definitions", mine, "--out", tmp_path / "out")
    check_refusal(run(*given), "scale-missing", str(mine), "measures.leg", "walk.mp4")
    assert run(*given, "--height", 1.8).exit_code == 0
    mine.write_text("measures: {step: {distance: [left_ankle, right_ankle], plane: ground}}")
    done = run(*given, "--height", 1.8, "--overwrite")
    check_refusal(done, "scale-missing", "measures.step", "ground")


def test_the_shipped_definitions_can_be_edited(tmp_path: Path, results: dict[str, Path]) -> None:
    printed = run("--print-definitions")
    assert printed.exit_code == 0
    mine = tmp_path / "my.yaml"
    mine.write_text(printed.stdout)
    # The file names keypoints of feet, which this skeleton does not have: that is said.
    check_refusal(run(results[".jsonl"], "--definitions", mine, "--out", tmp_path / "a"),
                  "keypoint-unknown", "measures.ankle_left", "left_heel")  # fmt: skip
    lines = printed.stdout.splitlines(keepends=True)
    mine.write_text("".join(line for line in lines if not line.startswith("  ankle_")))
    assert run(results[".jsonl"], "--definitions", mine, "--out", tmp_path / "a").exit_code == 0
    assert run(results[".jsonl"], "--out", tmp_path / "b").exit_code == 0
    assert (tmp_path / "a" / "measures.csv").read_text() == (
        tmp_path / "b" / "measures.csv"
    ).read_text()


def test_nothing_is_replaced_unasked(tmp_path: Path, results: dict[str, Path]) -> None:
    given = (results[".jsonl"], "--out", tmp_path, "--only", "trunk")
    assert run(*given).exit_code == 0
    before = (tmp_path / "measures.csv").read_bytes()
    check_refusal(run(*given), "overwrite-refused", "measures.csv")
    assert run(*given, "--overwrite").exit_code == 0
    assert (tmp_path / "measures.csv").read_bytes() == before
    mine = tmp_path / "measures.csv"
    check_refusal(run(mine, "--out", tmp_path, "--overwrite"), "overwrite-refused")


def test_the_page_is_one_file_that_asks_nobody(tmp_path: Path, results: dict[str, Path]) -> None:
    assert run(results[".jsonl"], "--out", tmp_path, "--repetitions", "knee_left").exit_code == 0
    page = (tmp_path / "measures.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert page.count('class="chart"') >= 14
    assert 'class="repetition"' in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert len(data[0]["times"]) == len(truth())
    assert data[0]["wh"] == list(SIZE_WH)


def test_names_are_escaped_on_the_page(tmp_path: Path) -> None:
    path = write_results(tmp_path, "<script>x")[".jsonl"]
    assert run(path, "--out", tmp_path / "out").exit_code == 0
    page = (tmp_path / "out" / "measures.html").read_text()
    assert "<script>x" not in page
    assert "&lt;script&gt;x.mp4" in page


def test_a_camera_takes_out_the_lens(tmp_path: Path, results: dict[str, Path]) -> None:
    camera = tmp_path / "camera.json"
    about = {"format": "hrpose-camera", "image_wh": list(SIZE_WH), "rms": 0.1, "views": 5,
             "matrix": [[900, 0, 640], [0, 900, 240], [0, 0, 1]], "distortion": [0] * 5,
             "plane": [[0.01, 0, 0], [0, 0.01, 0], [0, 0, 1]], "ground": None}  # fmt: skip
    camera.write_text(json.dumps(about))
    plain = hrpose.measure(results[".jsonl"]).summary()
    planar = hrpose.measure(results[".jsonl"], camera=camera).summary()
    for before, after in zip(plain, planar, strict=True):
        if before.median is None:  # seen from the side, shoulders and hips are one above the other
            continue
        factor = 1.0 if before.unit == "deg" else 0.01
        assert after.median == pytest.approx(before.median * factor, rel=1e-4, abs=1e-6)
        assert after.half_interval == pytest.approx(before.half_interval * factor, rel=1e-2)
        assert after.unit == before.unit.replace("px", "m")
    camera.write_text(json.dumps({**about, "image_wh": [640, 480]}))
    given = (results[".jsonl"], "--camera", camera, "--out", tmp_path / "out")
    check_refusal(run(*given), "camera-differs", "640x480", "1280x480", "walk.mp4")
    camera.write_text(json.dumps({**about, "matrix": [[1]]}))
    check_refusal(run(*given), "camera-invalid", str(camera))


def test_short_segments_are_flagged(tmp_path: Path) -> None:
    for sigma, share in ((18.0, 0.0), (40.0, 1.0)):  # of each end of about 70 pixels
        path = write_results(tmp_path, sigma=sigma)[".jsonl"]
        measured = hrpose.measure(path, only=["thigh_left", "trunk_length"])
        thigh, trunk = measured.summary()
        assert thigh.short == pytest.approx(share, abs=0.1)
        assert trunk.short < 0.1
        assert np.isfinite(measured.series[0].high).all()
