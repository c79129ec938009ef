"""Distillation: a network learns from the keypoints of a trained one, the teacher.

Before the training the teacher finds the keypoints of every person, labeled or not, in several
views (`hrpose.quality.pseudo_labels`). They are kept as points, scores and trust, not as heatmaps:
so any pose model can teach, of another input size, with other heatmaps or none (SimCC), and the
targets drawn at its points have the width that the learning network's codec has.

A network so trained is accepted only where it is better than without the teacher on the held-out
persons: the difference is measured on the same persons, with the interval of a paired bootstrap.
"""

import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hrpose import weights
from hrpose.codec import Codec
from hrpose.data.coco import read_annotations
from hrpose.data.dataset import Cutouts, Sample
from hrpose.data.packed import Cutout
from hrpose.data.persons import PersonTable, clipped_to_images
from hrpose.errors import UserError
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.compare import Difference, compare
from hrpose.evaluation.evaluate import Evaluator
from hrpose.evaluation.predictions import Instances, Predictions
from hrpose.geometry import Crop, transform, warp
from hrpose.io import replacing, write_atomically
from hrpose.metadata import Metadata
from hrpose.metrics.coco import write_results
from hrpose.models import onnx_pose
from hrpose.quality.pseudo_labels import VIEWS, consensus
from hrpose.session import open_session
from hrpose.skeleton import Skeleton
from hrpose.training import recipe as recipes
from hrpose.training.recipe_checks import Finding, Report
from hrpose.weights.registry import file_sha256

# Persons between two writes of the teacher's keypoints.
_SAVED = 256
# Crops of the comparison at once.
_BATCH = 32
# The distribution of a heatmap's center, as in `hrpose.training.module.peak`.
SHARPNESS = 10.0
# Of the distance, a part of the heatmap's size, beside squared errors of heatmaps.
COORDINATES = 0.05


def open_teacher(settings: recipes.Teacher) -> tuple[onnx_pose.PoseModel, Path]:
    """The teacher of a recipe, and its file. Raises UserError where it is no pose model."""
    path = weights.find(settings.weights)
    return onnx_pose.open_pose_model(path, settings.conventions.conventions()), path


def check_teacher(settings: recipes.Teacher, skeleton: Skeleton) -> None:
    """Raises UserError where the teacher of a recipe has none of the keypoints of `skeleton`, or
    it or the weights to compare with cannot be opened.
    """
    model, _ = open_teacher(settings)
    _shared(model.metadata, skeleton)
    if settings.compare_with is not None:
        open_session(weights.find(settings.compare_with))


def _shared(teacher: Metadata, skeleton: Skeleton) -> list[str]:
    """The names of the keypoints of `skeleton` that the teacher has too."""
    names = [name for name in skeleton.keypoints if name in teacher.skeleton.keypoints]
    if not names:
        raise UserError(
            f"teacher {teacher.title}: expected some of the data's keypoints "
            f"({', '.join(skeleton.keypoints)}), found {', '.join(teacher.skeleton.keypoints)}",
            code="keypoints-differ",
        )
    return names


def unlabeled_persons(path: Path, skeleton: Skeleton) -> PersonTable:
    """The persons of a COCO file that have a box and no labeled keypoint, with this skeleton.

    Where categories have no keypoints, they are those of the category `person`, or of the only one.
    Raises UserError where there are none.
    """
    parsed = read_annotations(path)
    instances = parsed.instances(crowds=False)
    columns = dict(instances.columns)
    chosen = ~columns["keypoints"][..., 2].any(axis=1)
    if not parsed.has_keypoints:
        names = {each.get("id"): each.get("name") for each in parsed.entries("categories")}
        if len(names) > 1:
            of = [names.get(entry.get("category_id")) for entry in instances.entries]
            chosen &= np.asarray([name == "person" for name in of], bool)
    images = parsed.image_columns
    index = columns["image_index"]
    boxes, valid = clipped_to_images(columns["boxes"], images["image_wh"][index])
    chosen &= valid
    if not chosen.any():
        raise UserError(
            f"{path}: expected persons with boxes and without labeled keypoints, found none",
            code="labels-missing",
        )
    n = int(chosen.sum())
    del columns["crowds"]
    columns["boxes"] = boxes
    columns = {name: column[chosen] for name, column in columns.items()}
    columns["keypoints"] = np.zeros((n, len(skeleton), 3), np.float32)
    everything: dict[str, Any] = {**images, **columns}
    return PersonTable(skeleton=skeleton, **everything)


def joined(first: PersonTable, second: PersonTable) -> PersonTable:
    """The persons of both tables, of one skeleton: those of `first`, then those of `second`."""
    parts: dict[str, Any] = {}
    for name in (
        *("image_ids", "file_names", "image_wh", "sources", "annotation_ids", "boxes"),
        *("keypoints", "areas", "trust", "box_scores"),
    ):
        parts[name] = np.concatenate([getattr(first, name), getattr(second, name)])
    index = np.concatenate([first.image_index, second.image_index + len(first.image_ids)])
    return replace(first, image_index=index.astype(np.int32), **parts)


@dataclass(frozen=True, slots=True)
class JoinedCutouts:
    """The images of `joined` persons, of which `first` has the first `count`."""

    first: Cutouts
    second: Cutouts
    count: int

    def read(self, person: int, crop: Crop | None = None) -> Cutout:
        """As that of the part which the person is in."""
        if person < self.count:
            return self.first.read(person, crop)
        return self.second.read(person - self.count, crop)

    def digest(self) -> str:
        return f"{self.first.digest()} {self.second.digest()}"


def keypoints_of(
    settings: recipes.Teacher,
    table: PersonTable,
    cutouts: Cutouts,
    out: Path,
    report: Report,
    first: bool = True,
) -> NDArray[np.float32]:
    """The teacher's keypoints of every person, (n, k, 4): x, y in image pixels, score and trust.

    Keypoints of the table's skeleton that the teacher does not have, by name, have no trust. They
    are written to `out` as they are found, and read from there where they are those of this teacher
    and these persons. The `first` of several processes finds them, the others wait for it.
    """
    model, path = open_teacher(settings)
    known, wanted = model.metadata.skeleton, table.skeleton
    shared = _shared(model.metadata, wanted)
    target, plan = out / "teacher.npy", out / "teacher.json"
    document = _plan(model.metadata, path, table, cutouts)
    shape = (len(table), len(wanted), 4)
    while not first and not (_is_plan(plan, document) and not np.isnan(_kept(target)).any()):
        time.sleep(1)
    if not (_is_plan(plan, document) and _kept(target).shape == shape):
        plan.unlink(missing_ok=True)
        # Written whole, not mapped: a full disk ends a process that writes to a mapped hole.
        with replacing(target) as file:
            np.save(file, np.full(shape, np.nan, np.float32))
        write_atomically(plan, json.dumps(document, indent=2) + "\n")
    found = np.lib.format.open_memmap(target, "r+" if first else "r")
    todo = np.flatnonzero(np.isnan(found).any(axis=(1, 2)))
    if len(todo):
        report(
            Finding(
                "note",
                f"teacher {model.metadata.title}: finds the keypoints of {len(todo):,} persons in "
                f"{len(VIEWS)} views each, kept in {target}",
            )
        )
    columns = [wanted.keypoints.index(name) for name in shared]
    theirs = [known.keypoints.index(name) for name in shared]
    for start in range(0, len(todo), _SAVED):
        for rows in np.array_split(todo[start : start + _SAVED], _SAVED // 4):
            if not len(rows):
                continue
            images = [cutouts.read(int(row)) for row in rows]

            def cut(at: int, crop: Crop, images: list[Cutout] = images) -> NDArray[np.uint8]:
                return warp(images[at].image, crop.inside(images[at].origin, images[at].shrunk))

            agreed = consensus(model, table.boxes[rows], cut)
            part = np.zeros((len(rows), len(wanted), 4), np.float32)
            own = np.concatenate(
                [agreed.points, agreed.scores[..., None], agreed.trust[..., None]], axis=-1
            )
            part[:, columns] = own[:, theirs]
            found[rows] = part
        found.flush()
    return np.array(found)


def _plan(metadata: Metadata, path: Path, table: PersonTable, cutouts: Cutouts) -> dict[str, Any]:
    """What decides the teacher's keypoints, and what of them is told in the metadata."""
    persons = hashlib.sha256("\n".join(table.skeleton.keypoints).encode())
    for name in ("file_names", "image_wh", "image_index", "boxes"):
        persons.update(np.ascontiguousarray(getattr(table, name)).tobytes())
    return {
        "teacher": metadata.title,
        "sha256": file_sha256(path),
        "reads": json.loads(metadata.to_json()),
        "views": [asdict(view) for view in VIEWS],
        "persons": persons.hexdigest(),
        "images": cutouts.digest(),
    }


def _is_plan(path: Path, document: dict[str, Any]) -> bool:
    try:
        found: bool = json.loads(path.read_text(encoding="utf-8")) == json.loads(
            json.dumps(document)
        )
    except (OSError, ValueError):
        return False
    return found


def _kept(path: Path) -> NDArray[np.float32]:
    """The keypoints in a file; one NaN where there are none, or the file was cut off."""
    try:
        kept: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return np.full(1, np.nan, np.float32)
    return kept


class TeacherTargets(nn.Module):
    """The teacher's keypoints on the device, and what they add to targets and loss."""

    found: Tensor

    def __init__(
        self, found: NDArray[np.float32], settings: recipes.Teacher, skeleton: Skeleton
    ) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("found", torch.from_numpy(found), persistent=False)
        order = torch.from_numpy(skeleton.flip_permutation)
        self.register_buffer("flip_permutation", order, persistent=False)

    def of(self, batch: Sample) -> tuple[Tensor, Tensor, Tensor]:
        """Points (n, k, 2) in pixels of the batch's crops, scores (n, k), and trust (n, k), 0 where
        it is below the recipe's.
        """
        found = self.found[batch.person]
        to_image = batch.to_image
        mirrored = torch.linalg.det(to_image[:, :, :2]) < 0
        flipped = found[:, self.flip_permutation]  # type: ignore[index]
        found = torch.where(mirrored[:, None, None], flipped, found)
        shifted = found[..., :2].to(to_image.dtype) - to_image[:, None, :, 2]
        points = torch.linalg.solve(to_image[:, :, :2], shifted.transpose(1, 2)).transpose(1, 2)
        scores, trust = found[..., 2].clamp(0, 1), found[..., 3]
        trust = torch.where(trust >= self.settings.min_trust, trust, torch.zeros_like(trust))
        return points.float(), scores, trust

    def blended(
        self,
        batch: Sample,
        codec: Codec,
        input_wh: tuple[int, int],
        targets: Tensor,
        weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Targets (n, k, h, w) and weights (n, k) of labels, with the teacher's in them."""
        points, scores, trust = self.of(batch)
        theirs, inside = codec.encode(points, trust, input_wh)
        theirs = theirs * scores[..., None, None]
        labeled = batch.visible > 0
        share = torch.where(labeled, self.settings.share * (inside > 0), inside)[..., None, None]
        alone = self.settings.weight * trust * inside
        return targets + share * (theirs - targets), torch.where(labeled, weights, alone)

    def distance(
        self, batch: Sample, codec: Codec, input_wh: tuple[int, int], heatmaps: Tensor
    ) -> Tensor:
        """The mean distance of the heatmaps' centers from the teacher's keypoints, weighted."""
        points, _, trust = self.of(batch)
        _, inside = codec.encode(points, trust, input_wh)
        size = (heatmaps.shape[-1], heatmaps.shape[-2])
        strides = torch.tensor(codec.strides(size), device=points.device)
        extent = torch.tensor(size, device=points.device)
        away = ((centers(heatmaps) - points / strides) / extent).abs().sum(-1)
        labeled = batch.visible > 0
        part = torch.where(labeled, self.settings.share, self.settings.weight)
        mean: Tensor = COORDINATES * (away * part * trust * inside).mean()
        return mean


def centers(heatmaps: Tensor) -> Tensor:
    """(n, k, 2): the mean pixel (x, y) of each heatmap (n, k, h, w), as a distribution over them.

    The distribution is the softmax of `SHARPNESS` times the heatmap (integral regression: Sun et
    al., ECCV 2018), so that the mean has a gradient everywhere.
    """
    height, width = heatmaps.shape[-2:]
    shares = (SHARPNESS * heatmaps.flatten(2)).softmax(-1).reshape(heatmaps.shape)
    x = torch.arange(width, dtype=shares.dtype, device=shares.device)
    y = torch.arange(height, dtype=shares.dtype, device=shares.device)
    return torch.stack([(shares.sum(-2) * x).sum(-1), (shares.sum(-1) * y).sum(-1)], dim=-1)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A network trained with a teacher, compared with one trained without, or with the weights that
    it began with, on the held-out persons.

    `metric` is the primary one, of which `difference` has both values and the interval, NaN where
    no bootstrap is defined for it. `against` names the weights; without any, nothing is compared.
    """

    metric: str
    against: str | None = None
    difference: Difference | None = None
    more_is_better: bool = True

    @property
    def accepted(self) -> bool:
        """Whether it is better, and if there is an interval, all of that."""
        if self.difference is None:
            return False
        sign = 1 if self.more_is_better else -1
        low = self.difference.low if self.more_is_better else self.difference.high
        gained = sign * self.difference.difference > 0
        return gained and not (math.isfinite(low) and sign * low <= 0)

    def __str__(self) -> str:
        if self.difference is None:
            return (
                "not accepted: there is nothing to compare with; train the same without the "
                "teacher, and name its weights: teacher.compare_with"
            )
        d = self.difference
        interval = f" (95 % from {d.low:+.4f} to {d.high:+.4f})" if math.isfinite(d.low) else ""
        return (
            f"{'accepted' if self.accepted else 'not accepted'}: {self.metric} on the held-out "
            f"persons is {d.b:.4f} with the teacher, {d.a:.4f} of {self.against}: "
            f"{d.difference:+.4f}{interval}"
        )


def judge(
    trained: Path,
    recipe: recipes.Recipe,
    evaluator: Evaluator,
    instances: Instances,
    cutouts: Cutouts,
    out: Path,
) -> Verdict:
    """Compare `trained` weights with those that the recipe says, or the initial ones.

    By the `evaluator` of the training, on its `instances`, whose images are `cutouts`. Results go
    to `out`. Without weights to compare with, or where these are for other keypoints, nothing is
    compared.
    """
    none = Verdict(evaluator.primary, more_is_better=evaluator.more_is_better)
    named = (recipe.teacher and recipe.teacher.compare_with) or recipe.weights
    if named is None:
        return none
    against = weights.find(named)
    try:
        sessions = {"without": open_session(against), "with": open_session(trained)}
    except UserError:  # initial weights of another program, which may be only a backbone
        return none
    if sessions["without"].metadata.skeleton.keypoints != evaluator.table.skeleton.keypoints:
        return none
    values, files = [], []
    for name, session in sessions.items():
        estimator = PoseEstimator(session, flip_test=recipe.evaluation.flip_test, batch_size=_BATCH)
        predictions = _predicted(estimator, instances, cutouts)
        results = evaluator.results(predictions)
        files.append(out / f"{name}-teacher.json")
        write_results(files[-1], results)
        values.append(evaluator.metrics(predictions, results)[evaluator.primary])
    low = high = ahead = math.nan
    if evaluator.metric == "AP":
        drawn = compare(files[0], files[1], evaluator.annotations).metrics["AP"]
        low, high, ahead = drawn.low, drawn.high, drawn.ahead
    difference = Difference(values[0], values[1], values[1] - values[0], low, high, ahead)
    return replace(none, against=against.name, difference=difference)


def _predicted(estimator: PoseEstimator, instances: Instances, cutouts: Cutouts) -> Predictions:
    metadata, keypoints = estimator.metadata, []
    for rows in np.array_split(np.arange(len(instances)), math.ceil(len(instances) / _BATCH)):
        crops = [metadata.crop(instances.boxes[row]) for row in rows]
        images = [cutouts.read(int(row), crop) for row, crop in zip(rows, crops, strict=True)]
        pixels = [
            warp(image.image, crop.inside(image.origin, image.shrunk))
            for image, crop in zip(images, crops, strict=True)
        ]
        points, peaks = estimator.keypoints(np.stack(pixels))
        in_image = transform(points, np.stack([crop.inverse_matrix for crop in crops]))
        scores = metadata.keypoint_scores(peaks, clip=False)
        keypoints.append(np.concatenate([in_image, scores[..., None]], axis=-1))
    return Predictions.of(metadata, instances, np.concatenate(keypoints))


def marked(metadata: Metadata, settings: recipes.Teacher, persons: tuple[int, int]) -> Metadata:
    """The metadata of weights that learn from a teacher.

    `persons` are the numbers of labeled and of unlabeled ones.
    """
    model, path = open_teacher(settings)
    teacher, (labeled, unlabeled) = model.metadata, persons
    of = f" of {settings.unlabeled.annotations.name}" if settings.unlabeled else ""
    return replace(
        metadata,
        training_data=f"{metadata.training_data}; distilled from {teacher.title} on {labeled:,} "
        f"labeled and {unlabeled:,} unlabeled persons{of}",
        license=f"{metadata.license}; that of the teacher {teacher.title}: {teacher.license}",
        distillation={
            "teacher": teacher.title,
            "sha256": file_sha256(path),
            "license": teacher.license,
            "training_data": teacher.training_data,
            "loss": settings.loss,
            "labeled": labeled,
            "unlabeled": unlabeled,
            "accepted": False,
        },
    )


def with_verdict(metadata: Metadata, verdict: Verdict) -> Metadata:
    """The metadata with what the comparison found."""
    found: dict[str, Any] = {"accepted": verdict.accepted}
    if verdict.difference is not None:
        d = verdict.difference
        numbers = {"without": d.a, "with": d.b, "low": d.low, "high": d.high}
        found["metric"], found["against"] = verdict.metric, verdict.against
        found |= {name: value for name, value in numbers.items() if math.isfinite(value)}
    return replace(metadata, distillation={**metadata.distillation, **found})
