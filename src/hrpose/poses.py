"""The result type: the poses of the people in one picture."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.geometry import BODY_MARGIN, box_around, expand_boxes
from hrpose.skeleton import Skeleton

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

# Keypoints with a lower score are absent, where nothing else is asked for.
THRESHOLD = 0.3
# The official code's threshold for the keypoints that count in a pose's score.
COUNTED_SCORE = 0.2
# Keypoints below this score say nothing about where the person is.
SURE_SCORE = 0.2
# With fewer sure keypoints, the rest of the body may be anywhere.
FEWEST_KEYPOINTS = 6
# Keypoints that fall on one spot are not a person so small: a box becomes at most this many times
# smaller.
CLOSEST = 10


@dataclass(frozen=True, slots=True, eq=False)
class Poses:
    """n people with k keypoints each, in pixels of the picture they were found in.

    `keypoints` (n, k, 3) float32: x, y, score; scores in [0, 1]. `boxes` (n, 4) float32:
    [x, y, w, h]. `scores` (n,) float32 in [0, 1]: how sure the whole pose is. `track_ids` (n,)
    int64 where people were followed through a video, else None. `skeleton` names the k keypoints.
    Raises ValueError where shapes do not fit.
    """

    keypoints: NDArray[np.float32]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    skeleton: Skeleton
    track_ids: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        n, k = len(self.keypoints), len(self.skeleton)
        expected = {"keypoints": (n, k, 3), "boxes": (n, 4), "scores": (n,)}
        if self.track_ids is not None:
            expected["track_ids"] = (n,)
        for field, shape in expected.items():
            if (found := getattr(self, field).shape) != shape:
                raise ValueError(f"Poses.{field}: expected shape {shape}, found {found}")

    @classmethod
    def empty(cls, skeleton: Skeleton) -> "Poses":
        """The poses of a picture with nobody in it."""
        zeros = np.zeros(0, np.float32)
        return cls(zeros.reshape(0, len(skeleton), 3), zeros.reshape(0, 4), zeros, skeleton)

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, chosen: Any) -> "Poses":
        """The people that `chosen` selects: an index, a slice, a mask or an array of indices."""
        if isinstance(chosen, int | np.integer):
            chosen = [chosen]
        ids = None if self.track_ids is None else self.track_ids[chosen]
        return Poses(
            self.keypoints[chosen], self.boxes[chosen], self.scores[chosen], self.skeleton, ids
        )

    def __iter__(self) -> Iterator["Poses"]:
        return (self[i] for i in range(len(self)))

    def to_coco(self, image_id: int | str, category_id: int = 1) -> list[dict[str, Any]]:
        """Entries of a COCO keypoint results file, one per person; with `track_id` if followed.

        `keypoints` are x, y, score of each joint in one list, `bbox` is [x, y, w, h], in pixels.
        `image_id` and `category_id` are those of the annotations they belong to.
        """
        entries: list[dict[str, Any]] = []
        for keypoints, box, score in zip(self.keypoints, self.boxes, self.scores, strict=True):
            entries.append(
                {
                    "image_id": image_id,
                    "category_id": category_id,
                    "keypoints": [round(float(v), 4) for v in keypoints.ravel()],
                    "score": round(float(score), 6),
                    "bbox": [round(float(v), 3) for v in box],
                }
            )
        if self.track_ids is not None:
            for entry, track_id in zip(entries, self.track_ids, strict=True):
                entry["track_id"] = int(track_id)
        return entries

    def to_pandas(self, threshold: float = THRESHOLD) -> "pd.DataFrame":
        """One row per joint, see `hrpose.tables.Row`. Needs `hrpose[tables]`.

        Joints with a score below `threshold`, in [0, 1], are not `present`.
        """
        from hrpose import tables

        return tables.to_pandas(tables.rows(self, threshold=threshold))

    def to_supervision(self, threshold: float = THRESHOLD) -> Any:
        """`supervision.KeyPoints`, see `hrpose.adapters.to_supervision`.

        Joints with a score below `threshold`, in [0, 1], are not `visible`.
        """
        from hrpose.adapters import to_supervision

        return to_supervision(self, threshold)


def rescore(
    keypoints: ArrayLike, box_scores: ArrayLike, above: float = COUNTED_SCORE
) -> NDArray[np.float64]:
    """(n,) pose scores: the box's score times the mean of the keypoint scores above `above`.

    The paper's rule (section 4.1, "Testing"). `keypoints` (n, k, 3) with scores last, `box_scores`
    (n,). A pose without a keypoint above it gets 0.
    """
    scores = np.asarray(keypoints, np.float64)[:, :, 2]
    counted = scores > above
    mean = np.where(counted, scores, 0).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    result: NDArray[np.float64] = mean * np.asarray(box_scores, np.float64)
    return result


def boxes_around(
    keypoints: NDArray[np.float32], boxes_xywh: NDArray[np.float64], image_wh: tuple[int, int]
) -> NDArray[np.float64]:
    """Boxes (n, 4) around the sure ones of `keypoints` (n, k, 3), in the pixels they are in.

    Those beside the image of `image_wh` do not count. A person with few sure keypoints keeps the
    box of `boxes_xywh` (n, 4).
    """
    points = keypoints[..., :2].astype(np.float64)
    inside = ((points >= 0) & (points < image_wh)).all(axis=-1)
    sure = inside & (keypoints[..., 2] >= SURE_SCORE)
    tight = box_around(points, sure)
    margin = np.maximum(
        BODY_MARGIN * tight[:, 2:].max(axis=1), boxes_xywh[:, 2:].max(axis=1) / CLOSEST / 2
    )
    enough = sure.sum(axis=1) >= FEWEST_KEYPOINTS
    return np.where(enough[:, None], expand_boxes(tight, margin), boxes_xywh)
