"""ONNX files of a few hundred bytes that give known outputs, in the layouts of real detectors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Outputs = Mapping[str, NDArray[Any]]


def write_detector(
    path: Path,
    outputs: Outputs,
    *,
    input_shape: Sequence[int | str] = (1, 3, 64, 64),
    input_type: int = TensorProto.FLOAT,
    asks_for_size: bool = False,
    plus_mean_red: str = "",
) -> Path:
    """A detector that gives `outputs` for every image.

    `plus_mean_red` names an output of floats to which the mean of the last plane is added, so
    that a test can see what enters.
    """
    inputs = [helper.make_tensor_value_info("images", input_type, list(input_shape))]
    if asks_for_size:
        inputs.append(helper.make_tensor_value_info("sizes", TensorProto.INT64, [1, 2]))
    nodes, infos = [], []
    for name, values in outputs.items():
        constant = numpy_helper.from_array(values, f"{name}_constant")
        nodes.append(helper.make_node("Constant", [], [f"{name}_c"], value=constant))
        if name == plus_mean_red:
            plane = numpy_helper.from_array(np.array(2), "plane")
            nodes += [
                helper.make_node("Constant", [], ["plane"], value=plane),
                helper.make_node("Gather", ["images", "plane"], ["red"], axis=1),
                helper.make_node("ReduceMean", ["red"], ["mean"], keepdims=0),
                helper.make_node("Add", [f"{name}_c", "mean"], [name]),
            ]
        else:
            nodes.append(helper.make_node("Identity", [f"{name}_c"], [name]))
        kind = helper.np_dtype_to_tensor_dtype(values.dtype)
        # Without a shape, as some exporters leave it.
        infos.append(helper.make_tensor_value_info(name, kind, None))
    graph = helper.make_graph(nodes, "tiny", inputs, infos)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def grid_outputs(
    boxes_xyxy: Sequence[Sequence[float]],
    scores: Sequence[float],
    input_wh: tuple[int, int] = (64, 64),
    classes: int = 80,
    stride: int = 8,
) -> Outputs:
    """YOLOX's raw cells: each box sits in the cell of `stride` that holds its center."""
    strides = (8, 16, 32)
    counts = [(input_wh[0] // s) * (input_wh[1] // s) for s in strides]
    cells = np.zeros((1, sum(counts), 5 + classes), np.float32)
    start = sum(counts[: strides.index(stride)])
    for (x1, y1, x2, y2), score in zip(boxes_xyxy, scores, strict=True):
        x, y = (x1 + x2) / 2 / stride, (y1 + y2) / 2 / stride
        row = start + int(y) * (input_wh[0] // stride) + int(x)
        cells[0, row, :4] = (
            x - int(x),
            y - int(y),
            np.log((x2 - x1) / stride),
            np.log((y2 - y1) / stride),
        )
        cells[0, row, 4:6] = 0.5, score / 0.5
    return {"output": cells}


def scored_outputs(boxes_xyxy: Sequence[Sequence[float]], scores: Sequence[float]) -> Outputs:
    """OpenMMLab's: and a bicycle, surer than every person."""
    rows = [[*box, score] for box, score in zip(boxes_xyxy, scores, strict=True)]
    dets = np.array([[[0, 0, 9, 9, 1], *rows]], np.float32)
    return {"dets": dets, "labels": np.array([[1] + [0] * len(rows)], np.int64)}


def query_outputs(
    boxes_xyxy: Sequence[Sequence[float]],
    scores: Sequence[float],
    input_wh: tuple[int, int] = (64, 64),
    classes: int = 91,
) -> Outputs:
    """DETR's: the logits say `scores` for people; by softmax where there are 92 columns."""
    xyxy = np.array(boxes_xyxy, np.float64) / np.tile(input_wh, 2)
    boxes = np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    p = np.array(scores)
    logits = np.full((len(p), classes), -20.0)
    logits[:, 1 if classes > 80 else 0] = np.log(p / (1 - p))
    if classes == 92:
        logits[:, -1] = 0
    return {"dets": boxes[None].astype(np.float32), "labels": logits[None].astype(np.float32)}


def final_outputs(
    boxes_xyxy: Sequence[Sequence[float]], scores: Sequence[float], person: int = 1
) -> Outputs:
    """Torchvision's: and something else, surer than every person."""
    return {
        "boxes": np.array([[0, 0, 9, 9], *boxes_xyxy], np.float32),
        "labels": np.array([7] + [person] * len(scores), np.int64),
        "scores": np.array([1, *scores], np.float32),
    }
