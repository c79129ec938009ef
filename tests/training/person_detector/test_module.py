"""A validation scores the boxes that the detector gives in use."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from hrpose.detection import person_detector
from hrpose.detection.person_detector import persons
from hrpose.metadata import Confidence, DetectorMetadata
from hrpose.training.person_detector.train import DetectorModule, build_network
from hrpose.training.recipe import DetectorRecipe
from tiny_boxes import RECIPE

SIDE = 96
# Two peaks of one person: the higher one has a small box, and the other is right.
PERSON = [4.0, 4.0, 64.0, 88.0]
PART = [12.0, 12.0, 48.0, 64.0]
BY_SIZE = Confidence(heat=1.0, size=8.0)


class Scripted(DetectorModule):
    """A module whose network has both peaks in every image."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        heat = np.full((SIDE // 4, SIDE // 4), 1e-4)
        distances = np.ones((4, SIDE // 4, SIDE // 4))
        x, y = person_detector.cell_positions((SIDE // 4, SIDE // 4))
        for (left, top, w, h), peak, cell in ((PERSON, 0.5, (11, 8)), (PART, 0.6, (11, 11))):
            row, column = cell
            heat[row, column] = peak
            sides = (x[column] - left, y[row] - top, left + w - x[column], top + h - y[row])
            distances[:, row, column] = sides
        heat = np.log(heat / (1 - heat))
        maps = [torch.from_numpy(np.stack([each] * len(images))) for each in (heat, distances)]
        return maps[0], maps[1]


@pytest.fixture
def module() -> Scripted:
    recipe = DetectorRecipe.model_validate(RECIPE)
    metadata = DetectorMetadata(recipe.network, SIDE, confidence=BY_SIZE)
    module = Scripted(build_network(recipe.network), recipe, metadata)
    images = torch.zeros((2, SIDE, SIDE, 3), dtype=torch.uint8)
    module.validation_step((images, [np.array([PERSON])] * 2), 0)
    return module


def test_overlapping_boxes_compete_by_score_as_in_use(module: Scripted) -> None:
    scores = module.score(0.0)
    # By the peak alone PART would stay: its IoU with PERSON is 0.55, and with the person as well.
    (used,) = persons(*module.decoded[0], BY_SIZE).scores
    assert scores.thresholds.tolist() == [used, used]
    np.testing.assert_allclose(module.detections()[0].xywh, [PERSON], atol=1e-3)


def test_without_a_confidence_they_compete_by_peak(module: Scripted) -> None:
    module.metadata = replace(module.metadata, confidence=Confidence())
    np.testing.assert_allclose(module.detections()[0].xywh, [PART], atol=1e-3)
    assert module.score(0.0).thresholds == pytest.approx([0.6, 0.6])
