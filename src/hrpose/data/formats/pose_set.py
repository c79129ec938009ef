"""`PoseSet`: what every annotation format is read into, with the checks that the readers share.

Images, and the persons in them with keypoints by name. Every error names the file and the entry.
"""

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hrpose import geometry
from hrpose.data.images import ImageFiles, images_beside, stays_inside
from hrpose.data.rules import printable
from hrpose.errors import UserError
from hrpose.io import read_file
from hrpose.skeleton import Skeleton, guess_flip_pairs, spelled_alike
from hrpose.skeletons import SHIPPED

# (x, y, visibility), and [x, y, w, h].
Keypoint = tuple[float, float, int]
Box = tuple[float, float, float, float]

_MAX_COORDINATE = 1e6  # pixels; images have at most 65,535 a side, keypoints may be outside
_MAX_BYTES = 500_000_000
_MAX_NAME = 1000


@dataclass(frozen=True, slots=True)
class Person:
    """One labeled person.

    `keypoints` are (x, y, visibility) in pixels counted from 0, visibility 1 (labeled, but hidden)
    or 2 (visible), by name; keypoints that are not labeled are absent. `box` is [x, y, w, h], None
    where the format has none. `where` is the place in the source, for messages. `area` is COCO's;
    `track` is the same for one person through a clip. `number` is the id, where the source has one
    that is kept.
    """

    keypoints: Mapping[str, Keypoint]
    box: Box | None = None
    where: str = ""
    area: float | None = None
    score: float | None = None
    track: int | None = None
    number: int | None = None


@dataclass(frozen=True, slots=True)
class LabeledImage:
    """An image and its persons. `size_wh` is None where the format does not have it, and so is
    `number`, the image's id, where the source has none that is kept.

    `subset` is the part of the source (train, val) that it belongs to, `video` the clip that it is
    a frame of.
    """

    name: str
    persons: tuple[Person, ...]
    size_wh: tuple[int, int] | None = None
    subset: str = ""
    video: str = ""
    source: str = ""
    number: int | None = None


@dataclass(frozen=True, slots=True)
class PoseSet:
    """A data set.

    `files` are the image files, where they are known; `copied` where they can only be copied, as
    they are in no folder. `notes` are lines for the user about what was left out.
    """

    skeleton: Skeleton
    images: tuple[LabeledImage, ...]
    files: ImageFiles | None = None
    notes: tuple[str, ...] = ()
    copied: bool = False

    @property
    def images_found(self) -> int:
        """How many of the images are among the files."""
        return 0 if self.files is None else sum(image.name in self.files for image in self.images)


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the user adds to a source.

    Its images, its skeleton, the category to read, whether labels are scaled to the images, where
    these were resized; other names for keypoints (`renamed`, old to new); and of COCO files whether
    categories of the same keypoints are one, and ids are new.
    """

    images: ImageFiles | None = None
    skeleton: Skeleton | None = None
    category: str | None = None
    scale_to_images: bool = False
    renamed: Mapping[str, str] = field(default_factory=dict)
    merge_categories: bool = False
    new_ids: bool = False

    def images_for(self, source: Path) -> ImageFiles:
        """Those of the user, else `images` or `images.zip` beside the source, else its folder."""
        folder = source if source.is_dir() else source.parent
        return self.images or images_beside(source) or ImageFiles(folder)


def pose_set(
    source: Path,
    images: Sequence[LabeledImage],
    options: ReadOptions,
    files: ImageFiles | None,
    found: Skeleton | None = None,
    category: str = "person",
    notes: Sequence[str] = (),
    copied: bool = False,
) -> PoseSet:
    """A checked set: each image once, every keypoint known.

    The skeleton is that of the options, else the one `found` in the source, else made of the
    keypoints' names in the order of their first appearance.
    """
    names: dict[str, None] = {}
    seen: set[str] = set()
    for image in images:
        if image.name in seen:
            raise invalid(str(source), "each image once", f"{printable(image.name)} twice")
        seen.add(image.name)
        for person in image.persons:
            names.update(dict.fromkeys(person.keypoints))
    images, nobody = _without_nobody(images)
    notes = [*notes, *left_out({"objects without a labeled keypoint and a box": nobody})]
    persons = sum(len(image.persons) for image in images)
    if not persons and notes:
        raise UserError(
            f"{source}: expected persons, found none that can be used: {'; '.join(notes)}",
            code="labels-missing",
        )
    declared = found.keypoints if found is not None else tuple(names)
    other = _renamed(declared, options)
    if other:
        notes += [f"renamed: {', '.join(f'{old} to {new}' for old, new in other.items())}"]
        images = [_with_names(image, other) for image in images]
        declared = tuple(other.get(name, name) for name in declared)
    skeleton = options.skeleton
    if skeleton is None and found is not None:
        skeleton = _with_keypoints(found, declared) if other else found
    if skeleton is None:
        if not declared:
            raise invalid(str(source), "labeled keypoints", None)
        skeleton = skeleton_of(declared, category)
    unknown = {other.get(name, name) for name in names} - set(skeleton.keypoints)
    if unknown:
        raise _unknown_keypoint(images, unknown, skeleton)
    return PoseSet(skeleton, tuple(images), files, tuple(notes), copied)


def _renamed(names: Sequence[str], options: ReadOptions) -> dict[str, str]:
    """Other names for keypoints: those of the user, else those that differ in spelling only.

    The latter are the names of the user's skeleton, or of a shipped one with all of these.
    """
    unknown = [name for name in options.renamed if name not in names]
    if unknown:
        raise UserError(
            f"--rename: expected keypoints of the source ({printable(', '.join(names))}), found "
            f"{printable(', '.join(unknown))}",
            code="option-invalid",
        )
    given = [options.renamed.get(name, name) for name in names]
    if len(set(given)) != len(given):
        raise UserError("--rename: expected different names", code="option-invalid")
    known = [options.skeleton] if options.skeleton else list(SHIPPED.values())
    for skeleton in known:
        if options.skeleton is None and len(skeleton) != len(names):
            continue
        spelled = [
            name
            if name in skeleton.keypoints
            else next((k for k in skeleton.keypoints if spelled_alike([k], [name])), name)
            for name in given
        ]
        complete = set(spelled) == set(skeleton.keypoints) or options.skeleton is not None
        if complete and len(set(spelled)) == len(spelled):
            given = spelled
            break
    return {old: new for old, new in zip(names, given, strict=True) if old != new}


def _with_names(image: LabeledImage, other: Mapping[str, str]) -> LabeledImage:
    """The image with other names of keypoints."""
    persons = tuple(
        replace(p, keypoints={other.get(name, name): k for name, k in p.keypoints.items()})
        for p in image.persons
    )
    return replace(image, persons=persons)


def _with_keypoints(found: Skeleton, names: tuple[str, ...]) -> Skeleton:
    """The skeleton with other names; a shipped one where it has exactly these in this order."""
    for known in SHIPPED.values():
        if known.keypoints == names:
            return known
    return replace(
        found,
        name=found.category or found.name,
        keypoints=names,
        flip_pairs=guess_flip_pairs(names) or found.flip_pairs,
        colors=(),
    )


def _without_nobody(images: Sequence[LabeledImage]) -> tuple[list[LabeledImage], int]:
    """The images without persons of whom nothing is labeled, and how many these were."""
    kept = [
        replace(image, persons=tuple(p for p in image.persons if p.keypoints or p.box))
        for image in images
    ]
    before, after = (sum(len(image.persons) for image in each) for each in (images, kept))
    return kept, before - after


def left_out(counts: Mapping[str, int]) -> list[str]:
    """Notes about what a reader has left out, by the description of each kind."""
    return [f"left out: {what} ({count:,})" for what, count in counts.items() if count]


def skeleton_of(names: Sequence[str], category: str) -> Skeleton:
    """The shipped skeleton with exactly these keypoints, in its own order; else one of these."""
    for known in SHIPPED.values():
        if set(known.keypoints) == set(names):
            return known
    return Skeleton(category, tuple(names), flip_pairs=guess_flip_pairs(names))


def _unknown_keypoint(
    images: Sequence[LabeledImage], unknown: set[str], skeleton: Skeleton
) -> UserError:
    persons = (person for image in images for person in image.persons)
    person = next(person for person in persons if unknown & set(person.keypoints))
    name = next(name for name in person.keypoints if name in unknown)
    close = difflib.get_close_matches(name, skeleton.keypoints, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return UserError(
        f"{person.where}: expected a keypoint of '{skeleton.name}' ({len(skeleton)} keypoints), "
        f"found '{printable(name)}'{hint}",
        code="keypoints-differ",
    )


def box_of_keypoints(keypoints: Iterable[Keypoint], size_wh: tuple[int, int]) -> Box:
    """A person's box [x, y, w, h] where the source has none; see `hrpose.geometry`."""
    box = geometry.box_of_keypoints([(x, y) for x, y, _ in keypoints], size_wh)
    left, top, width, height = box.tolist()
    return left, top, width, height


def invalid(where: str, expected: str, found: object) -> UserError:
    """The error for a value of an annotation file that is not as expected."""
    empty = found is None or found == ""
    shown = "nothing" if empty else printable(found if isinstance(found, str) else repr(found))
    return UserError(f"{where}: expected {expected}, found {shown}", code="annotations-invalid")


def unknown_category(where: str, found: Iterable[str]) -> UserError:
    """The error for several categories or labels where one is needed."""
    return UserError(
        f"{where}: expected one category, or one of them as --category, "
        f"found {printable(', '.join(found)) or 'none'}",
        code="category-unknown",
    )


def repeated_keypoint(where: str, keypoint: str, remedy: str = "") -> UserError:
    """The error for a keypoint that one person has twice."""
    hint = f"; {remedy}" if remedy else ""
    return UserError(
        f"{where}: expected each keypoint of a person once, found '{printable(keypoint)}' "
        f"again{hint}",
        code="annotations-invalid",
    )


def number(value: object, where: str, most: float = _MAX_COORDINATE) -> float:
    """A finite number, from a number or its text."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        result = float(value)
    except (ValueError, OverflowError):
        raise invalid(where, "a number", value) from None
    if not math.isfinite(result) or abs(result) > most:
        raise invalid(where, f"a finite number, at most {most:,.0f}", value)
    return result


def whole_number(value: object, where: str, least: int, most: int) -> int:
    """A whole number between two others, from a number or its text."""
    result = number(value, where, max(_MAX_COORDINATE, most))
    if result != int(result) or not least <= result <= most:
        raise invalid(where, f"a whole number from {least} to {most}", value)
    return int(result)


def size_wh(width: object, height: object, where: str) -> tuple[int, int]:
    """The size of an image."""
    return (
        whole_number(width, f"{where}: width", 1, 65535),
        whole_number(height, f"{where}: height", 1, 65535),
    )


def image_name(name: object, where: str) -> str:
    """The name of an image that leads nowhere out of its folder; Windows' backslashes become /."""
    if isinstance(name, str):
        name = name.replace("\\", "/").removeprefix("./")
    if not isinstance(name, str) or not name or not stays_inside(name):
        raise invalid(where, "the relative name of an image, without '..'", name)
    if len(name) > _MAX_NAME or any(len(part.encode()) > 255 for part in name.split("/")):
        raise invalid(where, "a name that a file can have", name)
    return name


def first_found(files: ImageFiles, names: Sequence[str]) -> str:
    """The first of some names of an image that is among the files; the last one where none is."""
    return next((name for name in names if name in files), names[-1])


def keypoint_name(name: object, where: str) -> str:
    """The name of a keypoint: text of one line, not empty."""
    if not isinstance(name, str) or not name.strip() or not name.strip().isprintable():
        raise invalid(where, "the name of a keypoint", name)
    return name.strip()


def file_name(text: str) -> str:
    """A text from a source as the name of a file to write."""
    return re.sub(r"[^\w-]+", "-", text).strip("-").lower() or "annotations"


def json_object(value: object, where: str) -> Mapping[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise invalid(where, "an object", None if value is None else type(value).__name__)
    return value


def json_list(value: object, where: str) -> list[Any]:
    """A JSON list; null counts as an empty one."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise invalid(where, "a list", type(value).__name__)
    return value


def read_text(path: Path) -> str:
    """A text file of bounded size, UTF-8 with or without a byte order mark."""
    try:
        return read_file(path, _MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise invalid(str(path), "text in UTF-8", f"other bytes ({error})") from error
