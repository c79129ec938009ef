"""`hrpose analyze A.json B.json`: how much better B is than A, with intervals.

Both results are of the same images, so they are compared on the same images: the difference of a
metric is much less uncertain than the metrics are. The intervals are those of a paired bootstrap:
images are drawn with replacement, as many as there are, both results are evaluated on them, and the
middle 95 percent of the differences are the interval (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, chapter 13). Poses are matched to persons once: whether a pose is right does not
depend on other images, so that a draw only weighs the images anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import CocoAnnotations, CocoResults, read_results
from hrpose.data.images import ImageFiles, compare_sizes
from hrpose.data.persons import group_by_image
from hrpose.data.rules import note_lines
from hrpose.errors import UserError
from hrpose.evaluation.analyze import MIN_EXAMPLE_KEYPOINTS, SIZES, person_tiles
from hrpose.evaluation.error_analysis import (
    PredictedPoses,
    Truth,
    match,
    oks_to_ignored,
    read_predicted,
    read_truth,
)
from hrpose.evaluation.predictions import Progress
from hrpose.metrics.coco import (
    MAX_DETECTIONS,
    OKS_THRESHOLDS,
    RECALLS,
    crowded_images,
    evaluate_keypoints,
)
from hrpose.metrics.oks import keypoint_similarities, oks

# The sizes in COCO's metrics of keypoints, in square pixels, bounds included.
_AREAS = np.array([[0, 1e10], [32**2, 96**2], [96**2, 1e10]])
# Outcomes of a pose at an OKS threshold, beside 0, wrong, and 1, right.
_IGNORED = -1
# Each metric of `KeypointScores`: recall or precision, the size, and the thresholds.
_EVERY = slice(None)
_METRICS: dict[str, tuple[int, int, Any]] = {
    "AP": (0, 0, _EVERY), "AP50": (0, 0, 0), "AP75": (0, 0, 5), "APM": (0, 1, _EVERY),
    "APL": (0, 2, _EVERY), "AR": (1, 0, _EVERY), "AR50": (1, 0, 0), "AR75": (1, 0, 5),
    "ARM": (1, 1, _EVERY), "ARL": (1, 2, _EVERY),
}  # fmt: skip

DRAWS = 1000
INTERVAL = (2.5, 97.5)  # percentiles
# Persons shown of each kind, and the change of a person's OKS that counts.
SHOWN, NOTABLE = 8, 0.05
# With fewer images, the percentiles are too narrow (benchmarks/planted.py).
FEW_IMAGES = 50


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What COCO's evaluation makes of n poses in m images, the best score first.

    `image` (n,) is the row of the image; `right` (3, 10, n) by size (all, medium, large) and OKS
    threshold is 1, 0, or -1 where the pose is ignored; `persons` (3, m) are the persons that count.
    """

    image: NDArray[np.int64]
    right: NDArray[np.int8]
    persons: NDArray[np.int64]

    def metrics(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """COCO's ten metrics where image i counts `weights[i]` times; NaN without persons."""
        by_pose, (sizes, thresholds, n) = weights[self.image], self.right.shape
        hits = np.cumsum(by_pose * (self.right == 1), axis=-1)
        total = np.cumsum(by_pose * (self.right >= 0), axis=-1)
        # The greatest precision from each pose on, and 0 after the last.
        precision = np.zeros((sizes, thresholds, n + 1))
        np.maximum.accumulate(
            (hits / (total + np.spacing(1)))[..., ::-1], axis=-1, out=precision[..., -2::-1]
        )
        persons = (self.persons @ weights)[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            # The least number of right poses for each recall: division decides, as in COCO.
            least = np.ceil(RECALLS * persons)
            least += (least / persons < RECALLS) * 1.0 - ((least - 1) / persons >= RECALLS)
            recall = (hits[..., -1] if n else np.zeros((sizes, thresholds))) / persons
        # One search in all rows at once: each has numbers beyond those of the row before.
        most = int(by_pose.sum()) + 2
        rows = np.arange(sizes * thresholds)[:, None]
        wanted = np.repeat(least.clip(0, most - 1).astype(np.int64), thresholds, axis=0)
        sorted_hits = hits.reshape(len(rows), n) + rows * most
        at = np.searchsorted(sorted_hits.ravel(), (wanted + rows * most).ravel())
        at = at.reshape(len(rows), len(RECALLS)) - rows * n
        reached = np.take_along_axis(precision.reshape(len(rows), n + 1), at, axis=-1)
        sampled = np.stack([reached.mean(axis=-1).reshape(sizes, thresholds), recall])
        sampled[:, persons[:, 0] == 0] = np.nan
        return np.array([np.mean(sampled[kind, size][at]) for kind, size, at in _METRICS.values()])


def outcomes(truth: Truth, predicted: PredictedPoses) -> Outcomes:
    """Match the poses to persons as COCO's evaluation does, at all thresholds and sizes at once."""
    table, n = truth.table, len(predicted)
    crowds = np.asarray(truth.annotations.instances().columns["crowds"], bool)
    low, high = _AREAS.T[:, :, None]
    ignored = ~truth.counted | (table.areas < low) | (table.areas > high)
    points = predicted.keypoints[..., :2]
    extent = np.prod(np.ptp(points, axis=1), axis=-1) if n else np.zeros(0)
    outside = (extent < low) | (extent > high)
    right = np.zeros((len(_AREAS), len(OKS_THRESHOLDS), n), np.int8)
    persons_of, none = group_by_image(table.image_index), np.zeros(0, np.intp)
    for image, poses in group_by_image(predicted.image).items():
        persons = persons_of.get(image, none)
        similar = _similarities(truth, predicted.keypoints[poses], persons)
        own_ignored, own_crowds = ignored[:, None, persons], crowds[persons]
        free = np.ones((*right.shape[:2], len(persons)), bool)
        for row, pose in enumerate(poses):
            # Persons that count go first; of equals, the last one.
            near = free & (similar[row] >= OKS_THRESHOLDS[:, None])
            value = np.where(near, similar[row] + 2.0 * ~own_ignored, -1.0)
            if not len(persons):
                right[:, :, pose] = np.where(outside[:, pose], _IGNORED, 0)[:, None]
                continue
            best = len(persons) - 1 - value[..., ::-1].argmax(axis=-1)
            found = np.take_along_axis(value, best[..., None], axis=-1)[..., 0] >= 0
            to_ignored = np.take_along_axis(
                np.broadcast_to(own_ignored, value.shape), best[..., None], axis=-1
            )[..., 0]
            right[:, :, pose] = np.select(
                [found & ~to_ignored, found, np.broadcast_to(outside[:, pose, None], found.shape)],
                [1, _IGNORED, _IGNORED],
                0,
            )
            size, threshold = np.nonzero(found & ~own_crowds[best])
            free[size, threshold, best[size, threshold]] = False
    # As in COCO's evaluation: by score, of equals by image id, then in the order of an image.
    order = np.lexsort((table.image_ids[predicted.image], -predicted.scores))
    images = len(table.image_ids)
    persons = np.stack(
        [np.bincount(table.image_index[~each], minlength=images) for each in ignored]
    )
    return Outcomes(predicted.image[order], right[..., order], persons)


def _similarities(
    truth: Truth, points: NDArray[np.float64], persons: NDArray[np.intp]
) -> NDArray[np.float64]:
    """(n, m) OKS of poses to the persons of an image, ignored ones as in COCO's evaluation."""
    table, counted = truth.table, truth.counted[persons]
    similar = np.zeros((len(points), len(persons)))
    own, others = persons[counted], persons[~counted]
    similar[:, counted] = oks(points, table.keypoints[own], table.areas[own], table.skeleton.sigmas)
    similar[:, ~counted] = oks_to_ignored(points, table, others)
    return similar


@dataclass(frozen=True, slots=True)
class Difference:
    """A metric of A and of B, B minus A, the 95 % interval of that from `low` to `high`, and the
    share of the draws in which B is `ahead`; draws in which both are equal count half.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    ahead: float


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A person with the OKS of both results, 0 where missed, and their drawings (320, 240, 3) where
    images were given: `labeled`, `a` and `b`.
    """

    image: str
    annotation: int
    oks_a: float
    oks_b: float
    tiles: dict[str, NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Everything the page shows: `metrics` are COCO's that are defined; `keypoints` and `sizes` the
    mean keypoint similarity of labeled keypoints, 0 for those of missed persons. `better` and
    `worse` are persons with enough labels whose OKS changed most; `gained` and `lost` count all
    that changed by more than .05.
    """

    names: dict[str, str]
    images: int
    persons: int
    draws: int
    metrics: dict[str, Difference]
    keypoints: dict[str, Difference]
    sizes: dict[str, Difference]
    gained: int
    lost: int
    better: list[Change]
    worse: list[Change]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON: everything but the images."""

        def entries(changes: list[Change]) -> list[dict[str, Any]]:
            names = ("image", "annotation", "oks_a", "oks_b")
            return [{name: getattr(each, name) for name in names} for each in changes]

        groups = {"metrics": self.metrics, "keypoints": self.keypoints, "sizes": self.sizes}
        return {
            **self.names,
            "images": self.images,
            "persons": self.persons,
            "draws": self.draws,
            "notes": list(self.notes),
            **{
                name: {key: asdict(value) for key, value in group.items()}
                for name, group in groups.items()
            },
            "gained": self.gained,
            "lost": self.lost,
            "better": entries(self.better),
            "worse": entries(self.worse),
        }


def compare(
    a: Path,
    b: Path,
    annotations: Path | CocoAnnotations,
    images: str | None = None,
    *,
    skeleton: Path | None = None,
    max_detections: int = MAX_DETECTIONS,
    draws: int = DRAWS,
    rng: np.random.Generator | None = None,
    progress: Progress = lambda done, total: None,
    notify: Callable[[str], None] | None = None,
) -> Comparison:
    """Compare COCO results `b` with `a`, of the same images. Arguments as in `analyze`.

    The `draws` come from `rng`, by default one with the seed 0, so that a comparison can be
    repeated. Raises UserError where files do not fit the COCO format or each other.
    """
    if a.resolve() == b.resolve():
        raise UserError(f"{b}: expected two results, found {a} twice", code="option-conflict")
    truth = read_truth(annotations, skeleton, max_detections)
    table, sigmas = truth.table, truth.table.skeleton.sigmas
    source = None if images is None else ImageFiles(images)
    if source is not None:
        compare_sizes(source, table.file_names, table.image_wh, truth.annotations.path)
    results = [read_results(path) for path in (a, b)]
    # Also checks the results against the annotations.
    scores = [
        evaluate_keypoints(truth.annotations, each, sigmas, max_detections=max_detections)
        for each in results
    ]
    crowded = crowded_images(truth.annotations, max_detections)
    notes = (
        *note_lines(truth.annotations.path, (*truth.annotations.notes, crowded)),
        *_coverage(results, truth),
    )
    if notify is not None:
        for note in notes:
            notify(note)
    poses = [read_predicted(each, truth) for each in results]
    fates = [_fates(truth, each) for each in poses]
    generator = np.random.default_rng(0) if rng is None else rng
    metrics, similarity = _drawn(truth, poses, fates, draws, generator, progress)
    metrics[:, 0] = [list(each.as_dict().values()) for each in scores]
    keypoints, rows = table.skeleton.keypoints, np.flatnonzero(truth.counted)
    change = fates[1].oks - fates[0].oks
    # Persons with few labels show little.
    enough = (table.keypoints[rows, :, 2] > 0).sum(axis=1) >= MIN_EXAMPLE_KEYPOINTS
    order = rows[enough][np.argsort(-change[rows[enough]], kind="stable")]

    def shown(persons: NDArray[np.intp]) -> list[Change]:
        return [_change(int(person), truth, poses, fates, source) for person in persons[:SHOWN]]

    return Comparison(
        names={"a": str(a), "b": str(b), "annotations": str(truth.annotations.path)},
        images=len(table.image_ids),
        persons=len(rows),
        draws=draws,
        metrics=_differences(list(_METRICS), metrics),
        keypoints=_differences(keypoints, similarity[..., : len(keypoints)]),
        sizes=_differences(list(SIZES), similarity[..., len(keypoints) :]),
        gained=int((change[rows] > NOTABLE).sum()),
        lost=int((change[rows] < -NOTABLE).sum()),
        better=shown(order[change[order] > 0]),
        worse=shown(order[change[order] < 0][::-1]),
        notes=notes,
    )


def _coverage(results: list[CocoResults], truth: Truth) -> list[str]:
    """Notes about images that only one of the results has, poses that are in one twice, and few
    images. Raises UserError where no image is in both.
    """
    a, b = ({entry["image_id"] for entry in each.entries} for each in results)
    if not a & b:
        raise UserError(
            f"{results[1].path}: expected poses of the images in {results[0].path}, found none of "
            f"its {len(a):,} images; compare results of the same images",
            code="annotations-invalid",
        )
    notes = []
    for own, alone, other in ((results[0], a - b, results[1]), (results[1], b - a, results[0])):
        if alone:
            notes.append(
                f"{own.path}: {len(alone):,} of its images have no poses in {other.path}, where "
                "their persons count as missed"
            )
        rows = [(e["image_id"], e["score"], *e["keypoints"]) for e in own.entries]
        if repeated := len(rows) - len(set(rows)):
            notes.append(f"{own.path}: {repeated:,} poses are in it twice, and count as wrong")
    images = len(np.unique(truth.table.image_index[truth.counted]))
    if images < FEW_IMAGES:
        notes.append(
            f"{truth.annotations.path}: intervals of {images} images with persons are too narrow; "
            f"{FEW_IMAGES} or more are better"
        )
    return notes


@dataclass(frozen=True, slots=True, eq=False)
class _Fates:
    """What became of each of n persons: `pose` (n,) is the row of its pose, -1 where missed, `oks`
    (n,) that of the pose, and `similarity` (n, k) that of its keypoints; 0 where missed.
    """

    pose: NDArray[np.int64]
    oks: NDArray[np.float64]
    similarity: NDArray[np.float64]


def _fates(truth: Truth, predicted: PredictedPoses) -> _Fates:
    table, matches = truth.table, match(truth, predicted)
    pose = np.full(len(table), -1)
    pose[matches.persons] = matches.poses
    own, similarity = np.zeros(len(table)), np.zeros(table.keypoints.shape[:2])
    own[matches.persons] = matches.oks[matches.poses]
    similarity[matches.persons] = keypoint_similarities(
        predicted.keypoints[matches.poses],
        table.keypoints[matches.persons],
        table.areas[matches.persons],
        table.skeleton.sigmas,
    )
    return _Fates(pose, own, similarity)


def _drawn(
    truth: Truth,
    poses: list[PredictedPoses],
    fates: list[_Fates],
    draws: int,
    rng: np.random.Generator,
    progress: Progress,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """COCO's metrics (2, 1 + draws, 10) and the mean similarities (2, 1 + draws, k + 3), by
    keypoint and by size, of both results: of all images, then of each draw.
    """
    table, images = truth.table, len(truth.table.image_ids)
    tables = [outcomes(truth, each) for each in poses]
    labeled = (table.keypoints[..., 2] > 0) & truth.counted[:, None]
    of_size = [(table.areas >= low) & (table.areas < high) for low, high in SIZES.values()]

    def by_image(values: NDArray[Any]) -> NDArray[np.float64]:
        """The sums (images, k + 3) of what labeled keypoints (n, k) have."""
        kept = np.where(labeled, values, 0.0)
        parts = np.concatenate(
            [kept, *(kept.sum(axis=1)[:, None] * size[:, None] for size in of_size)], axis=1
        )
        result = np.zeros((images, parts.shape[1]))
        np.add.at(result, table.image_index, parts)
        return result

    counts, sums = by_image(np.ones(1)), [by_image(each.similarity) for each in fates]
    metrics = np.zeros((2, 1 + draws, len(_METRICS)))
    similarity = np.zeros((2, 1 + draws, counts.shape[1]))
    for draw in range(1 + draws):
        chosen = rng.integers(images, size=images) if draw else np.arange(images)
        weights = np.bincount(chosen, minlength=images)
        with np.errstate(invalid="ignore"):
            for which in range(2):
                metrics[which, draw] = tables[which].metrics(weights)
                similarity[which, draw] = weights @ sums[which] / (weights @ counts)
        progress(draw, draws)
    return metrics, similarity


def _differences(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, Difference]:
    """Of values (2, 1 + draws, names); without those that are undefined."""
    result = {}
    for column, name in enumerate(names):
        a, b = values[:, 0, column].tolist()
        if not (a >= 0 and b >= 0):  # -1 or NaN: nobody of that size, or nothing labeled
            continue
        drawn = values[1, 1:, column] - values[0, 1:, column]
        drawn = drawn[np.isfinite(drawn)]
        low, high = np.percentile(drawn, INTERVAL).tolist() if len(drawn) else (-np.inf, np.inf)
        ahead = float((np.sign(drawn).mean() + 1) / 2) if len(drawn) else 0.5
        result[name] = Difference(a, b, b - a, low, high, ahead)
    return result


def _change(
    person: int,
    truth: Truth,
    poses: list[PredictedPoses],
    fates: list[_Fates],
    source: ImageFiles | None,
) -> Change:
    table, tiles = truth.table, {}
    if source is not None:
        labels = table.keypoints[person].astype(np.float64)
        labels[:, 2] = labels[:, 2] > 0
        drawn = [labels]
        for predicted, fate in zip(poses, fates, strict=True):
            points = np.zeros_like(labels)
            if fate.pose[person] >= 0:
                points = np.concatenate(
                    [predicted.keypoints[fate.pose[person], :, :2], labels[:, 2:]], axis=1
                )
            drawn.append(points)
        image = source.read(table.image_name(person))
        tiles = dict(
            zip(("labeled", "a", "b"), person_tiles(image, table, person, *drawn), strict=True)
        )
    return Change(
        table.image_name(person),
        int(table.annotation_ids[person]),
        float(fates[0].oks[person]),
        float(fates[1].oks[person]),
        tiles,
    )
