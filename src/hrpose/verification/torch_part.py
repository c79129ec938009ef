"""What needs PyTorch, against the golden vectors: the losses and both networks."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import numpy as np
import torch

from hrpose.network.hrnet import HRNet
from hrpose.training.loss import ohkm, weighted_mse
from hrpose.verification.certificate import Check
from hrpose.verification.golden import NETWORKS, Golden, network_input, weight
from hrpose.verification.pipeline import Arrays, check_heatmaps, difference


def devices() -> list[torch.device]:
    """The CPU, and a CUDA GPU where there is one; Apple's (MPS) is not compared."""
    found = [torch.device("cpu")]
    if torch.cuda.is_available():
        found.append(torch.device("cuda"))
    return found


def check_device(golden: Golden, device: torch.device) -> Iterator[Check]:
    """Heatmaps, losses and networks on one device, in full float32 precision."""
    name = f"torch {device.type}"
    arrays = Arrays(
        name, lambda array: torch.tensor(array, device=device), lambda tensor: tensor.cpu().numpy()
    )
    yield from check_heatmaps(golden, arrays)
    yield from check_losses(golden, arrays)
    for network in NETWORKS:
        yield from check_network(golden, network, device)


def check_losses(golden: Golden, arrays: Arrays) -> Iterator[Check]:
    """The mean squared error, with and without joint weights, and hard keypoint mining."""
    numbers, facts = golden.arrays("pipeline"), golden.facts("pipeline")
    targets, weights = (numbers[f"target_256x192_{part}"][:3] for part in ("heatmaps", "weights"))
    output, target, weight_ = (arrays.to(a) for a in (numbers["loss_output"], targets, weights))
    for what, found, name in (
        ("loss: MSE", weighted_mse(output, target, weight_), "loss_mse"),
        (
            "loss: MSE, joints alike",
            weighted_mse(output, target, torch.ones_like(weight_)),
            "loss_mse_unweighted",
        ),
        ("loss: OHKM, top 8", ohkm(output, target, weight_, top=8), "loss_ohkm_top8"),
    ):
        yield Check(what, arrays.name, difference(float(found), facts[name]), 1e-5)


def check_network(golden: Golden, name: str, device: torch.device) -> Iterator[Check]:
    """A whole network: the names of its weights; and, made by rule, weights, input and output."""
    file = NETWORKS[name]
    facts = golden.facts(file)
    with torch.device("meta"):  # Fresh weights would only be written over.
        network = HRNet.from_name(name, facts["num_keypoints"]).eval()
    state = {
        key: torch.from_numpy(weight(key, tuple(value.shape)))
        for key, value in network.state_dict().items()
    }
    entries = [[key, list(value.shape)] for key, value in state.items()]
    on = f"torch {device.type}"
    wrong = sum(a != b for a, b in zip_longest(entries, _entries(facts["state_dict"])))
    yield Check(f"network {name}: keys and shapes", on, wrong, 0, "entries")
    network.load_state_dict(state, assign=True)
    images = network_input(facts["input_seed"], facts["batch"], *facts["input_hw"])
    # A GPU may round the inputs of convolutions to TensorFloat-32; here float32 is compared.
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        heatmaps = network.to(device)(torch.from_numpy(images).to(device)).cpu().numpy()
    expected = golden.arrays(file)["heatmaps"]
    found = difference(golden.cut("heatmaps", file, heatmaps), expected)
    spread = float(np.std(expected))
    yield Check(f"network {name}: heatmaps", on, found / spread, 1e-4, "std")


def _entries(recorded: Any) -> list[list[Any]]:
    pairs = recorded.items() if isinstance(recorded, dict) else recorded
    return [[key, list(shape)] for key, shape in pairs]
