"""Readers of untrusted files, with valid files to damage: `target(folder)` returns both."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from fuzz import labels, over_http, sets
from fuzz.target import Target
from hrpose.data.coco import load_persons
from hrpose.errors import UserError
from hrpose.image import image_size, read_image, read_reduced
from hrpose.metadata import Metadata
from hrpose.models import torch_file
from hrpose.models.checkpoint import read_content, read_torch
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


def _torch_seeds(canary: Path) -> list[bytes]:
    """Files of tensors, and of code that makes the canary."""
    seeds = []
    views = torch.arange(24.0).reshape(4, 6)
    for content in (
        {"conv1.weight": torch.ones(2, 2)},
        {"state_dict": {"a": torch.ones(1), "b": views.T[1:], "c": views.bfloat16()}, "epoch": 3},
    ):
        for zipped in (True, False):
            file = io.BytesIO()
            torch.save(content, file, _use_new_zipfile_serialization=zipped)
            seeds.append(file.getvalue())
    for protocol in (0, 2, 4):
        seeds.append(pickle.dumps(_Code(canary), protocol))
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save({"a": _Code(canary)}, file, _use_new_zipfile_serialization=zipped)
        seeds.append(file.getvalue())
    return seeds


def torch_files(folder: Path, reader: Callable[[Path], object] | None = None) -> Target:
    canary, path = folder / "canary", folder / "a.pth"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            (reader or _all_numbers)(path)
        finally:
            assert not canary.exists(), "a pickle was executed"

    return _torch_seeds(canary), read


def pickles(folder: Path) -> Target:
    """The pickles in zip files, whose check sums would refuse damage otherwise."""
    _, read_file = torch_files(folder)
    seeds = []
    for seed in _torch_seeds(folder / "canary"):
        if seed.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(seed)) as archive:
                name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                seeds.append(archive.read(name))

    def read(data: bytes) -> None:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a/data.pkl", data)
            for key in range(4):
                archive.writestr(f"a/data/{key}", bytes(96))
        read_file(file.getvalue())

    return seeds, read


def _all_numbers(path: Path) -> None:
    """Copy what was read, as a conversion does."""
    found: list[Any] = [torch_file.read(path)]
    while found:
        value = found.pop()
        if isinstance(value, np.ndarray):
            np.array(value)
        elif isinstance(value, dict):
            found += value.values()
        elif isinstance(value, list | tuple):
            found += value


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
    "pickles": pickles,
    "checkpoints": lambda folder: torch_files(folder, read_torch),
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
    "mpii": labels.mpii,
    "written": labels.written,
    "requests": over_http.requests,
    "sockets": over_http.raw_requests,
}

# Anything else is a defect.
ALLOWED = (UserError,)
