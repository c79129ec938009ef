"""Weights of a few hundred bytes for tests that need a network but not a good one."""

from pathlib import Path

import numpy as np
import onnx
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
