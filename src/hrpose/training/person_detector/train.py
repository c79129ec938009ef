"""`hrpose train-detector`: a recipe and boxed images in, checkpoints, logs and weights out."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hrpose import weights
from hrpose.data.coco import read_annotations
from hrpose.data.images import ImageFiles
from hrpose.data.persons import BoxTable
from hrpose.errors import UserError
from hrpose.metadata import DetectorMetadata
from hrpose.models import checkpoint, convert
from hrpose.models.batchnorm_folding import is_folded, unfold
from hrpose.models.checkpoint import read_torch
from hrpose.models.hrnet import HRNet, Normalize
from hrpose.training.base_module import made_fast
from hrpose.training.checkpointing import last_checkpoint
from hrpose.training.distributed import started
from hrpose.training.person_detector.dataset import (
    BoxedImages,
    DetectorDataset,
    DetectorSample,
    FrameDraw,
    FrameSampler,
)
from hrpose.training.person_detector.module import DetectorModule
from hrpose.training.person_detector.recipe import DetectorRecipe, PartlyBoxed
from hrpose.training.recipe import DataSet, write_recipe
from hrpose.training.trainer import fit

# Batches of frames that tell the BatchNorms of exported weights their statistics.
_UNFOLDING_BATCHES = 32


class DetectorDataModule(L.LightningDataModule):
    """The images that a recipe trains on and those held out, in one process: decoding happens
    once, and warping costs little beside the network.
    """

    def __init__(self, recipe: DetectorRecipe, root: Path) -> None:
        super().__init__()
        self.recipe = recipe
        part = recipe.data.train
        table, images = _read(part, root)
        train_table, held_out = table.held_out(recipe.data.held_out_every)
        if len(train_table) == 0:
            raise UserError(f"{root / part.annotations}: expected at least 2 images, found none")
        self.held_out = BoxedImages(held_out, images)
        self.train_parts = [BoxedImages(train_table, images, recipe.framing.framing())]
        if more := recipe.data.partly_boxed:
            self.train_parts = [
                replace(self.train_parts[0], share=1 - more.share),
                BoxedImages(*_partly(more, root), more.framing.framing(), False, more.share),
            ]

    def train_dataloader(self) -> DataLoader[DetectorSample]:
        settings = self.recipe.training
        parts = self.train_parts
        images = [len(part.table) for part in parts]
        samples = settings.samples_per_epoch or sum(images)
        shares = [part.share for part in parts]
        return DataLoader(
            DetectorDataset(parts, self.recipe.frame_wh),
            batch_size=min(settings.batch_size, samples),
            sampler=FrameSampler(images, samples, settings.seed, shares),
            drop_last=True,
        )

    def frames(self, metadata: DetectorMetadata) -> Iterator[Tensor]:
        """Frames to train on, as the network takes them in."""
        normalize = Normalize(metadata.mean, metadata.std)
        for batch in islice(self.train_dataloader(), _UNFOLDING_BATCHES):
            yield normalize(batch.image)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, NDArray[np.float64]]]:
        side = self.recipe.side
        whole = FullImages(DetectorDataset([self.held_out], (side, side)))
        return DataLoader(whole, batch_size=16, collate_fn=_together)


def _read(part: DataSet, root: Path) -> tuple[BoxTable, ImageFiles]:
    """The boxes and the images, all there. Raises UserError otherwise."""
    table = read_annotations(root / part.annotations).boxes()
    images = ImageFiles(root / part.images)
    missing = [name for name in table.file_names if name not in images]
    if missing:
        raise UserError(
            f"{root / part.annotations}: {len(missing)} of {len(table)} images are not in "
            f"{root / part.images}, such as {missing[0]}"
        )
    return table, images


def _partly(part: PartlyBoxed, root: Path) -> tuple[BoxTable, ImageFiles]:
    table, images = _read(part, root)
    try:
        chosen = table.without(part.without)
    except ValueError as error:
        raise UserError(f"data.partly_boxed.without: {error}") from error
    if len(chosen) == 0:
        raise UserError(f"{root / part.annotations}: expected images, found none")
    return chosen, images


class FullImages(Dataset[tuple[Tensor, NDArray[np.float64]]]):
    """Each image as a letterbox, uint8 (h, w, 3), with all its boxes (n, 4) in the input."""

    def __init__(self, dataset: DetectorDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, NDArray[np.float64]]:
        pixels, boxes = self.dataset.frame(FrameDraw(index))
        return torch.from_numpy(pixels), boxes


def _together(
    images: Sequence[tuple[Tensor, NDArray[np.float64]]],
) -> tuple[Tensor, list[NDArray[np.float64]]]:
    return torch.stack([pixels for pixels, _ in images]), [boxes for _, boxes in images]


# The bias with which a center's probability is 0.1 at first: most cells have none ("Objects as
# Points", section 4).
CENTER_BIAS = -2.19


def build_network(name: str, start: Path | None = None) -> HRNet:
    """A person detector's network by its name in the table, with the weights of `start`.

    The head is taken from another person detector only, not from a pose network. Raises UserError
    where `start` is of another network.
    """
    channels = DetectorMetadata.channels
    network = HRNet.from_name(name, channels)
    torch.nn.init.constant_(network.get_parameter("final_layer.bias")[:1], CENTER_BIAS)
    if start is None:
        return network
    weights = convert.read(start)
    if weights.network != name:
        raise UserError(
            f"{start}: expected weights of {name}, found {weights.network}", code="weights-unsuitable"
        )
    has_head = weights.metadata is None and weights.num_keypoints == channels
    state = {k: v for k, v in weights.state.items() if has_head or not k.startswith(convert.HEAD)}
    network.load_state_dict({**network.state_dict(), **state})
    return network


def train(recipe: DetectorRecipe, data: Path, out: Path, resume: bool = False) -> Path:
    """Train by `recipe` on the data below `data`; everything is written below `out`.

    `out/recipe.yaml` is the recipe as it was given, overrides included. `out/checkpoints` has the
    last and the best checkpoint (by AP of tall people on the images held out), `out` the logs
    and, at the end, the best weights, whose path is returned. Their metadata has the threshold with
    the best balance of recall and precision there. `resume` goes on from the last checkpoint.
    Raises UserError for bad data, and where `out` holds another training.
    """
    if started().count > 1:
        raise UserError("train-detector: trains in one process; start it without torchrun")
    last = last_checkpoint(out, resume)
    datamodule = DetectorDataModule(recipe, data)
    if last is None:
        write_recipe(recipe, out / "recipe.yaml")
    metadata = DetectorMetadata(
        name=recipe.name,
        network=recipe.network,
        side=recipe.side,
        training_data=recipe.data.description,
        license=recipe.data.license,
    )
    L.seed_everything(recipe.training.seed, verbose=False)
    start = None if recipe.weights is None else weights.find(recipe.weights)
    network = build_network(recipe.network, start)
    if start is not None and is_folded(network):
        unfold(network, datamodule.frames(metadata))
    module = DetectorModule(made_fast(network, recipe.training), recipe, metadata)
    best = fit(module, datamodule, recipe.training, out, monitor="val/AP_tall", resume_from=last)
    written = out / f"{recipe.name}.safetensors"
    return write_weights(best, recipe, datamodule, metadata, written)


def write_weights(
    best: Path,
    recipe: DetectorRecipe,
    datamodule: DetectorDataModule,
    metadata: DetectorMetadata,
    written: Path,
) -> Path:
    """The weights of a checkpoint, scored once more for the metadata."""
    network = build_network(recipe.network)
    entries = read_torch(best)["state_dict"]
    prefix = "network."
    state = {k.removeprefix(prefix): v for k, v in entries.items() if k.startswith(prefix)}
    checkpoint.load_state(network, state, best)
    checkpoint.save(written, network, examined(network, recipe, datamodule, metadata))
    return written


def examined(
    network: HRNet,
    recipe: DetectorRecipe,
    datamodule: DetectorDataModule,
    metadata: DetectorMetadata,
) -> DetectorMetadata:
    """The metadata with its confidence, threshold and figures, by the images held out."""
    module = DetectorModule(network.eval(), recipe, metadata)
    with torch.inference_mode():
        for batch in datamodule.val_dataloader():
            module.validation_step(batch, 0)
    module.fit_confidence()
    scores = module.tall()
    recall, precision = scores.at(scores.best_threshold)
    figures = {"held-out AP": scores.AP, "held-out recall": recall}
    figures["held-out precision"] = precision
    return replace(module.metadata, threshold=scores.best_threshold, scores=figures)
