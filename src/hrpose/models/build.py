"""The networks of the table built with PyTorch: any of them by name, Lite-HRNet, and their cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from hrpose.models.forward import ChannelCounts, forward
from hrpose.models.hrnet import HRNet, initialize, upsample
from hrpose.models.networks import NETWORKS, Interpolation, LiteHRNetSpec, NetworkSpec

if TYPE_CHECKING:
    from hrpose.metadata import Metadata


class LiteHRNet(nn.Module):
    """As `HRNet`, a Lite-HRNet; the way through it is `hrpose.models.forward`.

    Its modules are found by the names of their weights, which are MMPose's and the official ones.
    """

    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "stem": ("stem",),
        "stage 2": ("transition0", "stage0"),
        "stage 3": ("transition1", "stage1"),
        "stage 4": ("transition2", "stage2"),
        "head": ("head_layer", "final_layer"),
    }
    final_layer: nn.Conv2d
    metadata: "Metadata | None" = None

    def __init__(self, spec: LiteHRNetSpec, num_keypoints: int = 17) -> None:
        super().__init__()
        if num_keypoints < 1:
            raise ValueError(f"num_keypoints: expected at least 1, found {num_keypoints}")
        self.spec = spec
        self.num_keypoints = num_keypoints
        forward(spec, num_keypoints, _Building(self), 3)
        self.apply(initialize)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized RGB floats (n, 3, h, w) to heatmaps (n, k, h/4, w/4), as `HRNet`."""
        return forward(self.spec, self.num_keypoints, _Computing(self), x)


Network = HRNet | LiteHRNet


def build(name: str, num_keypoints: int = 17) -> Network:
    """Build a network of the table in `hrpose.models.networks`, with fresh weights.

    `num_keypoints` is the number of heatmaps, 17 for COCO. Raises ValueError, naming the networks
    that exist, where `name` is not in the table.
    """
    if name not in NETWORKS:
        raise ValueError(f"network: expected one of {', '.join(NETWORKS)}, found '{name}'")
    spec = NETWORKS[name]
    return from_spec(spec, num_keypoints)


def from_spec(spec: NetworkSpec, num_keypoints: int) -> Network:
    """Build the network of a row of the table, or of one of your own."""
    if isinstance(spec, LiteHRNetSpec):
        return LiteHRNet(spec, num_keypoints)
    return HRNet(spec, num_keypoints)


class _Building(ChannelCounts):
    """Operations that add each convolution and its BatchNorm to a network, under their names."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def conv(
        self, x: int, name: str, norm: str | None, width: int, kernel: int, stride: int,
        *, groups: int = 1, bias: bool = False,
    ) -> int:  # fmt: skip
        conv = nn.Conv2d(x, width, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self._add(name, conv)
        if norm is not None:
            self._add(norm, nn.BatchNorm2d(width))
        return width

    def _add(self, name: str, module: nn.Module) -> None:
        *path, last = name.split(".")
        at = self.network
        for part in path:
            if not hasattr(at, part):
                at.add_module(part, nn.Module())
            at = getattr(at, part)
        at.add_module(last, module)


class _Computing:
    """Operations on tensors (n, c, h, w) by the modules of a network."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def conv(
        self, x: Tensor, name: str, norm: str | None, _width: int, _kernel: int, _stride: int,
        *, groups: int = 1, bias: bool = False,
    ) -> Tensor:  # fmt: skip
        y: Tensor = self.network.get_submodule(name)(x)
        return y if norm is None else self.network.get_submodule(norm)(y)

    def relu(self, x: Tensor) -> Tensor:
        return functional.relu(x)

    def sigmoid(self, x: Tensor) -> Tensor:
        return x.sigmoid()

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y

    def multiply(self, x: Tensor, y: Tensor) -> Tensor:
        return x * y

    def upsample(self, x: Tensor, factor: int, how: Interpolation) -> Tensor:
        y: Tensor = upsample(factor, how)(x)
        return y

    def pool(self, x: Tensor, factor: int | None) -> Tensor:
        if factor is None:
            return x.mean((2, 3), keepdim=True)
        return functional.avg_pool2d(x, factor)

    def concat(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts), 1)

    def split(self, x: Tensor, widths: Sequence[int]) -> list[Tensor]:
        return list(torch.split(x, list(widths), 1))

    def shuffle(self, x: Tensor) -> Tensor:
        return functional.channel_shuffle(x, 2)


@dataclass(frozen=True, slots=True)
class StageCost:
    """One stage: its learned parameters, and its multiply-accumulates (MACs) for one crop."""

    stage: str
    parameters: int
    macs: int


def summarize(network: Network, input_wh: tuple[int, int]) -> tuple[StageCost, ...]:
    """The cost of each stage at this input size (w, h).

    Only convolutions are counted, which are 99 % of the work. A MAC is one multiplication and one
    addition; some papers call it a FLOP. The network is run on tensors without content.
    """
    with torch.device("meta"):
        meta = from_spec(network.spec, network.num_keypoints).eval()
    macs = dict.fromkeys(meta.parts, 0)

    def count(stage: str, module: nn.Module, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        # Each number of the output is a sum of products with the weights of one kernel.
        macs[stage] += output.numel() * module.weight[0].numel()

    for stage, parts in meta.parts.items():
        for part in parts:
            for module in getattr(meta, part).modules():
                if isinstance(module, nn.Conv2d):
                    module.register_forward_hook(
                        lambda conv, _, out, stage=stage: count(stage, conv, out)
                    )
    width, height = input_wh
    with torch.inference_mode():
        meta(torch.empty((1, 3, height, width), device="meta"))
    return tuple(
        StageCost(
            stage,
            sum(p.numel() for part in parts for p in getattr(meta, part).parameters()),
            macs[stage],
        )
        for stage, parts in meta.parts.items()
    )
