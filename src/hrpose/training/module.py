"""The pose network in training: targets, loss, metrics on the validation set, debug images."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from hrpose.data.dataset import Sample
from hrpose.errors import UserError
from hrpose.evaluation.predictions import Predictions
from hrpose.geometry import transform
from hrpose.image import encode
from hrpose.io import write_atomically
from hrpose.metadata import Metadata
from hrpose.models.build import Network
from hrpose.models.checkpoint import norms
from hrpose.poses import Poses
from hrpose.training.base_module import MicroBatches, NetworkModule
from hrpose.training.data_module import PoseData
from hrpose.training.distributed import gather
from hrpose.training.recipe import Recipe
from hrpose.training.teacher import TeacherTargets
from hrpose.viz import draw, grid, overlay

# Persons of a grid of debug images, and of one with heatmaps.
DEBUG_PERSONS, DEBUG_HEATMAP_PERSONS = 16, 4
# The least score of a keypoint that is drawn: low, like the peaks of an untrained network.
DEBUG_THRESHOLD = 0.1


def warp_batch(images: Tensor, matrices: Tensor, input_wh: tuple[int, int]) -> Tensor:
    """Warp n images to n crops: uint8 (n, h, w, 3) to uint8 (n, input h, input w, 3).

    `matrices` (n, 2, 3) map input pixels to those of each image. Bilinear, black outside. `warp`
    rounds to 1/32 of a pixel on some processors: the mean difference is below 1 of 255, and larger
    only where neighboring pixels differ much.
    """
    width, height = input_wh
    x = torch.arange(width, dtype=matrices.dtype, device=matrices.device)
    y = torch.arange(height, dtype=matrices.dtype, device=matrices.device)
    columns = matrices[:, None, None, :, 0] * x[:, None]
    rows = matrices[:, None, None, :, 1] * y[:, None, None]
    points = columns + rows + matrices[:, None, None, :, 2]
    # grid_sample counts from -1 at the center of the first pixel to 1 at that of the last.
    size = torch.tensor(
        [images.shape[2], images.shape[1]], dtype=matrices.dtype, device=matrices.device
    )
    grid = (points * 2 / (size - 1) - 1).float()
    planes = images.permute(0, 3, 1, 2).float()
    warped = grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return warped.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


@dataclass(frozen=True, slots=True)
class DebugImages:
    """Writes four image grids to `folder` every `every` steps; 0 is never.

    The first ones show most mistakes in a data set: keypoints beside the person, left and right
    swapped, augmentation that cuts persons off. `00000500_labels.jpg` has the first crops of the
    batch with their labeled keypoints, `_predictions` with the predicted ones, `_labels_heatmaps`
    and `_predictions_heatmaps` the heatmaps of the first four, one row for each person.
    """

    folder: Path
    metadata: Metadata
    every: int = 0

    def due(self, step: int) -> bool:
        return self.every > 0 and step % self.every == 0

    def write(self, step: int, batch: Sample, heatmaps: Tensor, targets: Tensor) -> None:
        """`heatmaps` of the network for `batch` and `targets` of the labels, both (n, k, h, w)."""
        crops = batch.image[:DEBUG_PERSONS].cpu().numpy()
        points, scores = self.metadata.codec.decode(heatmaps[:DEBUG_PERSONS].detach().float())
        sides = {
            "labels": (batch.points[:DEBUG_PERSONS], batch.visible[:DEBUG_PERSONS], targets),
            "predictions": (points, scores.clamp(0, 1), heatmaps),
        }
        for side, (xy, confidence, maps) in sides.items():
            keypoints = np.concatenate(
                [xy.cpu().numpy(), confidence.cpu().numpy()[..., None]], axis=-1
            )
            drawn = [self._drawn(*pair) for pair in zip(crops, keypoints, strict=True)]
            some = maps[:DEBUG_HEATMAP_PERSONS].detach().float().cpu().numpy()
            labels = [f"person {int(person)}" for person in batch.person[:DEBUG_PERSONS]]
            self._save(f"{step:08}_{side}.jpg", grid(drawn, labels, columns=8))
            image = self._heatmaps(crops, drawn, labels, some)
            self._save(f"{step:08}_{side}_heatmaps.jpg", image)

    def _drawn(self, crop: NDArray[np.uint8], keypoints: NDArray[np.float32]) -> NDArray[np.uint8]:
        height, width = crop.shape[:2]
        box, score = np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32)
        pose = Poses(keypoints[None].astype(np.float32), box, score, self.metadata.skeleton)
        return draw(crop, pose, threshold=DEBUG_THRESHOLD)

    def _heatmaps(
        self,
        crops: NDArray[np.uint8],
        drawn: list[NDArray[np.uint8]],
        labels: list[str],
        heatmaps: NDArray[np.float32],
    ) -> NDArray[np.uint8]:
        strides = self.metadata.codec.strides(self.metadata.heatmap_wh)
        names = [name.replace("_", " ") for name in self.metadata.skeleton.keypoints]
        tiles, captions = [], []
        for person, maps in enumerate(heatmaps):
            tiles += [drawn[person], *(overlay(crops[person], one, strides) for one in maps)]
            captions += [labels[person], *names]
        return grid(tiles, captions, columns=1 + len(names))

    def _save(self, name: str, image: NDArray[np.uint8]) -> None:
        write_atomically(self.folder / name, encode(image, ".jpg"))


class PoseModule(MicroBatches, NetworkModule):
    """Trains `network` by `recipe`; targets and normalization are computed on the device.

    `images` writes debug images of batches; `teacher` adds its keypoints to those of the labels.
    """

    recipe: Recipe
    metadata: Metadata

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        metadata: Metadata,
        images: DebugImages | None = None,
        teacher: TeacherTargets | None = None,
    ) -> None:
        super().__init__(network, recipe, metadata)
        self.teacher = teacher
        self.micro_batches = recipe.training.micro_batches
        self.images = images
        weights = torch.tensor(metadata.skeleton.weights)
        if not recipe.loss.keypoint_weights:
            weights = torch.ones_like(weights)
        self.register_buffer("keypoint_weights", weights, persistent=False)
        self.flip_permutation = metadata.skeleton.flip_permutation.tolist()
        if recipe.loss.name == "ohkm" and recipe.loss.top > len(metadata.skeleton):
            raise UserError(
                f"loss.top: expected at most the skeleton's {len(metadata.skeleton)} keypoints, "
                f"found {recipe.loss.top}",
                code="recipe-invalid",
            )
        if recipe.training.frozen_norms:
            for _, _, _, norm in norms(network):
                norm.requires_grad_(False)
        self.predictions: list[NDArray[np.float64]] = []

    def train(self, mode: bool = True) -> Self:
        """As any module's; frozen BatchNorms stay in evaluation mode."""
        super().train(mode)
        if self.recipe.training.frozen_norms:
            for _, _, _, norm in norms(self.network):
                norm.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """uint8 crops (n, h, w, 3) to heatmaps (n, k, h/4, w/4)."""
        graphs = self.recipe.training.cuda_graphs
        if graphs and images.is_cuda:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        heatmaps = self.outputs(images)
        # Each replay of a graph overwrites the results of the last one.
        return heatmaps.clone() if graphs else heatmaps

    def cropped(self, batch: Sample) -> Sample:
        """The batch with warped crops, where `training.warp_on_device` left them to the device."""
        if batch.crop_to_source is None:
            return batch
        crops = warp_batch(batch.image, batch.crop_to_source, self.metadata.input_wh)
        return batch._replace(image=crops, crop_to_source=None)

    def training_step(self, batch: Sample, _index: int) -> Tensor:
        batch = self.cropped(batch)
        targets, weights = self._targets(batch)
        teacher, codec, input_wh = self.teacher, self.metadata.codec, self.metadata.input_wh
        if teacher is not None and teacher.settings.loss == "heatmap":
            targets, weights = teacher.blended(batch, codec, input_wh, targets, weights)
        heatmaps = self.in_parts(batch.image)
        loss = self._loss(heatmaps, targets, weights)
        if teacher is not None and teacher.settings.loss == "coordinates":
            loss = loss + teacher.distance(batch, codec, input_wh, heatmaps)
        size = len(targets)
        options: Any = {"on_step": True, "on_epoch": True, "batch_size": size, "sync_dist": True}
        self.log("train/loss", loss, prog_bar=True, **options)
        self.log("train/accuracy", accuracy(heatmaps, targets), **options)
        if self.images is not None and self.images.due(self.global_step):
            self.images.write(self.global_step, batch, heatmaps, targets)
        return loss

    def _targets(self, batch: Sample) -> tuple[Tensor, Tensor]:
        """Target heatmaps (n, k, h, w), and the weights (n, k) of the keypoints."""
        targets, weights = self.metadata.codec.encode(
            batch.points, batch.visible, self.metadata.input_wh
        )
        weights = weights * self.keypoint_weights
        if self.recipe.data.trust:
            weights = weights * batch.trust[:, None]
        return targets, weights

    def _loss(self, heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        factors = weights.sqrt() if self.recipe.loss.weighting == "linear" else weights
        if self.recipe.loss.name == "ohkm":
            return ohkm(heatmaps, targets, factors, self.recipe.loss.top)
        loss = weighted_mse(heatmaps, targets, factors)
        if self.recipe.loss.peak:
            loss = loss + self.recipe.loss.peak * peak(heatmaps, targets, weights)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.predictions.clear()

    def validation_step(self, batch: Sample, _index: int) -> None:
        heatmaps = self(batch.image)
        if self.trainer.datamodule.evaluator.paired:  # type: ignore[attr-defined]
            loss = self._loss(heatmaps, *self._targets(batch))
            self.log("val/loss", loss, on_epoch=True, batch_size=len(heatmaps), sync_dist=True)
        if self.recipe.evaluation.flip_test:
            mirrored = self(torch.flip(batch.image, dims=[2]))
            heatmaps = self.metadata.codec.merge_flipped(heatmaps, mirrored, self.flip_permutation)
        points, scores = self.metadata.codec.decode(heatmaps)
        in_image = transform(points.cpu().numpy(), batch.to_image.cpu().numpy())
        confidence = self.metadata.keypoint_scores(scores.cpu().numpy(), clip=False)
        keypoints = np.concatenate([in_image, confidence[..., None]], axis=-1)
        persons = batch.person.cpu().numpy()[:, None]
        self.predictions.append(np.concatenate([persons, keypoints.reshape(len(persons), -1)], 1))

    def on_validation_epoch_end(self) -> None:
        data: PoseData = self.trainer.datamodule  # type: ignore[attr-defined]
        evaluator, instances = data.evaluator, data.instances
        most = math.ceil(len(instances) / self.trainer.world_size)
        rows = gather(self, np.concatenate(self.predictions), most)  # in the order of the instances
        keypoints = rows[:, 1:].reshape(len(rows), -1, 3)
        predictions = Predictions.of(self.metadata, instances, keypoints)
        # Python numbers would be rounded to 32 bits, unlike those of `hrpose evaluate`.
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        measured = evaluator.metrics(predictions)
        evaluator.check_value(measured)
        for name, value in measured.items():
            primary = name == evaluator.primary
            self.log(f"val/{name}", torch.tensor(value, dtype=exact), prog_bar=primary)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[Metadata.keys[0]] = self.metadata.to_json()


def weighted_mse(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Half the mean squared error, each keypoint's heatmap scaled by its weight first.

    `heatmaps` and `targets` (n, k, h, w), `weights` (n, k). As in the official code the weight is
    squared with the error, and an unlabeled keypoint (weight 0) still counts in the mean.
    """
    difference = (heatmaps - targets) * weights[..., None, None]
    return 0.5 * difference.square().mean()


def ohkm(heatmaps: Tensor, targets: Tensor, weights: Tensor, top: int = 8) -> Tensor:
    """Online hard keypoint mining: `weighted_mse` over the `top` worst keypoints of each person.

    Shapes as there; `top` is at most k. From Chen et al., "Cascaded Pyramid Network" (CVPR 2018);
    the official code has it for HRNet, the paper's results are without it.
    """
    difference = (heatmaps - targets) * weights[..., None, None]
    per_keypoint = 0.5 * difference.square().mean(dim=(-2, -1))
    return per_keypoint.topk(top, dim=-1).values.mean()


def peak(heatmaps: Tensor, targets: Tensor, weights: Tensor, sharpness: float = 10.0) -> Tensor:
    """Cross-entropy of each heatmap, as a distribution over its cells, and its target.

    Shapes as in `weighted_mse`. The distribution is the softmax of `sharpness` times the heatmap.
    The gradient of the squared error is small where a heatmap is flat; this one is greatest there,
    on keypoints that are not learned yet.
    """
    target = targets.flatten(2)
    log_share = (sharpness * heatmaps.flatten(2)).log_softmax(-1)
    share = target / target.sum(-1, keepdim=True).clamp_min(1e-6)
    return -((share * log_share).sum(-1) * weights).mean()


def accuracy(heatmaps: Tensor, targets: Tensor, threshold: float = 0.5) -> Tensor:
    """PCK on heatmaps: the share of peaks that are near the target's, averaged over keypoints.

    `heatmaps` and `targets` (n, k, h, w); returns a number in [0, 1]. Near means that the distance,
    with x in tenths of the width and y in tenths of the height, is below `threshold`. As in the
    official code, a keypoint counts where the target's peak is beyond the second column and row, a
    heatmap without a positive value has its peak at (0, 0), and keypoints that never count are left
    out of the mean. The official code divides x by the height and y by the width, by mistake, so
    the values differ a little for inputs that are not square.
    """
    height, width = heatmaps.shape[-2:]
    tenths = torch.tensor([width, height], device=heatmaps.device) / 10
    truth = _peaks(targets)
    near = ((_peaks(heatmaps) - truth) / tenths).norm(dim=-1) < threshold
    counts = (truth > 1).all(dim=-1)
    counted = counts.sum(dim=0)
    shares = (near & counts).sum(dim=0) / counted.clamp(min=1)
    mean: Tensor = shares.sum() / (counted > 0).sum().clamp(min=1)
    return mean


def _peaks(heatmaps: Tensor) -> Tensor:
    """(n, k, 2): the highest pixel (x, y) of each heatmap."""
    values, index = heatmaps.detach().flatten(-2).max(dim=-1)
    width = heatmaps.shape[-1]
    points = torch.stack([index % width, index // width], dim=-1)
    return points * (values > 0)[..., None]
