"""Annotations of tools and tables, damaged beside intact images."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from data.formats import exports
from fuzz.target import Target
from hrpose.data.formats import SOURCES
from hrpose.data.formats.convert import documents
from hrpose.data.formats.pose_set import ReadOptions
from hrpose.data.images import ImageFiles

SOURCE_NAMES = (
    *("yolo", "yolo-yaml", "cvat", "cvat-video", "label-studio", "labelme", "csv"),
    *("deeplabcut", "deeplabcut-several", "datumaro", "datumaro-cvat", "supervisely"),
)
FILES = Path(exports.__file__).parent / "files"


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
            "datumaro": (exports.datumaro, "annotations/train.json"),
            "datumaro-cvat": (_datumaro_of_cvat, "annotations/train.json"),
            "supervisely": (exports.supervisely, "train/ann/a.jpg.json"),
            "deeplabcut": (_deeplabcut("deeplabcut.csv"), "deeplabcut.csv"),
            "deeplabcut-several": (_deeplabcut("deeplabcut-several.csv"), "deeplabcut-several.csv"),
        }[name]
        root = folder / "source"
        made, path = write(root), root / damaged
        given = ReadOptions(ImageFiles(root / "images") if name == "labelme" else None)
        variants = ("-yaml", "-video", "-several", "-cvat")
        plain = next((name.removesuffix(end) for end in variants if name.endswith(end)), name)
        read_source = SOURCES[plain].read

        def read(data: bytes) -> None:
            path.write_bytes(data)
            json.dumps(documents(read_source(made, given)), allow_nan=False)

        return [path.read_bytes()], read

    return target


def _datumaro_of_cvat(root: Path) -> Path:
    return exports.datumaro(root, skeletons=True)


def _deeplabcut(name: str) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        exports.images(root / "labeled-data" / "clip")
        return Path(shutil.copy(FILES / name, root / name))

    return write
