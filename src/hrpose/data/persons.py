"""The persons of a data set as columns, and how columns are grouped by image."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.data.rules import Note
from hrpose.skeleton import Skeleton


@dataclass(frozen=True, slots=True, eq=False)
class PersonTable:
    """n persons in m images, as NumPy columns, which are cheap to share with worker processes.

    Per image: `image_ids` (m,) int64, `file_names` (m,) UTF-8 bytes relative to the images'
    folder, `image_wh` (m, 2) int32, `sources` (m,) UTF-8 bytes (where an image came from; may be
    empty). Per person: `image_index` (n,) int32 into the images, `annotation_ids` (n,) int64,
    `boxes` (n, 4) float64 [x, y, w, h], `keypoints` (n, k, 3) float32 (x, y, visibility 0, 1 or
    2), `areas` (n,) float64, `trust` (n,) float32 in [0, 1] (the weight of the labels in training;
    1 for human ones), `box_scores` (n,) float32 (1 for ground truth). `category_id` is the persons'
    category in the COCO file, which results must have. `notes` are about what was repaired or left
    out when the file was read.
    """

    skeleton: Skeleton
    image_ids: NDArray[np.int64]
    file_names: NDArray[np.bytes_]
    image_wh: NDArray[np.int32]
    sources: NDArray[np.bytes_]
    image_index: NDArray[np.int32]
    annotation_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    keypoints: NDArray[np.float32]
    areas: NDArray[np.float64]
    trust: NDArray[np.float32]
    box_scores: NDArray[np.float32]
    category_id: int = 1
    notes: tuple[Note, ...] = ()

    def __len__(self) -> int:
        return len(self.boxes)

    def image_name(self, person: int) -> str:
        """The file name of a person's image."""
        name: bytes = self.file_names[self.image_index[person]]
        return name.decode()

    def person_sources(self) -> NDArray[np.bytes_]:
        """(n,): the source of each person's image."""
        sources: NDArray[np.bytes_] = self.sources[self.image_index]
        return sources

    def select(self, chosen: Any) -> "PersonTable":
        """The persons of a mask or an array of indices; the images stay."""
        columns = ("image_index", "annotation_ids", "boxes", "keypoints", "areas", "trust")
        persons = {name: getattr(self, name)[chosen] for name in (*columns, "box_scores")}
        images = (
            "skeleton",
            "image_ids",
            "file_names",
            "image_wh",
            "sources",
            "category_id",
            "notes",
        )
        return PersonTable(**{name: getattr(self, name) for name in images}, **persons)


@dataclass(frozen=True, slots=True, eq=False)
class BoxTable:
    """n images: their `file_names`, the `boxes` (p, 4) [x, y, w, h] of the p persons of each, and
    `sources`: where each came from, which may be empty. `notes` as in `PersonTable`.
    """

    file_names: tuple[str, ...]
    boxes: tuple[NDArray[np.float64], ...]
    sources: tuple[str, ...]
    notes: tuple[Note, ...] = ()

    def __len__(self) -> int:
        return len(self.file_names)

    def select(self, rows: NDArray[np.intp]) -> "BoxTable":
        """Some of the images, by their rows."""
        return BoxTable(
            tuple(self.file_names[row] for row in rows),
            tuple(self.boxes[row] for row in rows),
            tuple(self.sources[row] for row in rows),
            self.notes,
        )

    def without(self, sources: Collection[str]) -> "BoxTable":
        """The images from other sources. Raises ValueError for an unknown source."""
        if missing := sorted(set(sources) - set(self.sources)):
            known = ", ".join(sorted(filter(None, set(self.sources)))) or "none"
            raise ValueError(f"expected sources out of {known}, found {', '.join(missing)}")
        return self.select(np.flatnonzero([source not in sources for source in self.sources]))

    def held_out(self, every: int) -> tuple["BoxTable", "BoxTable"]:
        """(the other images, every `every`-th image): both have images of every source."""
        rows = np.arange(len(self))
        return self.select(rows[rows % every > 0]), self.select(rows[rows % every == 0])


def group_by_image(image_index: ArrayLike) -> dict[int, NDArray[np.intp]]:
    """The rows of each image that has any, in their order; images ascending.

    `image_index` (n,) is the image of each row, by index or by id.
    """
    index = np.asarray(image_index)
    order = index.argsort(kind="stable")
    images, starts = np.unique(index[order], return_index=True)
    groups = np.split(order, starts[1:]) if len(images) else []
    return dict(zip(images.tolist(), groups, strict=True))
