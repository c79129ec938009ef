"""A training sample: by the official method, and by ours from images and from a pack."""

import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks import plain
from benchmarks.rows import Row
from hrpose.data.coco import load_persons
from hrpose.data.dataset import Draw, PoseDataset, open_cutouts
from hrpose.data.packed import PackSettings, write_pack
from hrpose.synthetic import write_dataset

SAMPLES = 40


def rows() -> Iterator[Row]:
    """Images of 640x480."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        annotations = _images(folder)
        table, images = load_persons(annotations), folder / "images"
        list(write_pack(annotations, images, folder / "pack", PackSettings()))
        for source in (folder / "pack", images):
            dataset = PoseDataset(table, open_cutouts(source, table), (192, 256))
            seeds = itertools.count()
            yield Row(
                f"training sample, {'pack' if source.name == 'pack' else 'full images'}",
                "official method: full image, augmentation, float, targets",
                lambda dataset=dataset, seeds=seeds: [
                    dataset[Draw(i % len(table), (1, next(seeds)))] for i in range(SAMPLES)
                ],
                lambda seeds=seeds: [
                    plain.sample(table, images, i % len(table), np.random.default_rng(next(seeds)))
                    for i in range(SAMPLES)
                ],
                4 if source.name == "pack" else None,
                per=SAMPLES,
                note="targets and floats are made on the device in ours",
            )


def _images(folder: Path) -> Path:
    """Synthetic people of about 200 pixels in images of 640x480, with noise as cameras have it."""
    annotations = write_dataset(folder, 12, seed=0)
    document = json.loads(annotations.read_text())
    rng = np.random.default_rng(0)
    shifts = {}
    for entry in document["images"]:
        path = folder / "images" / entry["file_name"]
        small = cv2.imread(str(path))
        assert small is not None
        image = cv2.resize(small, (640, 480)).astype(np.float32)
        x, y = (int(v) for v in rng.integers(0, (640 - small.shape[1], 480 - small.shape[0])))
        image[y : y + small.shape[0], x : x + small.shape[1]] = small
        noisy = np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(path), noisy, [cv2.IMWRITE_JPEG_QUALITY, 92])
        entry.update(width=640, height=480)
        shifts[entry["id"]] = x, y
    for person in document["annotations"]:
        x, y = shifts[person["image_id"]]
        left, top, w, h = person["bbox"]
        person["bbox"] = [left + x, top + y, w, h]
        keypoints = np.array(person["keypoints"], float).reshape(-1, 3)
        keypoints[:, :2] += (x, y)
        person["keypoints"] = keypoints.ravel().tolist()
    annotations.write_text(json.dumps(document))
    return annotations
