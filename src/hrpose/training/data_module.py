"""The Lightning data module of a pose recipe: persons to train on and to validate on."""

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
from torch.utils.data import DataLoader

from hrpose.data.augmentation import Augmentation
from hrpose.data.coco import CocoAnnotations, read_annotations
from hrpose.data.dataset import (
    Cutouts,
    EvaluationSampler,
    Images,
    PoseDataset,
    Sample,
    TrainingSampler,
    collate,
    open_cutouts,
    sampling_weights,
)
from hrpose.data.packed import Pack
from hrpose.data.persons import PersonTable
from hrpose.data.rules import note_lines
from hrpose.data.skeleton_file import complete_skeleton
from hrpose.detection.person_detector import open_detector
from hrpose.errors import UserError
from hrpose.evaluation.evaluate import Evaluator
from hrpose.evaluation.predictions import (
    DETECTOR,
    GROUND_TRUTH,
    Instances,
    detected,
    detections,
    ground_truth,
)
from hrpose.training.distributed import SINGLE, Processes
from hrpose.training.recipe import Data, DataSet, Recipe
from hrpose.training.teacher import JoinedCutouts, joined, unlabeled_persons

# Validation has no augmentation.
_NONE = Augmentation(scale=0, half_body_probability=0)
# Where Linux keeps what the workers of a loader pass on. Docker gives it 64 MB.
SHARED_MEMORY = Path("/dev/shm")
# The batches that a worker prefetches, and those that a step and its loop hold.
_AHEAD, _IN_USE = 2, 2
# After this time without a batch the workers are given up.
LOADER_TIMEOUT_SECONDS = 60


def shared_memory_bytes(
    recipe: Recipe, tables: Sequence[PersonTable], processes: Processes = SINGLE
) -> int:
    """The most shared memory that the workers need on this machine for batches of these tables, of
    the training and the validation; 0 without workers.
    """
    workers, (width, height) = recipe.training.workers, recipe.input_wh
    sizes = [
        min(size, len(table)) * _sample_bytes(table, width * height)
        for table, size in zip(
            tables,
            (processes.share(recipe.training.batch_size), recipe.evaluation.batch_size),
            strict=True,
        )
    ]
    if recipe.training.warp_on_device:
        # Padded to the largest image of the batch.
        largest = -(-tables[0].image_wh.max(axis=0).astype(np.int64) // 32) * 32
        sizes[0] = processes.share(recipe.training.batch_size) * _sample_bytes(
            tables[0], int(largest.prod())
        )
    batches = workers * _AHEAD + _IN_USE if workers else 0
    return processes.local * batches * max(sizes)


def _sample_bytes(table: PersonTable, pixels: int) -> int:
    """RGB pixels, two coordinates and a visibility of each keypoint, two matrices, two numbers."""
    return 3 * pixels + 12 * len(table.skeleton) + 2 * 48 + 12


def check_shared_memory(
    recipe: Recipe, tables: Sequence[PersonTable], processes: Processes = SINGLE
) -> None:
    """Raises UserError where the workers need more shared memory than is free.

    They would wait for it without end, and without a message.
    """
    need = shared_memory_bytes(recipe, tables, processes)
    if need == 0 or not SHARED_MEMORY.is_dir():
        return
    free = shutil.disk_usage(SHARED_MEMORY).free
    if need > free:
        raise UserError(
            f"{SHARED_MEMORY}: expected {math.ceil(need / 1e6):,} MB of shared memory for "
            f"{recipe.training.workers} workers, found {free // 1_000_000:,} MB; start the "
            f"container with --shm-size {math.ceil(2 * need / 1e9)}g or --ipc host, or set "
            "training.workers=0",
            code="shared-memory-small",
        )


class TrainingLoader(DataLoader[Sample]):
    """Starts the sampler when the first batch is requested.

    Lightning makes the first iterator before it has restored the checkpoint to resume from, and
    workers would start on the wrong epoch.
    """

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        yield from super().__iter__()


def _unlabeled(table: PersonTable, instances: Instances) -> PersonTable:
    """The images of the table with these instances as persons, none of whose keypoints is known."""
    count = len(instances)
    return replace(
        table,
        image_index=instances.image_index,
        annotation_ids=np.zeros(count, np.int64),
        boxes=instances.boxes,
        keypoints=np.zeros((count, len(table.skeleton), 3), np.float32),
        areas=instances.boxes[:, 2:].prod(axis=1),
        trust=np.ones(count, np.float32),
        box_scores=instances.box_scores.astype(np.float32),
    )


def read_part(data: Data, annotations: Path) -> CocoAnnotations:
    """Parse the annotations of a part of a recipe's data, of its categories."""
    return read_annotations(
        annotations, category=data.category, merge_categories=data.merge_categories
    )


class PoseData(L.LightningDataModule):
    """Reads both annotation files at once. Raises UserError for invalid data, before a training.

    `persons` are those of the training annotations, where they have been read.
    """

    def __init__(
        self,
        recipe: Recipe,
        root: Path,
        processes: Processes = SINGLE,
        persons: PersonTable | None = None,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.root = root
        self.processes = processes
        self.batch_size = processes.share(recipe.training.batch_size)
        train, val = (root / part.annotations for part in (recipe.data.train, recipe.data.val))
        if persons is None:
            persons = read_part(recipe.data, train).persons()
        self.train_table = self._check(train, persons)
        val_annotations = read_part(recipe.data, val)
        self.val_table = self._check(val, val_annotations.persons())
        augmentation = recipe.augmentation.augmentation()
        self.train_cutouts = self._cutouts(recipe.data.train, self.train_table, augmentation)
        self.labeled, self.unlabeled = len(self.train_table), 0
        self._add_unlabeled(augmentation)
        self.val_cutouts = self._cutouts(recipe.data.val, self.val_table, _NONE)
        if self.train_table.skeleton != self.val_table.skeleton:
            raise UserError(
                f"{recipe.data.val.annotations}: expected the keypoints of the training data "
                f"({', '.join(self.train_table.skeleton.keypoints)}), "
                f"found {', '.join(self.val_table.skeleton.keypoints)}",
                code="keypoints-differ",
            )
        paired = recipe.evaluation.boxes == GROUND_TRUTH
        self.evaluator = Evaluator.choose(
            val_annotations, self.val_table, recipe.evaluation.metric, paired
        )
        self.evaluator.rehearse()
        self.instances = self._instances()
        self.evaluated, self.evaluated_cutouts = self.val_table, self.val_cutouts
        if not paired:
            self.evaluated = _unlabeled(self.val_table, self.instances)
            images = self.root / recipe.data.val.images
            self.evaluated_cutouts = open_cutouts(images, self.evaluated, recipe.evaluation.boxes)
        check_shared_memory(recipe, (self.train_table, self.evaluated), processes)

    def _check(self, annotations: Path, table: PersonTable) -> PersonTable:
        if len(table) == 0:
            raise read_part(self.recipe.data, annotations).no_labels()
        if len(table) < self.processes.count:
            raise UserError(
                f"{annotations}: expected persons for {self.processes.count} processes, "
                f"found {len(table)}",
                code="labels-missing",
            )
        skeleton = self.recipe.data.skeleton
        if skeleton is None:
            return table
        return replace(table, skeleton=complete_skeleton(table.skeleton, self.root / skeleton))

    def _cutouts(self, part: DataSet, table: PersonTable, augmentation: Augmentation) -> Cutouts:
        images = self.root / part.images
        cutouts = open_cutouts(images, table, self.root / part.annotations)
        (width, height), padding = self.recipe.input_wh, self.recipe.data.padding
        if isinstance(cutouts, Pack) and (
            lacking := cutouts.lacks((width, height), padding, augmentation)
        ):
            raise UserError(
                f"{images}: expected a pack for crops of {width}x{height} at padding {padding:g} "
                f"with this augmentation, found one for {cutouts.settings}; pack again, or change "
                f"the recipe: {', '.join(lacking)}",
                code="pack-unsuitable",
            )
        return cutouts

    def _instances(self) -> Instances:
        """The boxes to validate on, by `evaluation.boxes`. Raises UserError where there are none,
        and where validation images are packed, which have no other boxes than the persons' own.
        """
        settings = self.recipe.evaluation
        if settings.boxes == GROUND_TRUTH:
            return ground_truth(self.val_table)
        if not isinstance(self.val_cutouts, Images):
            raise UserError(
                f"evaluation.boxes: expected images for {settings.boxes}, found a pack "
                f"({self.recipe.data.val.images}), which has what is in the persons' own boxes; "
                "set data.val.images to the images",
                code="pack-unsuitable",
            )
        threshold = settings.box_threshold
        if settings.boxes == DETECTOR:
            detector = open_detector(settings.detector, threshold or None, precision="fp32")
            found = detected(detector, self.val_table, self.val_cutouts.source)
        else:
            path = self.root / settings.boxes
            if not path.is_file():
                raise UserError(
                    f"evaluation.boxes: expected {GROUND_TRUTH}, {DETECTOR}, or a file of COCO "
                    f"detections, found '{settings.boxes}', and no file {path}",
                    code="boxes-invalid",
                )
            found = detections(path, self.val_table, threshold)
        if len(found) < self.processes.count:
            raise UserError(
                f"evaluation.boxes: expected boxes in the images of "
                f"{self.recipe.data.val.annotations}, found {len(found)} ({settings.boxes}); "
                "correct the file, or lower evaluation.box_threshold",
                code="boxes-invalid",
            )
        return found

    def _add_unlabeled(self, augmentation: Augmentation) -> None:
        """Add the persons that only the teacher labels, behind the labeled ones."""
        teacher = self.recipe.teacher
        if teacher is None or teacher.unlabeled is None:
            return
        part = teacher.unlabeled
        table = unlabeled_persons(self.root / part.annotations, self.train_table.skeleton)
        cutouts = self._cutouts(part, table, augmentation)
        self.unlabeled = len(table)
        self.train_table = joined(self.train_table, table)
        self.train_cutouts = JoinedCutouts(self.train_cutouts, cutouts, self.labeled)

    def parts(self) -> Iterator[tuple[str, PersonTable, str]]:
        """The name, the table and the hash of the images of both parts; and the boxes, where they
        are not those of the annotations.
        """
        yield "training", self.train_table, self.train_cutouts.digest()
        yield "validation", self.val_table, self.val_cutouts.digest()
        if not self.evaluator.paired:
            yield "validation boxes", self.evaluated, self.evaluated_cutouts.digest()

    def notes(self) -> Iterator[str]:
        """A line for each kind of entries that were repaired or left out in both files."""
        data = self.recipe.data
        for part, table in ((data.train, self.train_table), (data.val, self.val_table)):
            yield from note_lines(self.root / part.annotations, table.notes)
        if not self.evaluator.paired:
            yield (
                f"validating on {len(self.instances):,} boxes ({self.recipe.evaluation.boxes}), "
                f"where {len(self.val_table):,} persons are labeled; without a validation loss"
            )

    def train_dataset(self, warped: bool = True) -> PoseDataset:
        return PoseDataset(
            self.train_table,
            self.train_cutouts,
            self.recipe.input_wh,
            self.recipe.data.padding,
            self.recipe.augmentation.augmentation(),
            unit_lengths=self.recipe.codec.codec().unit_lengths,
            warped=warped,
        )

    def train_dataloader(self) -> DataLoader[Sample]:
        settings = self.recipe.training
        dataset = self.train_dataset(warped=not settings.warp_on_device)
        weights = sampling_weights(self.train_table, self.recipe.data.sampling)
        if self.recipe.teacher is not None:
            weights[self.labeled :] *= self.recipe.teacher.unlabeled_draws
        sampler = TrainingSampler(
            weights,
            settings.seed,
            settings.samples_per_epoch,
            self.processes.rank,
            self.processes.count,
        )
        return self._loader(dataset, sampler, self.batch_size, drop_last=settings.drop_last)

    def val_dataloader(self) -> DataLoader[Sample]:
        dataset = PoseDataset(
            self.evaluated,
            self.evaluated_cutouts,
            self.recipe.input_wh,
            self.recipe.data.padding,
            unit_lengths=self.recipe.codec.codec().unit_lengths,
        )
        sampler = EvaluationSampler(len(dataset), self.processes.rank, self.processes.count)
        return self._loader(dataset, sampler, self.recipe.evaluation.batch_size, drop_last=False)

    def _loader(
        self,
        dataset: PoseDataset,
        sampler: TrainingSampler | EvaluationSampler,
        batch_size: int,
        drop_last: bool,
    ) -> DataLoader[Sample]:
        workers = self.recipe.training.workers
        loader = TrainingLoader if isinstance(sampler, TrainingSampler) else DataLoader
        return loader(
            dataset,
            batch_size=min(batch_size, len(sampler)),
            sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            drop_last=drop_last,
            persistent_workers=workers > 0,
            timeout=LOADER_TIMEOUT_SECONDS if workers > 0 else 0,
        )
