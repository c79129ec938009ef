"""The building blocks of HRNet, from a convolution to an exchange unit.

Attribute names (`conv1`, `bn1`, `downsample`, `branches`, `fuse_layers`) are those of the official
code, so that its state dicts load as they are.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


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
    """Halve the resolution `steps` times; the width changes on the last step only."""
    hops = [
        nn.Sequential(*conv_bn(in_channels, in_channels, 3, 2), nn.ReLU(inplace=True))
        for _ in range(steps - 1)
    ]
    last = conv_bn(in_channels, out_channels, 3, 2)
    if last_relu:
        last.append(nn.ReLU(inplace=True))
    return nn.Sequential(*hops, nn.Sequential(*last))


def ascend(in_channels: int, out_channels: int, steps: int) -> nn.Sequential:
    """Double the resolution `steps` times: 1x1 convolution, then nearest neighbour."""
    upsample = nn.Upsample(scale_factor=2**steps, mode="nearest")
    return nn.Sequential(*conv_bn(in_channels, out_channels, 1), upsample)


class Transition(nn.ModuleList):
    """Between two stages: adapt the widths and start one coarser branch from the coarsest.

    A path that changes nothing is the identity. Takes and returns a list of (n, c, h, w), finest
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

    def __init__(self, widths: Sequence[int], blocks: int, outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width) for _ in range(blocks))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self._path(widths, source, target) for source in range(len(widths)))
            for target in range(outputs)
        )
        self.relu = nn.ReLU(inplace=True)

    @staticmethod
    def _path(widths: Sequence[int], source: int, target: int) -> nn.Module:
        if source == target:
            return nn.Identity()
        if source > target:
            return ascend(widths[source], widths[target], source - target)
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
    """Stage 1: `count` bottlenecks that put out four times `inner_channels`."""
    widths = [in_channels, *[4 * inner_channels] * count]
    return nn.Sequential(*(Bottleneck(a, inner_channels, b) for a, b in pairwise(widths)))
