"""Predictions on a data set, in ground-truth, detected or perturbed boxes; how good detected boxes
are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.data.coco import CocoAnnotations, read_annotations, read_results
from hrpose.data.images import ImageFiles, check_size
from hrpose.data.persons import PersonTable, group_by_image
from hrpose.data.rules import shown
from hrpose.detection.person_detector import AnyDetector, open_detector
from hrpose.errors import UserError
from hrpose.estimator import MAX_PERSONS as MAX_DETECTED
from hrpose.estimator import Detector, InputImage, PoseEstimator
from hrpose.geometry import iou_of_pairs
from hrpose.io import prefetch
from hrpose.metadata import Metadata
from hrpose.metrics.coco import (
    MAX_DETECTIONS,
    BoxScores,
    evaluate_boxes,
    evaluate_keypoints,
    select_results,
)
from hrpose.poses import Poses
from hrpose.skeleton import Skeleton

GROUND_TRUTH = "ground-truth"
DETECTOR = "detector"

# Called with the number of finished images and the number of all.
Progress = Callable[[int, int], None]


def check_boxes(boxes: str | Path, detector: object, box_threshold: float | None) -> None:
    """Raises UserError where a detector other than "auto" or a threshold would have no effect with
    these `boxes`, and where the threshold is not in [0, 1].
    """
    if str(boxes) != DETECTOR and detector != "auto":
        raise UserError(
            f"--detector: expected --boxes {DETECTOR}, found {boxes}; leave it out",
            code="option-conflict",
        )
    if box_threshold is None:
        return
    if str(boxes) == GROUND_TRUTH:
        raise UserError(
            f"--box-threshold: expected --boxes {DETECTOR} or a file, found {boxes}; leave it out",
            code="option-conflict",
        )
    if not 0 <= box_threshold <= 1:
        raise UserError(
            f"--box-threshold: expected 0 to 1, found {box_threshold}", code="option-invalid"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """n instances: `image_index` (n,) the row of their image in the table, `boxes` (n, 4)
    [x, y, w, h] in pixels and `box_scores` (n,) in [0, 1].
    """

    image_index: NDArray[np.int32]
    boxes: NDArray[np.float64]
    box_scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.boxes)

    def by_image(self) -> dict[int, NDArray[np.intp]]:
        """The instances of every image that has any, by its row, in the table's order."""
        return group_by_image(self.image_index)


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """The keypoints of n `instances`, in image pixels.

    `keypoints` (n, k, 3) float32: x, y and score. Scores are calibrated where the weights have a
    calibration; else they are the peaks of the heatmaps, which may be above 1: as in the official
    code they are not clipped before poses are rescored. `crop_areas` (n,): the area of each
    crop in square image pixels, which is the area in OKS-NMS.
    """

    instances: Instances
    keypoints: NDArray[np.float32]
    crop_areas: NDArray[np.float64]

    @classmethod
    def of(cls, metadata: Metadata, instances: Instances, keypoints: ArrayLike) -> "Predictions":
        """`keypoints` (n, k, 3) of weights with this `metadata`, of any floating type.

        Raises ValueError where there is not one row for each instance.
        """
        points = np.asarray(keypoints, np.float32)
        if len(points) != len(instances):
            raise ValueError(
                f"predictions: expected {len(instances)} rows of keypoints, found {len(points)}"
            )
        areas = [metadata.crop(box).area for box in instances.boxes]
        return cls(instances, points, np.asarray(areas, np.float64))

    def __len__(self) -> int:
        return len(self.keypoints)


def ground_truth(table: PersonTable) -> Instances:
    """The persons of the table, in its order."""
    return Instances(table.image_index, table.boxes, table.box_scores.astype(np.float64))


def detections(path: Path, table: PersonTable, threshold: float = 0.0) -> Instances:
    """The boxes of a COCO detections file with a score of at least `threshold`.

    Boxes of other categories and empty boxes are left out, as in the official code. Raises
    UserError, naming the entry, where the file is of another form.
    """
    rows = {int(image_id): row for row, image_id in enumerate(table.image_ids)}
    results = read_results(path).detections(rows)
    boxes, scores = results.columns["boxes"], results.columns["scores"]
    categories = [entry.get("category_id", table.category_id) for entry in results.entries]
    chosen = np.asarray([each == table.category_id for each in categories], bool)
    if len(chosen) and not chosen.any():
        ids = ", ".join(sorted({shown(each) for each in categories})[:5])
        raise UserError(
            f"{path}: expected boxes of the category {table.category_id} of the annotations, found "
            f"category_id {ids} only; correct the one or the other",
            code="boxes-invalid",
        )
    chosen &= (scores >= threshold) & (boxes[:, 2:] > 0).all(axis=1)
    return Instances(results.columns["image_index"][chosen], boxes[chosen], scores[chosen])


def detected(
    detector: Detector, table: PersonTable, source: ImageFiles, progress: Progress | None = None
) -> Instances:
    """What the detector finds in the images of the table, of each at most the best 100.

    Raises UserError, naming the image, where one cannot be read.
    """
    index, boxes, scores = [np.zeros(0, np.int32)], [np.zeros((0, 4))], [np.zeros(0)]
    for row, name in enumerate(table.file_names):
        pixels = source.read(name.decode())
        check_size(pixels, table.image_wh[row], name.decode())
        found = detector(pixels).best(MAX_DETECTED)
        index.append(np.full(len(found), row, np.int32))
        boxes.append(found.xywh)
        scores.append(found.scores)
        if progress is not None:
            progress(row + 1, len(table.file_names))
    return Instances(np.concatenate(index), np.concatenate(boxes), np.concatenate(scores))


def instances_of(
    estimator: PoseEstimator, table: PersonTable, boxes: str | Path, threshold: float
) -> tuple[Instances | None, str]:
    """The instances to predict, and the source of their boxes in words.

    `boxes` is "ground-truth", "detector" (then None: the estimator's own detects them) or a COCO
    detections file.
    """
    if str(boxes) == GROUND_TRUTH:
        return ground_truth(table), GROUND_TRUTH
    if str(boxes) == DETECTOR:
        return None, f"detector: {estimator.detector.name}"
    least = f", scored {threshold:g} or more" if threshold > 0 else ""
    return detections(Path(boxes), table, threshold), f"detections: {boxes}{least}"


def predict(
    estimator: PoseEstimator,
    table: PersonTable,
    instances: Instances | None,
    source: ImageFiles,
    progress: Progress | None = None,
) -> Predictions:
    """The keypoints of `instances`, in their order; without them, of all persons that the
    estimator's detector finds in the images of the table, image by image.

    Raises UserError, naming the image, where one cannot be read.
    """
    groups: Sequence[tuple[int, Any]] = (
        [(row, None) for row in range(len(table.image_ids))]
        if instances is None
        else list(instances.by_image().items())
    )

    def read(group: tuple[int, Any]) -> InputImage:
        row, members = group
        name = table.file_names[row].decode()
        pixels = source.read(name)
        check_size(pixels, table.image_wh[row], name)
        if instances is None:
            return _detected(estimator, pixels, name)
        return InputImage(pixels, instances.boxes[members], instances.box_scores[members])

    index, scores = [np.zeros(0, np.int32)], [np.zeros(0)]
    boxes, keypoints = [np.zeros((0, 4))], [np.zeros((0, len(table.skeleton), 3), np.float32)]
    images = prefetch(read, groups)
    found = estimator.stream(images, clip_scores=False, select=False)
    for done, ((row, _), (image, poses)) in enumerate(zip(groups, found, strict=True), start=1):
        index.append(np.full(len(poses), row, np.int32))
        scores.append(image.box_scores)
        boxes.append(poses.boxes.astype(np.float64))
        keypoints.append(poses.keypoints)
        if progress is not None:
            progress(done, len(groups))
    order = (
        np.arange(sum(map(len, boxes)))
        if instances is None
        else np.argsort(np.concatenate([np.zeros(0, np.int64), *(m for _, m in groups)]))
    )
    if instances is None or estimator.refine:
        # Detected here, or refined by the keypoints of the first pass.
        instances = Instances(
            np.concatenate(index)[order],
            np.concatenate(boxes)[order],
            np.concatenate(scores)[order],
        )
    return Predictions.of(estimator.metadata, instances, np.concatenate(keypoints)[order])


def _detected(estimator: PoseEstimator, pixels: NDArray[np.uint8], name: str) -> InputImage:
    try:
        return estimator.image(pixels)
    except UserError as error:
        raise UserError(f"{name}: {error}", code=error.code) from error


def ranked_results(
    table: PersonTable,
    predictions: Predictions,
    nms: str = "hard",
    max_detections: int = MAX_DETECTIONS,
) -> list[dict[str, Any]]:
    """COCO results, rescored and after "hard" or "soft" OKS-NMS at 0.9."""
    if len(predictions) == 0:
        return []
    return select_results(
        table.image_ids[predictions.instances.image_index],
        predictions.keypoints,
        predictions.instances.box_scores,
        predictions.crop_areas,
        sigmas=table.skeleton.sigmas,
        soft=nms == "soft",
        category_id=table.category_id,
        max_detections=max_detections,
    )


# Between the images of PoseTrack18's clips.
_SECONDS = 1 / 25


def with_tracks(
    annotations: CocoAnnotations, results: list[dict[str, Any]], skeleton: Skeleton
) -> list[dict[str, Any]]:
    """Results with the `track_id` that `hrpose.video.Tracker` gives poses, clip by clip.

    Images of one `vid_id` are a clip, in their order. A pose that is no person's has an id of its
    own.
    """
    from hrpose.video import Tracker  # needs SciPy

    of_image: dict[int, list[int]] = {}
    for row, result in enumerate(results):
        of_image.setdefault(result["image_id"], []).append(row)
    clips: dict[Any, list[int]] = {}
    ids = annotations.image_columns["image_ids"].tolist()
    for image_id, image in zip(ids, annotations.images, strict=True):
        clips.setdefault(image.get("vid_id"), []).append(image_id)
    tracks: dict[int, int] = {}
    for images in clips.values():
        tracker, numbers = Tracker(), dict[int, int]()
        for at, image_id in enumerate(images):
            rows = of_image.get(image_id, [])
            found = _poses([results[row] for row in rows], skeleton)
            numbers |= dict(zip(rows, tracker.update(found, at * _SECONDS).tolist(), strict=True))
        persons = {row: tracker.id_of(number) for row, number in numbers.items() if number}
        last = max([0, *(each or 0 for each in persons.values())])
        tracks |= {row: persons.get(row) or last + 1 + at for at, row in enumerate(numbers)}
    return [{**result, "track_id": tracks[row]} for row, result in enumerate(results)]


def _poses(results: list[dict[str, Any]], skeleton: Skeleton) -> Poses:
    keypoints = np.array([result["keypoints"] for result in results], np.float32)
    keypoints = keypoints.reshape(len(results), len(skeleton), 3)
    keypoints[..., 2] = keypoints[..., 2].clip(0, 1)
    start = keypoints[..., :2].min(axis=1)
    boxes = np.concatenate([start, keypoints[..., :2].max(axis=1) - start], axis=1)
    scores = np.array([result["score"] for result in results], np.float32).clip(0, 1)
    return Poses(keypoints, boxes, scores, skeleton)


AMOUNTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
# Enough for a curve; of a larger data set, images are drawn at random.
MAX_PERSONS = 500


@dataclass(frozen=True, slots=True)
class BoxNoise:
    """AP with noise of this `amount` on the boxes; `iou` is their mean overlap with the original
    ones, by which a detector's boxes can be compared.
    """

    amount: float
    iou: float
    AP: float


def add_noise(
    boxes: NDArray[np.float64],
    amount: float,
    image_wh: NDArray[np.integer],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Boxes (n, 4) [x, y, w, h] with normal noise, whose standard deviation is `amount`: on centers
    relative to the size, and on the logarithms of widths and heights. Centers stay inside their
    images of `image_wh` (n, 2).
    """
    center, size = boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]
    moved = np.clip(center + amount * rng.normal(size=size.shape) * size, 1, image_wh - 1)
    grown = size * np.exp(amount * rng.normal(size=size.shape))
    return np.concatenate([moved - grown / 2, grown], axis=1)


def box_noise(
    estimator: PoseEstimator,
    annotations: CocoAnnotations,
    source: ImageFiles,
    skeleton: Skeleton,
    progress: Progress,
    seed: int = 0,
) -> list[BoxNoise]:
    """AP of `estimator` at each of `AMOUNTS`, on images drawn until there are 500 persons.

    `skeleton` has the OKS sigmas. Without noise, boxes and poses are those of `hrpose evaluate`.
    """
    rng = np.random.default_rng(seed)
    table = replace(annotations.persons(), skeleton=skeleton)
    images = rng.permutation(np.unique(table.image_index))
    persons_of = np.bincount(table.image_index, minlength=len(table.image_ids))[images]
    images = images[np.cumsum(persons_of) - persons_of < MAX_PERSONS]
    table = table.select(np.isin(table.image_index, images))
    sizes = table.image_wh[table.image_index]
    points = []
    for step, amount in enumerate(AMOUNTS):
        boxes = add_noise(table.boxes, amount, sizes, rng)
        instances = Instances(table.image_index, boxes, np.ones(len(boxes)))
        results = ranked_results(table, predict(estimator, table, instances, source))
        ids = table.image_ids[images].tolist()
        scores = evaluate_keypoints(annotations, results, skeleton.sigmas, ids)
        overlap = float(iou_of_pairs(boxes, table.boxes).mean())
        points.append(BoxNoise(amount, overlap, scores.AP))
        progress(step + 1, len(AMOUNTS))
    return points


# The curve of a detector has boxes with at least this score.
MIN_BOX_SCORE = 0.001


@dataclass(frozen=True, slots=True)
class DetectorReport:
    """The `scores` of the detector `name` on a number of `images`.

    `threshold` is the one it runs with, at which it gives `boxes_per_image`.
    """

    name: str
    images: int
    scores: BoxScores
    threshold: float
    boxes_per_image: float


def evaluate_detector(
    detector: AnyDetector,
    annotations: Path,
    images: str,
    *,
    box_threshold: float | None = None,
    min_height: float = 96.0,
    min_iou: float = 0.5,
    progress: Progress | None = None,
) -> DetectorReport:
    """Measure a person detector against the boxes of a COCO file.

    `box_threshold` in [0, 1] replaces the detector's own. Persons and boxes lower than `min_height`
    pixels are ignored; a box matches a person from an IoU of `min_iou` on. Raises UserError where
    the files or the detector cannot be read. The network computes in float32.
    """
    table = read_annotations(annotations).boxes()
    source = ImageFiles(images)
    measured = open_detector(detector, box_threshold, precision="fp32")
    threshold = float(getattr(measured, "threshold", 0.0))
    sensitive = open_detector(detector, min(MIN_BOX_SCORE, threshold), precision="fp32")
    detections = []
    for done, name in enumerate(table.file_names, start=1):
        detections.append(sensitive(source.read(name)))
        if progress is not None:
            progress(done, len(table))
    boxes, scores = [each.xywh for each in detections], [each.scores for each in detections]
    count = sum(int((each >= threshold).sum()) for each in scores)
    return DetectorReport(
        name=measured.name,
        images=len(table),
        scores=evaluate_boxes(table.boxes, boxes, scores, min_height, min_iou),
        threshold=threshold,
        boxes_per_image=count / max(len(table), 1),
    )
