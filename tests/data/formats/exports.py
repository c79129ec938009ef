"""Small sources as the tools export them, each with the same two persons in the same two images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = (200, 100)
# a.jpg: one body with all three keypoints, the tail hidden; b.jpg: one whose tail is not labeled.
EXPECTED = {
    "a.jpg": [[20.0, 30.0, 2, 60.0, 30.0, 2, 40.0, 80.0, 1]],
    "b.jpg": [[100.0, 20.0, 2, 140.0, 50.0, 2, 0, 0, 0]],
}
KEYPOINTS = ("left_ear", "right_ear", "tail")
BOXES = {"a.jpg": [10.0, 20.0, 60.0, 70.0], "b.jpg": [90.0, 10.0, 60.0, 50.0]}


def images(folder: Path, names: tuple[str, ...] = ("a.jpg", "b.jpg")) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", SIZE, "gray").save(folder / name)
    return folder


def yolo(root: Path, values: int = 3) -> Path:
    images(root / "images" / "train", ("a.jpg",))
    images(root / "images" / "val", ("b.jpg",))
    for name, subset in (("a.jpg", "train"), ("b.jpg", "val")):
        words = ["0"]
        x, y, w, h = BOXES[name]
        words += [str(v) for v in ((x + w / 2) / 200, (y + h / 2) / 100, w / 200, h / 100)]
        for px, py, v in np.reshape(EXPECTED[name][0], (3, 3)).tolist():
            words += [str(px / 200), str(py / 100), str(int(v))][:values]
        label = root / "labels" / subset / f"{name[:-4]}.txt"
        label.parent.mkdir(parents=True)
        label.write_text(" ".join(words) + "\n")
    (root / "data.yaml").write_text(
        "path: ../datasets/somewhere-else\ntrain: images/train\nval: images/val\ntest:\n"
        f"kpt_shape: [3, {values}]\nflip_idx: [1, 0, 2]\nnames:\n  0: animal\n"
        "kpt_names:\n  0: [left_ear, right_ear, tail]\n"
    )
    return root / "data.yaml"


_META = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>7</id><name>animals</name><size>2</size><mode>{mode}</mode>
      <labels>
        <label><name>animal</name><color>#5986b3</color><type>skeleton</type><attributes/>
          <svg>&lt;line x1="1" y1="2" x2="3" y2="4" data-type="edge" data-node-from="1"
            data-node-to="3"&gt;&lt;/line&gt;&lt;circle r="1.5" cx="1" cy="2" data-element-id="1"
            data-node-id="1" data-label-name="left_ear"&gt;&lt;/circle&gt;&lt;circle
            data-node-id="3" data-label-name="tail"&gt;&lt;/circle&gt;</svg></label>
        <label><name>left_ear</name><type>points</type><attributes/><parent>animal</parent></label>
        <label><name>right_ear</name><type>points</type><attributes/><parent>animal</parent></label>
        <label><name>tail</name><type>points</type><attributes/><parent>animal</parent></label>
      </labels>
      <original_size><width>200</width><height>100</height></original_size>
      <source>clip.mp4</source>
    </task>
    <dumped>2026-11-01 10:00:00+00:00</dumped>
  </meta>
"""


def _cvat_keypoints(name: str) -> str:
    triples = np.reshape(EXPECTED[name][0], (3, 3)).tolist()
    return "".join(
        f'<points label="{keypoint}" source="manual" outside="{int(v == 0)}" '
        f'occluded="{int(v == 1)}" points="{x:.2f},{y:.2f}"></points>'
        for keypoint, (x, y, v) in zip(KEYPOINTS, triples, strict=True)
    )


def cvat_images(root: Path) -> Path:
    images(root / "images")
    text = _META.format(mode="annotation")
    for row, (name, (x, y, w, h)) in enumerate(BOXES.items()):
        text += (
            f'<image id="{row}" name="{name}" width="200" height="100">'
            f'<skeleton label="animal" source="manual" z_order="0" group_id="{row + 1}">'
            f"{_cvat_keypoints(name)}</skeleton>"
            f'<box label="body" group_id="{row + 1}" occluded="0" xtl="{x}" ytl="{y}" '
            f'xbr="{x + w}" ybr="{y + h}"></box><tag label="dull"></tag></image>'
        )
    (root / "annotations.xml").write_text(text + "</annotations>")
    return root / "annotations.xml"


def cvat_video(root: Path) -> Path:
    images(root / "images", ("frame_000000.png", "frame_000005.png"))
    text = _META.format(mode="interpolation")
    for row, (name, frame) in enumerate((("a.jpg", 0), ("b.jpg", 5))):
        text += (
            f'<track id="{row}" label="animal" source="manual"><skeleton frame="{frame}" '
            f'keyframe="1" z_order="0">{_cvat_keypoints(name)}</skeleton></track>'
        )
    (root / "annotations.xml").write_text(text + "</annotations>")
    return root / "annotations.xml"


def label_studio_tasks() -> list[dict[str, Any]]:
    tasks = []
    for row, (name, (x, y, w, h)) in enumerate(BOXES.items(), 1):
        common = {"original_width": 200, "original_height": 100, "image_rotation": 0}
        results: list[dict[str, Any]] = [
            {
                **common, "id": "r1", "type": "rectanglelabels", "from_name": "body",
                "to_name": "image",
                "value": {"x": x / 2, "y": y, "width": w / 2, "height": h, "rotation": 0,
                          "rectanglelabels": ["animal"]},
            }
        ]  # fmt: skip
        triples = np.reshape(EXPECTED[name][0], (3, 3)).tolist()
        for keypoint, (px, py, v) in zip(KEYPOINTS, triples, strict=True):
            point = {
                **common, "id": f"k-{keypoint}", "type": "keypointlabels", "from_name": "joint",
                "to_name": "image",
                "value": {"x": px / 2, "y": py, "width": 0.4, "keypointlabels": [keypoint]},
                **({"meta": {"text": ["occluded"]}} if v == 1 else {}),
            }  # fmt: skip
            if v:
                results.append(point)
        tasks.append(
            {
                "id": row,
                "data": {"image": f"/data/upload/1/0a1b2c3d-{name}", "note": "morning"},
                "annotations": [{"id": row, "was_canceled": False, "result": results}],
                "predictions": [],
            }
        )
    return tasks


def label_studio(root: Path) -> Path:
    images(root / "images")
    (root / "project-1.json").write_text(json.dumps(label_studio_tasks()))
    return root / "project-1.json"


def labelme(root: Path) -> Path:
    images(root / "images")
    (root / "labels").mkdir()
    for name, (x, y, w, h) in BOXES.items():
        triples = np.reshape(EXPECTED[name][0], (3, 3)).tolist()
        shapes: list[dict[str, Any]] = [
            {"label": "animal", "points": [[x, y], [x + w, y + h]], "group_id": 3,
             "shape_type": "rectangle", "flags": {}}
        ]  # fmt: skip
        shapes += [
            {"label": keypoint, "points": [[px, py]], "group_id": 3, "shape_type": "point",
             "description": "", "flags": {"occluded": v == 1}, "mask": None}
            for keypoint, (px, py, v) in zip(KEYPOINTS, triples, strict=True)
            if v
        ]  # fmt: skip
        document = {
            "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"..\\images\\{name}",
            "imageData": None, "imageHeight": 100, "imageWidth": 200,
        }  # fmt: skip
        (root / "labels" / f"{name[:-4]}.json").write_text(json.dumps(document))
    return root / "labels"


def _triples(name: str) -> list[list[float]]:
    triples: list[list[float]] = np.reshape(EXPECTED[name][0], (3, 3)).tolist()
    return triples


def datumaro(root: Path, skeletons: bool = False) -> Path:
    """Datumaro 1.13's export; with `skeletons` CVAT's, whose keypoints are labels of their own."""
    labels = [{"name": "animal", "parent": "", "attributes": []}]
    points = [{"label_id": 0, "labels": KEYPOINTS, "joints": [[0, 2], [1, 2]], "positions": []}]
    if skeletons:
        labels += [{"name": name, "parent": "animal", "attributes": []} for name in KEYPOINTS]
        points[0]["labels"] = []
    for subset, name in (("train", "a.jpg"), ("val", "b.jpg")):
        images(root / "images" / subset, (name,))
        common = {"id": 0, "attributes": {}, "group": 1, "label_id": 0}
        elements = [
            {**common, "type": "points", "label_id": row, "points": at[:2], "visibility": at[2:]}
            for row, at in enumerate(_triples(name), 1)
        ]
        person = {**common, "type": "skeleton", "elements": elements}
        if not skeletons:
            xys, seen = (
                [v for at in _triples(name) for v in at[s]] for s in (slice(2), slice(2, 3))
            )
            person = {**common, "type": "points", "points": xys, "visibility": seen, "z_order": 0}
        box = {**common, "type": "bbox", "bbox": BOXES[name], "z_order": 0}
        item = {
            "id": name[:-4], "annotations": [person, box, {"type": "label", "label_id": 0}],
            "image": {"path": name, "size": SIZE[::-1]},
        }  # fmt: skip
        document = {
            "dm_format_version": "1.0", "media_type": 2, "infos": {}, "items": [item],
            "categories": {"label": {"labels": labels}, "points": {"items": points}},
        }  # fmt: skip
        path = root / "annotations" / f"{subset}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document))
    return root


def supervisely(root: Path) -> Path:
    """A project of Supervisely 6.74: nodes have ids, and their names are in meta.json."""
    nodes = {f"id-{name}": {"label": name, "loc": [0, 0]} for name in KEYPOINTS}
    edges = [{"src": "id-left_ear", "dst": "id-tail"}, {"src": "gone", "dst": "id-tail"}]
    graph = {"nodes": nodes, "edges": edges}
    classes = [
        {"title": "animal", "shape": "graph", "geometry_config": graph},
        {"title": "body", "shape": "rectangle", "geometry_config": {}},
    ]
    for dataset, name in (("train", "a.jpg"), ("val", "b.jpg")):
        images(root / dataset / "img", (name,))
        x, y, w, h = BOXES[name]
        placed = {
            f"id-{keypoint}": {"loc": [px, py], **({"disabled": True} if v == 1 else {})}
            for keypoint, (px, py, v) in zip(KEYPOINTS, _triples(name), strict=True)
            if v
        }
        objects = [
            {"classTitle": "animal", "geometryType": "graph", "instance": "7f", "nodes": placed},
            {"classTitle": "body", "geometryType": "rectangle", "instance": "7f",
             "points": {"exterior": [[x, y], [x + w, y + h]], "interior": []}},
            {"classTitle": "body", "geometryType": "bitmap", "bitmap": {}},
        ]  # fmt: skip
        (root / dataset / "ann").mkdir()
        (root / dataset / "ann" / f"{name}.json").write_text(
            json.dumps({"size": {"height": 100, "width": 200}, "objects": objects, "tags": []})
        )
    (root / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}))
    return root


def csv_table(root: Path) -> Path:
    images(root / "images")
    lines = ["image,person,keypoint,x,y,visible"]
    for name, (values,) in EXPECTED.items():
        for keypoint, (x, y, v) in zip(KEYPOINTS, np.reshape(values, (3, 3)).tolist(), strict=True):
            lines.append(f"{name},0,{keypoint},{x},{y},{int(v)}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root / "labels.csv"


def lspet(root: Path, count: int = 2, lsp: bool = False) -> Path:
    pattern = "im{:04d}.jpg" if lsp else "im{:05d}.jpg"
    images(root / "images", tuple(pattern.format(i + 1) for i in range(count)))
    keypoints = np.zeros((14, 3, count))
    keypoints[:, 0] = np.arange(14)[:, None] * 10 + 5
    keypoints[:, 1] = np.arange(14)[:, None] * 5 + 3
    keypoints[:, 2] = np.arange(14)[:, None] % 2
    savemat(root / "joints.mat", {"joints": keypoints.transpose(1, 0, 2) if lsp else keypoints})
    return root / "joints.mat"
