"""A person detector's training from the command line, to weights with their metadata."""

from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from hrpose import weights
from hrpose.cli.main import app
from hrpose.detection.factory import builtin_file
from hrpose.errors import UserError
from hrpose.metadata import DetectorMetadata
from hrpose.models import checkpoint
from hrpose.models.batchnorm_folding import is_folded, unfold
from hrpose.models.export import smooth_images
from hrpose.training.person_detector import train
from hrpose.training.person_detector.recipe import DetectorRecipe
from hrpose.training.person_detector.train import build_network
from hrpose.yaml_file import load_as
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
    assert isinstance(again.exception, UserError)
    assert "--resume" in str(again.exception)
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
    with pytest.raises(UserError, match=r"boxes.json: 4 of 4 images are not in .*, such as 0.png"):
        train.DetectorDataModule(DetectorRecipe.model_validate(document), data)


@pytest.mark.parametrize(
    ("without", "message"),
    [
        (["town"], "without: expected sources out of none, found town"),
        ([""], "images, found none"),
    ],
)
def test_sources_that_leave_nothing_or_are_unknown_are_named(
    data: Path, without: list[str], message: str
) -> None:
    part = {**PARTLY, "without": without}
    document = {**RECIPE, "data": {**RECIPE["data"], "partly_boxed": part}}
    with pytest.raises(UserError, match=message):
        train.DetectorDataModule(DetectorRecipe.model_validate(document), data)


@pytest.mark.parametrize("exported", [builtin_file(), weights.find("w16-small")])
def test_exported_weights_train_on(data: Path, tmp_path: Path, exported: Path) -> None:
    recipe = load_as(data / "recipe.yaml", [f"weights={exported}"], DetectorRecipe)
    network = build_network("w16-small", exported).eval()
    assert is_folded(network)
    inputs = smooth_images(2, 96, 96).permute(0, 3, 1, 2).float() / 100 - 1
    before = network(inputs)
    unfold(
        network, train.DetectorDataModule(recipe, data).frames(DetectorMetadata("w16-small", 96))
    )
    spread = float(before.detach().std())
    torch.testing.assert_close(network(inputs), before, rtol=0, atol=1e-3 * spread)
    trained, _ = checkpoint.load_detector(train.train(recipe, data, tmp_path))
    assert not is_folded(trained)


def test_a_frozen_stem_stays_as_it_is(data: Path) -> None:
    from hrpose.training.person_detector.module import DetectorModule

    recipe = load_as(data / "recipe.yaml", ["training.freeze_stem=true"], DetectorRecipe)
    module = DetectorModule(build_network("w16-small"), recipe, DetectorMetadata("w16-small", 64))
    module.train()
    assert not module.network.bn1.training
    assert module.network.stage2.training
    learned = {name.split(".")[1] for name, w in module.named_parameters() if w.requires_grad}
    assert not learned & {"conv1", "bn1", "conv2", "bn2", "layer1"}
    assert {"stage2", "final_layer"} <= learned


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("network=w99", "network: expected one of .*, found 'w99'"),
        ("frame_wh=[60, 64]", r"multiples of 32.*, found \[60, 64\] and 96"),
        ("side=100", "multiples of 32"),
        ("framing.zoom=[2, 1]", r"smaller side first, found \[2.0, 1.0\]"),
        ("data.partly_boxed={annotations: a, images: b, share: 1}", "share: .*less than 1"),
        ("framing.zom=[1, 2]", "did you mean 'zoom'"),
        ("training.samples_per_epoch=null", "number of frames"),
        *(
            (f"training.{key}=1", f"unknown key 'training.{key}'")
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
def test_what_is_wrong_in_a_recipe_is_named(data: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_as(data / "recipe.yaml", [override], DetectorRecipe)


def test_missing_images_are_named(data: Path, tmp_path: Path) -> None:
    from hrpose.training.person_detector.train import DetectorDataModule

    (tmp_path / "images").mkdir()
    (tmp_path / "boxes.json").write_bytes((data / "boxes.json").read_bytes())
    with pytest.raises(UserError, match=r"4 of 4 images.*0\.png"):
        DetectorDataModule(load_as(data / "recipe.yaml", [], DetectorRecipe), tmp_path)


def test_the_shipped_recipes_are_valid() -> None:
    folder = Path(__file__).parents[3] / "recipes"
    recipes = [
        load_as(path, [], DetectorRecipe) for path in sorted(folder.glob("person-detector*.yaml"))
    ]
    names = [f"finder-{walk}" for walk in range(1, 6)]
    assert [recipe.name for recipe in recipes] == [*names, "detector"]
