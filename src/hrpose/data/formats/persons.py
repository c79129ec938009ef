"""What every format is read into: images, and the people in them with keypoints by name."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hrpose.data.formats.checks import printable
from hrpose.data.images import ImageFiles, images_beside
from hrpose.errors import UserError
from hrpose.skeleton import Skeleton, guess_flip_pairs
from hrpose.skeletons import SHIPPED

Keypoint = tuple[float, float, int]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Person:
    """One labeled body.

    `keypoints` are (x, y, visibility) in pixels counted from 0, visibility 1 (labeled, but hidden)
    or 2 (visible), by name; a keypoint that is not labeled is not there. `box` is [x, y, w, h],
    None where the format has none. `where` names the place in the source for complaints. `area` is
    COCO's, `track` the same for one body through a clip.
    """

    keypoints: Mapping[str, Keypoint]
    box: Box | None = None
    where: str = ""
    area: float | None = None
    score: float | None = None
    track: int | None = None


@dataclass(frozen=True, slots=True)
class InputImage:
    """An image and its people. `size_wh` is None where the format does not say it.

    `subset` is the part (train, val) that the source puts it in, `video` the clip that it is of.
    """

    name: str
    persons: tuple[Person, ...]
    size_wh: tuple[int, int] | None = None
    subset: str = ""
    video: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class PoseSet:
    """A data set.

    `images` holds the images, as far as they are known; `notes` are lines for the user about what
    was left out.
    """

    skeleton: Skeleton
    images: tuple[InputImage, ...]
    files: ImageFiles | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Given:
    """What the user says beside the source: its images, its keypoints, which category is meant."""

    images: ImageFiles | None = None
    skeleton: Skeleton | None = None
    category: str | None = None


def pose_set(
    source: object,
    images: Sequence[InputImage],
    given: Given,
    files: ImageFiles | None,
    found: Skeleton | None = None,
    category: str = "person",
    notes: Sequence[str] = (),
) -> PoseSet:
    """The set, checked: each image once, every keypoint known.

    The skeleton is the given one, else the one `found` in the source, else made of the keypoints'
    names in the order of their first appearance.
    """
    names: dict[str, None] = {}
    seen: set[str] = set()
    for image in images:
        if image.name in seen:
            raise UserError(
                f"{source}: expected each image once, found {printable(image.name)} twice"
            )
        seen.add(image.name)
        for person in image.persons:
            names.update(dict.fromkeys(person.keypoints))
    skeleton = given.skeleton or found
    if skeleton is None:
        if not names:
            raise UserError(f"{source}: expected labeled keypoints, found none")
        skeleton = skeleton_of(tuple(names), category)
    unknown = names.keys() - set(skeleton.keypoints)
    if unknown:
        raise _unknown_keypoint(images, unknown, skeleton)
    return PoseSet(skeleton, tuple(images), files, tuple(notes))


def skeleton_of(names: Sequence[str], category: str) -> Skeleton:
    """The shipped skeleton with exactly these keypoints, in its own order; else one of these names."""
    for known in SHIPPED.values():
        if set(known.keypoints) == set(names):
            return known
    return Skeleton(category, tuple(names), flip_pairs=guess_flip_pairs(names))


def _unknown_keypoint(
    images: Sequence[InputImage], unknown: set[str], skeleton: Skeleton
) -> UserError:
    persons = (person for image in images for person in image.persons)
    person = next(person for person in persons if unknown & set(person.keypoints))
    name = next(name for name in person.keypoints if name in unknown)
    close = difflib.get_close_matches(name, skeleton.keypoints, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return UserError(
        f"{person.where}: expected a keypoint of '{skeleton.name}' ({len(skeleton)} keypoints), "
        f"found '{printable(name)}'{hint}"
    )


def beside(source: Path, given: Given) -> ImageFiles:
    """The given images, else `images` or `images.zip` beside the source, else its own folder."""
    folder = source if source.is_dir() else source.parent
    return given.images or images_beside(source) or ImageFiles(folder)
