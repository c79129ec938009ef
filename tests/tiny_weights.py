"""Weights of a few hundred bytes for tests that need a network but not a good one."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hrpose.metadata import Metadata

METADATA = Metadata(network="tiny", input_wh=(48, 64), name="tiny")


def write_tiny_weights(path: Path, metadata: Metadata | None = METADATA) -> Path:
    """An ONNX file of the form that `hrpose export` writes: each heatmap is a mix of the colors.

    Without metadata it is an ONNX file from somewhere else.
    """
    width, height = METADATA.input_wh
    k = len((metadata or METADATA).skeleton)
    mix = np.random.default_rng(0).dirichlet(np.ones(3), k).astype(np.float32) / 255
    nodes = [
        helper.make_node("Cast", ["crops"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["small", "mix"], ["heatmaps"]),
    ]
    crops = helper.make_tensor_value_info("crops", TensorProto.UINT8, ["n", height, width, 3])
    heatmaps = helper.make_tensor_value_info(
        "heatmaps", TensorProto.FLOAT, ["n", k, height // 4, width // 4]
    )
    weights = numpy_helper.from_array(mix.reshape(k, 3, 1, 1), "mix")
    graph = helper.make_graph(nodes, "tiny", [crops], [heatmaps], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if metadata is not None:
        helper.set_model_props(model, {Metadata.keys[0]: metadata.to_json()})
    path.write_bytes(model.SerializeToString())
    assert onnx.load(path).graph.name == "tiny"
    return path


def marker_colors(count: int) -> NDArray[np.uint8]:
    """(count, 3) RGB colors that differ from each other, from black and from darker shades."""
    levels = np.stack(np.meshgrid(*[[0, 64, 128, 191, 255]] * 3), axis=-1).reshape(-1, 3)
    bright = levels[levels.max(axis=1) == 255]
    return bright[:count].astype(np.uint8)


def write_marker_weights(path: Path, metadata: Metadata, colors: NDArray[np.uint8]) -> Path:
    """A network that finds discs of these `colors` (k, 3): its heatmaps are 1 where a crop has the
    color of the keypoint. No hand weights can be trained on drawn discs, but what comes before and
    after them is tested as with real ones.
    """
    (width, height), k = metadata.input_wh, len(colors)
    colored = colors.astype(np.float32)
    constants = {
        # 1 - |rgb - color|² / 30², as a convolution of rgb and of rgb².
        "mix": np.concatenate([2 * colored, -np.ones((k, 3), np.float32)], axis=1)[..., None, None],
        "bias": 900 - np.square(colored).sum(axis=1),
        "scale": np.array(900, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["crops"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["rgb"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["rgb", "rgb"], ["squares"]),
        helper.make_node("Concat", ["rgb", "squares"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "mix", "bias"], ["near"]),
        helper.make_node("Relu", ["near"], ["positive"]),
        helper.make_node("Div", ["positive", "scale"], ["ones"]),
        helper.make_node(
            "AveragePool", ["ones"], ["heatmaps"], kernel_shape=[5, 5], strides=[4, 4],
            pads=[2, 2, 2, 2],
        ),
    ]  # fmt: skip
    crops = helper.make_tensor_value_info("crops", TensorProto.UINT8, ["n", height, width, 3])
    size = [-(-height // 4), -(-width // 4)]
    heatmaps = helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["n", k, *size])
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "markers", [crops], [heatmaps], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {Metadata.keys[0]: metadata.to_json()})
    path.write_bytes(model.SerializeToString())
    return path
