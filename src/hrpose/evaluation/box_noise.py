"""How much the AP depends on the boxes: predictions for ground-truth boxes with added noise."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import CocoAnnotations
from hrpose.data.images import ImageFiles
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.predictions import Instances, Progress, predict, ranked_results
from hrpose.geometry import iou_of_pairs
from hrpose.metrics.coco import evaluate_keypoints
from hrpose.skeleton import Skeleton

AMOUNTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
# Enough for a curve; of a larger data set, images are drawn at random.
MAX_PERSONS = 500


@dataclass(frozen=True, slots=True)
class BoxNoise:
    """AP with noise of this `amount` on the boxes; `iou` is their mean overlap with the original
    ones, by which a detector's boxes can be compared.
    """

    amount: float
    iou: float
    AP: float


def add_noise(
    boxes: NDArray[np.float64],
    amount: float,
    image_wh: NDArray[np.integer],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Boxes (n, 4) [x, y, w, h] with normal noise, whose standard deviation is `amount`: on centers
    relative to the size, and on the logarithms of widths and heights. Centers stay inside their
    images of `image_wh` (n, 2).
    """
    center, size = boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]
    moved = np.clip(center + amount * rng.normal(size=size.shape) * size, 1, image_wh - 1)
    grown = size * np.exp(amount * rng.normal(size=size.shape))
    return np.concatenate([moved - grown / 2, grown], axis=1)


def box_noise(
    estimator: PoseEstimator,
    annotations: CocoAnnotations,
    source: ImageFiles,
    skeleton: Skeleton,
    progress: Progress,
    seed: int = 0,
) -> list[BoxNoise]:
    """AP of `estimator` at each of `AMOUNTS`, on images drawn until there are 500 persons.

    `skeleton` has the OKS sigmas. Without noise, boxes and poses are those of `hrpose evaluate`.
    """
    rng = np.random.default_rng(seed)
    table = replace(annotations.persons(), skeleton=skeleton)
    images = rng.permutation(np.unique(table.image_index))
    persons_of = np.bincount(table.image_index, minlength=len(table.image_ids))[images]
    images = images[np.cumsum(persons_of) - persons_of < MAX_PERSONS]
    table = table.select(np.isin(table.image_index, images))
    sizes = table.image_wh[table.image_index]
    points = []
    for step, amount in enumerate(AMOUNTS):
        boxes = add_noise(table.boxes, amount, sizes, rng)
        instances = Instances(table.image_index, boxes, np.ones(len(boxes)))
        results = ranked_results(table, predict(estimator, table, instances, source))
        ids = table.image_ids[images].tolist()
        scores = evaluate_keypoints(annotations, results, skeleton.sigmas, ids)
        overlap = float(iou_of_pairs(boxes, table.boxes).mean())
        points.append(BoxNoise(amount, overlap, scores.AP))
        progress(step + 1, len(AMOUNTS))
    return points
