"""Metrics of poses and boxes, and the suppression of repeated poses.

`oks` (similarity and OKS-NMS) and `pck` (PCK, NME, EPE, PCKh) need NumPy alone. `coco` (AP of poses
and boxes) evaluates poses with faster-coco-eval, and `calibration` fits with SciPy, both of the
extra `train`.
"""

# The function `oks` stays in its module: here it would hide the module of the same name.
from hrpose.metrics.oks import oks_nms, oks_nms_per_image, soft_oks_nms, soft_oks_nms_per_image

__all__ = ["oks_nms", "oks_nms_per_image", "soft_oks_nms", "soft_oks_nms_per_image"]
