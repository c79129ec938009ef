"""What commands say: the JSON summary, --quiet, --verbose, tables and progress."""

import io
import json
import logging
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from hrpose.cli import console
from hrpose.cli.main import app
from hrpose.errors import UserError
from hrpose.synthetic import write_dataset
from refusals import check_refusal
from tiny_weights import write_tiny_weights

ROOT: Any = get_command(app)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("console")
    write_dataset(folder / "set", 3, seed=1)
    write_tiny_weights(folder / "tiny.onnx")
    return folder


@dataclass(frozen=True)
class Ran:
    exit_code: int
    stdout: str
    stderr: str


def hrpose(*words: object) -> Ran:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            ROOT([str(word) for word in words], "hrpose")
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        except UserError:  # `main` prints it
            code = console.NOT_DONE
    return Ran(code, out.getvalue(), err.getvalue())


def predict(folder: Path, data: Path, *more: object, images: int = 2, bad: int = 1) -> Ran:
    """`hrpose predict` on a folder with good and bad images, and a text file."""
    folder.mkdir()
    for number in range(images):
        Image.new("RGB", (48, 64), (9 * number, 90, 9)).save(folder / f"good-{number}.png")
    for number in range(bad):
        (folder / f"bad-{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "notes.txt").write_text("notes")
    weights = ("--weights", data / "tiny.onnx", "--detector", "none")
    return hrpose("predict", folder, "--out", folder / "out", *weights, *more)


def declared(*path: str) -> set[str]:
    command = ROOT
    for name in path:
        command = command.commands[name]
    return command.callback.keys.keys() | console.COMMON_KEYS.keys()


def test_the_summary_is_all_that_standard_output_gets(data: Path, tmp_path: Path) -> None:
    done = predict(tmp_path / "a", data, "--json")
    summary = json.loads(done.stdout)
    assert summary.keys() == declared("predict")
    assert (summary["exit_code"], done.exit_code) == (1, 1)
    assert (summary["images"], summary["persons"], summary["failed"]) == (2, 2, 1)
    assert summary["skipped"] == {"text file": 1}
    assert [Path(file).name for file in summary["files"]] == [
        "poses.json", "good-0.png", "good-1.png"
    ]  # fmt: skip
    (error,) = summary["errors"]
    assert error.keys() == {"code", "message"}
    assert "bad-0.png" in error["message"]
    assert summary["warnings"] == ["skipped: 1 text file"]
    assert "2 images, 2 persons" in done.stderr


@pytest.mark.parametrize(
    "words",
    [("data", "stats", "{set}/annotations.json"), ("data", "skeleton", "{set}/annotations.json"),
     ("data", "check", "{set}/annotations.json", "--images", "{set}/images"),
     ("data", "synthetic", "--out", "{out}", "--count", "1"), ("weights", "path", "w16-small"),
     ("weights", "list"), ("weights", "verify"),
     ("data", "subset", "{set}/annotations.json", "--out", "{out}"),
     ("data", "convert", "to-cvat", "{set}/annotations.json", "--out", "{out}"),
     ("data", "convert", "coco", "{set}/annotations.json", "--out", "{out}")],
    ids=" ".join,
)  # fmt: skip
def test_a_summary_has_the_declared_keys(
    data: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    places = {"set": data / "set", "out": tmp_path / "out"}
    done = hrpose(*(word.format(**places) for word in words), "--json")
    summary = json.loads(done.stdout)
    path = words[: 3 if words[1] == "convert" else 2]
    assert summary.keys() == declared(*path)
    assert summary["command"] == " ".join(path)


def test_a_key_that_is_not_declared_is_an_error() -> None:
    with console.speaking("x", {"a": ""}, False, False, False, {}):
        console.conclude(a=1)
        with pytest.raises(KeyError):
            console.conclude(b=1)


def test_what_json_has(capsys: pytest.CaptureFixture[str]) -> None:
    with console.speaking("x", {"a": ""}, False, True, False, {}):
        console.conclude(
            a=[Path("b"), np.float32(0.5), float("nan"), {"c": np.arange(2)}, "\udcff"]
        )
    found = json.loads(capsys.readouterr().out)["a"]
    assert found[:4] == ["b", 0.5, None, {"c": [0, 1]}]
    found[4].encode("utf-8")


def test_quiet_leaves_errors(data: Path, tmp_path: Path) -> None:
    done = predict(tmp_path / "a", data, "--quiet")
    (line,) = done.stderr.splitlines()
    assert "bad-0.png" in line
    assert done.stdout == ""
    done = predict(tmp_path / "b", data, "-q", "--json", bad=0)
    assert done.stderr == ""
    assert json.loads(done.stdout)["images"] == 2


def test_verbose_adds_what_was_chosen_logs_and_times(data: Path, tmp_path: Path) -> None:
    done = predict(tmp_path / "a", data, "--verbose", images=7, bad=0)
    assert f"weights={data / 'tiny.onnx'}" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("exit code 0")
    assert sum(line.startswith("good-") for line in done.stdout.splitlines()) == 7
    before = logging.getLogger().level
    done = hrpose("data", "stats", tmp_path / "none.json", "-v")
    assert "Traceback" in done.stderr
    assert logging.getLogger().level == before


def test_up_to_five_images_have_rows(data: Path, tmp_path: Path) -> None:
    rows = predict(tmp_path / "few", data, images=2).stdout.splitlines()
    assert [row.split()[:2] for row in rows[:4]] == [
        ["image", "persons"], ["bad-0.png", "-"], ["good-0.png", "1"], ["good-1.png", "1"]
    ]  # fmt: skip
    (line,) = predict(tmp_path / "many", data, images=7, bad=0).stdout.splitlines()
    assert line.startswith("7 images, 7 persons (detector: the full image) -> ")


def test_columns_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    console.table([("a.jpg", 3, "0.5"), ("\u56fe\u7247.jpg", 12, "")], "image", "persons", "scores")
    assert capsys.readouterr().out == (
        "image     persons  scores\n"
        "a.jpg           3  0.5\n"
        "\u56fe\u7247.jpg       12\n"
    )  # fmt: skip
    console.table([], "image")
    assert capsys.readouterr().out == ""


def test_more_errors_than_five_are_counted_by_kind(data: Path, tmp_path: Path) -> None:
    *errors, rest = predict(tmp_path / "a", data, bad=8).stderr.splitlines()[1:]
    assert len(errors) == 5
    kind = errors[0].rpartition("[")[2].rstrip("]")
    assert rest == f"hrpose: 3 more inputs failed: 3 {kind}; --verbose lists all"


def test_warnings_of_the_library_are_those_of_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with console.speaking("x", {}, False, True, False, {}):
        logging.getLogger("hrpose.video").warning("connected again")
    out, err = capsys.readouterr()
    assert json.loads(out)["warnings"] == ["connected again"]
    assert err == "hrpose: connected again\n"


def test_progress_without_a_terminal_is_a_line_each_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.progress("images") as show:
        for done in range(60, 101):  # 60 were done before
            show(done, 900, f"{done}.jpg")
            now[0] += 0.5
    assert capsys.readouterr().err.splitlines() == [
        "hrpose: images: 80 of 900, 2.0/s, 0:06:50 left, 80.jpg",
        "hrpose: images: 100 of 900, 2.0/s, 0:06:40 left, 100.jpg",
    ]


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    with console.progress("images") as show:
        show(3, 10, f"{'long-' * 20}name.jpg")
    shown = terminal.getvalue()
    assert "3/10" in shown
    assert "images/s" in shown
    assert "...-long-long" in shown
    assert "name.jpg" in shown


def test_a_sign_of_work_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert console.waiting("comparing", lambda: 7) == 7
    assert "comparing" in terminal.getvalue()
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    assert console.waiting("comparing", lambda: 7) == 7
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [(1, ("image",), "1 image"), (2000, ("image",), "2,000 images"),
     (0, ("box", "boxes"), "0 boxes"), (1, ("box", "boxes"), "1 box")],
)  # fmt: skip
def test_plurals(number: int, words: tuple[str, ...], expected: str) -> None:
    assert console.counted(number, *words) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        "analyze results.json --annotations val.json --images images",
        "measure clip.mp4",
        "quantize w16-small --annotations val.json --images images",
        "weights calibrate w16-small --annotations val.json --images images",
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(arguments: str, tmp_path: Path) -> None:
    """None of these inputs is there: nothing was read yet."""
    file = tmp_path / "file"
    file.touch()
    out = file if arguments.startswith("measure") else file / "out.onnx"
    check_refusal(CliRunner().invoke(app, [*arguments.split(), "--out", str(out)]), "write-failed")
