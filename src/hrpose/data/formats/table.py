"""The formats that hrpose reads and writes, by the name they have on the command line.

Each is a module of this folder, imported when it is needed: the command line lists them all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hrpose.data.formats.people import Given, PoseSet


@dataclass(frozen=True, slots=True)
class Source:
    """What is read: the module, the source that the user names, and what it does."""

    module: str
    source: str
    help: str

    def read(self, source: Path, given: "Given") -> "PoseSet":
        """Read the source. Raises UserError, naming file and entry."""
        found: PoseSet = import_module(f"{__package__}.{self.module}").read(source, given)
        return found


SOURCES: Mapping[str, Source] = {
    "lsp": Source("lsp", "joints.mat", "Leeds Sports Pose and its extension (LSPET)."),
    "yolo": Source("yolo", "data.yaml", "YOLO-pose, as Ultralytics has it."),
    "cvat": Source(
        "cvat", "annotations.xml, or the JSON of COCO keypoints", "CVAT: pictures and clips."
    ),
    "label-studio": Source("label_studio", "The export of the kind JSON", "Label Studio."),
    "labelme": Source("labelme", "The folder of the JSON files", "labelme, a file a picture."),
    "csv": Source(
        "csv",
        "The table, with a header",
        "A table, one row a joint: image, person, joint, x, y, and visible if known.",
    ),
    "coco": Source(
        "coco",
        "COCO keypoints JSON",
        "COCO keypoints of other tools: one category, crowds left out.",
    ),
}


@dataclass(frozen=True, slots=True)
class Target:
    """What is written for a tool: the module, what it does, what precedes the pictures' names."""

    module: str
    help: str
    prefix: str = ""

    def files(self, found: "PoseSet", prefix: str) -> dict[str, str]:
        """The files by name, as text."""
        files: dict[str, str] = import_module(f"{__package__}.{self.module}").files(found, prefix)
        return files


TARGETS: Mapping[str, Target] = {
    "to-cvat": Target(
        "cvat",
        "annotations.xml to upload into a task, and labels.json to make the task with.",
    ),
    "to-label-studio": Target(
        "label_studio",
        "tasks.json with predictions to correct, and config.xml for the labelling setup.",
        "/data/local-files/?d=",
    ),
}
