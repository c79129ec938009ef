"""Results as files of the tools that measure movement: OpenPose, OpenSim, DeepLabCut, SLEAP, NWB.

Formats with a score for each keypoint (OpenPose, DeepLabCut, SLEAP, NWB) have all keypoints, and
their readers choose a threshold. In those without one (TRC) keypoints with a score below the
threshold of the record are missing. Pixels are as everywhere: the center of the upper left pixel is
(0, 0).
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from hrpose.data.formats import deeplabcut, nwb, opensim, sleap
from hrpose.errors import UserError, missing
from hrpose.io import fitted
from hrpose.predict.record import Record
from hrpose.skeleton import Skeleton

# Numbers of a clip that are in memory at once: 2 GB.
_MAX_VALUES = 500_000_000
# The longest stem of a file for each frame or person: a number and a suffix are added to it.
_LONGEST_STEM = 200
_OPENPOSE = 1.3
_NO_PERSON = -1
_UNNAMED = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """The persons in all t frames of a clip, as arrays.

    `ids` (n,) are the track ids, increasing. `times` (t,) are seconds. `keypoints` (t, n, k, 3) are
    x, y in pixels and the score, `scores` (t, n) those of the poses; NaN where a person is not in a
    frame. `source` is the clip as it was given, `rate` its mean frames per second, `size_wh` the
    size of its frames in pixels, and `threshold` the score of a present keypoint.
    """

    skeleton: Skeleton
    ids: NDArray[np.int64]
    times: NDArray[np.float64]
    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    source: str
    rate: float
    size_wh: tuple[int, int]
    threshold: float

    @classmethod
    def of(cls, record: Record) -> "Motion":
        """Of the record of a clip, which is read twice.

        Raises UserError for a record of images, and where the arrays were larger than the memory
        that they may take: ids of a long clip of a crowd.
        """
        header = record.header
        if header.kind != "clip":
            raise UserError(
                f"{record.path}: expected the frames of a clip, found images; save openpose, or "
                "predict the clip",
                code="clip-needed",
            )
        times, found = list[float](), set[int]()
        for entry in record:
            times.append(len(times) / (header.rate or 1) if entry.time is None else entry.time)
            found.update(int(person.get("track_id", 0)) for person in entry.persons)
        ids, k = sorted(found), len(header.skeleton)
        if len(times) * len(ids) * k * 3 > _MAX_VALUES:
            raise UserError(
                f"{record.path}: expected at most {_MAX_VALUES:,} numbers, found {len(times):,} "
                f"frames of {len(ids):,} persons; save openpose, or follow one person with "
                "--offline --person",
                code="clip-too-large",
            )
        keypoints = np.full((len(times), len(ids), k, 3), np.nan, np.float32)
        scores = np.full((len(times), len(ids)), np.nan, np.float32)
        column = {id: at for at, id in enumerate(ids)}
        for row, entry in enumerate(record):
            poses = entry.poses(header.skeleton)
            at = [column[int(person.get("track_id", 0))] for person in entry.persons]
            keypoints[row, at], scores[row, at] = poses.keypoints, poses.scores
        return cls(
            header.skeleton,
            np.array(ids, np.int64),
            np.array(times),
            keypoints,
            scores,
            header.source or record.path.stem,
            header.rate or 1.0,
            (header.width or 0, header.height or 0),
            header.threshold,
        )

    @property
    def individuals(self) -> list[str]:
        """The names of the persons: person1, mouse2 ..., by their ids."""
        word = _UNNAMED.sub("_", self.skeleton.category or self.skeleton.name).strip("_")
        return [f"{word or 'person'}{id}" for id in self.ids.tolist()]

    @property
    def present(self) -> NDArray[np.float32]:
        """(t, n, k, 2) the keypoints without scores, NaN where they are below the threshold."""
        absent = ~(self.keypoints[..., 2:] >= self.threshold)
        return np.where(absent, np.float32(np.nan), self.keypoints[..., :2])


def write_openpose(record: Record, folder: Path) -> None:
    """A file for each frame, STEM_000000000012_keypoints.json, or image, as OpenPose 1.7 has them.

    `pose_keypoints_2d` are x, y and score of the keypoints, in the order of the skeleton;
    `person_id` is the track id, or -1 for images.
    """
    stem, seen = fitted(record.path.stem, _LONGEST_STEM), Counter[str]()
    for entry in record:
        if entry.frame is None:
            name = re.sub(r"[/\\:]", "_", entry.file_name.rpartition(".")[0] or entry.file_name)
            name = fitted(name, _LONGEST_STEM)
            seen[name] += 1
            name = f"{name}_{entry.image_id}" if seen[name] > 1 else name
        else:
            name = f"{stem}_{entry.frame:012d}"
        people = [
            {
                "person_id": [person.get("track_id", _NO_PERSON)],
                "pose_keypoints_2d": person["keypoints"],
                **{f"{part}_keypoints_2d": [] for part in ("face", "hand_left", "hand_right")},
                **{
                    f"{part}_keypoints_3d": []
                    for part in ("pose", "face", "hand_left", "hand_right")
                },
            }
            for person in entry.persons
        ]
        text = json.dumps({"version": _OPENPOSE, "people": people})
        (folder / f"{name}_keypoints.json").write_text(text, "utf-8")


def write_trc(
    record: Record, folder: Path, height: float | None = None, known: str | None = None
) -> None:
    """A file for each person, STEM_px_person1.trc, or STEM_m_person1.trc with a scale.

    In pixels y points down, as in the image, which Sports2D expects; in meters it points up, as in
    OpenSim, from the lower left corner of the image. Z is 0. The scale is `hrpose.measurement`'s:
    `height` in meters of the largest person, or `known` points and their distance.
    """
    motion, stem = Motion.of(record), fitted(record.path.stem, _LONGEST_STEM)
    points, units = motion.present.astype(np.float64), "px"
    if (height is not None or known is not None) and len(motion.ids):
        bottom, scale = motion.size_wh[1] - 0.5, _scale(motion, str(record.path), height, known)
        points = np.stack([points[..., 0] + 0.5, bottom - points[..., 1]], -1) * scale
        units = "m"
    for person, name in enumerate(motion.individuals):
        path = folder / f"{stem}_{units}_{name}.trc"
        lines = opensim.trc(
            path.name,
            motion.skeleton.keypoints,
            motion.times,
            points[:, person],
            motion.rate,
            units,
        )
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)


def _scale(motion: Motion, where: str, height: float | None, known: str | None) -> float:
    """Meters of a pixel, as `hrpose measure` has it."""
    try:
        from hrpose.measurement.scale import Scale
    except ModuleNotFoundError as error:
        raise missing("trc in meters", error, "hrpose[measure]") from error
    if height is None:
        return Scale.of_points(known or "").meters_per_pixel
    sizes = np.nansum(np.ptp(motion.keypoints[..., 1], axis=2), axis=0)
    largest = motion.present[:, int(sizes.argmax())].astype(np.float64)
    return Scale.of_height(height, largest, motion.skeleton, where).meters_per_pixel


def write_mot(record: Record, folder: Path) -> None:
    """A file for each person, STEM_person1.mot: the angles and tilts of `hrpose measure`.

    In the frames in which the person is. Raises UserError for a record of images, and for a
    skeleton without angles.
    """
    from hrpose.measurement import measure_recordings
    from hrpose.measurement.definitions import default_measures
    from hrpose.measurement.recordings import read_results

    motion, stem = Motion.of(record), fitted(record.path.stem, _LONGEST_STEM)
    angles = [each.name for each in default_measures(motion.skeleton) if each.is_angle]
    if not angles:
        raise UserError(
            f"{record.path}: mot expected a skeleton with angles, found '{motion.skeleton.name}', "
            "in which no limbs meet; add limbs to it",
            code="skeleton-incomplete",
        )
    names = dict(zip(motion.ids.tolist(), motion.individuals, strict=True))
    measured = measure_recordings(
        read_results(record.path), only=angles, threshold=record.header.threshold
    )
    for series in measured.series:
        path = folder / f"{stem}_{names[series.track.person]}.mot"
        lines = opensim.mot(path.name, series.names, series.track.times, series.values)
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)


def write_dlc(record: Record, file: IO[bytes]) -> None:
    """The file that DeepLabCut has for an analyzed video, .h5."""
    motion = Motion.of(record)
    file.write(deeplabcut.h5(motion.skeleton.keypoints, *_of_deeplabcut(motion)))


def write_dlc_csv(record: Record, file: IO[bytes]) -> None:
    """The same as .csv."""
    motion = Motion.of(record)
    for line in deeplabcut.csv_lines(motion.skeleton.keypoints, *_of_deeplabcut(motion)):
        file.write(line.encode())


def _of_deeplabcut(motion: Motion) -> tuple[list[str], NDArray[np.float32]]:
    """Individuals and keypoints; a clip without persons has one who is in no frame."""
    if len(motion.ids):
        return motion.individuals, motion.keypoints
    shape = (len(motion.times), 1, len(motion.skeleton), 3)
    return ["person1"], np.full(shape, np.nan, np.float32)


def write_sleap(record: Record, file: IO[bytes]) -> None:
    """Predicted instances and their tracks, as SLEAP saves them."""
    motion = Motion.of(record)
    content = sleap.slp(
        motion.skeleton,
        motion.individuals,
        motion.keypoints,
        motion.scores,
        source=motion.source,
        size_wh=motion.size_wh,
    )
    file.write(content)


def write_nwb(record: Record, folder: Path) -> None:
    """A file for each person, STEM_person1.nwb, as NWB has one for each subject."""
    motion, stem = Motion.of(record), fitted(record.path.stem, _LONGEST_STEM)
    for person, name in enumerate(motion.individuals):
        nwb.write(
            folder / f"{stem}_{name}.nwb",
            name,
            motion.skeleton,
            motion.times,
            motion.keypoints[:, person],
            rate=motion.rate,
            source=motion.source,
            size_wh=motion.size_wh,
            model=record.header.weights or "",
        )
