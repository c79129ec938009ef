"""HRNet, its checkpoints (own and foreign) and its export to ONNX. Needs PyTorch."""

from hrpose.models.hrnet import NETWORKS, HRNet, HRNetSpec, StageSpec

__all__ = ["NETWORKS", "HRNet", "HRNetSpec", "StageSpec"]
