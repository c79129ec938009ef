"""The estimator: an image and boxes around persons in, `Poses` out.

    image ─ detector ─▶ boxes ─▶ crops ─▶ heatmaps ─▶ keypoints in the crops ─▶ Poses

`PoseEstimator` does all of it; `InputImage` is an image that was read and whose boxes were checked.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.errors import UserError
from hrpose.geometry import Boxes, Crop, transform, warp
from hrpose.image import image_size, read_image, read_reduced
from hrpose.metadata import Metadata
from hrpose.metrics.oks import oks_nms
from hrpose.poses import MIN_SCORE, Poses, boxes_around, rescore
from hrpose.session import Session

File = str | Path | bytes
# What a user may give for an image: a file, its bytes, or its pixels.
Source = NDArray[np.uint8] | File

# Of the boxes that a detector finds, the best ones; boxes that are given are all used.
MAX_PERSONS = 100
# Of two poses with a higher OKS, in boxes that a detector found, one is left out.
MAX_OKS = 0.7


class Detector(Protocol):
    """Finds the persons in an image.

    A detector with an attribute `input_wh`, the size (w, h) of its network's input, is given large
    JPEG files decoded at a part of their size.
    """

    @property
    def name(self) -> str:
        """Its name in messages and results."""
        ...

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        """The boxes of the persons in an RGB image (h, w, 3) uint8."""
        ...


class FullImage:
    """No detector: the full image is the box of one person, as it is in images cropped to one."""

    name = "the full image"

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        height, width = image.shape[:2]
        return Boxes(np.array([[0.0, 0.0, width, height]]), np.ones(1))


@dataclass(frozen=True, slots=True, eq=False)
class InputImage:
    """An image with the boxes of the persons in it.

    `pixels` (h, w, 3) uint8 RGB; `boxes` (n, 4) [x, y, w, h] in pixels of the full image;
    `box_scores` (n,) in [0, 1]. `pixels` may be the full image reduced by the whole factor
    `reduction`; boxes, crops and poses are in pixels of the full image all the same. `detected`
    says that a detector found the boxes, which may then be wrong or repeat a person. `key` is the
    caller's, who gets it back with the poses.
    """

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    box_scores: NDArray[np.float64]
    reduction: int = 1
    detected: bool = False
    key: Any = None

    @classmethod
    def of(
        cls, image: Source, boxes: ArrayLike | None = None, box_scores: ArrayLike | None = None
    ) -> "InputImage":
        """Read an image and check its boxes; without boxes the full image is one box.

        Raises UserError where the image cannot be read, and which box is wrong and how.
        """
        pixels = image if isinstance(image, np.ndarray) else read_image(image)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            raise UserError(
                "image: expected uint8 RGB of shape (h, w, 3), "
                f"found {pixels.dtype} of shape {pixels.shape}",
                code="array-invalid",
            )
        height, width = pixels.shape[:2]
        return cls(pixels, *_check(boxes, box_scores, width, height))

    @classmethod
    def reduced(
        cls,
        file: File,
        metadata: Metadata,
        boxes: ArrayLike | None = None,
        box_scores: ArrayLike | None = None,
        overview: "InputImage | None" = None,
        size: tuple[int, int] | None = None,
    ) -> "InputImage":
        """As `of`, but decoded at the smallest size at which no crop has to be enlarged.

        `overview` is the same file, decoded before at some size, and is reused if it is large
        enough. `size` (w, h) is that of the file, if it is known.
        """
        checked, scores = _check(boxes, box_scores, *(size or image_size(file)))
        crops = [metadata.crop(box) for box in checked]
        limit = min((min(np.divide(crop.size, crop.input_wh)) for crop in crops), default=np.inf)
        if overview is not None and overview.reduction <= max(1, limit):
            return cls(overview.pixels, checked, scores, overview.reduction)
        pixels, reduction = read_reduced(file, limit)
        return cls(pixels, checked, scores, reduction)

    def cut(self, crop: Crop) -> NDArray[np.uint8]:
        """The pixels of a crop of the full image: (input h, input w, 3) uint8."""
        # The first pixel of a reduced image is the mean of a square; this is the square's center.
        center = (self.reduction - 1) / 2
        return warp(self.pixels, crop.inside((center, center), self.reduction))


class PoseEstimator:
    """Estimates the poses of the persons in images with a pose model, the `session`.

    `detector` finds the persons where no boxes are given; without a detector the full image is the
    box of one person. Poses with a score below `min_score`, in [0, 1], are left out; by default
    0.2 where the detector found the persons, and 0 in boxes that are given. `flip_test` averages
    the heatmaps of each crop and of its mirror image: a little better, and twice the work. `refine`
    estimates a second time, in the boxes around the first keypoints: better where boxes are loose
    or off, and twice the work. At most `batch_size` crops go through the network at once.

    Large JPEG files are decoded at a half, a quarter or an eighth of their size where every crop
    is that much smaller anyway: several times faster, and points differ by a fraction of a
    heatmap's pixel. With `exact` they are decoded in full; so they are with `refine`, whose second
    boxes may be smaller. Arrays of pixels are used as they are.
    """

    def __init__(
        self,
        session: Session,
        *,
        detector: Detector | None = None,
        min_score: float | None = None,
        flip_test: bool = False,
        refine: bool = False,
        exact: bool = False,
        batch_size: int = 16,
    ) -> None:
        if batch_size < 1:
            raise UserError(
                f"batch_size: expected at least 1, found {batch_size}", code="option-invalid"
            )
        if min_score is not None and not 0 <= min_score <= 1:
            raise UserError(f"min_score: expected 0 to 1, found {min_score}", code="option-invalid")
        self.session = session
        self.detector: Detector = detector or FullImage()
        self.min_score = min_score
        self.flip_test = flip_test
        self.refine = refine
        self.exact = exact
        self.batch_size = batch_size

    @property
    def metadata(self) -> Metadata:
        """What the weights are: network, skeleton, input size, codec, license, scores."""
        return self.session.metadata

    def __call__(
        self, image: Source, boxes: ArrayLike | None = None, box_scores: ArrayLike | None = None
    ) -> Poses:
        """The poses in one image, a file, its bytes or uint8 RGB (h, w, 3).

        `boxes` (n, 4) [x, y, w, h] in pixels; without them, those that the detector finds.
        `box_scores` (n,) in [0, 1] are the confidences of the boxes, 1 if left out; they scale the
        scores of the poses. Raises UserError where the image cannot be read or a box is wrong.
        """
        ((_, poses),) = self.stream([self.image(image, boxes, box_scores)])
        return poses

    def image(
        self,
        image: Source,
        boxes: ArrayLike | None = None,
        box_scores: ArrayLike | None = None,
        *,
        size: tuple[int, int] | None = None,
    ) -> InputImage:
        """Read an image and check its boxes; without boxes, detect the persons in it.

        Of those the best 100. `image`, `boxes` (n, 4) [x, y, w, h] in pixels and `box_scores` (n,)
        in [0, 1] are those of calling the estimator. `size` (w, h) is the file's `image_size`, if
        it is known. May be called from several threads. Raises UserError where the image cannot be
        read, and which box is wrong and how.
        """
        if boxes is None and box_scores is not None:
            raise UserError(
                "box_scores: expected boxes that they belong to, found none; add boxes",
                code="boxes-invalid",
            )
        file = None if isinstance(image, np.ndarray) or self.exact or self.refine else image
        if boxes is not None or isinstance(self.detector, FullImage):
            if file is None:
                return InputImage.of(image, boxes, box_scores)
            return InputImage.reduced(file, self.metadata, boxes, box_scores, size=size)
        seen = InputImage.of(image) if file is None else self._overview(file, size)
        # The last pixels of a reduced image may reach over its edge, and boxes must not.
        width, height = (seen.boxes[0, 2:] // seen.reduction).astype(int)
        found = self.detector(seen.pixels[:height, :width]).best(MAX_PERSONS)
        persons = found.xywh * seen.reduction, found.scores
        try:
            if file is None:
                image_in_boxes = InputImage.of(seen.pixels, *persons)
            else:
                image_in_boxes = InputImage.reduced(
                    file, self.metadata, *persons, overview=seen, size=size
                )
        except UserError as error:
            raise UserError(f"detector {self.detector.name}: {error}", code=error.code) from error
        return replace(image_in_boxes, detected=True)

    def _overview(self, file: File, size: tuple[int, int] | None) -> InputImage:
        """The image at no less than twice the size of the detector's input, if that is known."""
        input_wh: tuple[int, int] | None = getattr(self.detector, "input_wh", None)
        if input_wh is None:
            return InputImage.of(file)
        size = size or image_size(file)
        pixels, reduction = read_reduced(file, min(np.divide(size, input_wh)) / 2)
        return InputImage(pixels, np.array([[0.0, 0.0, *size]]), np.ones(1), reduction)

    def stream(
        self, images: Iterable[InputImage], *, clip_scores: bool = True, select: bool = True
    ) -> Iterator[tuple[InputImage, Poses]]:
        """Each image, the very object that was given, with its poses, in order.

        Crops of neighboring images share batches, so images are read a little further than poses
        are returned. Without `clip_scores` scores may be above 1, see `Metadata.keypoint_scores`.
        Without `select` there is one pose for each box: none is left out, see `selected`.
        """
        found = self._stream(((image, image) for image in images), clip_scores)
        if self.refine:
            refined = ((image, _refined(image, poses)) for image, poses in found)
            found = self._stream(refined, clip_scores)
        for image, poses in found:
            yield image, poses[self.selected(image, poses)] if select else poses

    def selected(self, image: InputImage, poses: Poses) -> NDArray[np.int64]:
        """The indices of the `poses` to return, one for each box of `image`, in order.

        Poses with a score below `min_score` are left out and, where a detector found the boxes,
        those that repeat a better one (OKS-NMS).
        """
        return select(poses, detected=image.detected, min_score=self.min_score)

    def _stream(
        self, pairs: Iterable[tuple[InputImage, InputImage]], clip_scores: bool
    ) -> Iterator[tuple[InputImage, Poses]]:
        """The first of each pair, with the poses in the boxes of the second.

        Crops are cut when their batch is due, not all at once.
        """
        waiting: deque[tuple[InputImage, InputImage, list[Crop]]] = deque()
        batch: list[NDArray[np.uint8]] = []
        points: list[NDArray[np.float64]] = []
        peaks: list[NDArray[np.float32]] = []

        def run() -> None:
            if batch:
                batch_points, batch_peaks = self.keypoints(np.stack(batch))
                points.extend(batch_points)
                peaks.extend(batch_peaks)
                batch.clear()

        def finished() -> Iterator[tuple[InputImage, Poses]]:
            while waiting and len(waiting[0][2]) <= len(points):
                given, image, crops = waiting.popleft()
                n = len(crops)
                rows = np.array(points[:n]), np.array(peaks[:n])
                yield given, to_poses(self.metadata, image, crops, *rows, clip=clip_scores)
                del points[:n], peaks[:n]

        for given, image in pairs:
            crops = [self.metadata.crop(box) for box in image.boxes]
            waiting.append((given, image, crops))
            for crop in crops:
                batch.append(image.cut(crop))
                if len(batch) == self.batch_size:
                    run()
            # Images without persons fill no batch, but must not pile up behind one that waits.
            if len(waiting) > self.batch_size:
                run()
            yield from finished()
        run()
        yield from finished()

    def keypoints(
        self, crops: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Crops to keypoints in the crops: network, flip test if it is on, codec.

        `crops` (n, h, w, 3) are uint8 RGB of the weights' input size, as `Crop` and `warp` make
        them. Returns points (n, k, 2), (x, y) in input pixels, and (n, k) the peaks of the heatmaps
        (`Metadata.keypoint_scores` makes scores of them). Raises UserError for crops of another
        shape or type.
        """
        return self.decode(self.heatmaps(crops))

    def heatmaps(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Crops to heatmaps (n, k, h/4, w/4), with the flip test if it is on.

        Arguments and errors as in `keypoints`.
        """
        width, height = self.metadata.input_wh
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (height, width, 3):
            raise UserError(
                f"crops: expected uint8 RGB of shape (n, {height}, {width}, 3), "
                f"found {crops.dtype} of shape {crops.shape}",
                code="array-invalid",
            )
        if len(crops) == 0:
            width, height = self.metadata.heatmap_wh
            return np.zeros((0, self.metadata.channels, height, width), np.float32)
        starts = range(0, len(crops), self.batch_size)
        return np.concatenate([self._merged(crops[i : i + self.batch_size]) for i in starts])

    def decode(
        self, heatmaps: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Heatmaps (n, k, h, w) to points (n, k, 2) in input pixels and peaks (n, k)."""
        points, peaks = self.metadata.codec.decode(heatmaps)
        return points.astype(np.float64), peaks

    def _merged(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The heatmaps of a batch, with the flip test if it is on."""
        if not self.flip_test:
            return self.session(crops)
        both = self.session(np.concatenate([crops, crops[:, :, ::-1]]))
        direct, mirrored = both[: len(crops)], both[len(crops) :]
        merged: NDArray[np.float32] = self.metadata.codec.merge_flipped(
            direct, mirrored, self.metadata.skeleton.flip_permutation
        )
        return merged


def _refined(image: InputImage, poses: Poses) -> InputImage:
    """The same image with boxes around the poses."""
    height, width = (length * image.reduction for length in image.pixels.shape[:2])
    return replace(image, boxes=boxes_around(poses.keypoints, image.boxes, (width, height)))


def select(poses: Poses, *, detected: bool, min_score: float | None = None) -> NDArray[np.int64]:
    """The indices of the poses to return, in order.

    Poses with a score below `min_score` are left out. Of persons that a detector found, those whose
    pose repeats a better one are left out too, and `min_score` is 0.2 by default instead of 0.
    """
    if min_score is None:
        min_score = MIN_SCORE if detected else 0.0
    good = np.flatnonzero(poses.scores >= min_score)
    return good[distinct(poses[good])] if detected and len(good) > 1 else good


def distinct(poses: Poses) -> NDArray[np.int64]:
    """The indices of the poses, in order, without those that repeat a better one (OKS-NMS)."""
    areas = poses.boxes[:, 2:].prod(axis=1)
    kept = oks_nms(poses.keypoints, areas, poses.scores, MAX_OKS, poses.skeleton.sigmas)
    return np.sort(kept)


def to_poses(
    metadata: Metadata,
    image: InputImage,
    crops: Sequence[Crop],
    points: NDArray[np.float64],
    peaks: NDArray[np.float32],
    *,
    clip: bool = True,
) -> Poses:
    """The poses in an image, from `points` (n, k, 2) in the pixels of its n `crops`.

    `peaks` (n, k) are those of the heatmaps; `Metadata.keypoint_scores` makes scores of them, with
    `clip` or without.
    """
    if not crops:
        return Poses.empty(metadata.skeleton)
    in_image = transform(points, np.stack([crop.inverse_matrix for crop in crops]))
    scores = metadata.keypoint_scores(peaks, clip=clip)
    keypoints = np.concatenate([in_image, scores[..., None]], axis=-1).astype(np.float32)
    return Poses(
        keypoints,
        image.boxes.astype(np.float32),
        rescore(keypoints, image.box_scores).astype(np.float32),
        metadata.skeleton,
    )


def _check(
    boxes: ArrayLike | None, scores: ArrayLike | None, width: int, height: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    checked = _check_boxes([[0, 0, width, height]] if boxes is None else boxes, width, height)
    return checked, _check_scores(np.ones(len(checked)) if scores is None else scores, checked)


def _check_boxes(boxes: ArrayLike, width: int, height: int) -> NDArray[np.float64]:
    try:
        checked = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise _invalid(f"boxes: expected rows of four numbers [x, y, w, h] ({error})") from error
    if checked.size == 0:
        return np.zeros((0, 4))
    if checked.ndim != 2 or checked.shape[1] != 4:
        raise _invalid(f"boxes: expected shape (n, 4) [x, y, w, h], found {checked.shape}")
    x, y, w, h = checked.T
    finite = np.isfinite(checked).all(axis=1)
    faults = (
        (~finite, "four finite numbers [x, y, w, h]"),
        (finite & ((w <= 0) | (h <= 0)), "a width and a height above 0"),
        (
            finite & ((x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0)),
            f"a box that touches the image of {width} x {height}",
        ),
        (finite & (np.abs(checked) > 1e6).any(axis=1), "numbers below a million"),
    )
    for wrong, expected in faults:
        if wrong.any():
            first = int(np.argmax(wrong))
            raise _invalid(f"box {first}: expected {expected}, found {checked[first].tolist()}")
    return checked


def _check_scores(scores: ArrayLike, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    try:
        checked = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise _invalid(f"box_scores: expected a number for each box ({error})") from error
    if checked.shape != (len(boxes),):
        raise _invalid(f"box_scores: expected {len(boxes)}, found shape {checked.shape}")
    # Written so that NaN is wrong too.
    wrong = ~((checked >= 0) & (checked <= 1))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise _invalid(f"box_scores: box {first}: expected 0 to 1, found {checked[first]}")
    return checked


def _invalid(message: str) -> UserError:
    return UserError(message, code="boxes-invalid")
