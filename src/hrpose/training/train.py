"""`hrpose train`: a recipe and data in, checkpoints, logs and weights out."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning as L
import numpy as np
import torch
from torch import Tensor

from hrpose import weights
from hrpose.data.dataset import Draw, collate
from hrpose.errors import UserError
from hrpose.metadata import Metadata
from hrpose.models import checkpoint, convert
from hrpose.models.batchnorm_folding import is_folded, unfold
from hrpose.models.convert import Weights
from hrpose.models.hrnet import HRNet, Normalize
from hrpose.skeleton import Skeleton
from hrpose.training.base_module import made_fast
from hrpose.training.checkpointing import last_checkpoint
from hrpose.training.data_module import PoseData
from hrpose.training.debug_images import DebugImages
from hrpose.training.distributed import ALONE, Processes, started
from hrpose.training.module import PoseModule
from hrpose.training.recipe import Recipe, write_recipe
from hrpose.training.recipe_checks import Case, Finding, examine
from hrpose.training.trainer import check_loggers, fit

Say = Callable[[Finding], None]
# How many people tell the BatchNorms of exported weights their statistics.
_UNFOLDING_CROPS = 128


def log(finding: Finding) -> None:
    """Say a finding through the log of `hrpose`, which shows warnings unless told otherwise."""
    level = logging.INFO if finding.level == "note" else logging.WARNING
    logging.getLogger("hrpose").log(level, finding.text)


def _say_nothing(finding: Finding) -> None:
    pass


def check(
    recipe: Recipe, data: Path, say: Say = log, processes: Processes = ALONE
) -> tuple[PoseData, Weights | None]:
    """Everything that can be wrong before a training: the data, the weights, the recipe.

    `say` is told what the recipe checks finds. Raises UserError for what keeps a training from
    starting; writes nothing. Returns the data and the weights, read.
    """
    check_loggers(recipe.training.loggers)
    start = read_start(recipe)
    datamodule = PoseData(recipe, data, processes)
    say = say if processes.first else _say_nothing
    findings = examine(Case(recipe, datamodule.train_table, datamodule.val_table, start))
    errors = [finding for finding in findings if finding.level == "error"]
    for finding in findings:
        if finding not in errors:
            say(finding)
    if errors:
        raise UserError("\n".join(finding.text for finding in errors))
    return datamodule, start


def train(recipe: Recipe, data: Path, out: Path, resume: bool = False, say: Say = log) -> Path:
    """Train by `recipe` on the data below `data`; everything is written below `out`.

    First comes `check`, which tells `say` what it finds; a resumed training was checked before.
    `out/recipe.yaml` is the recipe as it was given, overrides included.
    `out/checkpoints` has the last and the best checkpoint (by the primary metric of the
    evaluation), `out` the logs and, at the end, the best weights with their metadata, whose path is
    returned. `resume` goes on from the last checkpoint in `out`. Raises UserError for bad data, and
    where `out` holds another training.

    Of several processes that torchrun started each calls this; the first writes and speaks.
    """
    processes = started()
    last = last_checkpoint(out, resume, processes.first)
    if last is not None:
        datamodule, start = PoseData(recipe, data, processes), None
    else:
        datamodule, start = check(recipe, data, say, processes)
        if processes.first:
            write_recipe(recipe, out / "recipe.yaml")
    if processes.first:
        for line in _course(recipe, processes):
            say(Finding("note", line))
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
    L.seed_everything(recipe.training.seed, verbose=False)
    network = build_network(recipe, metadata.skeleton, start)
    images = DebugImages(out / "images", metadata, recipe.training.debug_images_every)
    if start is not None and is_folded(network):
        unfold(network, _crops(datamodule, metadata))
    module = PoseModule(network, recipe, metadata, images if processes.first else None)
    best = fit(
        module,
        datamodule,
        recipe.training,
        out,
        monitor=f"val/{datamodule.evaluator.primary}",
        mode="max" if datamodule.evaluator.more_is_better else "min",
        every_epochs=recipe.evaluation.every_epochs,
        resume_from=last,
        processes=processes,
        sync_batchnorm=recipe.training.sync_batchnorm,
    )
    written = out / f"{recipe.name}.safetensors"
    if processes.first:
        trained, _ = checkpoint.load(best)
        checkpoint.save(written, trained, metadata)
    return written


def _course(recipe: Recipe, processes: Processes) -> Iterator[str]:
    """How this start trains, where the recipe alone does not say."""
    optimizer, batch = recipe.optimizer, recipe.training.batch_size
    if optimizer.base_batch_size not in (None, batch):
        yield (
            f"the learning rate is {optimizer.rate(batch):.4g}: optimizer.lr {optimizer.lr:g} is "
            f"for {optimizer.base_batch_size} people a step, and {batch} have it scaled by the "
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
    """Crops of training people, spread evenly, as the network takes them in: batches of 16."""
    dataset = datamodule.train_dataset()
    seed = datamodule.recipe.training.seed
    persons = np.unique(np.linspace(0, len(dataset) - 1, _UNFOLDING_CROPS).astype(int))
    normalize = Normalize(metadata.mean, metadata.std)
    for some in np.array_split(persons, max(1, len(persons) // 16)):
        yield normalize(collate([dataset[Draw(int(i), (seed, int(i)))] for i in some]).image)


def read_start(recipe: Recipe) -> Weights | None:
    """The weights that the recipe starts from. Raises UserError where they cannot be it."""
    if recipe.weights is None:
        return None
    try:
        path = weights.find(recipe.weights)
    except UserError as error:
        raise UserError(f"weights: {error}; without any: --set weights=null") from error
    start = convert.read(path)
    if start.network != recipe.network:
        raise UserError(
            f"{path}: does not fit the network {recipe.network} of the recipe, it is a "
            f"{start.network}"
        )
    return start


def build_network(recipe: Recipe, skeleton: Skeleton, start: Weights | None) -> HRNet:
    """The recipe's network, fresh or with the weights it starts from."""
    if start is None:
        network = HRNet.from_name(recipe.network, len(skeleton))
    else:
        network = start.build(skeleton)
    return made_fast(network, recipe.training)
