"""Everything that happens between an image and a pose, kept for looking at."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.codec import flip_back
from hrpose.errors import UserError
from hrpose.estimator import PoseEstimator
from hrpose.geometry import Crop, warp
from hrpose.metadata import Metadata
from hrpose.poses import Poses
from hrpose.session import Session

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One person's way through the method.

    `image` (H, W, 3) uint8 RGB, `box` [x, y, w, h] and `box_from`, a sentence about who gave it;
    `view` (h, w, 3) is what the network sees; `direct` and `mirrored` (k, h/4, w/4) are its
    heatmaps of the view and of its mirror image, `merged` the flip test's mean of both; `in_crop`
    (k, 2) are the keypoints in pixels of the view, `scores` (k,) their peaks; `poses` is the
    result. `keypoint` is the one that is looked at closely.
    """

    image: NDArray[np.uint8]
    box: NDArray[np.float64]
    box_from: str
    metadata: Metadata
    crop: Crop
    view: NDArray[np.uint8]
    direct: Floats
    mirrored: Floats
    merged: Floats
    in_crop: Floats
    scores: Floats
    poses: Poses
    keypoint: int

    @property
    def strides(self) -> tuple[float, float]:
        """Pixels of the view per heatmap pixel, along x and y."""
        return self.metadata.codec.strides(self.metadata.heatmap_wh)

    @property
    def in_heatmap(self) -> Floats:
        """(k, 2): the keypoints in heatmap pixels."""
        places: Floats = self.in_crop / np.array(self.strides)
        return places

    @property
    def peaks(self) -> NDArray[np.int64]:
        """(k, 2): each merged heatmap's highest pixel, as (x, y)."""
        rows, columns = np.divmod(
            self.merged.reshape(len(self.merged), -1).argmax(axis=1), self.merged.shape[2]
        )
        return np.stack([columns, rows], axis=-1)

    @property
    def turned_back(self) -> Floats:
        """(k, h, w): `mirrored`, mirrored once more, with left and right keypoints exchanged."""
        order = self.metadata.skeleton.flip_permutation
        back: Floats = flip_back(self.mirrored, order, shift=False)
        return back

    @property
    def twin(self) -> int:
        """The keypoint that `keypoint` becomes in the mirror image."""
        return int(self.metadata.skeleton.flip_permutation[self.keypoint])

    @property
    def name(self) -> str:
        """The keypoint's name, for reading."""
        return self.metadata.skeleton.keypoints[self.keypoint].replace("_", " ")


def trace(
    session: Session,
    image: NDArray[np.uint8],
    box: NDArray[np.float64],
    box_from: str,
    keypoint: str | None = None,
) -> Trace:
    """Follow the person in `box` [x, y, w, h] through `session`, with the flip test.

    `keypoint` names the one to look at closely; without it, one that shows the method well. Raises
    UserError for a box or a keypoint that is not there.
    """
    estimator = PoseEstimator(session, flip_test=True)
    metadata = session.metadata
    poses = estimator(image, [box])
    crop = metadata.crop(box)
    view = warp(image, crop)
    direct, mirrored = session(np.stack([view, view[:, ::-1]]))
    codec, order = metadata.codec, metadata.skeleton.flip_permutation
    merged = codec.merge_flipped(direct, mirrored, order)
    in_crop, scores = estimator.decode(merged)
    chosen = _clearest(merged, in_crop / codec.strides(metadata.heatmap_wh), scores)
    if keypoint is not None:
        chosen = _index_of(keypoint, metadata)
    return Trace(
        image, box, box_from, metadata, crop, view, direct, mirrored, merged, in_crop, scores,
        poses, chosen,
    )  # fmt: skip


def _clearest(heatmaps: Floats, places: Floats, scores: Floats) -> int:
    """The surest keypoint whose place is between the pixels along both axes, away from the border.

    Without one, the surest.
    """
    height, width = heatmaps.shape[1:]
    between = (np.abs(places - np.rint(places)) > 1e-3).all(axis=1)
    inside = ((places >= 4) & (places < [width - 4, height - 4])).all(axis=1)
    return int(np.argmax(scores + between + inside))


def _index_of(keypoint: str, metadata: Metadata) -> int:
    names = metadata.skeleton.keypoints
    wanted = keypoint.strip().replace(" ", "_").replace("-", "_")
    if wanted not in names:
        raise UserError(f"keypoint '{keypoint}': expected one of {', '.join(names)}")
    return names.index(wanted)
