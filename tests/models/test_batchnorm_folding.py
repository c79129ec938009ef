"""Exported weights become trainable: the same outputs, in training too, and heads by name."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor

import golden_rules
from hrpose import weights
from hrpose.metadata import CHECKSUM_KEY, FOLDED_KEY, Metadata
from hrpose.models import HRNet, checkpoint, convert
from hrpose.models.checkpoint import is_folded, norms, read_onnx, unfold
from hrpose.models.export import export, halved, smooth_images
from hrpose.session import open_session
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17, CROWDPOSE_14, HAND_21
from refusals import refused
from tiny_weights import write_tiny_weights

pytestmark = pytest.mark.slow

HORSE = Skeleton("horse", ("tail", "nose", "left_ear", "right_ear"))


@pytest.fixture(scope="module")
def inputs() -> Tensor:
    return smooth_images(6, 64, 64).permute(0, 3, 1, 2).float() / 100 - 1


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[HRNet, Path]:
    """A network with statistics and its export."""
    folder = tmp_path_factory.mktemp("exported")
    network = HRNet.from_name("w16-small", 17)
    network.load_state_dict(
        {
            key: torch.from_numpy(golden_rules.weight(key, tuple(value.shape)))
            for key, value in network.state_dict().items()
        }
    )
    checkpoint.save(folder / "a.safetensors", network, Metadata("w16-small", (64, 64)))
    export(folder / "a.safetensors", folder / "a.onnx")
    return network.eval(), folder / "a.onnx"


def changeable(path: Path) -> onnx.ModelProto:
    """The model without its checksum, which holds no longer once the model is changed."""
    model = onnx.load(path)
    (checksum,) = (entry for entry in model.metadata_props if entry.key == CHECKSUM_KEY)
    model.metadata_props.remove(checksum)
    return model


@torch.no_grad()
def test_an_export_is_read_back(exported: tuple[HRNet, Path], inputs: Tensor) -> None:
    network, path = exported
    read = convert.read(path)
    assert read.metadata is not None
    assert (read.network, read.num_keypoints, read.origin) == ("w16-small", 17, "hrpose")
    again = read.build(COCO_17).eval()
    assert is_folded(again)
    assert not is_folded(network)
    expected = network(inputs)
    torch.testing.assert_close(again(inputs), expected, rtol=0, atol=1e-4 * float(expected.std()))


@torch.no_grad()
def test_unfolding_changes_no_output_and_training_agrees(
    exported: tuple[HRNet, Path], inputs: Tensor
) -> None:
    network = convert.read(exported[1]).build(COCO_17)
    before = network.eval()(inputs)
    unfold(network.train(), [inputs[:4], inputs[4:]])
    assert network.training
    assert not is_folded(network)
    spread = float(before.std())
    torch.testing.assert_close(network.eval()(inputs), before, rtol=0, atol=1e-3 * spread)
    # The batch's own statistics are those that it was given.
    torch.testing.assert_close(network.train()(inputs), before, rtol=0, atol=1e-2 * spread)


@torch.no_grad()
def test_the_embedded_model_is_itself() -> None:
    path = weights.find("w16-small")
    network = convert.read(path).build(COCO_17).eval()
    session = open_session(path)
    metadata = session.metadata
    crops = smooth_images(2, metadata.input_wh[1], metadata.input_wh[0])
    mean, std = (torch.tensor(v)[:, None, None] for v in (metadata.mean, metadata.std))
    heatmaps = network((crops.permute(0, 3, 1, 2).float() / 255 - mean) / std).numpy()
    expected = session(crops.numpy())
    assert np.abs(heatmaps - expected).max() < 1e-3 * expected.std()


@pytest.mark.parametrize("skeleton", [HORSE, CROWDPOSE_14, HAND_21], ids=lambda s: s.name)
def test_keypoints_of_the_same_name_keep_their_rows(skeleton: Skeleton) -> None:
    read = convert.read(weights.find("w16-small"))
    head = read.build(skeleton).final_layer
    assert head.bias is not None
    known = dict(zip(COCO_17.keypoints, read.tensors()["final_layer.weight"], strict=True))
    shared = [name for name in skeleton.keypoints if name in known]
    assert read.shared(skeleton) == shared
    for name, row, bias in zip(skeleton.keypoints, head.weight, head.bias, strict=True):
        assert (name in shared) == (name in known and torch.equal(row, known[name]))
        assert (bias != 0) == (name in shared)


def test_a_head_without_a_metadata_is_known_by_its_number(exported: tuple[HRNet, Path]) -> None:
    state = exported[0].state_dict()
    bare = convert.Weights(
        "w16-small", {k: v.numpy() for k, v in state.items()}, 17, "official", {}
    )
    row = bare.build(HORSE).final_layer.weight[1]
    assert torch.equal(row, state["final_layer.weight"][0])


def test_float16_weights_are_read(exported: tuple[HRNet, Path], tmp_path: Path) -> None:
    half = tmp_path / "half.onnx"
    half.write_bytes(halved(onnx.load(exported[1])).SerializeToString())
    state, _ = read_onnx(half)
    whole, _ = read_onnx(exported[1])
    assert state.keys() == whole.keys()
    assert all(torch.allclose(state[key], whole[key], atol=1e-2, rtol=1e-3) for key in whole)


def test_the_names_of_the_exporter_do_not_matter(
    exported: tuple[HRNet, Path], inputs: Tensor, tmp_path: Path
) -> None:
    """Another version of PyTorch's exporter may call the tensors otherwise: the file says which."""
    model = changeable(exported[1])
    new = {
        entry.name: f"t{i}"
        for i, entry in enumerate(model.graph.initializer)
        if not entry.name.startswith("network.final_layer")
    }
    for entry in model.graph.initializer:
        entry.name = new.get(entry.name, entry.name)
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = new.get(name, name)
    (props,) = (entry for entry in model.metadata_props if entry.key == FOLDED_KEY)
    stored = json.loads(props.value)
    assert len(stored) == sum(1 for _ in norms(exported[0]))
    props.value = json.dumps(
        {conv: [new[f"network.{name}"] for name in pair] for conv, pair in stored.items()}
    )
    onnx.checker.check_model(model)
    onnx.save(model, tmp_path / "renamed.onnx")
    renamed, _ = read_onnx(tmp_path / "renamed.onnx")
    expected, _ = read_onnx(exported[1])
    assert renamed.keys() == expected.keys()
    assert all(torch.equal(renamed[key], expected[key]) for key in expected)


@pytest.mark.parametrize("text", ["[1]", '{"conv1": 3}', "{", '{"conv1": ["a", "b"]}'])
def test_damaged_names_are_refused(exported: tuple[HRNet, Path], tmp_path: Path, text: str) -> None:
    model = changeable(exported[1])
    (props,) = (entry for entry in model.metadata_props if entry.key == FOLDED_KEY)
    props.value = text
    onnx.save(model, tmp_path / "damaged.onnx")
    with refused("weights-unsuitable", "damaged.onnx"):
        convert.read(tmp_path / "damaged.onnx")


def test_other_files_are_refused(exported: tuple[HRNet, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(b"no onnx")
    with refused("weights-damaged", "other.onnx"):
        convert.read(other)
    with refused("metadata-missing", "bare.onnx"):
        convert.read(write_tiny_weights(tmp_path / "bare.onnx", None))
    with refused("weights-unsuitable", "'tiny'"):
        convert.read(write_tiny_weights(tmp_path / "tiny.onnx"))
    model = changeable(exported[1])
    for entry in model.graph.initializer:
        if entry.name == "network.conv2.weight":
            eight_bits = numpy_helper.to_array(entry).astype(np.int8)
            entry.CopyFrom(numpy_helper.from_array(eight_bits, entry.name))
    (tmp_path / "int8.onnx").write_bytes(model.SerializeToString())
    with refused("weights-unsuitable", "'conv2.weight'"):
        convert.read(tmp_path / "int8.onnx")
    for field, value in (("dims", [7]), ("data_type", 4711)):
        model = changeable(exported[1])
        entry = next(e for e in model.graph.initializer if e.name.startswith("network."))
        entry.ClearField(field)
        if field == "dims":
            entry.dims.extend(value)
        else:
            entry.data_type = value
        (tmp_path / "damaged.onnx").write_bytes(model.SerializeToString())
        with refused("weights-unsuitable", "damaged.onnx"):
            convert.read(tmp_path / "damaged.onnx")
