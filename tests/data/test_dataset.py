"""Samples: a pure function of the draw, whoever makes them."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hrpose.data.augmentation import Augmentation
from hrpose.data.coco import load_persons
from hrpose.data.dataset import (
    Draw,
    EvaluationSampler,
    Images,
    PoseDataset,
    Sample,
    TrainingSampler,
    collate,
    open_cutouts,
    read_with_retries,
    sampling_weights,
)
from hrpose.data.images import ImageFiles
from hrpose.data.packed import Cutout
from hrpose.errors import UserError
from hrpose.geometry import Crop, transform
from hrpose.synthetic import write_dataset
from refusals import refused


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PoseDataset:
    folder = tmp_path_factory.mktemp("persons")
    table = load_persons(write_dataset(folder, 6, seed=5))
    strong = Augmentation(shift=0.05, photometric=1.0)
    cutouts = open_cutouts(folder / "images", table)
    return PoseDataset(table, cutouts, (48, 64), augmentation=strong)


def equal(one: Sample, other: Sample) -> bool:
    pairs = zip(one, other, strict=True)
    return all(a is b is None or torch.equal(a, b) for a, b in pairs)


def test_the_same_draw_is_the_same_sample(dataset: PoseDataset) -> None:
    one, other = dataset[Draw(2, (1, 2, 3))], dataset[Draw(2, (1, 2, 3))]
    assert equal(one, other)
    assert not equal(one, dataset[Draw(2, (1, 2, 4))])


def test_the_form_of_a_sample(dataset: PoseDataset) -> None:
    sample = dataset[Draw(1, (0, 0, 0))]
    assert (sample.image.shape, sample.image.dtype) == ((64, 48, 3), torch.uint8)
    assert (sample.points.shape, sample.points.dtype) == ((17, 2), torch.float32)
    assert sample.visible.shape == (17,)
    assert (sample.trust, sample.person) == (1, 1)
    assert (sample.to_image.shape, sample.to_image.dtype) == ((2, 3), torch.float64)


@pytest.mark.parametrize("seed", [None, *((1, 0, i) for i in range(12))])
def test_the_way_back_leads_to_the_labeled_points(
    dataset: PoseDataset, seed: tuple[int, ...] | None
) -> None:
    sample = dataset[Draw(3, seed)]
    back = transform(sample.points.numpy().astype(float), sample.to_image.numpy())
    crop, _ = dataset.crop_of(Draw(3, seed))
    labels = dataset.table.keypoints[3]
    if crop.mirrored:  # the left wrist of the mirrored person is the right one of the labels
        labels = labels[dataset.table.skeleton.flip_permutation]
    np.testing.assert_allclose(back, labels[:, :2], atol=1e-2)
    assert sample.visible.tolist() == (labels[:, 2] > 0).tolist()


# On a machine with one processor PyTorch advises against two workers.
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(dataset: PoseDataset, workers: int) -> None:
    def batches(count: int) -> list[Sample]:
        sampler = TrainingSampler(np.ones(len(dataset)), seed=3, samples=10)
        sampler.set_epoch(2)
        loader = DataLoader(
            dataset, batch_size=4, sampler=sampler, num_workers=count, collate_fn=collate
        )
        return list(loader)

    expected, found = batches(0), batches(workers)
    assert [len(batch.image) for batch in expected] == [4, 4, 2]
    assert all(equal(a, b) for a, b in zip(expected, found, strict=True))


def persons(sampler: TrainingSampler) -> list[int]:
    return [draw.person for draw in sampler]


def test_an_epoch_is_a_permutation_and_the_next_another() -> None:
    sampler = TrainingSampler(np.ones(50), seed=0)
    first, again = list(sampler), list(sampler)
    assert first == again
    assert sorted(draw.person for draw in first) == list(range(50))
    sampler.set_epoch(1)
    assert [draw.person for draw in sampler] != [draw.person for draw in first]
    assert {draw.seed for draw in sampler}.isdisjoint(draw.seed for draw in first)
    assert persons(TrainingSampler(np.ones(50), seed=1)) != [draw.person for draw in first]


def test_shares_follow_the_weights() -> None:
    sampler = TrainingSampler(np.array([1.0, 2.0, 0.0, 5.0]), seed=0, samples=800)
    counts = np.bincount(persons(sampler), minlength=4)
    np.testing.assert_allclose(counts, [100, 200, 0, 500], atol=1)


def test_evaluation_takes_everyone_once_in_order() -> None:
    assert list(EvaluationSampler(3)) == [Draw(0), Draw(1), Draw(2)]
    assert len(EvaluationSampler(3)) == 3


def test_sources_scale_the_weights(dataset: PoseDataset) -> None:
    assert sampling_weights(dataset.table, {}).tolist() == [1] * len(dataset)
    assert sampling_weights(dataset.table, {"": 3}).tolist() == [3] * len(dataset)
    assert sampling_weights(dataset.table, {"other": 3}).tolist() == [1] * len(dataset)


def test_somebody_must_be_drawn(dataset: PoseDataset) -> None:
    with refused("recipe-invalid", "data.sampling"):
        sampling_weights(dataset.table, {"": 0})


def test_a_missing_image_is_named(dataset: PoseDataset, tmp_path: Path) -> None:
    with refused("images-missing", "6 of 6", "000001.jpg"):
        open_cutouts(tmp_path, dataset.table)


class Failing:
    """A source of images that fails as an image reader does, for these causes one after another."""

    def __init__(self, *causes: OSError) -> None:
        self.causes = list(causes)

    def read(self, person: int, crop: Crop | None = None) -> Cutout:
        if not self.causes:
            return Cutout(np.zeros((4, 4, 3), np.uint8))
        raise UserError("image: cannot be read", code="image-damaged") from self.causes.pop(0)


ANY_CROP = Crop.from_box([0, 0, 4, 4], (48, 64))


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr("hrpose.data.dataset.time.sleep", slept.append)
    return slept


def test_reads_are_repeated_after_a_temporary_failure(pauses: list[float]) -> None:
    broken = OSError(errno.EIO, "input/output error")
    assert read_with_retries(Failing(broken, broken), 0, ANY_CROP).image.shape == (4, 4, 3)
    assert pauses == [0.1, 1.0]
    with refused("image-damaged"):
        read_with_retries(Failing(broken, broken, broken), 0, ANY_CROP)


@pytest.mark.parametrize(
    "cause",
    [
        FileNotFoundError(errno.ENOENT, "no such file"),
        PermissionError(errno.EACCES, "permission denied"),
        OSError("image file is truncated"),
    ],
)
def test_permanent_failures_are_not_repeated(pauses: list[float], cause: OSError) -> None:
    with refused("image-damaged"):
        read_with_retries(Failing(cause), 0, ANY_CROP)
    assert pauses == []


def test_a_missing_file_is_reported_at_once(
    dataset: PoseDataset, tmp_path: Path, pauses: list[float]
) -> None:
    images = Images(dataset.table, ImageFiles(tmp_path))
    with refused("file-unreadable", "000001.jpg"):
        read_with_retries(images, 0, ANY_CROP)
    assert pauses == []
