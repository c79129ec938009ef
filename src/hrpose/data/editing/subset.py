"""Some of a set's pictures and people."""

import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hrpose.data.coco import read_annotations
from hrpose.data.dataset_folder import Album, must_be_new, pictures_of, write_folder
from hrpose.data.rules import Entry
from hrpose.errors import UserError


def subset(
    path: Path,
    out: Path,
    sources: Collection[str] = (),
    pictures: int | None = None,
    min_size: float = 0,
    min_joints: int = 0,
    seed: int = 0,
    images: Path | None = None,
    copy: bool = False,
) -> tuple[int, int]:
    """Write `out`/annotations.json; returns how many pictures and people it has.

    `sources` are those that pictures may be of; `pictures` how many are drawn, by `seed`;
    `min_size` the least longer side of a person's box, in pixels; `min_joints` the least number of
    labelled joints. Where people are left out, so are pictures that nobody is left in. Raises
    UserError where nothing is left.
    """
    must_be_new(out)
    file = read_annotations(path)
    known = {str(image.get("source", "")) for image in file.images}
    for source in sources:
        if source not in known:
            there = ", ".join(sorted(known - {""})) or "no sources"
            raise UserError(f"{path}: expected pictures of the source '{source}', found {there}")
    strict = bool(min_size or min_joints)
    kept: list[tuple[Entry, list[Entry]]] = []
    for image, people in zip(file.images, file.annotations_by_image(), strict=True):
        if sources and str(image.get("source", "")) not in sources:
            continue
        own = [a for a in people if _fits(a, min_size, min_joints)]
        if own or not strict:
            kept.append((image, own))
    if pictures is not None:
        if pictures > len(kept):
            raise UserError(f"{path}: expected {pictures} pictures, found {len(kept)} that fit")
        drawn = np.random.default_rng(seed).permutation(len(kept))[:pictures]
        kept = [kept[i] for i in sorted(drawn.tolist())]
    if not kept:
        raise UserError(f"{path}: expected pictures that fit, found none; ask for less")
    annotations = [annotation for _, own in kept for annotation in own]
    document = file.part((image for image, _ in kept), annotations)
    source_of = pictures_of(path, images)
    names = tuple(image["file_name"] for image, _ in kept)
    albums = [Album("images", source_of, names)] if source_of else []
    write_folder(out, {"annotations.json": json.dumps(document)}, albums, copy)
    return len(kept), len(annotations)


def _fits(annotation: Entry, min_size: float, min_joints: int) -> bool:
    visible = (annotation.get("keypoints") or [])[2::3]
    enough = sum(v > 0 for v in visible) >= min_joints
    return enough and bool(max(annotation["bbox"][2:]) >= min_size)


# COCO's bounds between small, medium and large people, in pixels of area.
_SMALL, _LARGE = 32**2, 96**2
_QUANTILES = (0, 10, 50, 90, 100)


def stats(path: Path) -> dict[str, Any]:
    """Numbers of a file, ready for JSON.

    Quantiles are the least, 10%, 50%, 90% and the largest. Raises UserError as reading does.
    """
    file = read_annotations(path)
    people = [a for a in file.annotations if not a.get("iscrowd")]
    k = len(file.skeleton)
    visibility = np.asarray(
        [(a.get("keypoints") or [0] * (3 * k))[2::3] for a in people], np.float64
    ).reshape(-1, k)
    labelled = visibility > 0
    boxes = np.asarray([a["bbox"] for a in people], np.float64).reshape(-1, 4)
    areas = np.asarray([a.get("area", a["bbox"][2] * a["bbox"][3]) for a in people], np.float64)
    per_picture = Counter(a["image_id"] for a in people)
    source_of = {image["id"]: str(image.get("source", "")) for image in file.images}
    sources: dict[str, dict[str, int]] = {}
    for source, count in Counter(source_of.values()).items():
        sources[source] = {"pictures": count, "people": 0}
    for image_id, count in per_picture.items():
        sources[source_of[image_id]]["people"] += count
    return {
        "file": str(path),
        "skeleton": file.skeleton.name,
        "pictures": len(file.images),
        "pictures_without_people": len(file.images) - len(per_picture),
        "people": len(people),
        "people_without_joints": int((~labelled.any(axis=1)).sum()),
        "crowds": len(file.annotations) - len(people),
        "boxes_made_from_joints": sum(a.get("bbox_guessed") is True for a in people),
        "people_per_picture": _quantiles([per_picture[i["id"]] for i in file.images]),
        "joints_per_person": _quantiles(labelled.sum(axis=1)),
        "box_longer_side": _quantiles(boxes[:, 2:].max(axis=1, initial=0)),
        "picture_width": _quantiles([i["width"] for i in file.images]),
        "picture_height": _quantiles([i["height"] for i in file.images]),
        "sizes": {
            "small": int((areas < _SMALL).sum()),
            "medium": int(((areas >= _SMALL) & (areas <= _LARGE)).sum()),
            "large": int((areas > _LARGE).sum()),
        },
        "joints": {
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
