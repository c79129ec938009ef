"""`hrpose predict`: poses in images, folders, clips, cameras and addresses."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose.cli.console import STOPPED, asked_to_stop, chosen, counted, given, progress, report
from hrpose.cli.options import (
    CLIPS,
    KINDS,
    MARKS,
    PERSONS,
    RESULTS,
    THRESHOLD,
    BatchSize,
    BoxThreshold,
    Detector,
    FlipTest,
    Mark,
    Out,
    Refine,
    Save,
    Threshold,
    Weights,
)
from hrpose.errors import UserError, missing

if TYPE_CHECKING:
    from hrpose.estimator import PoseEstimator
    from hrpose.predict.inputs import ClipInput, ImageInput
    from hrpose.predict.results import Saving

# Shorter work needs no progress bar.
_FEW_IMAGES = 10


def predict(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders, clips, cameras (camera:0) and addresses (https://..., "
            "s3://...), in any mix."
        ),
    ],
    weights: Weights = "w16-small",
    flip_test: FlipTest = False,
    refine: Refine = False,
    batch_size: BatchSize = 16,
    detector: Detector = "auto",
    box_threshold: BoxThreshold = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="Boxes of persons instead of a detector, for images. COCO JSON: detections "
            "(file_name or image_id, bbox, score) or annotations.",
            rich_help_panel=PERSONS,
        ),
    ] = None,
    out: Out = Path("out"),
    save: Save = "images,coco",
    threshold: Threshold = THRESHOLD,
    mark: Mark = "",
    side_by_side: Annotated[
        str | None,
        typer.Option(
            help="Other weights, whose poses are drawn beside those of --weights, for images.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    every: Annotated[
        int,
        typer.Option(min=1, help="Detect persons in every n-th frame.", rich_help_panel=CLIPS),
    ] = 5,
    smooth: Annotated[
        bool, typer.Option(help="Smooth the keypoints over time.", rich_help_panel=CLIPS)
    ] = True,
    show: Annotated[
        bool, typer.Option(help="Show the drawn frames in a window.", rich_help_panel=CLIPS)
    ] = False,
) -> None:
    """Estimate the poses of all persons in images and clips; save them and draw them.

    The poses in images go to DIR/poses.json, those in a clip to DIR/CLIP.json, with a track_id for
    each person. Ctrl-C saves what was done until then.
    """
    from hrpose.api import load
    from hrpose.estimator import FullImage
    from hrpose.predict.inputs import find_inputs
    from hrpose.predict.results import Saving

    kinds, marks = chosen("--save", save, KINDS), chosen("--mark", mark, MARKS)
    if boxes is not None and (given(context, "detector") or given(context, "box_threshold")):
        raise UserError(
            "--boxes: given boxes need no --detector and no --box-threshold; leave them out",
            code="option-conflict",
        )
    found = find_inputs(sources)
    for_images = {"--boxes": boxes is not None, "--side-by-side": side_by_side is not None}
    for option, was_given in for_images.items():
        if was_given and found.clips:
            raise UserError(
                f"{option}: goes with images, found the clip {found.clips[0]}; leave one of them "
                "out",
                code="option-conflict",
            )
    for name, option in (("every", "--every"), ("smooth", "--no-smooth"), ("show", "--show")):
        if given(context, name) and not found.clips:
            raise UserError(
                f"{option}: goes with a clip or camera, found none; leave it out",
                code="option-conflict",
            )
    for name, option in (("side_by_side", "--side-by-side"), ("mark", "--mark")):
        if given(context, name) and "images" not in kinds and not show:
            raise UserError(
                f"{option}: expected images in --save, found '{save}'; add images",
                code="option-conflict",
            )
    saving = Saving(out, kinds, threshold, marks)
    if boxes is not None and boxes.resolve() == (out / "poses.json").resolve():
        raise UserError(
            f"{boxes}: would be written over; choose another --out", code="overwrite-refused"
        )
    estimator = load(
        weights,
        detector="none" if boxes is not None else detector,
        box_threshold=box_threshold,
        flip_test=flip_test,
        refine=refine,
        exact=True,  # poses are drawn on the full image, so there is nothing to save
        batch_size=batch_size,
    )
    if isinstance(estimator.detector, FullImage) and boxes is None and detector == "auto":
        print(
            "hrpose: no person detector is installed, so the full image is the box of one "
            "person; give --boxes or --detector",
            file=sys.stderr,
        )
    beside = None
    if side_by_side is not None:
        # In the boxes of the first.
        beside = load(
            side_by_side,
            detector="none",
            flip_test=flip_test,
            refine=refine,
            batch_size=batch_size,
        )
    failures = list(found.problems)
    with asked_to_stop() as asked:
        if found.images:
            failures += _predict_images(
                found.images, estimator, beside, boxes, box_threshold, saving, asked
            )
        for clip in found.clips:
            if asked() is not None:
                break
            try:
                go_on = _predict_clip(clip, estimator, saving, every, smooth, show, asked)
            except UserError as error:
                failures.append(error)
            else:
                if not go_on:
                    break
        number = asked()
    for failure in failures:
        report(failure)
    if number is not None:
        raise typer.Exit(STOPPED + number)
    if failures:
        raise typer.Exit(2)


def _predict_images(
    images: "tuple[ImageInput, ...]",
    estimator: "PoseEstimator",
    beside: "PoseEstimator | None",
    boxes: Path | None,
    box_threshold: float | None,
    saving: "Saving",
    asked: Callable[[], int | None],
) -> list[UserError]:
    """Returns an error for each image that could not be done."""
    from hrpose.detection.factory import OrFullImage
    from hrpose.predict.images import Failure, predict_images
    from hrpose.predict.inputs import boxes_by_image
    from hrpose.predict.results import ImageResults

    in_boxes = None if boxes is None else boxes_by_image(boxes, images)
    failures = []
    with ImageResults(saving, images, estimator, beside) as results, ExitStack() as stack:
        show = stack.enter_context(progress("images")) if len(images) > _FEW_IMAGES else None
        for done, found in enumerate(predict_images(estimator, images, in_boxes), start=1):
            if isinstance(found, Failure):
                failures.append(found.error)
            else:
                results.add(found)
            if show is not None:
                show(done, len(images))
            if asked() is not None:
                break
    name, alone = estimator.detector.name, ""
    if isinstance(estimator.detector, OrFullImage):
        name = estimator.detector.detector.name
        if results.full_images:
            alone = f"; {counted(results.full_images, 'full image')} as the box of one person"
            if box_threshold is not None:
                note = (
                    f"--box-threshold {box_threshold:g}: the detector found no person in "
                    f"{counted(results.full_images, 'image')}, where the full image is the box "
                    "and the threshold has no effect; --detector NAME leaves them without persons"
                )
                print(f"hrpose: {note}", file=sys.stderr)
    detector = boxes if boxes is not None else f"detector: {name}{alone}"
    empty = f" ({results.empty} without persons)" if results.empty else ""
    written = [*map(str, results.files), *["drawn images"] * ("images" in saving.kinds)]
    typer.echo(
        f"{counted(results.images, 'image')}{empty}, {counted(results.persons, 'person')} "
        f"({detector}) -> {', '.join(written) if results.images and written else 'nothing'}"
    )
    return failures + results.failures


def _predict_clip(
    source: "ClipInput",
    estimator: "PoseEstimator",
    saving: "Saving",
    every: int,
    smooth: bool,
    show: bool,
    asked: Callable[[], int | None],
) -> bool:
    """Whether to go on with the next one: not where the user closed the window."""
    try:
        from hrpose.video import Clip, follow
        from hrpose.video.writing import Window
    except ModuleNotFoundError as error:
        raise missing(str(source), error, "hrpose[video]") from error
    from hrpose.predict.results import ClipResults

    saving.check()
    closed, start = False, time.perf_counter()
    with Clip.open(source.place) as clip, ExitStack() as stack:
        window = stack.enter_context(Window(clip.name)) if show else None
        results = stack.enter_context(
            ClipResults(saving, source, clip, estimator.metadata.skeleton)
        )
        bar = stack.enter_context(progress(str(source), "frames"))
        for frame, poses in follow(estimator, clip, every=every, smooth=smooth):
            drawn = None if window is None else results.draw(frame, poses)
            results.add(frame, poses, drawn)
            bar(results.frames, clip.frame_count)
            closed = window is not None and drawn is not None and not window.show(drawn)
            if closed or asked() is not None:
                break
        else:
            results.end()
    speed = results.frames / (time.perf_counter() - start)
    typer.echo(
        f"{source}: {counted(results.frames, 'frame')} at {speed:.1f} frames/s, "
        f"{counted(len(results.track_ids), 'person')} (detector: {estimator.detector.name}) -> "
        f"{', '.join(map(str, results.files)) or 'nothing'}"
    )
    for note in results.notes():
        print(f"hrpose: {note}", file=sys.stderr)
    return not closed
