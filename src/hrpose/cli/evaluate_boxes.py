"""`hrpose evaluate-boxes`."""

from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli.options import BoxThreshold, Detector, Images

# So faint boxes are looked at to draw the curve; below are no people.
FAINTEST = 0.001


def evaluate_boxes(
    annotations: Annotated[Path, typer.Option(help="COCO JSON with boxes of people.")],
    images: Images,
    detector: Detector = "finder",
    box_threshold: BoxThreshold = None,
    min_height: Annotated[
        float, typer.Option(help="Lower people, in pixels, count neither way.", min=0)
    ] = 96.0,
    min_iou: Annotated[
        float, typer.Option(help="How well a box must fit its person.", min=0.01, max=1)
    ] = 0.5,
) -> None:
    """Recall and precision of a detector of people, at its threshold and along the curve.

    People that the annotations leave out, as COCO keypoints files do with those too small to
    label, count as false boxes: precision reads low there.
    """
    from hrpose.data.boxes import load_boxes
    from hrpose.data.pictures import PictureSource
    from hrpose.detection import open_detector
    from hrpose.detection.simple import OrWholePicture
    from hrpose.metrics import boxes as metric

    table = load_boxes(annotations)
    pictures = PictureSource(images)
    usual = open_detector(detector, box_threshold)
    if isinstance(usual, OrWholePicture):
        # Its last resort is no box that somebody found.
        detector, usual = "finder", usual.detector
    threshold = float(getattr(usual, "threshold", 0.0))
    every = open_detector(detector, min(FAINTEST, threshold))
    found = [every(pictures.read(name)) for name in table.file_names]
    scores = metric.evaluate_boxes(
        table.boxes,
        [boxes.xywh for boxes in found],
        [boxes.scores for boxes in found],
        min_height,
        min_iou,
    )
    recall, precision = scores.at(threshold)
    best = scores.best_threshold
    best_recall, best_precision = scores.at(best)
    count = sum(int((boxes.scores >= threshold).sum()) for boxes in found) / max(len(found), 1)
    typer.echo(
        f"{usual.name} on {len(table)} pictures with {scores.people} people at least "
        f"{min_height:g} px high, IoU {min_iou:g}\n"
        f"threshold {threshold:.2f}: recall {recall:.3f}, precision {precision:.3f}, "
        f"{count:.1f} boxes a picture\n"
        f"threshold {best:.2f}: recall {best_recall:.3f}, precision {best_precision:.3f} "
        f"(the best balance)\n"
        f"AP {scores.AP:.3f}"
    )
