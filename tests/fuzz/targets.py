"""Readers of untrusted files, with valid files to damage: `target(folder)` returns both."""

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save

from fuzz import labels, over_http, sets
from fuzz.target import Target
from hrpose.data.coco import load_persons
from hrpose.errors import UserError
from hrpose.image import image_size, read_image, read_reduced
from hrpose.metadata import Metadata
from hrpose.models.checkpoint import read_content
from hrpose.quality.labels import read_labels
from hrpose.session import open_session
from tiny_weights import METADATA, write_tiny_weights


class _Code:
    """Makes a file where it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


def images(folder: Path) -> Target:
    seeds = []
    image = Image.effect_noise((24, 17), 90)
    for mode, kind, options in [
        ("RGB", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True, "exif": _turned()}),
        ("RGBA", "PNG", {}),
        ("P", "PNG", {}),
        ("I;16", "PNG", {}),
        ("RGB", "WEBP", {}),
        ("RGB", "BMP", {}),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}),
        ("P", "GIF", {}),
    ]:
        file = io.BytesIO()
        image.convert(mode).save(file, kind, **options)
        seeds.append(file.getvalue())

    def read(data: bytes) -> None:
        bound = 1_000_000
        width, height = image_size(data, max_pixels=bound)
        pixels = read_image(data, max_pixels=bound)
        assert pixels.shape == (height, width, 3)
        read_reduced(data, 8)

    return seeds, read


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[274] = 6
    return exif


def annotations(folder: Path, reader: Callable[[Path], object] = load_persons) -> Target:
    names = ["nose", "left_eye", "right_eye"]
    document = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
        "categories": [{"id": 1, "name": "person", "keypoints": names, "skeleton": [[1, 2]]}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 99.0,
             "bbox": [1, 2, 30, 40], "num_keypoints": 2, "keypoints": [1, 2, 2, 3, 4, 1, 0, 0, 0]}
        ],
    }  # fmt: skip
    path = folder / "a.json"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        reader(path)

    return [json.dumps(document).encode()], read


def torch_files(folder: Path) -> Target:
    canary, path = folder / "canary", folder / "a.pth"
    seeds = []
    for content in ({"conv1.weight": torch.ones(2, 2)}, {"state_dict": {"a": torch.ones(1)}}):
        for zipped in (True, False):
            file = io.BytesIO()
            torch.save(content, file, _use_new_zipfile_serialization=zipped)
            seeds.append(file.getvalue())
    for protocol in (0, 2, 4):
        seeds.append(pickle.dumps(_Code(canary), protocol))
    file = io.BytesIO()
    torch.save({"a": _Code(canary)}, file)
    seeds.append(file.getvalue())

    def read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read_content(path)
        finally:
            assert not canary.exists(), "a pickle was executed"

    return seeds, read


def safetensors_files(folder: Path) -> Target:
    path = folder / "a.safetensors"
    seed = save({"a": torch.ones(3, 2)}, {Metadata.keys[0]: METADATA.to_json()})

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_content(path)

    return [seed], read


def onnx_files(folder: Path) -> Target:
    path = folder / "a.onnx"
    seed = write_tiny_weights(path).read_bytes()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        open_session(path, threads=1)

    return [seed], read


TARGETS: dict[str, Callable[[Path], Target]] = {
    "images": images,
    "annotations": annotations,
    "checked": lambda folder: annotations(folder, read_labels),
    "torch": torch_files,
    "safetensors": safetensors_files,
    "onnx": onnx_files,
    "zips": sets.zips,
    "packs": sets.packs,
    "mat": sets.mat_files,
    "clips": sets.video_files,
    "recipes": sets.recipes,
    "skeletons": sets.skeleton_files,
    "metadata": sets.metadata,
    "boxes": sets.box_files,
    **{name: labels.source(name) for name in labels.SOURCE_NAMES},
    "requests": over_http.requests,
    "sockets": over_http.raw_requests,
}

# Anything else is a defect.
ALLOWED = (UserError,)
