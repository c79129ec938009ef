"""From pictures and boxes to poses: crop, network, heatmaps, keypoints, the way back."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.detection.detector import Detector
from hrpose.detection.simple import FullImage
from hrpose.errors import UserError
from hrpose.geometry import Crop, transform
from hrpose.image import image_size, read_reduced
from hrpose.metadata import Metadata
from hrpose.poses import Poses, boxes_around, rescore
from hrpose.runtime.picture import File, Picture, Source
from hrpose.session import Session

# A detector's boxes beyond these are the least likely ones; boxes that are given are all done.
MOST_PEOPLE = 100


class PoseEstimator:
    """Finds the keypoints of the people in a picture, with the weights of `session`.

    `detector` finds the people where no boxes are given; without one, the whole picture is one
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
    def passport(self) -> Metadata:
        """What the weights are: network, skeleton, input size, codec, licence, scores."""
        return self.session.passport

    def __call__(
        self,
        image: Source,
        boxes: ArrayLike | None = None,
        box_scores: ArrayLike | None = None,
    ) -> Poses:
        """The poses in one picture, a file, its bytes or uint8 RGB (h, w, 3).

        `boxes` (n, 4) [x, y, w, h] in pixels; without them, those that the detector finds.
        `box_scores` (n,) in [0, 1] say how sure each box is, 1 where left out; they scale the
        scores of the people. Raises UserError where the picture cannot be read or a box is wrong.
        """
        ((_, poses),) = self.stream([self.picture(image, boxes, box_scores)])
        return poses

    def picture(
        self,
        image: Source,
        boxes: ArrayLike | None = None,
        box_scores: ArrayLike | None = None,
        *,
        size: tuple[int, int] | None = None,
    ) -> Picture:
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
                return Picture.of(image, boxes, box_scores)
            return Picture.reduced(file, self.passport, boxes, box_scores, size=size)
        seen = Picture.of(image) if file is None else self._overview(file, size)
        # The last pixels of a shrunk picture may reach over its edge, and boxes must not.
        width, height = (seen.boxes[0, 2:] // seen.shrunk).astype(int)
        found = self.detector(seen.image[:height, :width]).best(MOST_PEOPLE)
        people = found.xywh * seen.shrunk, found.scores
        try:
            if file is None:
                return Picture.of(seen.image, *people)
            return Picture.reduced(file, self.passport, *people, overview=seen, size=size)
        except UserError as error:
            raise UserError(f"detector {self.detector.name}: {error}") from error

    def _overview(self, file: File, size: tuple[int, int] | None) -> Picture:
        """The picture at no less than twice the size that the detector sees, if it says which."""
        input_wh: tuple[int, int] | None = getattr(self.detector, "input_wh", None)
        if input_wh is None:
            return Picture.of(file)
        size = size or image_size(file)
        image, shrunk = read_reduced(file, min(np.divide(size, input_wh)) / 2)
        return Picture(image, np.array([[0.0, 0.0, *size]]), np.ones(1), shrunk)

    def stream(
        self, pictures: Iterable[Picture], *, clip_scores: bool = True
    ) -> Iterator[tuple[Picture, Poses]]:
        """Each picture, the very object that was given, with its poses, in order.

        Crops of neighboring pictures share batches, so the pictures are read a little further than
        poses are given out. Without `clip_scores` scores may be above 1, see
        `Metadata.joint_scores`.
        """
        found = self._poses_in(((picture, picture) for picture in pictures), clip_scores)
        if self.refine:
            closer = ((picture, _closer(picture, poses)) for picture, poses in found)
            found = self._poses_in(closer, clip_scores)
        yield from found

    def _poses_in(
        self, views: Iterable[tuple[Picture, Picture]], clip_scores: bool
    ) -> Iterator[tuple[Picture, Poses]]:
        """The first of each pair, with the poses in the boxes of the second.

        Crops are cut when their batch is due, not all at once.
        """
        waiting: deque[tuple[Picture, Picture, list[Crop]]] = deque()
        images: list[NDArray[np.uint8]] = []
        points: list[NDArray[np.float64]] = []
        scores: list[NDArray[np.float32]] = []

        def run() -> None:
            if images:
                found, peaks = self.keypoints(np.stack(images))
                points.extend(found)
                scores.extend(peaks)
                images.clear()

        def finished() -> Iterator[tuple[Picture, Poses]]:
            while waiting and len(waiting[0][2]) <= len(points):
                given, picture, crops = waiting.popleft()
                n = len(crops)
                rows = np.array(points[:n]), np.array(scores[:n])
                yield given, place(self.passport, picture, crops, *rows, clip=clip_scores)
                del points[:n], scores[:n]

        for given, picture in views:
            crops = [self.passport.crop(box) for box in picture.boxes]
            waiting.append((given, picture, crops))
            for crop in crops:
                images.append(picture.cut(crop))
                if len(images) == self.batch_size:
                    run()
            # Pictures with nobody fill no batch, but they must not pile up behind one that waits.
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
        (`passport.joint_scores` makes scores of them). Raises UserError for crops of another shape
        or type.
        """
        found = [self.decode(self._merged(part)) for part in self._batches(crops)]
        if len(found) == 1:
            return found[0]
        k = len(self.passport.skeleton)
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
        width, height = self.passport.heatmap_wh
        nothing = np.zeros((0, len(self.passport.skeleton), height, width), np.float32)
        return np.concatenate([nothing, *found])

    def decode(
        self, heatmaps: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Heatmaps (n, k, h, w) to points (n, k, 2) in input pixels and peaks (n, k)."""
        points, peaks = self.passport.codec.decode(heatmaps)
        return points.astype(np.float64), peaks

    def _batches(self, crops: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """At most `batch_size` crops each."""
        width, height = self.passport.input_wh
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
        merged: NDArray[np.float32] = self.passport.codec.merge_flipped(
            direct, mirrored, self.passport.skeleton.flip_permutation
        )
        return merged


def _closer(picture: Picture, poses: Poses) -> Picture:
    """The same picture with boxes around the poses."""
    height, width = (length * picture.shrunk for length in picture.image.shape[:2])
    return replace(picture, boxes=boxes_around(poses.keypoints, picture.boxes, (width, height)))


def place(
    passport: Metadata,
    picture: Picture,
    crops: Sequence[Crop],
    points: NDArray[np.float64],
    scores: NDArray[np.float32],
    *,
    clip: bool = True,
) -> Poses:
    """The poses of a picture: `points` (n, k, 2) in the pixels of its n `crops`, led back to it.

    `scores` (n, k) are peaks of heatmaps; the passport makes joint scores of them, with `clip` or
    without.
    """
    if not crops:
        return Poses.empty(passport.skeleton)
    in_image = transform(points, np.stack([crop.inverse_matrix for crop in crops]))
    confidence = passport.joint_scores(scores, clip=clip)
    keypoints = np.concatenate([in_image, confidence[..., None]], axis=-1).astype(np.float32)
    return Poses(
        keypoints,
        picture.boxes.astype(np.float32),
        rescore(keypoints, picture.box_scores).astype(np.float32),
        passport.skeleton,
    )
