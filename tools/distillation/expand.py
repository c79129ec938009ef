"""Initial weights of a wider network that computes what a narrower one does.

    python -m tools.distillation.expand WEIGHTS OUT [--network w32-small]

Old channels keep their weights. New channels read all channels by random weights, and the weights
by which old channels read new ones are zero, so that the heatmaps stay the same.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from hrpose.models import HRNet, checkpoint


def expand(narrow: HRNet, name: str, generator: torch.Generator) -> HRNet:
    """The network `name` with the weights of `narrow`, ready for evaluation.

    The same stages with at least as many channels in each layer are expected.
    """
    wide = HRNet.from_name(name, narrow.num_keypoints)
    old = narrow.state_dict()
    wide.load_state_dict(
        {key: _expanded(key, old[key], new, generator) for key, new in wide.state_dict().items()}
    )
    return wide.eval()


def _expanded(key: str, old: Tensor, new: Tensor, generator: torch.Generator) -> Tensor:
    """A tensor of the shape of `new`, whose first rows (and columns) are those of `old`."""
    if old.shape == new.shape:
        return old.clone()
    n = old.shape[0]
    if new.ndim == 4:  # convolution: (out, in, h, w)
        fan_in = math.prod(new.shape[1:])
        result = torch.randn(new.shape, generator=generator) * math.sqrt(2 / fan_in)
        result[:n] = 0
        result[:n, : old.shape[1]] = old
        return result
    fill = 1.0 if key.endswith(("weight", "running_var")) else 0.0  # BatchNorm
    result = torch.full_like(new, fill)
    result[:n] = old
    return result


def main() -> None:
    """Read the command line and write the weights."""
    parser = argparse.ArgumentParser(description="Widen a network.")
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--network", default="w32-small")
    parser.add_argument("--seed", type=int, default=25)
    given = parser.parse_args()
    narrow, metadata = checkpoint.load(given.weights)
    generator = torch.Generator().manual_seed(given.seed)
    wide = expand(narrow.eval(), given.network, generator)
    w, h = metadata.input_wh
    images = torch.randn((2, 3, h, w), generator=generator)
    with torch.inference_mode():
        before, after = narrow(images), wide(images)
    print(f"largest difference of heatmaps: {(after - before).abs().max():.2g}")
    metadata = replace(metadata, network=given.network, name=given.network, scores={})
    checkpoint.save(given.out, wide, metadata)


if __name__ == "__main__":
    main()
