"""Small checkpoints of a training, for a repository: a quarter of the size of an exact one.

- `NAME.safetensors`: the averaged weights, float16 (those of BatchNorm float32), with metadata, and
  `counters`: the numbers of steps and of samples seen, as JSON;
- `NAME-adamw.npz`: `step`, and by the names of the parameters AdamW's second moments as uint8:
  u stands for 2 ** (u / 4 - 62).

First moments are not kept; they are made anew within a few steps. Without the second moments the
first steps would be as large as the learning rate in every weight.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hrpose.io import read_texts, write_atomically
from hrpose.metadata import Metadata, write_with_metadata

# Bits of the exponent: quarters of powers of two, from 2 ** -62 to 2 ** 1.75.
STEPS_PER_OCTAVE, MIN_EXPONENT = 4, -62


def paths(folder: Path, name: str) -> tuple[Path, Path]:
    """The files of weights and of the optimizer's state."""
    return folder / f"{name}.safetensors", folder / f"{name}-adamw.npz"


def save(
    folder: Path,
    averaged: Mapping[str, Tensor],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    metadata: Metadata,
    counters: tuple[int, int],
) -> None:
    """Write both files. `averaged` is a state dict, `counters` are steps and samples.

    Raises ValueError for weights that are not finite or too large for float16.
    """
    weights, moments = paths(folder, metadata.title)
    state = {key: (v.half() if v.ndim > 1 else v).contiguous() for key, v in averaged.items()}
    if broken := [key for key, value in state.items() if not torch.isfinite(value).all()]:
        raise ValueError(f"{weights}: expected finite weights, found others in {broken[0]}")
    texts = {"counters": json.dumps(counters)}
    write_with_metadata(weights, safetensors.torch.save(state, texts), metadata)
    buffer = io.BytesIO()
    columns = {
        name: compress(optimizer.state[parameter]["exp_avg_sq"])
        for name, parameter in network.named_parameters()
        if parameter in optimizer.state
    }
    np.savez_compressed(buffer, step=np.int64(counters[0]), **columns)
    write_atomically(moments, buffer.getvalue())


def load_weights(path: Path, network: nn.Module) -> tuple[int, int]:
    """Load the weights, and return the steps and samples they have seen (0 where unknown)."""
    network.load_state_dict(safetensors.torch.load_file(path))
    steps, samples, *_ = json.loads(read_texts(path).get("counters", "[0, 0]"))
    return steps, samples


def load_optimizer(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Give AdamW the second moments; parameters that the file lacks start without."""
    with np.load(path) as moments:
        for name, parameter in network.named_parameters():
            if name in moments:
                squares = torch.empty_like(parameter).copy_(expand(moments[name]))
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(moments["step"])),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": squares,
                }


def compress(moments: Tensor) -> NDArray[np.uint8]:
    """Non-negative moments of any shape as uint8."""
    values = np.maximum(moments.double().numpy(), 2.0**MIN_EXPONENT)
    steps = np.round(STEPS_PER_OCTAVE * (np.log2(values) - MIN_EXPONENT))
    result: NDArray[np.uint8] = np.clip(steps, 0, 255).astype(np.uint8)
    return result


def expand(steps: NDArray[np.uint8]) -> Tensor:
    """The moments, float32, off by at most a tenth."""
    return torch.from_numpy(np.exp2(steps / STEPS_PER_OCTAVE + MIN_EXPONENT)).float()
