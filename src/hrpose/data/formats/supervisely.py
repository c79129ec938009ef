"""Supervisely: the folder of a project, with `meta.json` and data sets of `ann` and `img`.

    meta.json: {"classes": [{"title": "person", "shape": "graph", "geometry_config": {
       "nodes": {"0a1b...": {"label": "nose", ...}, ...},
       "edges": [{"src": "0a1b...", "dst": "2c3d..."}]}}]}
    DATASET/ann/a.jpg.json: {"size": {"width": 640, "height": 480}, "objects": [
       {"classTitle": "person", "geometryType": "graph", "instance": "7f...", "nodes": {
         "0a1b...": {"loc": [120.5, 80], "disabled": true}}},
       {"classTitle": "body", "geometryType": "rectangle", "instance": "7f...",
        "points": {"exterior": [[90, 60], [200, 400]]}}]}

A graph is a person; nodes are named by the class, and hidden where they are disabled. A rectangle
of the same `instance` is the person's box.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
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
    size_wh,
    unknown_category,
)
from hrpose.data.images import ImageFiles
from hrpose.errors import UserError
from hrpose.io import read_json
from hrpose.skeleton import Skeleton
from hrpose.skeletons import from_coco_category


@dataclass(frozen=True, slots=True)
class _Class:
    """The class of the persons: its title, its skeleton, and the keypoint of each node."""

    title: str
    skeleton: Skeleton
    nodes: Mapping[str, str]


def read(source: Path, options: ReadOptions) -> PoseSet:
    """Read a project by its folder or its `meta.json`. Raises UserError, naming file and object."""
    root = source if source.is_dir() else source.parent
    meta = root / "meta.json" if source.is_dir() else source
    person = _class(meta, options.category)
    files = sorted(path for path in root.rglob("*.json") if path.parent.name == "ann")
    if not files:
        raise invalid(str(root), "DATASET/ann/IMAGE.json", None)
    images = options.images or ImageFiles(root)
    labeled, lost = [], Counter[str]()
    for path in files:
        document = json_object(read_json(path), str(path))
        size = json_object(document.get("size"), f"{path}: size")
        dataset = path.parent.parent.relative_to(root).as_posix()
        names = [f"{dataset}/img/{path.stem}", f"{dataset}/{path.stem}", path.stem]
        name = first_found(images, [image_name(each, str(path)) for each in names])
        wh = size_wh(size.get("width"), size.get("height"), f"{path}: size")
        persons = _persons(document.get("objects"), path, person, lost)
        labeled.append(LabeledImage(name, tuple(persons), wh, dataset))
    return pose_set(source, labeled, options, images, person.skeleton, notes=left_out(lost))


def _class(path: Path, wanted: str | None) -> _Class:
    """The class of graphs, the one that is `wanted` where there are several."""
    meta = json_object(read_json(path), str(path))
    if "classes" not in meta:
        raise invalid(str(path), "the 'classes' of a project of Supervisely", None)
    graphs: dict[str, Mapping[str, Any]] = {}
    for entry in json_list(meta.get("classes"), f"{path}: classes"):
        entry = json_object(entry, f"{path}: classes")
        if entry.get("shape") == "graph":
            graphs[keypoint_name(entry.get("title"), f"{path}: classes: title")] = entry
    title = wanted or (next(iter(graphs)) if len(graphs) == 1 else None)
    if title is None or title not in graphs:
        raise unknown_category(f"{path}: classes of the shape 'graph'", graphs)
    where = f"{path}: class {title}"
    config = json_object(graphs[title].get("geometry_config"), where)
    nodes = {
        key: keypoint_name(json_object(node, f"{where}: nodes").get("label"), f"{where}: {key}")
        for key, node in json_object(config.get("nodes"), f"{where}: nodes").items()
    }
    names, keys = list(nodes.values()), list(nodes)
    if not names or len(set(names)) != len(names):
        raise invalid(f"{where}: nodes", "keypoints, each once", ", ".join(names))
    edges = [
        json_object(edge, f"{where}: edges")
        for edge in json_list(config.get("edges"), f"{where}: edges")
    ]
    # COCO counts from 1; an edge to another node is dropped.
    ends = [(str(edge.get("src")), str(edge.get("dst"))) for edge in edges]
    limbs = [[keys.index(a) + 1, keys.index(b) + 1] for a, b in ends if {a, b} <= set(keys)]
    skeleton = from_coco_category({"name": title, "keypoints": names, "skeleton": limbs})
    return _Class(title, skeleton, dict(zip(keys, skeleton.keypoints, strict=True)))


def _persons(objects: object, path: Path, person: _Class, lost: Counter[str]) -> list[Person]:
    graphs: list[tuple[str | None, dict[str, Keypoint], str]] = []
    boxes: dict[str, Box] = {}
    for row, entry in enumerate(json_list(objects, f"{path}: objects"), 1):
        where = f"{path}: object {row}"
        entry = json_object(entry, where)
        kind, instance = entry.get("geometryType"), entry.get("instance")
        key = None if instance is None else str(instance)
        if kind == "graph" and entry.get("classTitle") == person.title:
            graphs.append((key, _keypoints(entry.get("nodes"), where, person), where))
        elif kind == "rectangle" and key is not None:
            box = _box(entry.get("points"), where)
            if box is not None:
                boxes[key] = box
        else:
            lost["objects other than graphs of the class and their rectangles"] += 1
    count = Counter(key for key, _, _ in graphs)
    lost["rectangles of an instance without a graph"] += sum(not count[key] for key in boxes)
    return [
        Person(keypoints, boxes.get(key or "") if count[key] == 1 else None, where)
        for key, keypoints, where in graphs
    ]


def _keypoints(nodes: object, where: str, person: _Class) -> dict[str, Keypoint]:
    found: dict[str, Keypoint] = {}
    for key, node in json_object(nodes, f"{where}: nodes").items():
        at = f"{where}: node {key[:80]}"
        node = json_object(node, at)
        if key not in person.nodes:
            raise UserError(
                f"{at}: expected a node of the class '{person.title}' in meta.json",
                code="keypoints-differ",
            )
        x, y = _xy(node.get("loc"), f"{at}: loc")
        found[person.nodes[key]] = (x, y, 1 if node.get("disabled") is True else 2)
    return found


def _xy(value: object, where: str) -> tuple[float, float]:
    pair = json_list(value, where)
    if len(pair) != 2:
        raise invalid(where, "[x, y]", value)
    return number(pair[0], f"{where}: x"), number(pair[1], f"{where}: y")


def _box(points: object, where: str) -> Box | None:
    """The box of two corners; None where it has no size."""
    corners = json_list(json_object(points, f"{where}: points").get("exterior"), f"{where}: points")
    if len(corners) != 2:
        raise invalid(f"{where}: points: exterior", "two corners", f"{len(corners)}")
    (x1, y1), (x2, y2) = (_xy(corner, f"{where}: points") for corner in corners)
    box = (min(x1, x2), min(y1, y2), abs(x1 - x2), abs(y1 - y2))
    return box if box[2] and box[3] else None
