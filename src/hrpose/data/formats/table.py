"""The formats that hrpose reads and writes, by the name they have on the command line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hrpose.data.formats import (
    csv_table,
    cvat,
    cvat_back,
    from_coco,
    label_studio,
    label_studio_back,
    labelme,
    lsp,
    yolo,
)
from hrpose.data.formats.people import Given, PoseSet


@dataclass(frozen=True, slots=True)
class Source:
    """What is read: the source that the user names, what it does, and the reader."""

    source: str
    help: str
    read: Callable[[Path, Given], PoseSet]


SOURCES: Mapping[str, Source] = {
    "lsp": Source("joints.mat", "Leeds Sports Pose and its extension (LSPET).", lsp.read),
    "yolo": Source("data.yaml", "YOLO-pose, as Ultralytics has it.", yolo.read),
    "cvat": Source(
        "annotations.xml, or the JSON of COCO keypoints", "CVAT: pictures and clips.", cvat.read
    ),
    "label-studio": Source("The export of the kind JSON", "Label Studio.", label_studio.read),
    "labelme": Source("The folder of the JSON files", "labelme, a file a picture.", labelme.read),
    "csv": Source(
        "The table, with a header",
        "A table, one row a joint: image, person, joint, x, y[, visible].",
        csv_table.read,
    ),
    "coco": Source(
        "COCO keypoints JSON",
        "COCO keypoints of other tools: one category, crowds left out.",
        from_coco.read,
    ),
}


@dataclass(frozen=True, slots=True)
class Target:
    """What is written for a tool: the files by name, from a set and what precedes the names."""

    help: str
    files: Callable[[PoseSet, str], dict[str, str]]
    prefix: str = ""


TARGETS: Mapping[str, Target] = {
    "to-cvat": Target(
        "annotations.xml to upload into a task, and labels.json to make the task with.",
        cvat_back.files,
    ),
    "to-label-studio": Target(
        "tasks.json with predictions to correct, and config.xml for the labelling setup.",
        label_studio_back.files,
        label_studio_back.DEFAULT_PREFIX,
    ),
}
