"""`hrpose predict`: the options, and who does the work."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli.options import (
    KINDS,
    MARKS,
    BatchSize,
    BoxThreshold,
    Detector,
    FlipTest,
    Mark,
    Refine,
    Save,
    Threshold,
    Weights,
)
from hrpose.errors import UserError

SAVED = "pictures,coco"
CLIPS = "Clips and cameras"


def predict(
    pictures: Annotated[
        list[Path], typer.Argument(help="Photos, folders of photos, or one clip or camera:0.")
    ],
    weights: Weights = "w16-small",
    detector: Detector = "auto",
    box_threshold: BoxThreshold = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="People's boxes instead of a detector. COCO JSON: detections (file_name or "
            "image_id, bbox, score) or annotations."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path("out"),
    flip_test: FlipTest = False,
    refine: Refine = False,
    batch_size: BatchSize = 16,
    threshold: Threshold = 0.3,
    save: Save = SAVED,
    mark: Mark = "",
    side_by_side: Annotated[
        str | None, typer.Option(help="Other weights, whose poses are drawn beside the first.")
    ] = None,
    every: Annotated[
        int,
        typer.Option(min=1, help="Look for people on every n-th frame.", rich_help_panel=CLIPS),
    ] = 5,
    smooth: Annotated[
        bool, typer.Option(help="Steady the keypoints over time.", rich_help_panel=CLIPS)
    ] = True,
    show: Annotated[
        bool, typer.Option(help="Show it in a window meanwhile.", rich_help_panel=CLIPS)
    ] = False,
) -> None:
    """Find the keypoints of the people in photos, clips and cameras; draws them and saves them."""
    from hrpose.api import load
    from hrpose.cli.outputs import Outputs, chosen
    from hrpose.cli.predict_pictures import predict_pictures
    from hrpose.cli.predict_video import is_clip, predict_clip
    from hrpose.detection.simple import WholePicture

    kinds, marks = chosen("--save", save, KINDS), chosen("--mark", mark, MARKS)
    if boxes is not None and (detector != "auto" or box_threshold is not None):
        raise UserError(
            "--boxes: given boxes need no --detector and no --box-threshold; leave them out"
        )
    clips = [path for path in pictures if is_clip(path)]
    if clips and (len(pictures) > 1 or boxes or side_by_side):
        raise UserError(
            f"{clips[0]}: expected one clip alone, without --boxes and --side-by-side; predict it "
            "by itself"
        )
    estimator = load(
        weights,
        detector="whole" if boxes is not None else detector,
        box_threshold=box_threshold,
        flip_test=flip_test,
        refine=refine,
        exact=True,  # poses are drawn on the whole picture, so there is nothing to save
        batch_size=batch_size,
    )
    whole = isinstance(estimator.detector, WholePicture)
    if whole and boxes is None and detector == "auto":
        print(
            "hrpose: no finder of people is here, so the whole picture is one person's box; "
            "give --boxes or --detector",
            file=sys.stderr,
        )
    if clips:
        results = Outputs(out, kinds, estimator.passport.skeleton, threshold)
        predict_clip(
            clips[0], estimator, results, marks=marks, every=every, smooth=smooth, show=show
        )
        return
    other = None
    if side_by_side is not None:
        # It looks into the boxes of the first.
        other = load(side_by_side, detector="whole", flip_test=flip_test, refine=refine)
    predict_pictures(pictures, estimator, boxes, out, threshold, kinds, marks, other)
