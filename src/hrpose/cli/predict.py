"""`hrpose predict`: poses in images, clips and cameras."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from hrpose.cli import chosen, conflict, describe, given
from hrpose.cli.console import (
    conclude,
    counted,
    finish,
    is_verbose,
    notes,
    progress,
    report,
    say,
    stop_signal,
    table,
    warn,
)
from hrpose.cli.options import (
    KINDS,
    MARKS,
    THRESHOLD,
    BatchSize,
    BitDepth,
    Boxes,
    BoxThreshold,
    Color,
    ColorName,
    Covariance,
    DetectEvery,
    Detector,
    Device,
    FlipTest,
    Hands,
    Hide,
    Mark,
    MaxGap,
    MinScore,
    Offline,
    Out,
    Overwrite,
    Person,
    Precision,
    Reconnect,
    Recrop,
    Recursive,
    Refine,
    Save,
    Show,
    SideBySide,
    Smooth,
    Threshold,
    Weights,
    Yes,
)
from hrpose.errors import UserError, missing

if TYPE_CHECKING:
    from hrpose.estimator import PoseEstimator
    from hrpose.predict.inputs import ClipInput, Failure, Inputs, Prediction
    from hrpose.predict.results import Saving
    from hrpose.viz import Hider

# More inputs are summed up: without a table of images, and with their errors by kind.
_MOST_SHOWN = 5


@describe(
    "hrpose predict photo.jpg clip.mp4 folder/ --out out",
    "hrpose predict camera:0 --show",
    "hrpose predict folder/ --save csv,dataset --json",
    images="number of images that were predicted",
    images_without_persons="of these, how many show nobody",
    persons="number of persons in images",
    clips="an object for each clip: `source`, `frames`, `persons`, `frames_per_second`, `files`",
    failed="number of inputs that could not be predicted; `errors` has the reasons",
    skipped="how many files of each kind were skipped in folders",
    files="the files written for images: results first, then drawn images",
    detector="the name of the person detector; null where boxes were given",
    engine="what ran the pose model",
)
def predict(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders, clips, cameras (0 or camera:0), streams (rtsp://..., "
            "http://...) and addresses of images (https://..., s3://...), in any mix."
        ),
    ],
    recursive: Recursive = False,
    bit_depth: BitDepth = None,
    weights: Weights = "w32-small",
    yes: Yes = False,
    flip_test: FlipTest = False,
    refine: Refine = False,
    hands: Hands = None,
    batch_size: BatchSize = 16,
    device: Device = "auto",
    precision: Precision = "auto",
    detector: Detector = "auto",
    box_threshold: BoxThreshold = None,
    min_score: MinScore = None,
    boxes: Boxes = None,
    out: Out = Path("out"),
    save: Save = "images,coco",
    overwrite: Overwrite = False,
    threshold: Threshold = THRESHOLD,
    covariance: Covariance = False,
    mark: Mark = "",
    color: Color = ColorName.side,
    hide: Hide = None,
    side_by_side: SideBySide = None,
    detect_every: DetectEvery = 0.5,
    smooth: Smooth = True,
    show: Show = False,
    offline: Offline = False,
    person: Person = None,
    reconnect: Reconnect = 60,
    max_gap: MaxGap = 0.5,
    recrop: Recrop = True,
) -> None:
    """Estimate the poses of all persons in images and clips; save and draw them.

    The poses in images are written to DIR/poses.json, those in a clip to DIR/CLIP.json, with a
    track_id for each person. The records DIR/poses.jsonl and DIR/CLIP.jsonl have a line for each
    image or frame, also for those that failed, as the work goes. Ctrl-C saves the results so far.
    """
    from hrpose.api import load
    from hrpose.engines import for_images
    from hrpose.predict.inputs import find_inputs
    from hrpose.predict.results import Saving
    from hrpose.viz.hiding import check_hiding

    kinds, marks = chosen("--save", save, KINDS), chosen("--mark", mark, MARKS)
    if boxes is not None and (given(context, "detector") or given(context, "box_threshold")):
        raise conflict("--boxes: replaces the detector; leave out --detector and --box-threshold")
    inputs = find_inputs(sources, recursive=recursive, results=out)
    if inputs.skipped:
        warn(f"skipped: {inputs.skipped_line}")
    _check_options(context, inputs, drawn="images" in kinds or show, save=save, offline=offline)
    saving = Saving(out, kinds, threshold, marks, overwrite, color.value, hide)
    read = [] if boxes is None else [boxes]
    saving.check(inputs, others=read)
    download_missing(yes, weights, detector if boxes is None else None, side_by_side, hands)
    if not inputs.clips:
        device, precision = for_images(device, precision, len(inputs.images))
    how: dict[str, Any] = {
        "min_score": min_score,
        "flip_test": flip_test,
        "refine": refine,
        "hands": hands,
        "batch_size": batch_size,
        "device": device,
        "precision": precision,
    }
    if inputs.clips:  # imported while the networks are opened; what is missing is said later
        ThreadPoolExecutor(1).submit(import_module, "hrpose.video")
    found_by = "full-image" if boxes is not None else detector
    how["covariance"] = covariance or bool(marks & {"ellipses", "present"})
    estimator = load(
        weights, detector=found_by, box_threshold=box_threshold, bit_depth=bit_depth, **how
    )
    estimator.exact = True  # poses are drawn on the full image, which is decoded anyway
    if hide is not None:
        check_hiding(hide, estimator.skeleton)
    beside = load(side_by_side, detector="full-image", **how) if side_by_side else None
    whole_clip = OfflineOptions(person, max_gap, recrop) if offline else None
    conclude(
        images=0,
        images_without_persons=0,
        persons=0,
        files=[],
        clips=[],
        skipped=inputs.skipped,
        detector=estimator.detector.name if boxes is None else None,
        engine=estimator.engine,
    )
    done, failures, clips = 0, list(inputs.problems), []
    with notes("hrpose"), stop_signal() as signal, saving.locked(inputs, others=read):
        if inputs.images:
            done, failed = _predict_images(inputs, estimator, beside, boxes, saving, signal)
            failures += failed
        for clip in inputs.clips:
            if signal() is not None:
                break
            try:
                clips.append(found := {"source": str(clip)})
                closed = _predict_clip(
                    clip,
                    estimator,
                    saving,
                    detect_every,
                    smooth,
                    show,
                    reconnect,
                    whole_clip,
                    signal,
                    found,
                )
            except UserError as error:
                failures.append(error)
                done += error.code == "stream-lost"  # what came before is saved
            else:
                done += 1
                if closed:
                    break
        number = signal()
    conclude(clips=clips, failed=len(failures))
    _report(failures)
    finish(done, len(failures), number)


def _report(failures: list[UserError]) -> None:
    """Print the first errors, and how many more there are of each kind."""
    shown = len(failures) if is_verbose() else _MOST_SHOWN
    for failure in failures[:shown]:
        report(failure)
    if more := Counter(failure.code for failure in failures[shown:]):
        kinds = ", ".join(f"{count:,} {code}" for code, count in more.most_common())
        warn(f"{counted(more.total(), 'more input')} failed: {kinds}; --verbose lists all")


def download_missing(yes: bool, *names: str | None) -> None:
    """Download released weights among `names` that are not here, after asking or with `--yes`."""
    from hrpose.weights.registry import not_here

    for row in filter(None, map(not_here, names)):
        from hrpose.cli.weights import provide

        provide(row, yes)


class OfflineOptions(NamedTuple):
    """The options of the offline pass, as `hrpose.video.follow_offline` has them."""

    person: str | None
    max_gap: float
    recrop: bool


def _check_options(
    context: typer.Context, inputs: "Inputs", *, drawn: bool, save: str, offline: bool
) -> None:
    """Raise UserError for options that would have no effect with these inputs."""

    def first_given(options: Iterable[str]) -> str | None:
        return next((f"--{o}" for o in options if given(context, o.replace("-", "_"))), None)

    if inputs.clips and (option := first_given(("boxes", "side-by-side"))):
        raise conflict(
            f"{option}: is for images, found the clip {inputs.clips[0]}; leave one of them out"
        )
    options = ("detect-every", "smooth", "show", "offline", "reconnect")
    if not inputs.clips and (option := first_given(options)):
        option = "--no-smooth" if option == "--smooth" else option
        raise conflict(f"{option}: is for clips and cameras, found none; leave it out")
    if not offline and (option := first_given(("person", "max-gap", "recrop"))):
        option = "--no-recrop" if option == "--recrop" else option
        raise conflict(f"{option}: needs --offline; add it")
    if offline:
        if given(context, "smooth"):
            raise conflict("--offline: has its own smoothing; leave --smooth or --no-smooth out")
        for clip in inputs.clips:
            if clip.file is None:
                raise conflict(f"{clip}: --offline needs a clip that ends; record it first")
    if given(context, "hide") and "dataset" in chosen("--save", save, KINDS):
        raise conflict(
            "--hide: is for what is drawn, and a dataset has the images as they are; leave one of "
            "them out"
        )
    if given(context, "hide") and given(context, "person"):
        raise conflict("--person: would leave all others visible; leave it or --hide out")
    if not drawn and (option := first_given(("side-by-side", "mark", "color", "hide"))):
        raise conflict(f"{option}: needs images in --save, found '{save}'; add images")


def _predict_images(
    inputs: "Inputs",
    estimator: "PoseEstimator",
    beside: "PoseEstimator | None",
    boxes: Path | None,
    saving: "Saving",
    signal: Callable[[], int | None],
) -> tuple[int, list[UserError]]:
    """Returns the number of images that were predicted, and an error for each that failed."""
    from hrpose.estimator import FullImage
    from hrpose.predict.inputs import boxes_by_image, predict_images
    from hrpose.predict.results import ImageResults

    images = inputs.images
    in_boxes, unmatched = (None, 0) if boxes is None else boxes_by_image(boxes, images)
    if unmatched:
        warn(f"{boxes}: {unmatched:,} of its entries match none of these images")
    origin = str(boxes) if boxes is not None else f"detector: {estimator.detector.name}"
    rows: list[tuple[Any, ...]] = []
    with (
        ImageResults(
            saving, images, estimator, origin.removeprefix("detector: "), beside
        ) as results,
        progress("images") as show,
    ):
        predictions = predict_images(estimator, images, in_boxes)
        for done, prediction in enumerate(predictions, start=1):
            results.add(prediction)
            show(done, len(images), prediction.source.name)
            if len(images) <= _MOST_SHOWN or is_verbose():
                rows.append(_row(prediction))
            if signal() is not None:
                break
    table(rows, "image", "persons", "scores")
    empty = f" ({results.empty} without persons)" if results.empty else ""
    drawn = results.drawn
    files = [*results.files, *drawn] if len(drawn) < 2 else results.files
    written = [*map(str, files), *([f"{len(drawn):,} drawn images"] if len(drawn) > 1 else [])]
    say(
        f"{counted(results.images, 'image')}{empty}, {counted(results.persons, 'person')} "
        f"({origin}) -> {', '.join(written) or 'nothing'} "
        f"({estimator.engine})"
    )
    conclude(
        images=results.images,
        images_without_persons=results.empty,
        persons=results.persons,
        files=[*results.files, *drawn],
    )
    if results.empty and boxes is None:
        hint = (
            "poses below --min-score are left out"
            if isinstance(estimator.detector, FullImage)
            else "where images are cropped to one person, --detector full-image takes each as that "
            "person's box"
        )
        warn(f"no person found in {counted(results.empty, 'image')}; {hint}")
    if results.hider is not None:
        _say_hidden(results.hider, "image")
    return results.images, results.failures


def _row(prediction: "Prediction | Failure") -> tuple[Any, ...]:
    """The row of an image: how many persons, and the scores of their poses."""
    from hrpose.predict.inputs import Failure

    name = prediction.source.name
    if isinstance(prediction, Failure):
        return name, "-", prediction.error.code
    scores = sorted(prediction.poses.scores.tolist(), reverse=True)
    return name, len(scores), " ".join(f"{score:.2f}" for score in scores)


def _predict_clip(
    source: "ClipInput",
    estimator: "PoseEstimator",
    saving: "Saving",
    detect_every: float,
    smooth: bool,
    show: bool,
    reconnect: float,
    offline: OfflineOptions | None,
    signal: Callable[[], int | None],
    found: dict[str, Any],
) -> bool:
    """Whether the user closed the window; `found` gets the facts of the clip."""
    try:
        from hrpose.video import Clip, follow, follow_offline
        from hrpose.video.writing import Window
    except ModuleNotFoundError as error:
        raise missing(str(source), error, "hrpose[video]") from error
    from hrpose.predict.results import ClipResults

    closed, lost, start = False, None, time.perf_counter()
    with (
        Clip.open(source.source, reconnect=reconnect, stopped=lambda: signal() is not None) as clip,
        ExitStack() as stack,
    ):
        window = stack.enter_context(Window(clip.name)) if show else None
        results = stack.enter_context(
            ClipResults(saving, source, clip, estimator, estimator.detector.name)
        )
        bar = stack.enter_context(progress("frames", str(source)))

        def running(what: str, done: int) -> bool:
            bar(done, clip.frame_count, f"{source}: {what}")
            return signal() is None

        if offline is None:
            followed = follow(estimator, clip, detect_every=detect_every, smooth=smooth)
        else:
            followed = follow_offline(
                estimator,
                clip,
                detect_every=detect_every,
                progress=running,
                found=results.found,
                **offline._asdict(),
            )
        try:
            for frame, poses in followed:
                drawn = None if window is None else results.draw(frame, poses)
                results.add(frame, poses, drawn)
                bar(results.frames, clip.frame_count)
                closed = window is not None and drawn is not None and not window.show(drawn)
                if closed or signal() is not None:
                    break
            else:
                if signal() is None:  # also a silent stream ends by a signal
                    results.end()
        except UserError as error:
            if error.code != "stream-lost" or not results.frames:
                raise
            lost = error  # what came before is saved
    speed = results.frames / (time.perf_counter() - start)
    found |= {
        "frames": results.frames,
        "persons": len(results.track_ids),
        "frames_per_second": round(speed, 2),
        "files": results.files,
    }
    say(
        f"{source}: {counted(results.frames, 'frame')} at {speed:.1f} frames/s, "
        f"{counted(len(results.track_ids), 'person')} (detector: {estimator.detector.name}) -> "
        f"{', '.join(map(str, results.files)) or 'nothing'} ({estimator.engine})"
    )
    if results.stopped_early:
        warn(f"{source}: stopped before the offline pass was done; these are the poses as found")
    for note in results.notes():
        warn(note)
    if results.hider is not None:
        _say_hidden(results.hider, "frame", f"{source}: ")
    if lost is not None:
        raise lost
    return closed


def _say_hidden(hider: "Hider", noun: str, where: str = "") -> None:
    """One line with the number of images in which something was hidden."""
    warn(
        f"{where}--hide {hider.what}: hidden in {hider.images - hider.without:,} of "
        f"{counted(hider.images, noun)}; persons who were not found are visible, so look at the "
        "result before you share it"
    )
