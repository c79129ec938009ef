"""HRNet: the blocks and the network itself. The table of networks is `networks`."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from hrpose.models.networks import NETWORKS, HRNetSpec, Interpolation, StageSpec

if TYPE_CHECKING:
    from hrpose.metadata import Metadata


def conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size (divided by `stride`), and its BatchNorm."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(out_channels)]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; width and size stay."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(channels, channels, 3)
        self.conv2, self.bn2 = conv_bn(channels, channels, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        result: Tensor = self.relu(self.bn2(self.conv2(y)) + x)
        return result


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut, which is projected where the width changes."""

    def __init__(self, in_channels: int, inner_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(in_channels, inner_channels, 1)
        self.conv2, self.bn2 = conv_bn(inner_channels, inner_channels, 3)
        self.conv3, self.bn3 = conv_bn(inner_channels, out_channels, 1)
        self.downsample = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Sequential(*conv_bn(in_channels, out_channels, 1))
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        result: Tensor = self.relu(self.bn3(self.conv3(y)) + self.downsample(x))
        return result


def descend(in_channels: int, out_channels: int, steps: int, last_relu: bool) -> nn.Sequential:
    """Halve the resolution `steps` times; only the last step changes the width."""
    hops = [
        nn.Sequential(*conv_bn(in_channels, in_channels, 3, 2), nn.ReLU(inplace=True))
        for _ in range(steps - 1)
    ]
    last = conv_bn(in_channels, out_channels, 3, 2)
    if last_relu:
        last.append(nn.ReLU(inplace=True))
    return nn.Sequential(*hops, nn.Sequential(*last))


def upsample(factor: int, how: Interpolation) -> nn.Upsample:
    """Enlarge `factor` times."""
    mode, _, aligned = how.partition(", ")
    corners = None if mode == "nearest" else bool(aligned)
    return nn.Upsample(scale_factor=factor, mode=mode, align_corners=corners)


def ascend(
    in_channels: int, out_channels: int, steps: int, how: Interpolation = "nearest"
) -> nn.Sequential:
    """Double the resolution `steps` times: 1x1 convolution, then interpolation."""
    return nn.Sequential(*conv_bn(in_channels, out_channels, 1), upsample(2**steps, how))


class Transition(nn.ModuleList):
    """Between two stages: adapt the widths and start one coarser branch from the coarsest.

    A path that changes nothing is the identity. Takes and returns lists of (n, c, h, w), finest
    first.
    """

    def __init__(self, before: Sequence[int], after: Sequence[int]) -> None:
        super().__init__(self._path(before, branch, width) for branch, width in enumerate(after))

    @staticmethod
    def _path(before: Sequence[int], branch: int, width: int) -> nn.Module:
        if branch >= len(before):
            return descend(before[-1], width, branch - len(before) + 1, last_relu=True)
        if before[branch] == width:
            return nn.Identity()
        return nn.Sequential(*conv_bn(before[branch], width, 3), nn.ReLU(inplace=True))

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return [path(x[min(branch, len(x) - 1)]) for branch, path in enumerate(self)]


class Exchange(nn.Module):
    """An exchange unit (paper, section 3, "Repeated multi-scale fusion").

    Every branch first runs its own residual blocks; then each output is the sum of all branches,
    each brought to the output's resolution and width. Only the first `outputs` are computed.
    """

    def __init__(
        self, widths: Sequence[int], blocks: int, outputs: int, how: Interpolation = "nearest"
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width) for _ in range(blocks))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self._path(widths, source, target, how) for source in range(len(widths)))
            for target in range(outputs)
        )
        self.relu = nn.ReLU(inplace=True)

    @staticmethod
    def _path(widths: Sequence[int], source: int, target: int, how: Interpolation) -> nn.Module:
        if source == target:
            return nn.Identity()
        if source > target:
            return ascend(widths[source], widths[target], source - target, how)
        return descend(widths[source], widths[target], target - source, last_relu=False)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        x = [branch(t) for branch, t in zip(self.branches, x, strict=True)]
        return [self.relu(self._fuse(row, x)) for row in self.fuse_layers]

    @staticmethod
    def _fuse(paths: nn.Module, x: list[Tensor]) -> Tensor:
        # Summed finest first, as the official code does: the order decides the last bit.
        terms = [path(t) for path, t in zip(paths.children(), x, strict=True)]
        total: Tensor = terms[0]
        for term in terms[1:]:
            total = total + term
        return total


def bottlenecks(in_channels: int, inner_channels: int, count: int) -> nn.Sequential:
    """Stage 1: `count` bottlenecks with four times `inner_channels` output channels."""
    widths = [in_channels, *[4 * inner_channels] * count]
    return nn.Sequential(*(Bottleneck(a, inner_channels, b) for a, b in pairwise(widths)))


class HRNet(nn.Module):
    """From the crop of one person to one heatmap per keypoint.

    The stem divides the resolution by four; from there the finest branch keeps it to the end.
    Each stage adds one branch of half the resolution and twice the width, and the branches
    exchange their features after every few blocks.

    `spec` is a row of `hrpose.models.networks.NETWORKS` or one of your own, `num_keypoints` the
    number of heatmaps. State dict keys and their order equal those of the official code, and those
    of version 2 MMPose's.
    """

    # The parts, in the order in which the image passes them.
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "stem": ("conv1", "bn1", "conv2", "bn2"),
        "stage 1": ("layer1",),
        "stage 2": ("transition1", "stage2"),
        "stage 3": ("transition2", "stage3"),
        "stage 4": ("transition3", "stage4"),
        "head": ("conv_layers", "final_layer"),
    }
    # What belongs to its weights: input, keypoints, codec; None without any.
    metadata: "Metadata | None" = None

    def __init__(self, spec: HRNetSpec, num_keypoints: int = 17) -> None:
        super().__init__()
        if num_keypoints < 1:
            raise ValueError(f"num_keypoints: expected at least 1, found {num_keypoints}")
        self.spec = spec
        self.num_keypoints = num_keypoints
        stem, stage1_width = spec.stem_width, 4 * spec.bottleneck_width
        s2, s3, s4 = spec.stages

        self.conv1, self.bn1 = conv_bn(3, stem, 3, stride=2)
        self.conv2, self.bn2 = conv_bn(stem, stem, 3, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = bottlenecks(stem, spec.bottleneck_width, spec.bottlenecks)
        self.transition1 = Transition((stage1_width,), s2.widths)
        self.stage2 = _stage(s2, 2, spec.interpolation)
        self.transition2 = Transition(s2.widths, s3.widths)
        self.stage3 = _stage(s3, 3, spec.interpolation)
        self.transition3 = Transition(s3.widths, s4.widths)
        self.stage4 = _stage(s4, spec.outputs, spec.interpolation)
        self.enlarge = nn.ModuleList(
            upsample(2**branch, spec.interpolation) for branch in range(1, spec.outputs)
        )
        width = sum(s4.widths[: spec.outputs])
        self.conv_layers = (
            nn.Identity()
            if spec.version == 1
            else nn.Sequential(
                nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
            )
        )
        self.final_layer = nn.Conv2d(width, num_keypoints, 1)
        self.apply(initialize)

    @classmethod
    def from_name(cls, name: str, num_keypoints: int = 17) -> "HRNet":
        """Build an HRNet of the table in `hrpose.models.networks`, with fresh weights.

        `num_keypoints` is the number of heatmaps, 17 for COCO. Raises ValueError, naming the
        HRNets that exist, where `name` is none of them; `hrpose.models.build` has all networks.
        """
        specs = {spec.name: spec for spec in NETWORKS.values() if isinstance(spec, HRNetSpec)}
        if name not in specs:
            raise ValueError(f"network: expected one of {', '.join(specs)}, found '{name}'")
        return cls(specs[name], num_keypoints)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized RGB floats (n, 3, h, w) to heatmaps (n, k, h/4, w/4).

        h and w are multiples of 32: the coarsest branch has 1/32 of the resolution.
        """
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        branches = [self.layer1(x)]
        branches = self.stage2(self.transition1(branches))
        branches = self.stage3(self.transition2(branches))
        x, *coarser = self.stage4(self.transition3(branches))
        if coarser:
            enlarged = [up(branch) for up, branch in zip(self.enlarge, coarser, strict=True)]
            x = torch.cat([x, *enlarged], dim=1)
        heatmaps: Tensor = self.final_layer(self.conv_layers(x))
        return heatmaps


def _stage(spec: StageSpec, outputs: int, how: Interpolation) -> nn.Sequential:
    """`modules` exchange units; the last one computes only the `outputs` that are read."""
    full = len(spec.widths)
    return nn.Sequential(
        *(
            Exchange(spec.widths, spec.blocks, full if unit < spec.modules - 1 else outputs, how)
            for unit in range(spec.modules)
        )
    )


def initialize(module: nn.Module) -> None:
    """Normal, standard deviation 0.001, biases zero: the official code's initialization."""
    # Tensors of the meta device have no content, and initializing them takes seconds.
    if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
        nn.init.normal_(module.weight, std=0.001)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Normalize(nn.Module):
    """uint8 RGB (n, h, w, 3) to floats (n, 3, h, w): scaled to [0, 1], minus mean, over std."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # Not persistent: state dicts stay equal to the official ones; the metadata has the values.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
