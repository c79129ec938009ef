"""w32-small: w16-small with all widths of the stages doubled, 4.83 M parameters."""

from hrpose.models.networks import NETWORKS, HRNetSpec, StageSpec

W32_SMALL = HRNetSpec(
    "w32-small",
    bottlenecks=1,
    bottleneck_width=32,
    stage2=StageSpec(1, (32, 64), blocks=2),
    stage3=StageSpec(1, (32, 64, 128), blocks=2),
    stage4=StageSpec(1, (32, 64, 128, 256), blocks=2),
)


def register() -> None:
    """Add w32-small to the networks of hrpose, so that weights and recipes can name it."""
    NETWORKS.setdefault(W32_SMALL.name, W32_SMALL)
