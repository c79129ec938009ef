"""Annotation formats of other tools: a module each, with `read` and, where it is written, `files`.

`SOURCES` are the formats that are read, `TARGETS` those that are written; YOLO-pose is written by a
function of its own, as it holds several subsets. `convert.py` works by way of COCO keypoints JSON;
`pose_set.py` has what all formats are read into. The tables import a module when it is used.
MPII, and `BENCHMARKS`, which `hrpose.metrics.benchmarks` reads, have more than COCO.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from hrpose.errors import UserError
from hrpose.file_kinds import read_head
from hrpose.io import read_json

if TYPE_CHECKING:
    from hrpose.data.formats.pose_set import PoseSet, ReadOptions


@dataclass(frozen=True, slots=True)
class Source:
    """A format that is read: its module, what the user names, and the help.

    `coco_json`: a file that ends in .json is COCO keypoints, which the tool exports too.
    """

    module: str
    source: str
    help: str
    coco_json: bool = False

    def read(self, source: Path, options: "ReadOptions") -> "PoseSet":
        """Read the source. Raises UserError, naming the file and the entry."""
        if self.coco_json and source.name.lower().endswith((".json", ".json.gz")):
            return SOURCES["coco"].read(source, options)
        module = import_module(f"{__name__}.{self.module}")
        found: PoseSet = module.read(source, options)
        return found


SOURCES: Mapping[str, Source] = {
    "lsp": Source("matlab", "joints.mat", "Leeds Sports Pose and its extension (LSPET)"),
    "yolo": Source("yolo", "data.yaml", "YOLO-pose (Ultralytics)"),
    "cvat": Source(
        "cvat",
        "annotations.xml, or the JSON of COCO keypoints",
        "CVAT, images and videos",
        coco_json=True,
    ),
    "label-studio": Source("label_studio", "The export of the kind JSON", "Label Studio"),
    "labelme": Source(
        "labelme", "The folder of the JSON files", "labelme, one file for each image"
    ),
    "deeplabcut": Source(
        "deeplabcut",
        "CollectedData_NAME.csv or .h5, or a folder of them",
        "DeepLabCut, one animal or several",
    ),
    "sleap": Source("sleap", "labels.slp, or a package .pkg.slp", "SLEAP"),
    "datumaro": Source(
        "datumaro", "The folder of the export, or one of its JSON files", "Datumaro's own format"
    ),
    "supervisely": Source("supervisely", "The project's folder, with meta.json", "Supervisely"),
    "csv": Source(
        "csv",
        "The table, with a header",
        "a table with one row for each keypoint: image, person, keypoint, x, y, visible",
    ),
    "coco": Source(
        "convert",
        "COCO keypoints JSON",
        "COCO keypoints of other tools, to one category without crowds",
    ),
}

# Benchmarks with annotations of their own: what the user names, and the help.
BENCHMARKS: Mapping[str, tuple[str, str]] = {
    "crowdpose": ("crowdpose_val.json, or another file", "CrowdPose, with the images' true sizes"),
    "ochuman": ("ochuman.json", "OCHuman: val and test, with the MaxIoU of each person"),
    "coco-wholebody": (
        "coco_wholebody_val_v1.0.json, or another file",
        "COCO-WholeBody, with body, feet, face and hands as 133 keypoints",
    ),
    "posetrack18": (
        "The folder of its files, one for each clip, or one of them",
        "PoseTrack18, all clips as one file",
    ),
}


@dataclass(frozen=True, slots=True)
class Target:
    """A format that is written: its module, the help, and the prefix of the images' names."""

    module: str
    help: str
    prefix: str = ""

    def files(self, found: "PoseSet", prefix: str) -> dict[str, str]:
        """The files by name, as text."""
        files: dict[str, str] = import_module(f"{__name__}.{self.module}").files(found, prefix)
        return files


def guess_format(source: Path) -> Source:
    """The format of a source, by its name and the form of its content.

    Raises UserError where it is none that is read.
    """
    if not source.exists():
        raise UserError(f"{source}: no such file; check the name", code="file-unreadable")
    name, suffix = source.name.lower(), source.suffix.lower()
    by_suffix = {
        ".xml": "cvat",
        ".slp": "sleap",
        ".mat": "lsp",
        ".yaml": "yolo",
        ".h5": "deeplabcut",
    }
    if name.endswith((".json", ".json.gz")):
        found = "label-studio" if isinstance(read_json(source), list) else "coco"
    elif suffix == ".csv":
        # DeepLabCut's tables begin with the name of who labeled; other tables with their columns.
        found = "deeplabcut" if read_head(source).startswith(b"scorer") else "csv"
    elif source.is_dir():
        inside = {path.name for path in source.iterdir()}
        tables = any(path.startswith("CollectedData") for path in inside)
        found = "supervisely" if "meta.json" in inside else "deeplabcut" if tables else "labelme"
    elif suffix in by_suffix:
        found = by_suffix[suffix]
    else:
        raise UserError(
            f"{source}: expected labels of {', '.join(SOURCES)}, found a file of another kind; "
            "see `hrpose data convert`",
            code="annotations-invalid",
        )
    return SOURCES[found]


TARGETS: Mapping[str, Target] = {
    "to-cvat": Target(
        "cvat", "CVAT: labels.json to create a task with, and annotations.xml to upload into it"
    ),
    "to-label-studio": Target(
        "label_studio",
        "Label Studio: config.xml for the labeling setup, and tasks.json with predictions",
        "/data/local-files/?d=",
    ),
}
