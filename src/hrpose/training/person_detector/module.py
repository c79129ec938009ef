"""Fits a person detector's `Confidence`: which of its boxes are people's, as often as its scores
say.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrpose.detection import person_detector
from hrpose.detection.person_detector import persons, read_maps
from hrpose.geometry import Boxes
from hrpose.metadata import Confidence, DetectorMetadata
from hrpose.metrics.boxes import BoxScores, evaluate_boxes, matched
from hrpose.metrics.calibration import logistic
from hrpose.models.hrnet import HRNet
from hrpose.training.base_module import NetworkModule
from hrpose.training.losses import box_loss, center_loss
from hrpose.training.person_detector.dataset import DetectorSample
from hrpose.training.person_detector.recipe import DetectorRecipe

# With fewer right or wrong boxes nothing is fitted.
FEWEST = 20


def fit_confidence(
    peaks: NDArray[np.float64], boxes: NDArray[np.float64], right: NDArray[np.float64]
) -> Confidence:
    """The likeliest numbers by logistic regression ("Platt scaling"), with the box's size.

    `peaks` (n,) in [0, 1] of `boxes` (n, 4) in input pixels; `right` (n,) is 1 where the box is a
    person's, else 0. Where too few are either, or the peaks say nothing, the score stays the peak.
    """
    if min(right.sum(), (1 - right).sum()) < FEWEST:
        return Confidence()
    heat, size, offset = logistic(Confidence.features(peaks, boxes), right)
    return Confidence(float(heat), float(size), float(offset)) if heat > 0 else Confidence()


# Brings both losses to about the same size.
BOX_WEIGHT = 3.0
# As high, relative to the longer side, as 96 px in an image of 640.
TALL = 0.15


class DetectorModule(NetworkModule):
    """Trains `network` by `recipe`. Chooses on the held-out images by AP at IoU 0.5."""

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
        """Of the last validation, scored by the metadata's confidence."""
        found = self.found()
        return evaluate_boxes(
            self.truth,
            [boxes.xywh for boxes in found],
            [boxes.scores for boxes in found],
            min_height,
        )

    def found(self) -> list[Boxes]:
        """The boxes of the last validation, as the detector would give them, of any score."""
        return [persons(*decoded, self.metadata.confidence) for decoded in self.decoded]

    def fit_confidence(self) -> None:
        """Make the scores probabilities, by the last validation with peaks for scores."""
        self.metadata = replace(self.metadata, confidence=Confidence())
        found = list(zip(self.truth, self.found(), strict=True))
        right = [matched(true, boxes.xywh, boxes.scores) for true, boxes in found]
        confidence = fit_confidence(
            np.concatenate([boxes.scores for _, boxes in found]),
            np.concatenate([boxes.xywh for _, boxes in found]),
            np.concatenate(right),
        )
        self.metadata = replace(self.metadata, confidence=confidence)

    def tall(self) -> BoxScores:
        """Of the last validation, people who are not small in their image."""
        return self.score(TALL * self.recipe.side)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[DetectorMetadata.keys[0]] = self.metadata.to_json()
