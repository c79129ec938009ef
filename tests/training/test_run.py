"""What a training starts from."""

from pathlib import Path

import pytest
import torch

from conftest import ROOT
from hrpose.errors import UserError
from hrpose.metadata import Metadata
from hrpose.models import HRNet, checkpoint
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17, MPII_16
from hrpose.synthetic import write_dataset
from hrpose.training.recipe import Recipe, load_recipe
from hrpose.training.train import build_network, read_start, train

FIVE = Skeleton("five", ("a", "b", "c", "d", "e"))
OTHER_17 = Skeleton("other", tuple(f"point {i}" for i in range(17)))
HEAD = ["final_layer.weight", "final_layer.bias"]


def recipe_from(weights: Path | str) -> Recipe:
    return load_recipe(ROOT / "recipes" / "synthetic.yaml", [f"weights={weights}"])


@pytest.fixture(scope="module")
def start() -> HRNet:
    """Random weights for COCO's keypoints."""
    torch.manual_seed(0)
    network = HRNet.from_name("w16-small")
    torch.nn.init.ones_(network.final_layer.bias)
    return network


def write(form: str, folder: Path, network: HRNet) -> Path:
    state = network.state_dict()
    path = folder / ("start.safetensors" if form == "hrpose" else "start.pth")
    if form == "hrpose":
        checkpoint.save(path, network, Metadata("w16-small", (96, 128)))
    elif form == "official":
        torch.save(state, path)
    elif form == "mmpose":
        renamed = {
            f"{'head' if key in HEAD else 'backbone'}.{key}": value for key, value in state.items()
        }
        torch.save({"meta": {"epoch": 210}, "state_dict": renamed}, path)
    else:
        backbone = {key: value for key, value in state.items() if key not in HEAD}
        torch.save({**backbone, "fc.bias": state["bn1.bias"]}, path)
    return path


@pytest.mark.parametrize("form", ["hrpose", "official", "mmpose", "imagenet"])
@pytest.mark.parametrize("skeleton", [COCO_17, MPII_16, FIVE, OTHER_17], ids=lambda s: s.name)
def test_weights_to_start_from(tmp_path: Path, start: HRNet, form: str, skeleton: Skeleton) -> None:
    recipe = recipe_from(write(form, tmp_path, start))
    before = start.state_dict()
    found = build_network(recipe, skeleton, read_start(recipe)).state_dict()
    other = [key for key in before if not torch.equal(before[key], found[key])]
    # The backbone is kept; a head for other keypoints has to learn anew.
    assert other == ([] if skeleton is COCO_17 and form != "imagenet" else HEAD)
    assert found["final_layer.weight"].shape[0] == len(skeleton)
    # ... from the official initialization, but for the keypoints that it knows by name.
    if other:
        known = COCO_17.keypoints if form != "imagenet" else ()
        new = [i for i, name in enumerate(skeleton.keypoints) if name not in known]
        assert int(found["final_layer.bias"].count_nonzero()) == len(skeleton) - len(new)
        assert float(found["final_layer.weight"][new].std()) < 0.002


def test_weights_of_another_network_are_refused(tmp_path: Path, start: HRNet) -> None:
    recipe = recipe_from(write("official", tmp_path, start)).model_copy(update={"network": "w32"})
    with pytest.raises(UserError, match=r"start\.pth: does not fit the network w32 .* w16-small"):
        read_start(recipe)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("nowhere.safetensors", "weights: nowhere.safetensors: no such weights"),
        ("w32-imagenet", "`hrpose weights download w32-imagenet` fetches it"),
    ],
)
def test_weights_that_are_not_there_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str, message: str
) -> None:
    monkeypatch.setenv("HRPOSE_HOME", str(tmp_path / "empty"))
    for seed, part in enumerate(("train", "val")):
        write_dataset(tmp_path / part, 1, seed)
    with pytest.raises(UserError, match=message):
        train(recipe_from(weights), tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
