"""One file of COCO keypoints, checked, with its entries as they are."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrpose.data.coco import Reader, read_json
from hrpose.data.pictures import PictureSource, pictures_beside
from hrpose.errors import UserError
from hrpose.skeleton import Skeleton

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CocoFile:
    """`images`, and the `annotations` of the category with keypoints; others are not read.

    `rest` are the file's other entries, the category among them.
    """

    path: Path
    skeleton: Skeleton
    images: list[Entry]
    annotations: list[Entry]
    rest: Entry

    def people_of(self) -> dict[int, list[Entry]]:
        """The annotations of each picture, by its id."""
        found: dict[int, list[Entry]] = {image["id"]: [] for image in self.images}
        for annotation in self.annotations:
            found[annotation["image_id"]].append(annotation)
        return found

    def part(self, images: Iterable[Entry], annotations: Iterable[Entry]) -> Entry:
        """A document with some of the pictures and people."""
        return {**self.rest, "images": list(images), "annotations": list(annotations)}


def read(path: Path) -> CocoFile:
    """Read and check a file. Raises UserError, naming the file and the entry."""
    document, reader = read_json(path), Reader(path)
    skeleton, category_id = reader.skeleton(document)
    reader.pictures(document)
    images = document["images"]
    rows = {image["id"]: row for row, image in enumerate(images)}
    annotations = [
        annotation
        for annotation in reader.entries(document, "annotations")
        if annotation.get("category_id") == category_id
    ]
    nothing = [0] * (3 * len(skeleton))
    # People without keypoints, and crowds, have a box and a picture all the same.
    reader.people(
        [{**a, "keypoints": a.get("keypoints") or nothing} for a in annotations],
        len(skeleton),
        rows,
    )
    rest = {key: value for key, value in document.items() if key not in ("images", "annotations")}
    rest["categories"] = [c for c in document["categories"] if c.get("id") == category_id]
    return CocoFile(path, skeleton, images, annotations, rest)


def pictures_of(path: Path, images: Path | None) -> PictureSource | None:
    """The pictures that the user names, else `images` or `images.zip` beside the file."""
    return pictures_beside(path) if images is None else PictureSource(images)


def need_pictures(path: Path, images: Path | None) -> PictureSource:
    """As `pictures_of`; raises UserError where there are none."""
    found = pictures_of(path, images)
    if found is None:
        raise UserError(f"{path}: expected the folder 'images' beside it, found none; use --images")
    return found
