"""Saving and loading weights with their passport, without ever running code from a file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from hrpose.errors import UserError
from hrpose.metadata import Metadata, metadata_of, read_metadata, write_with_metadata
from hrpose.network.folded import read_onnx
from hrpose.network.hrnet import HRNet
from hrpose.network.torch_file import read_torch


def save(path: Path, network: HRNet, passport: Metadata) -> None:
    """Write a safetensors file whose metadata hold the passport."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    write_with_metadata(path, safetensors.torch.save(state), passport)


def load(path: Path) -> tuple[HRNet, Metadata]:
    """Read a `.safetensors` file or a training checkpoint (`.ckpt`), ready for evaluation.

    Raises UserError where the file is missing, broken, not from hrpose, or does not fit.
    """
    if path.suffix == ".ckpt":
        state, passport = _read_ckpt(path)
    else:
        passport, state = metadata_of(path, Metadata), _tensors(path)
    try:
        network = HRNet.from_name(passport.network, len(passport.skeleton))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    load_state(network, state, path)
    return network.eval(), passport


def load_state(network: HRNet, state: Mapping[str, Tensor], where: object) -> None:
    """Fill `network`; every key and shape must fit. Raises UserError that says which do not."""
    fit = f"{where}: does not fit the network {network.spec.name} with {network.num_keypoints}"
    check_state(network.state_dict(), state, f"{fit} keypoints")
    network.load_state_dict(state)


def check_state(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], error: str) -> None:
    """Raises UserError, which starts with `error`, where keys or shapes differ."""
    wrong = [f"{key} is missing" for key in expected.keys() - state.keys()]
    wrong += [f"{key} is not of this network" for key in state.keys() - expected.keys()]
    wrong += [
        f"{key}: expected shape {tuple(expected[key].shape)}, found {tuple(state[key].shape)}"
        for key in expected.keys() & state.keys()
        if expected[key].shape != state[key].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(f"{error}: {'; '.join(sorted(wrong)[:3])}{more}")


def read_content(path: Path) -> tuple[Any, Metadata | None]:
    """What a file holds, whoever wrote it, and its passport where it is from hrpose.

    safetensors, ONNX of `hrpose export`, or a PyTorch file of any name. Raises UserError where it
    cannot be read safely.
    """
    if path.suffix == ".onnx":
        return read_onnx(path)
    if path.suffix == ".safetensors":
        found = read_metadata(path)
        return _tensors(path), found if isinstance(found, Metadata) else None
    content = read_torch(path)
    text = content.get(Metadata.key) if isinstance(content, dict) else None
    return content, Metadata.from_json(text, path) if isinstance(text, str) else None


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name. Raises UserError where it is none."""
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path}: expected a safetensors file, found: {error}", code="weights-unreadable"
        ) from error


def _read_ckpt(path: Path) -> tuple[dict[str, Tensor], Metadata]:
    checkpoint = read_torch(path)
    entries = checkpoint if isinstance(checkpoint, dict) else {}
    if Metadata.key not in entries or not isinstance(entries.get("state_dict"), dict):
        found = json.dumps(sorted(map(str, entries))[:5])
        raise UserError(
            f"{path}: expected a checkpoint of `hrpose train`, found the entries {found}"
        )
    prefix = "network."
    state = {
        key.removeprefix(prefix): value
        for key, value in entries["state_dict"].items()
        if key.startswith(prefix) and isinstance(value, Tensor)
    }
    return state, Metadata.from_json(entries[Metadata.key], path)
