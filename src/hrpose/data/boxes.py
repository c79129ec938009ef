"""COCO JSON of pictures in which every person is boxed, to a `BoxTable`, checked at the door."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import Reader, read_json


@dataclass(frozen=True, slots=True, eq=False)
class BoxTable:
    """n pictures: `file_names`, for each the `boxes` (p, 4) [x, y, w, h] of its p people, and its
    `sources`: where it came from; may be empty.
    """

    file_names: tuple[str, ...]
    boxes: tuple[NDArray[np.float64], ...]
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.file_names)

    def select(self, rows: NDArray[np.intp]) -> "BoxTable":
        return BoxTable(
            tuple(self.file_names[row] for row in rows),
            tuple(self.boxes[row] for row in rows),
            tuple(self.sources[row] for row in rows),
        )

    def without(self, sources: Collection[str]) -> "BoxTable":
        """The pictures from other sources. Raises ValueError for a source that there is not."""
        if missing := sorted(set(sources) - set(self.sources)):
            known = ", ".join(sorted(filter(None, set(self.sources)))) or "none"
            raise ValueError(f"expected sources out of {known}, found {', '.join(missing)}")
        return self.select(np.flatnonzero([source not in sources for source in self.sources]))

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
        tuple(source.decode() for source in pictures["sources"]),
    )
