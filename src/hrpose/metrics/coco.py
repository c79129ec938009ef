"""COCO results of scored poses, the ten metrics of the COCO evaluation, and the AP of boxes.

The paper's evaluation (section 4.1) rescores each pose, drops repeated ones by OKS-NMS, writes the
results and evaluates them. `select_results` does the first two. Everything here needs NumPy alone,
except `evaluate_keypoints` and `precision_curves`, which need faster-coco-eval (extra `train`).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.data.coco import CocoAnnotations, CocoResults, read_annotations, read_results
from hrpose.errors import UserError
from hrpose.geometry import iou
from hrpose.io import write_atomically
from hrpose.metrics.oks import oks_nms_per_image, soft_oks_nms_per_image
from hrpose.poses import rescore
from hrpose.skeletons import COCO_17

Results = Sequence[Mapping[str, Any]]
# A file, a parsed one, or its content.
Truth = Path | str | CocoAnnotations | Mapping[str, Any]
Poses = Path | str | CocoResults | Results

# Poses of an image that count, those with the best scores: COCO's rule.
MAX_DETECTIONS = 20


@dataclass(frozen=True, slots=True)
class KeypointScores:
    """COCO's ten metrics in [0, 1]; -1, as in COCO, where no person of that size is labeled.

    AP and AR are means over OKS 0.50, 0.55 ... 0.95; M: 32^2 to 96^2 square pixels, L: above.
    """

    AP: float
    AP50: float
    AP75: float
    APM: float
    APL: float
    AR: float
    AR50: float
    AR75: float
    ARM: float
    ARL: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def select_results(
    image_ids: ArrayLike,
    keypoints: ArrayLike,
    box_scores: ArrayLike,
    areas: ArrayLike,
    *,
    sigmas: ArrayLike = COCO_17.sigmas,
    threshold: float = 0.9,
    soft: bool = False,
    category_id: int = 1,
    max_detections: int = MAX_DETECTIONS,
) -> list[dict[str, Any]]:
    """Rescored results without repeated poses, for a data set at once.

    `image_ids` (n,), `keypoints` (n, k, 3) in image pixels with keypoint scores, `box_scores` (n,):
    1 for ground-truth boxes. `areas` (n,): the area of each person's crop (its width times its
    height in image pixels, padding included), which is the area in OKS-NMS at `threshold`, as in
    the official code. `soft` NMS keeps at most `max_detections` poses of an image.
    """
    ids, poses = np.asarray(image_ids), np.asarray(keypoints)
    scores = rescore(poses, box_scores)
    if soft:
        kept = soft_oks_nms_per_image(ids, poses, areas, scores, threshold, sigmas, max_detections)
    else:
        kept = oks_nms_per_image(ids, poses, areas, scores, threshold, sigmas)
    return to_results(ids[kept], poses[kept], scores[kept], category_id)


def to_results(
    image_ids: ArrayLike, keypoints: ArrayLike, scores: ArrayLike, category_id: int = 1
) -> list[dict[str, Any]]:
    """Entries of a COCO keypoint results file, in the given order.

    Points are rounded to a thousandth of a pixel. There is no `bbox`: with one, COCO's evaluator
    would sort unmatched poses into medium and large by the box instead of by the pose.
    """
    poses = np.asarray(keypoints, np.float64)
    rows = poses.reshape(len(poses), math.prod(poses.shape[1:])).round(3).tolist()
    ids, values = np.asarray(image_ids).tolist(), np.asarray(scores, np.float64).tolist()
    return [
        {"image_id": image, "category_id": category_id, "keypoints": row, "score": score}
        for image, row, score in zip(ids, rows, values, strict=True)
    ]


def write_results(path: Path, results: Results) -> None:
    """Write a COCO results file atomically. Raises ValueError for NaN and infinity."""
    import msgspec  # several times as fast with numbers as the standard library

    for index, entry in enumerate(results):
        if not all(map(_finite, entry.values())):
            raise ValueError(
                f"{path}: result {index}: expected finite numbers, found NaN or infinity"
            )
    write_atomically(path, msgspec.json.encode(results))


def _finite(value: Any) -> bool:
    """Whether a value has no NaN or infinity, for which msgspec would write null."""
    if isinstance(value, list):
        try:
            return all(map(math.isfinite, value))
        except TypeError:  # not numbers alone
            return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def evaluate_keypoints(
    ground_truth: Truth,
    results: Poses,
    sigmas: ArrayLike | None = None,
    image_ids: Iterable[int] | None = None,
    max_detections: int = MAX_DETECTIONS,
) -> KeypointScores:
    """COCO's ten metrics of `results` against `ground_truth`: paths, parsed files or their content.

    `sigmas` (k,) are the OKS constants; without them those of the ground truth's own skeleton.
    With `image_ids` only these images count, on both sides. Of each image the `max_detections`
    poses with the best scores count, 20 in COCO's evaluation. Nothing is printed. Raises UserError
    where the files do not fit the COCO format or each other.
    """
    return compared(ground_truth, results, sigmas, image_ids).scores(max_detections)


# The rows and the columns of `precision_curves`.
OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


def precision_curves(
    ground_truth: Truth,
    results: Poses,
    sigmas: ArrayLike | None = None,
    max_detections: int = MAX_DETECTIONS,
) -> NDArray[np.float64]:
    """(10, 101) precision in [0, 1] at each of `OKS_THRESHOLDS` and `RECALLS`; AP is its mean.

    Arguments and errors as in `evaluate_keypoints`.
    """
    precision = compared(ground_truth, results, sigmas).run(max_detections).eval["precision"]
    # Thresholds, recalls, categories, sizes (the first is all), detections per image.
    curves: NDArray[np.float64] = np.asarray(precision)[:, :, :, 0, -1].mean(axis=2)
    return curves


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Labels and poses of the images `image_ids`, in the form of COCO's evaluator.

    Labels have `num_keypoints`, without which a person is ignored, and the `area` of OKS; poses the
    `area` by which unmatched ones are medium or large. `sigmas` (k,) are the OKS constants.
    """

    image_ids: tuple[int, ...]
    category: Mapping[str, Any]
    labels: list[dict[str, Any]]
    poses: list[dict[str, Any]]
    sigmas: NDArray[np.float64]

    def run(self, max_detections: int = MAX_DETECTIONS) -> Any:
        """COCO's evaluator after its run; it is given copies."""
        from faster_coco_eval import COCO, COCOeval_faster

        images = [{"id": image} for image in self.image_ids]
        header = {"images": images, "categories": [dict(self.category)]}
        evaluation = COCOeval_faster(
            COCO({**header, "annotations": [dict(label) for label in self.labels]}),
            COCO({**header, "annotations": [dict(pose) for pose in self.poses]}),
            "keypoints",
            kpt_oks_sigmas=self.sigmas,
            print_function=_silent,
        )
        evaluation.params.imgIds = list(self.image_ids)
        evaluation.params.catIds = [self.category["id"]]
        evaluation.params.maxDets = [max_detections]
        evaluation.run()
        return evaluation

    def scores(self, max_detections: int = MAX_DETECTIONS) -> KeypointScores:
        """The ten metrics."""
        return KeypointScores(*(float(value) for value in self.run(max_detections).stats))


def compared(
    ground_truth: Truth,
    results: Poses,
    sigmas: ArrayLike | None = None,
    image_ids: Iterable[int] | None = None,
) -> Compared:
    """What is compared; arguments and errors as in `evaluate_keypoints`."""
    annotations, found = _annotations(ground_truth), as_results(results)
    constants = np.asarray(annotations.skeleton.sigmas if sigmas is None else sigmas, float)
    images = set(annotations.image_columns["image_ids"].tolist())
    chosen = images if image_ids is None else images & set(image_ids)
    poses = found.poses(len(annotations.skeleton)).columns
    if image_ids is None and (unknown := set(poses["image_ids"].tolist()) - chosen):
        raise UserError(
            f"{found.path}: image_id {min(unknown)} is not in {annotations.path}; "
            "evaluate against the annotations of the same images",
            code="annotations-invalid",
        )
    ids = poses["category_ids"].tolist()
    if ids and annotations.category_id not in ids:
        raise UserError(
            f"{found.path}: expected poses of the category {annotations.category_id} of "
            f"{annotations.path}, found category_id {', '.join(map(str, sorted(set(ids))[:5]))} "
            "only; correct the one or the other, or choose with --category",
            code="annotations-invalid",
        )
    return Compared(
        image_ids=tuple(sorted(chosen)),
        category={"id": annotations.category_id, "name": annotations.skeleton.name},
        labels=_labels(annotations, chosen),
        poses=_poses(poses, chosen),
        sigmas=constants,
    )


def crowded_images(annotations: CocoAnnotations, max_detections: int = MAX_DETECTIONS) -> str:
    """A line about images with more labeled persons than poses count; empty where there is none."""
    persons = annotations.instances(crowds=False).columns
    labeled = (persons["keypoints"][..., 2] > 0).any(axis=1)
    counts = np.bincount(persons["image_index"][labeled], minlength=1)
    most, images = int(counts.max()), int((counts > max_detections).sum())
    if not images:
        return ""
    return (
        f"{images:,} {'image has' if images == 1 else 'images have'} more than {max_detections} "
        f"labeled persons, up to {most}, but only the {max_detections} poses of an image with the "
        "best scores count"
        f"{', as in the evaluation of COCO' * (max_detections == MAX_DETECTIONS)}, so that the AP "
        f"is lower; count all with --max-detections {most}"
    )


def _silent(_: object) -> None:
    """The evaluator reports its progress here."""


def _annotations(source: Truth) -> CocoAnnotations:
    if isinstance(source, CocoAnnotations | Path | str):
        return read_annotations(source if isinstance(source, CocoAnnotations) else Path(source))
    # In content that is no file, images need an id alone.
    images = source.get("images")
    if isinstance(images, list):
        sized = {"file_name": "image", "width": 1, "height": 1}
        images = [{**sized, **each} if isinstance(each, dict) else each for each in images]
    return CocoAnnotations(Path("ground truth"), {**source, "images": images})


def as_results(source: Poses) -> CocoResults:
    """Results as a parsed file."""
    if isinstance(source, Path | str):
        return read_results(Path(source))
    return source if isinstance(source, CocoResults) else CocoResults(Path("results"), list(source))


def notes_of_results(
    annotations: CocoAnnotations, path: Path, poses: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    """What may be wrong with results: that there are none, or some of other categories."""
    if not poses:
        return (f"{path}: no poses: every labeled person counts as missed",)
    own = annotations.category_id
    others = sum(pose.get("category_id") not in (own, str(own)) for pose in poses)
    line = f"{path}: {others} of {len(poses)} poses are not of category {own}, and left out"
    return (line,) * (others > 0)


def _labels(annotations: CocoAnnotations, chosen: set[int]) -> list[dict[str, Any]]:
    """The persons of the images `chosen`, with ids from 1: the evaluator reserves id 0."""
    instances = annotations.instances()
    columns = instances.columns
    image_ids = annotations.image_columns["image_ids"][columns["image_index"]]
    # COCO ignores persons without labeled keypoints, whatever `num_keypoints` says.
    counts = (columns["keypoints"][..., 2] > 0).sum(axis=1)
    numbers = (image_ids, columns["areas"], counts, columns["crowds"])
    labels: list[dict[str, Any]] = []
    for person, image_id, area, count, crowd in zip(
        instances.entries, *(column.tolist() for column in numbers), strict=True
    ):
        if image_id not in chosen:
            continue
        keypoints = person.get("keypoints") or [0] * (3 * len(annotations.skeleton))
        labels.append(
            {
                "id": len(labels) + 1,
                "image_id": image_id,
                "category_id": annotations.category_id,
                "keypoints": np.asarray(keypoints, np.float64),
                "num_keypoints": count,
                "area": area,
                "bbox": person["bbox"],
                "iscrowd": int(crowd),
            }
        )
    return labels


def _poses(poses: Mapping[str, NDArray[Any]], chosen: set[int]) -> list[dict[str, Any]]:
    """Results in the evaluator's form; a pose's area is that of the box around its keypoints."""
    keypoints = poses["keypoints"]
    areas = np.ptp(keypoints[:, 0::3], axis=1) * np.ptp(keypoints[:, 1::3], axis=1)
    names = ("image_ids", "category_ids", "scores")
    rows = zip(*(poses[name].tolist() for name in names), areas.tolist(), keypoints, strict=True)
    chosen_rows = (row for row in rows if row[0] in chosen)
    return [
        {
            "id": index,
            "image_id": image_id,
            "category_id": category_id,
            "keypoints": points,
            "area": area,
            "score": score,
        }
        for index, (image_id, category_id, score, area, points) in enumerate(chosen_rows, start=1)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class BoxScores:
    """`thresholds`, `recall` and `precision` (n,), from the highest to the lowest score.

    `persons` is the number of labeled persons. `AP` is the area under the curve of precision over
    recall, made monotonic as usual.
    """

    thresholds: NDArray[np.float64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    persons: int

    @property
    def AP(self) -> float:
        envelope = np.maximum.accumulate(self.precision[::-1])[::-1]
        return float(np.sum(np.diff(self.recall, prepend=0.0) * envelope))

    def at(self, threshold: float) -> tuple[float, float]:
        """(recall, precision) of the boxes that score at least `threshold`."""
        count = int(np.searchsorted(-self.thresholds, -threshold, side="right"))
        return (0.0, 1.0) if count == 0 else (self.recall[count - 1], self.precision[count - 1])

    @property
    def best_threshold(self) -> float:
        """Where the lesser of recall and precision is greatest; 0.5 where there are no boxes."""
        if len(self.thresholds) == 0:
            return 0.5
        return float(self.thresholds[np.minimum(self.recall, self.precision).argmax()])


def matched(
    truth: NDArray[np.float64],
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    min_height: float = 0.0,
    min_iou: float = 0.5,
) -> NDArray[np.float64]:
    """(n,) of detected `boxes` (n, 4) in an image: 1 where right, 0 where wrong, NaN where ignored.

    They are matched in the order of their scores (n,), each to the free person of `truth` (p, 4)
    that it overlaps most. Persons lower than `min_height` are ignored, as COCO does with sizes, and
    so are the boxes that match them and unmatched boxes that are lower themselves.
    """
    counts = truth[:, 3] >= min_height
    overlap = iou(boxes, truth)
    outcome = np.where(boxes[:, 3] >= min_height, 0.0, np.nan)
    for i in np.argsort(-scores, kind="stable"):
        # Persons that count go first, as in COCO's matching.
        fits = overlap[i] >= min_iou
        if fits.any():
            best = int(np.argmax(np.where(fits, overlap[i] + 2.0 * counts, -1.0)))
            outcome[i] = 1.0 if counts[best] else np.nan
            overlap[:, best] = 0.0
    return outcome


def evaluate_boxes(
    truth: Sequence[NDArray[np.float64]],
    boxes: Sequence[NDArray[np.float64]],
    scores: Sequence[NDArray[np.float64]],
    min_height: float = 0.0,
    min_iou: float = 0.5,
) -> BoxScores:
    """Match the detected boxes (n, 4) of each image, with scores (n,), to its labeled ones (p, 4),
    and score all images together.
    """
    persons = sum(int((labeled[:, 3] >= min_height).sum()) for labeled in truth)
    outcomes = [
        matched(*each, min_height, min_iou) for each in zip(truth, boxes, scores, strict=True)
    ]
    ranks, right = (np.concatenate([np.zeros(0), *each]) for each in (scores, outcomes))
    ranks, right = ranks[~np.isnan(right)], right[~np.isnan(right)]
    order = np.argsort(-ranks, kind="stable")
    hits = np.cumsum(right[order])
    precision = hits / np.arange(1, len(hits) + 1)
    return BoxScores(ranks[order], hits / max(persons, 1), precision, persons)
