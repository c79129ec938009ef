"""The network in training: targets, loss, optimiser, and AP on the validation people."""

import math
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrpose.data.dataset import Sample
from hrpose.data.persons import PersonTable
from hrpose.errors import UserError
from hrpose.geometry import transform
from hrpose.metrics.coco import KeypointScores, evaluate_keypoints, select_results
from hrpose.network.hrnet import HRNet
from hrpose.network.preprocess import Normalise
from hrpose.passport import METADATA_KEY, Passport
from hrpose.training.loss import ohkm, weighted_mse
from hrpose.training.recipe import Recipe


class PoseModule(L.LightningModule):
    """Trains `network` by `recipe`; targets and normalisation are made on the device."""

    def __init__(self, network: HRNet, recipe: Recipe, passport: Passport) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.passport = passport
        self.normalise = Normalise(passport.mean, passport.std)
        weights = torch.tensor(passport.skeleton.weights)
        if not recipe.loss.keypoint_weights:
            weights = torch.ones_like(weights)
        self.register_buffer("keypoint_weights", weights, persistent=False)
        self.flip_permutation = passport.skeleton.flip_permutation.tolist()
        if recipe.loss.name == "ohkm" and recipe.loss.top > len(passport.skeleton):
            raise UserError(
                f"loss.top: expected at most the skeleton's {len(passport.skeleton)} keypoints, "
                f"found {recipe.loss.top}"
            )
        self.predictions: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []

    def forward(self, images: Tensor) -> Tensor:
        """uint8 crops (n, h, w, 3) to heatmaps (n, k, h/4, w/4)."""
        inputs = self.normalise(images)
        if self.recipe.training.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        heatmaps: Tensor = self.network(inputs)
        return heatmaps.float()

    def training_step(self, batch: Sample, _index: int) -> Tensor:
        targets, weights = self.passport.codec.encode(
            batch.points, batch.visible, self.passport.input_wh
        )
        weights = weights * self.keypoint_weights
        if self.recipe.data.trust:
            weights = weights * batch.trust[:, None]
        loss = self._loss(self(batch.image), targets, weights)
        self.log(
            "train/loss", loss, prog_bar=True, on_step=True, on_epoch=True, batch_size=len(targets)
        )
        return loss

    def _loss(self, heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        if self.recipe.loss.name == "ohkm":
            return ohkm(heatmaps, targets, weights, self.recipe.loss.top)
        return weighted_mse(heatmaps, targets, weights)

    def on_validation_epoch_start(self) -> None:
        self.predictions.clear()

    def validation_step(self, batch: Sample, _index: int) -> None:
        heatmaps = self(batch.image)
        if self.recipe.evaluation.flip_test:
            mirrored = self(torch.flip(batch.image, dims=[2]))
            heatmaps = self.passport.codec.merge_flipped(heatmaps, mirrored, self.flip_permutation)
        points, scores = self.passport.codec.decode(heatmaps)
        in_image = transform(points.cpu().numpy(), batch.to_image.cpu().numpy())
        keypoints = np.concatenate([in_image, scores.cpu().numpy()[..., None]], axis=-1)
        self.predictions.append((batch.person.cpu().numpy(), keypoints))

    def on_validation_epoch_end(self) -> None:
        scores = self._score()
        self.log("val/AP", scores.AP, prog_bar=True)
        for name, value in scores.as_dict().items():
            if name != "AP":
                self.log(f"val/{name}", value)

    def _score(self) -> KeypointScores:
        """As `hrpose evaluate` does with ground-truth boxes."""
        people = np.concatenate([people for people, _ in self.predictions])
        keypoints = np.concatenate([keypoints for _, keypoints in self.predictions])
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        table: PersonTable = data.val_table
        results = select_results(
            table.image_ids[table.image_index[people]],
            keypoints,
            table.box_scores[people],
            [self.passport.crop(box).area for box in table.boxes[people]],
            sigmas=table.skeleton.sigmas,
            category_id=table.category_id,
        )
        return evaluate_keypoints(data.val_annotations, results, table.skeleton.sigmas)

    def configure_optimizers(self) -> Any:
        settings = self.recipe.optimizer
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.name]
        optimizer = kind(
            self.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _rate(self, step: int) -> float:
        """The factor on the learning rate at a step."""
        schedule, epochs = self.recipe.schedule, self.recipe.training.epochs
        steps = int(self.trainer.estimated_stepping_batches)
        warmup = min(1.0, (step + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
        if schedule.name == "cosine":
            return warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
        epoch = step * epochs / steps
        return warmup * float(schedule.gamma ** sum(epoch >= m for m in schedule.milestones))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[METADATA_KEY] = self.passport.to_json()
