"""The estimator: an image and boxes around persons in, `Poses` out.

image ─ detector ─▶ boxes ─▶ crops ─▶ heatmaps ─▶ keypoints in the crops ─▶ Poses
"""

from __future__ import annotations  # so that help() shows the names of types, not their contents

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal, Protocol, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.covariance import check_fits, in_crop, transformed
from hrpose.engines import running
from hrpose.errors import UserError
from hrpose.geometry import Boxes, Crop, checked_boxes, checked_scores, transform, warp
from hrpose.image import AnyImage, AnyImages, File, ImageSource, image_size, read_reduced
from hrpose.image_inputs import sources_in
from hrpose.io import prefetch
from hrpose.keypoint_rcnn import AnyBoxes, boxes_of
from hrpose.metadata import Metadata
from hrpose.poses import Poses, boxes_around, rescore, select
from hrpose.session import Session
from hrpose.skeleton import Skeleton

# Of the boxes that a detector finds, the best ones; boxes that are given are all used.
MAX_PERSONS = 100


@dataclass(frozen=True, slots=True, eq=False)
class InputImage:
    """An image with the boxes of the persons in it.

    `pixels` (h, w, 3) uint8 RGB; `boxes` (n, 4) [x, y, w, h] in pixels of the full image;
    `box_scores` (n,) in [0, 1]. `pixels` may be the full image reduced by the whole factor
    `reduction`; boxes, crops and poses are in pixels of the full image all the same. `detected`
    says that a detector found the boxes, which may then be wrong or repeat a person. `size` (w, h)
    is that of the full image, where it is not that of `pixels`. `source` is what was read. `key` is
    the caller's, who gets it back with the poses.
    """

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    box_scores: NDArray[np.float64]
    reduction: int = 1
    detected: bool = False
    size: tuple[int, int] | None = None
    source: ImageSource | None = None
    key: Any = None

    @property
    def image_wh(self) -> tuple[int, int]:
        """(w, h) of the full image in pixels."""
        return self.size or (self.pixels.shape[1], self.pixels.shape[0])

    @classmethod
    def of(
        cls,
        image: AnyImage,
        boxes: AnyBoxes | None = None,
        box_scores: ArrayLike | None = None,
        *,
        bit_depth: int | None = None,
    ) -> InputImage:
        """Read an image and check its boxes; without boxes the full image is one box.

        `bit_depth` is that of `read_image`. Raises UserError where the image cannot be read, and
        which box is wrong and how.
        """
        pixels = ImageSource.of(image).pixels(bit_depth)
        height, width = pixels.shape[:2]
        return cls(pixels, *_check(boxes, box_scores, width, height))

    def cut(self, crop: Crop) -> NDArray[np.uint8]:
        """The pixels of a crop of the full image: (input h, input w, 3) uint8."""
        # The first pixel of a reduced image is the mean of a square; this is the square's center.
        center = (self.reduction - 1) / 2
        return warp(self.pixels, crop.inside((center, center), self.reduction))


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
        return Boxes(np.array([[0.0, 0.0, *image.shape[1::-1]]]), np.ones(1))


class PoseEstimator:
    """Estimates the poses of the persons in images with a pose model, the `session`.

    `detector` finds the persons where no boxes are given; without a detector the full image is the
    box of one person. Poses with a score below `min_score`, in [0, 1], are left out; by default
    0.25 where the detector found the persons, and 0 in boxes that are given. `flip_test` averages
    the heatmaps of each crop and of its mirror image: a little better, and twice the work. `refine`
    estimates a second time, in the boxes around the first keypoints: better where boxes are loose
    or off, and twice the work. At most `batch_size` crops go through the network at once.

    Large JPEG files are decoded at a half, a quarter or an eighth of their size where every crop
    is that much smaller anyway: several times faster, and points differ by a fraction of a
    heatmap's pixel. With `exact` they are decoded in full; so they are with `refine`, whose second
    boxes may be smaller. Files with more than 8 bits a channel are scaled from `bit_depth` bits,
    by default those that their values have. Arrays of pixels are used as they are. Poses have
    a `covariance` if it is asked for.
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
        bit_depth: int | None = None,
        covariance: bool = False,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size: expected > 0, found {batch_size}", code="option-invalid")
        if min_score is not None and not 0 <= min_score <= 1:
            raise UserError(f"min_score: expected 0 to 1, found {min_score}", code="option-invalid")
        if bit_depth is not None and not 8 <= bit_depth <= 16:
            reason = f"bit_depth: expected 8 to 16, found {bit_depth}"
            raise UserError(reason, code="option-invalid")
        self.session = session
        self.detector: Detector = detector or FullImage()
        self.min_score = min_score
        self.flip_test = flip_test
        self.refine = refine
        self.exact = exact
        self.batch_size = batch_size
        self.bit_depth = bit_depth
        self.covariance = covariance and check_fits(session.metadata)

    @property
    def metadata(self) -> Metadata:
        """What the weights are: network, skeleton, input size, codec, license, scores."""
        return self.session.metadata

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton of the poses."""
        return self.metadata.skeleton

    @property
    def engine(self) -> str:
        """What runs the networks; the detector's is named where it is another one."""
        return running(self.session, self.detector)

    def __repr__(self) -> str:
        width, height = self.metadata.input_wh
        name = self.detector.name
        detector = name if name == FullImage.name else f"{name} detector"
        return f"PoseEstimator({self.metadata.title}, {width}x{height}, {detector}, {self.engine})"

    @overload
    def __call__(
        self,
        image: list[Any] | tuple[Any, ...] | Iterator[Any],
        *,
        bgr: bool = False,
        stream: Literal[False] = False,
    ) -> list[Poses]: ...

    @overload
    def __call__(
        self,
        image: AnyImage,
        boxes: AnyBoxes | None = None,
        box_scores: ArrayLike | None = None,
        *,
        bgr: bool = False,
        stream: Literal[False] = False,
    ) -> Poses: ...

    @overload
    def __call__(
        self, image: AnyImages, *, bgr: bool = False, stream: Literal[True]
    ) -> Iterator[Poses]: ...

    def __call__(
        self,
        image: AnyImages,
        boxes: AnyBoxes | None = None,
        box_scores: ArrayLike | None = None,
        *,
        bgr: bool = False,
        stream: bool = False,
    ) -> Any:
        """The poses in one image; a list of them for several images, in order.

        `image` is a path, an http(s) address, the bytes of a file, a file object, a PIL image, an
        RGB array (h, w, 3) uint8 or a PyTorch tensor (3, h, w) of uint8 or of floats from 0 to 1.
        With `bgr` arrays are in the order of OpenCV. Several images are a list, a folder, a pattern
        such as "images/*.jpg", a generator, or an array (n, h, w, 3); with `stream` their poses are
        an iterator, which prefetches a few images and keeps none.

        `boxes` (n, 4) [x, y, w, h] in pixels, of one image, or a target of torchvision (see
        `hrpose.keypoint_rcnn`); without them, those that the detector finds. `box_scores` (n,) in
        [0, 1] are their confidences, 1 if left out; they scale the scores of the poses. The poses
        refer to the image, for `Poses.draw`. Raises UserError where an image or a box is wrong.
        """
        several = sources_in(image)
        if several is None and not stream:
            return next(self.stream([self.image(image, boxes, box_scores, bgr=bgr)]))[1]
        if boxes is not None or box_scores is not None:
            raise UserError(
                "boxes: expected one image that they belong to, found several; call the estimator "
                "for each",
                code="option-conflict",
            )
        poses_of_each = self._poses_of_each(iter((image,)) if several is None else several, bgr)
        return poses_of_each if stream else list(poses_of_each)

    def _poses_of_each(self, images: Iterator[AnyImage], bgr: bool) -> Iterator[Poses]:
        def read(numbered: tuple[int, AnyImage]) -> InputImage:
            index, image = numbered
            try:
                return self.image(image, bgr=bgr)
            except UserError as error:
                text = str(error)
                # Pixels and bytes have no name of their own.
                unnamed = text.startswith(("image: ", "tensor: "))
                text = f"images[{index}]: {text.partition(': ')[2]}" if unnamed else text
                raise UserError(text, code=error.code) from error

        for _, poses in self.stream(prefetch(read, enumerate(images))):
            yield poses

    def image(
        self,
        image: AnyImage,
        boxes: AnyBoxes | None = None,
        box_scores: ArrayLike | None = None,
        *,
        bgr: bool = False,
        size: tuple[int, int] | None = None,
    ) -> InputImage:
        """Read an image and check its boxes; without boxes, detect the persons in it.

        Of those the best 100. `image`, `boxes` (n, 4) [x, y, w, h] in pixels, `box_scores` (n,) in
        [0, 1] and `bgr` are those of calling the estimator. `size` (w, h) is the file's
        `image_size`, if it is known. May be called from several threads. Raises UserError where the
        image cannot be read, and which box is wrong and how.
        """
        if boxes is None and box_scores is not None:
            reason = "box_scores: expected boxes that they belong to, found none; add boxes"
            raise UserError(reason, code="boxes-invalid")
        source = ImageSource.of(image, bgr)
        content, file = source.content(), None
        detects = boxes is None and not isinstance(self.detector, FullImage)
        pixels, reduction = np.zeros((0, 0, 3), np.uint8), 0  # not read yet
        if isinstance(content, np.ndarray) or self.exact or self.refine:
            pixels = ImageSource(content).pixels(self.bit_depth)
            reduction, size = 1, (pixels.shape[1], pixels.shape[0])
        else:
            file, size = content, size or image_size(content)
            if detects:
                pixels, reduction = self._overview(file, size)
        if detects:
            # The last pixels of a reduced image may reach over its edge, and boxes must not.
            width, height = (length // reduction for length in size)
            found = self.detector(pixels[:height, :width]).best(MAX_PERSONS)
            boxes, box_scores = found.xywh * reduction, found.scores
        try:
            checked = _check(boxes, box_scores, *size)
        except UserError as error:
            where = f"detector {self.detector.name}: " if detects else ""
            raise UserError(f"{where}{error}", code=error.code) from error
        if file is not None:
            crops = [self.metadata.crop(box) for box in checked[0]]
            limit = min((min(np.divide(crop.size, crop.input_wh)) for crop in crops), default=inf)
            if not reduction or reduction > max(1, limit):
                pixels, reduction = read_reduced(file, limit, bit_depth=self.bit_depth)
        return InputImage(pixels, *checked, reduction, detects, size, source)

    def _overview(self, file: File, size: tuple[int, int]) -> tuple[NDArray[np.uint8], int]:
        """The image at no less than twice the size of the detector's input, if that is known."""
        input_wh: tuple[int, int] | None = getattr(self.detector, "input_wh", None)
        limit = 1.0 if input_wh is None else min(np.divide(size, input_wh)) / 2
        return read_reduced(file, limit, bit_depth=self.bit_depth)

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
            around = ((i, boxes_around(p.keypoints, i.boxes, i.image_wh)) for i, p in found)
            refined = ((image, replace(image, boxes=boxes)) for image, boxes in around)
            found = self._stream(refined, clip_scores)
        for image, poses in found:
            yield image, poses[self.selected(image, poses)] if select else poses

    def selected(self, image: InputImage, poses: Poses) -> NDArray[np.int64]:
        """The indices of the `poses`, one for each box of `image`, to return: see `select`."""
        return select(poses, detected=image.detected, min_score=self.min_score)

    def _stream(
        self, pairs: Iterable[tuple[InputImage, InputImage]], clip_scores: bool
    ) -> Iterator[tuple[InputImage, Poses]]:
        """The first of each pair, with the poses in the boxes of the second.

        Crops are cut when their batch is due, not all at once.
        """
        waiting: deque[tuple[InputImage, InputImage, list[Crop]]] = deque()
        batch: list[NDArray[np.uint8]] = []
        done: list[tuple[NDArray[Any], ...]] = []  # the last arguments of `to_poses`, by crop

        def run() -> None:
            if batch:
                heatmaps = self.heatmaps(np.stack(batch))
                arrays: Any = self.decode(heatmaps)
                if self.covariance:
                    fits: Any = (self.metadata.covariance, self.metadata.presence)
                    arrays += in_crop(self.metadata.codec, fits, heatmaps, *arrays)
                done.extend(zip(*arrays, strict=True))
                batch.clear()

        def finished() -> Iterator[tuple[InputImage, Poses]]:
            while waiting and (n := len(waiting[0][2])) <= len(done):
                given, image, crops = waiting.popleft()
                rows = [np.array(part) for part in zip(*done[:n], strict=True)]
                del done[:n]
                yield given, to_poses(self.metadata, image, crops, *rows, clip=clip_scores)

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
        them. Returns what `decode` does. Raises UserError for crops of another shape or type.
        """
        return self.decode(self.heatmaps(crops))

    def heatmaps(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Crops to heatmaps (n, k, h/4, w/4), flip-tested if that is on; else as `keypoints`."""
        width, height = self.metadata.input_wh
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (height, width, 3):
            raise UserError(
                f"crops: expected uint8 RGB of shape (n, {height}, {width}, 3), "
                f"found {crops.dtype} of shape {crops.shape}",
                code="array-invalid",
            )
        if len(crops) == 0:
            return np.zeros((0, self.metadata.channels, *self.metadata.heatmap_wh[::-1]), "f4")
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
        direct, mirrored = np.split(both, 2)
        order, codec = self.metadata.skeleton.flip_permutation, self.metadata.codec
        return np.asarray(codec.merge_flipped(direct, mirrored, order), np.float32)


def to_poses(
    metadata: Metadata,
    image: InputImage,
    crops: Sequence[Crop],
    points: NDArray[np.float64] | None = None,
    peaks: NDArray[np.float32] | None = None,
    spread: NDArray[np.float64] | None = None,
    presence: NDArray[np.float32] | None = None,
    *,
    clip: bool = True,
) -> Poses:
    """The poses in an image, from `points` (n, k, 2) in the pixels of its n `crops`.

    `peaks` (n, k) are those of the heatmaps, `clip` is that of `Metadata.keypoint_scores`,
    `spread` (n, k, 2, 2) are covariances in pixels² of the crops, `presence` is that of `Poses`.
    """
    if not crops or points is None or peaks is None:
        return replace(Poses.empty(metadata.skeleton), image_wh=image.image_wh, source=image.source)
    matrices = np.stack([crop.inverse_matrix for crop in crops])
    scores = metadata.keypoint_scores(peaks, clip=clip)[..., None]
    keypoints = np.concatenate([transform(points, matrices), scores], axis=-1).astype(np.float32)
    return Poses(
        keypoints,
        image.boxes.astype(np.float32),
        rescore(keypoints, image.box_scores).astype(np.float32),
        metadata.skeleton,
        image_wh=image.image_wh,
        source=image.source,
        covariance=None if spread is None else transformed(spread, matrices),
        presence=presence,
    )


def _check(
    boxes: AnyBoxes | None, scores: ArrayLike | None, width: int, height: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if isinstance(boxes, Mapping | list | tuple):
        boxes, scores = boxes_of(boxes, scores)
    checked = checked_boxes([[0, 0, width, height]] if boxes is None else boxes, width, height)
    return checked, checked_scores(np.ones(len(checked)) if scores is None else scores, checked)
