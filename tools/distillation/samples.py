"""Augmented crops with the keypoints of both human labels and the teacher."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrpose.data.augmentation import Augmentation, draw_crop, photometric
from hrpose.geometry import Crop, transform, warp
from hrpose.skeletons import COCO_17
from tools.distillation.data import TRAIN, PackedPersons
from tools.distillation.recipe import Recipe

# From this score on, the teacher's keypoint is trusted.
SURE = 0.3
# Outside of every crop.
FAR_AWAY = 1e6
# Shoulders, hips (twice as often) and knees: where a truncated image ends.
CUTS = ((5, 6), (11, 12), (11, 12), (13, 14))
HEAD = range(5)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A crop `pixels` (h, w, 3) uint8; points (k, 2) in input pixels.

    `weights` (k,) are those of labels, 0 where there is none, `scores` (k,) the teacher's.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.float64]
    weights: NDArray[np.float64]
    teacher: NDArray[np.float64]
    scores: NDArray[np.float32]


class Samples:
    """Samples by number: the number and the recipe's seed determine each completely.

    `teacher` (n, k, 3) are keypoints in image pixels, with scores.
    """

    def __init__(
        self, persons: PackedPersons, teacher: NDArray[np.float32], recipe: Recipe
    ) -> None:
        self.persons, self.teacher, self.recipe = persons, teacher, recipe
        a = recipe.augmentation
        self.augmentation = Augmentation(
            scale=a.scale,
            rotation_deg=a.rotation_deg,
            half_body_probability=a.half_body_probability,
        )
        share = np.array([recipe.sampling[source] for source in persons.source], np.float64)
        share[persons.split != TRAIN] = 0
        self.cumulative = np.cumsum(share / share.sum())

    def __getitem__(self, number: int) -> Sample:
        persons, a = self.persons, self.recipe.augmentation
        rng = np.random.default_rng((self.recipe.seed, number))
        drawn = int(np.searchsorted(self.cumulative, rng.uniform()))
        person = min(drawn, len(persons) - 1)
        image, box = persons.image(person), persons.box[person]
        labels, teacher = persons.keypoints[person].copy(), self.teacher[person].copy()
        trust = persons.trust[person]
        if trust < 1 and persons.source[person] != "lspet":
            labels[:] = 0  # a teacher's labels, made from one crop: `teacher` is better
        trusted = np.where(teacher[:, 2:] > SURE, teacher, 0)
        known = np.where(labels[:, 2:] > 0, labels, trusted)
        if rng.uniform() < a.truncation_probability:
            image, box = truncate(image, box, known, rng)
            h, w = image.shape[:2]
            for points in (labels, teacher):
                points[(points[:, 0] > w) | (points[:, 1] > h), :2] = FAR_AWAY
            known[known[:, 1] > h, 2] = 0
        box = jitter(box, a.box_jitter, rng)
        crop = Crop.from_box(
            box,
            self.recipe.input_wh,
            self.recipe.padding,
            unit_lengths=self.recipe.codec.name == "udp",
        )
        crop = draw_crop(crop, known.astype(np.float32), COCO_17, self.augmentation, rng)
        pixels = photometric(warp(image, crop), a.photometric, rng)
        if crop.mirrored:
            flip = list(COCO_17.flip_permutation)
            labels, teacher = labels[flip], teacher[flip]
        return Sample(
            pixels,
            transform(labels[:, :2], crop.matrix),
            (labels[:, 2] > 0) * min(float(trust), 1.0),
            transform(teacher[:, :2], crop.matrix),
            np.clip(teacher[:, 2], 0, 1),
        )


def jitter(
    box: NDArray[np.float64], strength: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A box [x, y, w, h] with another center and other sides."""
    x, y, w, h = box
    shift = rng.normal(0, strength, 2)
    growth = np.exp(rng.normal(0, strength * 1.6, 2))
    x += w * (shift[0] + (1 - growth[0]) / 2)
    y += h * (shift[1] + (1 - growth[1]) / 2)
    return np.array([x, y, w * growth[0], h * growth[1]])


def truncate(
    image: NDArray[np.uint8],
    box: NDArray[np.float64],
    keypoints: NDArray[np.float32],
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Image and box that end below the shoulders, at the hips or at the knees.

    Three times in ten the image stays and the box alone ends there. Persons that are not upright,
    or of which too little would remain, stay as they are. `keypoints` (k, 3) in image pixels.
    """
    at = CUTS[rng.integers(len(CUTS))]
    labeled = [i for i in at if keypoints[i, 2] > 0]
    x, y, w, h = box
    if not labeled:
        return image, box
    cut = keypoints[labeled, 1].mean() + rng.uniform(-0.03, 0.12) * h
    head = [i for i in HEAD if keypoints[i, 2] > 0]
    upright = bool(head) and keypoints[head, 1].mean() <= cut - 0.1 * h
    if not upright or not y + 0.15 * h <= cut <= y + 0.95 * h:
        return image, box
    above = keypoints[(keypoints[:, 2] > 0) & (keypoints[:, 1] < cut)]
    if len(above) < 3:
        return image, box
    left = max(x, above[:, 0].min() - 0.15 * w)
    right = min(x + w, above[:, 0].max() + 0.15 * w)
    if right - left < 0.2 * w:
        left, right = x, x + w
    if rng.uniform() < 0.7:
        image = image[: max(8, min(int(cut), image.shape[0]))]
    return image, np.array([left, y, right - left, cut - y])
