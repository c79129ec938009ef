"""Training of a person detector: from a recipe and boxed images to weights with metadata."""

from dataclasses import replace
from pathlib import Path

import lightning as L
import torch

from hrpose import weights
from hrpose.errors import UserError
from hrpose.metadata import DetectorMetadata
from hrpose.models import checkpoint, convert
from hrpose.models.batchnorm_folding import is_folded, unfold
from hrpose.models.checkpoint import read_torch
from hrpose.models.hrnet import HRNet
from hrpose.training.base_module import accelerated
from hrpose.training.checkpointing import last_checkpoint
from hrpose.training.distributed import launched
from hrpose.training.person_detector.dataset import DetectorDataModule
from hrpose.training.person_detector.module import DetectorModule
from hrpose.training.recipe import DetectorRecipe, write_recipe
from hrpose.training.recipe_checks import Finding, Report, log
from hrpose.training.resume import record_of, resumed
from hrpose.training.trainer import fit

# The initial bias of the centers' logits, a probability of 0.1: most cells have no center ("Objects
# as Points", section 4).
CENTER_BIAS = -2.19


def build_network(name: str, start: Path | None = None) -> HRNet:
    """The network of a person detector by its name in the table, with the weights of `start`.

    The head is initialized from another person detector, but not from a pose model. Raises
    UserError where `start` is of another network.
    """
    channels = DetectorMetadata.channels
    network = HRNet.from_name(name, channels)
    torch.nn.init.constant_(network.get_parameter("final_layer.bias")[:1], CENTER_BIAS)
    if start is None:
        return network
    weights = convert.read(start)
    if weights.network != name:
        raise UserError(
            f"{start}: expected weights of {name}, found {weights.network}",
            code="weights-unsuitable",
        )
    has_head = weights.metadata is None and weights.num_keypoints == channels
    state = {k: v for k, v in weights.state.items() if has_head or not k.startswith(convert.HEAD)}
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
) -> Path:
    """Train by `recipe` on the data below `data`; everything is written to `out`.

    `out/recipe.yaml` is the recipe with its overrides. `out/checkpoints` has the last and the best
    checkpoint (by the AP of tall persons on the held-out images), `out` the logs and, at the end,
    the best weights, whose path is returned. Their metadata has the threshold of the best balance
    of recall and precision there. `resume` continues from the last checkpoint, after the comparison
    of `hrpose.training.resume`; `with_changes` continues with other settings and data as well.
    Raises UserError for invalid data, and where `out` contains another training.
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
    L.seed_everything(recipe.training.seed, verbose=False)
    start = None if recipe.weights is None else weights.find(recipe.weights)
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
    network: HRNet,
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
