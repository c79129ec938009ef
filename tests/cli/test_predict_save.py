"""`hrpose predict --save ... --mark ... --side-by-side ...`: from its arguments to its files."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from hrpose.cli.main import app
from hrpose.data.coco import load_persons
from refusals import check_refusal
from tiny_weights import write_tiny_weights

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`hrpose predict image.jpg ...` into `out`, with tiny weights."""
    weights = write_tiny_weights(tmp_path / "tiny.onnx")
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((64, 80)).save(tmp_path / "photo.jpg")

    def run(*words: object, image: Path = tmp_path / "photo.jpg") -> Result:
        given = ["predict", image, "--weights", weights, "--out", tmp_path / "out"]
        given += ["--detector", "none", *words]
        return CliRunner().invoke(app, [str(word) for word in given])

    return run


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("save", "names"),
    [
        ("images,coco", ["photo.jpg", "poses.json"]),
        ("csv", ["poses.csv"]),
        (" parquet , csv", ["poses.csv", "poses.parquet"]),
        (
            "dataset",
            [
                "dataset/annotations/person_keypoints_default.json",
                "dataset/images/default/photo.jpg",
            ],
        ),
        ("images", ["photo.jpg"]),
    ],
)
def test_the_kinds_given_are_written_and_no_other(
    run: Run, tmp_path: Path, save: str, names: list[str]
) -> None:
    ran = run("--save", save)
    assert ran.exit_code == 0, ran.output
    assert names_in(tmp_path / "out") == sorted([*names, "poses.jsonl"])
    for name in names:
        if name not in ("photo.jpg", "dataset/images/default/photo.jpg"):
            assert Path(name).name in ran.output.replace("\n", "")


def test_the_formats_agree(run: Run, tmp_path: Path) -> None:
    assert run("--save", "coco,csv,dataset", "--threshold", 0.5).exit_code == 0
    out = tmp_path / "out"
    (entry,) = json.loads((out / "poses.json").read_text(encoding="utf-8"))
    with (out / "poses.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = np.array(entry["keypoints"]).reshape(17, 3)
    assert {row["file"] for row in rows} == {"photo.jpg"}
    places = [[float(row[name]) for name in ("x", "y", "score")] for row in rows]
    np.testing.assert_allclose(places, found, atol=6e-4)
    present = np.array([row["present"] == "true" for row in rows])
    np.testing.assert_array_equal(present, found[:, 2] >= 0.5)
    persons = load_persons(out / "dataset/annotations/person_keypoints_default.json")
    np.testing.assert_array_equal(persons.keypoints[0, :, 2] > 0, present)
    copied = out / "dataset/images/default/photo.jpg"
    assert copied.read_bytes() == (tmp_path / "photo.jpg").read_bytes()


def test_the_images_of_a_data_set_are_upright(run: Run, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40), (9, 90, 200)).save(tmp_path / "phone.jpg", exif=exif)
    assert run("--save", "dataset", image=tmp_path / "phone.jpg").exit_code == 0
    folder = tmp_path / "out/dataset/images/default"
    assert names_in(folder) == ["phone.jpg.png"]
    with Image.open(folder / "phone.jpg.png") as image:
        assert image.size == (40, 80)


def test_marks_are_drawn(run: Run, tmp_path: Path) -> None:
    drawn = {}
    for mark in ("", "boxes", "names", "ids,scores"):
        assert run("--mark", mark, "--threshold", 0, "--overwrite").exit_code == 0
        drawn[mark] = (tmp_path / "out/photo.jpg").read_bytes()
    assert len(set(drawn.values())) == 4


def test_another_models_poses_stand_beside(run: Run, tmp_path: Path) -> None:
    ran = run("--side-by-side", tmp_path / "tiny.onnx")
    assert ran.exit_code == 0, ran.output
    with Image.open(tmp_path / "out/photo.jpg") as drawn:
        assert drawn.width > 2 * 64
        assert drawn.height > 80


@pytest.mark.parametrize(
    ("option", "words", "expected"),
    [("--save", "csv,cvs", "images, coco, csv"), ("--mark", "hats", "boxes, ids, scores, names")],
)
def test_an_unknown_word_is_one_line(run: Run, option: str, words: str, expected: str) -> None:
    check_refusal(run(option, words), "option-invalid", option, expected, words.split(",")[-1])


@pytest.mark.parametrize("beside", [False, True])
def test_bodies_are_hidden_in_images(run: Run, tmp_path: Path, beside: bool) -> None:
    """Also beside those of another model."""
    options = ("--side-by-side", tmp_path / "tiny.onnx") if beside else ()
    image = tmp_path / "photo.png"
    Image.new("RGB", (64, 80), (200, 30, 30)).save(image)
    done = run("--hide", "bodies", "--threshold", 1, *options, image=image)
    assert done.exit_code == 0, done.output
    assert "--hide bodies: hidden in 1 of 1 image;" in done.stderr
    drawn = np.asarray(Image.open(tmp_path / "out" / "photo.png"))
    assert (drawn == 96).all(axis=2).sum() == 64 * 80 * (1 + beside)
