"""hrpose: human pose estimation with HRNet.

import hrpose

estimator = hrpose.load("w32-small")
poses = estimator("photo.jpg")
poses.keypoints  # (n, 17, 3): x, y, score
poses.save("drawn.jpg")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hrpose._version import __version__ as __version__

if TYPE_CHECKING:
    from hrpose.api import (
        evaluate,
        export,
        finetune,
        from_pretrained,
        load,
        measure,
        push_to_hub,
        track,
        train,
    )
    from hrpose.errors import UserError
    from hrpose.estimator import PoseEstimator
    from hrpose.geometry import Crop
    from hrpose.models.hrnet import HRNet
    from hrpose.models.pretrained import (
        HubHRNet,
        hrnet_w16_small,
        hrnet_w32,
        hrnet_w32_small,
        hrnet_w48,
        hrnetv2_w18,
        litehrnet_18,
        litehrnet_30,
    )
    from hrpose.poses import Poses
    from hrpose.skeleton import Skeleton
    from hrpose.viz import draw

# The module of each public name. They are imported on first use, so that importing hrpose is fast
# and PyTorch is imported only where it is needed.
_MODULES = {
    "load": "hrpose.api",
    "track": "hrpose.api",
    "measure": "hrpose.api",
    "from_pretrained": "hrpose.api",
    "push_to_hub": "hrpose.api",
    "train": "hrpose.api",
    "finetune": "hrpose.api",
    "evaluate": "hrpose.api",
    "export": "hrpose.api",
    "draw": "hrpose.viz",
    "PoseEstimator": "hrpose.estimator",
    "Poses": "hrpose.poses",
    "Skeleton": "hrpose.skeleton",
    "Crop": "hrpose.geometry",
    "HRNet": "hrpose.models.hrnet",
    "HubHRNet": "hrpose.models.pretrained",
    "hrnet_w32": "hrpose.models.pretrained",
    "hrnet_w48": "hrpose.models.pretrained",
    "hrnet_w32_small": "hrpose.models.pretrained",
    "hrnet_w16_small": "hrpose.models.pretrained",
    "hrnetv2_w18": "hrpose.models.pretrained",
    "litehrnet_18": "hrpose.models.pretrained",
    "litehrnet_30": "hrpose.models.pretrained",
    "UserError": "hrpose.errors",
}

__all__ = [
    "Crop", "HRNet", "HubHRNet", "PoseEstimator", "Poses", "Skeleton", "UserError",
    "draw", "evaluate", "export", "finetune", "from_pretrained", "hrnet_w16_small", "hrnet_w32",
    "hrnet_w32_small", "hrnet_w48", "hrnetv2_w18", "litehrnet_18", "litehrnet_30", "load",
    "measure", "push_to_hub", "track", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'hrpose' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
