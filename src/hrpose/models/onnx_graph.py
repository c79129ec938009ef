"""Pose models as ONNX, from the table of networks and NumPy arrays. Needs `onnx`, not PyTorch.

What is computed with an `Array` becomes nodes of a `Graph`. Arrays follow the Python array API
standard as far as `hrpose.codec` uses it when it decodes: the codec itself writes the part of a
file that decodes heatmaps, and there is no second one. Inputs, outputs and metadata are those of
`hrpose.models.export`. Each BatchNorm is folded into the convolution before it.
"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from hrpose.metadata import FOLDED_KEY, Metadata
from hrpose.models.forward import forward
from hrpose.models.networks import NETWORKS, Interpolation

# As docs/guide/deploy.md states.
OPSET = 18
_IR_VERSION = 10


@dataclass(frozen=True, slots=True)
class Batch:
    """A length that is known when the graph runs: the batch size, so many times."""

    times: int = 1

    def __mul__(self, factor: int) -> "Batch":
        return Batch(self.times * factor)

    __rmul__ = __mul__

    def __floordiv__(self, factor: int) -> "Batch":
        return Batch(self.times // factor)


Shape = tuple[int | Batch, ...]
Number = Union["Array", float, bool]


class Graph:
    """A graph in the making, whose one input is `name`, (batch, *shape) of a NumPy type."""

    def __init__(self, name: str, shape: Sequence[int], dtype: Any) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.input = Array(self, name, (Batch(), *shape), dtype)
        self.namespace = Namespace(self)
        self._constants: dict[bytes, str] = {}

    def weight(self, name: str, value: NDArray[Any]) -> str:
        """Add a tensor of this name; returns the name."""
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def constant(self, value: Any, dtype: Any = None) -> "Array":
        """A constant of this value; equal ones are stored once."""
        array = np.asarray(value, dtype)
        key = f"{array.dtype} {array.shape}".encode() + array.tobytes()
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self.weights.append(numpy_helper.from_array(array, name))
            self._constants[key] = name
        return Array(self, self._constants[key], array.shape, array.dtype)

    def node(
        self, kind: str, inputs: Sequence[str], shape: Shape, dtype: Any, **attributes: Any
    ) -> "Array":
        """Add a node of this ONNX operator; returns its output, of this shape and type."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return Array(self, name, shape, dtype)

    def model(self, **outputs: "Array") -> onnx.ModelProto:
        """The finished graph, checked; its batch size is free."""
        for name, array in outputs.items():
            self.nodes.append(helper.make_node("Identity", [array.name], [name], name))
        graph = helper.make_graph(
            self.nodes,
            "main_graph",
            [_port(self.input.name, self.input)],
            [_port(name, array) for name, array in outputs.items()],
            self.weights,
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(
            graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="hrpose"
        )
        onnx.checker.check_model(model)
        return model


def _port(name: str, array: "Array") -> onnx.ValueInfoProto:
    lengths = ["batch" if isinstance(length, Batch) else length for length in array.shape]
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, kind, lengths)


class Array:
    """The output `name` of a node, with the shape and the NumPy type that it will have."""

    device = None

    def __init__(self, graph: Graph, name: str, shape: Shape, dtype: Any) -> None:
        self.graph = graph
        self.name = name
        self.shape = shape
        self.dtype = np.dtype(dtype)

    def __array_namespace__(self, *, api_version: str | None = None) -> "Namespace":
        return self.graph.namespace

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def T(self) -> "Array":
        return self.graph.node("Transpose", [self.name], self.shape[::-1], self.dtype)

    def _with(self, kind: str, other: Number, dtype: Any = None, swapped: bool = False) -> "Array":
        """An operator of two arrays that are broadcast; numbers take the type of the array."""
        if not isinstance(other, Array):
            other = self.graph.constant(other, self.dtype)
        names = [other.name, self.name] if swapped else [self.name, other.name]
        shape = _broadcast(self.shape, other.shape)
        return self.graph.node(kind, names, shape, dtype or self.dtype)

    def __add__(self, other: Number) -> "Array":
        return self._with("Add", other)

    def __sub__(self, other: Number) -> "Array":
        return self._with("Sub", other)

    def __mul__(self, other: Number) -> "Array":
        return self._with("Mul", other)

    def __rmul__(self, other: Number) -> "Array":
        return self._with("Mul", other, swapped=True)

    def __truediv__(self, other: Number) -> "Array":
        return self._with("Div", other)

    def __floordiv__(self, other: Number) -> "Array":
        # ONNX rounds to zero: the same for indices, which are not negative.
        return self._with("Div", other)

    def __mod__(self, other: Number) -> "Array":
        return self._with("Mod", other)

    def __and__(self, other: Number) -> "Array":
        return self._with("And", other)

    def __lt__(self, other: Number) -> "Array":
        return self._with("Less", other, bool)

    def __gt__(self, other: Number) -> "Array":
        return self._with("Greater", other, bool)

    def __ge__(self, other: Number) -> "Array":
        return self._with("GreaterOrEqual", other, bool)

    def __matmul__(self, other: "Array") -> "Array":
        lengths = (*_broadcast(self.shape[:-2], other.shape[:-2]), self.shape[-2], other.shape[-1])
        return self.graph.node("MatMul", [self.name, other.name], lengths, self.dtype)

    def __getitem__(self, key: Any) -> "Array":
        """Whole axes, new axes and single indices: `[..., None]`, `[:, 2, 3]`."""
        keys = list(key if isinstance(key, tuple) else (key,))
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            rest = self.ndim - sum(each is not None for each in keys) + 1
            keys[at : at + 1] = [slice(None)] * rest
        array, axis = self, 0
        for each in keys:
            if each is None:
                array, axis = array._unsqueezed(axis), axis + 1
            elif isinstance(each, int):
                array = self.graph.namespace.take(array, self.graph.constant(each), axis=axis)
            else:
                axis += 1
        return array

    def _unsqueezed(self, axis: int) -> "Array":
        at = self.graph.constant([axis], np.int64)
        shape = (*self.shape[:axis], 1, *self.shape[axis:])
        return self.graph.node("Unsqueeze", [self.name, at.name], shape, self.dtype)


def _broadcast(one: Shape, other: Shape) -> Shape:
    longest = max(len(one), len(other))
    pairs = zip(
        (1,) * (longest - len(one)) + one, (1,) * (longest - len(other)) + other, strict=True
    )
    return tuple(b if a == 1 else a for a, b in pairs)


class Namespace:
    """The functions of the array API standard that `hrpose.codec` decodes with."""

    __name__ = "onnx"  # by which array_api_compat tells namespaces apart
    float32, float64 = np.float32, np.float64

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def isdtype(self, dtype: Any, kind: str) -> bool:
        return kind == "real floating" and np.issubdtype(dtype, np.floating)

    def asarray(self, value: Any, *, dtype: Any = None, device: Any = None) -> Array:
        return self._graph.constant(value, dtype)

    def arange(
        self, start: Any, stop: Any = None, *, dtype: Any = np.int64, device: Any = None
    ) -> Array:
        """Numbers in steps of 1; the end may be a `Batch`."""
        if stop is None:
            start, stop = 0, start
        if not isinstance(stop, Batch):
            return self._graph.constant(np.arange(start, stop), dtype)
        graph = self._graph
        batch = graph.node("Shape", [graph.input.name], (1,), np.int64, start=0, end=1)
        scalar = graph.node("Squeeze", [batch.name], (), np.int64) * stop.times
        ends = [graph.constant(0, np.int64).name, scalar.name, graph.constant(1, np.int64).name]
        return self.astype(graph.node("Range", ends, (stop,), np.int64), dtype)

    def astype(self, x: Array, dtype: Any) -> Array:
        if x.dtype == dtype:
            return x
        to = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self._graph.node("Cast", [x.name], x.shape, dtype, to=to)

    def reshape(self, x: Array, shape: Sequence[int | Batch]) -> Array:
        """One length may be -1: the rest."""
        whole: Any = 1
        for length in x.shape:
            whole = whole * length
        known = math.prod(n for n in shape if isinstance(n, int) and n != -1)
        lengths = tuple(whole // known if n == -1 else n for n in shape)
        to = [-1 if isinstance(n, Batch) else n for n in lengths]
        names = [x.name, self._graph.constant(to, np.int64).name]
        return self._graph.node("Reshape", names, lengths, x.dtype)

    def permute_dims(self, x: Array, axes: Sequence[int]) -> Array:
        shape = tuple(x.shape[axis] for axis in axes)
        return self._graph.node("Transpose", [x.name], shape, x.dtype, perm=list(axes))

    def concat(self, arrays: Sequence[Array], *, axis: int) -> Array:
        first = arrays[0]
        axis %= first.ndim
        lengths: Any = [array.shape[axis] for array in arrays]
        shape = (*first.shape[:axis], sum(lengths), *first.shape[axis + 1 :])
        names = [array.name for array in arrays]
        return self._graph.node("Concat", names, shape, first.dtype, axis=axis)

    def stack(self, arrays: Sequence[Array], *, axis: int) -> Array:
        axis %= arrays[0].ndim + 1
        return self.concat([array._unsqueezed(axis) for array in arrays], axis=axis)

    def take(self, x: Array, indices: Array, *, axis: int) -> Array:
        shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
        return self._graph.node("Gather", [x.name, indices.name], shape, x.dtype, axis=axis)

    def argmax(self, x: Array, *, axis: int) -> Array:
        return self._graph.node("ArgMax", [x.name], x.shape[:-1], np.int64, axis=axis, keepdims=0)

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        shape = _broadcast(condition.shape, _broadcast(x.shape, y.shape))
        return self._graph.node("Where", [condition.name, x.name, y.name], shape, x.dtype)

    def full_like(self, x: Array, value: float) -> Array:
        """A single number, which is broadcast wherever arrays of the shape of `x` are used."""
        return self._graph.constant(value, x.dtype)

    def zeros_like(self, x: Array) -> Array:
        return self.full_like(x, 0)

    def ones_like(self, x: Array) -> Array:
        return self.full_like(x, 1)

    def sign(self, x: Array) -> Array:
        return self._graph.node("Sign", [x.name], x.shape, x.dtype)

    def log(self, x: Array) -> Array:
        return self._graph.node("Log", [x.name], x.shape, x.dtype)

    def exp(self, x: Array) -> Array:
        return self._graph.node("Exp", [x.name], x.shape, x.dtype)

    def round(self, x: Array) -> Array:
        return self._graph.node("Round", [x.name], x.shape, x.dtype)

    def max(self, x: Array, *, axis: int) -> Array:
        """The greatest along an axis, which stays with length 1."""
        axis %= x.ndim
        at = self._graph.constant([axis], np.int64)
        shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
        return self._graph.node("ReduceMax", [x.name, at.name], shape, x.dtype, keepdims=1)

    def maximum(self, x: Array, y: Array) -> Array:
        return x._with("Max", y)

    def clip(self, x: Array, low: float, high: float) -> Array:
        bounds = [self._graph.constant(bound, x.dtype).name for bound in (low, high)]
        return self._graph.node("Clip", [x.name, *bounds], x.shape, x.dtype)


# PyTorch's, which all HRNets are trained with.
_EPSILON = 1e-5
# Of the names of weights, as in files that PyTorch exported.
_PREFIX = "network."
# Mode and coordinates of ONNX's Resize.
_RESIZE = {
    "nearest": ("nearest", "asymmetric"),
    "bilinear": ("linear", "half_pixel"),
    "bilinear, corners aligned": ("linear", "align_corners"),
}


class _Nodes:
    """The operations of a network as nodes; `folded` are the names of weight and bias of each
    convolution with a BatchNorm.
    """

    def __init__(self, graph: Graph, state: Mapping[str, NDArray[Any]]) -> None:
        self.graph = graph
        self.state = state
        self.folded: dict[str, tuple[str, str]] = {}

    def conv(
        self, x: Array, name: str, norm: str | None, width: int, kernel: int, stride: int,
        *, groups: int = 1, bias: bool = False,
    ) -> Array:  # fmt: skip
        weight_name, bias_name = f"{name}.weight", f"{name}.bias"
        weight = self.state[weight_name].astype(np.float64)
        shift = self.state[bias_name].astype(np.float64) if bias else np.zeros(width)
        if norm is not None:
            bias_name = f"{name}.weight_bias"
            scale, norm_bias, mean, variance = (
                self.state[f"{norm}.{part}"].astype(np.float64)
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            factor = scale / np.sqrt(variance + _EPSILON)
            weight = weight * factor[:, None, None, None]
            shift = norm_bias + (shift - mean) * factor
            self.folded[name] = (weight_name, bias_name)
        names = [
            self.graph.weight(f"{_PREFIX}{part}", value.astype(np.float32))
            for part, value in ((weight_name, weight), (bias_name, shift))
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
            group=groups,
        )

    def relu(self, x: Array) -> Array:
        return self.graph.node("Relu", [x.name], x.shape, x.dtype)

    def sigmoid(self, x: Array) -> Array:
        return self.graph.node("Sigmoid", [x.name], x.shape, x.dtype)

    def add(self, x: Array, y: Array) -> Array:
        return x + y

    def multiply(self, x: Array, y: Array) -> Array:
        return x * y

    def upsample(self, x: Array, factor: int, how: Interpolation) -> Array:
        batch, width, height, columns = x.shape
        scales = self.graph.constant([1, 1, factor, factor], np.float32)
        mode, centers = _RESIZE[how]
        return self.graph.node(
            "Resize",
            [x.name, "", scales.name],
            (batch, width, height * factor, columns * factor),
            x.dtype,
            mode=mode,
            coordinate_transformation_mode=centers,
            nearest_mode="floor",
        )

    def pool(self, x: Array, factor: int | None) -> Array:
        batch, width, *sides = x.shape
        if factor is None:
            return self.graph.node("GlobalAveragePool", [x.name], (batch, width, 1, 1), x.dtype)
        shape, square = (batch, width, *(n // factor for n in sides)), [factor, factor]
        return self.graph.node(
            "AveragePool", [x.name], shape, x.dtype, kernel_shape=square, strides=square
        )

    def concat(self, parts: Sequence[Array]) -> Array:
        return self.graph.namespace.concat(parts, axis=1)

    def split(self, x: Array, widths: Sequence[int]) -> list[Array]:
        ends = itertools.accumulate(widths)
        return [
            self.graph.node(
                "Slice",
                [x.name, *(self.graph.constant([n]).name for n in (end - width, end, 1))],
                (x.shape[0], width, *x.shape[2:]),
                x.dtype,
            )
            for width, end in zip(widths, ends, strict=True)
        ]

    def shuffle(self, x: Array) -> Array:
        xp, (batch, width, *sides) = self.graph.namespace, x.shape
        halves = xp.reshape(x, (batch, 2, width // 2, *sides))
        return xp.reshape(xp.permute_dims(halves, (0, 2, 1, 3, 4)), x.shape)


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
