"""The rules that make the inputs of the golden numbers again; see golden/README.md."""

import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GOLDEN = Path(__file__).parent / "golden"


@cache
def facts(name: str) -> Any:
    """The JSON part of a golden file."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


@cache
def arrays(name: str) -> dict[str, NDArray[Any]]:
    """The arrays of a golden file. They are shared between tests: not to be written to."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        found = dict(file)
    for array in found.values():
        array.flags.writeable = False
    return found


def picture(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """The smooth test picture (h, w, 3) of a `picture_seed`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    out = np.zeros((height, width, 3))
    for channel in range(3):
        for _ in range(6):
            fx, fy = rng.uniform(0.005, 0.06, 2)
            phase = rng.uniform(0, 6.283)
            amplitude = rng.uniform(8, 24)
            out[..., channel] += amplitude * np.sin(fx * x + fy * y + phase)
    return np.clip(out + 128, 0, 255).round().astype(np.uint8)


def network_input(seed: int, batch: int, height: int, width: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((batch, 3, height, width)).astype(np.float32)


def weight(name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The value of one entry of a state dict, made from its name."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    noise = np.asarray(noise, np.float32)
    if name.endswith("running_var"):
        return 0.5 + np.float32(0.1) * np.abs(noise)
    if len(shape) == 4:
        return noise * np.float32(np.sqrt(2 / (shape[1] * shape[2] * shape[3])))
    if name.endswith(("running_mean", "bias")):
        return np.float32(0.1) * noise
    return 0.5 + np.float32(0.05) * noise
