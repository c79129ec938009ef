"""Saving and loading weights with their passport, without ever running code from a file."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hrpose.errors import UserError
from hrpose.files import write_atomically
from hrpose.network.folded import read_onnx
from hrpose.network.hrnet import HRNet
from hrpose.network.torch_file import read_torch
from hrpose.passport import METADATA_KEY, Passport


def save(path: Path, network: HRNet, passport: Passport) -> None:
    """Write a safetensors file whose metadata hold the passport."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    metadata = {METADATA_KEY: passport.to_json()}
    write_atomically(path, safetensors.torch.save(state, metadata))


def load(path: Path) -> tuple[HRNet, Passport]:
    """Read a `.safetensors` file or a training checkpoint (`.ckpt`), ready for evaluation.

    Raises UserError where the file is missing, broken, not from hrpose, or does not fit.
    """
    state, passport = _read_ckpt(path) if path.suffix == ".ckpt" else _read_safetensors(path)
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


def read_content(path: Path) -> tuple[Any, Passport | None]:
    """What a file holds, whoever wrote it, and its passport where it is from hrpose.

    safetensors, ONNX of `hrpose export`, or a PyTorch file of any name. Raises UserError where it
    cannot be read safely.
    """
    passport: Any
    if path.suffix == ".onnx":
        return read_onnx(path)
    if path.suffix == ".safetensors":
        content, metadata = _open_safetensors(path)
        passport = metadata.get(METADATA_KEY)
    else:
        content = read_torch(path)
        passport = content.get(METADATA_KEY) if isinstance(content, dict) else None
    return content, Passport.from_json(passport, path) if isinstance(passport, str) else None


def read_metadata(path: Path) -> dict[str, str]:
    """The texts that a safetensors file carries beside its tensors; they may be none.

    Raises UserError where it is no such file.
    """
    with _safetensors(path) as file:
        return file.metadata() or {}


@contextmanager
def _safetensors(path: Path) -> Iterator[Any]:
    """The file, opened. Raises UserError where it cannot be, and where reading it fails."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: expected a safetensors file, found: {error}") from error


def _open_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with _safetensors(path) as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Passport]:
    state, metadata = _open_safetensors(path)
    if METADATA_KEY not in metadata:
        raise UserError(
            f"{path}: carries no hrpose passport, so its input size and keypoints are unknown; "
            "expected weights written by `hrpose train` or `hrpose weights convert`"
        )
    return state, Passport.from_json(metadata[METADATA_KEY], path)


def _read_ckpt(path: Path) -> tuple[dict[str, Tensor], Passport]:
    checkpoint = read_torch(path)
    entries = checkpoint if isinstance(checkpoint, dict) else {}
    if METADATA_KEY not in entries or not isinstance(entries.get("state_dict"), dict):
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
    return state, Passport.from_json(entries[METADATA_KEY], path)
