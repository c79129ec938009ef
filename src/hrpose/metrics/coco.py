"""From scored poses to COCO results and the ten metrics of the COCO keypoint evaluation.

The paper's evaluation (section 4.1) rescores each pose, drops repeated ones by OKS-NMS, writes the
results and evaluates them. `select_results` does the first two. Everything here needs NumPy alone,
except `evaluate_keypoints` and `precision_curves`, which need faster-coco-eval (extra `train`).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.data.coco import CocoAnnotations, CocoResults, read_json
from hrpose.errors import UserError
from hrpose.io import write_atomically
from hrpose.metrics.oks import oks_nms_per_image, soft_oks_nms_per_image
from hrpose.poses import rescore
from hrpose.skeletons import COCO_17, from_coco_category

Results = Sequence[Mapping[str, Any]]
# A file, a parsed one, or its content.
Truth = Path | str | CocoAnnotations | Mapping[str, Any]
Poses = Path | str | CocoResults | Results


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
) -> list[dict[str, Any]]:
    """Rescored results without repeated poses, for a data set at once.

    `image_ids` (n,), `keypoints` (n, k, 3) in image pixels with keypoint scores, `box_scores` (n,):
    1 for ground-truth boxes. `areas` (n,): the area of each person's crop (its width times its
    height in image pixels, padding included), which is the area in OKS-NMS at `threshold`, as in
    the official code.
    """
    ids, poses = np.asarray(image_ids), np.asarray(keypoints)
    scores = rescore(poses, box_scores)
    suppress = soft_oks_nms_per_image if soft else oks_nms_per_image
    kept = suppress(ids, poses, areas, scores, threshold, sigmas)
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
) -> KeypointScores:
    """COCO's ten metrics of `results` against `ground_truth`: paths, parsed files or their content.

    `sigmas` (k,) are the OKS constants; without them those of the ground truth's own skeleton.
    With `image_ids` only these images count, on both sides. Nothing is printed. Raises UserError
    where the files do not fit the COCO format or each other.
    """
    evaluation = _evaluated(ground_truth, results, sigmas, image_ids)
    return KeypointScores(*(float(value) for value in evaluation.stats))


# The rows and the columns of `precision_curves`.
OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


def precision_curves(
    ground_truth: Truth,
    results: Poses,
    sigmas: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """(10, 101) precision in [0, 1] at each of `OKS_THRESHOLDS` and `RECALLS`; AP is its mean.

    Arguments and errors as in `evaluate_keypoints`.
    """
    precision = _evaluated(ground_truth, results, sigmas, None).eval["precision"]
    # Thresholds, recalls, categories, sizes (the first is all), detections per image.
    curves: NDArray[np.float64] = np.asarray(precision)[:, :, :, 0, -1].mean(axis=2)
    return curves


def _evaluated(
    ground_truth: Truth,
    results: Poses,
    sigmas: ArrayLike | None,
    image_ids: Iterable[int] | None,
) -> Any:
    """COCO's evaluator after its run."""
    from faster_coco_eval import COCO, COCOeval_faster

    truth, truth_name = _read(ground_truth, "ground truth")
    found, found_name = _read(results, "results")
    if not isinstance(truth, Mapping) or not isinstance(found, Sequence):
        raise UserError(
            f"{truth_name}, {found_name}: expected COCO annotations (an object) and COCO results "
            "(a list); are they swapped?",
            code="annotations-invalid",
        )
    _require([truth], {"images", "annotations", "categories"}, truth_name, "top level, entry")
    of_a_person = {"image_id", "category_id"}
    _require(truth["images"], {"id"}, truth_name, "image")
    _require(truth["categories"], {"id"}, truth_name, "category")
    _require(truth["annotations"], of_a_person, truth_name, "annotation")
    _require(found, of_a_person | {"keypoints", "score"}, found_name, "result")
    categories = [entry for entry in truth["categories"] if entry.get("keypoints")]
    if not categories:
        raise UserError(
            f"{truth_name}: expected a category with keypoints, found none",
            code="annotations-invalid",
        )
    constants = np.asarray(_sigmas(categories[0], truth_name) if sigmas is None else sigmas, float)
    category_ids = [entry["id"] for entry in categories]
    images = [entry["id"] for entry in truth["images"]]
    chosen = set(images) if image_ids is None else set(images) & set(image_ids)
    persons = [
        entry
        for entry in truth["annotations"]
        if entry["image_id"] in chosen and entry["category_id"] in category_ids
    ]
    if image_ids is None and (unknown := {entry["image_id"] for entry in found} - chosen):
        raise UserError(
            f"{found_name}: image_id {min(unknown, key=str)} is not in {truth_name}; "
            "evaluate against the annotations of the same images",
            code="annotations-invalid",
        )
    poses = [entry for entry in found if entry["image_id"] in chosen]
    header = {"images": [{"id": image} for image in sorted(chosen)], "categories": categories}
    evaluation = COCOeval_faster(
        COCO({**header, "annotations": _labels(persons, len(constants), truth_name)}),
        COCO({**header, "annotations": _poses(poses, len(constants), found_name)}),
        "keypoints",
        kpt_oks_sigmas=constants,
        print_function=_silent,
    )
    evaluation.params.imgIds = sorted(chosen)
    evaluation.params.catIds = category_ids
    evaluation.run()
    return evaluation


def _silent(_: object) -> None:
    """The evaluator reports its progress here."""


def _read(source: Any, what: str) -> tuple[Any, str]:
    """The content of a JSON file, or the given object itself; and a name for messages."""
    if isinstance(source, CocoAnnotations):
        return source.document, str(source.path)
    if isinstance(source, CocoResults):
        return source.entries, str(source.path)
    if not isinstance(source, Path | str):
        return source, what
    return read_json(Path(source)), str(source)


def _sigmas(category: Mapping[str, Any], name: str) -> tuple[float, ...]:
    try:
        return from_coco_category(category).sigmas
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{name}: 'categories': {error}", code="annotations-invalid") from error


def _labels(persons: Results, k: int, name: str) -> list[dict[str, Any]]:
    """The persons that count, with ids from 1: the evaluator reserves id 0."""
    _require(persons, {"keypoints", "area", "bbox"}, name, "person")
    keypoints = _matrix(persons, k, name)
    visible = (keypoints[:, 2::3] > 0).sum(axis=1).tolist()
    labels = []
    for index, (person, row, count) in enumerate(zip(persons, keypoints, visible, strict=True)):
        if not all(
            isinstance(n, int | float | np.number)
            for n in (person["area"], person.get("num_keypoints", 0), person.get("iscrowd", 0))
        ):
            raise UserError(
                f"{name}: a person of image {person['image_id']}: expected numbers as area, "
                "num_keypoints and iscrowd, found other values",
                code="annotations-invalid",
            )
        labels.append(
            {
                "id": index + 1,
                "image_id": person["image_id"],
                "category_id": person["category_id"],
                "keypoints": row,
                "num_keypoints": person.get("num_keypoints", count),
                "area": person["area"],
                "bbox": person["bbox"],
                "iscrowd": int(person.get("iscrowd", 0)),
            }
        )
    return labels


def _poses(poses: Results, k: int, name: str) -> list[dict[str, Any]]:
    """Results in the evaluator's form; a pose's area is that of the box around its keypoints."""
    keypoints = _matrix(poses, k, name)
    extents = np.ptp(keypoints[:, 0::3], axis=1) * np.ptp(keypoints[:, 1::3], axis=1)
    return [
        {
            "id": index + 1,
            "image_id": pose["image_id"],
            "category_id": pose["category_id"],
            "keypoints": row,
            "area": area,
            "score": pose["score"],
        }
        for index, (pose, row, area) in enumerate(
            zip(poses, keypoints, extents.tolist(), strict=True)
        )
    ]


def _matrix(entries: Results, keypoints: int, name: str) -> NDArray[np.float64]:
    """(n, 3 k): the keypoints of all entries, checked."""
    for entry in entries:
        values = entry["keypoints"] or ()
        if (found := len(values) if isinstance(values, list | tuple) else 0) != 3 * keypoints:
            raise UserError(
                f"{name}: a person of image {entry['image_id']}: expected {3 * keypoints} keypoint "
                f"numbers for {keypoints} keypoints, found {found}; is it another skeleton's file?",
                code="annotations-invalid",
            )
    try:
        matrix = np.array([entry["keypoints"] for entry in entries], np.float64)
        numbers = np.array([entry.get("score", 0.0) for entry in entries], np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{name}: keypoints and scores must be numbers ({error})", code="annotations-invalid"
        ) from error
    matrix = matrix.reshape(len(entries), 3 * keypoints)
    if not (sound := np.isfinite(matrix).all(axis=1) & np.isfinite(numbers)).all():
        entry = entries[int(np.argmin(sound))]
        raise UserError(
            f"{name}: a person of image {entry['image_id']}: expected finite keypoints and score, "
            "found NaN or infinity",
            code="annotations-invalid",
        )
    return cast(NDArray[np.float64], matrix)


def _require(entries: Any, fields: set[str], name: str, what: str) -> None:
    """Raises UserError, naming the entry, where one lacks a field or an id is no integer."""
    if not isinstance(entries, Sequence):
        raise UserError(
            f"{name}: expected a list of each {what}, found {type(entries).__name__}",
            code="annotations-invalid",
        )
    for index, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or (missing := fields - entry.keys()):
            lacking = sorted(missing) if isinstance(entry, Mapping) else "a JSON object"
            raise UserError(
                f"{name}: {what} {index}: expected {', '.join(sorted(fields))}, missing {lacking}",
                code="annotations-invalid",
            )
        for field in fields & {"id", "image_id", "category_id"}:
            if not isinstance(entry[field], int | np.integer):
                found = str(entry[field])[:80]
                raise UserError(
                    f"{name}: {what} {index}: expected an integer as {field}, found {found}",
                    code="annotations-invalid",
                )
