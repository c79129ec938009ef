"""`hrpose predict --detector`: detected persons, the full image as the box, many files at once."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from hrpose.cli.main import app
from hrpose.errors import UserError
from hrpose.predict import inputs
from hrpose.predict.inputs import Failure, Prediction
from hrpose.predict.record import Record
from refusals import check_refusal
from tiny_detectors import scored_outputs, write_detector
from tiny_weights import write_tiny_weights

Run = Callable[..., Result]
# In images of 128 x 96, the input of 64 x 64 shows them at half their size.
PERSONS = [[4, 4, 20, 40], [30, 8, 50, 44]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_tiny_weights(folder / "tiny.onnx")
    write_detector(folder / "rtmdet.onnx", scored_outputs(PERSONS, [0.9, 0.5]))
    return folder


@pytest.fixture
def run(files: Path, tmp_path: Path) -> Run:
    def run(*arguments: object) -> Result:
        words = ["predict", *map(str, arguments), "--weights", str(files / "tiny.onnx")]
        return CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])

    return run


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return saved(tmp_path / "photo.png")


def saved(path: Path, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def entries(tmp_path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((tmp_path / "out" / "poses.json").read_bytes())
    return found


@pytest.mark.parametrize(
    ("more", "boxes"),
    [
        ([], [[8, 8, 32, 72], [60, 16, 40, 72]]),
        (["--box-threshold", "0.6"], [[8, 8, 32, 72]]),
        (["--box-threshold", "0.95"], []),
    ],
)
def test_persons_are_detected(
    run: Run, image: Path, files: Path, tmp_path: Path, more: list[str], boxes: list[Any]
) -> None:
    ran = run(image, "--detector", files / "rtmdet.onnx", *more)
    assert ran.exit_code == 0
    # Where nobody is found a line says what to do with images of one person.
    assert ("--detector full-image" in ran.stderr) is (not boxes)
    assert [entry["bbox"] for entry in entries(tmp_path)] == boxes
    empty = "" if boxes else " (1 without persons)"
    persons = "1 person " if len(boxes) == 1 else f"{len(boxes)} persons "
    assert f"1 image{empty}, {persons}(detector: rtmdet.onnx (RTMDet))" in ran.stdout


@pytest.mark.parametrize("detector", ["auto", "builtin"])
def test_an_image_without_persons_has_none(
    run: Run, image: Path, tmp_path: Path, detector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HRPOSE_HOME", str(tmp_path / "home"))
    ran = run(image, "--detector", detector)
    assert (ran.exit_code, entries(tmp_path)) == (0, [])
    assert "1 image (1 without persons), 0 persons (detector: builtin)" in ran.stdout
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["full-image", "none"])
def test_the_full_image_is_one_person_where_it_is_asked_for(
    run: Run, image: Path, tmp_path: Path, name: str
) -> None:
    assert run(image, "--detector", name).stderr == ""
    assert [entry["bbox"] for entry in entries(tmp_path)] == [[0, 0, 128, 96]]
    ran = run(image, "--detector", name, "--min-score", 1, "--overwrite")
    assert entries(tmp_path) == []
    assert "--min-score" in ran.stderr
    assert "--detector" not in ran.stderr
    ran = run(image, "--detector", name, "--box-threshold", 0.9, "--overwrite")
    check_refusal(ran, "option-conflict", name)


def test_poses_below_the_minimum_score_are_left_out(
    run: Run, image: Path, files: Path, tmp_path: Path
) -> None:
    def scores(*more: object) -> list[float]:
        assert run(image, "--detector", files / "rtmdet.onnx", "--overwrite", *more).exit_code == 0
        return [entry["score"] for entry in entries(tmp_path)]

    both = scores("--min-score", 0)
    assert len(both) == 2
    assert scores("--min-score", max(both)) == [max(both)]
    assert scores("--min-score", 1) == []


def test_refine_moves_the_boxes(run: Run, image: Path, files: Path, tmp_path: Path) -> None:
    assert run(image, "--detector", files / "rtmdet.onnx", "--refine").exit_code == 0
    closer = [entry["bbox"] for entry in entries(tmp_path)]
    assert len(closer) == 2
    assert closer != [[8, 8, 32, 72], [60, 16, 40, 72]]


@pytest.mark.parametrize(
    "words",
    [["--boxes", "b.json", "--detector", "none"], ["--boxes", "b.json", "--box-threshold", "0.5"]],
)
def test_given_boxes_replace_the_detector(run: Run, image: Path, words: list[str]) -> None:
    check_refusal(run(image, *words), "option-conflict", "--boxes", "--detector")


@pytest.mark.parametrize("option", ["--boxes", "--side-by-side"])
def test_options_for_images_conflict_with_clips(run: Run, tmp_path: Path, option: str) -> None:
    (tmp_path / "clip.mp4").touch()
    ran = run(tmp_path / "clip.mp4", option, "x")
    check_refusal(ran, "option-conflict", option, "clip.mp4")


def test_many_files_keep_their_order(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(20):
        saved(folder / f"{i:03d}.png", seed=i)
    for i in (7, 8, 19):
        (folder / f"{i:03d}.png").write_bytes(b"no image")
    ran = run(folder, "--detector", "none", "--batch-size", 3)
    assert ran.exit_code == 1
    good = [i for i in range(20) if i not in (7, 8, 19)]
    assert [entry["image_id"] for entry in entries(tmp_path)] == good
    lines = ran.stderr.splitlines()
    assert [line.split(":")[1].split("/")[-1] for line in lines] == [
        "007.png",
        "008.png",
        "019.png",
    ]
    # Each image has its own poses, not its neighbor's.
    (found,) = (entry for entry in entries(tmp_path) if entry["image_id"] == 13)
    run(folder / "013.png", "--detector", "none", "--overwrite")
    (expected,) = entries(tmp_path)
    np.testing.assert_allclose(found["keypoints"], expected["keypoints"], atol=1e-3)


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_results_so_far(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: signal.Signals
) -> None:
    files = [saved(tmp_path / f"{i}.png", seed=i) for i in range(6)]

    def interrupted(*given: Any) -> Iterator[Prediction | Failure]:
        work = predict_images(*given)
        yield next(work)
        signal.raise_signal(asked)
        yield from work

    predict_images = inputs.predict_images
    monkeypatch.setattr(inputs, "predict_images", interrupted)
    ran = run(*files, "--detector", "none", "--batch-size", 1)
    assert ran.exit_code == 128 + asked
    assert [entry["file_name"] for entry in entries(tmp_path)] == ["0.png", "1.png"]
    record = Record(tmp_path / "out" / "poses.jsonl")
    assert [entry.status for entry in record] == ["ok", "ok"]
    assert record.end is not None
    assert not record.end["complete"]
    assert "2 images" in ran.stdout


def test_an_error_saves_the_results_so_far(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [saved(tmp_path / f"{i}.png", seed=i) for i in range(3)]

    def full(*given: Any) -> Iterator[Prediction | Failure]:
        yield next(predict_images(*given))
        raise UserError("disk full", code="disk-full")

    predict_images = inputs.predict_images
    monkeypatch.setattr(inputs, "predict_images", full)
    ran = run(*files, "--detector", "none", "--batch-size", 1)
    check_refusal(ran, "disk-full")
    assert [entry["file_name"] for entry in entries(tmp_path)] == ["0.png"]


def test_an_image_too_large_for_its_format_is_reported(run: Run, tmp_path: Path) -> None:
    # The content is a PNG: a WebP would end at 16,383 pixels.
    wide = tmp_path / "wide.webp"
    Image.new("RGB", (16_400, 4)).save(wide, "PNG")
    ran = run(wide, saved(tmp_path / "small.png"), "--detector", "none")
    assert ran.exit_code == 1
    assert "wide.webp: an image of 16400 x 4 pixels" in ran.stderr
    assert [entry["file_name"] for entry in entries(tmp_path)] == ["wide.webp", "small.png"]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["poses.json", "poses.jsonl", "small.png"]


def test_the_library_detects_persons_too(files: Path, image: Path) -> None:
    import hrpose

    estimator = hrpose.load(files / "tiny.onnx", detector=files / "rtmdet.onnx", box_threshold=0.6)
    assert estimator(image).boxes.tolist() == [[8, 8, 32, 72]]
    own = hrpose.load(files / "tiny.onnx", detector=lambda pixels: [[1, 2, 30, 40, 0.5]])
    assert own(image).boxes.tolist() == [[1, 2, 30, 40]]
