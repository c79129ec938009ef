"""Training of a person detector: from a recipe and boxed images to weights with metadata.

`DetectorModule` has its losses, the AP on the held-out images, and the calibration of scores.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hrpose import weights
from hrpose.detection import person_detector
from hrpose.detection.person_detector import persons, read_maps
from hrpose.errors import UserError
from hrpose.geometry import Boxes
from hrpose.metadata import Confidence, DetectorMetadata
from hrpose.metrics.calibration import fit_confidence
from hrpose.metrics.coco import BoxScores, evaluate_boxes, matched
from hrpose.models import checkpoint, convert
from hrpose.models.build import Network, build
from hrpose.models.checkpoint import is_folded, read_torch, unfold
from hrpose.training.base_module import NetworkModule, accelerated, decided
from hrpose.training.checkpointing import last_checkpoint
from hrpose.training.distributed import launched
from hrpose.training.person_detector.dataset import DetectorDataModule, DetectorSample
from hrpose.training.recipe import DetectorRecipe, write_recipe
from hrpose.training.recipe_checks import Finding, Report, log
from hrpose.training.resume import record_of, resumed
from hrpose.training.trainer import fit

# The initial bias of the centers' logits, a probability of 0.1: most cells have no center ("Objects
# as Points", section 4).
CENTER_BIAS = -2.19


def build_network(name: str, start: Path | None = None) -> Network:
    """The network of a person detector by its name in the table, with the weights of `start`.

    The head is initialized from another person detector, but not from a pose model. Raises
    UserError where `start` is of another network.
    """
    channels = DetectorMetadata.channels
    network = build(name, channels)
    torch.nn.init.constant_(network.get_parameter("final_layer.bias")[:1], CENTER_BIAS)
    if start is None:
        return network
    weights = convert.read(start)
    if weights.network != name:
        raise UserError(
            f"{start}: expected weights of {name}, found {weights.network}; set network to "
            f"{weights.network}, or choose other weights",
            code="weights-unsuitable",
        )
    has_head = weights.metadata is None and weights.num_keypoints == channels
    tensors = weights.tensors().items()
    state = {k: v for k, v in tensors if has_head or not k.startswith(convert.HEAD)}
    network.load_state_dict({**network.state_dict(), **state})
    return network


def train(
    recipe: DetectorRecipe,
    data: Path,
    out: Path,
    resume: bool = False,
    report: Report = log,
    *,
    with_changes: bool = False,
    quiet: bool = False,
) -> Path:
    """Train by `recipe` on the data below `data`; everything is written to `out`.

    `out/recipe.yaml` is the recipe with its overrides. `out/checkpoints` has the last and the best
    checkpoint (by the AP of tall persons on the held-out images), `out` the logs and, at the end,
    the best weights, whose path is returned. Their metadata has the threshold of the best balance
    of recall and precision there. `resume` continues from the last checkpoint, after the comparison
    of `hrpose.training.resume`; `with_changes` continues with other settings and data as well.
    The progress is shown unless `quiet`. Raises UserError for invalid data, and where `out`
    contains another training.
    """
    if launched().count > 1:
        raise UserError(
            "train-detector: trains in one process; start it without torchrun",
            code="launch-invalid",
        )
    last = last_checkpoint(out, resume)
    datamodule = DetectorDataModule(recipe, data)
    metadata = DetectorMetadata(
        name=recipe.name,
        network=recipe.network,
        side=recipe.side,
        training_data=recipe.data.description,
        license=recipe.data.license,
    )
    record = record_of(recipe, datamodule.parts())
    if last is not None:
        record, changes = resumed(last, record, metadata, out, with_changes)
        metadata = replace(metadata, changes=record.recorded)
        for line in changes:
            report(Finding("note", line))
    write_recipe(recipe, out / "recipe.yaml", record.comments)
    recipe = recipe.model_copy(update={"training": decided(recipe.training, 0)})
    L.seed_everything(recipe.training.seed, verbose=False)
    start = None if recipe.weights is None else weights.find_start(recipe.weights)
    network = build_network(recipe.network, start)
    if start is not None and is_folded(network):
        unfold(network, datamodule.frames(metadata))
    module = DetectorModule(accelerated(network, recipe.training), recipe, metadata)
    module.record = record
    best = fit(
        module,
        datamodule,
        recipe.training,
        out,
        monitor="val/AP_tall",
        resume_from=last,
        new_validation=record.new_validation,
        report=lambda text: report(Finding("note", text)),
        quiet=quiet,
    )
    path = out / f"{recipe.name}.safetensors"
    return write_weights(best, recipe, datamodule, metadata, path)


def write_weights(
    best: Path,
    recipe: DetectorRecipe,
    datamodule: DetectorDataModule,
    metadata: DetectorMetadata,
    path: Path,
) -> Path:
    """Write the weights of a checkpoint to `path`, with metadata by the held-out images."""
    network = build_network(recipe.network)
    entries = read_torch(best)["state_dict"]
    prefix = "network."
    state = {k.removeprefix(prefix): v for k, v in entries.items() if k.startswith(prefix)}
    checkpoint.load_state(network, state, best)
    checkpoint.save(path, network, fit_metadata(network, recipe, datamodule, metadata))
    return path


def fit_metadata(
    network: Network,
    recipe: DetectorRecipe,
    datamodule: DetectorDataModule,
    metadata: DetectorMetadata,
) -> DetectorMetadata:
    """The metadata with confidence, threshold and scores by the held-out images."""
    module = DetectorModule(network.eval(), recipe, metadata)
    with torch.inference_mode():
        for batch in datamodule.val_dataloader():
            module.validation_step(batch, 0)
    module.fit_confidence()
    scores = module.tall()
    recall, precision = scores.at(scores.best_threshold)
    held_out = {"AP": scores.AP, "recall": recall, "precision": precision}
    return replace(
        module.metadata,
        threshold=scores.best_threshold,
        scores={f"held-out {name}": value for name, value in held_out.items()},
    )


# Brings both losses to about the same size.
BOX_WEIGHT = 3.0
# The height of tall persons, relative to the longer side: 96 pixels in an image of 640.
TALL = 0.15


class DetectorModule(NetworkModule):
    """Trains `network` by `recipe`; validates by the AP at IoU 0.5 on the held-out images."""

    recipe: DetectorRecipe
    metadata: DetectorMetadata

    def __init__(
        self, network: Network, recipe: DetectorRecipe, metadata: DetectorMetadata
    ) -> None:
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
