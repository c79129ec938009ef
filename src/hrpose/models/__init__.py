"""The network: a table (`spec`), its parts (`blocks`), the whole (`hrnet`). Needs PyTorch."""

from hrpose.models.hrnet import NETWORKS, HRNet, HRNetSpec, StageSpec

__all__ = ["NETWORKS", "HRNet", "HRNetSpec", "StageSpec"]
