"""The person detector in training: losses, AP on the held-out images, and its confidence."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hrpose.detection import person_detector
from hrpose.detection.person_detector import persons, read_maps
from hrpose.geometry import Boxes
from hrpose.metadata import Confidence, DetectorMetadata
from hrpose.metrics.boxes import BoxScores, evaluate_boxes, matched
from hrpose.metrics.calibration import fit_confidence
from hrpose.models.hrnet import HRNet
from hrpose.training.base_module import NetworkModule
from hrpose.training.person_detector.dataset import DetectorSample
from hrpose.training.recipe import DetectorRecipe

# Brings both losses to about the same size.
BOX_WEIGHT = 3.0
# The height of tall persons, relative to the longer side: 96 pixels in an image of 640.
TALL = 0.15


class DetectorModule(NetworkModule):
    """Trains `network` by `recipe`; validates by the AP at IoU 0.5 on the held-out images."""

    recipe: DetectorRecipe
    metadata: DetectorMetadata

    def __init__(self, network: HRNet, recipe: DetectorRecipe, metadata: DetectorMetadata) -> None:
        super().__init__(network, recipe, metadata)
        self.truth: list[NDArray[np.float64]] = []
        self.decoded: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images (n, h, w, 3) to logits (n, h/4, w/4) and distances (n, 4, h/4, w/4)."""
        return read_maps(self.outputs(images))

    def training_step(self, batch: DetectorSample, _index: int) -> Tensor:
        logits, distances = self(batch.image)
        center = center_loss(logits, batch.heat, batch.counts)
        box = box_loss(distances, batch.distances, batch.weights)
        n = len(batch.image)
        for name, loss in (("center", center), ("box", box)):
            self.log(
                f"train/{name}", loss, prog_bar=True, on_step=True, on_epoch=True, batch_size=n
            )
        return center + BOX_WEIGHT * box

    def on_validation_epoch_start(self) -> None:
        self.truth.clear()
        self.decoded.clear()

    def validation_step(self, batch: tuple[Tensor, list[NDArray[np.float64]]], _i: int) -> None:
        images, truth = batch
        logits, distances = self(images)
        heat = torch.sigmoid(logits).cpu().numpy()
        for maps in zip(heat, distances.cpu().numpy(), strict=True):
            self.decoded.append(person_detector.decode(*maps))
        self.truth.extend(truth)

    def on_validation_epoch_end(self) -> None:
        self.log("val/AP", self.score(0.0).AP, prog_bar=True)
        tall = self.tall()
        recall, precision = tall.at(tall.best_threshold)
        self.log("val/AP_tall", tall.AP, prog_bar=True)
        self.log("val/threshold", tall.best_threshold)
        self.log("val/recall", recall, prog_bar=True)
        self.log("val/precision", precision, prog_bar=True)

    def score(self, min_height: float) -> BoxScores:
        """The scores of the last validation, of persons of at least `min_height` pixels."""
        detections = self.detections()
        return evaluate_boxes(
            self.truth,
            [boxes.xywh for boxes in detections],
            [boxes.scores for boxes in detections],
            min_height,
        )

    def detections(self) -> list[Boxes]:
        """The boxes of the last validation, as in use but of any score."""
        return [persons(*decoded, self.metadata.confidence) for decoded in self.decoded]

    def fit_confidence(self) -> None:
        """Fit the confidence, which makes scores probabilities, to the last validation."""
        self.metadata = replace(self.metadata, confidence=Confidence())
        detections = self.detections()
        right = [
            matched(true, boxes.xywh, boxes.scores)
            for true, boxes in zip(self.truth, detections, strict=True)
        ]
        confidence = fit_confidence(
            np.concatenate([boxes.scores for boxes in detections]),
            np.concatenate([boxes.xywh for boxes in detections]),
            np.concatenate(right),
        )
        self.metadata = replace(self.metadata, confidence=confidence)

    def tall(self) -> BoxScores:
        """The scores of the last validation, of tall persons."""
        return self.score(TALL * self.recipe.side)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[DetectorMetadata.keys[0]] = self.metadata.to_json()


def center_loss(logits: Tensor, heat: Tensor, counts: Tensor) -> Tensor:
    """Penalty-reduced focal loss ("Objects as Points", equation 1: alpha 2, beta 4).

    `logits`, `heat` and `counts` (n, h, w); cells where `counts` is 0 are not background.
    """
    p = torch.sigmoid(logits)
    positive = (heat == 1).float()
    missed = (1 - p) ** 2 * F.softplus(-logits)
    false = (1 - heat) ** 4 * p**2 * F.softplus(logits)
    total = (positive * missed + (1 - positive) * counts * false).sum()
    return total / positive.sum().clamp(min=1)


def box_loss(predicted: Tensor, true: Tensor, weights: Tensor) -> Tensor:
    """1 - generalized IoU (Rezatofighi et al., CVPR 2019), averaged over persons.

    `predicted` and `true` are distances to the sides (n, 4, h, w) from the same cells; `weights`
    (n, h, w) sum to 1 over a person.
    """
    low, high = torch.minimum(predicted, true), torch.maximum(predicted, true)

    def area(d: Tensor) -> Tensor:
        return (d[:, 0] + d[:, 2]) * (d[:, 1] + d[:, 3])

    common = area(low)
    union = area(predicted) + area(true) - common
    hull = area(high)
    giou = common / union - (hull - union) / hull
    return ((1 - giou) * weights).sum() / weights.sum().clamp(min=1)
