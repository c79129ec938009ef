"""CVAT's own XML: "CVAT for images 1.1" and "CVAT for video 1.1".

    <annotations>
      <meta><task><labels><label><name>person</name><type>skeleton</type>...</label>
        <label><name>nose</name><type>points</type><parent>person</parent></label>...
      <image id="0" name="a.jpg" width="640" height="480" subset="train">
        <skeleton label="person" group_id="1">
          <points label="nose" outside="0" occluded="0" points="120.50,80.00"/>...
        <box label="person" group_id="1" xtl="..." ytl="..." xbr="..." ybr="..."/>
      <track id="0" label="person"><skeleton frame="0" keyframe="1"><points .../>...

A keypoint that is `outside` is not labeled, one that is `occluded` is hidden. Points outside a
skeleton are keypoints named by their label, those of one `group_id` being one person; or all
keypoints of a person in the order of `--skeleton`. A box belongs to the person of its `group_id`.
The images of a clip are frame_000000.png and so on, as CVAT exports them. Skeletons without a
labeled keypoint, as tracks have where a person is out of the image, are left out.

Written are annotations.xml ("CVAT 1.1") with skeletons to correct, and labels.json for the task.
CVAT's skeletons have no boxes, so boxes are not written.
"""

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape, quoteattr

from defusedxml import DefusedXmlException, DTDForbidden
from defusedxml.ElementTree import iterparse

from hrpose.data.formats.pose_set import (
    Box,
    Keypoint,
    LabeledImage,
    Person,
    PoseSet,
    ReadOptions,
    image_name,
    invalid,
    keypoint_name,
    left_out,
    number,
    pose_set,
    repeated_keypoint,
    size_wh,
    skeleton_of,
    unknown_category,
    whole_number,
)
from hrpose.data.images import ImageFiles
from hrpose.data.rules import printable
from hrpose.errors import UserError
from hrpose.skeleton import Skeleton
from hrpose.skeletons import SHIPPED

_MAX_BYTES = 500_000_000
_MAX_DEPTH = 50
_MAX_FRAME = 100_000_000
_SUFFIXES = (".png", ".PNG", ".jpg", ".jpeg", ".JPG")
_DIGITS = 3
_OTHER_SHAPES = ("polygon", "polyline", "ellipse", "cuboid", "mask")
_UNLABELED = "skeletons without a labeled keypoint"
# CVAT describes a skeleton by an SVG with a circle for each keypoint and a line for each limb. The
# patterns are bounded, so that no text can make the search slow.
_CIRCLE = re.compile(r"<circle\b[^<>]{0,2000}>")
_LINE = re.compile(r"<line\b[^<>]{0,2000}>")


def children(path: Path, root: str) -> Iterator[Element]:
    """The elements right below the root element `root`, one by one.

    Each is cleared when the next is requested. Raises UserError, naming the file, where it is
    missing, too large, damaged, of another root, or has a document type.
    """

    def error(found: object) -> UserError:
        expected = f"{path}: expected XML with <{root}>"
        return UserError(f"{expected}, found {found}", code="xml-invalid")

    try:
        with path.open("rb") as file:
            if path.stat().st_size > _MAX_BYTES:
                raise error(f"more than {_MAX_BYTES:,} bytes")
            opened: list[Element] = []
            for event, element in iterparse(file, ("start", "end"), forbid_dtd=True):
                if event == "start":
                    opened.append(element)
                    if opened[0].tag != root:
                        raise error(f"<{opened[0].tag[:40]!r}>")
                    if len(opened) > _MAX_DEPTH:
                        raise error(f"elements more than {_MAX_DEPTH} deep")
                    continue
                opened.pop()
                if len(opened) == 1:
                    yield element
                    opened[0].clear()
    except UserError:
        raise
    except OSError as cause:
        raise UserError(
            f"{path}: cannot be read ({cause.strerror}); check the path", code="file-unreadable"
        ) from cause
    except DTDForbidden as cause:
        raise error("a document type (DTD), which is not read") from cause
    except (ParseError, DefusedXmlException, ValueError, LookupError) as cause:
        raise error(cause) from cause


@dataclass(frozen=True, slots=True)
class Labels:
    """A task's skeletons by label; for a clip its size and name."""

    skeletons: dict[str, Skeleton] = field(default_factory=dict)
    size_wh: tuple[int, int] | None = None
    video: str = ""

    def chosen(self, source: Path, wanted: str | None) -> str | None:
        """The skeleton label to convert; None where there is none, only points."""
        known = list(self.skeletons)
        if not known:
            return wanted
        if wanted is None and len(known) == 1:
            return known[0]
        if wanted not in known:
            raise unknown_category(f"{source}: meta: skeletons", known)
        return wanted


def labels_of(source: Path, meta: ET.Element) -> Labels:
    """Read <meta>. Raises UserError where a skeleton has no keypoints."""
    keypoints: dict[str, list[str]] = {}
    drawings: dict[str, str] = {}
    for label in meta.iter("label"):
        name = keypoint_name(label.findtext("name"), f"{source}: meta: label")
        parent = label.findtext("parent")
        if parent:
            keypoints.setdefault(parent.strip(), []).append(name)
        elif label.findtext("type") == "skeleton":
            drawings[name] = label.findtext("svg") or ""
    skeletons = {}
    for name, drawing in drawings.items():
        names = keypoints.get(name, [])
        if not names or len(set(names)) != len(names):
            raise invalid(f"{source}: meta: label {printable(name)}", "keypoints, each once", names)
        skeleton = skeleton_of(names, name)
        if skeleton not in SHIPPED.values():
            skeleton = replace(skeleton, limbs=_limbs(drawing, names))
        skeletons[name] = skeleton
    size = meta.find(".//original_size")
    where = f"{source}: meta: original_size"
    return Labels(
        skeletons,
        None if size is None else size_wh(size.findtext("width"), size.findtext("height"), where),
        printable((meta.findtext(".//source") or "").strip()),
    )


def _limbs(drawing: str, names: list[str]) -> tuple[tuple[int, int], ...]:
    nodes = {}
    for circle in _CIRCLE.findall(drawing):
        label = _value(circle, "label-name")
        if label in names:
            nodes[_value(circle, "node-id")] = names.index(label)
    ends = [(_value(line, "node-from"), _value(line, "node-to")) for line in _LINE.findall(drawing)]
    limbs = [(nodes[a], nodes[b]) for a, b in ends if a in nodes and b in nodes and a != b]
    return tuple(dict.fromkeys(limbs))


def _value(element: str, name: str) -> str:
    found = re.search(rf'data-{name}="([^"]{{0,200}})"', element)
    return found[1] if found else ""


def read(source: Path, options: ReadOptions) -> PoseSet:
    """Read annotations.xml. Raises UserError, naming the file and the entry."""
    images, labels = options.images_for(source), Labels()
    label, lost = options.category, Counter[str]()
    labeled: list[LabeledImage] = []
    frames: dict[int, list[Person]] = {}
    for element in children(source, "annotations"):
        if element.tag == "meta":
            labels = labels_of(source, element)
            label = labels.chosen(source, options.category)
        elif element.tag == "image":
            labeled.append(_image(source, element, options, label, images, lost))
        elif element.tag == "track" and label in (None, element.get("label")):
            for frame, person in _track(source, element, lost):
                frames.setdefault(frame, []).append(person)
        elif element.tag == "track":
            lost["tracks of other labels"] += 1
    for frame, persons in sorted(frames.items()):
        names = [f"frame_{frame:06d}{suffix}" for suffix in _SUFFIXES]
        name = next((name for name in names if name in images), names[0])
        labeled.append(LabeledImage(name, tuple(persons), labels.size_wh, video=labels.video))
    found = labels.skeletons.get(label or "")
    return pose_set(source, labeled, options, images, found, label or "person", left_out(lost))


def _image(
    source: Path,
    image: ET.Element,
    options: ReadOptions,
    label: str | None,
    images: ImageFiles,
    lost: Counter[str],
) -> LabeledImage:
    name = image_name(image.get("name"), f"{source}: image {printable(image.get('id', '?'))}")
    where, subset = f"{source}: image {printable(name)}", image.get("subset", "")
    size = size_wh(image.get("width"), image.get("height"), where)
    shapes = [s for s in image.findall("skeleton") if label in (None, s.get("label"))]
    lost["skeletons of other labels"] += len(image.findall("skeleton")) - len(shapes)
    for kind in _OTHER_SHAPES:
        lost[f"{kind}s, which are no keypoints"] += len(image.findall(kind))
    boxes = _boxes(image, len(shapes), where, lost)
    persons = []
    for row, shape in enumerate(shapes, 1):
        at = f"{where}: skeleton {row}"
        persons.append(Person(_keypoints(shape, at), boxes.get(_group(shape)), at))
    persons += _of_points(image.findall("points"), options, boxes, where)
    labeled = tuple(person for person in persons if person.keypoints)
    lost[_UNLABELED] += len(persons) - len(labeled)
    # CVAT puts the images of a project's subsets into folders of their name.
    if name not in images and subset and f"{subset}/{name}" in images:
        name = f"{subset}/{name}"
    return LabeledImage(name, labeled, size, subset)


def _track(source: Path, track: ET.Element, lost: Counter[str]) -> Iterator[tuple[int, Person]]:
    """The frames in which one person of a clip is."""
    where = f"{source}: track {printable(track.get('id', '?'))}"
    track_id = whole_number(track.get("id"), f"{where}: id", 0, _MAX_FRAME)
    seen: set[int] = set()
    for shape in track.findall("skeleton"):
        frame = whole_number(shape.get("frame"), f"{where}: frame", 0, _MAX_FRAME)
        if frame in seen:
            raise invalid(where, "each frame once", f"frame {frame} again")
        seen.add(frame)
        keypoints = _keypoints(shape, f"{where}: frame {frame}")
        if not keypoints or shape.get("outside") == "1":
            lost[_UNLABELED] += 1
        else:
            yield frame, Person(keypoints, None, f"{where}: frame {frame}", track=track_id)


def _keypoints(shape: ET.Element, where: str) -> dict[str, Keypoint]:
    """The labeled keypoints of a skeleton."""
    keypoints: dict[str, Keypoint] = {}
    seen: set[str] = set()
    for points in shape.findall("points"):
        name = keypoint_name(points.get("label"), f"{where}: label")
        if name in seen:
            raise repeated_keypoint(where, name)
        seen.add(name)
        if points.get("outside") == "1":
            continue
        xys = _coordinates(points, f"{where}: {printable(name)}")
        if len(xys) != 1:
            raise invalid(f"{where}: {printable(name)}", "one point", f"{len(xys)} points")
        keypoints[name] = (*xys[0], _visible(points))
    return keypoints


def _of_points(
    shapes: list[ET.Element], options: ReadOptions, boxes: dict[str, Box], where: str
) -> list[Person]:
    """The persons of points that are no part of a skeleton."""
    groups: dict[str, Person] = {}
    persons = []
    for row, points in enumerate(shapes, 1):
        at = f"{where}: points {row}"
        name = keypoint_name(points.get("label"), f"{at}: label")
        xys, group = _coordinates(points, at), _group(points)
        if len(xys) > 1:
            names = options.skeleton.keypoints if options.skeleton else ()
            if len(names) != len(xys):
                expected = f"{len(names)} points" if names else "one point, or --skeleton"
                raise invalid(at, expected, f"{len(xys)} points")
            visible = _visible(points)
            keypoints = {keypoint: (*xy, visible) for keypoint, xy in zip(names, xys, strict=True)}
            persons.append(Person(keypoints, boxes.get(group), at))
            continue
        old = groups.get(group, Person({}, boxes.get(group), at))
        if name in old.keypoints:
            raise repeated_keypoint(at, name, "group the points of each person")
        groups[group] = replace(old, keypoints={**old.keypoints, name: (*xys[0], _visible(points))})
    return [*persons, *groups.values()]


def _coordinates(points: ET.Element, where: str) -> list[tuple[float, float]]:
    text = points.get("points", "")
    xys = []
    for pair in text.split(";"):
        xy = pair.split(",")
        if len(xy) != 2:
            raise invalid(where, "points such as 12.5,80;13,90", text)
        xys.append((number(xy[0].strip(), where), number(xy[1].strip(), where)))
    return xys


def _visible(points: ET.Element) -> int:
    return 1 if points.get("occluded") == "1" else 2


def _group(shape: ET.Element) -> str:
    """The group of a shape; "0" stands for none."""
    return shape.get("group_id") or "0"


def _boxes(image: ET.Element, skeletons: int, where: str, lost: Counter[str]) -> dict[str, Box]:
    """The box of each group. One without a group counts where the image has one person."""
    boxes: dict[str, Box] = {}
    found = image.findall("box")
    alone = sum(_group(box) == "0" for box in found) == 1 and skeletons <= 1
    for box in found:
        group = _group(box)
        if group == "0" and not alone:
            lost["boxes without a group, in images of several"] += 1
            continue
        if group in boxes:
            raise invalid(where, "one box for each person", f"two of group {group}")
        if (found_box := _box(box, f"{where}: box")) is not None:
            boxes[group] = found_box
    return boxes


def _box(box: ET.Element, where: str) -> Box | None:
    """[x, y, w, h]; None where it has no size."""
    left, top, right, bottom = (
        number(box.get(key), f"{where}: {key}") for key in ("xtl", "ytl", "xbr", "ybr")
    )
    if right == left or bottom == top:
        return None
    if right < left or bottom < top:
        raise invalid(where, "right of left and bottom below top", box.attrib)
    return (left, top, right - left, bottom - top)


def files(found: PoseSet, prefix: str) -> dict[str, str]:
    """annotations.xml to upload, and labels.json to paste as "Raw" when the task is made.

    `prefix` precedes the images' names. Their sizes must be known, as they are in COCO.
    """
    skeleton = found.skeleton
    label = skeleton.category or skeleton.name
    drawing = _drawing(skeleton, _layout(found))
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>"]
    lines += ["  <meta><task>", "    <mode>annotation</mode>", "    <labels>"]
    lines.append(
        f"      <label><name>{escape(label)}</name><type>skeleton</type><attributes/>"
        f"<svg>{escape(drawing)}</svg></label>"
    )
    lines += [
        f"      <label><name>{escape(name)}</name><type>points</type><attributes/>"
        f"<parent>{escape(label)}</parent></label>"
        for name in skeleton.keypoints
    ]
    lines += ["    </labels>", "  </task></meta>"]
    for row, image in enumerate(found.images):
        width, height = image.size_wh or (0, 0)
        lines.append(
            f'  <image id="{row}" name={quoteattr(prefix + image.name)} width="{width}" '
            f'height="{height}">'
        )
        for person in image.persons:
            lines += _person(person, skeleton, label)
        lines.append("  </image>")
    lines += ["</annotations>", ""]
    return {"annotations.xml": "\n".join(lines), "labels.json": _labels(skeleton, label, drawing)}


def _person(person: Person, skeleton: Skeleton, label: str) -> list[str]:
    lines = [f'    <skeleton label={quoteattr(label)} source="file" z_order="0">']
    for name in skeleton.keypoints:
        # CVAT needs every keypoint somewhere; one that is outside is not labeled.
        x, y, visibility = person.keypoints.get(name, (0, 0, 0))
        lines.append(
            f'      <points label={quoteattr(name)} source="file" outside="{int(not visibility)}" '
            f'occluded="{int(visibility == 1)}" points="{_number(x)},{_number(y)}"/>'
        )
    return [*lines, "    </skeleton>"]


def _number(value: float) -> str:
    return f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".")


def _labels(skeleton: Skeleton, label: str, drawing: str) -> str:
    keypoints = [{"name": name, "type": "points", "attributes": []} for name in skeleton.keypoints]
    entry: dict[str, Any] = {
        "name": label,
        "type": "skeleton",
        "attributes": [],
        "svg": drawing,
        "sublabels": keypoints,
    }
    return json.dumps([entry], indent=2, ensure_ascii=False)


def _layout(found: PoseSet) -> dict[str, tuple[float, float]]:
    """Where CVAT draws the keypoints of its template, from 0 to 100: the persons' mean pose."""
    sums: dict[str, list[float]] = {name: [0.0, 0.0, 0.0] for name in found.skeleton.keypoints}
    for image in found.images:
        for person in image.persons:
            xs = [x for x, _, _ in person.keypoints.values()]
            ys = [y for _, y, _ in person.keypoints.values()]
            if len(xs) < 2 or min(xs) == max(xs) or min(ys) == max(ys):
                continue
            for name, (x, y, _) in person.keypoints.items():
                across = (x - min(xs)) / (max(xs) - min(xs))
                down = (y - min(ys)) / (max(ys) - min(ys))
                old = sums[name]
                sums[name] = [old[0] + across, old[1] + down, old[2] + 1]
    layout = {}
    for index, (name, (x, y, count)) in enumerate(sums.items()):
        # Keypoints that no person has are put into a row at the top.
        layout[name] = (
            (10 + 80 * x / count, 10 + 80 * y / count)
            if count
            else (10 + 80 * index / max(len(sums) - 1, 1), 5.0)
        )
    return layout


def _drawing(skeleton: Skeleton, layout: dict[str, tuple[float, float]]) -> str:
    """The SVG of a skeleton: lines are limbs, circles keypoints, counted from 1."""
    parts = []
    for a, b in skeleton.limbs:
        (x1, y1), (x2, y2) = (layout[skeleton.keypoints[i]] for i in (a, b))
        parts.append(
            f'<line x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}" data-type="edge" '
            f'data-node-from="{a + 1}" data-node-to="{b + 1}"></line>'
        )
    for node, name in enumerate(skeleton.keypoints, 1):
        x, y = layout[name]
        parts.append(
            f'<circle r="0.75" cx="{x:.2f}" cy="{y:.2f}" data-type="element node" '
            f'data-element-id="{node}" data-node-id="{node}" '
            f"data-label-name={quoteattr(name)}></circle>"
        )
    return "".join(parts)
