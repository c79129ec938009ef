"""Annotations of tools and tables, damaged beside intact images."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from data.formats import exports
from data.mpii_files import write_mpii
from fuzz.target import Target
from hrpose.data.formats import SOURCES, TARGETS
from hrpose.data.formats.convert import documents, sized
from hrpose.data.formats.mpii import convert as convert_mpii
from hrpose.data.formats.pose_set import ReadOptions
from hrpose.data.images import ImageFiles

# Formats whose readers start a process for each file, of which there are fewer.
HDF5_NAMES = ("deeplabcut-h5", "sleap")
SOURCE_NAMES = (
    *HDF5_NAMES,
    *("yolo", "yolo-yaml", "cvat", "cvat-video", "label-studio", "labelme", "csv"),
    *(
        "lsp",
        "coco",
        "deeplabcut",
        "deeplabcut-several",
        "datumaro",
        "datumaro-cvat",
        "supervisely",
    ),
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
            "lsp": (exports.lspet, "joints.mat"),
            "coco": (_coco, "labels.json"),
            "deeplabcut-h5": (_deeplabcut("deeplabcut.h5"), "deeplabcut.h5"),
            "sleap": (_sleap, "sleap.slp"),
            "deeplabcut": (_deeplabcut("deeplabcut.csv"), "deeplabcut.csv"),
            "deeplabcut-several": (_deeplabcut("deeplabcut-several.csv"), "deeplabcut-several.csv"),
        }[name]
        root = folder / "source"
        made, path = write(root), root / damaged
        images = name in ("labelme", "lsp", "coco", "sleap")
        given = ReadOptions(ImageFiles(root / "images") if images else None)
        variants = ("-yaml", "-video", "-several", "-cvat", "-h5")
        plain = next((name.removesuffix(end) for end in variants if name.endswith(end)), name)
        read_source = SOURCES[plain].read

        def read(data: bytes) -> None:
            path.write_bytes(data)
            json.dumps(documents(read_source(made, given)), allow_nan=False)

        return [path.read_bytes()], read

    return target


def _datumaro_of_cvat(root: Path) -> Path:
    return exports.datumaro(root, skeletons=True)


def _coco(root: Path) -> Path:
    exports.images(root / "images")
    document = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
        "categories": [{"id": 3, "name": "dog", "keypoints": ["nose", "tail"], "skeleton": []}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "iscrowd": 0, "bbox": [1, 2, 30, 40],
             "area": 99, "num_keypoints": 1, "keypoints": [1, 2, 2, 0, 0, 0]}
        ],
    }  # fmt: skip
    (root / "labels.json").write_text(json.dumps(document))
    return root / "labels.json"


def _sleap(root: Path) -> Path:
    exports.images(root / "images")
    return Path(shutil.copy(FILES / "sleap.slp", root / "sleap.slp"))


def mpii(folder: Path) -> Target:
    """MPII in the form of the official code."""
    annot = write_mpii(folder)
    path = annot / "valid.json"
    seed = path.read_bytes()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        convert_mpii(annot, folder / "out")

    return [seed], read


def written(folder: Path) -> Target:
    """COCO keypoints to the formats of annotation tools."""
    path = _coco(folder)
    given = ReadOptions(ImageFiles(folder / "images"))

    def read(data: bytes) -> None:
        path.write_bytes(data)
        found = sized(SOURCES["coco"].read(path, given))
        for target in TARGETS.values():
            target.files(found, target.prefix)

    return [path.read_bytes()], read


def _deeplabcut(name: str) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        exports.images(root / "labeled-data" / "clip")
        return Path(shutil.copy(FILES / name, root / name))

    return write
