"""An image and the people in it, checked at the door."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.detection.detector import Detector, FullImage
from hrpose.errors import UserError
from hrpose.geometry import Crop, transform, warp
from hrpose.image import image_size, read_image, read_reduced
from hrpose.metadata import Metadata
from hrpose.poses import Poses, boxes_around, rescore
from hrpose.session import Session

File = str | Path | bytes
# What a user may give for an image: a file, its bytes, or its pixels.
Source = NDArray[np.uint8] | File


@dataclass(frozen=True, slots=True, eq=False)
class InputImage:
    """An image and the people in it: `image` (h, w, 3) uint8 RGB, `boxes` (n, 4) [x, y, w, h]
    in pixels, `box_scores` (n,) in [0, 1]. Without boxes the full image is one person's box.

    `image` may be `shrunk` by a whole factor; boxes, crops and poses are in pixels of the whole.
    `key` is whatever the caller knows the image by; nothing here reads it, and it comes back with
    the poses.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    box_scores: NDArray[np.float64]
    shrunk: int = 1
    key: Any = None

    @classmethod
    def of(
        cls,
        image: Source,
        boxes: ArrayLike | None = None,
        box_scores: ArrayLike | None = None,
    ) -> "InputImage":
        """Read and check. Raises UserError that says which box is wrong, and how."""
        pixels = image if isinstance(image, np.ndarray) else read_image(image)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            raise UserError(
                "image: expected uint8 RGB of shape (h, w, 3), "
                f"found {pixels.dtype} of shape {pixels.shape}"
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
        """As `of`, shrunk as far as the decoder can do it and no crop has to be enlarged then.

        `overview` is the same file shrunk, if it was read before: where it does, it is taken.
        `size` (w, h) is that of the file, if it was asked for before.
        """
        checked, scores = _check(boxes, box_scores, *(size or image_size(file)))
        crops = [metadata.crop(box) for box in checked]
        most = min((min(np.divide(crop.size, crop.input_wh)) for crop in crops), default=np.inf)
        if overview is not None and overview.shrunk <= max(1, most):
            return cls(overview.image, checked, scores, overview.shrunk)
        image, shrunk = read_reduced(file, most)
        return cls(image, checked, scores, shrunk)

    def cut(self, crop: Crop) -> NDArray[np.uint8]:
        """What `crop` of the full image shows: (input h, input w, 3) uint8."""
        # The first pixel of a shrunk image is the mean of a square; its center is between them.
        middle = (self.shrunk - 1) / 2
        return warp(self.image, crop.inside((middle, middle), self.shrunk))


def _check(
    boxes: ArrayLike | None, scores: ArrayLike | None, width: int, height: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    checked = _check_boxes([[0, 0, width, height]] if boxes is None else boxes, width, height)
    return checked, _check_scores(np.ones(len(checked)) if scores is None else scores, checked)


def _check_boxes(boxes: ArrayLike, width: int, height: int) -> NDArray[np.float64]:
    try:
        checked = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"boxes: expected rows of four numbers [x, y, w, h] ({error})") from error
    if checked.size == 0:
        return np.zeros((0, 4))
    if checked.ndim != 2 or checked.shape[1] != 4:
        raise UserError(f"boxes: expected shape (n, 4) [x, y, w, h], found {checked.shape}")
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
            raise UserError(f"box {first}: expected {expected}, found {checked[first].tolist()}")
    return checked


def _check_scores(scores: ArrayLike, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    try:
        checked = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"box_scores: expected a number for each box ({error})") from error
    if checked.shape != (len(boxes),):
        raise UserError(f"box_scores: expected {len(boxes)}, found shape {checked.shape}")
    # Written so that NaN is wrong too.
    wrong = ~((checked >= 0) & (checked <= 1))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise UserError(f"box_scores: box {first}: expected 0 to 1, found {checked[first]}")
    return checked


# A detector's boxes beyond these are the least likely ones; boxes that are given are all done.
MOST_PERSONS = 100


class PoseEstimator:
    """Finds the keypoints of the people in an image, with the weights of `session`.

    `detector` finds the people where no boxes are given; without one, the full image is one
    person's box. `flip_test` averages the heatmaps of each crop and of its mirror image: a little
    better, and twice the work. `refine` looks a second time, into the boxes around the keypoints of
    the first: better where boxes are loose or off, and twice the work. At most `batch_size` crops
    go through the network at once.

    Large JPEG files are decoded at a half, a quarter or an eighth of their size where every crop
    is that much smaller anyway: several times faster, and points differ by a part of a heatmap's
    pixel. With `exact` they are decoded whole; so they are with `refine`, whose second look may go
    closer. Pixels that are given are taken as they are.
    """

    def __init__(
        self,
        session: Session,
        *,
        detector: Detector | None = None,
        flip_test: bool = False,
        refine: bool = False,
        exact: bool = False,
        batch_size: int = 16,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size: expected at least 1, found {batch_size}")
        self.session = session
        self.detector: Detector = detector or FullImage()
        self.flip_test = flip_test
        self.refine = refine
        self.exact = exact
        self.batch_size = batch_size

    @property
    def metadata(self) -> Metadata:
        """What the weights are: network, skeleton, input size, codec, license, scores."""
        return self.session.metadata

    def __call__(
        self,
        image: Source,
        boxes: ArrayLike | None = None,
        box_scores: ArrayLike | None = None,
    ) -> Poses:
        """The poses in one image, a file, its bytes or uint8 RGB (h, w, 3).

        `boxes` (n, 4) [x, y, w, h] in pixels; without them, those that the detector finds.
        `box_scores` (n,) in [0, 1] say how sure each box is, 1 where left out; they scale the
        scores of the people. Raises UserError where the image cannot be read or a box is wrong.
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
        """Read and check; without boxes, with the people that the detector finds.

        Of those at most 100, the surest first. `image`, `boxes` (n, 4) [x, y, w, h] in pixels and
        `box_scores` (n,) in [0, 1] are those of calling the estimator. `size` (w, h) is what
        `image_size` says of the file, where it was asked already. May be called from several
        threads. Raises UserError that says which box is wrong, and how.
        """
        if boxes is None and box_scores is not None:
            raise UserError("box_scores: expected the boxes that they are of; add boxes")
        file = None if isinstance(image, np.ndarray) or self.exact or self.refine else image
        if boxes is not None or isinstance(self.detector, FullImage):
            if file is None:
                return InputImage.of(image, boxes, box_scores)
            return InputImage.reduced(file, self.metadata, boxes, box_scores, size=size)
        seen = InputImage.of(image) if file is None else self._overview(file, size)
        # The last pixels of a shrunk image may reach over its edge, and boxes must not.
        width, height = (seen.boxes[0, 2:] // seen.shrunk).astype(int)
        found = self.detector(seen.image[:height, :width]).best(MOST_PERSONS)
        persons = found.xywh * seen.shrunk, found.scores
        try:
            if file is None:
                return InputImage.of(seen.image, *persons)
            return InputImage.reduced(file, self.metadata, *persons, overview=seen, size=size)
        except UserError as error:
            raise UserError(f"detector {self.detector.name}: {error}") from error

    def _overview(self, file: File, size: tuple[int, int] | None) -> InputImage:
        """The image at no less than twice the size that the detector sees, if it says which."""
        input_wh: tuple[int, int] | None = getattr(self.detector, "input_wh", None)
        if input_wh is None:
            return InputImage.of(file)
        size = size or image_size(file)
        image, shrunk = read_reduced(file, min(np.divide(size, input_wh)) / 2)
        return InputImage(image, np.array([[0.0, 0.0, *size]]), np.ones(1), shrunk)

    def stream(
        self, images: Iterable[InputImage], *, clip_scores: bool = True
    ) -> Iterator[tuple[InputImage, Poses]]:
        """Each image, the very object that was given, with its poses, in order.

        Crops of neighboring images share batches, so the images are read a little further than
        poses are given out. Without `clip_scores` scores may be above 1, see
        `Metadata.joint_scores`.
        """
        found = self._poses_in(((image, image) for image in images), clip_scores)
        if self.refine:
            closer = ((image, _closer(image, poses)) for image, poses in found)
            found = self._poses_in(closer, clip_scores)
        yield from found

    def _poses_in(
        self, views: Iterable[tuple[InputImage, InputImage]], clip_scores: bool
    ) -> Iterator[tuple[InputImage, Poses]]:
        """The first of each pair, with the poses in the boxes of the second.

        Crops are cut when their batch is due, not all at once.
        """
        waiting: deque[tuple[InputImage, InputImage, list[Crop]]] = deque()
        images: list[NDArray[np.uint8]] = []
        points: list[NDArray[np.float64]] = []
        scores: list[NDArray[np.float32]] = []

        def run() -> None:
            if images:
                found, peaks = self.keypoints(np.stack(images))
                points.extend(found)
                scores.extend(peaks)
                images.clear()

        def finished() -> Iterator[tuple[InputImage, Poses]]:
            while waiting and len(waiting[0][2]) <= len(points):
                given, image, crops = waiting.popleft()
                n = len(crops)
                rows = np.array(points[:n]), np.array(scores[:n])
                yield given, place(self.metadata, image, crops, *rows, clip=clip_scores)
                del points[:n], scores[:n]

        for given, image in views:
            crops = [self.metadata.crop(box) for box in image.boxes]
            waiting.append((given, image, crops))
            for crop in crops:
                images.append(image.cut(crop))
                if len(images) == self.batch_size:
                    run()
            # Images with nobody fill no batch, but they must not pile up behind one that waits.
            if len(waiting) > self.batch_size:
                run()
            yield from finished()
        run()
        yield from finished()

    def keypoints(
        self, crops: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Crops to keypoints in the crops: the network, the flip test where it is on, the codec.

        `crops` (n, h, w, 3) are uint8 RGB of the weights' input size, as `Crop` and `warp` make
        them. Returns points (n, k, 2), (x, y) in input pixels, and (n, k) the peaks of the heatmaps
        (`metadata.joint_scores` makes scores of them). Raises UserError for crops of another shape
        or type.
        """
        found = [self.decode(self._merged(part)) for part in self._batches(crops)]
        if len(found) == 1:
            return found[0]
        k = len(self.metadata.skeleton)
        nothing = np.zeros((0, k, 2)), np.zeros((0, k), np.float32)
        points, peaks = zip(nothing, *found, strict=True)
        return np.concatenate(points), np.concatenate(peaks)

    def heatmaps(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Crops to heatmaps (n, k, h/4, w/4), with the flip test where it is on.

        Arguments and errors as in `keypoints`.
        """
        found = [self._merged(part) for part in self._batches(crops)]
        if len(found) == 1:
            return found[0]
        width, height = self.metadata.heatmap_wh
        nothing = np.zeros((0, len(self.metadata.skeleton), height, width), np.float32)
        return np.concatenate([nothing, *found])

    def decode(
        self, heatmaps: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Heatmaps (n, k, h, w) to points (n, k, 2) in input pixels and peaks (n, k)."""
        points, peaks = self.metadata.codec.decode(heatmaps)
        return points.astype(np.float64), peaks

    def _batches(self, crops: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """At most `batch_size` crops each."""
        width, height = self.metadata.input_wh
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (height, width, 3):
            raise UserError(
                f"crops: expected uint8 RGB of shape (n, {height}, {width}, 3), "
                f"found {crops.dtype} of shape {crops.shape}"
            )
        return [crops[i : i + self.batch_size] for i in range(0, len(crops), self.batch_size)]

    def _merged(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        if not self.flip_test:
            return self.session(crops)
        both = self.session(np.concatenate([crops, crops[:, :, ::-1]]))
        direct, mirrored = both[: len(crops)], both[len(crops) :]
        merged: NDArray[np.float32] = self.metadata.codec.merge_flipped(
            direct, mirrored, self.metadata.skeleton.flip_permutation
        )
        return merged


def _closer(image: InputImage, poses: Poses) -> InputImage:
    """The same image with boxes around the poses."""
    height, width = (length * image.shrunk for length in image.image.shape[:2])
    return replace(image, boxes=boxes_around(poses.keypoints, image.boxes, (width, height)))


def place(
    metadata: Metadata,
    image: InputImage,
    crops: Sequence[Crop],
    points: NDArray[np.float64],
    scores: NDArray[np.float32],
    *,
    clip: bool = True,
) -> Poses:
    """The poses of an image: `points` (n, k, 2) in the pixels of its n `crops`, led back to it.

    `scores` (n, k) are peaks of heatmaps; the metadata makes keypoint scores of them, with `clip`
    or without.
    """
    if not crops:
        return Poses.empty(metadata.skeleton)
    in_image = transform(points, np.stack([crop.inverse_matrix for crop in crops]))
    confidence = metadata.keypoint_scores(scores, clip=clip)
    keypoints = np.concatenate([in_image, confidence[..., None]], axis=-1).astype(np.float32)
    return Poses(
        keypoints,
        image.boxes.astype(np.float32),
        rescore(keypoints, image.box_scores).astype(np.float32),
        metadata.skeleton,
    )
