"""The pose module: losses, frozen parts, crops warped on the device, and debug images."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from conftest import ROOT
from hrpose.data.augmentation import Augmentation
from hrpose.data.coco import load_persons
from hrpose.data.dataset import Draw, PoseDataset, Sample, collate, open_cutouts
from hrpose.data.packed import PackSettings, write_pack
from hrpose.metadata import Metadata
from hrpose.models import HRNet
from hrpose.synthetic import write_dataset
from hrpose.training import base_module
from hrpose.training.module import DebugImages, PoseModule, ohkm, peak, weighted_mse
from hrpose.training.recipe import Training, load_recipe
from refusals import refused

METADATA = Metadata("w16-small", (96, 128))


def module(*overrides: str) -> PoseModule:
    torch.manual_seed(0)
    recipe = load_recipe(ROOT / "recipes" / "synthetic.yaml", overrides)
    return PoseModule(HRNet.from_name("w16-small"), recipe, METADATA).eval()


def batch() -> Sample:
    random = torch.Generator().manual_seed(1)
    return Sample(
        image=torch.randint(0, 256, (2, 128, 96, 3), dtype=torch.uint8, generator=random),
        points=torch.rand((2, 17, 2), generator=random) * 96,
        visible=torch.ones(2, 17),
        trust=torch.ones(2),
        person=torch.arange(2),
        to_image=torch.eye(3)[:2].repeat(2, 1, 1).double(),
    )


@pytest.mark.parametrize(
    ("overrides", "top", "of_peak"),
    [
        ([], None, 0),
        (["loss.peak=0.002"], None, 0.002),
        (["loss.name=ohkm"], 8, 0),
        (["loss.name=ohkm", "loss.top=3"], 3, 0),
        (["loss.weighting=linear"], None, 0),
        (["loss.weighting=linear", "loss.peak=0.002"], None, 0.002),
        (["loss.weighting=linear", "loss.name=ohkm"], 8, 0),
    ],
)
def test_a_recipe_chooses_its_loss(
    monkeypatch: pytest.MonkeyPatch, overrides: list[str], top: int | None, of_peak: float
) -> None:
    overrides = [*overrides, "loss.keypoint_weights=true"]
    trained, sample = module("loss.peak=0", *overrides), batch()
    monkeypatch.setattr(trained, "log", lambda *_, **__: None)  # needs a trainer
    targets, weights = METADATA.codec.encode(sample.points, sample.visible, METADATA.input_wh)
    weights = weights * trained.keypoint_weights
    with torch.no_grad():
        found = trained.training_step(sample, 0)
        heatmaps = trained(sample.image)
    assert weights.unique().numel() > 2
    factors = weights**0.5 if "loss.weighting=linear" in overrides else weights
    if top is None:
        expected = weighted_mse(heatmaps, targets, factors)
    else:
        expected = ohkm(heatmaps, targets, factors, top)
    expected = expected + of_peak * peak(heatmaps, targets, weights)
    torch.testing.assert_close(found, expected)


def test_more_hard_keypoints_than_there_are() -> None:
    with refused("recipe-invalid", "loss.top", "17", "18"):
        module("loss.name=ohkm", "loss.top=18")


def changed_by_a_step(trained: PoseModule, sample: Sample) -> set[str]:
    """The names of what a step of training changes."""
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    trained.train()
    optimizer = torch.optim.SGD([w for w in trained.parameters() if w.requires_grad], lr=1.0)
    trained(sample.image).square().mean().backward()
    optimizer.step()
    return {n for n, value in trained.state_dict().items() if not torch.equal(value, before[n])}


def test_frozen_norms_stay_as_they_are() -> None:
    sample = batch()
    changed = changed_by_a_step(module("training.frozen_norms=true"), sample)
    assert changed
    assert not any(".bn" in name or "running" in name for name in changed)
    # Without the switch the statistics follow the batch.
    assert "network.bn1.running_mean" in changed_by_a_step(module(), sample)


def test_a_frozen_stem_stays_as_it_is() -> None:
    changed = changed_by_a_step(module("training.freeze_stem=true"), batch())
    parts = {name.split(".")[1] for name in changed}
    assert {"transition1", "stage2", "stage4", "final_layer"} <= parts
    assert not parts & {"conv1", "bn1", "conv2", "bn2", "layer1"}


def test_rates_fall_from_the_head_to_the_stem(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = module("optimizer.layer_decay=0.5", "optimizer.lr=0.8")
    monkeypatch.setattr(trained, "_trainer", SimpleNamespace(estimated_stepping_batches=10))
    chosen = trained.configure_optimizers()["optimizer"]
    rates = {id(w): group["initial_lr"] for group in chosen.param_groups for w in group["params"]}
    assert rates[id(trained.network.final_layer.weight)] == 0.8
    assert rates[id(trained.network.stage4[0].branches[0][0].conv1.weight)] == 0.4
    assert rates[id(trained.network.conv1.weight)] == pytest.approx(0.8 / 32)
    assert len(rates) == len(list(trained.parameters()))


@pytest.fixture(scope="module")
def persons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("persons")
    annotations = write_dataset(folder, 4, seed=3)
    *_, _ = write_pack(annotations, folder / "images", folder / "pack", PackSettings())
    return folder


def datasets(folder: Path, images: str, unit_lengths: bool) -> tuple[PoseDataset, PoseDataset]:
    table = load_persons(folder / "annotations.json")
    cutouts = open_cutouts(folder / images, table)
    augmentation = Augmentation(shift=0.2)
    both = [
        PoseDataset(
            table,
            cutouts,
            METADATA.input_wh,
            1.25,
            augmentation,
            unit_lengths=unit_lengths,
            warped=warped,
        )
        for warped in (True, False)
    ]
    return both[0], both[1]


def difference(folder: Path, images: str, unit_lengths: bool, device: str) -> np.ndarray:
    """The differences of all values of a batch, in levels of 255; everything else must be equal."""
    workers, on_device = datasets(folder, images, unit_lengths)
    draws = [Draw(i % len(workers), (7, i)) for i in range(24)]
    draws += [Draw(i) for i in range(len(workers))]
    expected, batch = (collate([d[draw] for draw in draws]) for d in (workers, on_device))
    assert batch.crop_to_source is not None
    batch = batch._replace(
        image=batch.image.to(device), crop_to_source=batch.crop_to_source.to(device)
    )
    found = module("training.warp_on_device=true").cropped(batch)
    assert found.crop_to_source is None
    assert found.image.dtype == torch.uint8
    for name in ("points", "visible", "trust", "person", "to_image"):
        assert getattr(found, name).equal(getattr(expected, name)), name
    return np.abs(found.image.cpu().numpy().astype(int) - expected.image.numpy())


@pytest.mark.parametrize("images", ["images", "pack"])
@pytest.mark.parametrize("unit_lengths", [False, True])
def test_crops_equal_those_of_the_workers(persons: Path, images: str, unit_lengths: bool) -> None:
    levels = difference(persons, images, unit_lengths, "cpu")
    assert levels.mean() < 0.1
    assert np.mean(levels > 2) < 0.001
    assert levels.max() <= 12  # 1/32 of a pixel, where neighbors differ by 255


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_crops_on_a_gpu_equal_those_of_the_workers(persons: Path) -> None:
    levels = difference(persons, "pack", False, "cuda")
    assert levels.mean() < 0.1
    assert levels.max() <= 12


def test_warped_batches_pass_through(persons: Path) -> None:
    workers, _ = datasets(persons, "pack", False)
    batch = collate([workers[Draw(0, (1, 1))]])
    assert module().cropped(batch) is batch


def test_parts_of_a_batch_are_normalized_by_their_own_statistics() -> None:
    """As on the four GPUs of the official code: what the paper's recipes say of micro_batches."""
    images = batch().image
    parted = module("training.micro_batches=2").train()
    with torch.no_grad():
        together = module().train()(images)
        alone = torch.cat([module().train()(image[None]) for image in images])
        found = parted.in_parts(images)
    assert torch.equal(found, alone)
    assert (found - together).abs().max() > 0.1 * together.std()


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["training.warp_on_device=true", "augmentation.photometric=0.5"], "warp_on_device"),
        (["training.compile=reduce-overhead", "training.micro_batches=2"], "training.compile"),
    ],
)
def test_settings_that_conflict(overrides: list[str], key: str) -> None:
    with refused("recipe-invalid", key):
        module(*overrides)


@pytest.mark.parametrize(
    ("setting", "mode", "graphs"),
    [
        ("false", None, False),
        ("auto", None, False),
        ("true", "default", False),
        ("default", "default", False),
        ("reduce-overhead", "reduce-overhead", True),
        ("max-autotune", "max-autotune", True),
    ],
)
def test_modes_of_compilation(setting: str, mode: str | None, graphs: bool) -> None:
    training = load_recipe(
        ROOT / "recipes" / "synthetic.yaml", [f"training.compile={setting}"]
    ).training
    assert (training.compile_mode, training.cuda_graphs) == (mode, graphs)


@pytest.mark.parametrize(
    ("settings", "persons", "compiler", "compiled"),
    [
        ({"precision": "bf16", "epochs": 300}, 1000, True, True),
        ({"precision": "bf16", "epochs": 3, "samples_per_epoch": 100_000}, 1, True, True),
        ({"precision": "bf16", "epochs": 299}, 1000, True, False),  # a short fine-tuning
        ({"precision": "bf16", "epochs": 300}, 1000, False, False),
        ({"precision": "32", "epochs": 300}, 1000, True, False),
        ({"precision": "32", "epochs": 1, "compile": True}, 1, False, True),
        ({"precision": "bf16", "epochs": 300, "compile": False}, 1000, True, False),
    ],
)
def test_long_trainings_in_bf16_are_compiled_where_a_compiler_is(
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    persons: int,
    compiler: bool,
    compiled: bool,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(base_module.shutil, "which", lambda name: name if compiler else None)
    training = base_module.decided(Training(**settings), persons)
    assert training.compile is compiled


def test_heatmaps_of_graphs_are_copies() -> None:
    # Results of a graph are overwritten by its next replay, as here by the network.
    trained = module("training.compile=reduce-overhead").eval()
    buffer = torch.zeros(1, 17, 32, 24)
    trained.network.forward = lambda inputs: buffer.copy_(inputs.mean().expand_as(buffer))  # type: ignore[method-assign]
    with torch.no_grad():
        first = trained(torch.zeros(1, 128, 96, 3, dtype=torch.uint8))
        before = first.clone()
        trained(torch.full((1, 128, 96, 3), 255, dtype=torch.uint8))
    assert first.equal(before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_steps_from_cuda_graphs_equal_plain_ones() -> None:
    losses = []
    for mode in ("false", "reduce-overhead"):
        torch.manual_seed(0)
        trained = module(f"training.compile={mode}").train().cuda()
        if (name := trained.recipe.training.compile_mode) is not None:
            trained.network.compile(mode=name)
        optimizer = torch.optim.Adam(trained.parameters(), 1e-3, fused=True)
        images = torch.randint(0, 256, (8, 128, 96, 3), dtype=torch.uint8, device="cuda")
        for _ in range(6):
            loss = trained(images).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    torch.testing.assert_close(losses[:6], losses[6:], rtol=1e-2, atol=1e-6)


@pytest.fixture(scope="module")
def drawn_batch(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    folder = tmp_path_factory.mktemp("persons")
    table = load_persons(write_dataset(folder, 4, seed=5))
    dataset = PoseDataset(table, open_cutouts(folder / "images", table), METADATA.input_wh)
    return collate([dataset[Draw(person)] for person in range(5)])


def test_debug_images_of_labels_and_predictions(drawn_batch: Sample, tmp_path: Path) -> None:
    targets, _ = METADATA.codec.encode(drawn_batch.points, drawn_batch.visible, METADATA.input_wh)
    empty = torch.full_like(targets, -1.0)
    DebugImages(tmp_path / "images", METADATA, 10).write(500, drawn_batch, empty, targets)
    names = {path.name: cv2.imread(str(path)) for path in (tmp_path / "images").iterdir()}
    assert sorted(names) == [
        *("00000500_labels.jpg", "00000500_labels_heatmaps.jpg"),
        *("00000500_predictions.jpg", "00000500_predictions_heatmaps.jpg"),
    ]
    labels, predictions = names["00000500_labels.jpg"], names["00000500_predictions.jpg"]
    assert labels is not None
    assert predictions is not None
    assert labels.shape == predictions.shape
    # Five crops side by side; of empty heatmaps no keypoints are drawn.
    assert labels.shape[1] > 5 * 96
    assert np.abs(labels.astype(int) - predictions).max() > 100
    heatmaps = names["00000500_labels_heatmaps.jpg"]
    assert heatmaps is not None
    # Four persons; a crop and seventeen heatmaps each.
    assert heatmaps.shape[0] > 4 * 128
    assert heatmaps.shape[1] > 18 * 96


@pytest.mark.parametrize(
    ("every", "steps"), [(0, []), (1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (100, [0])]
)
def test_steps_with_debug_images(tmp_path: Path, every: int, steps: list[int]) -> None:
    images = DebugImages(tmp_path, METADATA, every)
    assert [step for step in range(5) if images.due(step)] == steps
