"""HRNet, its checkpoints (own and foreign) and its export to ONNX.

`networks`, `torch_file`, `convert` and `onnx_graph` need no PyTorch, all others do.
"""

from typing import TYPE_CHECKING, Any

from hrpose.models.networks import NETWORKS, HRNetSpec, StageSpec

if TYPE_CHECKING:
    from hrpose.models.hrnet import HRNet

__all__ = ["NETWORKS", "HRNet", "HRNetSpec", "StageSpec"]


def __getattr__(name: str) -> Any:
    if name != "HRNet":
        raise AttributeError(f"module 'hrpose.models' has no attribute '{name}'")
    from hrpose.models.hrnet import HRNet  # imports PyTorch

    return HRNet
