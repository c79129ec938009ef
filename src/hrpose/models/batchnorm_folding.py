"""Weights whose BatchNorm was folded into the convolutions by an export, made trainable again.

An ONNX file of `hrpose export` has one weight and one bias for each convolution and its BatchNorm.
`read_onnx` reads them as a network that computes the same, whose BatchNorms only add the bias.
`unfold` then gives every BatchNorm the statistics of real inputs, so that the network still
computes the same, and trains as well as any.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from hrpose.errors import UserError
from hrpose.io import read_texts
from hrpose.metadata import FOLDED_KEY, Metadata, read_metadata
from hrpose.models.hrnet import HRNet

_PREFIX = "network."
# Bound for channels that hardly vary, whose weights would grow without it.
_MIN_VARIANCE = 1e-6


def norms(network: nn.Module) -> Iterator[tuple[str, nn.Conv2d, str, BatchNorm]]:
    """Every convolution that a BatchNorm follows, and this BatchNorm, with their names."""
    kinds = (nn.Conv2d, BatchNorm)
    modules = [(name, m) for name, m in network.named_modules() if isinstance(m, kinds)]
    for (conv_name, conv), (norm_name, norm) in pairwise(modules):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, BatchNorm):
            yield conv_name, conv, norm_name, norm


def read_onnx(path: Path) -> tuple[dict[str, Tensor], Metadata | None]:
    """The state dict of an ONNX file of `hrpose export`, and the metadata of a pose model.

    Raises UserError for other ONNX files, and for those with eight-bit weights.
    """
    import onnx  # Here, because most weights come in other files.

    try:
        model: Any = onnx.load(path)
    except Exception as error:  # A broken file can raise anything.
        raise UserError(
            f"{path}: expected an ONNX file, found: {error}", code="weights-damaged"
        ) from error
    metadata = read_metadata(path)
    if metadata is None:
        raise UserError(
            f"{path}: carries no metadata of hrpose; expected an ONNX file that `hrpose export` "
            "wrote",
            code="metadata-missing",
        )
    try:
        found = {
            entry.name.removeprefix(_PREFIX).removesuffix(".half"): torch.from_numpy(
                onnx.numpy_helper.to_array(entry).astype("float32")
            )
            for entry in model.graph.initializer
            if onnx.helper.tensor_dtype_to_np_dtype(entry.data_type).kind == "f"
        }
        with torch.device("meta"):
            network = HRNet.from_name(metadata.network, metadata.channels)
        state = {key: found[key] for key in ("final_layer.weight", "final_layer.bias")}
        names = _stored_names(read_texts(path))
        for conv_name, _, norm_name, norm in norms(network):
            # Older files do not store the names; they have those of PyTorch 2.13.
            usual = (f"{conv_name}.weight", f"{conv_name}.weight_bias")
            weight, bias = (found[entry] for entry in names.get(conv_name, usual))
            state[f"{conv_name}.weight"] = weight
            state[f"{norm_name}.weight"] = torch.ones_like(bias)
            state[f"{norm_name}.bias"] = bias
            state[f"{norm_name}.running_mean"] = torch.zeros_like(bias)
            state[f"{norm_name}.running_var"] = torch.full_like(bias, 1 - norm.eps)
            state[f"{norm_name}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: expected the weights of a network as `hrpose export` writes them, did not "
            f"find {error}; use the weights that it was made from",
            code="weights-unsuitable",
        ) from error
    return state, metadata if isinstance(metadata, Metadata) else None


def folded_names(network: nn.Module, graph: Any) -> dict[str, tuple[str, str]]:
    """The names in an exported `graph` of each convolution's weight (n, in, h, w) and bias (n,).

    The BatchNorm behind each convolution of `network` is folded into them. They are recognized by
    their values, since exporters choose the names. Empty where one is missing: then the exporter
    did not fold, and the file cannot be made trainable again.
    """
    from onnx import numpy_helper

    tensors = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    free: dict[tuple[int, ...], list[tuple[str, str]]] = {}
    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) == 3 and node.input[1] in tensors:
            weight, bias = node.input[1:]
            free.setdefault(tensors[weight].shape, []).append((weight, bias))
    names: dict[str, tuple[str, str]] = {}
    for conv_name, conv, _, norm in norms(network):
        weight, bias = (tensor.detach().numpy() for tensor in _folded(conv, norm))
        candidates = free.get(weight.shape, [])
        alike = (
            pair
            for pair in candidates
            if np.allclose(tensors[pair[0]], weight, rtol=1e-3, atol=1e-6)
            and np.allclose(tensors[pair[1]], bias, rtol=1e-3, atol=1e-5)
        )
        found = next(alike, None)
        if found is None:
            return {}
        candidates.remove(found)
        first, second = (name.removeprefix(_PREFIX) for name in found)
        names[conv_name] = (first, second)
    return names


def _folded(conv: nn.Conv2d, norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """The weight and bias of the one convolution that equals both in evaluation."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


def _stored_names(metadata: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The result of `folded_names` in a file. Raises ValueError for other JSON."""
    stored = json.loads(metadata.get(FOLDED_KEY, "{}"))
    if not isinstance(stored, dict):
        raise ValueError(f"{FOLDED_KEY} as an object")
    names = {}
    for conv, pair in stored.items():
        weight, bias = (str(name) for name in pair)
        names[conv] = (weight, bias)
    return names


def is_folded(network: HRNet) -> bool:
    """Whether no BatchNorm has statistics, as `read_onnx` leaves them."""
    return all(
        not norm.running_mean.any() and (norm.running_var == 1 - norm.eps).all()  # type: ignore[union-attr]
        for _, _, _, norm in norms(network)
    )


@torch.no_grad()
def unfold(network: HRNet, batches: Iterable[Tensor]) -> None:
    """Give the BatchNorms the statistics of `batches`, normalized inputs (n, 3, h, w).

    The network computes the same as before. Each convolution is scaled to outputs of variance 1
    and its BatchNorm scales them back, as if they had been trained together: the optimizer's steps
    then have the usual size relative to the weights.
    """
    sums = {
        name: torch.zeros(3, conv.out_channels, dtype=torch.float64)
        for name, conv, _, _ in norms(network)
    }

    def watch(name: str) -> Any:
        def add(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            parts = torch.var_mean(output, dim=(0, 2, 3), correction=0)
            variance, mean = (part.double().cpu() for part in parts)
            moments = torch.stack([torch.ones_like(mean), mean, variance + mean.square()])
            sums[name] += moments * (output.numel() // output.shape[1])

        return add

    hooks = [conv.register_forward_hook(watch(name)) for name, conv, _, _ in norms(network)]
    training = network.training
    network.eval()
    for batch in batches:
        network(batch)
    network.train(training)
    for hook in hooks:
        hook.remove()
    for name, conv, _, norm in norms(network):
        count, total, squares = sums[name].to(conv.weight.device)
        mean = total / count
        variance = squares / count - mean.square()
        scale = variance.clamp_min(_MIN_VARIANCE).rsqrt()
        conv.weight.mul_(scale.float()[:, None, None, None])
        variance = (variance * scale.square()).clamp_min(0)
        norm.running_mean = (mean * scale).float()
        norm.running_var = variance.float()
        norm.weight.copy_((variance + norm.eps).sqrt() / scale)
        norm.bias.add_(mean.float())
