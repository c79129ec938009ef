"""COCO JSON of pictures in which every person is boxed, to a `BoxTable`, checked at the door."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import Reader, read_json


@dataclass(frozen=True, slots=True, eq=False)
class BoxTable:
    """n pictures: `file_names`, and for each the `boxes` (p, 4) [x, y, w, h] of its p people."""

    file_names: tuple[str, ...]
    boxes: tuple[NDArray[np.float64], ...]

    def __len__(self) -> int:
        return len(self.file_names)

    def select(self, rows: NDArray[np.intp]) -> "BoxTable":
        return BoxTable(
            tuple(self.file_names[row] for row in rows),
            tuple(self.boxes[row] for row in rows),
        )

    def held_out(self, every: int) -> tuple["BoxTable", "BoxTable"]:
        """(the others, each `every`-th picture), so that both have every source of pictures."""
        rows = np.arange(len(self))
        return self.select(rows[rows % every > 0]), self.select(rows[rows % every == 0])


def load_boxes(annotations: Path) -> BoxTable:
    """The pictures, and the boxes of the category `person`; crowds are left out.

    Raises UserError, naming the file and the entry, where something is not of the COCO form.
    """
    document = read_json(annotations)
    reader = Reader(annotations)
    pictures = reader.pictures(document)
    rows = {int(image_id): row for row, image_id in enumerate(pictures["image_ids"])}
    categories = reader.entries(document, "categories")
    person = {entry.get("id") for entry in categories if entry.get("name") == "person"}
    if not person:
        names = ", ".join(str(entry.get("name")) for entry in categories) or "none"
        raise reader.error("'categories'", "one named 'person'", names)
    people = [
        entry
        for entry in reader.entries(document, "annotations")
        if entry.get("category_id") in person and not entry.get("iscrowd")
    ]
    owner, boxes = reader.boxes(people, rows)
    counts = np.bincount(owner, minlength=len(rows))
    in_order = boxes[np.argsort(owner, kind="stable")]
    return BoxTable(
        tuple(name.decode() for name in pictures["file_names"]),
        tuple(np.split(in_order, np.cumsum(counts)[:-1])) if rows else (),
    )
