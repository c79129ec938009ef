"""Images with every person boxed, and a person detector's recipe for them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "network": "w16-small",
    "frame_wh": [64, 64],
    "side": 96,
    "data": {
        "train": {"annotations": "boxes.json", "images": "images"},
        "held_out_every": 2,
        "description": "white bars",
        "license": "Apache-2.0",
    },
    "optimizer": {"name": "adamw", "lr": 1e-3},
    "training": {"epochs": 1, "batch_size": 2, "samples_per_epoch": 4, "precision": "32"},
}


def write_tiny_boxes(root: Path) -> None:
    """Four images with one white bar each, in `images`, and `boxes.json`."""
    (root / "images").mkdir()
    images, annotations = [], []
    for i in range(4):
        pixels = np.zeros((60, 80, 3), np.uint8)
        pixels[10:50, 10 + 10 * i : 30 + 10 * i] = 255
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": 80, "height": 60})
        box = [10 + 10 * i, 10, 20, 40]
        annotations.append({"id": i, "image_id": i, "category_id": 1, "bbox": box})
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    (root / "boxes.json").write_text(json.dumps(document))
