"""`hrpose finetune` and `hrpose.finetune`: from the shipped model to other keypoints."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import hrpose
from hrpose import weights
from hrpose.cli.main import app
from hrpose.data.coco import load_persons
from hrpose.metadata import Metadata, metadata_of
from hrpose.models import checkpoint, convert
from hrpose.synthetic import ANIMAL, write_dataset
from hrpose.training import train as train_module
from hrpose.training.data_module import PoseData
from hrpose.training.recipe import Data, DataSet, Recipe, load_recipe, write_recipe
from hrpose.training.train import fit_covariance, fitting_size, recipe_for
from refusals import check_refusal, refused
from tiny_weights import METADATA, write_tiny_weights

QUICK = [
    *("--set", "training.samples_per_epoch=8", "--set", "training.batch_size=4"),
    *("--set", "training.workers=0", "--set", "training.epochs=2"),
]


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("animals")
    for seed, part in enumerate(("train", "val")):
        write_dataset(folder / part, 4, seed, figure=ANIMAL)
    (folder / "animal.yaml").write_text("name: beast\nsigmas: 0.08\nupper_body: [nose, withers]\n")
    return folder


def recipe(folder: Path) -> Recipe:
    train, val = (
        DataSet(annotations=folder / part / "annotations.json", images=folder / part / "images")
        for part in ("train", "val")
    )
    found = convert.read(weights.find("w16-small"))
    persons = load_persons(train.annotations)
    return recipe_for("a", Path("w16-small"), found, Data(train=train, val=val), persons)


@pytest.mark.slow
def test_from_a_name_to_other_keypoints(animals: Path, tmp_path: Path) -> None:
    train, val = (str(animals / part / "annotations.json") for part in ("train", "val"))
    out = tmp_path / "beast"
    skeleton = str(animals / "animal.yaml")
    command = ["finetune", train, val, "--skeleton", skeleton, "--input-size", "64x64", *QUICK]
    done = CliRunner().invoke(app, [*command, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "nose, left_ear, right_ear" in done.stderr
    _, metadata = checkpoint.load(out / "beast.safetensors")
    assert metadata.skeleton.keypoints == ANIMAL.skeleton.keypoints
    assert metadata.skeleton.sigmas == (0.08,) * 9
    assert metadata.skeleton.upper_body == (0, 3)
    assert "research" in metadata.license
    # With sigmas the metric is AP.
    with (out / "csv" / "version_0" / "metrics.csv").open() as log:
        assert any(row.get("val/AP") for row in csv.DictReader(log))
    written = load_recipe(out / "recipe.yaml")
    assert (written.input_wh, written.training.epochs) == ((64, 64), 2)
    # `hrpose train` with the recipe gives the same weights.
    again = ["train", str(out / "recipe.yaml"), "--data", ".", "--out", str(tmp_path / "again")]
    assert CliRunner().invoke(app, again).exit_code == 0
    first, second = (
        checkpoint.load(path)[0].state_dict()
        for path in (out / "beast.safetensors", tmp_path / "again" / "beast.safetensors")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_recipe_is_sensible(animals: Path, tmp_path: Path) -> None:
    made = recipe(animals)
    assert made.network == "w16-small"
    assert made.codec.name == "udp"  # as the initial weights
    assert made.training.frozen_norms
    assert made.training.early_stopping is not None
    # The skeleton has no upper body.
    assert made.augmentation.half_body_probability == 0
    write_recipe(made, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == made


@pytest.mark.parametrize(
    ("wh", "size"),
    [
        ((50, 100), (128, 192)),
        ((100, 100), (128, 192)),
        ((130, 100), (192, 128)),
        ((300, 100), (256, 96)),
        ((100, 9000), (96, 256)),
        ((0, 100), (128, 192)),
    ],
)
def test_the_input_has_the_shape_of_the_boxes(wh: tuple[int, int], size: tuple[int, int]) -> None:
    assert fitting_size((128, 192), np.array([[0.0, 0, *wh]] * 3)) == size


def test_weights_know_how_uncertain_they_are(tmp_path: Path) -> None:
    """From the validation persons, where there are enough of them."""
    few = write_dataset(tmp_path / "few", 4, 1)
    many = write_dataset(tmp_path / "many", 40, 1)
    path = write_tiny_weights(tmp_path / "tiny.onnx")
    for annotations, fitted in ((few, False), (many, True)):
        part = DataSet(annotations=annotations, images=annotations.parent / "images")
        said = fit_covariance(path, Data(train=part, val=part))
        assert said.startswith("covariance of keypoints fitted" if fitted else "no covariance")
        metadata = metadata_of(path, Metadata)
        assert (metadata.covariance is not None) == fitted
        assert replace(metadata, covariance=None) == METADATA


def test_bad_input_writes_nothing(animals: Path, tmp_path: Path) -> None:
    train = animals / "train" / "annotations.json"
    for arguments, code, mention in (
        ([str(train), str(tmp_path / "no.json")], "file-unreadable", "no.json"),
        ([str(train), str(train), "--weights", "w99"], "weights-unknown", "w99"),
        ([str(train), str(train), "--set", "optimizer.lrr=1"], "recipe-invalid", "'lr'"),
    ):
        done = CliRunner().invoke(app, ["finetune", *arguments, "--out", str(tmp_path / "out")])
        check_refusal(done, code, mention)
        assert not (tmp_path / "out").exists()


def test_the_function_trains_what_the_command_does(
    animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val = (animals / part / "annotations.json" for part in ("train", "val"))
    called: list[tuple[Any, ...]] = []

    def record(
        recipe: Recipe, data: Path, out: Path, resume: bool, *given: Any, **how: Any
    ) -> Path:
        called.append((recipe, data, out, resume, len(given[-1]), how))
        return out / f"{recipe.name}.safetensors"

    monkeypatch.setattr(train_module, "train", record)
    skeleton, out = str(animals / "animal.yaml"), str(tmp_path / "beast")
    command = ["finetune", str(train), str(val), "--skeleton", skeleton, "--input-size", "64x96"]
    done = CliRunner().invoke(app, [*command, *QUICK, "--out", out, "--resume-with-changes"])
    assert done.exit_code == 0, done.output
    written = hrpose.finetune(
        train, str(val), out, skeleton=skeleton, input_size=(64, 96), overrides=QUICK[1::2],
        resume_with_changes=True,
    )  # fmt: skip
    assert written == tmp_path / "beast" / "beast.safetensors"
    assert called[0] == called[1]
    assert called[0][3] is True
    assert called[0][0].input_wh == (64, 96)


def test_the_function_refuses_what_the_command_does(animals: Path, tmp_path: Path) -> None:
    train, out = animals / "train" / "annotations.json", tmp_path / "out"
    with refused("file-unreadable", "no.json"):
        hrpose.finetune(train, tmp_path / "no.json", out)
    with refused("weights-unknown", "w99"):
        hrpose.finetune(train, train, out, weights="w99")
    with refused("recipe-invalid", "'lr'"):
        hrpose.finetune(train, train, out, overrides=["optimizer.lrr=1"])
    for size in ((100, 128), (0, 32), (64, 10**9)):
        with refused("option-invalid", "multiples of 32"):
            hrpose.finetune(train, train, out, input_size=size)
    assert not out.exists()


def test_annotations_to_train_on_are_parsed_once(
    animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, parsed = animals / "train" / "annotations.json", []
    content, loads = train.read_bytes(), json.loads
    monkeypatch.setattr(
        json, "loads", lambda text, **options: parsed.append(text) or loads(text, **options)
    )
    missing = str(tmp_path / "no.json")  # reported after the training data was loaded
    done = CliRunner().invoke(app, ["finetune", str(train), missing])
    check_refusal(done, "file-unreadable", "no.json")
    assert parsed.count(content) == 1


def test_no_persons_to_train_on(animals: Path, tmp_path: Path) -> None:
    document = json.loads((animals / "train" / "annotations.json").read_text())
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps({**document, "annotations": []}))
    done = CliRunner().invoke(
        app, ["finetune", str(empty), str(empty), "--images", str(animals / "train" / "images")]
    )
    check_refusal(done, "labels-missing", "empty.json")


def test_categories_with_the_same_keypoints_train_one_model(
    animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`train`, `finetune`, `evaluate` and `analyze` take the same options."""
    files = []
    for part in ("train", "val"):
        document = json.loads((animals / part / "annotations.json").read_text())
        (animal,) = document["categories"]
        names = enumerate(("cow", "dog"), 1)
        document["categories"] = [{**animal, "id": number, "name": name} for number, name in names]
        for row, person in enumerate(document["annotations"]):
            person["category_id"] = 1 + row % 2
        files.append(animals / part / "two.json")
        files[-1].write_text(json.dumps(document))
    command = ["finetune", *map(str, files), "--out", str(tmp_path / "out")]
    check_refusal(CliRunner().invoke(app, command), "category-unknown", "'cow', 'dog'")
    trained: list[Recipe] = []

    def train(recipe: Recipe, data: Path, out: Path, *given: Any, **how: Any) -> Path:
        trained.append(recipe)
        both = len(PoseData(recipe, data).train_table), len(PoseData(recipe, data).val_table)
        assert both[0] == len(given[-1])
        return out / f"{both}"

    monkeypatch.setattr(train_module, "train", train)
    together = [len(load_persons(animals / part / "annotations.json")) for part in ("train", "val")]
    done = CliRunner().invoke(app, [*command, "--merge-categories"])
    assert f"({together[0]}, {together[1]})" in done.stdout, done.output
    assert trained[0].data.merge_categories
    done = CliRunner().invoke(app, [*command, "--category", "dog"])
    assert done.exit_code == 0, done.output
    assert trained[1].data.category == "dog"
    write_recipe(trained[1], tmp_path / "recipe.yaml")
    check = ["train", str(tmp_path / "recipe.yaml"), "--data", ".", "--check"]
    dogs = load_recipe(tmp_path / "recipe.yaml")
    assert f"{len(PoseData(dogs, Path()).train_table)} persons" in invoke(*check)
    assert f"{together[0]} persons" in invoke(
        *check, "--merge-categories", "--set", "data.category=null"
    )


def invoke(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout
