"""The network in training: targets, loss, optimizer, and figures on the validation people."""

import math
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from hrpose.data.dataset import Sample
from hrpose.errors import UserError
from hrpose.evaluation.evaluate import Evaluator
from hrpose.evaluation.predictions import Predictions, ground_truth
from hrpose.geometry import transform
from hrpose.metadata import Metadata
from hrpose.models.batchnorm_folding import norms
from hrpose.models.hrnet import HRNet
from hrpose.training.base_module import NetworkModule
from hrpose.training.debug_images import DebugImages
from hrpose.training.distributed import gather
from hrpose.training.losses import ohkm, peak, weighted_mse
from hrpose.training.recipe import Recipe
from hrpose.training.trainer import MicroBatches


def accuracy(heatmaps: Tensor, targets: Tensor, threshold: float = 0.5) -> Tensor:
    """PCK on heatmaps: the share of keypoints whose peak is near the target's, the mean over
    keypoints.

    `heatmaps` and `targets` (n, k, h, w); returns a number in [0, 1]. Near means that the distance,
    with x in tenths of the width and y in tenths of the height, is below `threshold`. As in the
    official code a keypoint counts where the target's peak is beyond the second column and row, a
    heatmap without anything above 0 has its peak at (0, 0), and keypoints that count nowhere are
    left out of the mean. The official code divides x by the height and y by the width, by mistake;
    here each has its own, so figures differ a little for inputs that are not square.
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


def warp_batch(images: Tensor, matrices: Tensor, input_wh: tuple[int, int]) -> Tensor:
    """Cut n crops out of n images: uint8 (n, h, w, 3) to uint8 (n, input h, input w, 3).

    `matrices` (n, 2, 3) leads from input pixels to those of each image. Bilinear, black outside, as
    `warp`, which computes with 1/32 pixels on some processors and so differs: by less than one of
    255 in the mean, and more only where neighboring pixels differ much.
    """
    width, height = input_wh
    x = torch.arange(width, dtype=matrices.dtype, device=matrices.device)
    y = torch.arange(height, dtype=matrices.dtype, device=matrices.device)
    columns, rows = (
        matrices[:, None, None, :, 0] * x[:, None],
        matrices[:, None, None, :, 1] * y[:, None, None],
    )
    places = columns + rows + matrices[:, None, None, :, 2]
    # grid_sample counts from -1 at the center of the first pixel to 1 at that of the last.
    size = torch.tensor(
        [images.shape[2], images.shape[1]], dtype=matrices.dtype, device=matrices.device
    )
    grid = (places * 2 / (size - 1) - 1).float()
    planes = images.permute(0, 3, 1, 2).float()
    warped = grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return warped.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


class PoseModule(MicroBatches, NetworkModule):
    """Trains `network` by `recipe`; targets and normalization are made on the device.

    `images` shows batches on their way.
    """

    recipe: Recipe
    metadata: Metadata

    def __init__(
        self,
        network: HRNet,
        recipe: Recipe,
        metadata: Metadata,
        images: DebugImages | None = None,
    ) -> None:
        super().__init__(network, recipe, metadata)
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
                f"found {recipe.loss.top}"
            )
        if recipe.training.frozen_norms:
            for _, _, _, norm in norms(network):
                norm.requires_grad_(False)
        self.predictions: list[NDArray[np.float64]] = []

    def train(self, mode: bool = True) -> Self:
        """As any module's; frozen BatchNorms do not follow into training."""
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
        # A graph writes its results to the same place each time, and two views of a flip test, or
        # what is logged, must not change under whoever holds them.
        return heatmaps.clone() if graphs else heatmaps

    def cropped(self, batch: Sample) -> Sample:
        """The crops, where the workers left the warp to the device."""
        if batch.crop_to_source is None:
            return batch
        crops = warp_batch(batch.image, batch.crop_to_source, self.metadata.input_wh)
        return batch._replace(image=crops, crop_to_source=None)

    def training_step(self, batch: Sample, _index: int) -> Tensor:
        batch = self.cropped(batch)
        targets, weights = self.metadata.codec.encode(
            batch.points, batch.visible, self.metadata.input_wh
        )
        weights = weights * self.keypoint_weights
        if self.recipe.data.trust:
            weights = weights * batch.trust[:, None]
        heatmaps = self.in_parts(batch.image)
        loss = self._loss(heatmaps, targets, weights)
        size = len(targets)
        often: Any = {"on_step": True, "on_epoch": True, "batch_size": size, "sync_dist": True}
        self.log("train/loss", loss, prog_bar=True, **often)
        self.log("train/accuracy", accuracy(heatmaps, targets), **often)
        if self.images is not None and self.images.due(self.global_step):
            self.images.write(self.global_step, batch, heatmaps, targets)
        return loss

    def _loss(self, heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        if self.recipe.loss.name == "ohkm":
            return ohkm(heatmaps, targets, weights, self.recipe.loss.top)
        loss = weighted_mse(heatmaps, targets, weights)
        if self.recipe.loss.peak:
            loss = loss + self.recipe.loss.peak * peak(heatmaps, targets, weights)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.predictions.clear()

    def validation_step(self, batch: Sample, _index: int) -> None:
        heatmaps = self(batch.image)
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
        evaluator: Evaluator = self.trainer.datamodule.evaluator  # type: ignore[attr-defined]
        table = evaluator.table
        most = math.ceil(len(table) / self.trainer.world_size)
        rows = gather(self, np.concatenate(self.predictions), most)  # in the order of the table
        keypoints = rows[:, 1:].reshape(len(rows), -1, 3)
        predictions = Predictions.of(self.metadata, ground_truth(table), keypoints)
        # Numbers would be rounded to 32 bits, and not be those of `hrpose evaluate`.
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        for name, value in evaluator.metrics(predictions).items():
            shown = name == evaluator.primary
            self.log(f"val/{name}", torch.tensor(value, dtype=exact), prog_bar=shown)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[Metadata.keys[0]] = self.metadata.to_json()
