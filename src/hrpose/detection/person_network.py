"""The person detector's network: an HRNet with five channels, read as centers of people and their
boxes.
"""

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from hrpose.errors import UserError
from hrpose.metadata import CHANNELS, DetectorMetadata, metadata_of, write_with_metadata
from hrpose.models import convert
from hrpose.models.hrnet import HRNet

# The network gives logarithms of distances in units of this many input pixels.
UNIT = 16.0
# A center's probability is 0.1 at first: most cells have none ("Objects as Points", section 4).
CENTER_BIAS = -2.19


def read_maps(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The network's (n, 5, h, w) as logits of centers (n, h, w), and distances to the left, top,
    right and bottom side (n, 4, h, w) in input pixels.
    """
    return maps[:, 0], UNIT * torch.exp(maps[:, 1:].clamp(-5, 5))


def build(name: str, start: Path | None = None) -> HRNet:
    """A person detector's network by its name in the table, with the weights of `start`.

    The head of a pose network, or of none, is not taken. Raises UserError where `start` is of
    another network.
    """
    network = HRNet.from_name(name, CHANNELS)
    torch.nn.init.constant_(network.get_parameter("final_layer.bias")[:1], CENTER_BIAS)
    if start is None:
        return network
    weights = convert.read(start)
    if weights.network != name:
        raise UserError(f"{start}: expected weights of {name}, found {weights.network}")
    is_person_detector = weights.metadata is None and weights.num_keypoints == CHANNELS
    taken = {
        k: v
        for k, v in weights.state.items()
        if is_person_detector or not k.startswith(convert.HEAD)
    }
    network.load_state_dict({**network.state_dict(), **taken})
    return network


def save(path: Path, network: HRNet, metadata: DetectorMetadata) -> None:
    """Write a safetensors file whose metadata hold the metadata."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    write_with_metadata(path, safetensors.torch.save(state), metadata)


def load(path: Path) -> tuple[HRNet, DetectorMetadata]:
    """Read what `save` wrote, ready for evaluation. Raises UserError for anything else."""
    weights, metadata = convert.read(path), metadata_of(path, DetectorMetadata)
    if weights.num_keypoints != CHANNELS:
        raise UserError(
            f"{path}: expected the {CHANNELS} channels of a person detector, "
            f"found {weights.num_keypoints}"
        )
    network = HRNet.from_name(weights.network, CHANNELS)
    network.load_state_dict(weights.state)
    return network.eval(), metadata
