"""Training of a pose model: from a recipe to weights; the recipe of a fine-tuning.

Fine-tuning fails by a high rate from the first step on, BatchNorm statistics of small batches, and
training past the best epoch. So the rate warms up and then decays, BatchNorm is frozen where there
are few persons, and the training stops when the validation no longer improves. All stages have one
rate: lower ones for earlier stages were measured to be worse.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrpose import weights
from hrpose.codec import Codec, sigma_for
from hrpose.data.coco import read_annotations
from hrpose.data.dataset import Draw, collate
from hrpose.data.images import ImageFiles
from hrpose.data.persons import PersonTable
from hrpose.data.skeleton_file import complete_skeleton
from hrpose.errors import UserError
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.calibrate import calibrated, measure
from hrpose.metadata import MAX_SIDE, Metadata, write_with_metadata
from hrpose.metrics.calibration import MIN_COVARIANCE_KEYPOINTS, MIN_COVARIANCE_PERSONS
from hrpose.models import checkpoint, convert
from hrpose.models.build import Network, build
from hrpose.models.checkpoint import is_folded, unfold
from hrpose.models.convert import Weights
from hrpose.models.hrnet import Normalize
from hrpose.session import open_session
from hrpose.skeleton import Skeleton
from hrpose.training.base_module import accelerated, decided
from hrpose.training.checkpointing import EpochWeights, last_checkpoint
from hrpose.training.data_module import PoseData, read_part
from hrpose.training.distributed import SINGLE, Processes, launched
from hrpose.training.module import DebugImages, PoseModule
from hrpose.training.recipe import (
    AugmentationPart,
    CodecPart,
    Data,
    DataSet,
    Evaluation,
    Optimizer,
    Recipe,
    Schedule,
    Training,
    write_recipe,
)
from hrpose.training.recipe_checks import Case, Finding, Report, examine, log
from hrpose.training.resume import record_of, resumed
from hrpose.training.teacher import (
    TeacherTargets,
    check_teacher,
    judge,
    keypoints_of,
    marked,
    with_verdict,
)
from hrpose.training.trainer import check_loggers, fit
from hrpose.yaml_file import checked

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
    if recipe.teacher is not None:
        check_teacher(recipe.teacher, datamodule.train_table.skeleton)
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
    quiet: bool = False,
) -> Path:
    """Train by `recipe` on the data below `data`; everything is written to `out`.

    A training that is not resumed starts with `check`; `report` and `persons` are its arguments.
    `out/recipe.yaml` is the recipe with its overrides, and what was changed when it was resumed;
    `out/epochs` has the weights of each epoch, where the recipe keeps them.
    `out/checkpoints` has the last and the best checkpoint (by the primary metric of the
    evaluation), `out` the logs and, at the end, the best weights with their metadata, whose path is
    returned. `resume` continues from the last checkpoint, after the comparison of
    `hrpose.training.resume`; `with_changes` continues with other settings and data as well. Raises
    UserError for invalid data, and where `out` contains another training. The progress is shown
    unless `quiet`.

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
    if recipe.teacher is not None:
        persons_by_kind = (datamodule.labeled, datamodule.unlabeled)
        metadata = marked(metadata, recipe.teacher, persons_by_kind)
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
    training = decided(recipe.training, len(datamodule.train_table))
    recipe = recipe.model_copy(update={"training": training})
    L.seed_everything(training.seed, verbose=False)
    network = build_network(recipe, metadata.skeleton, start)
    images = DebugImages(out / "images", metadata, recipe.training.debug_images_every)
    if start is not None and is_folded(network):
        unfold(network, _crops(datamodule, metadata))
    teacher = None
    if recipe.teacher is not None:
        table, cutouts = datamodule.train_table, datamodule.train_cutouts
        found = keypoints_of(recipe.teacher, table, cutouts, out, report, processes.first)
        teacher = TeacherTargets(found, recipe.teacher, table.skeleton)
    module = PoseModule(network, recipe, metadata, images if processes.first else None, teacher)
    module.record = record
    epochs = EpochWeights(out / "epochs") if training.keep_every_epoch else None
    if epochs is not None and processes.first:
        report(Finding("note", epochs.check_space(network, training.epochs)))
    best = fit(
        module,
        datamodule,
        training,
        out,
        monitor=f"val/{datamodule.evaluator.primary}",
        mode="max" if datamodule.evaluator.more_is_better else "min",
        every_epochs=recipe.evaluation.every_epochs,
        resume_from=last,
        new_validation=record.new_validation,
        each_epoch=epochs.keep if epochs is not None else None,
        processes=processes,
        sync_batchnorm=recipe.training.sync_batchnorm,
        report=lambda text: report(Finding("note", text)),
        quiet=quiet,
    )
    path = out / f"{recipe.name}.safetensors"
    if processes.first:
        trained, _ = checkpoint.load(best)
        checkpoint.save(path, trained, metadata)
        if recipe.teacher is not None:
            evaluated = (datamodule.evaluator, datamodule.instances, datamodule.evaluated_cutouts)
            verdict = judge(path, recipe, *evaluated, out / "comparison")
            checkpoint.save(path, trained, with_verdict(metadata, verdict))
            report(Finding("note" if verdict.accepted else "warning", f"distillation {verdict}"))
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
        path = weights.find_start(recipe.weights)
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


def build_network(recipe: Recipe, skeleton: Skeleton, start: Weights | None) -> Network:
    """The network of a recipe, with its initial weights if any."""
    network = build(recipe.network, len(skeleton)) if start is None else start.build(skeleton)
    return accelerated(network, recipe.training)


def finetune(
    train_file: Path,
    val_file: Path,
    out: Path | None = None,
    *,
    start: str | Path = "w16-small",
    images: Path | None = None,
    val_images: Path | None = None,
    skeleton: Path | None = None,
    category: str | None = None,
    merge_categories: bool = False,
    input_wh: tuple[int, int] | None = None,
    overrides: Iterable[str] = (),
    resume: bool = False,
    with_changes: bool = False,
    report: Report = log,
    quiet: bool = False,
) -> Path:
    """Fine-tune the weights `start` on the persons of `train_file`, by the recipe of `recipe_for`.

    The arguments are those of `hrpose.finetune` (its `input_size` is `input_wh`), and `report`,
    `resume`, `with_changes` and `quiet` those of `train`. Returns the path of the best weights.
    Raises UserError for annotations, weights or values that cannot be trained; nothing is written
    then.
    """
    if input_wh is not None and not all(0 < v <= MAX_SIDE and v % 32 == 0 for v in input_wh):
        raise UserError(
            f"input_size {input_wh}: expected (width, height) in multiples of 32 up to {MAX_SIDE}, "
            "such as (192, 256)",
            code="option-invalid",
        )
    found = convert.read(weights.find_start(start))
    annotations = read_annotations(train_file, category=category, merge_categories=merge_categories)
    persons = annotations.persons()
    if skeleton is not None:
        persons = replace(persons, skeleton=complete_skeleton(persons.skeleton, skeleton))
    license = "unknown" if found.metadata is None else found.metadata.license
    recipe = recipe_for(
        out.name if out else re.sub(r"[^\w-]+", "-", persons.skeleton.name),
        Path(start),
        found,
        Data(
            train=DataSet(annotations=train_file, images=images or train_file.parent / "images"),
            val=DataSet(annotations=val_file, images=val_images or val_file.parent / "images"),
            category=category,
            merge_categories=merge_categories,
            skeleton=skeleton,
            description=f"{len(persons)} persons of {train_file.name}, starting from {start}",
            license=f"unknown; that of {start}: {license}",
        ),
        persons,
        input_wh,
    )
    given = recipe.model_dump(mode="json", exclude_defaults=True)
    recipe = checked(given, overrides, Recipe, "the recipe")
    path = train(
        recipe,
        Path(),
        out or Path("runs") / recipe.name,
        resume or with_changes,
        report,
        persons if recipe.data.train.annotations == train_file else None,  # unless overridden
        with_changes=with_changes,
        quiet=quiet,
    )
    if launched().first:
        report(Finding("note", fit_covariance(path, recipe.data)))
    return path


def fit_covariance(path: Path, data: Data) -> str:
    """Fit the covariance of weights on the validation persons, if there are enough, in place.

    Returns what was done, in words.
    """
    persons = read_part(data, data.val.annotations).persons()
    labels = int((persons.keypoints[..., 2] > 0).sum())
    if labels < MIN_COVARIANCE_KEYPOINTS or len(persons) < MIN_COVARIANCE_PERSONS:
        return (
            f"no covariance of keypoints is fitted: it needs {MIN_COVARIANCE_KEYPOINTS} labels of "
            f"{MIN_COVARIANCE_PERSONS} persons who were not trained on, found {labels} of "
            f"{len(persons)}"
        )
    estimator = PoseEstimator(open_session(path))
    persons = replace(persons, skeleton=estimator.metadata.skeleton)
    measured = measure(estimator, persons, ImageFiles(data.val.images))
    metadata, reasons = calibrated(estimator.metadata, measured, ("covariance",))
    if reasons:
        return reasons[0]
    write_with_metadata(path, path.read_bytes(), metadata)
    return f"covariance of keypoints fitted on {labels:,} labels of {data.val.annotations.name}"


BATCH = 16
# Steps in all: more persons need more, but not in proportion.
MIN_STEPS, MAX_STEPS, STEPS_PER_PERSON = 600, 6000, 2
# With fewer persons, BatchNorm statistics are worse than those of the initial weights.
MIN_PERSONS_FOR_NORMS = 1000
EVALUATIONS = 20


def recipe_for(
    name: str,
    weights: Path,
    start: Weights,
    data: Data,
    persons: PersonTable,
    input_wh: tuple[int, int] | None = None,
) -> Recipe:
    """The recipe of a fine-tuning from `start`, the weights in the file or of the name `weights`.

    `persons` are those to train on. Input size and codec are those of the weights where known; the
    size is adapted to boxes of another shape.
    """
    known = start.metadata or Metadata(start.network, (192, 256), codec=Codec("dark"))
    size = input_wh or fitting_size(known.input_wh, persons.boxes)
    sigma = sigma_for(size) if input_wh else known.codec.sigma
    batch = min(BATCH, max(1, len(persons)))
    steps = min(max(MIN_STEPS, STEPS_PER_PERSON * len(persons)), MAX_STEPS)
    epoch_steps = steps // EVALUATIONS
    return Recipe(
        name=name,
        network=start.network,
        input_wh=size,
        weights=weights,
        data=data,
        codec=CodecPart.model_validate({"name": known.codec.name, "sigma": sigma}),
        augmentation=AugmentationPart(
            scale=0.25,
            rotation_deg=20,
            half_body_probability=0.1 if persons.skeleton.upper_body else 0,
            photometric=0.3,
        ),
        optimizer=Optimizer(name="adamw", lr=2e-3, weight_decay=0.01),
        schedule=Schedule(name="cosine", warmup_steps=max(1, steps // 20)),
        training=Training(
            epochs=EVALUATIONS,
            batch_size=batch,
            samples_per_epoch=epoch_steps * batch,
            workers=1,
            ema_decay=0.98,
            frozen_norms=len(persons) < MIN_PERSONS_FOR_NORMS,
            early_stopping=6,
        ),
        evaluation=Evaluation(flip_test=False),
    )


def fitting_size(usual: tuple[int, int], boxes: NDArray[np.float64]) -> tuple[int, int]:
    """An input size of about the usual number of pixels, for boxes (n, 4) of another shape.

    Unchanged where the median aspect ratio is within a factor of 1.5 of the input's.
    """
    sizes = boxes[(boxes[:, 2:] > 0).all(axis=1), 2:]
    if len(sizes) == 0:
        return usual
    aspect = float(np.clip(np.median(sizes[:, 0] / sizes[:, 1]), 0.4, 2.5))
    if abs(math.log(aspect * usual[1] / usual[0])) <= math.log(1.5):
        return usual
    root = math.sqrt(usual[0] * usual[1])
    sides = (root * math.sqrt(aspect), root / math.sqrt(aspect))
    width, height = (max(32, round(side / 32) * 32) for side in sides)
    return width, height
