"""The teacher's keypoints of all packed persons, once.

    python -m tools.distillation.teacher MODEL DATA

MODEL is PP-TinyPose as OpenVINO IR (`.xml`, with its `.bin` beside it): input (n, 3, 256, 192),
first output (n, 17, 64, 48) heatmaps. DATA is a folder of `tools.distillation.data`. OpenVINO is no
dependency of hrpose: use an environment with `openvino`, `opencv-python-headless`,
`array-api-compat`, `pillow` and `pyyaml`, and this repository's `src` on PYTHONPATH; PyTorch is not
needed. About 30 ms a person on one core.

The teacher sees each person in two crops, of padding 1.25 and 1.1, each with its mirror image; the
heatmaps are averaged in the first crop and decoded by DARK. Written to DATA: `teacher.npy` float32
(n, 17, 3), x and y in image pixels, and the score.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.codec import Codec
from hrpose.geometry import Crop, transform, warp
from hrpose.skeletons import COCO_17
from tools.distillation.data import PackedPersons

INPUT_WH = (192, 256)
WIDE, TIGHT = 1.25, 1.1
CODEC = Codec("dark", 2.0)
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)

Heatmaps = NDArray[np.float32]
Model = Callable[[NDArray[np.float32]], Heatmaps]


def open_model(path: Path, batch: int) -> Model:
    """The model on one CPU core: images (batch, 3, 256, 192) to heatmaps (batch, 17, 64, 48)."""
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape([batch, 3, INPUT_WH[1], INPUT_WH[0]])
    options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(model, "CPU", options)
    return lambda images: compiled(images)[0]


def predict(model: Model, crops: NDArray[np.uint8]) -> Heatmaps:
    """Heatmaps (n, 17, 64, 48) of crops (n, 256, 192, 3) RGB, with the flip test."""
    images = np.concatenate([crops, crops[:, :, ::-1]])
    normalized = ((images.astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    made = model(np.ascontiguousarray(normalized))
    n = len(crops)
    merged: Heatmaps = CODEC.merge_flipped(made[:n], made[n:], COCO_17.flip_permutation)
    return merged


def merge_crops(wide: Heatmaps, tight: Heatmaps) -> Heatmaps:
    """Mean heatmaps (17, h, w) in the wide crop of those in both crops."""
    _, h, w = wide.shape
    zoom = TIGHT / WIDE
    matrix = np.array([[zoom, 0, w / 2 * (1 - zoom)], [0, zoom, h / 2 * (1 - zoom)]])
    moved = [cv2.warpAffine(heatmap, matrix, (w, h)) for heatmap in tight]
    return 0.5 * (wide + np.stack(moved))


def teacher_keypoints(
    model: Model, image: NDArray[np.uint8], box: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(17, 3) x, y in image pixels, and score, of the person in `box` [x, y, w, h]."""
    crops = [Crop.from_box(box, INPUT_WH, padding) for padding in (WIDE, TIGHT)]
    wide, tight = predict(model, np.stack([warp(image, crop) for crop in crops]))
    points, scores = CODEC.decode(merge_crops(wide, tight))
    in_image = transform(points, crops[0].inverse_matrix)
    return np.concatenate([in_image, scores[:, None]], axis=1).astype(np.float32)


def main() -> None:
    """Read the command line and write the keypoints."""
    parser = argparse.ArgumentParser(description="Write the teacher's keypoints.")
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    persons = PackedPersons.load(given.data)
    model = open_model(given.model, batch=4)
    keypoints = np.zeros((len(persons), len(COCO_17), 3), np.float32)
    start = time.monotonic()
    for person, box in enumerate(persons.box):
        keypoints[person] = teacher_keypoints(model, persons.image(person), box)
        if (person + 1) % 500 == 0:
            spent = (time.monotonic() - start) / (person + 1)
            print(f"{person + 1} persons, {spent * 1000:.1f} ms a person", flush=True)
    np.save(given.data / "teacher.npy", keypoints)


if __name__ == "__main__":
    main()
