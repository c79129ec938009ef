"""The network: a table (`spec`), its parts (`blocks`), the whole (`hrnet`). Needs PyTorch."""

from hrpose.network.hrnet import HRNet
from hrpose.network.spec import NETWORKS, HRNetSpec, StageSpec

__all__ = ["NETWORKS", "HRNet", "HRNetSpec", "StageSpec"]
