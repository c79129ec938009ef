"""The package's own detector: a small HRNet that finds people as centres with sizes."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.detection import centres
from hrpose.detection.detector import Boxes
from hrpose.geometry import Crop, clip_boxes, transform_boxes, warp
from hrpose.metadata import Confidence, DetectorMetadata, metadata_of
from hrpose.session import open_network

# Two people rarely overlap more.
SAME_PERSON_IOU = 0.5
# The warp takes single pixels and would miss what lies between; so a picture longer than this
# many inputs is first made smaller by averages.
_SHARPEST = 2
# The coarsest branch of the network sees one pixel of so many.
_MULTIPLE = 32


class Finder:
    """People by an ONNX file that `hrpose export` wrote from a finder's weights.

    Boxes with a score of at least `threshold` (without one, the passport's), cut at the picture's
    edges, best first. A score is a probability, see `hrpose.metadata.Confidence`. Raises
    UserError for a file that is no finder.
    """

    name = "builtin"

    def __init__(
        self, path: Path, threshold: float | None = None, threads: int | None = None
    ) -> None:
        self._network = open_network(path, "detector", threads)
        self.passport = metadata_of(path, DetectorMetadata)
        self.input_wh = (self.passport.side, self.passport.side)
        self.threshold = self.passport.threshold if threshold is None else threshold

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        """The people in an RGB picture (h, w, 3)."""
        pixels, crop = look(image, self.passport.side)
        heat, distances = self._network({"pictures": pixels[None]}, ["heat", "distances"])
        found = persons(
            *centres.decode(heat[0], distances[0]), self.passport.confidence, self.threshold
        )
        boxes = transform_boxes(found.xywh, crop.inverse_matrix)
        boxes = clip_boxes(boxes, (image.shape[1], image.shape[0]))
        return Boxes(boxes, found.scores)[(boxes[:, 2:] > 0).all(axis=1)]


def persons(
    boxes: NDArray[np.float64],
    peaks: NDArray[np.float64],
    confidence: Confidence,
    threshold: float = 0.0,
) -> Boxes:
    """Each person once, best first, from decoded `boxes` (n, 4) in input pixels and `peaks` (n,).

    Scores by `confidence`, and of those of at least `threshold` the best of boxes that overlap.
    Tuning calls this too: boxes must compete for the weights' threshold as they do in use.
    """
    scores = confidence.scores(peaks, boxes)
    return Boxes(boxes, scores)[scores >= threshold].with_nms(SAME_PERSON_IOU)


def look(image: NDArray[np.uint8], side: int) -> tuple[NDArray[np.uint8], Crop]:
    """The input (h, w, 3), `side` long and no higher or wider than the picture needs; and where
    it lies in the picture.
    """
    wh = (image.shape[1], image.shape[0])
    crop = letterbox(wh, side)
    shrink = _SHARPEST * side / max(wh)
    if shrink >= 1:
        return warp(image, crop), crop
    size = [max(1, round(length * shrink)) for length in wh]
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return warp(small, Crop.from_box([0, 0, *size], crop.input_wh, padding=1.0)), crop


def letterbox(image_wh: tuple[int, int], side: int) -> Crop:
    """The whole picture in the middle of an input that is `side` long, in its proportions."""
    # In whole numbers, so that the longer side is `side` and not the next multiple.
    width, height = (
        max(1, -(-length * side // (max(image_wh) * _MULTIPLE))) * _MULTIPLE for length in image_wh
    )
    return Crop.from_box([0, 0, *image_wh], (width, height), padding=1.0)
