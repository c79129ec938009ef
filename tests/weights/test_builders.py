"""Networks with published weights: builders, PyTorch Hub, and the mixin of the Hub's library."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import golden_rules
import hrpose
from conftest import ROOT
from hrpose.metadata import Metadata
from hrpose.models import NETWORKS, checkpoint
from hrpose.models.build import Network
from hrpose.models.hrnet import Normalize
from hrpose.session import open_session
from hrpose.weights import find
from hrpose.weights.registry import RELEASED, Released
from refusals import refused

pytestmark = pytest.mark.slow

BUILDERS: dict[str, Callable[..., Network]] = {
    "w32": hrpose.hrnet_w32,
    "w48": hrpose.hrnet_w48,
    "w32-small": hrpose.hrnet_w32_small,
    "w16-small": hrpose.hrnet_w16_small,
    "hrnetv2-w18": hrpose.hrnetv2_w18,
    "litehrnet-18": hrpose.litehrnet_18,
    "litehrnet-30": hrpose.litehrnet_30,
}
METADATA = Metadata("w16-small", (64, 64), name="tiny")


@pytest.fixture
def network() -> hrpose.HRNet:
    """Weights as a training leaves them."""
    torch.manual_seed(0)
    network = hrpose.hrnet_w16_small()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.normal_(module.running_mean, std=0.1)
    return network.eval()


@pytest.fixture
def file(network: hrpose.HRNet, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    checkpoint.save(path, network, METADATA)
    return path


def heatmaps(network: Network) -> torch.Tensor:
    crops = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        result: torch.Tensor = network.eval()(crops)
    return result


def test_every_network_has_a_builder() -> None:
    # All but the person detector's, which no poses were trained with.
    assert BUILDERS.keys() == NETWORKS.keys() - {"w16-wide"}
    with torch.device("meta"):
        for name, builder in BUILDERS.items():
            built = builder(num_keypoints=3)  # without content
            assert (built.spec.name, built.num_keypoints) == (name, 3)
            assert built.training
            assert built.metadata is None


def test_weights_come_with_their_metadata(network: hrpose.HRNet, file: Path) -> None:
    built = hrpose.hrnet_w16_small(file)
    assert torch.equal(heatmaps(built), heatmaps(network))
    assert built.metadata == METADATA


def test_included_weights_give_the_heatmaps_of_the_estimator() -> None:
    built = hrpose.hrnet_w16_small("w16-small").eval()
    session = open_session(find("w16-small"), device="cpu", precision="fp32")
    assert built.metadata == session.metadata
    width, height = session.metadata.input_wh
    images = golden_rules.image(3, height, width)[None]
    normalize = Normalize(session.metadata.mean, session.metadata.std)
    with torch.inference_mode():
        found = built(normalize(torch.from_numpy(images))).numpy()
    np.testing.assert_allclose(found, session(images), atol=1e-4)


def test_other_keypoints_get_a_new_last_layer(network: hrpose.HRNet, file: Path) -> None:
    built = hrpose.hrnet_w16_small(file, num_keypoints=5)
    assert (built.num_keypoints, built.metadata) == (5, None)
    old = network.state_dict()
    for key, value in built.state_dict().items():
        assert key.startswith("final_layer.") or torch.equal(value, old[key])
    assert built.final_layer.weight.std() < 0.002


@pytest.mark.parametrize("count", [0, -1, "17", 17.0, True, 10**9])
def test_a_number_of_keypoints_is_a_small_whole_one(count: Any, file: Path) -> None:
    with refused("option-invalid", repr(count)):
        hrpose.hrnet_w16_small(num_keypoints=count)
    folder = file.parent
    file.rename(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"num_keypoints": count}))
    with refused("option-invalid", repr(count)):
        hrpose.HubHRNet.from_pretrained(folder)


def test_weights_of_another_network_are_refused(file: Path) -> None:
    with refused("weights-unsuitable", str(file), "w32", "w16-small"):
        hrpose.hrnet_w32(file)
    with refused("weights-unknown", "w64"):
        hrpose.hrnet_w32("w64")


def test_released_weights_are_downloaded_where_that_is_wanted(
    network: hrpose.HRNet, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = tmp_path / "published.pth"
    torch.save({f"backbone.{k}": v for k, v in network.state_dict().items()}, published)
    server.content = published.read_bytes()
    about = ("MIT", "nobody", 0.5, "AP", "on nothing", METADATA)
    row = Released("w16-test", "pose", (server.address,), server.sha256, *about)
    monkeypatch.setitem(RELEASED, row.name, row)
    monkeypatch.setenv("HRPOSE_HOME", str(tmp_path / "home"))
    with refused("weights-not-downloaded", "w16-test"):
        hrpose.hrnet_w16_small("w16-test")
    built = hrpose.hrnet_w16_small("w16-test", download=True)
    assert built.metadata == METADATA
    assert torch.equal(heatmaps(built), heatmaps(network))
    again = hrpose.hrnet_w16_small("w16-test", download=True)
    assert torch.equal(heatmaps(again), heatmaps(network))
    assert len(server.requests) == 1


@pytest.mark.slow
def test_pytorch_hub_finds_them_without_an_installation(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path[:] = [path for path in sys.path if not path.endswith({"src"!r})]
import torch
network = torch.hub.load({str(ROOT)!r}, "hrnet_w16_small", source="local", weights="w16-small")
assert network.metadata.network == "w16-small"
import hrpose
assert hrpose.__file__.startswith({str(ROOT / "src")!r})
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_hubconf_offers_all_of_them() -> None:
    spec = importlib.util.spec_from_file_location("hubconf", ROOT / "hubconf.py")
    assert spec is not None
    assert spec.loader is not None
    hubconf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hubconf)
    names = {builder.__name__ for builder in BUILDERS.values()}
    assert {*hubconf.__all__} == {*names, "pose_estimator"}
    assert all(getattr(hubconf, name) is getattr(hrpose, name) for name in names)
    assert all(importlib.util.find_spec(package) for package in hubconf.dependencies)
    loaded = torch.hub.load(str(ROOT), "pose_estimator", "w16-small", source="local")
    assert isinstance(loaded, hrpose.PoseEstimator)


def test_what_is_saved_comes_back_and_predicts(network: hrpose.HRNet, tmp_path: Path) -> None:
    network.metadata = METADATA
    folder = tmp_path / "saved"
    hrpose.HubHRNet.of(network).save_pretrained(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "metadata.json", "model.safetensors",
    ]  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    assert config == {"network": "w16-small", "num_keypoints": 17}
    assert METADATA.license in (folder / "README.md").read_text()
    found = hrpose.HubHRNet.from_pretrained(folder)
    assert not found.training
    assert found.metadata == METADATA
    assert torch.equal(heatmaps(found), heatmaps(network))
    assert hrpose.load(folder / "model.safetensors").metadata == METADATA


def test_what_a_folder_is_follows_from_its_weights(network: hrpose.HRNet, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    hrpose.HubHRNet.of(network).save_pretrained(folder)
    (folder / "config.json").unlink()
    found = hrpose.HubHRNet.from_pretrained(folder)
    assert (found.spec.name, found.num_keypoints, found.metadata) == ("w16-small", 17, None)
    assert hrpose.HubHRNet.from_pretrained(folder, num_keypoints=4).num_keypoints == 4
    with refused("weights-unsuitable", str(folder), "w32"):
        hrpose.HubHRNet.from_pretrained(folder, network="w32")
    (folder / "model.safetensors").unlink()
    with refused("weights-unknown", "model.safetensors", "model.onnx"):
        hrpose.HubHRNet.from_pretrained(folder)
    with pytest.raises(ValueError, match="litehrnet-18"):
        hrpose.HubHRNet("litehrnet-18")


def test_the_same_weights_are_shared_not_copied(network: hrpose.HRNet) -> None:
    shared = hrpose.HubHRNet.of(network)
    assert shared.conv1.weight is network.conv1.weight
    assert shared.training == network.training


def test_without_the_library_of_the_hub_its_package_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # type: ignore[arg-type]
    spec = importlib.util.find_spec("hrpose.models.pretrained")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)  # a copy of the module, imported without it
    spec.loader.exec_module(module)
    assert module.hrnet_w16_small(num_keypoints=1).num_keypoints == 1
    with refused("package-missing", "hrpose[hub]"):
        module.HubHRNet("w16-small")
    with refused("package-missing", "hrpose[hub]"):
        module.HubHRNet.from_pretrained("ann/network")
