"""Training of a person detector from the command line, to weights with metadata."""

from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from hrpose import weights
from hrpose.cli.main import app
from hrpose.detection.person_detector import builtin_file
from hrpose.metadata import DetectorMetadata
from hrpose.models import checkpoint
from hrpose.models.checkpoint import is_folded, unfold
from hrpose.models.export import smooth_images
from hrpose.training.person_detector import train
from hrpose.training.person_detector.train import DetectorModule, build_network
from hrpose.training.recipe import DetectorRecipe
from hrpose.yaml_file import load_as
from refusals import check_refusal, refused
from tiny_boxes import RECIPE, write_tiny_boxes

PARTLY = {"annotations": "boxes.json", "images": "images", "share": 0.25}

# Lightning's: two steps are enough for a test.
pytestmark = pytest.mark.filterwarnings("ignore:.*smaller than the logging interval")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images with one white bar each, and the recipe."""
    root = tmp_path_factory.mktemp("data")
    write_tiny_boxes(root)
    (root / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    return root


@pytest.mark.slow
def test_from_a_recipe_to_weights_and_on_with_resume(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["train-detector", str(data / "recipe.yaml"), "--data", str(data), "--out", str(out)]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    network, metadata = checkpoint.load_detector(out / "tiny.safetensors")
    assert not network.training
    assert (metadata.side, metadata.training_data) == (96, "white bars")
    assert 0 <= metadata.threshold <= 1
    assert "held-out AP" in metadata.scores
    assert load_as(out / "recipe.yaml", [], DetectorRecipe) == DetectorRecipe.model_validate(RECIPE)

    again = CliRunner().invoke(app, command)
    check_refusal(again, "folder-not-empty", "--resume")
    more = [*command, "--resume", "--set", "training.epochs=2"]
    done = CliRunner().invoke(app, more, catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_images_with_some_persons_boxed_are_trained_on_too(data: Path, tmp_path: Path) -> None:
    document = {**RECIPE, "data": {**RECIPE["data"], "partly_boxed": PARTLY}}
    recipe = DetectorRecipe.model_validate(document)
    loader = train.DetectorDataModule(recipe, data).train_dataloader()
    assert [len(part.table) for part in loader.dataset.parts] == [2, 4]
    assert {part.complete: part.share for part in loader.dataset.parts} == {True: 0.75, False: 0.25}
    train.train(recipe, data, tmp_path)


def test_partly_boxed_images_that_are_missing_are_named(data: Path) -> None:
    document = {**RECIPE, "data": {**RECIPE["data"], "partly_boxed": {**PARTLY, "images": "."}}}
    with refused("images-missing", "boxes.json", "4 of 4", "0.png"):
        train.DetectorDataModule(DetectorRecipe.model_validate(document), data)


@pytest.mark.parametrize(
    ("without", "code", "mention"),
    [(["town"], "recipe-invalid", "town"), ([""], "images-missing", "boxes.json")],
)
def test_sources_that_are_unknown_or_all_are_refused(
    data: Path, without: list[str], code: str, mention: str
) -> None:
    part = {**PARTLY, "without": without}
    document = {**RECIPE, "data": {**RECIPE["data"], "partly_boxed": part}}
    with refused(code, mention):
        train.DetectorDataModule(DetectorRecipe.model_validate(document), data)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "exported"), [("w16-wide", builtin_file()), ("w16-small", weights.find("w16-small"))]
)
def test_exported_weights_can_be_trained(
    data: Path, tmp_path: Path, name: str, exported: Path
) -> None:
    given = [f"weights={exported}", f"network={name}"]
    recipe = load_as(data / "recipe.yaml", given, DetectorRecipe)
    network = build_network(name, exported).eval()
    assert is_folded(network)
    inputs = smooth_images(2, 96, 96).permute(0, 3, 1, 2).float() / 100 - 1
    before = network(inputs)
    unfold(network, train.DetectorDataModule(recipe, data).frames(DetectorMetadata(name, 96)))
    spread = float(before.detach().std())
    torch.testing.assert_close(network(inputs), before, rtol=0, atol=1e-3 * spread)
    trained, _ = checkpoint.load_detector(train.train(recipe, data, tmp_path))
    assert not is_folded(trained)


def test_a_frozen_stem_stays_as_it_is(data: Path) -> None:
    recipe = load_as(data / "recipe.yaml", ["training.freeze_stem=true"], DetectorRecipe)
    module = DetectorModule(build_network("w16-small"), recipe, DetectorMetadata("w16-small", 64))
    module.train()
    assert not module.network.bn1.training
    assert module.network.stage2.training
    learned = {name.split(".")[1] for name, w in module.named_parameters() if w.requires_grad}
    assert not learned & {"conv1", "bn1", "conv2", "bn2", "layer1"}
    assert {"stage2", "final_layer"} <= learned


@pytest.mark.parametrize(
    ("override", "mention"),
    [
        ("network=w99", "w99"),
        ("frame_wh=[60, 64]", "[60, 64]"),
        ("side=100", "100"),
        ("framing.zoom=[2, 1]", "framing"),
        ("data.partly_boxed={annotations: a, images: b, share: 1}", "share"),
        ("framing.zom=[1, 2]", "'zoom'"),
        ("training.samples_per_epoch=null", "samples_per_epoch"),
        *(
            (f"training.{key}=1", f"training.{key}")
            for key in (
                "workers",
                "micro_batches",
                "sync_batchnorm",
                "warp_on_device",
                "frozen_norms",
                "debug_images_every",
            )
        ),
    ],
)
def test_an_invalid_recipe_is_refused(data: Path, override: str, mention: str) -> None:
    with refused("recipe-invalid", mention):
        load_as(data / "recipe.yaml", [override], DetectorRecipe)


def test_missing_images_are_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "boxes.json").write_bytes((data / "boxes.json").read_bytes())
    with refused("images-missing", "4 of 4", "0.png"):
        train.DetectorDataModule(load_as(data / "recipe.yaml", [], DetectorRecipe), tmp_path)
