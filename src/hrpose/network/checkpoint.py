"""Saving and loading weights with their passport, without ever running code from a file."""

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hrpose.errors import UserError
from hrpose.files import write_atomically
from hrpose.network.hrnet import HRNet
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


def load_state(network: HRNet, state: dict[str, Tensor], where: object) -> None:
    """Fill `network`; every key and shape must fit. Raises UserError that says which do not."""
    expected = network.state_dict()
    wrong = [f"{key} is missing" for key in expected.keys() - state.keys()]
    wrong += [f"{key} is not of this network" for key in state.keys() - expected.keys()]
    wrong += [
        f"{key}: expected shape {tuple(expected[key].shape)}, found {tuple(state[key].shape)}"
        for key in expected.keys() & state.keys()
        if expected[key].shape != state[key].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"{where}: does not fit the network {network.spec.name} with "
            f"{network.num_keypoints} keypoints: {'; '.join(sorted(wrong)[:3])}{more}"
        )
    network.load_state_dict(state)


def read_torch(path: Path) -> Any:
    """Unpickle a PyTorch file with nothing but tensors and plain values in it.

    Raises UserError, naming what a file asks for, where it would need more than that.
    """
    try:
        with warnings.catch_warnings():
            # PyTorch warns of a pickle's age; what matters is whether it can be read safely.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except pickle.UnpicklingError as error:
        first = str(error).split("\n")[0]
        raise UserError(f"{path}: refused, because it is not only tensors: {first}") from error
    except (RuntimeError, EOFError, KeyError, ValueError) as error:
        first = str(error).split("\n")[0]
        raise UserError(f"{path}: expected a PyTorch file, found a broken one ({first})") from error


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Passport]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: expected a safetensors file, found: {error}") from error
    if METADATA_KEY not in metadata:
        raise UserError(
            f"{path}: carries no hrpose passport, so its input size and keypoints are unknown; "
            "expected weights written by `hrpose train`"
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
