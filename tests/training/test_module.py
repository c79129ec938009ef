"""One training step: which loss a recipe chooses."""

from types import SimpleNamespace

import pytest
import torch

from conftest import ROOT
from hrpose.data.dataset import Sample
from hrpose.errors import UserError
from hrpose.metadata import Metadata
from hrpose.models import HRNet
from hrpose.training.losses import ohkm, peak, weighted_mse
from hrpose.training.module import PoseModule
from hrpose.training.recipe import load_recipe

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
    ],
)
def test_a_recipe_chooses_its_loss(
    monkeypatch: pytest.MonkeyPatch, overrides: list[str], top: int | None, of_peak: float
) -> None:
    trained, sample = module("loss.peak=0", *overrides), batch()
    monkeypatch.setattr(trained, "log", lambda *_, **__: None)  # needs a trainer
    targets, weights = METADATA.codec.encode(sample.points, sample.visible, METADATA.input_wh)
    weights = weights * trained.keypoint_weights
    with torch.no_grad():
        found = trained.training_step(sample, 0)
        heatmaps = trained(sample.image)
    if top is None:
        expected = weighted_mse(heatmaps, targets, weights)
    else:
        expected = ohkm(heatmaps, targets, weights, top)
    expected = expected + of_peak * peak(heatmaps, targets, weights)
    torch.testing.assert_close(found, expected)


def test_more_hard_keypoints_than_there_are() -> None:
    with pytest.raises(UserError, match=r"loss.top: expected at most the skeleton's 17 .*found 18"):
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
