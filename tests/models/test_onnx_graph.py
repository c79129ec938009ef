"""Pose models as ONNX without PyTorch: the same numbers, ports and metadata as its export."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

import golden_rules
from hrpose.codec import Codec
from hrpose.metadata import Metadata
from hrpose.models import NETWORKS, checkpoint, convert
from hrpose.models.build import Network, build
from hrpose.models.export import CropsToKeypoints, export_pose, smooth_images
from hrpose.models.forward import state_shapes
from hrpose.models.networks import NetworkSpec
from hrpose.models.onnx_graph import Graph, pose_model
from hrpose.session import open_session
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17
from tiny_network import TINY, TINY_LITE, TINY_V2
from without import run_without

# In standard deviations of the heatmaps, as an export is compared with PyTorch.
TOLERANCE = 2e-5


def seeded(name: str, num_keypoints: int) -> Network:
    """Random weights and statistics, so that nothing is zero or one by chance."""
    network = build(name, num_keypoints).eval()
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict(
        {key: torch.from_numpy(golden_rules.weight(key, shape)) for key, shape in shapes.items()}
    )
    return network


def metadata_for(name: str, k: int, codec: Codec, input_wh: tuple[int, int]) -> Metadata:
    skeleton = COCO_17 if k == 17 else Skeleton("test", tuple(f"k{i}" for i in range(k)))
    return Metadata(name, input_wh, skeleton=skeleton, codec=codec, name="test")


def arrays(network: Network) -> dict[str, Any]:
    return {key: value.numpy() for key, value in network.state_dict().items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_names_and_shapes_are_those_of_the_state_dict(name: str) -> None:
    k = 16
    with torch.device("meta"):
        state = build(name, k).state_dict()
    expected = [(key, tuple(value.shape)) for key, value in state.items()]
    assert list(state_shapes(NETWORKS[name], k).items()) == expected


CASES = [
    ("w16-small", 17, Codec("gaussian", 1.5), (64, 96)),
    ("w16-small", 20, Codec("dark", 1.5), (96, 64)),
    ("w16-small", 1, Codec("udp", 2), (32, 32)),
    pytest.param(("w32", 16, Codec("gaussian", 2), (64, 64)), marks=pytest.mark.slow),
    pytest.param(("w48", 17, Codec("udp", 2), (64, 64)), marks=pytest.mark.slow),
    pytest.param(("hrnetv2-w18", 21, Codec("dark", 2), (32, 64)), marks=pytest.mark.slow),
    pytest.param(("litehrnet-18", 17, Codec("gaussian", 2), (96, 64)), marks=pytest.mark.slow),
    pytest.param(("litehrnet-30", 16, Codec("udp", 2), (64, 64)), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}-{case[2].name}")
def test_it_computes_what_pytorch_computes(case: tuple[str, int, Codec, tuple[int, int]]) -> None:
    network, metadata = seeded(case[0], case[1]), metadata_for(*case)
    content = pose_model(arrays(network), metadata).SerializeToString()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    width, height = metadata.input_wh
    for batch in (1, 3):
        crops = smooth_images(batch, height, width)
        heatmaps, keypoints = session.run(["heatmaps", "keypoints"], {"crops": crops.numpy()})
        with torch.inference_mode():
            expected, _ = CropsToKeypoints(network, metadata)(crops)
        assert heatmaps.shape == tuple(expected.shape)
        spread = float(expected.std())
        assert np.abs(heatmaps - expected.numpy()).max() <= TOLERANCE * spread
        # Of these very heatmaps: a peak of others may be the next pixel.
        points, scores = metadata.codec.decode(heatmaps)
        np.testing.assert_allclose(keypoints[..., :2], points, rtol=0, atol=1e-3)
        np.testing.assert_array_equal(keypoints[..., 2], scores)


@pytest.mark.parametrize("name", ["gaussian", "dark", "udp"])
def test_peaks_at_borders_and_empty_heatmaps_decode_alike(name: str) -> None:
    codec = Codec(name, 1.5)
    graph = Graph("heatmaps", (3, 12, 9), np.float32)
    points, scores = codec.decode(graph.input)
    content = graph.model(points=points, scores=scores).SerializeToString()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    places = rng.uniform(-8, 44, (200, 3, 2))
    heatmaps, _ = codec.encode(places, np.ones((200, 3)), (36, 48))
    heatmaps = np.concatenate([heatmaps, -heatmaps, rng.normal(size=(50, 3, 12, 9))])
    found = session.run(["points", "scores"], {"heatmaps": heatmaps.astype(np.float32)})
    for one, other in zip(found, codec.decode(heatmaps.astype(np.float32)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_it_is_what_pytorch_exports(tmp_path: Path) -> None:
    network = seeded("w16-small", 20)
    metadata = metadata_for("w16-small", 20, Codec("dark", 1.5), (64, 96))
    checkpoint.save(tmp_path / "a.safetensors", network, metadata)
    export_pose(tmp_path / "a.safetensors", tmp_path / "theirs.onnx")
    weights = convert.read(tmp_path / "a.safetensors")
    convert.write_hrpose(tmp_path / "ours.onnx", weights, metadata)
    ours, theirs = (onnx.load(tmp_path / f"{name}.onnx") for name in ("ours", "theirs"))
    assert ours.ir_version == theirs.ir_version
    assert ours.opset_import == theirs.opset_import
    assert ours.graph.input == theirs.graph.input
    assert ours.graph.output == theirs.graph.output
    texts = [{p.key: p.value for p in model.metadata_props} for model in (ours, theirs)]
    assert texts[0].keys() == texts[1].keys()
    assert texts[0]["hrpose.metadata"] == texts[1]["hrpose.metadata"]
    sessions = [
        ort.InferenceSession(tmp_path / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("ours", "theirs")
    ]
    crops = smooth_images(4, 96, 64).numpy()
    (heatmaps, keypoints), (expected, their_keypoints) = (
        session.run(["heatmaps", "keypoints"], {"crops": crops}) for session in sessions
    )
    assert np.abs(heatmaps - expected).max() <= TOLERANCE * expected.std()
    np.testing.assert_allclose(keypoints, their_keypoints, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("spec", [TINY, TINY_V2, TINY_LITE], ids=lambda spec: str(spec.name))
def test_a_training_can_start_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: NetworkSpec
) -> None:
    monkeypatch.setitem(NETWORKS, spec.name, spec)
    network, metadata = seeded(spec.name, 17), metadata_for(spec.name, 17, Codec(), (64, 64))
    checkpoint.save(tmp_path / "a.safetensors", network, metadata)
    convert.write_hrpose(tmp_path / "a.onnx", convert.read(tmp_path / "a.safetensors"), metadata)
    again = convert.read(tmp_path / "a.onnx")
    assert again.metadata == metadata
    images = smooth_images(2, 64, 64).permute(0, 3, 1, 2).float() / 100 - 1
    # An exporter chooses the names; they are found by the values.
    graph = onnx.load(tmp_path / "a.onnx").graph
    assert checkpoint.folded_names(network, graph) == {
        name: (f"{name}.weight", f"{name}.weight_bias") for name, *_ in checkpoint.norms(network)
    }
    found = again.build(COCO_17).eval()
    with torch.no_grad():
        expected = network(images)
        for _ in range(2):
            difference = float((found(images) - expected).abs().max())
            assert difference <= 1e-4 * float(expected.std())
            checkpoint.unfold(found, [images])
    assert not checkpoint.is_folded(found)


def test_it_needs_neither_pytorch_nor_safetensors(tmp_path: Path) -> None:
    torch.save(seeded("w16-small", 17).state_dict(), tmp_path / "a_256x192.pth")
    source, out = str(tmp_path / "a_256x192.pth"), str(tmp_path / "a.onnx")
    done = run_without(
        ("torch", "safetensors", "lightning", "onnxscript", "scipy"),
        "from hrpose.cli.main import app\n"
        f"app(['weights', 'convert', {source!r}, '--out', {out!r}])\n",
    )
    assert done.returncode == 0, done.stderr
    assert open_session(tmp_path / "a.onnx").metadata.input_wh == (192, 256)
