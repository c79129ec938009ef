"""Comparisons of models: their score with the published one, an export with its original."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hrpose.data.coco import load_persons
from hrpose.data.images import ImageFiles
from hrpose.errors import UserError
from hrpose.estimator import InputImage, PoseEstimator
from hrpose.evaluation.evaluate import evaluate
from hrpose.evaluation.parity.comparisons import Check
from hrpose.evaluation.predictions import GROUND_TRUTH, Progress
from hrpose.geometry import transform
from hrpose.synthetic import render_image

# Rounding moves a keypoint where two pixels of a heatmap are nearly equal, which may happen rarely.
_MOVED_PX, _MOVED_SHARE = 0.1, 1e-3
_COMPARED_PERSONS = 256


def primary_metric(
    estimator: PoseEstimator,
    annotations: Path,
    images: str,
    boxes: str = GROUND_TRUTH,
    progress: Progress | None = None,
) -> tuple[str, float]:
    """Name and value in [0, 1] of the primary metric: COCO's AP, MPII's mean PCKh, or PCK.

    Raises UserError where the data set has no labels.
    """
    report = evaluate(estimator, annotations, images, boxes, progress=progress)
    if report.primary is None:
        raise UserError(
            f"{annotations}: expected labels to compare with, found none", code="labels-missing"
        )
    if report.primary == "AP":
        return f"AP, boxes: {report.boxes}", report.value
    return report.primary, report.value / 100


def compare_models(
    name: str, found: PoseEstimator, origin: PoseEstimator, images: list[InputImage]
) -> Iterator[Check]:
    """Keypoints and scores of two forms of one model on the same persons.

    Raises UserError where the metadata differ in what they say of inputs and outputs.
    """
    ours, theirs = found.metadata, origin.metadata
    for part in ("network", "input_wh", "skeleton", "codec", "padding", "mean", "std"):
        a, b = getattr(ours, part), getattr(theirs, part)
        if a != b:
            raise UserError(
                f"{name}: expected another form of the same model, found {part} {a} instead of {b}",
                code="models-differ",
            )
    moved, scores = [], []
    pairs = zip(found.stream(images), origin.stream(images), strict=True)
    for (image, one), (_, other) in pairs:
        matrices = np.stack([ours.crop(box).matrix for box in image.boxes])
        a, b = (transform(poses.keypoints[..., :2], matrices) for poses in (one, other))
        moved.append(np.linalg.norm(a - b, axis=-1).ravel())
        scores.append(np.abs(one.keypoints[..., 2] - other.keypoints[..., 2]).ravel())
    distances = np.concatenate(moved)
    share = float((distances > _MOVED_PX).mean())
    yield Check(
        f"keypoints: moved by over {_MOVED_PX} input px", name, share, _MOVED_SHARE, "of all"
    )
    median = float(np.median(distances))
    yield Check("keypoints: median distance", name, median, 1e-3, "input px")
    yield Check("keypoints: scores", name, float(np.concatenate(scores).max()), 1e-3)


def persons_of(annotations: Path, images: str) -> list[InputImage]:
    """The images of the first few hundred persons of a data set, with their boxes.

    Raises UserError where there are none.
    """
    table = load_persons(annotations)
    if not len(table):
        raise UserError(
            f"{annotations}: expected persons with labeled keypoints, found none",
            code="labels-missing",
        )
    source = ImageFiles(images)
    rows = table.image_index[:_COMPARED_PERSONS]
    return [
        InputImage.of(
            source.read(table.file_names[row].decode()), table.boxes[: len(rows)][rows == row]
        )
        for row in np.unique(rows)
    ]


def synthetic_persons() -> list[InputImage]:
    """Images of synthetic persons, for use without a data set."""
    rng = np.random.default_rng(0)
    rendered = (render_image(rng) for _ in range(16))
    return [InputImage.of(each.image, each.boxes) for each in rendered]
