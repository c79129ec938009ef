"""HRNetV2 and Lite-HRNet: the names and the heatmaps of MMPose's own code, recorded from it.

tests/golden/README.md says how.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from typer.testing import CliRunner

import golden_rules
from hrpose.cli.main import app
from hrpose.metadata import Metadata
from hrpose.models import convert
from hrpose.models.build import build
from hrpose.models.export import CropsToKeypoints
from hrpose.session import open_session
from hrpose.skeletons import HAND_21

pytestmark = pytest.mark.slow

FILE = "mmpose_networks"
# Keypoints, skeleton, seed of the images, and their height and width.
CASES = {
    "hrnetv2-w18": (21, "hand-21", 1801, (64, 96)),
    "litehrnet-18": (17, "coco-17", 1802, (96, 64)),
    "litehrnet-30": (16, "mpii-16", 1803, (64, 64)),
}
NAMES = [
    pytest.param(name, marks=pytest.mark.slow if name == "litehrnet-30" else ()) for name in CASES
]
State = Mapping[str, Tensor]


@cache
def published(name: str) -> dict[str, Tensor]:
    """A state dict with the names that MMPose's code gives it, and weights by rule."""
    entries = (str(entry).split() for entry in golden_rules.arrays(FILE)[f"{name}.state_dict"])
    return {
        key: torch.from_numpy(
            np.asarray(
                golden_rules.weight(re.sub(r"^(backbone|head)\.", "", key), tuple(map(int, shape)))
            )
        )
        for key, *shape in entries
    }


def as_version_0(state: State) -> State:
    """MMPose 0.x keeps all layers of the head as `final_layer`."""
    lists = "head.conv_layers.0.weight" in state
    last = "keypoint_head.final_layer.3." if lists else "keypoint_head.final_layer."
    renamed = {}
    for key, value in state.items():
        name = key.replace("head.conv_layers.", "keypoint_head.final_layer.")
        renamed[re.sub(r"^head\.final_layer\.", last, name)] = value
    return renamed


def as_face_code(state: State) -> State:
    """The official face landmark code keeps them as `head`, and has no `backbone`."""
    renamed = {}
    for key, value in state.items():
        name = key.removeprefix("backbone.").replace("head.conv_layers.", "head.")
        renamed[name.replace("head.final_layer.", "head.3.")] = value
    return renamed


FORMS = {"mmpose 1.x": lambda state: state, "mmpose 0.x": as_version_0, "official": as_face_code}


def images(name: str) -> NDArray[np.uint8]:
    _, _, seed, sides = CASES[name]
    return np.stack([golden_rules.image(seed + number, *sides) for number in range(2)])


def difference(name: str, heatmaps: NDArray[np.float32]) -> float:
    """From MMPose's, in their standard deviations."""
    recorded = golden_rules.arrays(FILE)[f"{name}.heatmaps"]
    return float(np.abs(heatmaps - recorded).max() / recorded.std())


@pytest.mark.parametrize("name", NAMES)
def test_mmposes_weights_give_mmposes_heatmaps(tmp_path: Path, name: str) -> None:
    k, skeleton, _, (height, width) = CASES[name]
    source = tmp_path / f"{name}_{height}x{width}-0a1b2c3d_20210330.pth"
    state = published(name)
    torch.save({"meta": {"epoch": 210}, "state_dict": state}, source)
    out = tmp_path / "a.onnx"
    ran = CliRunner().invoke(
        app, ["weights", "convert", str(source), "--skeleton", skeleton, "--out", str(out)]
    )
    assert ran.exit_code == 0, ran.output
    assert f"mmpose 1.x, network {name}, {k} keypoints" in ran.output
    assert f"matched {len(state)} entries" in ran.output
    assert "dropped" not in ran.output
    session = open_session(out, device="cpu")
    assert session.metadata.network == name
    assert difference(name, session(images(name))) <= 1e-4


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("hrnetv2-w18", "mmpose 0.x"),
        ("hrnetv2-w18", "official"),
        ("litehrnet-18", "mmpose 0.x"),
        pytest.param("litehrnet-30", "mmpose 1.x", marks=pytest.mark.slow),
    ],
)
def test_heads_of_every_form_are_read(tmp_path: Path, name: str, form: str) -> None:
    state = published(name)
    torch.save(FORMS[form](state), tmp_path / "a.pth")
    weights = convert.read(tmp_path / "a.pth")
    assert (weights.network, weights.num_keypoints) == (name, CASES[name][0])
    assert (weights.origin, dict(weights.dropped), weights.added) == (form, {}, 0)
    # MMPose's names in its order.
    assert list(weights.state) == [re.sub(r"^(backbone|head)\.", "", key) for key in state]
    with torch.device("meta"):
        network = build(name, CASES[name][0]).eval()
    assert list(network.state_dict()) == list(weights.state)
    network.load_state_dict(weights.tensors(), assign=True)
    metadata = Metadata(name, (64, 64))
    with torch.inference_mode():
        found, _ = CropsToKeypoints(network, metadata)(torch.from_numpy(images(name)))
    assert difference(name, found.numpy()) <= 1e-5


@pytest.mark.slow
def test_a_backbone_gets_a_new_head(tmp_path: Path) -> None:
    state = {k: v for k, v in published("hrnetv2-w18").items() if k.startswith("backbone.")}
    torch.save(state, tmp_path / "a.pth")
    weights = convert.read(tmp_path / "a.pth")
    assert weights.num_keypoints is None
    network = weights.build(HAND_21)
    assert network.state_dict()["conv_layers.0.weight"].std() < 0.002
    torch.testing.assert_close(network.state_dict()["conv1.weight"], state["backbone.conv1.weight"])
