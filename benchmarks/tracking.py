"""Tracking in clips of persons at known places.

    python -m benchmarks.tracking [val.json images] [--weights w16-small] [--held-out]

Without arguments the persons are synthetic; with them they are cut out of the images of a COCO
file. Three measurements: the place of one person at 0.5 to 6 body heights/s and 1 to 30 frames/s;
ids after a person was covered; MOTA, IDF1 and HOTA, ours beside supervision's ByteTrack with the
boxes that ours was given. The last needs `pip install trackeval supervision==0.30.0`; trackeval
installs OpenCV with windows, so give it an environment of its own, or `--no-deps`.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.moving_persons import (
    HEIGHT,
    HELD_OUT,
    Actor,
    Covers,
    Scene,
    Seen,
    labeled_actors,
    motions,
    occlusions,
    stories,
    synthetic_actors,
)
from benchmarks.rows import Fact
from hrpose.api import load
from hrpose.estimator import InputImage, PoseEstimator
from hrpose.geometry import Boxes, iou
from hrpose.poses import Poses
from hrpose.video import Tracker, follow

# The trunk is right within this part of the body height.
MAX_ERROR = 0.12
# A person of whom less is visible need not be found, and may.
MIN_VISIBLE = 0.5
TRUNK = [5, 6, 11, 12]
ACTORS = 4
# Frames per second of the clips with several persons.
RATES = (2, 5, 10, 25)
# Of the clips that are held out.
HELD_OUT_SEED, HELD_OUT_PACE = 11, 1.2

Results = list[tuple[list[Seen], Poses]]


class Counting:
    """A detector that counts its runs, and remembers the boxes of the last one."""

    def __init__(self, detector: Any) -> None:
        self.detector, self.name, self.runs = detector, detector.name, 0
        self.input_wh = getattr(detector, "input_wh", None)

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        self.runs += 1
        found: Boxes = self.detector(image)
        return found


def results(estimator: PoseEstimator, scene: Scene, **options: Any) -> Results:
    """The truth and the poses of each frame."""
    found = [poses for _, poses in follow(estimator, scene, smooth=False, **options)]
    return list(zip(scene.truth, found, strict=True))


def trunk(keypoints: NDArray[Any]) -> NDArray[np.float64]:
    """The center of shoulders and hips."""
    center: NDArray[np.float64] = keypoints[..., TRUNK, :2].astype(np.float64).mean(axis=-2)
    return center


@dataclass
class Grid:
    """Of the frames of one person: all, those with the trunk in its place, and ids."""

    frames: int = 0
    right: int = 0
    clips: int = 0
    one_id: int = 0
    seconds: float = 0.0
    runs: int = 0

    def add(self, pairs: Results, runs: int, seconds: float) -> None:
        ids: set[int] = set()
        for (truth,), poses in pairs:
            self.frames += 1
            if len(poses):
                off = np.linalg.norm(trunk(poses.keypoints) - trunk(truth.keypoints), axis=1)
                self.right += bool(off.min() <= MAX_ERROR * HEIGHT)
            ids |= set(poses.track_ids.tolist())  # type: ignore[union-attr]
        self.clips, self.one_id = self.clips + 1, self.one_id + (len(ids) == 1)
        self.runs, self.seconds = self.runs + runs, self.seconds + seconds

    def __str__(self) -> str:
        return (
            f"{self.right / self.frames:.1%} of {self.frames} frames, one id in {self.one_id} of "
            f"{self.clips} clips, {self.runs / self.seconds:.1f} detector runs/s"
        )


def measure_motion(
    estimator: PoseEstimator, actors: list[Actor], **options: Any
) -> dict[tuple[float, float], Grid]:
    """By speed and rate."""
    grids: dict[tuple[float, float], Grid] = {}
    counting = estimator.detector = Counting(estimator.detector)
    for actor in actors:
        for speed, rate, scene in motions(actor):
            counting.runs = 0
            pairs = results(estimator, scene, **options)
            grid = grids.setdefault((speed, rate), Grid())
            grid.add(pairs, counting.runs, scene.count / rate)
    estimator.detector = counting.detector
    return grids


def measure_occlusion(
    estimator: PoseEstimator, actors: list[Actor], covers: Covers | None = None, **options: Any
) -> dict[str, bool]:
    """Whether every person kept one id, and nobody else was found, in each scene."""
    kept = {}
    for count, scene in occlusions(actors, covers):
        pairs = results(estimator, scene, **options)
        ids = [set(poses.track_ids.tolist()) for _, poses in pairs]  # type: ignore[union-attr]
        first, last = ids[5], ids[-1]
        kept[scene.name] = len(set().union(*ids)) == count and len(last) == count and first <= last
    return kept


@dataclass
class Scores:
    """What trackeval needs of one clip, and its metrics."""

    truth_ids: list[NDArray[np.int64]] = field(default_factory=list)
    ids: list[NDArray[np.int64]] = field(default_factory=list)
    alike: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, truth: list[Seen], ids: NDArray[np.int64], boxes: NDArray[np.float64]) -> None:
        """One frame. Hypotheses for persons who are hardly visible do not count."""
        seen = [person for person in truth if person.visible >= MIN_VISIBLE]
        hidden = [person.box for person in truth if person.visible < MIN_VISIBLE]
        alike = iou(np.array([person.box for person in seen]).reshape(-1, 4), boxes)
        if hidden and len(boxes):
            free = (alike < 0.5).all(axis=0)
            excused = free & (iou(np.array(hidden), boxes) >= 0.4).any(axis=0)
            ids, alike = ids[~excused], alike[:, ~excused]
        self.truth_ids.append(np.array([person.number for person in seen], np.int64))
        self.ids.append(ids)
        self.alike.append(alike)

    def metrics(self) -> dict[str, float]:
        """MOTA, IDF1 and HOTA in [0, 1] (MOTA may be below), and the number of id switches."""
        import trackeval  # type: ignore[import-not-found, unused-ignore]

        names = [np.unique(np.concatenate(each)) for each in (self.truth_ids, self.ids)]
        data = {
            "gt_ids": [np.searchsorted(names[0], ids) for ids in self.truth_ids],
            "tracker_ids": [np.searchsorted(names[1], ids) for ids in self.ids],
            "similarity_scores": self.alike,
            "num_gt_ids": len(names[0]),
            "num_tracker_ids": len(names[1]),
            "num_gt_dets": sum(map(len, self.truth_ids)),
            "num_tracker_dets": sum(map(len, self.ids)),
            "num_timesteps": len(self.ids),
        }
        quiet = {"PRINT_CONFIG": False}
        clear = trackeval.metrics.CLEAR(quiet).eval_sequence(data)
        identity = trackeval.metrics.Identity(quiet).eval_sequence(data)
        hota = trackeval.metrics.HOTA().eval_sequence(data)
        return {
            "MOTA": float(clear["MOTA"]),
            "IDF1": float(identity["IDF1"]),
            "HOTA": float(np.mean(hota["HOTA"])),
            "switches": float(clear["IDSW"]),
        }


def byte_track(rate: float) -> Callable[[InputImage], tuple[Any, Any]]:
    """supervision's, at its defaults; `update` returns ids and boxes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import supervision  # type: ignore[import-not-found, unused-ignore]

        tracker = supervision.ByteTrack(frame_rate=max(1, round(rate)))

    def update(image: InputImage) -> tuple[Any, Any]:
        xyxy = np.concatenate([image.boxes[:, :2], image.boxes[:, :2] + image.boxes[:, 2:]], axis=1)
        given = supervision.Detections(
            xyxy=xyxy, confidence=image.box_scores, class_id=np.zeros(len(xyxy), int)
        )
        tracked = tracker.update_with_detections(given)
        boxes = np.asarray(tracked.xyxy, np.float64).reshape(-1, 4)
        boxes[:, 2:] -= boxes[:, :2]
        return np.asarray(tracked.tracker_id, np.int64).reshape(-1), boxes

    return update


def measure_stories(
    estimator: PoseEstimator, actors: list[Actor], pace: float = 1.0, **options: Any
) -> dict[tuple[str, float], dict[str, float]]:
    """Mean metrics by tracker and rate."""
    table: dict[tuple[str, float], list[dict[str, float]]] = {}
    for rate in RATES:
        for scene in stories(actors, rate, pace):
            scores = {name: Scores() for name in ("follow", "Tracker", "ByteTrack")}
            for truth, poses in results(estimator, scene, **options):
                scores["follow"].add(truth, poses.track_ids, poses.boxes.astype(np.float64))  # type: ignore[arg-type]
            tracker, theirs = Tracker(), byte_track(rate)
            numbers: list[tuple[list[Seen], NDArray[np.int64], NDArray[np.float64]]] = []
            for frame in scene:
                image = estimator.image(frame.image)
                ((_, poses),) = estimator.stream([image])
                numbers.append(
                    (scene.truth[-1], tracker.update(poses, frame.time),
                     poses.boxes.astype(np.float64))
                )  # fmt: skip
                scores["ByteTrack"].add(scene.truth[-1], *theirs(image))
            for truth, ids, boxes in numbers:
                known = np.array([tracker.id_of(number) or 0 for number in ids.tolist()], np.int64)
                scores["Tracker"].add(truth, known[known > 0], boxes[known > 0])
            for name, each in scores.items():
                table.setdefault((name, rate), []).append(each.metrics())
    return {
        key: {name: sum(each[name] for each in found) / len(found) for name in found[0]}
        for key, found in table.items()
    }


def rows(
    actors: list[Actor] | None = None, weights: str = "w16-small", *, held_out: bool = False
) -> Iterator[Fact]:
    """All measurements; with `held_out`, on clips with which nothing was tuned."""
    estimator = load(weights)
    actors = actors or synthetic_actors(estimator, ACTORS, HELD_OUT_SEED if held_out else 0)
    grids = measure_motion(estimator, actors[:2])
    for rate in sorted({rate for _, rate in grids}):
        parts = [grid for (_, each), grid in grids.items() if each == rate]
        total = Grid(*(sum(getattr(p, name) for p in parts) for name in Grid.__annotations__))
        yield Fact(f"trunk within 12 % of the body height at {rate} frames/s, 0.5 to 6 heights/s",
                   str(total), "98 %; one id at 2 frames/s and above")  # fmt: skip
    covers, pace = (HELD_OUT, HELD_OUT_PACE) if held_out else (Covers(), 1.0)
    kept: list[tuple[str, bool]] = []
    for number in range(min(len(actors), 2)):
        turned = actors[number:] + actors[:number]
        kept += measure_occlusion(estimator, turned, covers).items()
    lost = [name for name, right in kept if not right]
    yield Fact("occlusions that lose an id", f"{len(lost)} of {len(kept)} ({', '.join(lost)})",
               "2 of 22")  # fmt: skip
    for (name, rate), metrics in measure_stories(estimator, actors, pace).items():
        yield Fact(
            f"{name} at {rate} frames/s",
            f"MOTA {metrics['MOTA']:.3f}, IDF1 {metrics['IDF1']:.3f}, HOTA {metrics['HOTA']:.3f}, "
            f"{metrics['switches']:.1f} id switches a clip",
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("annotations", type=Path, nargs="?")
    parser.add_argument("images", type=Path, nargs="?")
    parser.add_argument("--weights", default="w16-small")
    parser.add_argument("--held-out", action="store_true", help="clips not used for tuning")
    options = parser.parse_args()
    actors = None
    if options.annotations is not None:
        actors = labeled_actors(load(options.weights), options.annotations, options.images, ACTORS)
    for fact in rows(actors, options.weights, held_out=options.held_out):
        print(f"| {fact.what} | {fact.value} | {fact.wanted} |", flush=True)


if __name__ == "__main__":
    main()
