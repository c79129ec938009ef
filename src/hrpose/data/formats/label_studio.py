"""Label Studio's JSON: a list of tasks, each an image with the results of its annotators.

    [{"data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [{"result": [
       {"id": "r", "type": "rectanglelabels", "original_width": 640, "original_height": 480,
        "value": {"x": 10, "y": 20, "width": 30, "height": 60, "rectanglelabels": ["person"]}},
       {"id": "k", "parentID": "r", "type": "keypointlabels", "original_width": 640, ...
        "value": {"x": 12.5, "y": 30, "width": 0.5, "keypointlabels": ["nose"]}}]}]}]

Coordinates are percentages of the image. A keypoint belongs to the rectangle that is its parent or
that a relation joins it to, else to the smallest one around it that lacks this keypoint; without
rectangles an image has one person. A keypoint with the note (`meta.text`) "occluded" is hidden. Of
several annotators the one marked as ground truth counts, else the first; cancelled ones do not.
Results without a place, as a label that was never put into the image, are left out.

Written are tasks with the persons as predictions to correct, and the labeling setup.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import quoteattr

from hrpose.data.formats.pose_set import (
    Box,
    Keypoint,
    LabeledImage,
    Person,
    PoseSet,
    ReadOptions,
    box_of_keypoints,
    image_name,
    invalid,
    json_list,
    json_object,
    keypoint_name,
    left_out,
    number,
    pose_set,
    repeated_keypoint,
    size_wh,
    unknown_category,
)
from hrpose.data.images import ImageFiles
from hrpose.data.rules import printable
from hrpose.errors import UserError
from hrpose.file_kinds import SUFFIXES
from hrpose.io import read_json

# Percentages; a millionth of a percent of the widest image is less than 1/1000 pixel.
_DIGITS = 6
_CANCELLED = ("cancelled", "canceled")
_KINDS = ("rectanglelabels", "keypointlabels")
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")


@dataclass(slots=True)
class _Region:
    """A person's rectangle (None: the full image) and the keypoints that belong to it."""

    where: str
    box: Box | None = None
    keypoints: dict[str, Keypoint] = field(default_factory=dict)

    def lacks(self, keypoint: str, x: float, y: float) -> bool:
        if self.box is None:
            return keypoint not in self.keypoints
        left, top, w, h = self.box
        inside = left <= x <= left + w and top <= y <= top + h
        return inside and keypoint not in self.keypoints

    @property
    def area(self) -> float:
        return self.box[2] * self.box[3] if self.box else float("inf")


def read(source: Path, options: ReadOptions) -> PoseSet:
    """Read an export of the kind "JSON". Raises UserError, naming the file and the task."""
    tasks = read_json(source)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise invalid(str(source), "Label Studio's JSON, a list of tasks", type(tasks).__name__)
    images = options.images_for(source)
    labeled: list[LabeledImage] = []
    category, lost = options.category, Counter[str]()
    for row, task in enumerate(tasks, 1):
        where = f"{source}: task {printable(str(task.get('id', row)))}"
        if "annotations" not in task and "predictions" not in task:
            raise invalid(where, "'annotations', as in the export JSON (not JSON-MIN)", None)
        name = _name(task.get("data"), where, images)
        results = _results(task, where)
        if not results:
            skipped = _annotations(task, where, cancelled=True)
            lost["tasks that were cancelled" if skipped else "tasks without annotations"] += 1
            continue
        lost["annotations of a task beside the one that was read"] += len(results) - 1
        persons, size, found = _persons(results[0], where, options.category, lost)
        if category is None:
            category = found
        elif found is not None and found != category:
            raise unknown_category(f"{where}: rectangles", (found, category))
        labeled.append(LabeledImage(name, tuple(persons), size))
    return pose_set(
        source, labeled, options, images, category=category or "person", notes=left_out(lost)
    )


def _name(data: object, where: str, images: ImageFiles) -> str:
    """The image's name in `images`, whatever storage the task names."""
    values = [v for v in json_object(data, f"{where}: data").values() if isinstance(v, str)]
    urls = [v for v in values if _path(v).lower().endswith(SUFFIXES)]
    if len(urls) != 1:
        raise invalid(f"{where}: data", "one image", values)
    path = image_name(_path(urls[0]), f"{where}: data")
    # As it is; the file alone; and without the prefix that an upload adds.
    names = [path, PurePosixPath(path).name, _UPLOADED.sub("", PurePosixPath(path).name)]
    return next((name for name in names if name in images), names[-1])


def _path(url: str) -> str:
    """The path of an image in its storage: /data/local-files/?d=a/b.jpg has it as a/b.jpg."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    if parts.path.rstrip("/").endswith("/local-files"):
        return parse_qs(parts.query).get("d", [""])[0]
    if parts.scheme or parts.path.startswith("/data/"):
        return unquote(parts.path).removeprefix("/data/upload").lstrip("/")
    return unquote(parts.path)


def _annotations(
    task: Mapping[str, Any], where: str, cancelled: bool = False
) -> list[Mapping[str, Any]]:
    """Those of each annotator that were cancelled, or not; the one that counts first."""
    at = f"{where}: annotations"
    found = [json_object(each, at) for each in json_list(task.get("annotations"), at)]
    # Label Studio itself spells it with two l.
    found = [a for a in found if cancelled == any(a.get(f"was_{x}") for x in _CANCELLED)]
    return sorted(found, key=lambda annotation: not annotation.get("ground_truth"))


def _results(task: Mapping[str, Any], where: str) -> list[list[Any]]:
    """The results of each annotator, the one that counts first; else those of a prediction.

    A task whose annotations were all cancelled has none: it was skipped on purpose.
    """
    found = _annotations(task, where)
    if not found and not _annotations(task, where, cancelled=True):
        at = f"{where}: predictions"
        found = [json_object(each, at) for each in json_list(task.get("predictions"), at)]
    return [json_list(a.get("result"), f"{where}: result") for a in found]


def _persons(
    results: list[Any], where: str, category: str | None, lost: Counter[str]
) -> tuple[list[Person], tuple[int, int] | None, str | None]:
    """The persons, the image's size, and the label of the rectangles."""
    regions = [(row, json_object(r, f"{where}: result")) for row, r in enumerate(results, 1)]
    regions = [(row, region) for row, region in regions if _is_used(region, lost)]
    size: tuple[int, int] | None = None
    label: str | None = None
    persons: dict[str, _Region] = {}
    others: set[str] = set()
    for row, region in regions:
        if region["type"] == "relation":
            continue
        at, key = f"{where}: result {row}", str(region.get("id", row))
        own = size_wh(region.get("original_width"), region.get("original_height"), at)
        if size is not None and own != size:
            raise invalid(at, f"an image of {size[0]} x {size[1]}", f"{own[0]} x {own[1]}")
        size = own
        if region.get("image_rotation"):
            raise invalid(at, "an image that is not rotated", f"{region['image_rotation']} degrees")
        if region["type"] == "rectanglelabels":
            name, value = _labeled(region, "rectanglelabels", at)
            if category not in (None, name):
                others.add(key)
                lost["rectangles of other labels"] += 1
                continue
            if label not in (None, name):
                raise unknown_category(f"{at}: rectangles", (name, label or ""))
            label = name
            persons[key] = _Region(at, _box(value, size, at))
    parents = _parents(regions, {*persons, *others})
    alone = _Region(where)
    points = []
    for row, region in regions:
        if region["type"] == "keypointlabels" and size is not None:
            at, key = f"{where}: result {row}", str(region.get("id", row))
            name, value = _labeled(region, "keypointlabels", at)
            x = number(value.get("x"), f"{at}: x") * size[0] / 100
            y = number(value.get("y"), f"{at}: y") * size[1] / 100
            points.append((parents.get(key, ""), name, (x, y, _visible(region)), at))
    # Those with a parent first: the others belong to a rectangle around them.
    for parent, name, keypoint, at in sorted(points, key=lambda point: not point[0]):
        if parent in others:
            continue
        person = persons.get(parent)
        if person is None:
            around = [b for b in persons.values() if b.lacks(name, keypoint[0], keypoint[1])]
            if persons and not around:
                raise UserError(
                    f"{at}: expected a rectangle around '{printable(name)}' that lacks this "
                    "keypoint, found none; join it to its rectangle by a relation",
                    code="annotations-invalid",
                )
            person = min(around, key=lambda b: b.area) if persons else alone
        if name in person.keypoints:
            raise repeated_keypoint(at, name, "draw a rectangle around each person")
        person.keypoints[name] = keypoint
    found = [*persons.values(), *([alone] if alone.keypoints else [])]
    return [Person(person.keypoints, person.box, person.where) for person in found], size, label


def _is_used(region: Mapping[str, Any], lost: Counter[str]) -> bool:
    """Whether it is a rectangle, keypoint or relation and has a place; others are counted."""
    kind, value = region.get("type"), region.get("value")
    if kind not in (*_KINDS, "relation"):
        lost["results other than rectangles and keypoints"] += 1
        return False
    place = {} if value is None else value
    if kind in _KINDS and isinstance(place, dict) and None in (place.get("x"), place.get("y")):
        lost["results without a place in the image"] += 1
        return False
    return True


def _parents(regions: list[tuple[int, Mapping[str, Any]]], rectangles: set[str]) -> dict[str, str]:
    """The rectangle of each keypoint, where the task has it."""
    parents = {}
    for row, region in regions:
        if str(region.get("parentID")) in rectangles:
            parents[str(region.get("id", row))] = str(region["parentID"])
        if region.get("type") == "relation":
            ends = (str(region.get("from_id")), str(region.get("to_id")))
            for one, other in (ends, ends[::-1]):
                if other in rectangles and one not in rectangles:
                    parents[one] = other
    return parents


def _labeled(region: Mapping[str, Any], key: str, where: str) -> tuple[str, Mapping[str, Any]]:
    value = json_object(region.get("value"), f"{where}: value")
    labels = json_list(value.get(key), f"{where}: {key}")
    if len(labels) != 1:
        raise invalid(f"{where}: {key}", "one label", labels)
    return keypoint_name(labels[0], f"{where}: {key}"), value


def _box(value: Mapping[str, Any], size: tuple[int, int], where: str) -> Box | None:
    """The box in pixels; None where it has no size."""
    if value.get("rotation"):
        raise invalid(where, "a rectangle that is not rotated", f"{value['rotation']} degrees")
    x, y, w, h = (
        number(value.get(key), f"{where}: {key}") for key in ("x", "y", "width", "height")
    )
    if w <= 0 or h <= 0:
        return None
    return (x * size[0] / 100, y * size[1] / 100, w * size[0] / 100, h * size[1] / 100)


def _visible(region: Mapping[str, Any]) -> int:
    meta = region.get("meta")
    notes = meta.get("text") if isinstance(meta, dict) else None
    return 1 if isinstance(notes, list) and "occluded" in notes else 2


def files(found: PoseSet, prefix: str) -> dict[str, str]:
    """tasks.json and config.xml; `prefix` is where Label Studio finds the images.

    The images' sizes must be known, as they are in COCO.
    """
    label = found.skeleton.category or found.skeleton.name
    tasks = []
    for row, image in enumerate(found.images, 1):
        size = image.size_wh or (0, 0)
        results = [
            result
            for number, person in enumerate(image.persons, 1)
            for result in _of_person(person, f"p{row}-{number}", label, size)
        ]
        scores = [person.score for person in image.persons if person.score is not None]
        prediction: dict[str, Any] = {"model_version": "hrpose", "result": results}
        if scores:
            prediction["score"] = min(scores)  # the least certain person first
        tasks.append({"data": {"image": prefix + image.name}, "predictions": [prediction]})
    return {
        "tasks.json": json.dumps(tasks, ensure_ascii=False),
        "config.xml": _config(found.skeleton.keypoints, label),
    }


def _of_person(person: Person, key: str, label: str, size: tuple[int, int]) -> list[dict[str, Any]]:
    """The rectangle of a person, and the keypoints as its children."""
    common = {
        "to_name": "image",
        "original_width": size[0],
        "original_height": size[1],
        "image_rotation": 0,
    }

    def percent(value: float, axis: int) -> float:
        return round(100 * value / size[axis], _DIGITS)

    x, y, w, h = person.box or box_of_keypoints(person.keypoints.values(), size)
    box = {"x": percent(x, 0), "y": percent(y, 1), "width": percent(w, 0), "height": percent(h, 1)}
    results: list[dict[str, Any]] = [
        {
            **common,
            "id": key,
            "type": "rectanglelabels",
            "from_name": "person",
            "value": {**box, "rotation": 0, "rectanglelabels": [label]},
        }
    ]
    if person.score is not None:
        results[0]["score"] = person.score
    for row, (name, (x, y, visibility)) in enumerate(person.keypoints.items(), 1):
        result: dict[str, Any] = {
            **common,
            "id": f"{key}-{row}",
            "parentID": key,
            "type": "keypointlabels",
            "from_name": "keypoint",
            "value": {
                "x": percent(x, 0),
                "y": percent(y, 1),
                "width": 0.5,
                "keypointlabels": [name],
            },
        }
        if visibility == 1:
            result["meta"] = {"text": ["occluded"]}
        results.append(result)
    return results


def _config(keypoints: tuple[str, ...], label: str) -> str:
    lines = [f"    <Label value={quoteattr(name)}/>" for name in keypoints]
    return "\n".join(
        [
            "<View>",
            '  <Image name="image" value="$image"/>',
            '  <RectangleLabels name="person" toName="image">',
            f"    <Label value={quoteattr(label)}/>",
            "  </RectangleLabels>",
            '  <KeyPointLabels name="keypoint" toName="image">',
            *lines,
            "  </KeyPointLabels>",
            "</View>",
            "",
        ]
    )
