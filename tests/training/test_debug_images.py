"""Debug images: which are written, and what is on them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hrpose.data.coco import load_persons
from hrpose.data.dataset import Draw, PoseDataset, Sample, collate, open_cutouts
from hrpose.metadata import Metadata
from hrpose.synthetic import write_dataset
from hrpose.training.debug_images import DebugImages

METADATA = Metadata("w16-small", (96, 128))


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    folder = tmp_path_factory.mktemp("persons")
    table = load_persons(write_dataset(folder, 4, seed=5))
    dataset = PoseDataset(table, open_cutouts(folder / "images", table), METADATA.input_wh)
    return collate([dataset[Draw(person)] for person in range(5)])


def test_sheets_of_labels_and_answers(batch: Sample, tmp_path: Path) -> None:
    targets, _ = METADATA.codec.encode(batch.points, batch.visible, METADATA.input_wh)
    silent = torch.full_like(targets, -1.0)
    DebugImages(tmp_path / "images", METADATA, 10).write(500, batch, silent, targets)
    names = {path.name: cv2.imread(str(path)) for path in (tmp_path / "images").iterdir()}
    assert sorted(names) == [
        *("00000500_found.jpg", "00000500_found_heatmaps.jpg"),
        *("00000500_labels.jpg", "00000500_labels_heatmaps.jpg"),
    ]
    labels, found = names["00000500_labels.jpg"], names["00000500_found.jpg"]
    assert labels is not None
    assert found is not None
    assert labels.shape == found.shape
    # Five crops beside each other; a network that answers nothing has no keypoints drawn.
    assert labels.shape[1] > 5 * 96
    assert np.abs(labels.astype(int) - found).max() > 100
    heatmaps = names["00000500_labels_heatmaps.jpg"]
    assert heatmaps is not None
    # Four people; a crop and seventeen heatmaps each.
    assert heatmaps.shape[0] > 4 * 128
    assert heatmaps.shape[1] > 18 * 96


@pytest.mark.parametrize(
    ("every", "steps"), [(0, []), (1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (100, [0])]
)
def test_how_often(tmp_path: Path, every: int, steps: list[int]) -> None:
    images = DebugImages(tmp_path, METADATA, every)
    assert [step for step in range(5) if images.due(step)] == steps
