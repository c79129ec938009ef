"""Recipes: those of the project, defaults, overrides, and the refusal of invalid ones."""

import re
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from hrpose.errors import UserError
from hrpose.training.recipe import DetectorRecipe, Recipe, load_recipe
from hrpose.yaml_file import load_as
from refusals import refused

MINIMAL = """
name: test
network: w16-small
input_wh: [192, 256]
data:
  train: {annotations: train.json, images: train}
  val: {annotations: val.json, images: val}
"""


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(MINIMAL)
    return path


# The recipe of tools/distillation has keys of its own: tests/tools/test_distillation.py.
RECIPES = sorted(
    path
    for path in [*(ROOT / "recipes").glob("*.yaml"), *(ROOT / "docs/models").rglob("*.yaml")]
    if not path.stem.endswith("-distilled")
)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_every_recipe_of_the_project_loads(path: Path) -> None:
    is_detector = path.name.startswith("person-detector")
    recipe = load_as(path, (), DetectorRecipe if is_detector else Recipe)
    assert path.stem.startswith(recipe.name)
    assert recipe.data.description != "unknown"
    assert recipe.data.license != "unknown"


@pytest.mark.parametrize("path", sorted(ROOT.glob("recipes/w[34]*-*-*.yaml")), ids=lambda p: p.name)
def test_what_follows_the_official_code_is_in_the_comments(path: Path) -> None:
    comments = "\n".join(line for line in path.read_text().splitlines() if line[:1] == "#")
    changes = re.findall(r"\b[a-z]+\.[a-z_]+=[\w/-]+(?:\.\w+)?", comments)
    for key in ("micro_batches=4", "sync_batchnorm=false", "precision=32", "drop_last=false"):
        assert f"training.{key}" in changes
    assert [each for each in changes if load_recipe(path, [each]) == load_recipe(path)] == []


# Network, input (height x width), sigma, the batch of four GPUs, and the published score.
COCO = [
    ("w32", (256, 192), 2, 128, "AP 74.4 on val2017"),
    ("w48", (256, 192), 2, 128, "AP 75.1 on val2017"),
    ("w32", (384, 288), 3, 128, "AP 75.8 on val2017"),
    ("w48", (384, 288), 3, 96, "AP 76.3 on val2017"),
]
MPII = [("w32", "PCKh@0.5 90.3 and PCKh@0.1 37.7"), ("w48", "PCKh@0.5 90.1 and PCKh@0.1 33.7")]


def check_training(recipe: Recipe, path: Path) -> None:
    """The settings that all trainings of the paper and of the official code share."""
    assert path.stem == recipe.name
    optimizer, schedule, augmentation = recipe.optimizer, recipe.schedule, recipe.augmentation
    assert (optimizer.name, optimizer.lr, optimizer.weight_decay) == ("adam", 1e-3, 0)
    assert (schedule.name, schedule.milestones, schedule.gamma) == ("steps", (170, 200), 0.1)
    assert (recipe.training.epochs, schedule.warmup_steps) == (210, 0)
    assert (augmentation.flip_probability, augmentation.rotation_probability) == (0.5, 0.6)
    assert (augmentation.shift, augmentation.photometric) == (0, 0)
    assert (recipe.loss.name, recipe.loss.keypoint_weights) == ("mse", False)
    assert (recipe.data.padding, recipe.codec.name) == (1.25, "gaussian")
    assert recipe.evaluation.flip_test
    assert recipe.weights == Path(f"{recipe.network}-imagenet")


@pytest.mark.parametrize(("network", "size", "sigma", "batch", "published"), COCO)
def test_the_recipes_of_the_paper_for_coco(
    network: str, size: tuple[int, int], sigma: float, batch: int, published: str
) -> None:
    height, width = size
    path = ROOT / "recipes" / f"{network}-coco-{height}x{width}.yaml"
    recipe = load_recipe(path)
    check_training(recipe, path)
    assert (recipe.network, recipe.input_wh) == (network, (width, height))
    assert (recipe.codec.sigma, recipe.training.batch_size) == (sigma, batch)
    augmentation = recipe.augmentation
    assert (augmentation.scale, augmentation.rotation_deg) == (0.35, 45)
    half_body = (augmentation.half_body_probability, augmentation.half_body_upper_probability)
    assert half_body == (0.3, 0.69)
    assert published in path.read_text()


@pytest.mark.parametrize(("network", "published"), MPII)
def test_the_recipes_for_mpii(network: str, published: str) -> None:
    path = ROOT / "recipes" / f"{network}-mpii-256x256.yaml"
    recipe = load_recipe(path)
    check_training(recipe, path)
    assert (recipe.network, recipe.input_wh) == (network, (256, 256))
    assert (recipe.codec.sigma, recipe.training.batch_size) == (2, 128)
    augmentation = recipe.augmentation
    assert (augmentation.scale, augmentation.rotation_deg) == (0.25, 30)
    assert augmentation.half_body_probability == 0
    assert published in " ".join(path.read_text().replace("#", "").split())


def test_a_short_recipe_gets_the_defaults(minimal: Path) -> None:
    assert load_recipe(minimal) == Recipe.model_validate(yaml.safe_load(MINIMAL))
    assert load_recipe(minimal).optimizer.lr == 1e-3


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("optimizer.lr=5e-4", ("optimizer", "lr"), 5e-4),
        ("optimizer.lr=0.0005", ("optimizer", "lr"), 5e-4),
        ("training.compile=true", ("training", "compile"), True),
        ("training.precision=32", ("training", "precision"), "32"),
        ("training.debug_images_every=500", ("training", "debug_images_every"), 500),
        ("training.ema_decay=null", ("training", "ema_decay"), None),
        ("schedule.milestones=[1, 2]", ("schedule", "milestones"), (1, 2)),
        ("data.val.images=a=b", ("data", "val", "images"), Path("a=b")),
        ("data.sampling.coco=2", ("data", "sampling"), {"coco": 2.0}),
        ("name=other", ("name",), "other"),
    ],
)
def test_an_override_changes_one_key(
    minimal: Path, override: str, key: tuple[str, ...], value: object
) -> None:
    found = load_recipe(minimal, [override])
    for part in key:
        found = getattr(found, part)
    assert found == value


def test_the_last_override_counts(minimal: Path) -> None:
    recipe = load_recipe(minimal, ["training.epochs=3", "training.epochs=4"])
    assert recipe.training.epochs == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.lr=1e-3", "unknown key 'optimiser'; did you mean 'optimizer'?"),
        ("optimizer.learning=1", "unknown key 'optimizer.learning'; known here: "),
        ("training.epoch=1", "unknown key 'training.epoch'; did you mean 'epochs'?"),
        ("teacher={weights: a, los: b}", "unknown key 'teacher.los'; did you mean 'loss'?"),
        ("data.train.image=x", "unknown key 'data.train.image'; did you mean 'images'?"),
        ("training.epochs=0", "training.epochs: Input should be greater than or equal to 1, found"),
        ("training.precision=16", "precision: Input should be 'auto', '32', 'bf16' or 'fp16', fo"),
        ("training.debug_images_every=-1", "debug_images_every: Input should be greater than"),
        ("training.epochs=many", "training.epochs: Input should be a valid integer"),
        ("optimizer.lr=-1", "optimizer.lr: Input should be greater than 0, found -1"),
        ("optimizer.lr=.nan", "optimizer.lr: Input should be"),
        ("optimizer.lr=.inf", "optimizer.lr: Input should be"),
        ("optimizer.name=sgd", "optimizer.name: Input should be 'adam' or 'adamw', found 'sgd'"),
        ("augmentation.flip_probability=2", "augmentation.flip_probability: Input should be"),
        ("network=w64", "network: expected one of w32, w48, w16-small, w32-small, "),
        (
            "input_wh=[190, 250]",
            "input_wh: expected multiples of 32, as the coarsest branch needs, found [190, 250]; "
            "the nearest are [192, 256]",
        ),
        ("input_wh=[192]", "input_wh.1: Field required"),
        ("loss.name=l1", "loss.name: Input should be 'mse' or 'ohkm', found 'l1'"),
        ("loss.top=0", "loss.top: Input should be greater than or equal to 1"),
        ("optimizer=fast", "optimizer: Input should be a valid dictionary"),
        ("name=null", "name: Input should be a valid string"),
        ("optimizer.lr", "--set optimizer.lr: expected KEY=VALUE"),
        ("=3", "--set =3: expected KEY=VALUE"),
        ("optimizer..lr=3", "--set optimizer..lr=3: expected KEY=VALUE"),
        ("name.first=3", "--set name.first=3: 'name' is a value and has no keys of its own"),
        ("training.epochs=[1", "--set training.epochs=[1: expected a YAML value"),
        ("data.sampling.coco=-1", "data.sampling.coco: Input should be greater than"),
        ("evaluation.detector=builtin", "detector: expected boxes: detector, found ground-truth"),
        ("evaluation={boxes: b.json, metric: PCK}", "metric: expected AP, which needs no labels"),
    ],
)
def test_an_invalid_recipe_is_refused_in_one_line(
    minimal: Path, override: str, message: str
) -> None:
    by_form = message.startswith("--set")
    with refused("option-invalid" if by_form else "recipe-invalid", message):
        load_recipe(minimal, [override])


def test_every_error_has_its_line(minimal: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(minimal, ["training.epoch=1", "optimizer.lr=-1"])
    lines = str(caught.value).splitlines()
    assert caught.value.code == "recipe-invalid"
    assert len(lines) == 2
    assert all(line.startswith(f"{minimal}: ") for line in lines)


@pytest.mark.parametrize(
    ("content", "mention"),
    [
        (b"", "nothing"),
        (b"- a\n", "list"),
        (b"name: [", "YAML"),
        (b"name: \xff\n", "YAML"),
        (b"name: !!python/object/apply:os.getpid []\n", "YAML"),
        (b"name: " + b"[" * 101, "at most 50"),
        (b"#" * 10_000_001, "1,000,000 bytes"),
        (b"name: test\n", "network"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, content: bytes, mention: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=mention) as caught:
        load_recipe(path)
    too_large = content.startswith(b"#")
    assert caught.value.code == ("file-too-large" if too_large else "recipe-invalid")


def test_a_missing_file(tmp_path: Path) -> None:
    with refused("file-unreadable", "none.yaml"):
        load_recipe(tmp_path / "none.yaml")
