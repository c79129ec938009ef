"""One training step: which loss a recipe chooses."""

import pytest
import torch

from conftest import ROOT
from hrpose.data.dataset import Sample
from hrpose.errors import UserError
from hrpose.network import HRNet
from hrpose.passport import Passport
from hrpose.training.loss import ohkm, weighted_mse
from hrpose.training.module import PoseModule
from hrpose.training.recipe import load_recipe

PASSPORT = Passport("w16-small", (96, 128))


def module(*overrides: str) -> PoseModule:
    torch.manual_seed(0)
    recipe = load_recipe(ROOT / "recipes" / "synthetic.yaml", overrides)
    return PoseModule(HRNet.from_name("w16-small"), recipe, PASSPORT).eval()


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
    ("overrides", "top"),
    [([], None), (["loss.name=ohkm"], 8), (["loss.name=ohkm", "loss.top=3"], 3)],
)
def test_a_recipe_chooses_its_loss(
    monkeypatch: pytest.MonkeyPatch, overrides: list[str], top: int | None
) -> None:
    trained, sample = module(*overrides), batch()
    monkeypatch.setattr(trained, "log", lambda *_, **__: None)  # needs a trainer
    targets, weights = PASSPORT.codec.encode(sample.points, sample.visible, PASSPORT.input_wh)
    weights = weights * trained.keypoint_weights
    with torch.no_grad():
        found = trained.training_step(sample, 0)
        heatmaps = trained(sample.image)
    if top is None:
        expected = weighted_mse(heatmaps, targets, weights)
    else:
        expected = ohkm(heatmaps, targets, weights, top)
    torch.testing.assert_close(found, expected)


def test_more_hard_keypoints_than_there_are() -> None:
    with pytest.raises(UserError, match=r"loss.top: expected at most the skeleton's 17 .*found 18"):
        module("loss.name=ohkm", "loss.top=18")
