"""CVAT: its own XML, "CVAT for images 1.1" and "CVAT for video 1.1", and its COCO keypoints.

    <annotations>
      <meta><task><labels><label><name>person</name><type>skeleton</type>...</label>
        <label><name>nose</name><type>points</type><parent>person</parent></label>...
      <image id="0" name="a.jpg" width="640" height="480" subset="train">
        <skeleton label="person" group_id="1">
          <points label="nose" outside="0" occluded="0" points="120.50,80.00"/>...
        <box label="person" group_id="1" xtl="..." ytl="..." xbr="..." ybr="..."/>
      <track id="0" label="person"><skeleton frame="0" keyframe="1"><points .../>...

A joint that is `outside` is not labelled, one that is `occluded` is hidden. Points that are no part
of a skeleton are joints by their label, and those of one `group_id` one person; or all joints of a
person in the order of `--skeleton`. A box belongs to the person of its `group_id`. The pictures of
a clip are frame_000000.png and so on, as CVAT exports them.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hrpose.data.formats import from_coco
from hrpose.data.formats.checks import (
    joint_name,
    number,
    picture_name,
    printable,
    repeated,
    whole,
    wrong,
)
from hrpose.data.formats.checks import size_wh as checked_size
from hrpose.data.formats.cvat_labels import Labels, labels_of
from hrpose.data.formats.people import Box, Given, Joint, Person, Picture, PoseSet, pose_set
from hrpose.data.formats.places import beside
from hrpose.data.formats.xml_file import children
from hrpose.data.pictures import PictureSource
from hrpose.errors import UserError

_FRAMES = 100_000_000
_ENDINGS = (".png", ".PNG", ".jpg", ".jpeg", ".JPG")


def read(source: Path, given: Given) -> PoseSet:
    """Read annotations.xml, or the JSON of CVAT's COCO keypoints. Raises UserError."""
    if source.suffix.lower() == ".json":
        return from_coco.read(source, given)
    images, labels = beside(source, given), Labels()
    label = given.category
    pictures: list[Picture] = []
    frames: dict[int, list[Person]] = {}
    for element in children(source, "annotations"):
        if element.tag == "meta":
            labels = labels_of(source, element)
            label = labels.chosen(source, given.category)
        elif element.tag == "image":
            pictures.append(_picture(source, element, given, label, images))
        elif element.tag == "track" and label in (None, element.get("label")):
            for frame, person in _track(source, element):
                frames.setdefault(frame, []).append(person)
    for frame, people in sorted(frames.items()):
        names = [f"frame_{frame:06d}{ending}" for ending in _ENDINGS]
        name = next((name for name in names if name in images), names[0])
        pictures.append(Picture(name, tuple(people), labels.size_wh, video=labels.video))
    found = labels.skeletons.get(label or "")
    return pose_set(source, pictures, given, images, found, label or "person")


def _picture(
    source: Path, image: ET.Element, given: Given, label: str | None, images: PictureSource
) -> Picture:
    name = picture_name(image.get("name"), f"{source}: image {printable(image.get('id', '?'))}")
    where, subset = f"{source}: image {printable(name)}", image.get("subset", "")
    size = checked_size(image.get("width"), image.get("height"), where)
    shapes = [s for s in image.findall("skeleton") if label in (None, s.get("label"))]
    boxes = _boxes(image, len(shapes), where)
    people = []
    for row, shape in enumerate(shapes, 1):
        at = f"{where}: skeleton {row}"
        people.append(Person(_joints(shape, at), boxes.get(_group(shape)), at))
    people += _of_points(image.findall("points"), given, boxes, where)
    # CVAT puts the pictures of a project's subsets into folders of their name.
    if name not in images and subset and f"{subset}/{name}" in images:
        name = f"{subset}/{name}"
    return Picture(name, tuple(person for person in people if person.joints), size, subset)


def _track(source: Path, track: ET.Element) -> Iterator[tuple[int, Person]]:
    """The frames in which one body of a clip is."""
    where = f"{source}: track {printable(track.get('id', '?'))}"
    number_ = whole(track.get("id"), f"{where}: id", 0, _FRAMES)
    seen: set[int] = set()
    for shape in track.findall("skeleton"):
        frame = whole(shape.get("frame"), f"{where}: frame", 0, _FRAMES)
        if frame in seen:
            raise UserError(f"{where}: expected each frame once, found frame {frame} again")
        seen.add(frame)
        joints = _joints(shape, f"{where}: frame {frame}")
        if joints and shape.get("outside") != "1":
            yield frame, Person(joints, None, f"{where}: frame {frame}", track=number_)


def _joints(shape: ET.Element, where: str) -> dict[str, Joint]:
    """The labelled joints of a skeleton."""
    joints: dict[str, Joint] = {}
    seen: set[str] = set()
    for points in shape.findall("points"):
        name = joint_name(points.get("label"), f"{where}: label")
        if name in seen:
            raise repeated(where, name)
        seen.add(name)
        if points.get("outside") == "1":
            continue
        places = _places(points, f"{where}: {printable(name)}")
        if len(places) != 1:
            raise wrong(f"{where}: {printable(name)}", "one place", f"{len(places)} places")
        joints[name] = (*places[0], _visible(points))
    return joints


def _of_points(
    shapes: list[ET.Element], given: Given, boxes: dict[str, Box], where: str
) -> list[Person]:
    """The people of points that are no part of a skeleton."""
    groups: dict[str, Person] = {}
    people = []
    for row, points in enumerate(shapes, 1):
        at = f"{where}: points {row}"
        name = joint_name(points.get("label"), f"{at}: label")
        places, group = _places(points, at), _group(points)
        if len(places) > 1:
            names = given.skeleton.keypoints if given.skeleton else ()
            if len(names) != len(places):
                expected = f"{len(names)} places" if names else "one place, or --skeleton"
                raise wrong(at, expected, f"{len(places)} places")
            visible = _visible(points)
            joints = {joint: (*xy, visible) for joint, xy in zip(names, places, strict=True)}
            people.append(Person(joints, boxes.get(group), at))
            continue
        old = groups.get(group, Person({}, boxes.get(group), at))
        if name in old.joints:
            raise repeated(at, name, "group the points of each person")
        groups[group] = replace(old, joints={**old.joints, name: (*places[0], _visible(points))})
    return [*people, *groups.values()]


def _places(points: ET.Element, where: str) -> list[tuple[float, float]]:
    text = points.get("points", "")
    places = []
    for pair in text.split(";"):
        xy = pair.split(",")
        if len(xy) != 2:
            raise wrong(where, "places such as 12.5,80;13,90", text)
        places.append((number(xy[0].strip(), where), number(xy[1].strip(), where)))
    return places


def _visible(points: ET.Element) -> int:
    return 1 if points.get("occluded") == "1" else 2


def _group(shape: ET.Element) -> str:
    """The group of a shape; 0 is none."""
    return shape.get("group_id") or "0"


def _boxes(image: ET.Element, skeletons: int, where: str) -> dict[str, Box]:
    """The box of each group. One without a group counts where nobody else could be meant."""
    boxes: dict[str, Box] = {}
    found = image.findall("box")
    alone = sum(_group(box) == "0" for box in found) == 1 and skeletons <= 1
    for box in found:
        group = _group(box)
        if group == "0" and not alone:
            continue
        if group in boxes:
            raise UserError(f"{where}: expected one box a person, found two of group {group[:20]}")
        boxes[group] = _box(box, f"{where}: box")
    return boxes


def _box(box: ET.Element, where: str) -> Box:
    left, top, right, bottom = (
        number(box.get(key), f"{where}: {key}") for key in ("xtl", "ytl", "xbr", "ybr")
    )
    if right <= left or bottom <= top:
        raise wrong(where, "right of left and bottom below top", box.attrib)
    return (left, top, right - left, bottom - top)
