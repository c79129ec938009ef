"""The metrics of PoseTrack18: AP, and MOTA, MOTP and IDF1 of tracks, keypoint by keypoint.

The rules are those of PoseTrack's own evaluation (Andriluka et al., CVPR 2018; its tool poseval):

- A keypoint is right within half the head's size, 0.6 times the diagonal of the labeled head box.
- Keypoints in a region to ignore do not count, labeled or predicted; nor do images where nobody is
  labeled.
- AP: each predicted pose belongs to the person of whom it has most keypoints right, and each person
  to the best of its poses. Then precision at each recall, by the scores of the keypoint.
- Tracks are compared as in CLEAR MOT (Bernardin and Stiefelhagen, 2008), clip by clip; as in
  poseval without the last image of a clip, and an image without any prediction counts as one missed
  and one invented keypoint. MOTP sums the distances of all pairs within reach, and again those of
  the chosen pairs, as poseval does: `MOTP of matches` is the usual one.

IDF1 (Ristani et al., 2016), which poseval does not have, is the mean over clips. All are percent.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import CocoAnnotations, CocoResults
from hrpose.data.formats.mpii import numbers
from hrpose.data.formats.pose_set import invalid
from hrpose.data.persons import group_by_image
from hrpose.data.rules import BROKEN, IMAGE_ID, as_number
from hrpose.metrics.coco import Poses, as_results

KEYPOINTS = (
    *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
    *("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
    *("head_bottom", "nose", "head_top"),
)
# The rows of PoseTrack's table; the total is the mean of all keypoints.
_ROWS = {
    "head": (14, 12, 13),
    "shoulder": (8, 9),
    "elbow": (7, 10),
    "wrist": (6, 11),
    "hip": (2, 3),
    "knee": (1, 4),
    "ankle": (0, 5),
}
HEAD_BIAS = 0.6
# A keypoint is right within this part of the head's size.
REACH = 0.5

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Persons:
    """n labeled or predicted persons of an image.

    `points` (n, 15, 2) are in the order of `KEYPOINTS`, `there` (n, 15) where there is one.
    `scores` (n, 15) are those of predictions, `heads` (n,) the sizes of labeled heads in pixels,
    `ids` (n,) those of tracks, -1 where there is none.
    """

    points: Floats
    there: Bools
    scores: Floats
    heads: Floats
    ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.points)

    def outside(self, polygons: Sequence[Floats]) -> "Persons":
        """Without the keypoints inside of polygons (m, 2), and persons who then have none."""
        if not polygons:
            return self
        there = self.there & ~np.any([inside(self.points, each) for each in polygons], axis=0)
        kept = there.any(axis=1)
        return Persons(
            self.points[kept], there[kept], self.scores[kept], self.heads[kept], self.ids[kept]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """An image of the clip `clip`, with its labeled (`truth`) and predicted (`found`) persons."""

    clip: Any
    truth: Persons
    found: Persons

    def distances(self) -> Floats:
        """(found, truth, 15) in head sizes; infinity where a keypoint is not in both."""
        across = self.found.points[:, None] - self.truth.points[None]
        both = self.found.there[:, None] & self.truth.there[None]
        with np.errstate(divide="ignore", invalid="ignore"):
            away = np.linalg.norm(across, axis=3) / self.truth.heads[:, None]
        return np.where(both, away, np.inf)

    def right(self) -> Bools:
        """(found, 15): which predicted keypoints are right, of the persons that poses belong to."""
        right = np.zeros((len(self.found), len(KEYPOINTS)), np.bool_)
        if not len(self.found) or not len(self.truth):
            return right
        match = self.distances() <= REACH
        share = match.sum(axis=2) / np.maximum(self.truth.there.sum(axis=1), 1)
        best = share.argmax(axis=1)
        own = np.zeros_like(share)
        rows = np.arange(len(best))
        own[rows, best] = share[rows, best]
        for person, pose in enumerate(own.argmax(axis=0).tolist()):
            if own[pose, person] > 0:
                right[pose] = match[pose, person]
        return right


@dataclass(frozen=True, slots=True)
class KeypointValues:
    """A measure of the 15 keypoints, percent, NaN where it is not defined; `total` is the mean of
    the others.
    """

    keypoints: Floats

    @property
    def total(self) -> float:
        defined = self.keypoints[~np.isnan(self.keypoints)]
        return float(defined.mean()) if len(defined) else float("nan")

    @property
    def rows(self) -> dict[str, float]:
        """The rows of PoseTrack's table."""
        return {name: float(self.keypoints[list(own)].mean()) for name, own in _ROWS.items()}


# By name: AP, and the AP precision and AP recall of all predictions. Where predictions have a
# `track_id`: MOTA, MOTP, MOTP of matches, precision and recall of tracks, IDF1.
Scores = dict[str, KeypointValues]


def table(scores: Scores) -> dict[str, float]:
    """The totals by name, and AP and MOTA of each row of PoseTrack's table."""
    measured: dict[str, float] = {}
    for name in ("AP", "MOTA", "MOTP", "precision", "recall", "IDF1"):
        if name in scores:
            measured[name] = scores[name].total
        if name in ("AP", "MOTA") and name in scores:
            rows = scores[name].rows
            measured |= {f"{name} {row}": value for row, value in rows.items()}
    return measured


def posetrack18(annotations: CocoAnnotations, results: Poses) -> Scores:
    """Compare results with the annotations that `hrpose data convert posetrack18` writes.

    Results are COCO's, with the keypoints of the annotations; a keypoint of 0, 0, 0 is absent. The
    score of a keypoint is its third number, or that of a list `scores`, and `track_id` is the same
    for one person through a clip. Raises UserError where the files do not have this form.
    """
    results = as_results(results)
    frames = read_frames(annotations, results)
    found = [frame.found for frame in frames]
    scores, there = (
        np.concatenate([np.zeros((0, len(KEYPOINTS)), kind), *parts])
        for kind, parts in (
            (np.float64, [each.scores for each in found]),
            (np.bool_, [each.there for each in found]),
        )
    )
    right = np.concatenate(
        [np.zeros((0, len(KEYPOINTS)), np.bool_), *(frame.right() for frame in frames)]
    )
    labeled = sum((f.truth.there.sum(axis=0) for f in frames), np.zeros(len(KEYPOINTS)))
    curves = [
        average_precision(scores[own, j], right[own, j], labeled[j])
        for j, own in enumerate(there.T)
    ]
    names = ("AP", "AP precision", "AP recall")
    measured = {
        name: KeypointValues(100 * column)
        for name, column in zip(names, np.array(curves).T, strict=True)
    }
    for path, persons in ((annotations.path, [f.truth for f in frames]), (results.path, found)):
        ids = np.concatenate([np.zeros(0, np.int64), *(each.ids for each in persons)])
        if len(ids) and (ids < 0).all():
            return measured
        if lacking := int((ids < 0).sum()):
            expected = f"a 'track_id' of all {len(ids)} poses, or of none"
            raise invalid(str(path), expected, f"{lacking} poses without")
    clips: dict[Any, list[Frame]] = {}
    for frame in frames:
        clips.setdefault(frame.clip, []).append(frame)
    tracked = [[track(keypoint_pairs(own[:-1], j)) for own in clips.values()] for j in range(15)]
    return measured | tracking_scores(tracked)


def read_frames(annotations: CocoAnnotations, results: Poses) -> list[Frame]:
    """The images with labeled persons, in their order, without what is to be ignored."""
    names = annotations.skeleton.keypoints
    if missing := [name for name in KEYPOINTS if name not in names]:
        raise annotations.error("'categories'", f"the keypoints {', '.join(KEYPOINTS)}", missing)
    rows = [names.index(name) for name in KEYPOINTS]
    ids = annotations.image_columns["image_ids"].tolist()
    labels, found = annotations.annotations, as_results(results)
    poses = found.poses(len(names)).columns
    keypoints = poses["keypoints"].reshape(-1, len(names), 3)
    if unknown := set(poses["image_ids"].tolist()) - set(ids):
        raise annotations.error("'images'", f"that of the results, {min(unknown)}", "none")
    of_label = _by_image([label["image_id"] for label in labels])
    of_pose = _by_image(poses["image_ids"].tolist())
    frames = []
    for image_id, image in zip(ids, annotations.images, strict=True):
        own = [labels[row] for row in of_label.get(image_id, ())]
        if not own:
            continue
        truth = _labeled(annotations, own, rows)
        chosen = [int(row) for row in of_pose.get(image_id, ())]
        predicted = _predicted(found, chosen, keypoints, rows)
        polygons = _polygons(annotations, image)
        frames.append(
            Frame(image.get("vid_id"), truth.outside(polygons), predicted.outside(polygons))
        )
    return frames


def average_precision(scores: Floats, right: Bools, labeled: float) -> tuple[float, float, float]:
    """(AP, precision, recall) of one keypoint's n predictions; the last two count all of them.

    As in poseval, they are 0 without a prediction, also where the keypoint is nowhere `labeled`;
    with some, AP and recall are then NaN.
    """
    if not len(scores):
        return 0.0, 0.0, 0.0
    # Equal scores in the order of NumPy's default sorting, as in poseval.
    hits = np.cumsum(right[scores.argsort()[::-1]])
    precision = hits / np.arange(1, len(hits) + 1)
    if not labeled:
        return float("nan"), float(precision[-1]), float("nan")
    recall = hits / labeled
    reached = np.concatenate([[0.0], recall, [1.0]])
    envelope = np.maximum.accumulate(np.concatenate([[0.0], precision, [0.0]])[::-1])[::-1]
    steps = np.flatnonzero(reached[1:] != reached[:-1]) + 1
    area = float(np.sum((reached[steps] - reached[steps - 1]) * envelope[steps]))
    return area, float(precision[-1]), float(recall[-1])


# Of one image: ids of labeled and of predicted tracks, and their distances, NaN where out of reach.
Pairs = tuple[Sequence[int], Sequence[int], Floats]


def keypoint_pairs(frames: Iterable[Frame], keypoint: int) -> list[Pairs]:
    """One keypoint of the persons in each image of a clip."""
    pairs: list[Pairs] = []
    for frame in frames:
        truth, found = frame.truth, frame.found
        if not len(truth) or not len(found):
            # poseval's rule: one missed, one invented.
            pairs.append(([-1], [-1], np.full((1, 1), np.nan)))
            continue
        away = frame.distances()[:, :, keypoint].T
        away = np.where(away <= REACH, away, np.nan)
        rows, columns = truth.there[:, keypoint], found.there[:, keypoint]
        pairs.append(
            (truth.ids[rows].tolist(), found.ids[columns].tolist(), away[rows][:, columns])
        )
    return pairs


@dataclass(slots=True)
class Tracked:
    """Counts of one keypoint in one clip: labeled (`objects`) and predicted ones, `misses`, false
    positives, changes of id (`switches`) and all `matches`, these included; the sums of distances
    of matches and of all pairs within reach; and those with the right id throughout (`idtp`).
    """

    objects: int = 0
    predictions: int = 0
    misses: int = 0
    false_positives: int = 0
    switches: int = 0
    matches: int = 0
    matched_distance: float = 0.0
    distance: float = 0.0
    idtp: int = 0
    # How often each pair of ids was within reach.
    together: dict[tuple[int, int], int] = field(default_factory=dict)


def track(frames: Iterable[Pairs]) -> Tracked:
    """Compare the tracks of a clip, as CLEAR MOT does: pairs of the images before stay together
    while they are within reach; the others are chosen for the least distance in all.
    """
    from scipy.optimize import linear_sum_assignment

    counts, partner = Tracked(), dict[int, int]()
    for truth, found, away in frames:
        reach = np.isfinite(away)
        counts.objects += len(truth)
        counts.predictions += len(found)
        counts.distance += float(away[reach].sum())
        for row, column in np.argwhere(reach).tolist():
            pair = truth[row], found[column]
            counts.together[pair] = counts.together.get(pair, 0) + 1
        free_rows, free_columns = np.ones(len(truth), np.bool_), np.ones(len(found), np.bool_)
        chosen: list[tuple[int, int]] = []
        for row, person in enumerate(truth):
            before = partner.get(person)
            same = [c for c, other in enumerate(found) if free_columns[c] and other == before]
            if same and reach[row, same[0]]:
                chosen.append((row, same[0]))
                free_rows[row] = free_columns[same[0]] = False
        left = reach & free_rows[:, None] & free_columns
        if left.any():
            # Any pair within reach is better than none, however far.
            most = np.abs(away[left]).max() + 1
            cost = np.where(left, away, 2 * min(left.shape) * most + 1)
            for row, column in zip(*linear_sum_assignment(cost), strict=True):
                if left[row, column]:
                    person, other = truth[row], found[column]
                    counts.switches += partner.get(person, other) != other
                    partner[person] = other
                    chosen.append((int(row), int(column)))
        counts.matches += len(chosen)
        counts.misses += len(truth) - len(chosen)
        counts.false_positives += len(found) - len(chosen)
        counts.matched_distance += float(sum(away[pair] for pair in chosen))
    counts.idtp = _most_together(counts.together)
    return counts


def _most_together(together: Mapping[tuple[int, int], int]) -> int:
    """The most keypoints with the right id, where each labeled track is one predicted track."""
    from scipy.optimize import linear_sum_assignment

    if not together:
        return 0
    truth, found = (sorted({pair[side] for pair in together}) for side in (0, 1))
    table = np.zeros((len(truth), len(found)))
    for (person, other), count in together.items():
        table[truth.index(person), found.index(other)] = count
    return int(table[linear_sum_assignment(table, maximize=True)].sum())


def tracking_scores(keypoints: Sequence[Sequence[Tracked]]) -> Scores:
    """The scores of tracks, by the counts of each keypoint in each clip."""

    def sums(name: str) -> Floats:
        return np.array([sum(getattr(clip, name) for clip in clips) for clips in keypoints], float)

    objects, matches, false_positives = (
        sums(name) for name in ("objects", "matches", "false_positives")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        objects[objects == 0] = np.nan
        errors = sums("misses") + sums("switches") + false_positives
        mean = sums("matched_distance") / matches
        idf1 = [
            np.mean([np.float64(2 * c.idtp) / (c.objects + c.predictions) for c in clips])
            for clips in keypoints
        ]
        apart = (sums("distance") + sums("matched_distance")) / matches
        scores = {
            "MOTA": 1 - errors / objects,
            "MOTP": np.where(matches > 0, 1 - apart, 0),
            "MOTP of matches": np.where(matches > 0, 1 - mean, 0),
            "precision": matches / (matches + false_positives),
            "recall": matches / objects,
            "IDF1": np.array(idf1),
        }
    return {name: KeypointValues(100 * each) for name, each in scores.items()}


def inside(points: Floats, polygon: Floats) -> Bools:
    """(...) whether points (..., 2) are inside of a polygon (m, 2), and not on its border."""
    x, y = points[..., 0, None], points[..., 1, None]
    (x1, y1), (x2, y2) = polygon.T, np.roll(polygon, -1, axis=0).T
    side = (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)
    within = (np.minimum(x1, x2) <= x) & (x <= np.maximum(x1, x2))
    within &= (np.minimum(y1, y2) <= y) & (y <= np.maximum(y1, y2))
    border = ((side == 0) & within).any(axis=-1)
    # A ray to the right crosses an edge that spans its height and is on its right.
    crosses = ((y1 > y) != (y2 > y)) & ((side > 0) == (y2 > y1))
    odd: Bools = (crosses.sum(axis=-1) % 2 == 1) & ~border
    return odd


def _by_image(image_ids: Sequence[int]) -> dict[int, NDArray[np.intp]]:
    return group_by_image(np.asarray(image_ids, np.int64))


def _labeled(annotations: CocoAnnotations, entries: list[Any], rows: list[int]) -> Persons:
    nothing = [0] * (3 * len(annotations.skeleton))
    given = [entry.get("keypoints") or nothing for entry in entries]
    keypoints = np.array(given, np.float64).reshape(len(entries), -1, 3)[:, rows]
    heads = []
    for entry in entries:
        where = f"{annotations.path}: annotation {entry['id']}"
        x, y, width, height = numbers(where, entry, "bbox_head", (4,)).tolist()
        # poseval has the corners.
        heads.append(HEAD_BIAS * np.linalg.norm([x + width - x, y + height - y]))
    there = (keypoints != 0).any(axis=2)
    none = np.zeros(there.shape)
    return Persons(
        keypoints[..., :2], there, none, np.array(heads), _ids(annotations.path, entries)
    )


def _predicted(
    found: CocoResults, chosen: list[int], keypoints: Floats, rows: list[int]
) -> Persons:
    entries = [found.entries[row] for row in chosen]
    keypoints = keypoints[chosen]
    points, there = keypoints[:, rows, :2], (keypoints[:, rows] != 0).any(axis=2)
    scores = keypoints[:, rows, 2].copy()
    for row, entry in enumerate(entries):
        if "scores" in entry:
            where = f"{found.path}: result {chosen[row]}"
            scores[row] = numbers(where, entry, "scores", keypoints.shape[1:2])[rows]
    return Persons(points, there, scores, np.zeros(len(entries)), _ids(found.path, entries))


def _ids(path: Path, entries: list[Any]) -> NDArray[np.int64]:
    """The tracks, -1 where there is none: without `track_id`, or with null or -1."""
    ids = []
    for entry in entries:
        given = entry.get("track_id")
        try:
            ids.append(-1 if given is None else max(IMAGE_ID.read(as_number(given)), -1))
        except BROKEN as error:
            where = f"{path}: pose of image {entry['image_id']}: 'track_id'"
            raise invalid(where, "a whole number", repr(given)) from error
    return np.array(ids, np.int64)


def _polygons(annotations: CocoAnnotations, image: Mapping[str, Any]) -> list[Floats]:
    """The regions of an image to ignore."""
    x, y = (image.get(f"ignore_regions_{axis}") or [] for axis in "xy")
    where = f"{annotations.path}: image {image.get('id')}: region to ignore"
    lists = isinstance(x, list) and isinstance(y, list) and all(isinstance(s, list) for s in x + y)
    if not lists or len(x) != len(y):
        raise invalid(where, "as many lists of x as of y", [x, y])
    polygons = []
    for pair in zip(x, y, strict=True):
        own = dict(zip("xy", pair, strict=True))
        sides = [numbers(where, own, axis, (len(own["x"]),)) for axis in "xy"]
        if len(own["x"]) >= 3:
            polygons.append(np.stack(sides, axis=1))
    return polygons
