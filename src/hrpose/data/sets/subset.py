"""Some of a set's pictures and people."""

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np

from hrpose.data.coco import read_annotations
from hrpose.data.rules import Entry
from hrpose.data.set_folder import Album, must_be_new, pictures_of, write_folder
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
