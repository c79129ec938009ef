"""Distillation: small checkpoints, widened networks, held-out persons, and the recipe."""

from pathlib import Path

import pytest
import torch
from tools.distillation import checkpoint as small
from tools.distillation.data import _splits
from tools.distillation.expand import expand
from tools.distillation.recipe import read_recipe

from hrpose.models import HRNet, checkpoint

RECIPE = Path(__file__).parents[2] / "docs" / "models" / "history" / "w32-small-distilled.yaml"


def test_a_small_checkpoint_has_weights_moments_and_counters(tmp_path: Path) -> None:
    network = HRNet.from_name("w32-small")
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    network(torch.rand(2, 3, 64, 32)).square().mean().backward()
    optimizer.step()
    metadata = read_recipe(RECIPE).metadata()
    small.save(tmp_path, network.state_dict(), network, optimizer, metadata, (1, 16))

    weights, moments = small.paths(tmp_path, "w32-small")
    loaded = HRNet.from_name("w32-small")
    assert small.load_weights(weights, loaded) == (1, 16)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=1e-3, atol=1e-4)
    other = torch.optim.AdamW(loaded.parameters(), lr=1e-3)
    small.load_optimizer(moments, loaded, other)
    for before, after in zip(network.parameters(), loaded.parameters(), strict=True):
        squares = optimizer.state[before]["exp_avg_sq"].clamp_min(2.0**-62)
        torch.testing.assert_close(other.state[after]["exp_avg_sq"], squares, rtol=0.1, atol=0)
    assert checkpoint.load(weights)[1] == metadata


@pytest.mark.parametrize(("name", "channels"), [("w32-small", 17), ("w16-wide", 5)])
def test_a_widened_network_computes_the_same(name: str, channels: int) -> None:
    torch.manual_seed(0)
    narrow = HRNet.from_name("w16-small", channels).eval()
    wide = expand(narrow, name, torch.Generator().manual_seed(1))
    images = torch.randn(1, 3, 64, 32)
    with torch.inference_mode():
        torch.testing.assert_close(wide(images), narrow(images), rtol=0, atol=1e-5)


def test_what_may_show_held_out_persons_is_unused() -> None:
    first = [{"id": i, "source": "coco"} for i in range(1, 21)] + [{"id": 30, "source": "web"}]
    others = [
        {"id": 101, "source": "coco", "replaces": 20},
        {"id": 102, "source": "coco", "replaces": 1},
        {"id": 103, "source": "coco"},
        {"id": 104, "source": "lsp"},
    ]
    held, unused = _splits(first, others, 2)
    assert held == {19, 20}
    assert unused == {*range(13, 19), 101, 103}


def test_the_recipe_has_what_the_metadata_need() -> None:
    recipe = read_recipe(RECIPE, ["samples=1000000"])
    assert recipe.samples == 1_000_000
    assert RECIPE.stem.startswith(recipe.name)
    assert "unknown" not in (recipe.metadata().training_data, recipe.metadata().license)
    assert recipe.metadata().codec.unit_lengths
