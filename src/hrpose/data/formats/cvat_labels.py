"""CVAT's <meta>: the skeletons that there are, their joints and limbs; a clip's name and size."""

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field, replace
from pathlib import Path

from hrpose.data.formats.checks import joint_name, printable, size_wh, wrong
from hrpose.data.formats.people import skeleton_of
from hrpose.errors import UserError
from hrpose.skeleton import SHIPPED, Skeleton

# The drawing by which CVAT knows a skeleton is an SVG with a circle for each joint and a line for
# each limb. Bounded, so that no text can make the search slow.
_CIRCLE = re.compile(r"<circle\b[^<>]{0,2000}>")
_LINE = re.compile(r"<line\b[^<>]{0,2000}>")


@dataclass(frozen=True, slots=True)
class Labels:
    """Skeletons by label, and the clip's size and name where it is one."""

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
            raise UserError(
                f"{source}: meta: expected one skeleton label, or one of them as --category, "
                f"found {printable(', '.join(known))}"
            )
        return wanted


def labels_of(source: Path, meta: ET.Element) -> Labels:
    """Read <meta>. Raises UserError where a skeleton has no joints."""
    joints: dict[str, list[str]] = {}
    drawings: dict[str, str] = {}
    for label in meta.iter("label"):
        name = joint_name(label.findtext("name"), f"{source}: meta: label")
        parent = label.findtext("parent")
        if parent:
            joints.setdefault(parent.strip(), []).append(name)
        elif label.findtext("type") == "skeleton":
            drawings[name] = label.findtext("svg") or ""
    skeletons = {}
    for name, drawing in drawings.items():
        names = joints.get(name, [])
        if not names or len(set(names)) != len(names):
            raise wrong(f"{source}: meta: label {printable(name)}", "joints, each once", names)
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
