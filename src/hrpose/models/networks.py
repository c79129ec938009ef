"""The networks: rows of a table, and the operations that they are made of.

The paper (section 3, "Network instantiation") writes an HRNet as four stages. Each stage runs
`modules` exchange units; in a unit every parallel branch has `blocks` residual blocks of its
width. Stage 1 is the stem followed by bottlenecks at one resolution.

The way through a network is `hrpose.models.forward`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from hrpose.errors import UserError

T = TypeVar("T")
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One multi-resolution stage: widths of its branches, finest first."""

    modules: int
    widths: tuple[int, ...]
    blocks: int = 4


Interpolation = Literal["nearest", "bilinear", "bilinear, corners aligned"]
"""How features are enlarged. "Corners aligned" keeps the centers of the outermost pixels in place,
as PyTorch's `align_corners`; plain "bilinear" keeps the outer edges in place."""


@dataclass(frozen=True, slots=True)
class HRNetSpec:
    """A network. A bottleneck has four times its inner `bottleneck_width` output channels.

    Version 1 makes heatmaps from the finest branch. Version 2 (Wang et al., "Deep High-Resolution
    Representation Learning for Visual Recognition", PAMI 2020) makes them from all branches,
    enlarged and concatenated, and enlarges bilinearly instead of by the nearest neighbor.
    """

    name: str
    bottlenecks: int
    bottleneck_width: int
    stage2: StageSpec
    stage3: StageSpec
    stage4: StageSpec
    stem_width: int = 64
    version: Literal[1, 2] = 1

    @property
    def stages(self) -> tuple[StageSpec, StageSpec, StageSpec]:
        return self.stage2, self.stage3, self.stage4

    @property
    def interpolation(self) -> Literal["nearest", "bilinear"]:
        """How branches are enlarged."""
        return "nearest" if self.version == 1 else "bilinear"

    @property
    def outputs(self) -> int:
        """The number of branches that the last exchange unit gives the head, finest first."""
        return 1 if self.version == 1 else len(self.stage4.widths)


@dataclass(frozen=True, slots=True)
class LiteHRNetSpec:
    """A Lite-HRNet (Yu et al., "Lite-HRNet: A Lightweight High-Resolution Network", CVPR 2021).

    Stage 1 is the stem; a block is a unit of conditional channel weighting.

    Weights of channels pass through a layer that is narrower by `reduction` across resolutions, and
    by `spatial_reduction` within one.
    """

    name: str
    stage2: StageSpec
    stage3: StageSpec
    stage4: StageSpec
    stem_width: int = 32
    reduction: int = 8
    spatial_reduction: int = 4

    @property
    def stages(self) -> tuple[StageSpec, StageSpec, StageSpec]:
        return self.stage2, self.stage3, self.stage4


NetworkSpec = HRNetSpec | LiteHRNetSpec


def _lite(name: str, modules: tuple[int, int, int]) -> LiteHRNetSpec:
    two, three, four = (
        StageSpec(n, (40, 80, 160, 320)[:branches], blocks=2)
        for branches, n in enumerate(modules, start=2)
    )
    return LiteHRNetSpec(name, two, three, four)


NETWORKS: dict[str, NetworkSpec] = {
    spec.name: spec
    for spec in (
        HRNetSpec(
            "w32",
            bottlenecks=4,
            bottleneck_width=64,
            stage2=StageSpec(1, (32, 64)),
            stage3=StageSpec(4, (32, 64, 128)),
            stage4=StageSpec(3, (32, 64, 128, 256)),
        ),
        HRNetSpec(
            "w48",
            bottlenecks=4,
            bottleneck_width=64,
            stage2=StageSpec(1, (48, 96)),
            stage3=StageSpec(4, (48, 96, 192)),
            stage4=StageSpec(3, (48, 96, 192, 384)),
        ),
        HRNetSpec(
            "w16-small",
            bottlenecks=1,
            bottleneck_width=32,
            stage2=StageSpec(1, (16, 32), blocks=2),
            stage3=StageSpec(1, (16, 32, 64), blocks=2),
            stage4=StageSpec(1, (16, 32, 64, 128), blocks=2),
        ),
        HRNetSpec(
            "w32-small",
            bottlenecks=1,
            bottleneck_width=32,
            stage2=StageSpec(1, (32, 64), blocks=2),
            stage3=StageSpec(1, (32, 64, 128), blocks=2),
            stage4=StageSpec(1, (32, 64, 128, 256), blocks=2),
        ),
        # Twice the parameters of w16-small for a sixth more time: coarse branches are cheap.
        HRNetSpec(
            "w16-wide",
            bottlenecks=1,
            bottleneck_width=32,
            stage2=StageSpec(1, (16, 32), blocks=2),
            stage3=StageSpec(1, (16, 32, 96), blocks=2),
            stage4=StageSpec(1, (16, 32, 96, 192), blocks=2),
        ),
        HRNetSpec(
            "hrnetv2-w18",
            bottlenecks=4,
            bottleneck_width=64,
            stage2=StageSpec(1, (18, 36)),
            stage3=StageSpec(4, (18, 36, 72)),
            stage4=StageSpec(3, (18, 36, 72, 144)),
            version=2,
        ),
        _lite("litehrnet-18", (2, 4, 2)),
        _lite("litehrnet-30", (3, 8, 3)),
    )
}


class Operations(Protocol[T]):
    """What a network is made of, on features T of any kind."""

    def conv(
        self,
        x: T,
        name: str,
        norm: str | None,
        width: int,
        kernel: int,
        stride: int,
        *,
        groups: int = 1,
        bias: bool = False,
    ) -> T:
        """A convolution to `width` channels that keeps the size (divided by `stride`), with the
        weights `name`.weight and, if `bias`, `name`.bias, and the BatchNorm `norm` behind it.
        """
        ...

    def relu(self, x: T) -> T: ...

    def sigmoid(self, x: T) -> T: ...

    def add(self, x: T, y: T) -> T: ...

    def multiply(self, x: T, y: T) -> T:
        """Each channel of `x` by that of `y`, which has the size of `x` or is a single pixel."""
        ...

    def upsample(self, x: T, factor: int, how: Interpolation) -> T: ...

    def pool(self, x: T, factor: int | None) -> T:
        """The mean of squares of `factor` pixels a side, or without it of the whole map."""
        ...

    def concat(self, parts: Sequence[T]) -> T:
        """The channels of all parts, one after the other."""
        ...

    def split(self, x: T, widths: Sequence[int]) -> list[T]:
        """Parts of so many channels each."""
        ...

    def shuffle(self, x: T) -> T:
        """The channels of both halves, alternating (ShuffleNet)."""
        ...


def check_shapes(expected: Shapes, found: Shapes, error: str) -> None:
    """Raises UserError, whose message starts with `error`, where names or shapes differ."""
    wrong = [f"{key} is missing" for key in expected.keys() - found.keys()]
    wrong += [f"{key} is not of this network" for key in found.keys() - expected.keys()]
    wrong += [
        f"{key}: expected shape {expected[key]}, found {found[key]}"
        for key in expected.keys() & found.keys()
        if expected[key] != found[key]
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(f"{error}: {'; '.join(sorted(wrong)[:3])}{more}", code="weights-unsuitable")
