"""CVAT: annotations.xml ("CVAT 1.1") of skeletons to correct, and labels.json for the task.

CVAT's skeletons have no boxes, so boxes are not written.
"""

import json
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from hrpose.data.formats.people import Person, PoseSet
from hrpose.skeleton import Skeleton

_DIGITS = 3


def files(found: PoseSet, prefix: str) -> dict[str, str]:
    """annotations.xml to upload, labels.json to paste as "Raw" when the task is made.

    `prefix` is put before the pictures' names. Their sizes have to be known, as they are in COCO.
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
    for row, picture in enumerate(found.pictures):
        width, height = picture.size_wh or (0, 0)
        lines.append(
            f'  <image id="{row}" name={quoteattr(prefix + picture.name)} width="{width}" '
            f'height="{height}">'
        )
        for person in picture.people:
            lines += _person(person, skeleton, label)
        lines.append("  </image>")
    lines += ["</annotations>", ""]
    return {"annotations.xml": "\n".join(lines), "labels.json": _labels(skeleton, label, drawing)}


def _person(person: Person, skeleton: Skeleton, label: str) -> list[str]:
    lines = [f'    <skeleton label={quoteattr(label)} source="file" z_order="0">']
    for name in skeleton.keypoints:
        # CVAT wants every joint somewhere; one that is outside is not there.
        x, y, visibility = person.joints.get(name, (0, 0, 0))
        lines.append(
            f'      <points label={quoteattr(name)} source="file" outside="{int(not visibility)}" '
            f'occluded="{int(visibility == 1)}" points="{_number(x)},{_number(y)}"/>'
        )
    return [*lines, "    </skeleton>"]


def _number(value: float) -> str:
    return f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".")


def _labels(skeleton: Skeleton, label: str, drawing: str) -> str:
    joints = [{"name": name, "type": "points", "attributes": []} for name in skeleton.keypoints]
    entry: dict[str, Any] = {
        "name": label,
        "type": "skeleton",
        "attributes": [],
        "svg": drawing,
        "sublabels": joints,
    }
    return json.dumps([entry], indent=2, ensure_ascii=False)


def _layout(found: PoseSet) -> dict[str, tuple[float, float]]:
    """Where CVAT draws the joints of its template, from 0 to 100: the mean pose of the people."""
    sums: dict[str, list[float]] = {name: [0.0, 0.0, 0.0] for name in found.skeleton.keypoints}
    for picture in found.pictures:
        for person in picture.people:
            xs = [x for x, _, _ in person.joints.values()]
            ys = [y for _, y, _ in person.joints.values()]
            if len(xs) < 2 or min(xs) == max(xs) or min(ys) == max(ys):
                continue
            for name, (x, y, _) in person.joints.items():
                share = ((x - min(xs)) / (max(xs) - min(xs)), (y - min(ys)) / (max(ys) - min(ys)))
                old = sums[name]
                sums[name] = [old[0] + share[0], old[1] + share[1], old[2] + 1]
    layout = {}
    for place, (name, (x, y, count)) in enumerate(sums.items()):
        # Joints that nobody has are put into a row at the top.
        layout[name] = (
            (10 + 80 * x / count, 10 + 80 * y / count)
            if count
            else (10 + 80 * place / max(len(sums) - 1, 1), 5.0)
        )
    return layout


def _drawing(skeleton: Skeleton, layout: dict[str, tuple[float, float]]) -> str:
    """The SVG by which CVAT knows a skeleton: lines are limbs, circles joints, counted from 1."""
    parts = []
    for a, b in skeleton.limbs:
        (x1, y1), (x2, y2) = (layout[skeleton.keypoints[i]] for i in (a, b))
        parts.append(
            f'<line x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}" data-type="edge" '
            f'data-node-from="{a + 1}" data-node-to="{b + 1}"></line>'
        )
    for number, name in enumerate(skeleton.keypoints, 1):
        x, y = layout[name]
        parts.append(
            f'<circle r="0.75" cx="{x:.2f}" cy="{y:.2f}" data-type="element node" '
            f'data-element-id="{number}" data-node-id="{number}" '
            f"data-label-name={quoteattr(name)}></circle>"
        )
    return "".join(parts)
