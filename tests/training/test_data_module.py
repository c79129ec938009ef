"""Invalid data is refused before a training starts."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hrpose
from conftest import ROOT
from hrpose.data.images import ImageFiles
from hrpose.data.packed import PackSettings, write_pack
from hrpose.evaluation.evaluate import Evaluator
from hrpose.evaluation.predictions import predict
from hrpose.synthetic import write_dataset
from hrpose.training import data_module
from hrpose.training.data_module import PoseData, shared_memory_bytes
from hrpose.training.recipe import Recipe, load_recipe
from refusals import refused


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe(ROOT / "recipes" / "synthetic.yaml", ["training.samples_per_epoch=null"])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for seed, part in enumerate(("train", "val")):
        write_dataset(tmp_path / part, 3, seed)
    return tmp_path


def test_good_data_is_read(recipe: Recipe, data: Path) -> None:
    loaded = PoseData(recipe, data)
    persons = len(loaded.train_table)
    # Fewer persons than a batch: one batch of all of them.
    (batch,) = loaded.train_dataloader()
    assert batch.image.shape == (persons, 128, 96, 3)
    assert sum(len(b.image) for b in loaded.val_dataloader()) == len(loaded.val_table)


@pytest.mark.parametrize(("drop", "sizes"), [("true", [2, 2]), ("false", [2, 2, 1])])
def test_a_last_batch_that_is_not_full(data: Path, drop: str, sizes: list[int]) -> None:
    overrides = ("training.batch_size=2", "training.samples_per_epoch=5", "training.workers=0")
    recipe = load_recipe(
        ROOT / "recipes" / "synthetic.yaml", [*overrides, f"training.drop_last={drop}"]
    )
    assert [len(batch.image) for batch in PoseData(recipe, data).train_dataloader()] == sizes


def validated_on(recipe: Recipe, boxes: str) -> Recipe:
    changes = {"boxes": boxes, "detector": "builtin", "box_threshold": 0.2}
    return recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update=changes)})


def test_the_boxes_of_a_detector_are_those_of_evaluate(recipe: Recipe, data: Path) -> None:
    loaded = PoseData(validated_on(recipe, "detector"), data)
    estimator = hrpose.load("w16-small", detector="builtin", box_threshold=0.2)
    source = ImageFiles(data / "val" / "images")
    found = predict(estimator, loaded.val_table, None, source).instances
    assert len(found) > 0
    for one, other in (
        (loaded.instances.image_index, found.image_index),
        (loaded.instances.boxes, found.boxes),
        (loaded.instances.box_scores, found.box_scores),
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert sum(len(b.image) for b in loaded.val_dataloader()) == len(found)
    assert [name for name, _, _ in loaded.parts()][2:] == ["validation boxes"]


def test_a_file_without_boxes_is_refused(recipe: Recipe, data: Path) -> None:
    (data / "none.json").write_text("[]")
    with refused("boxes-invalid", "none.json", "found 0"):
        PoseData(validated_on(recipe, "none.json"), data)
    with refused("boxes-invalid", "ground-truth", "found 'groundtruth'"):
        PoseData(validated_on(recipe, "groundtruth"), data)


def edited(path: Path, edit: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_missing_images_are_counted_and_one_is_named(recipe: Recipe, data: Path) -> None:
    (data / "train" / "images" / "000002.jpg").unlink()
    with refused("images-missing", "1 of 3", "000002.jpg"):
        PoseData(recipe, data)


def test_a_missing_folder(recipe: Recipe, data: Path) -> None:
    (data / "val" / "images").rename(data / "val" / "elsewhere")
    with refused("images-missing", "val/images"):
        PoseData(recipe, data)


def test_no_persons(recipe: Recipe, data: Path) -> None:
    edited(data / "val" / "annotations.json", lambda content: content.update(annotations=[]))
    with refused("labels-missing", "val/annotations.json"):
        PoseData(recipe, data)


def test_two_different_skeletons(recipe: Recipe, data: Path) -> None:
    def rename(content: dict) -> None:  # type: ignore[type-arg]
        content["categories"][0]["keypoints"][0] = "beak"

    edited(data / "val" / "annotations.json", rename)
    with refused("keypoints-differ", "beak"):
        PoseData(recipe, data)


def test_the_shared_memory_of_the_workers_is_checked(
    recipe: Recipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_workers(count: int, **changes: Any) -> Recipe:
        training = recipe.training.model_copy(update={"workers": count, **changes})
        return recipe.model_copy(update={"training": training})

    tables = (loaded := PoseData(recipe, data)).train_table, loaded.val_table
    largest = max(map(len, tables))
    image = 96 * 128 * 3
    assert shared_memory_bytes(with_workers(0), tables) == 0
    for workers in (1, 4):
        need = shared_memory_bytes(with_workers(workers), tables)
        batches = 2 * workers + 2
        assert batches * largest * image < need < 1.02 * batches * largest * image
    # Images of 320 x 240 that are not warped yet are padded to multiples of 32.
    whole = shared_memory_bytes(with_workers(1, warp_on_device=True, batch_size=8), tables)
    assert whole > 4 * 8 * int(tables[0].image_wh.max(axis=0).prod()) * 3
    free = [10**9]
    usage = SimpleNamespace(disk_usage=lambda path: SimpleNamespace(free=free[0]))
    monkeypatch.setattr(data_module, "shutil", usage)
    monkeypatch.setattr(data_module, "SHARED_MEMORY", tmp_path)
    PoseData(with_workers(4), data)
    free[0] = 1000
    with refused("shared-memory-small", str(tmp_path), "--shm-size", "training.workers=0"):
        PoseData(with_workers(4), data)
    PoseData(with_workers(0), data)


def test_the_metric_is_computed_before_the_training(
    recipe: Recipe, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[float] = []
    metrics = Evaluator.metrics

    def spy(self: Evaluator, *given: Any) -> dict[str, float]:
        measured.append(metrics(self, *given)["AP"])
        return {"AP": measured[-1] if len(measured) < 2 else -1.0}

    monkeypatch.setattr(Evaluator, "metrics", spy)
    PoseData(recipe, data)
    assert measured == pytest.approx([1])
    with refused("metric-unavailable", "val/annotations.json", "AP"):
        PoseData(recipe, data)


def test_a_pack_must_hold_what_the_recipe_draws(data: Path) -> None:
    for part, reach in (("train", 1.6), ("val", 1.0)):
        settings = PackSettings(height=128, reach=reach)
        folder = data / part
        *_, _ = write_pack(folder / "annotations.json", folder / "images", folder / "p", settings)
    packs = ["data.train.images=train/p", "data.val.images=val/p"]
    # Validation has no rotation or shift, so its pack needs no margin.
    PoseData(load_recipe(ROOT / "recipes" / "synthetic.yaml", packs), data)
    recipe = load_recipe(ROOT / "recipes" / "synthetic.yaml", [*packs, "augmentation.shift=0.2"])
    with refused("pack-unsuitable", "train/p", "--reach 2.35"):
        PoseData(recipe, data)
    boxes = ["evaluation.boxes=detector", "evaluation.detector=builtin"]
    recipe = load_recipe(ROOT / "recipes" / "synthetic.yaml", [*packs, *boxes])
    with refused("pack-unsuitable", "evaluation.boxes", "val/p"):
        PoseData(recipe, data)


def test_a_file_completes_the_skeleton(recipe: Recipe, data: Path) -> None:
    def rename(content: dict) -> None:  # type: ignore[type-arg]
        content["categories"][0]["keypoints"] = [f"p{i}" for i in range(17)]

    for part in ("train", "val"):
        edited(data / part / "annotations.json", rename)
    (data / "horse.yaml").write_text("flip_pairs: [[p1, p2], [p4, p3]]\nupper_body: [p0, p1]")
    with_skeleton = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"skeleton": Path("horse.yaml")})}
    )
    loaded = PoseData(with_skeleton, data)
    assert loaded.train_table.skeleton == loaded.val_table.skeleton
    assert loaded.train_table.skeleton.flip_permutation[:6].tolist() == [0, 2, 1, 4, 3, 5]
    assert loaded.train_table.skeleton.upper_body == (0, 1)
    assert PoseData(recipe, data).train_table.skeleton.flip_pairs == ()
