"""Annotations of tools and tables, damaged beside intact images."""

import json
from collections.abc import Callable
from pathlib import Path

from data.formats import exports
from fuzz.target import Target
from hrpose.data.formats import SOURCES
from hrpose.data.formats.convert import documents
from hrpose.data.formats.pose_set import ReadOptions
from hrpose.data.images import ImageFiles

SOURCE_NAMES = ("yolo", "yolo-yaml", "cvat", "cvat-video", "label-studio", "labelme", "csv")


def source(name: str) -> Callable[[Path], Target]:
    """An export of an annotation tool beside its images; one of its files is damaged."""

    def target(folder: Path) -> Target:
        write, damaged = {
            "yolo": (exports.yolo, "labels/train/a.txt"),
            "yolo-yaml": (exports.yolo, "data.yaml"),
            "cvat": (exports.cvat_images, "annotations.xml"),
            "cvat-video": (exports.cvat_video, "annotations.xml"),
            "label-studio": (exports.label_studio, "project-1.json"),
            "labelme": (exports.labelme, "labels/a.json"),
            "csv": (exports.csv_table, "labels.csv"),
        }[name]
        root = folder / "source"
        made, path = write(root), root / damaged
        given = ReadOptions(ImageFiles(root / "images") if name == "labelme" else None)
        read_source = SOURCES[name.removesuffix("-yaml").removesuffix("-video")].read

        def read(data: bytes) -> None:
            path.write_bytes(data)
            json.dumps(documents(read_source(made, given)), allow_nan=False)

        return [path.read_bytes()], read

    return target
