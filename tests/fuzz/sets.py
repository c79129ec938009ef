"""Readers of untrusted data sets and settings: zip files, packs, MATLAB files, clips, YAML."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from clips import colors, times, write_clip
from fuzz.target import Target
from hrpose.data.formats.matlab import read_mat, write_mat
from hrpose.data.images import ImageFiles
from hrpose.data.packed import Pack, PackSettings, write_pack
from hrpose.data.skeleton_file import complete_skeleton, to_yaml
from hrpose.errors import UserError
from hrpose.metadata import Calibration, DetectorMetadata, Metadata
from hrpose.predict.inputs import ImageInput, boxes_by_image
from hrpose.skeletons import COCO_17
from hrpose.synthetic import write_dataset
from hrpose.training.recipe import load_recipe
from hrpose.video.reading import Clip

RECIPES = Path(__file__).parents[2] / "recipes"


def zips(folder: Path) -> Target:
    file = io.BytesIO()
    Image.effect_noise((24, 17), 90).save(file, "PNG")
    seeds = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", method) as archive:
            for name in ("a/1.png", "a/2.png"):
                archive.writestr(name, file.getvalue())
        seeds.append(packed.getvalue())
    path = folder / "a.zip"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        source = ImageFiles(path)
        for name in [*source.names(), "1.png"]:
            source.read(name)

    return seeds, read


def packs(folder: Path) -> Target:
    """The three files of a pack, one behind the other, so that each is damaged now and then."""
    write_dataset(folder / "images", 1, seed=1)
    images, out = folder / "images", folder / "pack"
    for _ in write_pack(images / "annotations.json", images / "images", out, PackSettings()):
        pass
    files = [out / "index.npy", out / "pack.json", out / "part-00000.bin"]
    seeds = [bytes([i]) + file.read_bytes() for i, file in enumerate(files)]
    whole = [seed[1:] for seed in seeds]

    def read(data: bytes) -> None:
        which = data[0] % len(files) if data else 0
        for i, file in enumerate(files):
            file.write_bytes(data[1:] if i == which else whole[i])
        pack = Pack(out)
        for person in range(min(len(pack.index), 2)):
            pack.read(person)

    return seeds, read


def mat_files(folder: Path) -> Target:
    path = folder / "a.mat"
    write_mat(path, {"headboxes_src": np.arange(8.0).reshape(2, 2, 2)})

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_mat(path, {"headboxes_src": (2, 2, "n")})

    packed = io.BytesIO()
    savemat(packed, {"headboxes_src": np.arange(8.0).reshape(2, 2, 2)}, do_compression=True)
    return [path.read_bytes(), packed.getvalue()], read


def video_files(folder: Path) -> Target:
    seeds = []
    for name, codec in (("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.mkv", "libx264")):
        path = write_clip(folder / name, colors(4), times(4), codec=codec)
        seeds.append(path.read_bytes())

    def read(data: bytes) -> None:
        path.write_bytes(data)
        with Clip.open(path) as clip:
            for number, _ in enumerate(clip):
                if number == 8:
                    break

    return seeds, read


def recipes(folder: Path) -> Target:
    path = folder / "a.yaml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        load_recipe(path)

    return [recipe.read_bytes() for recipe in sorted(RECIPES.glob("w*.yaml"))], read


def skeleton_files(folder: Path) -> Target:
    path = folder / "a.yaml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        complete_skeleton(COCO_17, path)

    return [to_yaml(COCO_17).encode()], read


def metadata(folder: Path) -> Target:
    pose = Metadata("hrnet_w32", (192, 256), calibration=Calibration(), scores={"AP": 0.5})
    seeds = [pose.to_json().encode(), DetectorMetadata("hrnet_w16", 256).to_json().encode()]

    def read(data: bytes) -> None:
        text = data.decode(errors="replace")
        try:
            metadata = Metadata.from_json(text)
        except UserError:
            DetectorMetadata.from_json(text)
            return
        # What an estimator does with it.
        width, height = metadata.crop([1, 2, 30, 40]).input_wh
        assert width * height < 100_000_000
        metadata.keypoint_scores(np.ones(3))

    return seeds, read


def box_files(folder: Path) -> Target:
    path = folder / "boxes.json"
    entry = {"image_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5}
    images = [{"id": 1, "file_name": "1.jpg"}]
    seeds = [[entry, entry], {"images": images, "annotations": [entry]}]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        boxes_by_image(path, [ImageInput(Path("1.jpg"), 1)])

    return [json.dumps(seed).encode() for seed in seeds], read
