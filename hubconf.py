"""PyTorch Hub: `torch.hub.load("OWNER/hrpose", "hrnet_w32", weights="w32-coco-256x192-udp")`.

The functions are those of the package; `pose_estimator` is the whole path from images to poses.
Without an installed hrpose they come from the `src` folder beside this file.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

# What `hrpose[train]` needs for these; torch.hub says which are missing.
dependencies = ["torch", "numpy", "cv2", "PIL", "onnxruntime", "safetensors", "filelock", "yaml"]

if find_spec("hrpose") is None:
    sys.path.append(str(Path(__file__).resolve().parent / "src"))

from hrpose.api import load as pose_estimator  # noqa: E402
from hrpose.models.pretrained import (  # noqa: E402
    hrnet_w16_small,
    hrnet_w32,
    hrnet_w32_small,
    hrnet_w48,
    hrnetv2_w18,
    litehrnet_18,
    litehrnet_30,
)

__all__ = [
    "hrnet_w16_small", "hrnet_w32", "hrnet_w32_small", "hrnet_w48", "hrnetv2_w18", "litehrnet_18",
    "litehrnet_30", "pose_estimator",
]  # fmt: skip
