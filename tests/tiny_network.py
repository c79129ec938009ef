"""An HRNet of 20 thousand weights, for tests that train many steps."""

from hrpose.models.networks import NETWORKS, HRNetSpec, StageSpec

TINY = HRNetSpec(
    "tiny",
    bottlenecks=1,
    bottleneck_width=4,
    stage2=StageSpec(1, (4, 8), blocks=1),
    stage3=StageSpec(1, (4, 8, 16), blocks=1),
    stage4=StageSpec(1, (4, 8, 16, 32), blocks=1),
    stem_width=8,
)


def register() -> None:
    """Let recipes say `network: tiny` in this process."""
    NETWORKS[TINY.name] = TINY
