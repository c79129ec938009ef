"""Inputs of prediction: the images, with their ids, and clips that a user names; their poses."""

import re
import unicodedata
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Literal

from hrpose.data.coco import read_boxes
from hrpose.errors import UserError
from hrpose.estimator import InputImage, PoseEstimator
from hrpose.file_kinds import FileKind, files_in, input_kind, skipped_text
from hrpose.image import WRITABLE, is_animated
from hrpose.io import fitted, name_to_text, prefetch, printable, without_secrets
from hrpose.poses import Poses

# How a file is read.
Role = Literal["image", "clip"]

# Boxes [x, y, w, h] in pixels, and their scores.
Boxes = tuple[list[list[float]], list[float]]


@dataclass(frozen=True, slots=True)
class ImageInput:
    """An image: its file, or its address as text. `image_id` is unique in a call.

    `name` is the file's name, behind the names of the folders between it and the folder or address
    that the user named: "b.jpg", "sub/b.jpg".
    """

    source: Path | str
    image_id: int
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", _name(self.source))

    def content(self) -> Path | bytes:
        """The file, or the bytes at an address. Raises UserError where they cannot be fetched."""
        if isinstance(self.source, Path):
            return self.source
        from hrpose.batch.source import read_address

        return read_address(self.source)

    def __str__(self) -> str:
        return without_secrets(str(self.source))


@dataclass(frozen=True, slots=True)
class ClipInput:
    """A clip's file, a camera ("camera:0") or a stream (rtsp://, http://).

    Its results are named `stem`, unique in a call. As text it is without passwords.
    """

    source: Path | str
    stem: str

    @property
    def file(self) -> Path | None:
        """None for a camera or stream."""
        return self.source if isinstance(self.source, Path) else None

    def __str__(self) -> str:
        return without_secrets(str(self.source))


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of a call; `problems` has an error for each argument that names none.

    `skipped` counts, by their kinds, what folders hold beside them.
    """

    images: tuple[ImageInput, ...]
    clips: tuple[ClipInput, ...]
    problems: tuple[UserError, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)

    @property
    def skipped_line(self) -> str:
        """What was skipped, as "3 text files, 1 PDF, 2 folders (--recursive)"; "" for nothing."""
        return skipped_text(self.skipped)


def find_inputs(
    arguments: Sequence[str], *, recursive: bool = False, results: Path | None = None
) -> Inputs:
    """The images and clips that arguments name: files, folders, cameras and addresses, in order.

    The content of a file decides what it is; images with several frames in time are clips. Folders
    are read in natural order (frame2 before frame10), without hidden files and without the folder
    `results`; the folders in them too if `recursive`. An image named by a number, as COCO's are,
    has that number as its id where no other image has it; the others are numbered from 1. Results
    of a clip are named by its stem, or by its full name where stems are shared. Raises UserError
    where no argument names an input.
    """
    images: dict[Path | str, str] = {}
    clips: dict[Path | str, None] = {}
    problems: list[UserError] = []
    skipped: Counter[str] = Counter()
    for argument in arguments:
        try:
            for source, role, name in _sources(argument, recursive, results, skipped):
                if role == "clip":
                    clips[source] = None
                else:
                    images.setdefault(source, name)
        except UserError as error:
            problems.append(error)
    if not images and not clips:
        if len(problems) == 1:
            raise problems[0]
        raise UserError("; ".join(map(str, problems)), code="file-unreadable")
    return Inputs(_with_ids(images), _with_stems(list(clips)), tuple(problems), skipped)


def _sources(
    argument: str, recursive: bool, results: Path | None, skipped: Counter[str]
) -> Iterator[tuple[Path | str, Role, str]]:
    """The files and addresses that one argument names, with their roles and names.

    Raises UserError where there are none.
    """
    if argument.startswith("camera:"):
        yield argument, "clip", ""
        return
    if "://" in argument:
        from hrpose.batch.source import sources_at

        for address, role, name in sources_at(argument):
            yield address, role, name
        return
    path = Path(argument)
    try:
        if not argument:
            raise UserError("source: expected a file, found an empty name", code="file-unreadable")
        if path.is_dir():
            before, number = skipped.copy(), 0
            for file, kind, name in files_in(path, skipped, recursive=recursive, without=results):
                number += 1
                yield file, _role(kind, file), name
            if not number:
                inside = skipped_text(skipped - before) or "nothing"
                raise UserError(
                    f"{argument}: expected images or clips, found {inside}", code="images-missing"
                )
        elif path.exists():
            yield path, _named_role(path), path.name
        elif argument.isascii() and argument.isdigit():
            yield f"camera:{int(argument)}", "clip", ""
        else:
            raise UserError(f"{argument}: no such file; check the name", code="file-unreadable")
    except OSError as error:  # no permission, or a name too long
        raise UserError(
            f"{argument}: cannot be read ({error.strerror})", code="file-unreadable"
        ) from error


def _role(kind: FileKind, path: Path) -> Role:
    """Images with several frames in time are clips."""
    if kind.role == "image":
        animated = is_animated(path) if kind.animated is None else kind.animated
        return "clip" if animated else "image"
    return "clip"


def _named_role(path: Path) -> Role:
    """The role of a file that the user named. Raises UserError where it can have none."""
    kind = input_kind(path)
    if kind.role in ("image", "clip"):
        return _role(kind, path)
    if kind.role == "unknown":
        try:
            from hrpose.video import Clip

            Clip.open(path).close()
        except (ImportError, UserError):
            pass  # FFmpeg does not know it either
        else:
            return "clip"
    raise UserError(
        f"{path}: expected an image or a clip, found {kind}; convert it to JPEG or MP4 "
        "(`hrpose batch` reads zip files and lists of images)",
        code="input-unsupported",
    )


def _name(source: Path | str) -> str:
    if isinstance(source, Path):
        return source.name
    return PurePosixPath(source.partition("?")[0]).name


def number_in(name: str) -> int | None:
    """785 for 000000000785.jpg."""
    stem = PurePosixPath(name).stem
    return int(stem) if stem.isascii() and stem.isdigit() else None


def _with_ids(names: Mapping[Path | str, str]) -> tuple[ImageInput, ...]:
    numbers = [number_in(_name(source)) for source in names]
    times = Counter(numbers)
    free = (number for number in count(1) if number not in times)
    return tuple(
        ImageInput(source, next(free) if number is None or times[number] > 1 else number, name)
        for (source, name), number in zip(names.items(), numbers, strict=True)
    )


def _with_stems(sources: list[Path | str]) -> tuple[ClipInput, ...]:
    """Clips with the stems of their result files, which differ by more than case."""
    names = [
        source.name if isinstance(source, Path)
        else re.sub(r"[^\w.-]+", "-", without_secrets(source)).strip("-.")
        for source in sources
    ]  # fmt: skip
    stems = [
        Path(name).stem if isinstance(source, Path) else name
        for source, name in zip(sources, names, strict=True)
    ]
    shared = Counter(stem.casefold() for stem in stems)
    taken = {"poses"}  # the results of images
    clips = []
    for source, name, stem in zip(sources, names, stems, strict=True):
        wanted = name if shared[stem.casefold()] > 1 or stem.casefold() in taken else stem
        candidates = (f"{wanted}-{n}" if n > 1 else wanted for n in count(1))
        free = next(each for each in candidates if each.casefold() not in taken)
        taken.add(free.casefold())
        clips.append(ClipInput(source, free))
    return tuple(clips)


def names(images: Sequence[ImageInput]) -> dict[ImageInput, str]:
    """What results call each image, as text: its name, or its path where two have one name."""
    times = Counter(image.name for image in images)
    return {
        image: name_to_text(image.name if times[image.name] == 1 else str(image))
        for image in images
    }


def flat_names(images: Sequence[ImageInput]) -> dict[ImageInput, str]:
    """A name without folders for each image: its own, or another where an earlier one has it."""
    found: dict[ImageInput, str] = {}
    taken: set[str] = set()
    numbers: Counter[str] = Counter()
    for image in images:
        path = PurePath(image.name)
        name = path.name
        # File systems may ignore case, and how accents are composed.
        while (key := unicodedata.normalize("NFC", name).casefold()) in taken:
            numbers[path.name] += 1
            name = f"{path.stem}-{numbers[path.name] + 1}{path.suffix}"
        taken.add(key)
        found[image] = name
    return found


def drawn_images(folder: Path, images: Sequence[ImageInput]) -> dict[ImageInput, Path]:
    """The file of each drawn image: its own name in `folder`, in a format that can be written."""
    targets: dict[ImageInput, Path] = {}
    taken: set[str] = set()
    for image, name in flat_names(images).items():
        target = name if PurePath(name).suffix.lower() in WRITABLE else f"{name}.png"
        while target.casefold() in taken:  # x.gif becomes x.gif.png, which may be there as well
            target = f"{PurePath(target).stem}-drawn{PurePath(target).suffix}"
        taken.add(target.casefold())
        targets[image] = folder / fitted(target)
    return targets


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The poses in an image, and the image, upright, with its boxes."""

    source: ImageInput
    image: InputImage
    poses: Poses


@dataclass(frozen=True, slots=True, eq=False)
class Failure:
    """The error of an image that cannot be read."""

    source: ImageInput
    error: UserError


# Images that wait with their boxes: about those of a batch of crops, so that images are read and
# persons detected while the network has a batch.
_WAITING = 8


def predict_images(
    estimator: PoseEstimator,
    images: Sequence[ImageInput],
    boxes: Mapping[ImageInput, Boxes] | None = None,
) -> Iterator[Prediction | Failure]:
    """The predictions of `images` in order, or why an image cannot be read.

    Files are read and persons detected while the network runs. `boxes` replace the estimator's
    detector: for each image [x, y, w, h] in pixels and scores in [0, 1].
    """
    failures: deque[tuple[int, Failure]] = deque()

    def read(source: ImageInput) -> InputImage | Failure:
        try:
            given = () if boxes is None else boxes[source]
            return estimator.image(source.content(), *given)
        except UserError as error:
            text = str(error)
            if isinstance(source.source, str):  # bytes have no name of their own
                text = text.removeprefix("image: ")
            text = text if printable(str(source)) in text else f"{source}: {text}"
            return Failure(source, UserError(text, code=error.code))

    def readable() -> Iterator[InputImage]:
        for index, image in enumerate(prefetch(read, images, waiting=_WAITING)):
            if isinstance(image, Failure):
                failures.append((index, image))
            else:
                yield replace(image, key=index)

    for image, poses in estimator.stream(readable()):
        while failures and failures[0][0] < image.key:  # others were prefetched
            yield failures.popleft()[1]
        yield Prediction(images[image.key], image, poses)
    yield from (failure for _, failure in failures)


def boxes_by_image(path: Path, images: Sequence[ImageInput]) -> tuple[dict[ImageInput, Boxes], int]:
    """The boxes [x, y, w, h] and scores for each of `images`; empty lists where there are none.

    Also returns the number of entries that belong to none of `images`. `path` holds COCO detections
    (a list of {image_id or file_name, bbox, score}) or COCO annotations (an object with `images`
    and `annotations`). An image is matched by its name, with or without folders, in whatever
    Unicode form a file system gave it, or by the number in it (000000000785.jpg is image 785).
    Raises UserError for another form, for a name or number that two images have, and where no
    entry belongs to an image.
    """
    results = read_boxes(path).detections(score=1.0)
    boxes: dict[ImageInput, Boxes] = {image: ([], []) for image in images}
    by_key: dict[str | int, list[ImageInput]] = {}
    for image_input in images:
        name = _normalized(image_input.name)
        base = PurePosixPath(name).name
        spelled = _normalized(name_to_text(image_input.name))  # as in results
        for key in {name, base, spelled, number_in(base)} - {None}:
            by_key.setdefault(key, []).append(image_input)  # type: ignore[arg-type]
    unmatched = 0
    columns = (results.columns[name].tolist() for name in ("boxes", "scores"))
    for row, (entry, box, score) in enumerate(zip(results.entries, *columns, strict=True)):
        key = _key(path, row, entry)
        if isinstance(key, str):
            key = _normalized(key)
            key = key if key in by_key else PurePosixPath(key).name
        matches = by_key.get(key, [])
        if len(matches) > 1:
            raise UserError(
                f"{path}: entry {row}: {key} is {matches[0]} and {matches[1]}; give each entry a "
                "'file_name' with folders, or predict them one by one",
                code="boxes-invalid",
            )
        for match in matches:
            boxes[match][0].append(box)
            boxes[match][1].append(score)
        unmatched += not matches
    if results.entries and unmatched == len(results.entries):
        raise UserError(
            f"{path}: none of its {unmatched} boxes belongs to these images; give each entry a "
            "'file_name'",
            code="boxes-invalid",
        )
    return boxes, unmatched


def _normalized(name: str) -> str:
    """One form of a name that file systems store in several."""
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def _key(path: Path, row: int, entry: Mapping[str, Any]) -> str | int:
    """The name or number of an entry's image."""
    for key in ("file_name", "image_id"):
        value = entry.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool):
            return value
    raise UserError(
        f"{path}: entry {row}: expected 'file_name' or 'image_id', a name or a number, found none",
        code="boxes-invalid",
    )
