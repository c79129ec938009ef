"""What every format is read into: pictures, and the people in them with joints by name."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hrpose.data.formats.checks import printable
from hrpose.data.images import PictureSource, pictures_beside
from hrpose.errors import UserError
from hrpose.skeleton import Skeleton, guess_flip_pairs
from hrpose.skeletons import SHIPPED

Joint = tuple[float, float, int]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Person:
    """One labelled body.

    `joints` are (x, y, visibility) in pixels counted from 0, visibility 1 (labelled, but hidden) or
    2 (visible), by name; a joint that is not labelled is not there. `box` is [x, y, w, h], None
    where the format has none. `where` names the place in the source for complaints. `area` is
    COCO's, `track` the same for one body through a clip.
    """

    joints: Mapping[str, Joint]
    box: Box | None = None
    where: str = ""
    area: float | None = None
    score: float | None = None
    track: int | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture and its people. `size_wh` is None where the format does not say it.

    `subset` is the part (train, val) that the source puts it in, `video` the clip that it is of.
    """

    name: str
    people: tuple[Person, ...]
    size_wh: tuple[int, int] | None = None
    subset: str = ""
    video: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class PoseSet:
    """A data set.

    `images` holds the pictures, as far as they are known; `notes` are lines for the user about what
    was left out.
    """

    skeleton: Skeleton
    pictures: tuple[Picture, ...]
    images: PictureSource | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Given:
    """What the user says beside the source: its pictures, its joints, which category is meant."""

    images: PictureSource | None = None
    skeleton: Skeleton | None = None
    category: str | None = None


def pose_set(
    source: object,
    pictures: Sequence[Picture],
    given: Given,
    images: PictureSource | None,
    found: Skeleton | None = None,
    category: str = "person",
    notes: Sequence[str] = (),
) -> PoseSet:
    """The set, checked: each picture once, every joint known.

    The skeleton is the given one, else the one `found` in the source, else made of the joints'
    names in the order of their first appearance.
    """
    names: dict[str, None] = {}
    seen: set[str] = set()
    for picture in pictures:
        if picture.name in seen:
            raise UserError(
                f"{source}: expected each picture once, found {printable(picture.name)} twice"
            )
        seen.add(picture.name)
        for person in picture.people:
            names.update(dict.fromkeys(person.joints))
    skeleton = given.skeleton or found
    if skeleton is None:
        if not names:
            raise UserError(f"{source}: expected labelled joints, found none")
        skeleton = skeleton_of(tuple(names), category)
    unknown = names.keys() - set(skeleton.keypoints)
    if unknown:
        raise _unknown_joint(pictures, unknown, skeleton)
    return PoseSet(skeleton, tuple(pictures), images, tuple(notes))


def skeleton_of(names: Sequence[str], category: str) -> Skeleton:
    """The shipped skeleton with exactly these joints, in its own order; else one of these names."""
    for known in SHIPPED.values():
        if set(known.keypoints) == set(names):
            return known
    return Skeleton(category, tuple(names), flip_pairs=guess_flip_pairs(names))


def _unknown_joint(pictures: Sequence[Picture], unknown: set[str], skeleton: Skeleton) -> UserError:
    people = (person for picture in pictures for person in picture.people)
    person = next(person for person in people if unknown & set(person.joints))
    name = next(name for name in person.joints if name in unknown)
    close = difflib.get_close_matches(name, skeleton.keypoints, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return UserError(
        f"{person.where}: expected a joint of '{skeleton.name}' ({len(skeleton)} joints), "
        f"found '{printable(name)}'{hint}"
    )


def beside(source: Path, given: Given) -> PictureSource:
    """The given pictures, else `images` or `images.zip` beside the source, else its own folder."""
    folder = source if source.is_dir() else source.parent
    return given.images or pictures_beside(source) or PictureSource(folder)
