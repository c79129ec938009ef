"""Metrics of poses and boxes, and the suppression of repeated poses.

`oks` (similarity and OKS-NMS), `pck` (PCK, NME, EPE, PCKh) and `boxes` (a detector's recall and
precision) need NumPy alone. `coco` (AP) evaluates with faster-coco-eval and `calibration` fits with
SciPy, both of the extra `train`.
"""

# The function `oks` stays in its module: here it would hide the module of the same name.
from hrpose.metrics.oks import oks_nms, oks_nms_per_image, soft_oks_nms, soft_oks_nms_per_image

__all__ = ["oks_nms", "oks_nms_per_image", "soft_oks_nms", "soft_oks_nms_per_image"]
