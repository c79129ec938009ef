"""Some of a set's images and people."""

import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hrpose.data.coco import read_annotations
from hrpose.data.dataset_folder import Album, images_of, must_be_new, write_folder
from hrpose.data.rules import Entry
from hrpose.errors import UserError


def subset(
    path: Path,
    out: Path,
    sources: Collection[str] = (),
    max_images: int | None = None,
    min_size: float = 0,
    min_keypoints: int = 0,
    seed: int = 0,
    images: Path | None = None,
    copy: bool = False,
) -> tuple[int, int]:
    """Write `out`/annotations.json; returns how many images and people it has.

    `sources` are those that images may be of; `images` how many are drawn, by `seed`; `min_size`
    the least longer side of a person's box, in pixels; `min_keypoints` the least number of labeled
    keypoints. Where people are left out, so are images that nobody is left in. Raises UserError
    where nothing is left.
    """
    must_be_new(out)
    file = read_annotations(path)
    known = {str(image.get("source", "")) for image in file.images}
    for source in sources:
        if source not in known:
            there = ", ".join(sorted(known - {""})) or "no sources"
            raise UserError(f"{path}: expected images of the source '{source}', found {there}")
    strict = bool(min_size or min_keypoints)
    kept: list[tuple[Entry, list[Entry]]] = []
    for image, persons in zip(file.images, file.annotations_by_image(), strict=True):
        if sources and str(image.get("source", "")) not in sources:
            continue
        own = [a for a in persons if _fits(a, min_size, min_keypoints)]
        if own or not strict:
            kept.append((image, own))
    if max_images is not None:
        if max_images > len(kept):
            raise UserError(f"{path}: expected {max_images} images, found {len(kept)} that fit")
        drawn = np.random.default_rng(seed).permutation(len(kept))[:max_images]
        kept = [kept[i] for i in sorted(drawn.tolist())]
    if not kept:
        raise UserError(f"{path}: expected images that fit, found none; ask for less")
    annotations = [annotation for _, own in kept for annotation in own]
    document = file.part((image for image, _ in kept), annotations)
    source_of = images_of(path, images)
    names = tuple(image["file_name"] for image, _ in kept)
    albums = [Album("images", source_of, names)] if source_of else []
    write_folder(out, {"annotations.json": json.dumps(document)}, albums, copy)
    return len(kept), len(annotations)


def _fits(annotation: Entry, min_size: float, min_keypoints: int) -> bool:
    visible = (annotation.get("keypoints") or [])[2::3]
    enough = sum(v > 0 for v in visible) >= min_keypoints
    return enough and bool(max(annotation["bbox"][2:]) >= min_size)


# COCO's bounds between small, medium and large people, in pixels of area.
_SMALL, _LARGE = 32**2, 96**2
_QUANTILES = (0, 10, 50, 90, 100)


def stats(path: Path) -> dict[str, Any]:
    """Numbers of a file, ready for JSON.

    Quantiles are the least, 10%, 50%, 90% and the largest. Raises UserError as reading does.
    """
    file = read_annotations(path)
    persons = [a for a in file.annotations if not a.get("iscrowd")]
    k = len(file.skeleton)
    visibility = np.asarray(
        [(a.get("keypoints") or [0] * (3 * k))[2::3] for a in persons], np.float64
    ).reshape(-1, k)
    labeled = visibility > 0
    boxes = np.asarray([a["bbox"] for a in persons], np.float64).reshape(-1, 4)
    areas = np.asarray([a.get("area", a["bbox"][2] * a["bbox"][3]) for a in persons], np.float64)
    per_image = Counter(a["image_id"] for a in persons)
    source_of = {image["id"]: str(image.get("source", "")) for image in file.images}
    sources: dict[str, dict[str, int]] = {}
    for source, count in Counter(source_of.values()).items():
        sources[source] = {"images": count, "persons": 0}
    for image_id, count in per_image.items():
        sources[source_of[image_id]]["persons"] += count
    return {
        "file": str(path),
        "skeleton": file.skeleton.name,
        "images": len(file.images),
        "images_without_persons": len(file.images) - len(per_image),
        "persons": len(persons),
        "persons_without_keypoints": int((~labeled.any(axis=1)).sum()),
        "crowds": len(file.annotations) - len(persons),
        "boxes_made_from_keypoints": sum(a.get("bbox_guessed") is True for a in persons),
        "persons_per_image": _quantiles([per_image[i["id"]] for i in file.images]),
        "keypoints_per_person": _quantiles(labeled.sum(axis=1)),
        "box_longer_side": _quantiles(boxes[:, 2:].max(axis=1, initial=0)),
        "image_width": _quantiles([i["width"] for i in file.images]),
        "image_height": _quantiles([i["height"] for i in file.images]),
        "sizes": {
            "small": int((areas < _SMALL).sum()),
            "medium": int(((areas >= _SMALL) & (areas <= _LARGE)).sum()),
            "large": int((areas > _LARGE).sum()),
        },
        "keypoints": {
            name: {"visible": int((column == 2).sum()), "hidden": int((column == 1).sum())}
            for name, column in zip(file.skeleton.keypoints, visibility.T, strict=True)
        },
        "sources": sources if set(sources) != {""} else {},
    }


def _quantiles(values: ArrayLike) -> list[float]:
    numbers = np.asarray(values, np.float64)
    if not numbers.size:
        return []
    return [round(float(v), 1) for v in np.percentile(numbers, _QUANTILES)]
