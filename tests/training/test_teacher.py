"""Learning from a teacher: its keypoints in crops, targets, losses, the verdict, the metadata."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import ROOT
from foreign_pose import write_foreign_pose
from hrpose.codec import Codec
from hrpose.data.augmentation import Augmentation
from hrpose.data.coco import load_persons
from hrpose.data.dataset import Draw, PoseDataset, Sample, collate, open_cutouts
from hrpose.evaluation.compare import Difference
from hrpose.metadata import Metadata, metadata_of
from hrpose.skeletons import COCO_17
from hrpose.synthetic import write_dataset
from hrpose.training import teacher as teachers
from hrpose.training.recipe import Teacher, load_recipe
from hrpose.training.teacher import TeacherTargets, Verdict, centers, joined, unlabeled_persons
from hrpose.training.train import check
from refusals import refused
from tiny_weights import write_tiny_weights
from trainings import Trainings

SIZE, CODEC = (96, 128), Codec("udp", 1.5)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labeled persons in train and val, others without labels in boxes.json, and two teachers."""
    folder = tmp_path_factory.mktemp("data")
    for seed, (part, count) in enumerate((("train", 6), ("val", 4), ("more", 4))):
        write_dataset(folder / part, count, seed)
    document = json.loads((folder / "more" / "annotations.json").read_text())
    for person in document["annotations"]:
        person["keypoints"], person["num_keypoints"] = [0] * 51, 0
    (folder / "more" / "boxes.json").write_text(json.dumps(document))
    write_tiny_weights(folder / "tiny.onnx", Metadata("tiny", (48, 64), name="tiny", license="L"))
    write_foreign_pose(folder / "other.onnx", "simcc")
    return folder


@pytest.fixture(scope="module")
def batch(data: Path) -> Sample:
    """Augmented crops, mirrored and rotated ones among them."""
    table = load_persons(data / "train" / "annotations.json")
    cutouts = open_cutouts(data / "train" / "images", table)
    dataset = PoseDataset(table, cutouts, SIZE, augmentation=Augmentation(), unit_lengths=True)
    samples = [dataset[Draw(i % len(table), (0, i))] for i in range(12)]
    mirrored = [torch.linalg.det(sample.to_image[:, :2]) < 0 for sample in samples]
    assert any(mirrored)
    assert not all(mirrored)
    return collate(samples)


def knowing(data: Path, trust: float = 1.0, score: float = 1.0, **settings: Any) -> TeacherTargets:
    """A teacher that finds the labels; keypoints without a label are at (0, 0)."""
    table = load_persons(data / "train" / "annotations.json")
    found = np.concatenate(
        [
            table.keypoints[..., :2],
            np.full((len(table), 17, 1), score, np.float32),
            np.full((len(table), 17, 1), trust, np.float32),
        ],
        axis=-1,
    )
    return TeacherTargets(
        found.astype(np.float32), Teacher(weights=Path("tiny"), **settings), COCO_17
    )


def encoded(batch: Sample) -> tuple[Tensor, Tensor]:
    targets, weights = CODEC.encode(batch.points, batch.visible, SIZE)
    return targets, weights


def test_keypoints_in_the_image_become_those_of_augmented_crops(data: Path, batch: Sample) -> None:
    points, scores, trust = knowing(data).of(batch)
    labeled = batch.visible > 0
    torch.testing.assert_close(points[labeled], batch.points[labeled], atol=1e-2, rtol=0)
    assert scores.eq(1).all()
    assert trust.eq(1).all()


def test_a_teacher_that_finds_the_labels_changes_no_target(data: Path, batch: Sample) -> None:
    targets, weights = encoded(batch)
    found, found_weights = knowing(data).blended(batch, CODEC, SIZE, targets, weights)
    labeled = batch.visible > 0
    torch.testing.assert_close(found[labeled], targets[labeled], atol=1e-3, rtol=0)
    torch.testing.assert_close(found_weights[labeled], weights[labeled])


def test_its_score_lowers_the_target_by_its_share(data: Path, batch: Sample) -> None:
    targets, weights = encoded(batch)
    teacher = knowing(data, score=0.5, share=0.4)
    found, _ = teacher.blended(batch, CODEC, SIZE, targets, weights)
    seen = weights > 0
    torch.testing.assert_close(found[seen], 0.8 * targets[seen], atol=1e-3, rtol=0)


@pytest.mark.parametrize(("trust", "weight"), [(0.9, 0.72), (0.4, 0.0)])
def test_keypoints_without_a_label_learn_from_the_teacher_if_it_is_trusted(
    data: Path, batch: Sample, trust: float, weight: float
) -> None:
    targets, weights = encoded(batch)
    unlabeled = batch._replace(visible=torch.zeros_like(batch.visible))
    nothing = torch.zeros_like(targets), torch.zeros_like(weights)
    teacher = knowing(data, trust=trust, weight=0.8, min_trust=0.5)
    found, found_weights = teacher.blended(unlabeled, CODEC, SIZE, *nothing)
    inside = weights > 0
    assert found_weights[inside].numpy() == pytest.approx(weight)
    expected = targets[inside] if weight else torch.zeros_like(targets[inside])
    torch.testing.assert_close(found[inside], expected, atol=1e-3, rtol=0)


def test_centers_are_those_of_sharp_heatmaps() -> None:
    heatmaps = torch.zeros(1, 2, 32, 24)
    heatmaps[0, 0, 20, 7] = heatmaps[0, 1, 3, 11] = 5.0
    torch.testing.assert_close(centers(heatmaps)[0], torch.tensor([[7.0, 20.0], [11.0, 3.0]]))


def test_the_coordinate_loss_pulls_heatmaps_toward_the_teacher(data: Path, batch: Sample) -> None:
    targets, _ = encoded(batch)
    heatmaps = torch.zeros_like(targets, requires_grad=True)
    teacher = knowing(data, loss="coordinates")
    before = teacher.distance(batch, CODEC, SIZE, heatmaps).item()
    optimizer = torch.optim.Adam([heatmaps], lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        teacher.distance(batch, CODEC, SIZE, heatmaps).backward()
        optimizer.step()
    assert 0 < teacher.distance(batch, CODEC, SIZE, heatmaps) < 0.5 * before
    assert teacher.distance(batch, CODEC, SIZE, 5 * targets) < 0.3 * before


def test_unlabeled_persons_are_those_with_a_box_alone(data: Path, tmp_path: Path) -> None:
    document = json.loads((data / "more" / "annotations.json").read_text())
    document["annotations"][0]["keypoints"] = [0] * 51
    (tmp_path / "some.json").write_text(json.dumps(document))
    table = unlabeled_persons(tmp_path / "some.json", COCO_17)
    assert table.annotation_ids.tolist() == [document["annotations"][0]["id"]]
    with refused("labels-missing", "without labeled keypoints"):
        unlabeled_persons(data / "more" / "annotations.json", COCO_17)


def test_boxes_of_persons_alone_are_taken(data: Path, tmp_path: Path) -> None:
    """As in a file of boxes, whose categories have no keypoints."""
    document = json.loads((data / "more" / "boxes.json").read_text())
    for person in document["annotations"]:
        del person["keypoints"], person["num_keypoints"]
    document["annotations"][0]["category_id"] = 2
    document["categories"] = [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]
    (tmp_path / "boxes.json").write_text(json.dumps(document))
    table = unlabeled_persons(tmp_path / "boxes.json", COCO_17)
    assert len(table) == len(document["annotations"]) - 1
    assert table.keypoints.shape == (len(table), 17, 3)
    first = load_persons(data / "train" / "annotations.json")
    both = joined(first, table)
    assert len(both) == len(first) + len(table)
    last = len(both) - 1
    assert both.image_name(last) == table.image_name(len(table) - 1)
    assert both.image_name(0) == first.image_name(0)


def test_the_teachers_keypoints_are_found_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was stopped asks for those that are missing; another teacher starts anew."""
    table = load_persons(data / "train" / "annotations.json")
    cutouts = open_cutouts(data / "train" / "images", table)
    asked: list[int] = []
    consensus = teachers.consensus

    def counting(model: Any, boxes: Any, cut: Any) -> Any:
        asked.append(len(boxes))
        return consensus(model, boxes, cut)

    monkeypatch.setattr(teachers, "consensus", counting)

    def found(name: str) -> Any:
        asked.clear()
        settings = Teacher(weights=data / name)
        return teachers.keypoints_of(settings, table, cutouts, tmp_path, lambda finding: None)

    first = found("tiny.onnx")
    assert sum(asked) == len(table)
    stored = np.lib.format.open_memmap(tmp_path / "teacher.npy", "r+")
    stored[2:4] = np.nan
    stored.flush()
    np.testing.assert_allclose(found("tiny.onnx"), first)
    assert sum(asked) == 2
    # A file that was cut off does not teach zeros.
    kept = (tmp_path / "teacher.npy").read_bytes()
    for damaged in (kept[: len(kept) // 2], b"", b"no array"):
        (tmp_path / "teacher.npy").write_bytes(damaged)
        np.testing.assert_allclose(found("tiny.onnx"), first)
        assert sum(asked) == len(table)
    assert not np.allclose(found("other.onnx"), first)
    assert sum(asked) == len(table)


GAIN = Difference(0.4, 0.5, 0.1, 0.02, 0.2, 0.99)


@pytest.mark.parametrize(
    ("difference", "more_is_better", "accepted"),
    [
        (GAIN, True, True),
        (replace(GAIN, low=-0.01), True, False),
        (replace(GAIN, b=0.3, difference=-0.1, low=-0.2, high=-0.02), True, False),
        (replace(GAIN, low=math.nan, high=math.nan), True, True),
        (replace(GAIN, low=math.nan, high=math.nan), False, False),
        (replace(GAIN, b=0.3, difference=-0.1, low=math.nan, high=math.nan), False, True),
        (None, True, False),
    ],
)
def test_only_a_sure_gain_is_accepted(
    difference: Difference | None, more_is_better: bool, accepted: bool
) -> None:
    verdict = Verdict("AP", "w16-small.onnx", difference, more_is_better)
    assert verdict.accepted is accepted
    assert str(verdict).startswith("accepted" if accepted else "not accepted")
    marked = teachers.with_verdict(Metadata("w16-small", SIZE), verdict)
    assert Metadata.from_json(marked.to_json()).distillation["accepted"] is accepted


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["heatmap", "coordinates"])
def test_a_training_with_a_teacher_says_so_in_its_weights(
    data: Path, tmp_path: Path, trainings: Trainings, loss: str
) -> None:
    ended = trainings.run(
        data,
        tmp_path / "taught",
        "training.samples_per_epoch=8",
        "training.epochs=1",
        f"teacher.weights={data / 'tiny.onnx'}",
        f"teacher.loss={loss}",
        "teacher.unlabeled.annotations=more/boxes.json",
        "teacher.unlabeled.images=more/images",
        "teacher.compare_with=w16-small",
    )
    assert ended.code == 0, ended.output
    found = metadata_of(tmp_path / "taught" / "synthetic.safetensors", Metadata)
    facts = found.distillation
    assert (facts["teacher"], facts["license"], facts["loss"]) == ("tiny", "L", loss)
    assert facts["sha256"] == teachers.file_sha256(data / "tiny.onnx")
    labeled = len(load_persons(data / "train" / "annotations.json"))
    assert (facts["labeled"], facts["unlabeled"]) == (
        labeled,
        len(unlabeled_persons(data / "more" / "boxes.json", COCO_17)),
    )
    # Eight samples teach nothing.
    assert facts["accepted"] is False
    assert (facts["metric"], facts["against"]) == ("AP", "w16-small.onnx")
    assert "not accepted" in ended.output
    assert "teacher tiny: L" in found.license
    assert "distilled from tiny" in found.training_data


def test_a_teacher_that_cannot_teach_is_refused_before_the_training(
    data: Path, tmp_path: Path
) -> None:
    write_foreign_pose(tmp_path / "hands.onnx", "simcc", 21)
    start = ("network=w16-small", "training.workers=0")

    def checked(*overrides: str) -> None:
        check(load_recipe(ROOT / "recipes" / "synthetic.yaml", (*start, *overrides)), data)

    checked(f"teacher.weights={data / 'other.onnx'}")
    with refused("keypoints-differ", "hands"):
        checked(
            f"teacher.weights={tmp_path / 'hands.onnx'}", "teacher.conventions.skeleton=hand-21"
        )
    with refused("weights-unknown", "nowhere"):
        checked("teacher.weights=nowhere.onnx")
    with refused("recipe-invalid", "skeleton"):
        checked("teacher.weights=w16-small", "teacher.conventions.skeleton=octopus")
