"""How good a person detector is: recall and precision at its threshold, and AP."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hrpose.data.coco import read_annotations
from hrpose.data.images import ImageFiles
from hrpose.detection.factory import AnyDetector, OrFullImage, open_detector
from hrpose.metrics.boxes import BoxScores, evaluate_boxes

# The curve is drawn from boxes with at least this score.
FAINTEST = 0.001


@dataclass(frozen=True, slots=True)
class DetectorReport:
    """`scores` of a detector by its `name` on so many `images`.

    `threshold` is the one it runs with, at which it gives `boxes_per_image`.
    """

    name: str
    images: int
    scores: BoxScores
    threshold: float
    boxes_per_image: float


def evaluate_detector(
    detector: AnyDetector,
    annotations: Path,
    images: str,
    *,
    box_threshold: float | None = None,
    min_height: float = 96.0,
    min_iou: float = 0.5,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DetectorReport:
    """Compare a detector's boxes with those of a COCO file.

    `box_threshold` in [0, 1] replaces the detector's own. Persons and boxes lower than `min_height`
    pixels count neither way; a box fits its person from an IoU of `min_iou` on. Raises UserError
    where the files or the detector cannot be read.
    """
    table = read_annotations(annotations).boxes()
    source = ImageFiles(images)
    usual = open_detector(detector, box_threshold)
    if isinstance(usual, OrFullImage):
        # The full image is no detection.
        detector, usual = "builtin", usual.detector
    threshold = float(getattr(usual, "threshold", 0.0))
    every = open_detector(detector, min(FAINTEST, threshold))
    found = []
    for done, name in enumerate(table.file_names, start=1):
        found.append(every(source.read(name)))
        progress(done, len(table))
    scores = evaluate_boxes(
        table.boxes,
        [boxes.xywh for boxes in found],
        [boxes.scores for boxes in found],
        min_height,
        min_iou,
    )
    count = sum(int((boxes.scores >= threshold).sum()) for boxes in found)
    return DetectorReport(usual.name, len(table), scores, threshold, count / max(len(found), 1))
