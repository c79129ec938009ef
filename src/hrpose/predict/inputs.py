"""Inputs of prediction: images with their ids, clips, boxes; and the poses in images."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from hrpose.data.coco import read_boxes
from hrpose.errors import UserError
from hrpose.estimator import InputImage, PoseEstimator
from hrpose.image import SUFFIXES
from hrpose.io import prefetch
from hrpose.poses import Poses

CLIP_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")

# Boxes [x, y, w, h] in pixels, and their scores.
Boxes = tuple[list[list[float]], list[float]]


@dataclass(frozen=True, slots=True)
class ImageInput:
    """An image: its file, or its address as text. `image_id` is unique in a call."""

    source: Path | str
    image_id: int

    @property
    def name(self) -> str:
        """The file's name, without folders."""
        return _name(self.source)

    def content(self) -> Path | bytes:
        """The file, or the bytes at an address. Raises UserError where they cannot be fetched."""
        if isinstance(self.source, Path):
            return self.source
        from hrpose.batch.source import read_address

        return read_address(self.source)

    def __str__(self) -> str:
        return (
            str(self.source).partition("?")[0] if isinstance(self.source, str) else str(self.source)
        )


@dataclass(frozen=True, slots=True)
class ClipInput:
    """A clip's file, or a camera ("camera:0"). Its results are named `stem`, unique in a call."""

    source: Path | str
    stem: str

    @property
    def file(self) -> Path | None:
        """None for a camera."""
        return self.source if isinstance(self.source, Path) else None

    def __str__(self) -> str:
        return str(self.source)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of a call; `problems` has an error for each argument that names none."""

    images: tuple[ImageInput, ...]
    clips: tuple[ClipInput, ...]
    problems: tuple[UserError, ...]


def find_inputs(arguments: Sequence[str]) -> Inputs:
    """The images and clips that arguments name: files, folders, cameras and addresses, in order.

    In folders, files are selected by their suffixes. An image named by a number, as COCO's are, has
    that number as its id where no other image has it; the others are numbered from 1. Results of a
    clip are named by its stem, or by its full name where stems are shared. Raises UserError where
    no argument names an input.
    """
    images: dict[Path | str, None] = {}
    clips: dict[Path | str, None] = {}
    problems: list[UserError] = []
    for argument in arguments:
        try:
            for source in _sources(argument):
                (clips if _is_clip(source) else images)[source] = None
        except UserError as error:
            problems.append(error)
    if not images and not clips:
        if len(problems) == 1:
            raise problems[0]
        raise UserError("; ".join(map(str, problems)), code="file-unreadable")
    return Inputs(_with_ids(list(images)), _with_stems(list(clips)), tuple(problems))


def _sources(argument: str) -> Iterator[Path | str]:
    """The files and addresses that one argument names. Raises UserError where there are none."""
    if argument.startswith("camera:"):
        yield argument
        return
    if "://" in argument:
        yield from _images_at(argument)
        return
    path = Path(argument)
    try:
        inside = sorted(path.iterdir()) if path.is_dir() else None
        exists = path.exists()
    except OSError as error:  # no permission, or a name too long
        raise UserError(
            f"{argument}: cannot be read ({error.strerror})", code="file-unreadable"
        ) from error
    if inside is not None:
        inside = [file for file in inside if file.suffix.lower() in (*SUFFIXES, *CLIP_SUFFIXES)]
        if not inside:
            raise UserError(
                f"{argument}: expected images or clips "
                f"({', '.join((*SUFFIXES, *CLIP_SUFFIXES))}), found none",
                code="images-missing",
            )
        yield from inside
    elif exists:
        yield path
    else:
        raise UserError(f"{argument}: no such file; check the name", code="file-unreadable")


def _images_at(address: str) -> Iterator[str]:
    from hrpose.batch.source import check_address, list_address, without_query

    suffix = PurePosixPath(_name(address)).suffix.lower()
    if suffix in CLIP_SUFFIXES:
        raise UserError(
            f"{without_query(address)}: clips are read from files; download it first",
            code="address-invalid",
        )
    check_address(address)
    if suffix in SUFFIXES:
        yield address
        return
    names = [name for name in list_address(address) if name.lower().endswith(SUFFIXES)]
    if not names:
        raise UserError(
            f"{without_query(address)}: expected images ({', '.join(SUFFIXES)}), found none",
            code="images-missing",
        )
    yield from (f"{address.rstrip('/')}/{name}" for name in names)


def _is_clip(source: Path | str) -> bool:
    if isinstance(source, str):
        return source.startswith("camera:")
    return source.suffix.lower() in CLIP_SUFFIXES


def _name(source: Path | str) -> str:
    if isinstance(source, Path):
        return source.name
    return PurePosixPath(source.partition("?")[0]).name


def _number(name: str) -> int | None:
    """785 for 000000000785.jpg."""
    stem = PurePosixPath(name).stem
    return int(stem) if stem.isascii() and stem.isdigit() else None


def _with_ids(sources: list[Path | str]) -> tuple[ImageInput, ...]:
    numbers = [_number(_name(source)) for source in sources]
    times = Counter(numbers)
    free = (number for number in count(1) if number not in times)
    return tuple(
        ImageInput(source, next(free) if number is None or times[number] > 1 else number)
        for source, number in zip(sources, numbers, strict=True)
    )


def _with_stems(sources: list[Path | str]) -> tuple[ClipInput, ...]:
    """Clips with the stems of their result files, which differ by more than case."""
    names = [str(source).replace(":", "-") if isinstance(source, str) else source.name
             for source in sources]  # fmt: skip
    stems = [PurePosixPath(name).stem for name in names]
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


def boxes_by_image(path: Path, images: Sequence[ImageInput]) -> dict[ImageInput, Boxes]:
    """The boxes [x, y, w, h] and scores for each of `images`; empty lists where there are none.

    `path` holds COCO detections (a list of {image_id or file_name, bbox, score}) or COCO
    annotations (an object with `images` and `annotations`). An image is matched by its file name,
    or by the number in it (000000000785.jpg is image 785). Raises UserError for another form, and
    for a number that two images have.
    """
    results = read_boxes(path).detections(score=1.0)
    boxes: dict[ImageInput, Boxes] = {image: ([], []) for image in images}
    by_key: dict[str | int, list[ImageInput]] = {}
    for image_input in images:
        for key in {image_input.name, _number(image_input.name)} - {None}:
            by_key.setdefault(key, []).append(image_input)  # type: ignore[arg-type]
    columns = (results.columns[name].tolist() for name in ("boxes", "scores"))
    for row, (entry, box, score) in enumerate(zip(results.entries, *columns, strict=True)):
        key = _key(path, row, entry)
        matches = by_key.get(Path(key).name if isinstance(key, str) else key, [])
        if len(matches) > 1:
            raise UserError(
                f"{path}: entry {row}: {key} is {matches[0]} and {matches[1]}; give each entry a "
                "'file_name', or predict them one by one",
                code="boxes-invalid",
            )
        for match in matches:
            boxes[match][0].append(box)
            boxes[match][1].append(score)
    if results.entries and not any(of_image for of_image, _ in boxes.values()):
        raise UserError(
            f"{path}: none of its {len(results.entries)} boxes belongs to these images; give "
            "each entry a 'file_name'",
            code="boxes-invalid",
        )
    return boxes


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
            text = text if str(source) in text else f"{source}: {text}"
            return Failure(source, UserError(text, code=error.code))

    def readable() -> Iterator[InputImage]:
        for index, image in enumerate(prefetch(read, images)):
            if isinstance(image, Failure):
                failures.append((index, image))
            else:
                yield replace(image, key=index)

    for image, poses in estimator.stream(readable()):
        while failures and failures[0][0] < image.key:  # others were read ahead
            yield failures.popleft()[1]
        yield Prediction(images[image.key], image, poses)
    yield from (failure for _, failure in failures)
