"""`hrpose predict`: the options, and who does the work."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli.options import (
    KINDS,
    MARKS,
    THRESHOLD,
    BatchSize,
    BoxThreshold,
    Detector,
    FlipTest,
    Mark,
    Refine,
    Save,
    Threshold,
    Weights,
    chosen,
)
from hrpose.errors import UserError

SAVED = "pictures,coco"
EVERY = 5
CLIPS = "Clips and cameras"


def predict(
    pictures: Annotated[
        list[str],
        typer.Argument(help="Photos, folders of photos, or one clip or camera:0."),
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
    threshold: Threshold = THRESHOLD,
    save: Save = SAVED,
    mark: Mark = "",
    side_by_side: Annotated[
        str | None, typer.Option(help="Other weights, whose poses are drawn beside the first.")
    ] = None,
    every: Annotated[
        int,
        typer.Option(min=1, help="Look for people on every n-th frame.", rich_help_panel=CLIPS),
    ] = EVERY,
    smooth: Annotated[
        bool, typer.Option(help="Steady the keypoints over time.", rich_help_panel=CLIPS)
    ] = True,
    show: Annotated[
        bool, typer.Option(help="Show it in a window meanwhile.", rich_help_panel=CLIPS)
    ] = False,
) -> None:
    """Find the keypoints of the people in photos, clips and cameras; draws them and saves them."""
    from hrpose.api import load
    from hrpose.cli.outputs import Outputs
    from hrpose.cli.predict_pictures import predict_pictures
    from hrpose.cli.predict_video import is_clip, predict_clip
    from hrpose.detection.simple import WholePicture

    given = {
        "--boxes": boxes is not None,
        "--save": save != SAVED,
        "--mark": mark != "",
        "--side-by-side": side_by_side is not None,
        "--every": every != EVERY,
        "--no-smooth": not smooth,
        "--show": show,
    }
    kinds, marks = chosen("--save", save, KINDS), chosen("--mark", mark, MARKS)
    if boxes is not None and (detector != "auto" or box_threshold is not None):
        raise UserError(
            "--boxes: given boxes need no --detector and no --box-threshold; leave them out"
        )
    files = [Path(picture) for picture in pictures]
    clips = [path for path in files if is_clip(path)]
    if clips and (len(files) > 1 or boxes or side_by_side):
        raise UserError(
            f"{clips[0]}: expected one clip alone, without --boxes and --side-by-side; predict it "
            "by itself"
        )
    for option in ("--every", "--no-smooth", "--show"):
        if given[option] and not clips:
            raise UserError(f"{option}: goes with a clip or camera, found photos; leave it out")
    for option in ("--side-by-side", "--mark"):
        if given[option] and "pictures" not in kinds and not show:
            raise UserError(f"{option}: expected pictures in --save, found '{save}'; add pictures")
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
        other = load(
            side_by_side,
            detector="whole",
            flip_test=flip_test,
            refine=refine,
            batch_size=batch_size,
        )
    predict_pictures(files, estimator, boxes, out, threshold, kinds, marks, other)
