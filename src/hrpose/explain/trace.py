"""The box to explain, and the intermediate results between an image and a pose."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.codec import flip_back
from hrpose.errors import UserError
from hrpose.estimator import FullImage, PoseEstimator
from hrpose.geometry import Crop, warp
from hrpose.metadata import Metadata
from hrpose.poses import Poses
from hrpose.predict.inputs import ImageInput, boxes_by_image
from hrpose.session import Session

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """The steps of the method for one person.

    `image` (H, W, 3) uint8 RGB, `box` [x, y, w, h] and `box_from`, a sentence about its origin;
    `view` (h, w, 3) uint8 is the warped crop, the network's input; `direct` and `mirrored`
    (k, h/4, w/4) are the heatmaps of the view and of its mirror image, `merged` their mean of the
    flip test; `in_crop` (k, 2) are the keypoints in pixels of the view, `peaks` (k,) the maxima of
    `merged`; `poses` is the result. `keypoint` is the index of the one shown in detail.
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
    peaks: Floats
    poses: Poses
    keypoint: int

    @property
    def strides(self) -> tuple[float, float]:
        """Pixels of the view per heatmap pixel, along x and y."""
        return self.metadata.codec.strides(self.metadata.heatmap_wh)

    @property
    def in_heatmap(self) -> Floats:
        """(k, 2): the keypoints in heatmap pixels."""
        points: Floats = self.in_crop / np.array(self.strides)
        return points

    @property
    def peak_pixels(self) -> NDArray[np.int64]:
        """(k, 2): the highest pixel (x, y) of each merged heatmap."""
        rows, columns = np.divmod(
            self.merged.reshape(len(self.merged), -1).argmax(axis=1), self.merged.shape[2]
        )
        return np.stack([columns, rows], axis=-1)

    @property
    def flipped_back(self) -> Floats:
        """(k, h, w): `mirrored`, mirrored again, with left and right keypoints exchanged."""
        order = self.metadata.skeleton.flip_permutation
        back: Floats = flip_back(self.mirrored, order, shift=False)
        return back

    @property
    def twin(self) -> int:
        """The index of the keypoint that `keypoint` becomes in the mirror image."""
        return int(self.metadata.skeleton.flip_permutation[self.keypoint])

    @property
    def name(self) -> str:
        """The name of `keypoint`, with spaces."""
        return self.metadata.skeleton.keypoints[self.keypoint].replace("_", " ")


def trace(
    session: Session,
    image: NDArray[np.uint8],
    box: NDArray[np.float64],
    box_from: str,
    keypoint: str | None = None,
) -> Trace:
    """Trace the person in `box` [x, y, w, h] through `session`, with the flip test.

    `keypoint` is the name of the one to show in detail; without it, one that shows the method well.
    Raises UserError for a box beside the image and an unknown keypoint.
    """
    estimator = PoseEstimator(session, flip_test=True)
    metadata = session.metadata
    poses = estimator(image, [box])
    crop = metadata.crop(box)
    view = warp(image, crop)
    direct, mirrored = session(np.stack([view, view[:, ::-1]]))
    codec, order = metadata.codec, metadata.skeleton.flip_permutation
    merged = codec.merge_flipped(direct, mirrored, order)
    in_crop, peaks = estimator.decode(merged)
    chosen = _clearest(merged, in_crop / codec.strides(metadata.heatmap_wh), peaks)
    if keypoint is not None:
        chosen = _index_of(keypoint, metadata)
    return Trace(
        image, box, box_from, metadata, crop, view, direct, mirrored, merged, in_crop, peaks,
        poses, chosen,
    )  # fmt: skip


def box_to_explain(
    path: Path,
    image: NDArray[np.uint8],
    estimator: PoseEstimator,
    box: str | None = None,
    boxes: Path | None = None,
) -> tuple[NDArray[np.float64], str]:
    """The box [x, y, w, h] to explain in the image (h, w, 3) at `path`, and its origin in words.

    It is `box`, as "x,y,w,h", or the largest one in the COCO file `boxes`, or of those that the
    estimator's detector finds. Raises UserError where there is none.
    """
    if box is not None:
        try:
            x, y, w, h = (float(value) for value in box.split(","))
        except ValueError as error:
            raise UserError(
                f"--box: expected four numbers x,y,w,h such as 40,20,180,400, found '{box}'",
                code="option-invalid",
            ) from error
        return np.array([x, y, w, h]), "The box was given."
    if boxes is not None:
        source = ImageInput(path, 1)
        in_boxes, _ = boxes_by_image(boxes, [source])
        rows, _ = in_boxes[source]
        found, origin = np.array(rows, np.float64).reshape(-1, 4), f"The file {boxes.name} has"
    else:
        found = estimator.image(image).boxes
        origin = f"The person detector ({estimator.detector.name}) found"
        if isinstance(estimator.detector, FullImage):
            return found[0], "No detector was used: the box is the full image."
    if not len(found):
        raise UserError(
            f"{path}: found no person; give a box with --box x,y,w,h, or --detector full-image "
            "for an image cropped to one",
            code="persons-missing",
        )
    largest = found[int(np.argmax(found[:, 2] * found[:, 3]))]
    if len(found) == 1:
        return largest, f"{origin} one box."
    return largest, f"{origin} {len(found)} boxes; this page explains the largest."


def _clearest(heatmaps: Floats, points: Floats, peaks: Floats) -> int:
    """The keypoint with the highest peak, preferably between pixels and away from the border."""
    height, width = heatmaps.shape[1:]
    between = (np.abs(points - np.rint(points)) > 1e-3).all(axis=1)
    inside = ((points >= 4) & (points < [width - 4, height - 4])).all(axis=1)
    return int(np.argmax(peaks + between + inside))


def _index_of(keypoint: str, metadata: Metadata) -> int:
    names = metadata.skeleton.keypoints
    wanted = keypoint.strip().replace(" ", "_").replace("-", "_")
    if wanted not in names:
        raise UserError(
            f"keypoint '{keypoint}': expected one of {', '.join(names)}", code="option-invalid"
        )
    return names.index(wanted)
