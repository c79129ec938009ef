"""Pose models as ONNX, from the table of networks and NumPy arrays. Needs `onnx`, not PyTorch.

Inputs, outputs and metadata are those of `hrpose.models.export`. Each BatchNorm is folded into the
convolution before it.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from hrpose.metadata import FOLDED_KEY, Metadata
from hrpose.models.networks import NETWORKS, forward
from hrpose.models.onnx_arrays import Array, Graph

# PyTorch's, which all HRNets are trained with.
_EPSILON = 1e-5
# Of the names of weights, as in files that PyTorch exported.
_PREFIX = "network."


class _Nodes:
    """The operations of a network as nodes; `folded` are the names of weight and bias of each
    convolution with a BatchNorm.
    """

    def __init__(self, graph: Graph, state: Mapping[str, NDArray[Any]]) -> None:
        self.graph = graph
        self.state = state
        self.folded: dict[str, tuple[str, str]] = {}

    def conv(
        self, x: Array, name: str, norm: str | None, width: int, kernel: int, stride: int
    ) -> Array:
        weight_name, bias_name = f"{name}.weight", f"{name}.bias"
        weight = self.state[weight_name].astype(np.float64)
        if norm is None:
            bias = self.state[bias_name].astype(np.float64)
        else:
            bias_name = f"{name}.weight_bias"
            scale, shift, mean, variance = (
                self.state[f"{norm}.{part}"].astype(np.float64)
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            factor = scale / np.sqrt(variance + _EPSILON)
            weight, bias = weight * factor[:, None, None, None], shift - mean * factor
            self.folded[name] = (weight_name, bias_name)
        names = [
            self.graph.weight(f"{_PREFIX}{part}", value.astype(np.float32))
            for part, value in ((weight_name, weight), (bias_name, bias))
        ]
        batch, _, height, columns = x.shape
        assert isinstance(height, int)
        assert isinstance(columns, int)
        return self.graph.node(
            "Conv",
            [x.name, *names],
            (batch, width, -(-height // stride), -(-columns // stride)),
            np.float32,
            kernel_shape=[kernel, kernel],
            pads=[kernel // 2] * 4,
            strides=[stride, stride],
        )

    def relu(self, x: Array) -> Array:
        return self.graph.node("Relu", [x.name], x.shape, x.dtype)

    def add(self, x: Array, y: Array) -> Array:
        return x + y

    def upsample(self, x: Array, factor: int) -> Array:
        batch, width, height, columns = x.shape
        scales = self.graph.constant([1, 1, factor, factor], np.float32)
        return self.graph.node(
            "Resize",
            [x.name, "", scales.name],
            (batch, width, height * factor, columns * factor),
            x.dtype,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )


def pose_model(state: Mapping[str, NDArray[Any]], metadata: Metadata) -> onnx.ModelProto:
    """The ONNX graph of a pose model; `state` are its weights under the official names.

    Input `crops`: uint8 RGB (batch, h, w, 3) of the metadata's size. Outputs `heatmaps`
    (batch, k, h/4, w/4) and `keypoints` (batch, k, 3): x and y in crop pixels, and the peak.
    """
    width, height = metadata.input_wh
    graph = Graph("crops", (height, width, 3), np.uint8)
    xp = graph.namespace
    pixels = xp.astype(xp.permute_dims(graph.input, (0, 3, 1, 2)), np.float32) / 255
    mean, std = (
        xp.asarray(np.reshape(values, (1, 3, 1, 1)), dtype=np.float32)
        for values in (metadata.mean, metadata.std)
    )
    nodes = _Nodes(graph, state)
    normalized = (pixels - mean) / std
    heatmaps = forward(NETWORKS[metadata.network], metadata.channels, nodes, normalized)
    points, scores = metadata.codec.decode(heatmaps)
    keypoints = xp.concat([points, scores[..., None]], axis=-1)
    model = graph.model(heatmaps=heatmaps, keypoints=keypoints)
    helper.set_model_props(model, {FOLDED_KEY: json.dumps(nodes.folded)})
    return model
