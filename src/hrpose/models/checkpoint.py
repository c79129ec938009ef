"""Checkpoints: weights with their metadata as safetensors, PyTorch files, and exported ONNX files.

PyTorch files are pickles, which can hold code; nothing of a file is ever run.

An ONNX file of `hrpose export` has one weight and one bias for each convolution and its BatchNorm.
`read_onnx` reads them as a network that computes the same, whose BatchNorms only add the bias.
`unfold` then gives every BatchNorm the statistics of real inputs, so that the network still
computes the same, and trains as well as any.
"""

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from hrpose.errors import UserError
from hrpose.io import read_texts
from hrpose.metadata import (
    FOLDED_KEY,
    AnyMetadata,
    DetectorMetadata,
    Metadata,
    check_weights,
    metadata_in,
    metadata_of,
    read_metadata,
    write_with_metadata,
)
from hrpose.models.build import Network, build
from hrpose.models.networks import check_shapes


class _Ignored:
    """Stands for values that training programs store beside the weights: NumPy's, and arguments.

    It accepts any arguments and drops them; NumPy's own functions are not safe for untrusted bytes.
    """

    def __new__(cls, *_parts: object) -> "_Ignored":
        return object.__new__(cls)

    def __setstate__(self, _state: object) -> None:
        pass


_LEFT_OUT = (
    "argparse.Namespace",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
)


def read_torch(path: Path) -> Any:
    """The content of a PyTorch file of tensors and plain values; the `_LEFT_OUT` are dropped.

    Raises UserError, naming what the file asks for, where that is more. Members of its zip file
    must be stored, as PyTorch writes them: PyTorch decompresses others without a bound.
    """
    check_weights(path)
    _check_stored(path)
    safe = torch.serialization.safe_globals([(_Ignored, name) for name in _LEFT_OUT])
    try:
        with warnings.catch_warnings(), safe:
            # PyTorch warns of old pickles; all that matters is whether they can be read safely.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A broken file can raise anything.
        raise _explained(path, error) from error


def _check_stored(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [m for m in archive.infolist() if m.compress_type != zipfile.ZIP_STORED]
    except Exception as error:
        if _first_bytes(path, 4) == b"PK\x03\x04":  # which PyTorch may yet read, without a bound
            raise _explained(path, error) from error
        return  # PyTorch's older form, or damage that is explained later
    if packed:
        raise UserError(
            f"{path}: refused, because its member {packed[0].filename!r} is compressed; expected a "
            "file as torch.save writes it",
            code="weights-unsafe",
        )


def _explained(path: Path, error: Exception) -> UserError:
    if isinstance(error, OSError) and error.filename is not None:
        return UserError(f"{path}: cannot be read ({error.strerror})", code="file-unreadable")
    asked = re.search(r"GLOBAL (\S+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and (asked or _first_bytes(path, 1) == b"\x80"):
        what = f"it asks for {asked[1]}, which is code" if asked else "it is another kind of pickle"
        return UserError(
            f"{path}: refused, because it is not only tensors and plain values: {what}; expected "
            "a PyTorch file with the state dict alone",
            code="weights-unsafe",
        )
    return UserError(
        f"{path}: expected a PyTorch file, found another or a broken one ({type(error).__name__})",
        code="weights-damaged",
    )


def _first_bytes(path: Path, count: int) -> bytes:
    """Empty where it cannot be read: the caller reports another error already."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""


def save(path: Path, network: Network, metadata: AnyMetadata) -> None:
    """Write the weights of a pose model or a person detector as safetensors, with metadata."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    write_with_metadata(path, safetensors.torch.save(state), metadata)


def load(path: Path) -> tuple[Network, Metadata]:
    """Read a `.safetensors` file or a training checkpoint (`.ckpt`), ready for evaluation.

    Raises UserError where the file is missing, broken, not from hrpose, or does not fit.
    """
    if path.suffix == ".ckpt":
        state, metadata = _read_ckpt(path)
    else:
        check_weights(path)
        metadata, state = metadata_of(path, Metadata), _tensors(path)
    return _network(path, metadata, state), metadata


def load_detector(path: Path) -> tuple[Network, DetectorMetadata]:
    """As `load`, a person detector's `.safetensors` file."""
    check_weights(path)
    metadata = metadata_of(path, DetectorMetadata)
    return _network(path, metadata, _tensors(path)), metadata


def _network(path: Path, metadata: AnyMetadata, state: Mapping[str, Tensor]) -> Network:
    try:
        network = build(metadata.network, metadata.channels)
    except ValueError as error:
        raise UserError(f"{path}: {error}", code="weights-unsuitable") from error
    load_state(network, state, path)
    return network.eval()


def load_state(network: Network, state: Mapping[str, Tensor], where: object) -> None:
    """Fill `network`; every key and shape must fit. Raises UserError that says which do not."""
    fit = f"{where}: does not fit the network {network.spec.name} with {network.num_keypoints}"
    check_state(network.state_dict(), state, f"{fit} heatmaps")
    network.load_state_dict(state)


def check_state(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], error: str) -> None:
    """Raises UserError, whose message starts with `error`, where keys or shapes differ."""

    def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
        return {key: tuple(value.shape) for key, value in tensors.items()}

    check_shapes(shapes(expected), shapes(state), error)


def read_content(path: Path) -> tuple[dict[str, Tensor], Metadata | None]:
    """The weights in a safetensors file, or in ONNX of `hrpose export`; a pose model's metadata.

    Raises UserError where the file cannot be read.
    """
    if path.suffix == ".onnx":
        return read_onnx(path)
    check_weights(path)
    found = read_metadata(path)
    return _tensors(path), found if isinstance(found, Metadata) else None


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name. Raises UserError for other files."""
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path}: expected a safetensors file, found: {error}", code="weights-damaged"
        ) from error


def _read_ckpt(path: Path) -> tuple[dict[str, Tensor], Metadata]:
    checkpoint = read_torch(path)
    entries = checkpoint if isinstance(checkpoint, dict) else {}
    metadata = metadata_in(entries, path)
    if not isinstance(metadata, Metadata) or not isinstance(entries.get("state_dict"), dict):
        found = json.dumps(sorted(map(str, entries))[:5])
        raise UserError(
            f"{path}: expected a checkpoint of `hrpose train`, found the entries {found}",
            code="weights-unsuitable",
        )
    prefix = "network."
    state = {
        key.removeprefix(prefix): value
        for key, value in entries["state_dict"].items()
        if isinstance(key, str) and key.startswith(prefix) and isinstance(value, Tensor)
    }
    return state, metadata


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

    check_weights(path)
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
            network = build(metadata.network, metadata.channels)
        folded = {conv_name for conv_name, _, _, _ in norms(network)}
        state = {
            f"{name}.{part}": found[f"{name}.{part}"]
            for name, module in network.named_modules()
            if isinstance(module, nn.Conv2d) and name not in folded
            for part in ("weight", "bias")
        }
        names = _stored_names(read_texts(path))
        for conv_name, conv, norm_name, norm in norms(network):
            # Older files do not store the names; they have those of PyTorch 2.13.
            usual = (f"{conv_name}.weight", f"{conv_name}.weight_bias")
            weight, bias = (found[entry] for entry in names.get(conv_name, usual))
            state[f"{conv_name}.weight"] = weight
            if conv.bias is not None:  # which is in that of the BatchNorm
                state[f"{conv_name}.bias"] = torch.zeros_like(bias)
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
    mean = norm.running_mean if conv.bias is None else norm.running_mean - conv.bias
    return conv.weight * scale[:, None, None, None], norm.bias - mean * scale


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


def is_folded(network: Network) -> bool:
    """Whether no BatchNorm has statistics, as `read_onnx` leaves them."""
    return all(
        not norm.running_mean.any() and (norm.running_var == 1 - norm.eps).all()  # type: ignore[union-attr]
        for _, _, _, norm in norms(network)
    )


@torch.no_grad()
def unfold(network: Network, batches: Iterable[Tensor]) -> None:
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
        if conv.bias is not None:
            conv.bias.mul_(scale.float())
        variance = (variance * scale.square()).clamp_min(0)
        norm.running_mean = (mean * scale).float()
        norm.running_var = variance.float()
        norm.weight.copy_((variance + norm.eps).sqrt() / scale)
        norm.bias.add_(mean.float())
