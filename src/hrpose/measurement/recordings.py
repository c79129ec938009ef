"""Recordings: the poses in images and clips, estimated here or read from results of hrpose."""

from __future__ import annotations  # so that help() shows the names of types, not their contents

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError, missing
from hrpose.io import read_json
from hrpose.poses import Poses
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17, SHIPPED
from hrpose.tables import Row, read_table

if TYPE_CHECKING:
    from hrpose.estimator import PoseEstimator
    from hrpose.predict.inputs import ClipInput, ImageInput, Inputs

# What hrpose wrote: results, and not images.
RESULTS = (".json", ".jsonl", ".csv", ".parquet")
# The images that the page shows of a clip, and their longest side in pixels.
_MOST_IMAGES, _SIDE = 160, 560
# No keypoint is farther from the image's corner, in pixels.
_FARTHEST = 1_000_000

# Called with how much is done, of how much or None, and what it is.
Progress = Callable[[int, int | None, str], object]


@dataclass(eq=False)
class Recording:
    """The poses in an image or a clip.

    `shots` are the frame, the time in seconds (0 for an image) and the poses of each image; frames
    without persons may lack. `images` are a few of the clip's frames, or the image, reduced, by
    their frame. `image_wh` is None where results do not say it. `origin` is the file that the user
    named. `complete` is false where the record was cut off.
    """

    name: str
    origin: str
    skeleton: Skeleton
    is_clip: bool
    shots: list[tuple[int, float, Poses]]
    image_wh: tuple[int, int] | None = None
    images: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    complete: bool = True

    @property
    def rate(self) -> float | None:
        """The median number of frames per second; None for an image or a single frame."""
        frames = np.array([shot[0] for shot in self.shots])
        times = np.array([shot[1] for shot in self.shots])
        if not self.is_clip or len(frames) < 2:
            return None
        return float(1 / np.median(np.diff(times) / np.diff(frames)))

    @property
    def has_covariance(self) -> bool:
        """Whether intervals can be computed."""
        return any(len(poses) and poses.covariance is not None for _, _, poses in self.shots)


def recordings_of(
    sources: Sequence[str],
    open_estimator: Callable[[Inputs], PoseEstimator],
    *,
    skeleton: str | None = None,
    recursive: bool = False,
    offline: bool = True,
    progress: Progress = lambda done, total, what: None,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[list[Recording], list[UserError]]:
    """The poses in sources, read from results or estimated, and an error for each that failed.

    `open_estimator` is called where there are images or clips; its poses should have covariances.
    `skeleton` names that of COCO JSON. The whole clip is taken into account with `offline`, as by
    `hrpose.video.follow_offline`. Raises UserError for results that cannot be read.
    """
    from hrpose.predict.inputs import find_inputs

    known = None
    if skeleton is not None:
        from hrpose.data.skeleton_file import find_skeleton

        known = find_skeleton(skeleton)
    sources = [*dict.fromkeys(sources)]
    results = [source for source in sources if Path(source).suffix.lower() in RESULTS]
    found = [each for source in results for each in read_results(Path(source), known)]
    others = [source for source in sources if source not in results]
    if not others:
        return _apart(found), []
    inputs = find_inputs(others, recursive=recursive)
    failures, estimator = list(inputs.problems), open_estimator(inputs)
    for done, image in enumerate(_of_images(estimator, inputs.images), start=1):
        if isinstance(image, UserError):
            failures.append(image)
        else:
            found.append(image)
            progress(done, len(inputs.images), image.name)
        if stopped():
            break
    for clip in inputs.clips:
        try:
            if not stopped():
                found.append(_of_clip(estimator, clip, offline, progress, stopped))
        except ModuleNotFoundError as error:
            raise missing(str(clip), error, "hrpose[video]") from error
        except UserError as error:
            failures.append(error)
    return _apart(found), failures


def _apart(recordings: Sequence[Recording]) -> list[Recording]:
    """Those of one name are told apart by the file that the user named."""
    times = Counter(each.name for each in recordings)
    for each in recordings:
        if times[each.name] > 1:
            own = Path(each.origin).name == each.name
            each.name = each.origin if own else f"{each.origin}: {each.name}"
    return [*recordings]


def _of_images(
    estimator: PoseEstimator, images: Sequence[ImageInput]
) -> Iterator[Recording | UserError]:
    from hrpose.predict.inputs import Failure, names, predict_images

    of = names(images)
    for found in predict_images(estimator, images):
        if isinstance(found, Failure):
            yield found.error
            continue
        image, name = found.image, of[found.source]
        shown = {0: _reduced(image.pixels)}
        shots = [(0, 0.0, found.poses)]
        skeleton = found.poses.skeleton
        yield Recording(name, str(found.source), skeleton, False, shots, image.image_wh, shown)


def _of_clip(
    estimator: PoseEstimator,
    source: ClipInput,
    offline: bool,
    progress: Progress,
    stopped: Callable[[], bool],
) -> Recording:
    """The poses in a clip, after the offline pass or as they are in each frame."""
    from hrpose.video import Clip, follow, follow_offline

    images = _Images()
    with Clip.open(source.source, stopped=stopped) as clip:

        def running(what: str, done: int) -> bool:
            progress(done, clip.frame_count, f"{source}: {what}")
            return not stopped()

        if offline and not clip.live:
            followed = follow_offline(estimator, clip, progress=running)
        else:
            followed = follow(estimator, clip, smooth=False)
        name = Path(str(source.source)).name
        found = Recording(name, str(source), estimator.skeleton, True, [])
        for frame, poses in followed:
            found.shots.append((frame.index, frame.time, replace(poses, source=None)))
            found.image_wh = (frame.image.shape[1], frame.image.shape[0])
            images.add(frame.index, frame.image)
            if not running("poses", frame.index + 1):
                break
    found.images = images.found
    return found


class _Images:
    """Some of a clip's frames, evenly spread, reduced."""

    def __init__(self) -> None:
        self.found: dict[int, NDArray[np.uint8]] = {}
        self._every = 1

    def add(self, frame: int, image: NDArray[np.uint8]) -> None:
        if frame % self._every:
            return
        self.found[frame] = _reduced(image)
        if len(self.found) > _MOST_IMAGES:
            self._every *= 2
            self.found = {at: kept for at, kept in self.found.items() if at % self._every == 0}


def _reduced(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    factor = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def read_results(path: Path, skeleton: Skeleton | None = None) -> list[Recording]:
    """The recordings in a file of results that hrpose wrote: a record, COCO JSON, CSV, Parquet.

    `skeleton` is that of COCO JSON, which does not name it: by default that of the record beside
    the file, or the shipped one with as many keypoints. Raises UserError for another file.
    """
    if path.suffix == ".jsonl":
        return _of_record(path)
    try:
        if path.suffix == ".json":
            return _of_coco(path, skeleton)
        return _of_table(path)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise _foreign(path, f"{type(error).__name__}: {error}") from error


def _foreign(path: Path, found: str) -> UserError:
    return UserError(
        f"{path}: expected results that hrpose wrote (poses.jsonl, poses.json, poses.csv), found "
        f"{found[:200]}",
        code="results-invalid",
    )


def _of_record(path: Path) -> list[Recording]:
    from hrpose.predict.record import Record

    record = Record(path)
    header = record.header
    found: dict[str, Recording] = {}
    for entry in record:
        if entry.status == "failed":
            continue
        is_clip = entry.frame is not None
        recording = found.setdefault(
            entry.file_name, Recording(entry.file_name, str(path), header.skeleton, is_clip, [])
        )
        if entry.width is not None and entry.height is not None:
            recording.image_wh = (entry.width, entry.height)
        try:
            poses = entry.poses(header.skeleton)
        except ValueError as error:
            raise _foreign(path, f"{entry.file_name}, frame {entry.frame}: {error}") from error
        recording.shots.append((entry.frame or 0, entry.time or 0.0, poses))
    for recording in found.values():
        recording.complete = record.end is not None
    return [_in_order(recording) for recording in found.values()]


def _of_coco(path: Path, skeleton: Skeleton | None) -> list[Recording]:
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise _foreign(path, "no list of objects")
    if not entries:
        return []
    k = len(entries[0]["keypoints"]) // 3
    skeleton = skeleton or _skeleton_beside(path, k)
    shots: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for number, entry in enumerate(entries):
        if len(entry["keypoints"]) != 3 * len(skeleton):
            raise UserError(
                f"{path}: entry {number}: expected the {len(skeleton)} keypoints of "
                f"{skeleton.name}, found {len(entry['keypoints']) // 3}; give --skeleton",
                code="skeleton-differs",
            )
        name = str(entry.get("file_name", entry["image_id"]))
        shots.setdefault((name, int(entry.get("frame") or 0)), []).append(entry)
    found: dict[str, Recording] = {}
    for (name, frame), persons in shots.items():
        is_clip = persons[0].get("frame") is not None
        recording = found.setdefault(name, Recording(name, str(path), skeleton, is_clip, []))
        time = float(persons[0]["time"]) if is_clip else 0.0
        recording.shots.append((frame, time, Poses.from_coco(persons, skeleton)))
    return [_in_order(recording) for recording in found.values()]


def _skeleton_beside(path: Path, k: int) -> Skeleton:
    """The skeleton of the record of the same name, or a shipped one with k keypoints."""
    from hrpose.predict.record import Record

    record = path.with_suffix(".jsonl")
    if record.is_file() and len(found := Record(record).header.skeleton) == k:
        return found
    if k == len(COCO_17):
        return COCO_17
    fitting = [shipped for shipped in SHIPPED.values() if len(shipped) == k]
    if len(fitting) == 1:
        return fitting[0]
    names = " or ".join(shipped.name for shipped in fitting) or "none"
    raise UserError(
        f"{path}: expected a known skeleton, found {k} keypoints ({names} of the shipped "
        f"skeletons); give --skeleton, or {record.name} beside it",
        code="skeleton-unknown",
    )


def _of_table(path: Path) -> list[Recording]:
    persons: dict[tuple[str, int | None], dict[int, list[Row]]] = {}
    times: dict[tuple[str, int | None], float | None] = {}
    names: dict[str, None] = {}
    for row in read_table(path):
        image = row.file, row.frame
        times[image] = row.time
        own = persons.setdefault(image, {})
        if row.keypoint is not None:
            names[row.keypoint] = None
            own.setdefault(row.person or 0, []).append(row)
    skeleton = _named(tuple(names))
    index = {name: i for i, name in enumerate(skeleton.keypoints)}
    found: dict[str, Recording] = {}
    for (file, frame), people in persons.items():
        recording = found.setdefault(
            file, Recording(file, str(path), skeleton, frame is not None, [])
        )
        time = times[file, frame]
        if recording.is_clip and time is None:
            raise _foreign(path, f"no time of frame {frame} of {file}")
        poses = _poses_of_rows([*people.values()], skeleton, index)
        recording.shots.append((frame or 0, time or 0.0, poses))
    return [_in_order(recording) for recording in found.values()]


def _poses_of_rows(
    people: Sequence[Sequence[Row]], skeleton: Skeleton, index: Mapping[str, int]
) -> Poses:
    n, k = len(people), len(skeleton)
    keypoints, spread = np.zeros((n, k, 3), np.float32), np.full((n, k, 3), np.nan, np.float32)
    filled = np.zeros((n, k), np.bool_)
    for person, own in enumerate(people):
        for row in own:
            at = index[str(row.keypoint)]
            keypoints[person, at] = row.x, row.y, row.score
            filled[person, at] = bool(row.filled)
            spread[person, at] = row.var_x, row.cov_xy, row.var_y  # None is NaN
    ids = [own[0].track_id for own in people]
    known = [id for id in ids if id is not None]
    return Poses(
        keypoints,
        np.zeros((n, 4), np.float32),
        np.ones(n, np.float32),
        skeleton,
        np.array(known, np.int64) if n and len(known) == n else None,
        filled,
        covariance=None if np.isnan(spread).any() or not n else spread[..., [[0, 1], [1, 2]]],
    )


def _named(names: tuple[str, ...]) -> Skeleton:
    """The shipped skeleton with these keypoints, or one without limbs."""
    for shipped in SHIPPED.values():
        if shipped.keypoints == names:
            return shipped
    return Skeleton("table", names or ("none",))


def _in_order(recording: Recording) -> Recording:
    """By frame. Raises UserError where times do not grow, and for impossible numbers."""
    recording.shots.sort(key=lambda shot: shot[0])
    for frame, _, poses in recording.shots:
        _check_numbers(f"{recording.origin}: {recording.name}: frame {frame}", poses)
    times = [time for _, time, _ in recording.shots]
    frames = [frame for frame, _, _ in recording.shots]
    for at in range(1, len(times)) if recording.is_clip else ():
        if not (times[at] > times[at - 1] and frames[at] > frames[at - 1]):
            raise UserError(
                f"{recording.origin}: {recording.name}: expected a time above {times[at - 1]:g} s "
                f"at frame {frames[at]}, found {times[at]:g} s",
                code="results-invalid",
            )
    return recording


def _check_numbers(where: str, poses: Poses) -> None:
    """Raises UserError for places and covariances that no image has; NaN is a missing one."""
    if (np.abs(poses.keypoints) > _FARTHEST).any():
        raise UserError(
            f"{where}: expected keypoints within {_FARTHEST:,} pixels, found "
            f"{np.nanmax(np.abs(poses.keypoints)):g}",
            code="results-invalid",
        )
    if poses.covariance is None:
        return
    spread = poses.covariance.astype(np.float64)
    a, b, c = spread[..., 0, 0], spread[..., 0, 1], spread[..., 1, 1]
    # Tables have rounded numbers, so that a narrow ellipse may be a little narrower than none.
    wrong = (a < 0) | (c < 0) | (b**2 > 1.01 * a * c + 1e-3) | (np.maximum(a, c) > _FARTHEST**2)
    if wrong.any():
        person, k = (int(at[0]) for at in np.nonzero(wrong))
        raise UserError(
            f"{where}: expected covariances of keypoints, found {a[person, k]:g}, "
            f"{b[person, k]:g}, {c[person, k]:g} for {poses.skeleton.keypoints[k]}",
            code="results-invalid",
        )
