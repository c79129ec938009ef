"""Crops cut on the device equal those that OpenCV cuts in the workers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import ROOT
from hrpose.data.augmentation import Augmentation
from hrpose.data.coco import load_persons
from hrpose.data.dataset import Draw, PoseDataset, collate, open_cutouts
from hrpose.data.packed import PackSettings, write_pack
from hrpose.errors import UserError
from hrpose.metadata import Metadata
from hrpose.models import HRNet
from hrpose.synthetic import write_dataset
from hrpose.training.module import PoseModule
from hrpose.training.recipe import load_recipe

WH = (96, 128)


@pytest.fixture(scope="module")
def persons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("persons")
    annotations = write_dataset(folder, 4, seed=3)
    *_, _ = write_pack(annotations, folder / "images", folder / "pack", PackSettings())
    return folder


def datasets(folder: Path, place: str, unit_lengths: bool) -> tuple[PoseDataset, PoseDataset]:
    table = load_persons(folder / "annotations.json")
    cutouts = open_cutouts(folder / place, table)
    augmentation = Augmentation(shift=0.2)
    made = [
        PoseDataset(
            table, cutouts, WH, 1.25, augmentation, unit_lengths=unit_lengths, warped=warped
        )
        for warped in (True, False)
    ]
    return made[0], made[1]


def module(*overrides: str) -> PoseModule:
    recipe = load_recipe(ROOT / "recipes" / "synthetic.yaml", overrides)
    return PoseModule(HRNet.from_name("w16-small"), recipe, Metadata("w16-small", WH))


def difference(folder: Path, place: str, unit_lengths: bool, device: str) -> np.ndarray:
    """Of all values of a batch, in levels of 255; everything else must be equal."""
    workers, on_device = datasets(folder, place, unit_lengths)
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


@pytest.mark.parametrize("place", ["images", "pack"])
@pytest.mark.parametrize("unit_lengths", [False, True])
def test_crops_equal_those_of_the_workers(persons: Path, place: str, unit_lengths: bool) -> None:
    levels = difference(persons, place, unit_lengths, "cpu")
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


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["training.warp_on_device=true", "augmentation.photometric=0.5"], "photometric=0"),
        (["training.compile=reduce-overhead", "training.micro_batches=2"], "micro-batches"),
        (["training.compile=quick"], "training.compile"),
    ],
)
def test_what_does_not_go_together(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        module(*overrides)


@pytest.mark.parametrize(
    ("said", "mode", "graphs"),
    [
        ("false", None, False),
        ("true", "default", False),
        ("default", "default", False),
        ("reduce-overhead", "reduce-overhead", True),
        ("max-autotune", "max-autotune", True),
    ],
)
def test_modes_of_compilation(said: str, mode: str | None, graphs: bool) -> None:
    training = load_recipe(
        ROOT / "recipes" / "synthetic.yaml", [f"training.compile={said}"]
    ).training
    assert (training.compile_mode, training.cuda_graphs) == (mode, graphs)


def test_heatmaps_of_graphs_are_copies() -> None:
    # What a replayed graph returns is overwritten by the next replay; here the network does so.
    trained = module("training.compile=reduce-overhead").eval()
    place = torch.zeros(1, 17, 32, 24)
    trained.network.forward = lambda inputs: place.copy_(inputs.mean().expand_as(place))  # type: ignore[method-assign]
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
        trained = module(f"training.compile={mode}").cuda()
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
