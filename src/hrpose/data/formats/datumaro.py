"""Datumaro's own format: a JSON file for each subset, in `annotations` beside `images/SUBSET`.

    {"categories": {
       "label": {"labels": [{"name": "person", "parent": ""}, {"name": "nose", ...}]},
       "points": {"items": [{"label_id": 0, "labels": ["nose", "neck"], "joints": [[0, 1]]}]}},
     "items": [{"id": "a", "image": {"path": "a.jpg", "size": [480, 640]}, "annotations": [
       {"type": "points", "label_id": 0, "group": 1, "points": [120.5, 80, 0, 0],
        "visibility": [2, 0]},
       {"type": "bbox", "label_id": 0, "group": 1, "bbox": [90, 60, 110, 340]}]}]}

`points` are all keypoints of one person, in the order of the label's `labels`, or of `--skeleton`
where it has none; visibility is 0 (absent), 1 (hidden) or 2. CVAT writes `skeleton` instead: its
`elements` are points of one keypoint each, whose label has the person's as `parent`. A box belongs
to the person of its group; others of the label are persons of whom nothing is labeled.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hrpose.data.formats.pose_set import (
    Box,
    Keypoint,
    LabeledImage,
    Person,
    PoseSet,
    ReadOptions,
    first_found,
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
    whole_number,
)
from hrpose.data.images import ImageFiles
from hrpose.errors import UserError
from hrpose.io import read_json
from hrpose.skeleton import Skeleton
from hrpose.skeletons import from_coco_category

_MAX_GROUP = 2**53


@dataclass(frozen=True, slots=True)
class _Labels:
    """The names of all labels, the number of the persons' one, and their keypoints."""

    names: tuple[str, ...]
    person: int
    skeleton: Skeleton
    keypoints: tuple[str, ...]


def read(source: Path, options: ReadOptions) -> PoseSet:
    """Read the folder of an export, or one of its JSON files. Raises UserError, naming the item."""
    files = [source]
    if source.is_dir():
        files = sorted((source / "annotations").glob("*.json")) or sorted(source.glob("*.json"))
    if not files:
        raise invalid(str(source), "Datumaro's JSON files in 'annotations'", None)
    folder = files[0].parent
    images = options.images_for(folder.parent if folder.name == "annotations" else folder)
    documents = {path: json_object(read_json(path), str(path)) for path in files}
    labels = _labels(documents, options)
    labeled, lost = [], Counter[str]()
    for path, document in documents.items():
        for row, item in enumerate(_objects(document, "items", str(path)), 1):
            where = f"{path}: item {row}"
            image = item.get("image")
            if not isinstance(image, dict):
                lost["items that are no image"] += 1
                continue
            name = _name(item.get("id"), image.get("path"), path.stem, where, images)
            size = json_list(image.get("size"), f"{where}: image: size")
            if size and len(size) != 2:
                raise invalid(f"{where}: image: size", "[height, width]", size)
            wh = size_wh(size[1], size[0], where) if size else None
            persons = _persons(_objects(item, "annotations", where), where, labels, lost)
            labeled.append(LabeledImage(name, tuple(persons), wh, path.stem))
    return pose_set(source, labeled, options, images, labels.skeleton, notes=left_out(lost))


def _labels(documents: Mapping[Path, Mapping[str, Any]], options: ReadOptions) -> _Labels:
    """What the files say about labels, alike in all of them. Raises UserError if they differ."""
    path, document = next(iter(documents.items()))
    categories, where = document.get("categories"), f"{path}: categories"
    if any(other.get("categories") != categories for other in documents.values()):
        raise invalid(where, "the same in all the files", "others")
    groups = json_object(categories, where)
    entries = _objects(groups.get("label"), "labels", f"{where}: label")
    names = [keypoint_name(entry.get("name"), f"{where}: label") for entry in entries]
    own: dict[str, dict[str, list[Any]]] = {}
    for name, entry in zip(names, entries, strict=True):
        if isinstance(parent := entry.get("parent"), str) and parent in names:
            own.setdefault(parent, {"keypoints": []})["keypoints"].append(name)
    for item in _objects(groups.get("points"), "items", f"{where}: points"):
        at = whole_number(item.get("label_id"), f"{where}: points: label_id", 0, len(names) - 1)
        given = json_list(item.get("labels"), f"{where}: points: labels")
        joints = json_list(item.get("joints"), f"{where}: points: joints")
        if given:
            keypoints = [keypoint_name(name, f"{where}: points: labels") for name in given]
            own[names[at]] = {"keypoints": keypoints, "skeleton": joints}
    known = [name for name in names if name in own] or (names if options.skeleton else [])
    chosen = options.category or (known[0] if len(known) == 1 else None)
    if chosen is None or chosen not in known:
        raise unknown_category(f"{where}: labels with keypoints", known)
    skeleton = options.skeleton
    if chosen in own:
        keypoints = own[chosen]["keypoints"]
        if len(set(keypoints)) != len(keypoints):
            raise invalid(f"{where}: {chosen}", "each keypoint once", ", ".join(keypoints))
        skeleton = from_coco_category({"name": chosen, **own[chosen]})
    assert skeleton is not None  # `chosen` is known by its keypoints, or by --skeleton
    keypoints = own.get(chosen, {}).get("keypoints", list(skeleton.keypoints))
    return _Labels(tuple(names), names.index(chosen), skeleton, tuple(keypoints))


def _objects(value: object, key: str, where: str) -> list[Mapping[str, Any]]:
    """The objects of a list in an object; both may be absent."""
    entries = [] if value is None else json_list(json_object(value, where).get(key), where)
    return [json_object(entry, f"{where}: {key}") for entry in entries]


def _name(item_id: object, path: object, subset: str, where: str, images: ImageFiles) -> str:
    """The image's name: in the folder of its subset, or by the item's id where it is elsewhere."""
    if not isinstance(path, str) or not isinstance(item_id, str):
        raise invalid(f"{where}: image: path", "the names of an image and its item", path)
    # Datumaro writes the path on the machine that exported, unless it saved the images.
    plain = path.replace("\\", "/")
    by_id = f"{item_id}{PurePosixPath(plain).suffix}"
    inside = [] if plain.startswith("/") or ":" in plain else [f"{subset}/{plain}", plain]
    names = [*inside, f"{subset}/{by_id}", by_id]
    return first_found(images, [image_name(name, f"{where}: image: path") for name in names])


def _persons(
    annotations: list[Mapping[str, Any]], where: str, labels: _Labels, lost: Counter[str]
) -> list[Person]:
    persons: list[tuple[int, dict[str, Keypoint], str]] = []
    boxes: list[tuple[int, Box, str]] = []
    for row, annotation in enumerate(annotations, 1):
        at = f"{where}: annotation {row}"
        kind = annotation.get("type")
        if kind not in ("points", "skeleton", "bbox"):
            lost["annotations other than points, skeletons and boxes"] += 1
            continue
        group = whole_number(annotation.get("group") or 0, f"{at}: group", 0, _MAX_GROUP)
        is_person = _label(annotation, at, labels) == labels.person
        if kind == "bbox":
            box = _numbers(annotation.get("bbox"), 4, f"{at}: bbox")
            if box[2] > 0 and box[3] > 0 and (is_person or group):
                boxes.append((group, (box[0], box[1], box[2], box[3]), at if is_person else ""))
        elif not is_person:
            lost["points of other labels"] += 1
        elif kind == "points":
            names = labels.skeleton.keypoints
            persons.append((group, _points(annotation, names, at), at))
        else:
            persons.append((group, _elements(annotation, at, labels), at))
    of_group = {group: box for group, box, _ in reversed(boxes) if group}
    # A group of several persons says nothing about whose box it is.
    count = Counter(group for group, _, _ in persons)
    found = [
        Person(keypoints, of_group.get(group) if count[group] == 1 else None, at)
        for group, keypoints, at in persons
    ]
    alone = [Person({}, box, at) for group, box, at in boxes if at and not count[group]]
    return found + alone


def _label(annotation: Mapping[str, Any], at: str, labels: _Labels) -> int | None:
    label = annotation.get("label_id")
    if label is None:
        return None
    return whole_number(label, f"{at}: label_id", 0, len(labels.names) - 1)


def _numbers(values: object, count: int, where: str) -> list[float]:
    listed = json_list(values, where)
    if len(listed) != count:
        raise invalid(where, f"{count} numbers", f"{len(listed)}")
    return [number(value, where) for value in listed]


def _points(annotation: Mapping[str, Any], names: tuple[str, ...], at: str) -> dict[str, Keypoint]:
    """The keypoints of one person, in the order of `names`; absent ones are left out."""
    values = _numbers(annotation.get("points"), 2 * len(names), f"{at}: points")
    seen = annotation.get("visibility")
    given = [2] * len(names) if seen is None else json_list(seen, f"{at}: visibility")
    if len(given) != len(names):
        raise invalid(f"{at}: visibility", f"{len(names)} numbers", f"{len(given)}")
    visible = [whole_number(value, f"{at}: visibility", 0, 2) for value in given]
    triples = zip(values[::2], values[1::2], visible, strict=True)
    return {name: triple for name, triple in zip(names, triples, strict=True) if triple[2]}


def _elements(annotation: Mapping[str, Any], at: str, labels: _Labels) -> dict[str, Keypoint]:
    """The keypoints of CVAT's skeleton, each with a label of its own."""
    found: dict[str, Keypoint] = {}
    seen: set[str] = set()
    for row, element in enumerate(_objects(annotation, "elements", at), 1):
        where = f"{at}: element {row}"
        label = _label(element, where, labels)
        name = None if label is None else labels.names[label]
        if name not in labels.keypoints:
            raise UserError(
                f"{where}: label_id: expected a keypoint of '{labels.skeleton.name}', found {name}",
                code="keypoints-differ",
            )
        if name in seen:
            raise repeated_keypoint(where, name)
        seen.add(name)
        known = labels.skeleton.keypoints[labels.keypoints.index(name)]
        found |= _points(element, (known,), where)
    return found
