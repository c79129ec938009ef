"""Checkpoints: weights with their metadata as safetensors, and PyTorch files, read safely.

PyTorch files are pickles, which can hold code; nothing of a file is ever run.
"""

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from hrpose.errors import UserError
from hrpose.metadata import (
    AnyMetadata,
    DetectorMetadata,
    Metadata,
    metadata_in,
    metadata_of,
    read_metadata,
    write_with_metadata,
)
from hrpose.models.batchnorm_folding import read_onnx
from hrpose.models.hrnet import HRNet
from hrpose.models.networks import check_shapes


class _Ignored:
    """Stands for NumPy values that training programs store beside the weights.

    It accepts any arguments and drops them; NumPy's own functions are not safe for untrusted bytes.
    """

    def __new__(cls, *_parts: object) -> "_Ignored":
        return object.__new__(cls)

    def __setstate__(self, _state: object) -> None:
        pass


_NUMPY_NAMES = (
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
)


def read_torch(path: Path) -> Any:
    """The content of a PyTorch file of tensors and plain values; NumPy values are dropped.

    Raises UserError, naming what the file asks for, where that is more. Members of its zip file
    must be stored, as PyTorch writes them: PyTorch decompresses others without a bound.
    """
    _check_stored(path)
    safe = torch.serialization.safe_globals([(_Ignored, name) for name in _NUMPY_NAMES])
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
    except Exception:  # PyTorch's older form, or damage that is explained later
        return
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
    if isinstance(error, pickle.UnpicklingError) and (asked or _first_byte(path) == b"\x80"):
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


def _first_byte(path: Path) -> bytes:
    """Empty where it cannot be read: the caller reports another error already."""
    try:
        with path.open("rb") as file:
            return file.read(1)
    except OSError:
        return b""


def save(path: Path, network: HRNet, metadata: AnyMetadata) -> None:
    """Write the weights of a pose model or a person detector as safetensors, with metadata."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    write_with_metadata(path, safetensors.torch.save(state), metadata)


def load(path: Path) -> tuple[HRNet, Metadata]:
    """Read a `.safetensors` file or a training checkpoint (`.ckpt`), ready for evaluation.

    Raises UserError where the file is missing, broken, not from hrpose, or does not fit.
    """
    if path.suffix == ".ckpt":
        state, metadata = _read_ckpt(path)
    else:
        metadata, state = metadata_of(path, Metadata), _tensors(path)
    return _network(path, metadata, state), metadata


def load_detector(path: Path) -> tuple[HRNet, DetectorMetadata]:
    """As `load`, a person detector's `.safetensors` file."""
    metadata = metadata_of(path, DetectorMetadata)
    return _network(path, metadata, _tensors(path)), metadata


def _network(path: Path, metadata: AnyMetadata, state: Mapping[str, Tensor]) -> HRNet:
    try:
        network = HRNet.from_name(metadata.network, metadata.channels)
    except ValueError as error:
        raise UserError(f"{path}: {error}", code="weights-unsuitable") from error
    load_state(network, state, path)
    return network.eval()


def load_state(network: HRNet, state: Mapping[str, Tensor], where: object) -> None:
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
        if key.startswith(prefix) and isinstance(value, Tensor)
    }
    return state, metadata
