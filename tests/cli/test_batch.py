"""`hrpose batch`: which options fit, its messages and its results."""

import csv
import io
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from batch_workers import jpeg, results
from hrpose.batch.job import read_rows
from hrpose.cli.main import app
from hrpose.errors import UserError
from hrpose.tables import write_csv
from tiny_weights import write_tiny_weights


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_tiny_weights(tmp_path / "tiny.onnx")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.jpg").write_bytes(jpeg(i))
    (folder / "bad.jpg").write_bytes(jpeg(9)[:400])
    return folder


def run(command: str, *arguments: object) -> Result:
    return CliRunner().invoke(app, [command, *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "mention"),
    [
        (["--address", "auto"], "--address"),
        (["--worker-gpus", 0], "--worker-gpus"),
        (["--weights", "none.onnx"], "none.onnx"),
        (["--detector", "nobody"], "nobody"),
    ],
)
def test_options_that_are_refused(
    images: Path, tmp_path: Path, arguments: list[object], mention: str
) -> None:
    ran = run("batch", images, *arguments, "--out", tmp_path / "out")
    assert isinstance(ran.exception, UserError)
    assert mention in str(ran.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments", [["--engine", "spark"], ["--boxes", "a.json"], ["--workers", 0], ["other"]]
)
def test_options_that_do_not_exist(images: Path, tmp_path: Path, arguments: list[object]) -> None:
    assert run("batch", images, *arguments, "--out", tmp_path / "out").exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_one_line(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("hrpose.batch.job", "hrpose.batch.run"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.delattr(name, raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    ran = run("batch", images, "--out", tmp_path / "out")
    assert str(ran.exception) == (
        "hrpose batch needs the package 'pyarrow', which is not installed; "
        "pip install 'hrpose[archives]'"
    )


def test_results_and_messages(
    images: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run, the second, others' options, and the same rows as the other tables have."""
    monkeypatch.chdir(tmp_path)
    # Relative, for workers start in folders of their own on other machines.
    same = ["images", "--workers", 1, "--out", "out", "--detector", "none"]
    same += ["--weights", "tiny.onnx"]
    first = run("batch", *same)
    assert first.exit_code == 1, first.output  # for bad.jpg
    assert "4 of 4 images (1 failed), 3 persons (detector: the full image)" in first.output
    assert "bad.jpg: damaged or cut off" in first.stderr
    rows = results(tmp_path / "out")
    assert [row["file"] for row in rows] == ["0.jpg", "1.jpg", "2.jpg", "bad.jpg"]
    assert [row["width"] for row in rows] == [64, 64, 64, None]
    assert [row["persons"] is None for row in rows] == [False, False, False, True]
    assert rows[0]["persons"][0]["box"] == [0, 0, 64, 48]
    job = json.loads((tmp_path / "out" / "job.json").read_bytes())
    assert job["place"] == str(images)
    assert {"weights_sha256", "metadata_sha256", "flip_test"} <= job["settings"].keys()

    second = run("batch", *same)
    assert (second.exit_code, second.stderr) == (1, "")
    assert "4 images already done (1 failed)" in second.output
    for other, mention in (
        (["--flip-test"], "flip_test False"),
        (["--weights", "w16-small"], "weights_sha256"),
        (["--partition", 2], "partition 250"),
        (["--threshold", 0.5], "threshold 0.3"),
    ):
        assert mention in str(run("batch", *same, *other).exception)

    plain = run("predict", "images", "--save", "csv", "--out", "csv", *same[-4:])
    assert plain.exit_code == 1  # for bad.jpg
    with (tmp_path / "csv" / "poses.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    found = io.BytesIO()
    write_csv(found, read_rows(tmp_path / "out"))
    rows_of_batch = list(csv.DictReader(found.getvalue().decode().splitlines()))
    for line in (*lines, *rows_of_batch):  # the reasons name the file as each command was given it
        line["reason"] = bool(line["reason"])
    assert rows_of_batch == lines
