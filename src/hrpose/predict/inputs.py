"""What poses are estimated in: images with their ids, clips and cameras, and boxes from a file."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from hrpose.data.coco import read_json
from hrpose.errors import UserError
from hrpose.image import SUFFIXES

CLIP_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")

# Boxes [x, y, w, h] in pixels, and their scores.
Boxes = tuple[list[list[float]], list[float]]


@dataclass(frozen=True, slots=True)
class ImageInput:
    """An image: `place` is its file, or its address as text. `image_id` is unique in a call."""

    place: Path | str
    image_id: int

    @property
    def name(self) -> str:
        """The file's name, without folders."""
        return _name(self.place)

    def content(self) -> Path | bytes:
        """What an estimator reads. Raises UserError where an address cannot be fetched."""
        if isinstance(self.place, Path):
            return self.place
        from hrpose.batch.source import read_address

        return read_address(self.place)

    def __str__(self) -> str:
        return str(self.place).partition("?")[0] if isinstance(self.place, str) else str(self.place)


@dataclass(frozen=True, slots=True)
class ClipInput:
    """A clip's file, or a camera ("camera:0"). Its results are named `stem`, unique in a call."""

    place: Path | str
    stem: str

    @property
    def file(self) -> Path | None:
        """None for a camera."""
        return self.place if isinstance(self.place, Path) else None

    def __str__(self) -> str:
        return str(self.place)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was found; `problems` has one for each argument that names nothing to read."""

    images: tuple[ImageInput, ...]
    clips: tuple[ClipInput, ...]
    problems: tuple[UserError, ...]


def find_inputs(arguments: Sequence[str]) -> Inputs:
    """Sort images, folders of images and clips, clips, cameras and addresses, in their order.

    In folders, files are known by their suffixes. An image named by a number, as COCO's are, has
    that number as its id where no other image has it; the others count from 1 on. Results of a clip
    are named by its stem, or by its whole name where stems are shared. Raises UserError where
    nothing at all was found.
    """
    images: dict[Path | str, None] = {}
    clips: dict[Path | str, None] = {}
    problems: list[UserError] = []
    for argument in arguments:
        try:
            for place in _below(argument):
                (clips if _is_clip(place) else images)[place] = None
        except UserError as error:
            problems.append(error)
    if not images and not clips:
        raise UserError("; ".join(map(str, problems)), code="file-unreadable")
    return Inputs(_with_ids(list(images)), _with_stems(list(clips)), tuple(problems))


def _below(argument: str) -> Iterator[Path | str]:
    """The files and addresses that one argument names. Raises UserError where there are none."""
    if argument.startswith("camera:"):
        yield argument
        return
    if "://" in argument:
        yield from _below_address(argument)
        return
    path = Path(argument)
    try:
        inside = sorted(path.iterdir()) if path.is_dir() else None
        exists = path.exists()
    except OSError as error:  # a folder of another user, or too long a name
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


def _below_address(address: str) -> Iterator[str]:
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


def _is_clip(place: Path | str) -> bool:
    if isinstance(place, str):
        return place.startswith("camera:")
    return place.suffix.lower() in CLIP_SUFFIXES


def _name(place: Path | str) -> str:
    if isinstance(place, Path):
        return place.name
    return PurePosixPath(place.partition("?")[0]).name


def _number(name: str) -> int | None:
    """785 for 000000000785.jpg."""
    stem = PurePosixPath(name).stem
    return int(stem) if stem.isascii() and stem.isdigit() else None


def _with_ids(places: list[Path | str]) -> tuple[ImageInput, ...]:
    numbers = [_number(_name(place)) for place in places]
    times = Counter(numbers)
    free = (number for number in count(1) if number not in times)
    return tuple(
        ImageInput(place, next(free) if number is None or times[number] > 1 else number)
        for place, number in zip(places, numbers, strict=True)
    )


def _with_stems(places: list[Path | str]) -> tuple[ClipInput, ...]:
    """Stems of result files. They differ where upper and lower case are the same, too."""
    names = [str(place).replace(":", "-") if isinstance(place, str) else place.name
             for place in places]  # fmt: skip
    stems = [PurePosixPath(name).stem for name in names]
    shared = Counter(stem.casefold() for stem in stems)
    taken = {"poses"}  # what the results of images are called
    clips = []
    for place, name, stem in zip(places, names, stems, strict=True):
        wanted = name if shared[stem.casefold()] > 1 or stem.casefold() in taken else stem
        candidates = (f"{wanted}-{n}" if n > 1 else wanted for n in count(1))
        free = next(each for each in candidates if each.casefold() not in taken)
        taken.add(free.casefold())
        clips.append(ClipInput(place, free))
    return tuple(clips)


def boxes_by_image(path: Path, images: Sequence[ImageInput]) -> dict[ImageInput, Boxes]:
    """The boxes [x, y, w, h] and scores for each of `images`; empty lists where there are none.

    `path` holds COCO detections (a list of {image_id or file_name, bbox, score}) or COCO
    annotations (an object with `images` and `annotations`). An image is known by its file name, or
    by the number in it (000000000785.jpg is image 785). Raises UserError for another form, and for
    a number that two images have.
    """
    document = read_json(path)
    names: dict[str | int, str | int] = {}
    if isinstance(document, Mapping):
        for row, image in enumerate(_list(path, document, "images")):
            names[_key(path, "image", row, image, "id")] = _key(
                path, "image", row, image, "file_name", "id"
            )
        entries = _list(path, document, "annotations")
    else:
        entries = _list(path, {"detections": document}, "detections")
    found: dict[ImageInput, Boxes] = {image: ([], []) for image in images}
    known: dict[str | int, list[ImageInput]] = {}
    for source in images:
        for known_as in {source.name, _number(source.name)} - {None}:
            known.setdefault(known_as, []).append(source)  # type: ignore[arg-type]
    for row, entry in enumerate(entries):
        box, score = entry.get("bbox"), entry.get("score", 1.0)
        if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, [*box, score]))):
            raise UserError(
                f"{path}: entry {row}: expected 'bbox' [x, y, w, h] and a number 'score', "
                f"found {box} and {score}",
                code="boxes-invalid",
            )
        key = _key(path, "entry", row, entry, "file_name", "image_id")
        key = names.get(key, key)
        named = known.get(Path(key).name if isinstance(key, str) else key, [])
        if len(named) > 1:
            raise UserError(
                f"{path}: entry {row}: {key} is {named[0]} and {named[1]}; give each entry a "
                "'file_name', or predict them one by one",
                code="boxes-invalid",
            )
        for source in named:
            found[source][0].append(box)
            found[source][1].append(score)
    if entries and not any(boxes for boxes, _ in found.values()):
        raise UserError(
            f"{path}: none of its {len(entries)} boxes belongs to these images; give each entry "
            "a 'file_name'",
            code="boxes-invalid",
        )
    return found


def _key(path: Path, kind: str, row: int, entry: Mapping[str, Any], *keys: str) -> str | int:
    """The first of `keys` that `entry` has: a name or a number."""
    for key in keys:
        value = entry.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool):
            return value
    expected = " or ".join(f"'{key}'" for key in keys)
    raise UserError(
        f"{path}: {kind} {row}: expected {expected}, a name or a number, found none",
        code="boxes-invalid",
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _list(path: Path, document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    entries = document.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(
            f"{path}: expected a list of objects in '{key}', found something else",
            code="boxes-invalid",
        )
    return entries
