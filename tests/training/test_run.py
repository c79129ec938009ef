"""What a training starts from."""

from pathlib import Path

import pytest
import torch

from conftest import ROOT
from hrpose.errors import UserError
from hrpose.network import HRNet, checkpoint
from hrpose.passport import Passport
from hrpose.training.recipe import Recipe, load_recipe
from hrpose.training.run import build_network


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Starts from random weights for 17 keypoints."""
    path = tmp_path / "start.safetensors"
    checkpoint.save(path, HRNet.from_name("w16-small"), Passport("w16-small", (96, 128)))
    return load_recipe(ROOT / "recipes" / "synthetic.yaml", [f"weights={path}"])


@pytest.mark.parametrize("num_keypoints", [17, 5])
def test_weights_to_start_from(recipe: Recipe, num_keypoints: int) -> None:
    assert recipe.weights is not None
    start = checkpoint.load(recipe.weights)[0].state_dict()
    found = build_network(recipe, num_keypoints).state_dict()
    other = [key for key in start if not torch.equal(start[key], found[key])]
    # The backbone is kept; a head for other keypoints has to learn anew.
    expected = [] if num_keypoints == 17 else ["final_layer.weight", "final_layer.bias"]
    assert other == expected
    assert found["final_layer.weight"].shape[0] == num_keypoints


def test_weights_of_another_network_are_refused(recipe: Recipe) -> None:
    other = recipe.model_copy(update={"network": "w32"})
    with pytest.raises(UserError, match=r"start\.safetensors: does not fit the network w32"):
        build_network(other, 17)
