"""The networks as rows of a table.

The paper (section 3, "Network instantiation") writes an HRNet as four stages. Each stage runs
`modules` exchange units; in a unit every parallel branch has `blocks` residual blocks of its
width. Stage 1 is the stem followed by bottlenecks at one resolution.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One multi-resolution stage: widths of its branches, finest first."""

    modules: int
    widths: tuple[int, ...]
    blocks: int = 4


@dataclass(frozen=True, slots=True)
class HRNetSpec:
    """A whole network. A bottleneck puts out four times its inner `bottleneck_width`."""

    name: str
    bottlenecks: int
    bottleneck_width: int
    stage2: StageSpec
    stage3: StageSpec
    stage4: StageSpec
    stem_width: int = 64

    @property
    def stages(self) -> tuple[StageSpec, StageSpec, StageSpec]:
        return self.stage2, self.stage3, self.stage4


NETWORKS: dict[str, HRNetSpec] = {
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
    )
}
