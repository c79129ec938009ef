"""The people of a data set as columns."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.skeleton import Skeleton


@dataclass(frozen=True, slots=True, eq=False)
class PersonTable:
    """n people in m pictures, as NumPy columns: cheap to share with worker processes.

    Per picture: `image_ids` (m,) int64, `file_names` (m,) UTF-8 bytes relative to the images'
    folder, `image_wh` (m, 2) int32, `sources` (m,) UTF-8 bytes (where a picture came from; may be
    empty). Per person: `image_index` (n,) int32 into the pictures, `annotation_ids` (n,) int64,
    `boxes` (n, 4) float64 [x, y, w, h], `keypoints` (n, k, 3) float32 (x, y, visibility 0, 1 or
    2), `areas` (n,) float64, `trust` (n,) float32 (how far the labels are to be trusted, 1 for
    human ones), `box_scores` (n,) float32 (1 for ground truth). `category_id` is the people's
    category in the COCO file, which results must carry.
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

    def __len__(self) -> int:
        return len(self.boxes)

    def picture_name(self, person: int) -> str:
        """The file name of a person's picture."""
        name: bytes = self.file_names[self.image_index[person]]
        return name.decode()

    def person_sources(self) -> NDArray[np.bytes_]:
        """(n,): the source of each person's picture."""
        sources: NDArray[np.bytes_] = self.sources[self.image_index]
        return sources

    def select(self, chosen: Any) -> "PersonTable":
        """The people that a mask or an array of indices chooses; the pictures stay."""
        columns = ("image_index", "annotation_ids", "boxes", "keypoints", "areas", "trust")
        people = {name: getattr(self, name)[chosen] for name in (*columns, "box_scores")}
        pictures = ("skeleton", "image_ids", "file_names", "image_wh", "sources", "category_id")
        return PersonTable(**{name: getattr(self, name) for name in pictures}, **people)
