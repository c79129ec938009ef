"""Weights of a larger network with the outputs of a smaller one: known answers, more work.

    python -m benchmarks.widened w16-small w32 w32.onnx --input-size 192 256

The weights of the smaller network fill the first channels, all others are zero. A block or an
exchange unit that the smaller one lacks is the identity, as its input has passed a ReLU.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from hrpose import weights as registry
from hrpose.models import checkpoint, convert, export
from hrpose.models.hrnet import HRNet
from hrpose.models.networks import HRNetSpec


def widened(small: HRNet, name: str) -> HRNet:
    """The network `name` with the weights of `small`, of which no stage is larger."""
    large = HRNet.from_name(name, small.num_keypoints)
    state = {
        key: torch.ones_like(value) if key.endswith("running_var") else torch.zeros_like(value)
        for key, value in large.state_dict().items()
    }
    for key, value in small.state_dict().items():
        _put(state[_last_unit(key, small.spec, large.spec)], value)
    large.load_state_dict(state)
    return large.eval()


def _put(target: Tensor, value: Tensor) -> None:
    target[tuple(slice(size) for size in value.shape)] = value


def _last_unit(key: str, small: HRNetSpec, large: HRNetSpec) -> str:
    """The key with its exchange unit counted from the end: only the last leaves out branches."""
    stage, _, rest = key.partition(".")
    if not stage.startswith("stage"):
        return key
    unit, _, rest = rest.partition(".")
    row = int(stage.removeprefix("stage")) - 2
    moved = large.stages[row].modules - small.stages[row].modules
    return f"{stage}.{int(unit) + moved}.{rest}"


def main() -> None:
    """Write the ONNX file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights")
    parser.add_argument("network")
    parser.add_argument("out", type=Path)
    parser.add_argument("--input-size", type=int, nargs=2)
    given = parser.parse_args()
    found = convert.read(registry.find_start(given.weights))
    assert found.metadata is not None
    metadata = replace(found.metadata, name=given.out.stem, network=given.network)
    if given.input_size:
        metadata = replace(metadata, input_wh=tuple(given.input_size))
    large = widened(found.build(metadata.skeleton).eval(), given.network)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "widened.safetensors"
        checkpoint.save(file, large, metadata)
        export.export_pose(file, given.out)


if __name__ == "__main__":
    main()
