"""Torchvision's Faster R-CNN, where torchvision is installed."""

from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from hrpose.detection.detector import Boxes
from hrpose.errors import UserError
from hrpose.geometry import xyxy_to_xywh

# Torchvision numbers COCO's categories as COCO does.
PERSON = 1


class TorchvisionDetector:
    """People by Faster R-CNN with MobileNetV3 (AP 32.8 on COCO val2017 by torchvision's figures).

    Its weights (74 MB) come from PyTorch's host at the first use. Boxes with a score of at least
    `threshold`, best first. Raises UserError where torchvision or the weights cannot be had.
    """

    name = "torchvision's Faster R-CNN"

    def __init__(self, threshold: float = 0.5) -> None:
        try:
            self._torch = import_module("torch")
            detection = import_module("torchvision.models.detection")
        except ImportError as error:
            raise UserError(
                f"detector torchvision: needs torchvision ({error}); pip install torchvision, "
                "or choose another --detector"
            ) from error
        try:
            model = detection.fasterrcnn_mobilenet_v3_large_fpn(
                weights=detection.FasterRCNN_MobileNet_V3_Large_FPN_Weights.DEFAULT
            )
        except (OSError, RuntimeError) as error:  # no network, no room, a damaged download
            raise UserError(
                f"detector torchvision: its weights cannot be fetched ({error}); "
                "choose another --detector"
            ) from error
        self.threshold = threshold
        self._device = "cuda" if self._torch.cuda.is_available() else "cpu"
        self._model = model.eval().to(self._device)

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        """The people in an RGB image (h, w, 3)."""
        torch = self._torch
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self._device)
        with torch.inference_mode():
            (found,) = self._model([pixels.permute(2, 0, 1).float() / 255])
        persons = (found["labels"] == PERSON) & (found["scores"] >= self.threshold)
        xyxy = found["boxes"][persons].double().cpu().numpy()
        scores = found["scores"][persons].double().cpu().numpy().clip(0, 1)
        boxes = Boxes(xyxy_to_xywh(xyxy), scores)
        return boxes.best(len(boxes))
