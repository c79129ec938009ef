"""Training of a pose model: from a recipe and data to weights with metadata."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import torch
from torch import Tensor

from hrpose import weights
from hrpose.data.dataset import Draw, collate
from hrpose.data.persons import PersonTable
from hrpose.errors import UserError
from hrpose.metadata import Metadata
from hrpose.models import checkpoint, convert
from hrpose.models.batchnorm_folding import is_folded, unfold
from hrpose.models.convert import Weights
from hrpose.models.hrnet import HRNet, Normalize
from hrpose.skeleton import Skeleton
from hrpose.training.base_module import accelerated
from hrpose.training.checkpointing import last_checkpoint
from hrpose.training.data_module import PoseData
from hrpose.training.distributed import SINGLE, Processes, launched
from hrpose.training.module import DebugImages, PoseModule
from hrpose.training.recipe import Recipe, write_recipe
from hrpose.training.recipe_checks import Case, Finding, Report, examine, log
from hrpose.training.resume import record_of, resumed
from hrpose.training.trainer import check_loggers, fit

# Crops for the statistics of the BatchNorms of exported weights.
_UNFOLDING_CROPS = 128


def check(
    recipe: Recipe,
    data: Path,
    report: Report = log,
    processes: Processes = SINGLE,
    persons: PersonTable | None = None,
) -> tuple[PoseData, Weights | None]:
    """Check the data, the initial weights and the recipe of a training; nothing is written.

    `report` is called with each finding of the recipe checks, in the first process; `persons` are
    those of the training annotations, where they have been read. Returns the data and the weights.
    Raises UserError where the training cannot start.
    """
    check_loggers(recipe.training.loggers)
    start = read_start(recipe)
    datamodule = PoseData(recipe, data, processes, persons)
    for line in datamodule.notes() if processes.first else ():
        report(Finding("note", line))
    findings = examine(Case(recipe, datamodule.train_table, datamodule.val_table, start))
    errors = [finding for finding in findings if finding.level == "error"]
    for finding in findings:
        if processes.first and finding not in errors:
            report(finding)
    if errors:
        raise UserError("\n".join(finding.text for finding in errors), code="recipe-invalid")
    return datamodule, start


def train(
    recipe: Recipe,
    data: Path,
    out: Path,
    resume: bool = False,
    report: Report = log,
    persons: PersonTable | None = None,
    *,
    with_changes: bool = False,
) -> Path:
    """Train by `recipe` on the data below `data`; everything is written to `out`.

    A training that is not resumed starts with `check`; `report` and `persons` are its arguments.
    `out/recipe.yaml` is the recipe with its overrides, and what was changed when it was resumed.
    `out/checkpoints` has the last and the best checkpoint (by the primary metric of the
    evaluation), `out` the logs and, at the end, the best weights with their metadata, whose path is
    returned. `resume` continues from the last checkpoint, after the comparison of
    `hrpose.training.resume`; `with_changes` continues with other settings and data as well. Raises
    UserError for invalid data, and where `out` contains another training.

    Each of the processes of torchrun calls this; the first one writes and reports.
    """
    processes = launched()
    last = last_checkpoint(out, resume, processes.first)
    if last is not None:
        datamodule, start = PoseData(recipe, data, processes, persons), None
    else:
        datamodule, start = check(recipe, data, report, processes, persons)
    metadata = Metadata(
        name=recipe.name,
        network=recipe.network,
        input_wh=recipe.input_wh,
        skeleton=datamodule.train_table.skeleton,
        codec=recipe.codec.codec(),
        padding=recipe.data.padding,
        training_data=recipe.data.description,
        license=recipe.data.license,
    )
    record = record_of(recipe, datamodule.parts())
    notes = list(_notes(recipe, processes))
    if last is not None:
        record, changes = resumed(last, record, metadata, out, with_changes)
        metadata = replace(metadata, changes=record.recorded)
        notes += changes
    if processes.first:
        write_recipe(recipe, out / "recipe.yaml", record.comments)
        for line in notes:
            report(Finding("note", line))
    L.seed_everything(recipe.training.seed, verbose=False)
    network = build_network(recipe, metadata.skeleton, start)
    images = DebugImages(out / "images", metadata, recipe.training.debug_images_every)
    if start is not None and is_folded(network):
        unfold(network, _crops(datamodule, metadata))
    module = PoseModule(network, recipe, metadata, images if processes.first else None)
    module.record = record
    best = fit(
        module,
        datamodule,
        recipe.training,
        out,
        monitor=f"val/{datamodule.evaluator.primary}",
        mode="max" if datamodule.evaluator.more_is_better else "min",
        every_epochs=recipe.evaluation.every_epochs,
        resume_from=last,
        new_validation=record.new_validation,
        processes=processes,
        sync_batchnorm=recipe.training.sync_batchnorm,
    )
    path = out / f"{recipe.name}.safetensors"
    if processes.first:
        trained, _ = checkpoint.load(best)
        checkpoint.save(path, trained, metadata)
    return path


def _notes(recipe: Recipe, processes: Processes) -> Iterator[str]:
    """The learning rate, processes and devices of this start, where the recipe does not say."""
    optimizer, batch = recipe.optimizer, recipe.training.batch_size
    if optimizer.base_batch_size not in (None, batch):
        yield (
            f"the learning rate is {optimizer.rate(batch):.4g}: optimizer.lr {optimizer.lr:g} is "
            f"for a batch of {optimizer.base_batch_size}, scaled to {batch} by the "
            f"{'linear' if optimizer.scaling == 'linear' else 'square-root'} rule"
        )
    devices = torch.cuda.device_count()
    if processes.count > 1:
        yield processes.describe(batch)
    elif devices > 1:
        yield (
            f"training on one of {devices} GPUs; all of them: "
            f"torchrun --nproc-per-node {devices} -m hrpose train ..."
        )


def _crops(datamodule: PoseData, metadata: Metadata) -> Iterator[Tensor]:
    """Normalized crops of training persons, spread evenly, in batches of 16."""
    dataset = datamodule.train_dataset()
    seed = datamodule.recipe.training.seed
    persons = np.unique(np.linspace(0, len(dataset) - 1, _UNFOLDING_CROPS).astype(int))
    normalize = Normalize(metadata.mean, metadata.std)
    for batch in np.array_split(persons, max(1, len(persons) // 16)):
        yield normalize(collate([dataset[Draw(int(i), (seed, int(i)))] for i in batch]).image)


def read_start(recipe: Recipe) -> Weights | None:
    """The initial weights of a recipe, if any. Raises UserError where they do not fit it."""
    if recipe.weights is None:
        return None
    try:
        path = weights.find(recipe.weights)
    except UserError as error:
        raise UserError(
            f"weights: {error}; without any: --set weights=null", code=error.code
        ) from error
    start = convert.read(path)
    if start.network != recipe.network:
        raise UserError(
            f"{path}: expected weights of {recipe.network}, the recipe's network, found "
            f"{start.network}",
            code="weights-unsuitable",
        )
    return start


def build_network(recipe: Recipe, skeleton: Skeleton, start: Weights | None) -> HRNet:
    """The network of a recipe, with its initial weights if any."""
    if start is None:
        network = HRNet.from_name(recipe.network, len(skeleton))
    else:
        network = start.build(skeleton)
    return accelerated(network, recipe.training)
