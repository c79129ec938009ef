"""The networks: the same keys, sizes and numbers as the official code's."""

from typing import Any

import numpy as np
import pytest
import torch

import golden_rules
from hrpose.models import NETWORKS, HRNet

GOLDEN = [("w32", "hrnet_w32_coco_256x192"), ("w48", "hrnet_w48_mpii_256x256")]


def network_by_rule(name: str, num_keypoints: int) -> HRNet:
    network = HRNet.from_name(name, num_keypoints).eval()
    state = {
        key: torch.from_numpy(golden_rules.weight(key, tuple(value.shape)))
        for key, value in network.state_dict().items()
    }
    network.load_state_dict(state)
    return network


@pytest.mark.parametrize(("name", "golden"), GOLDEN)
def test_state_dict_keys_their_order_and_shapes_are_the_official_ones(
    name: str, golden: str
) -> None:
    facts: Any = golden_rules.facts(golden)
    network = HRNet.from_name(name, facts["num_keypoints"])
    found = [(key, list(value.shape)) for key, value in network.state_dict().items()]
    expected = facts["state_dict"]
    expected = list(expected.items()) if isinstance(expected, dict) else expected
    assert found == [(key, list(shape)) for key, shape in expected]
    assert sum(p.numel() for p in network.parameters()) == facts["parameters"]


@pytest.mark.parametrize(("name", "golden"), GOLDEN)
def test_golden_heatmaps(name: str, golden: str) -> None:
    facts: Any = golden_rules.facts(golden)
    images = golden_rules.network_input(facts["input_seed"], facts["batch"], *facts["input_hw"])
    with torch.inference_mode():
        heatmaps = network_by_rule(name, facts["num_keypoints"])(torch.from_numpy(images))
    expected = golden_rules.arrays(golden)["heatmaps"]
    assert np.abs(heatmaps.numpy() - expected).max() <= 1e-4 * expected.std()


@pytest.mark.parametrize(("name", "millions"), [("w32", 28.5), ("w48", 63.6), ("w16-small", 1.3)])
def test_number_of_parameters(name: str, millions: float) -> None:
    network = HRNet.from_name(name)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("num_keypoints", [1, 17, 133])
def test_heatmaps_have_a_quarter_of_the_resolution(num_keypoints: int) -> None:
    network = HRNet.from_name("w16-small", num_keypoints).eval()
    with torch.inference_mode():
        heatmaps = network(torch.zeros(2, 3, 64, 96))
    assert heatmaps.shape == (2, num_keypoints, 16, 24)


def test_a_batch_equals_its_singles() -> None:
    network = network_by_rule("w16-small", 17)
    images = torch.from_numpy(golden_rules.network_input(5, 3, 64, 64))
    with torch.inference_mode():
        together = network(images)
        singles = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(together, singles, rtol=0, atol=1e-5 * float(singles.std()))


def test_every_weight_learns() -> None:
    network = network_by_rule("w16-small", 17).train()
    network(torch.from_numpy(golden_rules.network_input(6, 2, 64, 64))).square().sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_an_unknown_network_names_those_that_exist() -> None:
    with pytest.raises(ValueError, match="expected one of w32, w48, w16-small, found 'w64'"):
        HRNet.from_name("w64")


def test_no_keypoints_are_refused() -> None:
    with pytest.raises(ValueError, match="num_keypoints: expected at least 1, found 0"):
        HRNet(NETWORKS["w32"], 0)
