"""Pose models as other programs write them: every keypoint is at the brightest dot of the crop."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

WIDTH, HEIGHT = 48, 64


def write_foreign_pose(path: Path, kind: str, k: int = 17, batch: int | str = "n") -> Path:
    """An ONNX file with an input of normalized RGB (n, 3, 64, 48), without metadata of hrpose.

    The outputs are `heatmaps` (n, k, 16, 12), `simcc` vectors (n, k, 96) and (n, k, 128), or, to be
    refused, `boxes` (n, 48, 4).
    """
    tensors = {"repeats": [1, k, 1], "axis": [-1], "channel": [1], "rows": [2], "columns": [3]}
    nodes = [helper.make_node("ReduceMean", ["image", "channel"], ["bright"])]
    if kind == "heatmaps":
        tensors["repeats"] = [1, k, 1, 1]
        size = {"kernel_shape": [4, 4], "strides": [4, 4]}
        nodes += [
            helper.make_node("AveragePool", ["bright"], ["small"], **size),
            helper.make_node("Tile", ["small", "repeats"], ["heatmaps"]),
        ]
        outputs = {"heatmaps": ["m", k, HEIGHT // 4, WIDTH // 4]}
    elif kind == "simcc":
        for name, across, length in (("x", "rows", WIDTH), ("y", "columns", HEIGHT)):
            tensors[f"shape_{name}"] = [-1, k, 2 * length]
            nodes += [
                helper.make_node("ReduceMax", ["bright", across], [f"line_{name}"], keepdims=0),
                helper.make_node("Tile", [f"line_{name}", "repeats"], [f"lines_{name}"]),
                helper.make_node("Unsqueeze", [f"lines_{name}", "axis"], [f"deep_{name}"]),
                helper.make_node("Concat", [f"deep_{name}"] * 2, [f"pairs_{name}"], axis=-1),
                helper.make_node("Reshape", [f"pairs_{name}", f"shape_{name}"], [f"simcc_{name}"]),
            ]
        outputs = {"simcc_x": ["m", k, 2 * WIDTH], "simcc_y": ["m", k, 2 * HEIGHT]}
    else:
        tensors["shape"] = [-1, 48, 4]
        nodes = [helper.make_node("Reshape", ["image", "shape"], ["boxes"])]
        outputs = {"boxes": ["m", 48, 4]}
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, HEIGHT, WIDTH])
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "foreign",
        [image],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [
            numpy_helper.from_array(np.array(values, np.int64), name)
            for name, values in tensors.items()
            if name in used
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def dot(x: float, y: float, size_wh: tuple[int, int] = (WIDTH, HEIGHT)) -> NDArray[np.uint8]:
    """A dark image (h, w, 3) with a round bright dot at (x, y)."""
    columns, rows = np.meshgrid(np.arange(size_wh[0]), np.arange(size_wh[1]))
    light = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 6.0**2))
    return np.repeat((light * 255).astype(np.uint8)[..., None], 3, axis=2)
