"""Recipes: what they say, and what is said where they are wrong."""

from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from hrpose.errors import UserError
from hrpose.training.recipe import Recipe, load_recipe

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


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.name)
def test_every_recipe_of_the_project_loads(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name
    assert recipe.data.description != "unknown"
    assert recipe.data.licence != "unknown"


@pytest.mark.parametrize("network", ["w32", "w48"])
def test_the_recipes_of_the_paper(network: str) -> None:
    # Section 4.1, "Training": the figures are the paper's.
    recipe = load_recipe(ROOT / "recipes" / f"{network}-coco-256x192.yaml")
    assert (recipe.network, recipe.input_wh) == (network, (192, 256))
    assert (recipe.optimizer.name, recipe.optimizer.lr, recipe.optimizer.weight_decay) == (
        "adam",
        1e-3,
        0,
    )
    assert (recipe.training.epochs, recipe.schedule.milestones) == (210, (170, 200))
    assert (recipe.schedule.gamma, recipe.schedule.warmup_steps) == (0.1, 0)
    assert recipe.augmentation.rotation_deg == 45
    assert recipe.augmentation.scale == 0.35
    assert recipe.codec.sigma == 2


def test_a_short_recipe_gets_the_defaults(minimal: Path) -> None:
    assert load_recipe(minimal) == Recipe.model_validate(yaml.safe_load(MINIMAL))
    assert load_recipe(minimal).optimizer.lr == 1e-3


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("optimizer.lr=5e-4", ("optimizer", "lr"), 5e-4),
        ("optimizer.lr=0.0005", ("optimizer", "lr"), 5e-4),
        ("training.compile=true", ("training", "compile"), True),
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
        ("optimizer.learning=1", "unknown key 'optimizer.learning'; known here: lr, name, "),
        ("training.epoch=1", "unknown key 'training.epoch'; did you mean 'epochs'?"),
        ("data.train.image=x", "unknown key 'data.train.image'; did you mean 'images'?"),
        ("training.epochs=0", "training.epochs: Input should be greater than or equal to 1, found"),
        ("training.epochs=many", "training.epochs: Input should be a valid integer"),
        ("optimizer.lr=-1", "optimizer.lr: Input should be greater than 0, found -1"),
        ("optimizer.lr=.nan", "optimizer.lr: Input should be"),
        ("optimizer.lr=.inf", "optimizer.lr: Input should be"),
        ("optimizer.name=sgd", "optimizer.name: Input should be 'adam' or 'adamw', found 'sgd'"),
        ("augmentation.flip_probability=2", "augmentation.flip_probability: Input should be"),
        ("network=w64", "network: expected one of w32, w48, w16-small"),
        ("input_wh=[190, 256]", "input_wh: expected multiples of 32"),
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
    ],
)
def test_a_wrong_recipe_is_explained_in_one_line(
    minimal: Path, override: str, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(minimal, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_fault_has_its_line(minimal: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(minimal, ["training.epoch=1", "optimizer.lr=-1"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{minimal}: ") for line in lines)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a mapping of keys, found NoneType"),
        (b"- a\n", "expected a mapping of keys, found list"),
        (b"name: [", "expected YAML, found:"),
        (b"name: \xff\n", "expected YAML, found:"),
        (b"name: !!python/object/apply:os.getpid []\n", "expected YAML, found:"),
        (b"name: test\n", "network: Field required"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_recipe(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")
