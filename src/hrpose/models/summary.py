"""What a network costs: parameters and multiply-accumulates of each of its stages."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hrpose.models.hrnet import HRNet

# The parts of the network, in the order in which the image passes them.
_STAGES = {
    "stem": ("conv1", "bn1", "conv2", "bn2"),
    "stage 1": ("layer1",),
    "stage 2": ("transition1", "stage2"),
    "stage 3": ("transition2", "stage3"),
    "stage 4": ("transition3", "stage4"),
    "head": ("final_layer",),
}


@dataclass(frozen=True, slots=True)
class StageCost:
    """One stage: its learned parameters, and the multiply-accumulates (MACs) for one crop."""

    stage: str
    parameters: int
    macs: int


def summarize(network: HRNet, input_wh: tuple[int, int]) -> tuple[StageCost, ...]:
    """The cost of each stage at this input size (w, h).

    Convolutions are counted, which are all but a hundredth of the work. A MAC is one
    multiplication and one addition; some papers call it a FLOP. Nothing is computed: the network
    is run without numbers.
    """
    with torch.device("meta"):
        ghost = HRNet(network.spec, network.num_keypoints).eval()
    macs = dict.fromkeys(_STAGES, 0)

    def count(stage: str, module: nn.Module, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        # Each number of the output is a sum over one kernel, which all of its weights share.
        macs[stage] += output.numel() * module.weight[0].numel()

    for stage, parts in _STAGES.items():
        for part in parts:
            for module in getattr(ghost, part).modules():
                if isinstance(module, nn.Conv2d):
                    module.register_forward_hook(
                        lambda conv, _, out, stage=stage: count(stage, conv, out)
                    )
    width, height = input_wh
    with torch.inference_mode():
        ghost(torch.empty((1, 3, height, width), device="meta"))
    return tuple(
        StageCost(
            stage,
            sum(p.numel() for part in parts for p in getattr(ghost, part).parameters()),
            macs[stage],
        )
        for stage, parts in _STAGES.items()
    )
