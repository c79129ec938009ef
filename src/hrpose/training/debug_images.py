"""What the network is shown and what it answers, as images, every so many steps.

A look at the first ones finds most mistakes in a data set: keypoints that lie beside the person,
left and right swapped, augmentation that cuts people off.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hrpose.data.dataset import Sample
from hrpose.image import encode
from hrpose.io import write_atomically
from hrpose.metadata import Metadata
from hrpose.poses import Poses
from hrpose.viz import draw, grid, overlay

PERSONS = 16  # on a sheet of crops
PERSONS_WITH_HEATMAPS = 4
SURE = 0.1  # a fresh network's peaks are low, and are to be seen


@dataclass(frozen=True, slots=True)
class DebugImages:
    """Writes four sheets to `folder` each `every` steps; 0 never does.

    `00000500_labels.jpg` has the first crops of the batch with their labeled keypoints, `_found`
    with the found ones, `_labels_heatmaps` and `_found_heatmaps` the heatmaps of the first four, a
    row for each person, with a crop in front.
    """

    folder: Path
    metadata: Metadata
    every: int = 0

    def due(self, step: int) -> bool:
        return self.every > 0 and step % self.every == 0

    def write(self, step: int, batch: Sample, heatmaps: Tensor, targets: Tensor) -> None:
        """`heatmaps` are the network's for `batch`, `targets` the labels' (n, k, h, w)."""
        crops = batch.image[:PERSONS].cpu().numpy()
        points, scores = self.metadata.codec.decode(heatmaps[:PERSONS].detach().float())
        sides = {
            "labels": (batch.points[:PERSONS], batch.visible[:PERSONS], targets),
            "found": (points, scores.clamp(0, 1), heatmaps),
        }
        for side, (xy, sure, maps) in sides.items():
            keypoints = np.concatenate([xy.cpu().numpy(), sure.cpu().numpy()[..., None]], axis=-1)
            drawn = [self._drawn(*pair) for pair in zip(crops, keypoints, strict=True)]
            shown = maps[:PERSONS_WITH_HEATMAPS].detach().float().cpu().numpy()
            labels = [f"person {int(person)}" for person in batch.person[:PERSONS]]
            self._save(f"{step:08}_{side}.jpg", grid(drawn, labels, columns=8))
            sheet = self._heatmaps(crops, drawn, labels, shown)
            self._save(f"{step:08}_{side}_heatmaps.jpg", sheet)

    def _drawn(self, crop: NDArray[np.uint8], keypoints: NDArray[np.float32]) -> NDArray[np.uint8]:
        height, width = crop.shape[:2]
        box, score = np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32)
        pose = Poses(keypoints[None].astype(np.float32), box, score, self.metadata.skeleton)
        return draw(crop, pose, threshold=SURE)

    def _heatmaps(
        self,
        crops: NDArray[np.uint8],
        drawn: list[NDArray[np.uint8]],
        labels: list[str],
        heatmaps: NDArray[np.float32],
    ) -> NDArray[np.uint8]:
        strides = self.metadata.codec.strides(self.metadata.heatmap_wh)
        names = [name.replace("_", " ") for name in self.metadata.skeleton.keypoints]
        tiles, words = [], []
        for person, maps in enumerate(heatmaps):
            tiles += [drawn[person], *(overlay(crops[person], one, strides) for one in maps)]
            words += [labels[person], *names]
        return grid(tiles, words, columns=1 + len(names))

    def _save(self, name: str, image: NDArray[np.uint8]) -> None:
        write_atomically(self.folder / name, encode(image, ".jpg"))
