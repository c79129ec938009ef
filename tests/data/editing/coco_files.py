"""Small COCO files with images, to merge and split."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

EARS = ("left_ear", "right_ear", "tail")


def write(
    folder: Path,
    names: Sequence[str] = ("a.png", "b.png"),
    keypoints: Sequence[str] = EARS,
    persons: int = 1,
    **fields: Sequence[Any],
) -> Path:
    """annotations.json and images/; `fields` are more entries of the images, one for each."""
    images, annotations = [], []
    for row, name in enumerate(names):
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (64, 48)).save(folder / "images" / name)
        more = {key: values[row] for key, values in fields.items() if values[row] is not None}
        images.append({"id": 10 + row, "file_name": name, "width": 64, "height": 48, **more})
        for _ in range(persons):
            triples = [v for i in range(len(keypoints)) for v in (10 * i + 1, row + 2, 2)]
            annotations.append(
                {"id": 100 + len(annotations), "image_id": 10 + row, "category_id": 5,
                 "iscrowd": 0, "keypoints": triples, "num_keypoints": len(keypoints),
                 "bbox": [1, 2, 30, 40], "area": 700.0, "trust": 0.5}
            )  # fmt: skip
    category = {
        "id": 5,
        "name": "animal",
        "keypoints": list(keypoints),
        "skeleton": [[1, len(keypoints)]],
    }
    document = {
        "info": {"note": "kept"},
        "images": images,
        "annotations": annotations,
        "categories": [category, {"id": 9, "name": "ball"}],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps(document))
    return path
