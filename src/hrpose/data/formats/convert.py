"""Another tool's source to a folder of COCO keypoints, and COCO to folders for other tools."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from hrpose.data.dataset_folder import Album, must_be_new, write_folder
from hrpose.data.formats import coco, yolo
from hrpose.data.formats.coco import Document, documents
from hrpose.data.formats.persons import Given, PoseSet
from hrpose.skeletons import SHIPPED

if TYPE_CHECKING:
    from hrpose.data.formats.persons import Given, PoseSet


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
        "cvat", "annotations.xml, or the JSON of COCO keypoints", "CVAT: images and clips."
    ),
    "label-studio": Source("label_studio", "The export of the kind JSON", "Label Studio."),
    "labelme": Source("labelme", "The folder of the JSON files", "labelme, a file an image."),
    "csv": Source(
        "csv",
        "The table, with a header",
        "A table, one row a keypoint: image, person, keypoint, x, y, and visible if known.",
    ),
    "coco": Source(
        "coco",
        "COCO keypoints JSON",
        "COCO keypoints of other tools: one category, crowds left out.",
    ),
}


@dataclass(frozen=True, slots=True)
class Target:
    """What is written for a tool: the module, what it does, what precedes the images' names."""

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
        "tasks.json with predictions to correct, and config.xml for the labeling setup.",
        "/data/local-files/?d=",
    ),
}


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written; `left_out` are labeled keypoints that the form cannot hold."""

    found: PoseSet
    documents: tuple[Document, ...]
    files: tuple[str, ...]
    left_out: int = 0


def to_coco(name: str, source: Path, out: Path, given: Given, copy: bool = False) -> Converted:
    """Convert a source of the format `name` of the table to the new folder `out`.

    A file of COCO keypoints for each subset, the images linked or copied, and, where the keypoints
    are not those of a shipped skeleton, `skeleton.yaml` with what was found out about them. Raises
    UserError, naming file and entry, before anything is written.
    """
    must_be_new(out)
    found = SOURCES[name].read(source, given)
    written = tuple(documents(found))
    files = {f"{document.name}.json": json.dumps(document.content) for document in written}
    if found.skeleton not in SHIPPED.values():
        from hrpose.data.skeleton_file import to_yaml

        files["skeleton.yaml"] = to_yaml(found.skeleton)
    _write(out, files, {"images": found}, copy)
    return Converted(found, written, tuple(files))


def from_coco_to(
    name: str, source: Path, out: Path, given: Given, prefix: str, copy: bool = False
) -> Converted:
    """Convert COCO keypoints to a tool's files in the new folder `out`; `name` is the table's."""
    must_be_new(out)
    found = coco.read(source, given)
    files = TARGETS[name].files(found, prefix)
    _write(out, files, {"images": found} if copy else {}, copy)
    return Converted(found, (), tuple(files))


def from_coco_to_yolo(
    sources: dict[str, tuple[Path, Given]], out: Path, copy: bool = False
) -> Converted:
    """Convert COCO keypoints to YOLO-pose; `sources` are the subsets by name, `train` first."""
    must_be_new(out)
    sets = {name: coco.read(path, given) for name, (path, given) in sources.items()}
    files = yolo.files(sets)
    _write(out, files, {f"images/{name}": found for name, found in sets.items()}, copy, each=True)
    left_out = sum(yolo.keypoints_left_out(found) for found in sets.values())
    return Converted(next(iter(sets.values())), (), tuple(files), left_out)


def _write(
    out: Path, files: dict[str, str], sets: dict[str, PoseSet], copy: bool, each: bool = False
) -> None:
    albums = []
    for at, found in sets.items():
        names = tuple(image.name for image in found.images)
        if found.files is not None and (copy or images_found(found)):
            albums.append(Album(at, found.files, names, each))
    write_folder(out, files, albums, copy)


def images_found(found: PoseSet) -> int:
    """How many of the images are where they were looked for."""
    images = found.files
    return 0 if images is None else sum(image.name in images for image in found.images)
