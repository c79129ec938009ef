"""Synthetic images with their ground truth, and COCO data sets of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError
from hrpose.image import encode
from hrpose.io import write_atomically
from hrpose.synthetic.figures import (
    PERSON,
    BodyPart,
    Figure,
    Floats,
    Keypoints,
    Pixels,
    background,
    paint,
    place,
)

# Pixels of width and height per figure: with fewer, hands and eyes are smaller than a pixel.
MIN_SIZE = 64
_MAX_SIZE = 4096


@dataclass(frozen=True, slots=True)
class SyntheticImage:
    """One image and the ground truth of its n figures.

    `image` (h, w, 3) uint8 RGB. `keypoints` (n, k, 3) as (x, y, visibility) in the skeleton's
    order, with COCO's visibility: 2 visible, 1 covered by another part or figure, 0 outside the
    image, with x = y = 0. `masks` (n, h, w) bool: the silhouettes, also where another figure covers
    them. `boxes` (n, 4) as [x, y, w, h] and `areas` (n,) are those of the masks, in pixels.
    """

    image: Pixels
    keypoints: Floats
    boxes: Floats
    areas: Floats
    masks: NDArray[np.bool_]


def render_image(
    rng: np.random.Generator,
    size_wh: tuple[int, int] = (320, 240),
    persons: int | None = None,
    figure: Figure = PERSON,
) -> SyntheticImage:
    """Draw one image with `persons` figures of a kind, or one or two where it is None.

    All randomness is from `rng`. Figures are side by side and may overlap, the later ones in front.
    Raises ValueError where a figure has less than 64 pixels of width or height.
    """
    width, height = size_wh
    count = int(rng.integers(1, 3)) if persons is None else persons
    if count < 1 or width < MIN_SIZE * count or height < MIN_SIZE:
        raise ValueError(
            f"a synthetic image: expected at least one figure and {MIN_SIZE}x{MIN_SIZE} "
            f"pixels for each, found {count} in {width}x{height}"
        )
    image = background(rng, size_wh)
    light = rng.uniform(-0.25, 0.25, 2)
    # The number of the topmost part at each pixel, counted over all figures.
    owner = np.full((height, width), -1, np.int32)
    masks = np.zeros((count, height, width), np.bool_)
    parts: list[BodyPart] = []
    figures: list[Keypoints] = []
    for mask, slot in zip(masks, rng.permutation(count), strict=True):
        body = place(rng, figure.pose(rng), size_wh, (slot + 0.5) / count, count, figure.extent)
        paints = figure.wardrobe(rng, image)
        for part in figure.dress(rng, body, len(figures)):
            window, inside = paint(image, body, part, paints[part.paint], light)
            mask[window] |= inside
            owner[window][inside] = len(parts)
            parts.append(part)
        figures.append(body)
    names = figure.skeleton.keypoints
    keypoints = np.stack([_truth(f, body, names, owner, parts) for f, body in enumerate(figures)])
    grain = rng.standard_normal((height, width), np.float32) * np.float32(rng.uniform(1, 6))
    image = cv2.add(image, cv2.merge([grain] * 3), dtype=cv2.CV_8U)  # type: ignore[assignment]
    boxes = np.array([cv2.boundingRect(mask.astype(np.uint8)) for mask in masks], np.float64)
    areas = masks.sum(axis=(1, 2)).astype(np.float64)
    return SyntheticImage(image, keypoints, boxes, areas, masks)


def _truth(
    figure: int,
    body: Keypoints,
    names: Sequence[str],
    owner: NDArray[np.int32],
    parts: Sequence[BodyPart],
) -> Floats:
    """(k, 3): a keypoint is visible where a part that it belongs to is the topmost."""
    height, width = owner.shape
    keypoints = np.zeros((len(names), 3))
    for index, name in enumerate(names):
        x, y = body[name][:2]
        column, row = round(float(x)), round(float(y))
        if 0 <= column < width and 0 <= row < height:
            top = parts[owner[row, column]] if owner[row, column] >= 0 else None
            visible = top is not None and top.figure == figure and name in top.keypoints
            keypoints[index] = x, y, 2 if visible else 1
    return keypoints


def write_dataset(
    folder: str | Path,
    images: int,
    seed: int,
    size_wh: tuple[int, int] = (320, 240),
    persons_per_image: tuple[int, int] = (1, 2),
    figure: Figure = PERSON,
) -> Path:
    """Write a COCO keypoints data set: `folder`/annotations.json and images/000001.jpg, ...

    The same arguments give the same files, and a larger set begins with the smaller one. The
    number of figures is from `persons_per_image`, a range with both ends. Returns the path of
    annotations.json, which is written last. Raises UserError for invalid numbers and for a folder
    that cannot be written.
    """
    folder = Path(folder)
    least, most = persons_per_image
    width, height = size_wh
    fits = MIN_SIZE * most <= width <= _MAX_SIZE and MIN_SIZE <= height <= _MAX_SIZE
    if images < 1 or seed < 0 or not 1 <= least <= most or not fits:
        raise UserError(
            "synthetic data: expected images >= 1, seed >= 0, 1 <= fewest persons <= most, and a "
            f"size from {MIN_SIZE}x{MIN_SIZE} for each person to {_MAX_SIZE}x{_MAX_SIZE}, found "
            f"images {images}, seed {seed}, persons {least} to {most}, size {width}x{height}",
            code="option-invalid",
        )
    entries: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number in range(1, images + 1):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
        image = render_image(rng, size_wh, int(rng.integers(least, most + 1)), figure)
        name = f"{number:06d}.jpg"
        content = encode(image.image, ".jpg", {cv2.IMWRITE_JPEG_QUALITY: 90})
        write_atomically(folder / "images" / name, content)
        entries.append({"id": number, "file_name": name, "width": width, "height": height})
        for points, box, area in zip(image.keypoints, image.boxes, image.areas, strict=True):
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
        "info": {"description": f"Synthetic {figure.plural}, drawn by hrpose", "seed": seed},
        "images": entries,
        "annotations": annotations,
        "categories": [figure.skeleton.to_coco_category()],
    }
    path = folder / "annotations.json"
    write_atomically(path, json.dumps(data_set))
    return path


def _plain(points: NDArray[np.float64]) -> list[float]:
    """(k, 3) as COCO's flat list, rounded to a hundredth of a pixel."""
    return [int(v) if i % 3 == 2 else round(float(v), 2) for i, v in enumerate(points.flat)]
