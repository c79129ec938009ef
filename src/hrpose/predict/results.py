"""Results as files: COCO results, tables, a data set, drawn images and clips."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.dataset_folder import ANNOTATIONS, IMAGES, check_replaceable
from hrpose.errors import UserError
from hrpose.estimator import PoseEstimator
from hrpose.image import encode, exif_orientation
from hrpose.io import fitted, locked, name_to_text, printable, write_atomically
from hrpose.poses import Poses
from hrpose.predict import FORMATS, NEEDING, check_formats
from hrpose.predict.inputs import (
    ClipInput,
    Failure,
    ImageInput,
    Inputs,
    Prediction,
    drawn_images,
    flat_names,
    names,
)
from hrpose.predict.record import Background, Entry, Header, RecordWriter, write_files
from hrpose.tables import FAILED
from hrpose.viz import Hider, draw, side_by_side

if TYPE_CHECKING:
    from hrpose.video import Clip, Frame

# Annotation tools show these; images of other formats are converted to PNG.
_COPIED = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
# The longest stem of results: the longest suffix, and the numbers of frames, are added to it.
_LONGEST_STEM = 240


@dataclass(frozen=True, slots=True)
class Saving:
    """The results to write into `folder`.

    `kinds` are some of images (drawn images and clips), dataset and those of `FORMATS`. Keypoints
    with a score below `threshold` are absent. `marks` are drawn with the skeletons: some of boxes,
    ids, scores and names, the options of `hrpose.draw`, as are `color` and `hide`. Results that
    are there already are replaced only with `overwrite`.
    """

    folder: Path
    kinds: frozenset[str]
    threshold: float
    marks: frozenset[str] = frozenset()
    overwrite: bool = False
    color: str = "side"
    hide: str | None = None

    def check(self, inputs: Inputs, *, others: Iterable[Path] = ()) -> None:
        """Raise UserError where a result would replace an input, one of the `others`, or results.

        Also where a package is missing. Nothing is changed.
        """
        if self.kinds & NEEDING:
            check_formats(self.kinds, clip=not inputs.images, where="--save")
        there = [path for path in self.files(inputs) if os.path.lexists(path)]
        sources = [image.source for image in inputs.images] + [clip.source for clip in inputs.clips]
        files = (file for file in (*sources, *others) if isinstance(file, Path))
        read = {file.resolve() for file in files} if there else set()
        for path in there:
            if path.resolve() in read:
                raise UserError(
                    f"{path}: would be overwritten; choose another --out", code="overwrite-refused"
                )
        if there and not self.overwrite:
            more = f" and {len(there) - 1} more" if len(there) > 1 else ""
            raise UserError(
                f"{there[0]}{more}: results are there already; choose another --out, or replace "
                "them with --overwrite",
                code="overwrite-refused",
            )
        folders = tuple(each.suffix[:-1] for each in FORMATS.values() if each.suffix[-1] == "/")
        for path in there:
            if path.name.endswith(folders):
                check_replaceable(path)

    @contextmanager
    def locked(self, inputs: Inputs, *, others: Iterable[Path] = ()) -> Iterator[None]:
        """Be the only process that writes into the folder, which is made, and `check`.

        Raises UserError where another one does, or the folder cannot be written.
        """
        with locked(self.folder):
            self.check(inputs, others=others)
            yield

    def files(self, inputs: Inputs) -> Iterator[Path]:
        """The files that the results of `inputs` are, but for those in a data set's folder."""
        if inputs.images:
            yield self.record("poses")
            yield from self.paths("poses").values()
            if "images" in self.kinds:
                yield from drawn_images(self.folder, inputs.images).values()
        for clip in inputs.clips:
            yield self.record(clip.stem)
            yield from self.paths(clip.stem).values()
            if "images" in self.kinds:
                yield self.drawn_clip(clip.stem)

    def record(self, stem: str) -> Path:
        """The record of the results named `stem`, from which the other files are made."""
        return self.folder / f"{fitted(stem, _LONGEST_STEM)}.jsonl"

    def paths(self, stem: str) -> dict[str, Path]:
        """The files made from the record, by kind."""
        name = fitted(stem, _LONGEST_STEM)
        paths = {
            kind: self.folder / f"{name}{each.suffix}"
            for kind, each in FORMATS.items()
            if kind in self.kinds
        }
        if "dataset" in self.kinds:
            paths["dataset"] = self.dataset_folder(stem) / ANNOTATIONS
        return paths

    def drawn_clip(self, stem: str) -> Path:
        """The clip that is drawn."""
        return self.folder / f"{fitted(stem, _LONGEST_STEM)}.mp4"

    def dataset_folder(self, stem: str) -> Path:
        """The data set of the results named `stem`."""
        name = "dataset" if stem == "poses" else f"{fitted(stem, _LONGEST_STEM)}-dataset"
        return self.folder / name

    def hider(self) -> Hider | None:
        """What hides persons in the images, or in the frames of a clip."""
        return None if self.hide is None else Hider(self.hide)

    def draw(self, image: NDArray[np.uint8], poses: Poses, *more: str) -> NDArray[np.uint8]:
        """The image with its skeletons, the marks, and `more` marks."""
        marks = dict.fromkeys({*self.marks, *more}, True)
        return draw(image, poses, self.threshold, color=self.color, hide=None, **marks)


class Results:
    """The results named `stem`: the record, written as entries come, and what is made from it."""

    def __init__(self, saving: Saving, stem: str, header: Header, *, at_end: bool = False) -> None:
        self.saving, self.stem = saving, stem
        self.record = RecordWriter(saving.record(stem), header, at_end=at_end)

    def add(
        self,
        source: Path | str,
        name: str,
        copy: str,
        image_id: int,
        image: NDArray[np.uint8],
        poses: Poses,
        frame: int | None = None,
        time: float | None = None,
    ) -> None:
        """The poses in one image, or in one frame of a clip at `time` in seconds.

        `source` is the file, or the name of another source; `name` is what results call it, and
        `copy` its copy in a data set. The images of a data set are written at once.
        """
        copied = None
        if "dataset" in self.saving.kinds:
            copied = self._copy(source, copy, image, frame)
        size = image.shape[1], image.shape[0]
        self.record.add(Entry.of(name, image_id, size, poses, frame=frame, time=time, image=copied))

    def fail(self, name: str, image_id: int, error: UserError) -> None:
        """An image that could not be read."""
        reason = " ".join(printable(str(error)).split())
        self.record.add(Entry(name, image_id, FAILED, code=error.code, reason=reason))

    def write(self, **about: Any) -> list[Path]:
        """End the record, and write the files made from it; returns them, or else the record.

        `about` is what else the record's end says. Where nothing was read, nothing is written.
        """
        if not self.record.begun:
            return []
        self.record.close(**about)
        paths = self.saving.paths(self.stem)
        write_files(self.record.path, paths)
        return list(paths.values()) or [self.record.path]

    def _copy(
        self, source: Path | str, name: str, image: NDArray[np.uint8], frame: int | None
    ) -> str:
        """Copy the image into the data set, upright as its keypoints are; returns its name."""
        suffix = PurePath(name).suffix.lower()
        as_is = frame is None and isinstance(source, Path) and suffix in _COPIED
        if as_is and isinstance(source, Path) and exif_orientation(source) == 1:
            content = source.read_bytes()
        else:
            name = f"{name}.png" if frame is None else f"{name}_{frame:06d}.png"
            content = encode(image, ".png")
        # Annotation tools need names that are text.
        name = fitted(name_to_text(name))
        write_atomically(self.saving.dataset_folder(self.stem) / IMAGES / name, content)
        return name


class ImageResults:
    """The results of all images of a call: poses.jsonl and the other files, and drawn images.

    Images are drawn, encoded and written in the background, in order. A context manager that
    writes the files at its end, also after an error or an interruption, where at least one image
    was predicted; its numbers and files are complete then.
    """

    def __init__(
        self,
        saving: Saving,
        images: Sequence[ImageInput],
        estimator: PoseEstimator,
        detector: str | None = None,
        beside: PoseEstimator | None = None,
    ) -> None:
        """`beside` is another model, whose poses in the same boxes are drawn beside the others.

        `detector` is the name of what gave the boxes.
        """
        # The numbers of images, persons, and images without persons.
        self.images, self.persons, self.empty = 0, 0, 0
        # The errors of images that could not be read, or whose drawing could not be written.
        self.failures: list[UserError] = []
        self.files: list[Path] = []
        self.drawn: list[Path] = []
        self.hider = saving.hider()
        self._saving, self._estimator, self._beside = saving, estimator, beside
        self._names, self._flat = names(images), flat_names(images)
        self._targets = drawn_images(saving.folder, images)
        metadata = estimator.metadata
        header = Header("images", estimator.skeleton, saving.threshold, None, metadata.title)
        header = replace(
            header, detector=detector, engine=estimator.engine, covariance=estimator.covariance
        )
        self._results = Results(saving, "poses", header)
        self._background = Background()

    def add(self, prediction: Prediction | Failure) -> None:
        """Draw one image and record it, after those before."""
        self._background(self._add, prediction)

    def _add(self, prediction: Prediction | Failure) -> None:
        source = prediction.source
        if isinstance(prediction, Failure):
            self.failures.append(prediction.error)
            self._results.fail(self._names[source], source.image_id, prediction.error)
            return
        image, poses = prediction.image.pixels, prediction.poses
        if "images" in self._saving.kinds:
            target = self._targets[source]
            try:
                content = encode(self._drawn(prediction), target.suffix)
            except UserError as error:  # the other images are still drawn
                self.failures.append(UserError(f"{target}: {error}", code=error.code))
            else:
                write_atomically(target, content)
                self.drawn.append(target)
        self._results.add(
            source.source, self._names[source], self._flat[source], source.image_id, image, poses
        )
        self.images, self.persons = self.images + 1, self.persons + len(poses)
        self.empty += not len(poses)

    def _drawn(self, prediction: Prediction) -> NDArray[np.uint8]:
        image, found = prediction.image, [prediction.poses]
        if self._beside is not None:
            found += [poses for _, poses in self._beside.stream([image])]
        pixels = image.pixels if self.hider is None else self.hider(image.pixels, *found)
        drawn = [self._saving.draw(pixels, poses) for poses in found]
        if self._beside is None:
            return drawn[0]
        names = [model.metadata.title for model in (self._estimator, self._beside)]
        return side_by_side(drawn, names)

    def __enter__(self) -> "ImageResults":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._background.finish(drop=kind is KeyboardInterrupt)
        finally:
            complete = self._results.record.entries == len(self._names)
            self.files = self._results.write(complete=complete)


class ClipResults:
    """The results of one clip: STEM.jsonl and the other files, and the drawn clip STEM.mp4.

    Frames are drawn, encoded and recorded in the background, in order. With an offline pass, poses
    are recorded as they are `found`, and replaced by those of the pass at its end. A context
    manager that finishes the files at its end, also after an error or an interruption, where at
    least one frame was predicted; its ids and files are complete then.
    """

    def __init__(
        self,
        saving: Saving,
        source: ClipInput,
        clip: "Clip",
        estimator: PoseEstimator,
        detector: str | None = None,
    ) -> None:
        self.frames = 0
        self.track_ids: set[int] = set()
        self.files: list[Path] = []
        self.hider = saving.hider()
        self._saving, self._source, self._clip = saving, source, clip
        self._estimator, self._detector = estimator, detector
        self._results: Results | None = None
        self._found: Results | None = None
        self._recorder = None
        self._to_the_end = False
        self._background = Background()
        self._name = name_to_text((source.file or Path(str(source))).name)
        if "images" in saving.kinds:
            from hrpose.video import Recorder

            self._recorder = Recorder(saving.drawn_clip(source.stem), clip.rate, clip.sound_file)

    def draw(self, frame: "Frame", poses: Poses) -> NDArray[np.uint8]:
        """The frame with its skeletons and ids. To be called once for each frame, in order."""
        image = frame.image
        if self.hider is not None:
            image = self.hider(image, poses, time=frame.time)
        return self._saving.draw(image, poses, "ids")

    @property
    def stopped_early(self) -> bool:
        """Whether there are only poses that were found before the offline pass."""
        return self._found is not None and self._results is None

    def found(self, frame: "Frame", poses: Poses) -> None:
        """One frame before the offline pass, with the poses of all persons."""
        self.frames = frame.index + 1
        self._background(self._record_found, frame, poses)

    def _record_found(self, frame: "Frame", poses: Poses) -> None:
        if self._found is None:
            # A data set has the images of the pass.
            saving = replace(self._saving, kinds=self._saving.kinds - {"dataset"})
            self._found = Results(saving, self._source.stem, self._header(frame))
        self._add(self._found, frame, poses)

    def add(self, frame: "Frame", poses: Poses, drawn: NDArray[np.uint8] | None = None) -> None:
        """One frame, which may be `drawn` already."""
        self.frames = frame.index + 1
        self._background(self._record, frame, poses, drawn)

    def _record(self, frame: "Frame", poses: Poses, drawn: NDArray[np.uint8] | None) -> None:
        if self._recorder is not None:
            drawn = self.draw(frame, poses) if drawn is None else drawn
            self._recorder.write(drawn, frame.time, frame.duration)
        if self._results is None:
            offline = self._found is not None
            header = replace(self._header(frame), offline=offline)
            self._results = Results(self._saving, self._source.stem, header, at_end=offline)
            if self._found is not None:
                self._found.record.close(complete=True)
                self.track_ids.clear()
        self._add(self._results, frame, poses)

    def _add(self, results: Results, frame: "Frame", poses: Poses) -> None:
        results.add(
            self._source.file or str(self._source),
            self._name,
            self._source.stem,
            frame.index + 1,
            frame.image,
            poses,
            frame.index,
            frame.time,
        )
        if poses.track_ids is not None:
            self.track_ids.update(map(int, poses.track_ids))

    def end(self) -> None:
        """Note that the clip was read to its end, so that all of its sound is copied."""
        self._background.finish()
        self._to_the_end = True

    def notes(self) -> list[str]:
        """Warnings, each in one line."""
        notes = [] if self._clip.damage is None else [self._clip.damage]
        if (recorder := self._recorder) is not None:
            if recorder.left_out:
                kinds = ", ".join(recorder.left_out)
                notes.append(
                    f"{recorder.path}: written without its {kinds} sound; an MP4 cannot hold it"
                )
            if recorder.encoder == "mpeg4":
                notes.append(
                    f"{recorder.path}: written as MPEG-4 part 2; this FFmpeg has no H.264 encoder"
                )
        return notes

    def _header(self, frame: "Frame") -> Header:
        metadata, (height, width) = self._estimator.metadata, frame.image.shape[:2]
        return Header(
            "clip",
            self._estimator.skeleton,
            self._saving.threshold,
            name_to_text(str(self._source)),
            metadata.title,
            self._detector,
            width,
            height,
            round(self._clip.rate, 6),
            str(self._clip.time_base),
            engine=self._estimator.engine,
            covariance=self._estimator.covariance,
        )

    def __enter__(self) -> "ClipResults":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._background.finish(drop=kind is KeyboardInterrupt)
        finally:
            self._close(kind, error)

    def _close(self, kind: type[BaseException] | None, error: BaseException | None) -> None:
        try:
            if self._recorder is not None:
                self._recorder.close(rest_of_sound=self._to_the_end and kind is None)
        finally:
            if self._found is not None and getattr(error, "code", "") == "persons-missing":
                self._found.record.remove()
                self._found = None
            if (results := self._results or self._found) is not None:
                damage = self._clip.damage and printable(self._clip.damage)
                self.files = results.write(complete=self._to_the_end, damage=damage)
                if self._recorder is not None and results is self._results:
                    self.files.insert(0, self._recorder.path)
