"""Files of several categories with keypoints: data commands ask for one, or take all."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hrpose.cli.main import app
from hrpose.synthetic import ANIMAL, write_dataset
from refusals import check_refusal

COMMANDS = {
    "check": ("{a}", "--images", "{i}", "--ignore", "keypoint-outside-box"),
    "preview": ("{a}", "--images", "{i}", "--out", "{o}/page.html"),
    "pack": ("{a}", "--images", "{i}", "--out", "{o}/pack", "--workers", "1"),
    "sigmas": ("{a}", "{a}"),
    "skeleton": ("{a}",),
    "stats": ("{a}",),
    "split": ("{a}", "--out", "{o}/parts", "--parts", "one=0.5,two=0.5"),
    "subset": ("{a}", "--out", "{o}/subset"),
    "merge": ("{a}", "{a}", "--out", "{o}/merged"),
    "convert coco": ("{a}", "--out", "{o}/converted"),
    "convert to-yolo": ("{a}", "--out", "{o}/yolo"),
    "convert to-cvat": ("{a}", "--out", "{o}/cvat"),
    "convert to-label-studio": ("{a}", "--out", "{o}/label-studio"),
}


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn animals of three categories, two of which have one name."""
    folder = tmp_path_factory.mktemp("several")
    annotations = write_dataset(folder, images=6, seed=1, figure=ANIMAL)
    document = json.loads(annotations.read_bytes())
    (category,) = document["categories"]
    names = ("dog", "cat", "cat")
    document["categories"] = [{**category, "id": i, "name": n} for i, n in enumerate(names, 1)]
    for row, entry in enumerate(document["annotations"]):
        entry["category_id"] = 1 + row % 3
    annotations.write_text(json.dumps(document))
    return annotations


def run(command: str, annotations: Path, out: Path, *options: str) -> Result:
    places = {"a": annotations, "i": annotations.parent / "images", "o": out}
    arguments = [text.format(**places) for text in COMMANDS[command]]
    return CliRunner().invoke(app, ["data", *command.split(), *arguments, *options])


# A pack starts processes.
@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "pack"])
def test_one_category_or_all(several: Path, tmp_path: Path, command: str) -> None:
    check_refusal(run(command, several, tmp_path), "category-unknown", "'dog'", "'cat' (id 3)")
    check_refusal(run(command, several, tmp_path, "--category", "cat"), "category-unknown", "cat")
    for place, options in enumerate((("--category", "dog"), ("--category", "3"), ())):
        out = tmp_path / str(place)
        out.mkdir()
        done = run(command, several, out, *(options or ("--merge-categories",)))
        assert done.exit_code == 0, (done.output, done.exception)


def test_merged_categories_are_written_as_one(several: Path, tmp_path: Path) -> None:
    total = len(json.loads(several.read_bytes())["annotations"])
    for command, file in (("subset", "subset"), ("convert coco", "converted"), ("pack", "pack")):
        done = run(command, several, tmp_path, "--merge-categories")
        assert done.exit_code == 0, done.output
        written = json.loads((tmp_path / file / "annotations.json").read_bytes())
        (category,) = written["categories"]
        assert len(written["annotations"]) == total
        assert {a["category_id"] for a in written["annotations"]} == {category["id"]}
