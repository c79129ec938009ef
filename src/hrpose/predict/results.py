"""Results as files: COCO results, tables, a data set, drawn images and clips."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrpose import poses as poses_module
from hrpose.data.dataset_folder import ANNOTATIONS, IMAGES, CocoSet
from hrpose.errors import UserError
from hrpose.estimator import PoseEstimator
from hrpose.image import encode, is_upright
from hrpose.io import write_atomically, write_error
from hrpose.poses import Poses
from hrpose.predict.inputs import ClipInput, ImageInput, Prediction
from hrpose.skeleton import Skeleton
from hrpose.viz import draw, side_by_side

if TYPE_CHECKING:
    from hrpose.video import Clip, Frame

# A drawn image keeps its format where OpenCV can write it.
WRITABLE = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
# Annotation tools show these; images of other formats are converted to PNG.
_COPIED = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
# The kinds of results in a file of their own, in the order in which they are written.
_SUFFIXES = {"coco": ".json", "csv": ".csv", "parquet": ".parquet"}


@dataclass(frozen=True, slots=True)
class Saving:
    """The results to write into `folder`.

    `kinds` are some of images (drawn images and clips), coco, csv, parquet and dataset. Keypoints
    with a score below `threshold` are absent. `marks` are drawn with the skeletons: some of boxes,
    ids, scores and names, the options of `hrpose.draw`.
    """

    folder: Path
    kinds: frozenset[str]
    threshold: float
    marks: frozenset[str] = frozenset()

    def check(self) -> None:
        """Raise UserError where `folder` cannot be written or a package is missing."""
        if "parquet" in self.kinds:
            poses_module.check_parquet()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise write_error(self.folder, error, "choose another --out") from error

    def draw(self, image: NDArray[np.uint8], poses: Poses, *more: str) -> NDArray[np.uint8]:
        """The image with its skeletons, the marks, and `more` marks."""
        return draw(image, poses, self.threshold, **dict.fromkeys({*self.marks, *more}, True))


@dataclass(slots=True)
class Results:
    """The results named `stem`; `write` writes what `add` collected.

    The images of a data set are written at once.
    """

    saving: Saving
    stem: str
    skeleton: Skeleton
    entries: list[dict[str, Any]] = field(default_factory=list)
    rows: list[poses_module.Row] = field(default_factory=list)
    dataset: CocoSet = field(init=False)

    def __post_init__(self) -> None:
        self.dataset = CocoSet(self.skeleton, self.saving.threshold)

    @property
    def dataset_folder(self) -> Path:
        name = "dataset" if self.stem == "poses" else f"{self.stem}-dataset"
        return self.saving.folder / name

    def paths(self) -> dict[str, Path]:
        """The files that `write` will write, by kind."""
        paths = {
            kind: self.saving.folder / f"{self.stem}{suffix}"
            for kind, suffix in _SUFFIXES.items()
            if kind in self.saving.kinds
        }
        if "dataset" in self.saving.kinds:
            paths["dataset"] = self.dataset_folder / ANNOTATIONS
        return paths

    def add(
        self,
        source: Path | str,
        image_id: int,
        image: NDArray[np.uint8],
        poses: Poses,
        frame: int | None = None,
        time: float | None = None,
    ) -> None:
        """The poses in one image, or in one frame of a clip at `time` in seconds.

        `source` is the file, or the name of another source.
        """
        kinds, name = self.saving.kinds, Path(source).name
        if "coco" in kinds:
            about: dict[str, Any] = {"file_name": name}
            if frame is not None and time is not None:
                about |= {"frame": frame, "time": round(time, 6)}
            self.entries += [{**about, **entry} for entry in poses.to_coco(image_id)]
        if kinds & {"csv", "parquet"}:
            self.rows += poses_module.rows(
                poses, file=name, frame=frame, time=time, threshold=self.saving.threshold
            )
        if "dataset" in kinds:
            copied = self._copy(source, image, frame)
            self.dataset.add(image_id, copied, (image.shape[1], image.shape[0]), poses)

    def write(self) -> list[Path]:
        """Write the collected results; returns their paths."""
        contents: dict[str, Callable[[], str | bytes]] = {
            "coco": lambda: json.dumps(self.entries),
            "csv": lambda: poses_module.to_csv(self.rows),
            "parquet": lambda: poses_module.to_parquet(self.rows),
            "dataset": self.dataset.to_json,
        }
        paths = self.paths()
        for kind, path in paths.items():
            write_atomically(path, contents[kind]())
        return list(paths.values())

    def _copy(self, source: Path | str, image: NDArray[np.uint8], frame: int | None) -> str:
        """Copy the image into the data set, upright as its keypoints are; returns its name."""
        folder, path = self.dataset_folder / IMAGES, Path(source)
        copied = isinstance(source, Path) and frame is None and path.suffix.lower() in _COPIED
        if copied and is_upright(path):
            write_atomically(folder / path.name, path.read_bytes())
            return path.name
        name = f"{path.name}.png" if frame is None else f"{path.stem}_{frame:06d}.png"
        write_atomically(folder / name, encode(image, ".png"))
        return name


class ImageResults:
    """The results of all images of a call: poses.json and the other files, and drawn images.

    A context manager that writes the files at its end, also after an error or an interruption,
    where at least one image was predicted. Raises UserError at once where a drawn image would
    replace one of `images`, where two have one name, or where `saving` is not possible.
    """

    def __init__(
        self,
        saving: Saving,
        images: Sequence[ImageInput],
        estimator: PoseEstimator,
        beside: PoseEstimator | None = None,
    ) -> None:
        """`beside` is another model, whose poses in the same boxes are drawn beside the others."""
        # The numbers of images, persons, and images without persons.
        self.images, self.persons, self.empty = 0, 0, 0
        self.failures: list[UserError] = []
        self.files: list[Path] = []
        self.drawn: list[Path] = []
        self._saving, self._estimator, self._beside = saving, estimator, beside
        self._targets = _targets(saving.folder, images)
        self._results = Results(saving, "poses", estimator.metadata.skeleton)
        saving.check()

    def add(self, prediction: Prediction) -> None:
        """Draw one image, and collect its poses."""
        image, poses = prediction.image.pixels, prediction.poses
        source = prediction.source
        if "images" in self._saving.kinds:
            target = self._targets[source]
            try:
                content = encode(self._drawn(prediction), target.suffix)
            except UserError as error:  # the other images are still drawn
                self.failures.append(UserError(f"{target}: {error}", code=error.code))
            else:
                write_atomically(target, content)
                self.drawn.append(target)
        file = source.source if isinstance(source.source, Path) else source.name
        self._results.add(file, source.image_id, image, poses)
        self.images, self.persons = self.images + 1, self.persons + len(poses)
        self.empty += not len(poses)

    def _drawn(self, prediction: Prediction) -> NDArray[np.uint8]:
        image = prediction.image
        canvas = self._saving.draw(image.pixels, prediction.poses)
        if self._beside is None:
            return canvas
        ((_, poses),) = self._beside.stream([image])
        names = [model.metadata.title for model in (self._estimator, self._beside)]
        return side_by_side([canvas, self._saving.draw(image.pixels, poses)], names)

    def __enter__(self) -> "ImageResults":
        return self

    def __exit__(self, *_: object) -> None:
        if self.images:
            self.files = self._results.write()


def _targets(folder: Path, images: Sequence[ImageInput]) -> dict[ImageInput, Path]:
    """The file of each drawn image: its own name in `folder`. No input is overwritten."""
    targets: dict[ImageInput, Path] = {}
    taken: set[Path] = set()
    sources = {image.source.resolve() for image in images if isinstance(image.source, Path)}
    for image in images:
        writable = Path(image.name).suffix.lower() in WRITABLE
        target = folder / (image.name if writable else f"{image.name}.png")
        if target.resolve() in sources:
            raise UserError(
                f"{target}: would be overwritten; choose another --out", code="overwrite-refused"
            )
        if target in taken:
            raise UserError(
                f"{image}: a second image named {image.name}; predict them in two calls",
                code="names-collide",
            )
        taken.add(target)
        targets[image] = target
    return targets


class ClipResults:
    """The results of one clip: STEM.json and the other files, and the drawn clip STEM.mp4.

    A context manager that finishes the files at its end, also after an error or an interruption,
    where at least one frame was predicted. Raises UserError at once where a file would replace the
    clip itself.
    """

    def __init__(self, saving: Saving, source: ClipInput, clip: "Clip", skeleton: Skeleton) -> None:
        self.frames = 0
        self.track_ids: set[int] = set()
        self.files: list[Path] = []
        self._saving, self._source, self._clip = saving, source, clip
        self._results = Results(saving, source.stem, skeleton)
        self._recorder = None
        self._to_the_end = False
        if "images" in saving.kinds:
            from hrpose.video import Recorder

            target = saving.folder / f"{source.stem}.mp4"
            if source.file is not None and target.resolve() == source.file.resolve():
                raise UserError(
                    f"{target}: would be overwritten; choose another --out",
                    code="overwrite-refused",
                )
            self._recorder = Recorder(target, clip.rate, source.file)

    def draw(self, frame: "Frame", poses: Poses) -> NDArray[np.uint8]:
        """The frame with its skeletons and ids."""
        return self._saving.draw(frame.image, poses, "ids")

    def add(self, frame: "Frame", poses: Poses, drawn: NDArray[np.uint8] | None = None) -> None:
        """One frame, which may be `drawn` already."""
        if self._recorder is not None:
            drawn = self.draw(frame, poses) if drawn is None else drawn
            self._recorder.write(drawn, frame.time, frame.duration)
        source = self._source.file or str(self._source)
        self._results.add(source, frame.index + 1, frame.image, poses, frame.index, frame.time)
        self.frames = frame.index + 1
        if poses.track_ids is not None:
            self.track_ids.update(map(int, poses.track_ids))

    def end(self) -> None:
        """Note that the clip was read to its end, so that all of its sound is copied."""
        self._to_the_end = True

    def notes(self) -> list[str]:
        """Warnings, each in one line."""
        notes = [] if self._clip.damage is None else [self._clip.damage]
        if self._recorder is not None and self._recorder.left_out:
            kinds = ", ".join(self._recorder.left_out)
            notes.append(
                f"{self._recorder.path}: written without its {kinds} sound; an MP4 cannot hold it"
            )
        if self._recorder is not None and self._recorder.encoder == "mpeg4":
            notes.append(
                f"{self._recorder.path}: written as MPEG-4 part 2; this FFmpeg has no H.264 encoder"
            )
        return notes

    def __enter__(self) -> "ClipResults":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._recorder is not None:
                self._recorder.close(rest_of_sound=self._to_the_end and kind is None)
        finally:
            if self.frames:
                drawn = [] if self._recorder is None else [self._recorder.path]
                self.files = [*drawn, *self._results.write()]
