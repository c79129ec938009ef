"""How good poses are, and which of several poses of one person to keep.

`oks` (similarity and suppression) and `pckh` (MPII) need NumPy alone; `coco` (AP) reads with NumPy
and evaluates with faster-coco-eval, which the extra `train` brings.
"""

# The function `oks` stays in its module: here it would hide the module of the same name.
from hrpose.metrics.oks import oks_nms, oks_nms_per_image, soft_oks_nms, soft_oks_nms_per_image

__all__ = ["oks_nms", "oks_nms_per_image", "soft_oks_nms", "soft_oks_nms_per_image"]
