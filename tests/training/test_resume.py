"""What a resumed training may change: each setting takes effect, is recorded, or is refused."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from conftest import ROOT
from hrpose.metadata import Metadata, metadata_of, read_metadata
from hrpose.models.checkpoint import read_torch
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17
from hrpose.synthetic import write_dataset
from hrpose.training.data_module import PoseData
from hrpose.training.recipe import Recipe, load_recipe, write_recipe
from hrpose.training.resume import RunRecord, record_of, resumed
from refusals import refused
from trainings import Trainings

RECIPE = ROOT / "recipes" / "synthetic.yaml"
PARTS = {
    name: {"persons": 9, "labels": name, "images": name} for name in ("training", "validation")
}


def started(*overrides: str) -> RunRecord:
    return RunRecord(load_recipe(RECIPE, overrides), PARTS)


def metadata(record: RunRecord, skeleton: Skeleton = COCO_17) -> Metadata:
    recipe = record.recipe
    assert isinstance(recipe, Recipe)
    return Metadata(
        recipe.network, recipe.input_wh, skeleton, recipe.codec.codec(), recipe.data.padding
    )


def saved(out: Path, record: RunRecord, told: Metadata | None = None) -> Path:
    """A checkpoint of a training, after 120 steps."""
    entries = {Metadata.keys[0]: (told or metadata(record)).to_json(), **record.as_entries()}
    path = out / "last.ckpt"
    torch.save({**entries, "global_step": 120}, path)
    return path


def resume(path: Path, now: RunRecord, told: Metadata | None = None, **how: bool) -> RunRecord:
    return resumed(path, now, told or metadata(now), path.parent, **how)[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("training.epochs=9", "3 -> 9"),
        ("training.workers=2", "0 -> 2"),
        ("training.loggers=[csv]", "tensorboard"),
        ("training.precision=bf16", '"32" -> "bf16"'),
        ("optimizer.lr=1e-4", "0.002 -> 0.0001"),
        ("optimizer.weight_decay=0.1", "0.0 -> 0.1"),
        ("optimizer.name=adam", '"adamw" -> "adam"'),
        ("schedule.name=steps", '"cosine" -> "steps"'),
        ("data.train.images=elsewhere", '"train/images" -> "elsewhere"'),
        ("training.early_stopping=3", "null -> 3"),
    ],
)
def test_what_takes_effect_is_noted(tmp_path: Path, change: str, words: str) -> None:
    key, _, _ = change.partition("=")
    path, now = saved(tmp_path, started()), started(change)
    record, notes = resumed(path, now, metadata(now), tmp_path)
    assert record.recorded == ()
    (sentence,) = record.changes
    assert sentence.startswith(f"step 120: {key}: ")
    assert words in sentence
    assert any(sentence in note for note in notes)
    # The next start knows of it.
    assert resume(saved(tmp_path, record), now).changes == record.changes


@pytest.mark.parametrize(
    "change",
    [
        *("augmentation.scale=0.3", "loss.peak=0", "training.seed=1", "data.padding=1.5"),
        *("data.sampling={coco: 2}", "data.trust=true", "training.ema_decay=0.9"),
        *("evaluation.flip_test=true", "evaluation.metric=PCK", "evaluation.boxes=found.json"),
    ],
)
def test_what_makes_another_training_has_to_be_asked_for(tmp_path: Path, change: str) -> None:
    key, _, _ = change.partition("=")
    path, now = saved(tmp_path, started()), started(change)
    with refused("resume-mismatch", key, "->", "--resume-with-changes"):
        resume(path, now)
    record = resume(path, now, with_changes=True)
    assert record.recorded == record.changes
    assert record.recorded[0].startswith(f"step 120: {key}: ")
    assert record.new_validation == key.startswith("evaluation.")


@pytest.mark.parametrize(
    "change",
    [
        *("network=w32", "input_wh=[128, 160]", "codec.name=udp", "codec.sigma=2"),
        *("training.batch_size=4", "training.samples_per_epoch=9", "optimizer.layer_decay=0.9"),
        *("training.freeze_stem=true", "training.frozen_norms=true", "weights=w16-small"),
        "training.drop_last=false",
    ],
)
def test_what_fits_no_checkpoint_is_refused(tmp_path: Path, change: str) -> None:
    key, _, value = change.partition("=")
    path = saved(tmp_path, started())
    for with_changes in (False, True):
        with refused("resume-mismatch", key, f"-> {json.dumps(yaml.safe_load(value))}"):
            resume(path, started(change), with_changes=with_changes)


def test_another_order_of_keypoints_is_refused(tmp_path: Path) -> None:
    path, now = saved(tmp_path, started()), started()
    names = list(COCO_17.keypoints)
    names[1:3] = names[2:0:-1]
    for skeleton, mention in (
        (replace(COCO_17, keypoints=tuple(names)), "keypoint 2: left_eye -> right_eye"),
        (Skeleton("dot", ("a", "b")), "17 keypoints -> 2 keypoints"),
    ):
        with refused("resume-mismatch", "skeleton", mention):
            resume(path, now, metadata(now, skeleton), with_changes=True)
    # Left and right were exchanged in half of the images.
    unpaired = metadata(now, replace(COCO_17, flip_pairs=()))
    with refused("resume-mismatch", "flip_pairs", "--resume-with-changes"):
        resume(path, now, unpaired)
    (recorded,) = resume(path, now, unpaired, with_changes=True).recorded
    assert "flip_pairs" in recorded


def test_older_checkpoints_are_compared_with_the_recipe_beside(tmp_path: Path) -> None:
    now = started("training.epochs=9")
    path = tmp_path / "last.ckpt"
    torch.save({Metadata.keys[0]: metadata(now).to_json(), "global_step": 7}, path)
    record, (note,) = resumed(path, now, metadata(now), tmp_path)
    assert "not compared" in note
    assert record.changes == ()
    write_recipe(started().recipe, tmp_path / "recipe.yaml")
    assert resume(path, now).changes == ("step 7: training.epochs: 3 -> 9",)


def moved(document: dict[str, Any]) -> None:
    document["annotations"][0]["keypoints"][0] += 1


def dropped(document: dict[str, Any]) -> None:
    del document["annotations"][0]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for seed, part in enumerate(("train", "val")):
        write_dataset(folder / part, 4, seed)
    return folder


@pytest.mark.parametrize(("edit", "part"), [(moved, "train"), (dropped, "val")])
def test_other_labels_are_found(
    data: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], None], part: str
) -> None:
    recipe = load_recipe(RECIPE)
    before = record_of(recipe, PoseData(recipe, data).parts())
    document = json.loads((data / part / "annotations.json").read_text())
    edit(document)
    (data / part / "edited.json").write_text(json.dumps(document))
    other = load_recipe(RECIPE, [f"data.{part}.annotations={part}/edited.json"])
    now = record_of(other, PoseData(other, data).parts())
    name = {"train": "training", "val": "validation"}[part]
    path = saved(tmp_path, before)
    with refused("resume-mismatch", f"{name} data: labels of", "persons"):
        resume(path, now)
    record = resume(path, now, with_changes=True)
    assert [s for s in record.changes if s not in record.recorded] == [
        f'step 120: data.{part}.annotations: "{part}/annotations.json" -> "{part}/edited.json"'
    ]
    assert record.new_validation == (part == "val")


def test_other_images_are_found(data: Path, tmp_path: Path) -> None:
    recipe = load_recipe(RECIPE)
    path = saved(tmp_path, record_of(recipe, PoseData(recipe, data).parts()))
    image = next((data / "train" / "images").iterdir())
    content = image.read_bytes()
    try:
        image.write_bytes(content + b"\0")
        now = record_of(recipe, PoseData(recipe, data).parts())
        with refused("resume-mismatch", "training data: images of"):
            resume(path, now)
    finally:
        image.write_bytes(content)
    assert resume(path, record_of(recipe, PoseData(recipe, data).parts())).changes == ()


def rates(out: Path) -> list[float]:
    """The learning rate of each epoch, of all starts."""
    found = []
    for log in sorted(out.glob("csv/*/metrics.csv")):
        with log.open() as file:
            rows = list(csv.DictReader(file))
        found += [float(row["train/lr_epoch"]) for row in rows if row["train/lr_epoch"]]
    return found


@pytest.mark.slow
def test_changes_take_effect_and_are_written_down(
    data: Path, trainings: Trainings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    few = ("training.samples_per_epoch=8", "schedule.name=steps", "schedule.warmup_steps=0")
    assert trainings.run(data, out, *few, "training.epochs=1").code == 0

    slower = (*few, "training.epochs=2", "optimizer.lr=1e-4", "optimizer.weight_decay=0.1")
    slower = (*slower, "optimizer.name=adam")
    ended = trainings.run(data, out, *slower, resume=True)
    assert ended.code == 0, ended.output
    assert "changed from step 2: optimizer.lr: 0.002 -> 0.0001" in ended.output
    assert rates(out) == pytest.approx([2e-3, 1e-4])
    last = read_torch(out / "checkpoints" / "last.ckpt")
    (group,) = last["optimizer_states"][0]["param_groups"]
    assert (group["lr"], group["initial_lr"], group["weight_decay"]) == (1e-4, 1e-4, 0.1)
    assert not group["decoupled_weight_decay"]
    text = (out / "recipe.yaml").read_text()
    assert "# step 2: optimizer.lr: 0.002 -> 0.0001\n" in text
    assert yaml.safe_load(text)["optimizer"]["lr"] == 1e-4

    jittered = (*slower, "training.epochs=3", "augmentation.shift=0.1")
    ended = trainings.run(data, out, *jittered, resume=True)
    assert ended.code == 2, ended.output
    assert "[resume-mismatch]" in ended.output
    assert "augmentation.shift: 0.0 -> 0.1" in ended.output
    assert (out / "recipe.yaml").read_text() == text
    ended = trainings.run(data, out, *jittered, resume_with_changes=True)
    assert ended.code == 0, ended.output
    weights = metadata_of(out / "synthetic.safetensors", Metadata)
    assert weights.changes == ("step 4: augmentation.shift: 0.0 -> 0.1",)
    assert read_metadata(out / "synthetic.safetensors") == weights
