"""A person detector of a few hundred bytes, which finds what is red."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hrpose.metadata import DetectorMetadata

SIDE = 64
REACH = 8.0  # px of the input from a center to each side
METADATA = DetectorMetadata("tiny", SIDE, threshold=0.5)


def write_tiny_detector(path: Path, metadata: DetectorMetadata | None = METADATA) -> Path:
    """Finds red: the heat is the mean of red in a cell, less half of green and blue."""
    mix = np.array([1, -0.5, -0.5], np.float32).reshape(1, 3, 1, 1) / 255
    constants = [
        numpy_helper.from_array(mix, "mix"),
        numpy_helper.from_array(np.zeros((4, 1, 1, 1), np.float32), "nothing"),
        numpy_helper.from_array(np.full(4, REACH, np.float32), "reach"),
        numpy_helper.from_array(np.array([1], np.int64), "channel"),
    ]
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["small", "mix"], ["map"]),
        helper.make_node("Squeeze", ["map", "channel"], ["heat"]),
        helper.make_node("Conv", ["map", "nothing", "reach"], ["distances"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", "h", "w", 3])],
        [
            helper.make_tensor_value_info("heat", TensorProto.FLOAT, ["n", "a", "b"]),
            helper.make_tensor_value_info("distances", TensorProto.FLOAT, ["n", 4, "a", "b"]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if metadata is not None:
        helper.set_model_props(model, {DetectorMetadata.keys[0]: metadata.to_json()})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
