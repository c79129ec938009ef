"""Pictures and their keypoints as a COCO data set on disk."""

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.encoding import encode
from hrpose.errors import UserError
from hrpose.files import write_atomically
from hrpose.synthetic.figure import Figure
from hrpose.synthetic.person import PERSON
from hrpose.synthetic.picture import LEAST_ROOM, render_picture

_LARGEST = 4096


def write_dataset(
    folder: Path,
    pictures: int,
    seed: int,
    size_wh: tuple[int, int] = (320, 240),
    people_per_picture: tuple[int, int] = (1, 2),
    figure: Figure = PERSON,
) -> Path:
    """Write a COCO keypoints data set: `folder`/annotations.json and images/000001.jpg, ...

    The same arguments give the same files, and a longer set begins with the shorter one. The
    number of figures lies between the two of `people_per_picture`, both included. Returns the
    path of annotations.json, which is written last. Raises UserError for numbers that make no
    sense and for a folder that cannot be written.
    """
    least, most = people_per_picture
    width, height = size_wh
    room = LEAST_ROOM * most <= width <= _LARGEST and LEAST_ROOM <= height <= _LARGEST
    if pictures < 1 or seed < 0 or not 1 <= least <= most or not room:
        raise UserError(
            "synthetic data: expected pictures >= 1, seed >= 0, 1 <= fewest people <= most, and a "
            f"size from {LEAST_ROOM}x{LEAST_ROOM} for each person to {_LARGEST}x{_LARGEST}, found "
            f"pictures {pictures}, seed {seed}, people {least} to {most}, size {width}x{height}"
        )
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number in range(1, pictures + 1):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
        picture = render_picture(rng, size_wh, int(rng.integers(least, most + 1)), figure)
        name = f"{number:06d}.jpg"
        content = encode(picture.image, ".jpg", {cv2.IMWRITE_JPEG_QUALITY: 90})
        write_atomically(folder / "images" / name, content)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for points, box, area in zip(picture.keypoints, picture.boxes, picture.areas, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "iscrowd": 0,
                    "area": float(area),
                    "bbox": box.tolist(),
                    "num_keypoints": int((points[:, 2] > 0).sum()),
                    "keypoints": _plain(points),
                }
            )
    data_set = {
        "info": {
            "description": f"Synthetic {figure.plural}, drawn by hrpose",
            "seed": seed,
        },
        "images": images,
        "annotations": annotations,
        "categories": [figure.skeleton.to_coco_category()],
    }
    path = folder / "annotations.json"
    write_atomically(path, json.dumps(data_set))
    return path


def _plain(points: NDArray[np.float64]) -> list[float]:
    """(k, 3) to COCO's flat list; a hundredth of a pixel is exact enough for a file."""
    return [int(v) if i % 3 == 2 else round(float(v), 2) for i, v in enumerate(points.flat)]
