"""An HRNet of 20 thousand weights, for tests that train many steps, and its relatives."""

from dataclasses import replace

from hrpose.models.networks import NETWORKS, HRNetSpec, LiteHRNetSpec, StageSpec

TINY = HRNetSpec(
    "tiny",
    bottlenecks=1,
    bottleneck_width=4,
    stage2=StageSpec(1, (4, 8), blocks=1),
    stage3=StageSpec(1, (4, 8, 16), blocks=1),
    stage4=StageSpec(1, (4, 8, 16, 32), blocks=1),
    stem_width=8,
)
TINY_V2 = replace(TINY, name="tiny-v2", version=2)
TINY_LITE = LiteHRNetSpec(
    "tiny-lite",
    stage2=StageSpec(1, (16, 32), blocks=1),
    stage3=StageSpec(1, (16, 32, 64), blocks=1),
    stage4=StageSpec(1, (16, 32, 64, 128), blocks=1),
    stem_width=16,
)


def register() -> None:
    """Let recipes say `network: tiny` in this process."""
    NETWORKS[TINY.name] = TINY
