"""`hrpose evaluate`, `evaluate-detector`, `analyze` and `verify`: the quality of weights."""

import json
import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hrpose.cli.console import conflict, given, persons_in, plain_console, progress, warn
from hrpose.cli.options import (
    MODEL,
    RESULTS,
    BatchSize,
    BatchSizeOfWeights,
    BoxThreshold,
    Category,
    Detector,
    Device,
    FlipTest,
    FlipTestOfWeights,
    Images,
    ImagesIfAny,
    MergeCategories,
    PrecisionOfMeasurement,
    Refine,
    Weights,
)
from hrpose.errors import UserError

if TYPE_CHECKING:
    from hrpose.evaluation.parity.comparisons import Certificate, Check

# As in `hrpose.evaluation.predictions`, which cannot be imported without the train extra.
GROUND_TRUTH, DETECTOR = "ground-truth", "detector"
# The largest accepted difference of a measured score from the published one.
TOLERANCE = 0.001


MaxDetections = Annotated[
    int,
    typer.Option(min=1, help="Poses of an image that count in the AP, the best; COCO's are 20."),
]


class Nms(StrEnum):
    """How duplicates of a person's pose are suppressed."""

    hard = "hard"
    soft = "soft"


class Metric(StrEnum):
    """COCO's AP, MPII's PCKh, or PCK, NME and EPE; auto goes by the annotations."""

    auto = "auto"
    ap = "AP"
    pckh = "PCKh"
    pck = "PCK"
    nme = "NME"
    epe = "EPE"


def evaluate(
    annotations: Annotated[
        Path, typer.Option(help="COCO keypoints JSON, or a test set's image_info JSON.")
    ],
    images: Images,
    weights: Weights = "w16-small",
    boxes: Annotated[
        str, typer.Option(help="ground-truth, detector, or a COCO detections file.")
    ] = "ground-truth",
    detector: Detector = "auto",
    box_threshold: BoxThreshold = None,
    refine: Refine = False,
    nms: Annotated[
        Nms, typer.Option(help="OKS-NMS: drop duplicate poses (hard) or lower their scores (soft).")
    ] = Nms.hard,
    metric: Annotated[
        Metric,
        typer.Option(
            case_sensitive=False,
            help="auto: PCKh with head boxes, PCK without OKS sigmas, else AP.",
        ),
    ] = Metric.auto,
    max_detections: MaxDetections = 20,
    category: Category = None,
    merge_categories: MergeCategories = False,
    flip_test: FlipTest = True,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    precision: PrecisionOfMeasurement = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for metrics.json and the results.", metavar="DIR", rich_help_panel=RESULTS
        ),
    ] = None,
) -> None:
    """Measure weights on a data set: COCO's ten metrics, PCKh or PCK; or predict a test set."""
    from rich.table import Column, Table

    from hrpose import api
    from hrpose.metrics.pck import DISTANCES

    with progress("images") as show:
        report = api.evaluate(
            weights,
            annotations,
            images,
            boxes=boxes,
            detector=detector,
            box_threshold=box_threshold,
            nms=nms.value,
            metric=metric.value,
            max_detections=max_detections,
            category=category,
            merge_categories=merge_categories,
            flip_test=flip_test,
            refine=refine,
            batch_size=batch_size,
            device=device,
            precision=precision,
            out=out,
            progress=show,
            notify=warn,
        )
    flip = f"flip test: {'on' if flip_test else 'off'}{'; refined' if refine else ''}"
    title = (
        f"{weights} on {annotations.name}: {persons_in(report.persons, report.images)}\n"
        f"boxes: {report.boxes}; {flip}; {report.engine}"
    )
    if report.primary is None:
        typer.echo(f"{title}\nno metrics: the annotations have no labels")
    else:
        typer.echo(title)
        console = plain_console(110)
        # Distances are printed in a table of their own.
        for last in (False, True):
            part = {n: v for n, v in report.metrics.items() if (n in DISTANCES) is last}
            table = Table(*(Column(name, justify="right") for name in part))
            table.add_row(*("-" if math.isnan(v) else f"{v:.3f}" for v in part.values()))
            if part:
                console.print(table)
    if report.files:
        typer.echo(f"wrote {' and '.join(map(str, report.files))}")


def evaluate_detector(
    annotations: Annotated[Path, typer.Option(help="COCO JSON with boxes of persons.")],
    images: Images,
    detector: Detector = "builtin",
    box_threshold: BoxThreshold = None,
    min_height: Annotated[
        float, typer.Option(help="Ignore persons and boxes of a smaller height, in pixels.", min=0)
    ] = 96.0,
    min_iou: Annotated[
        float, typer.Option(help="The minimum IoU of a box and its person.", min=0.01, max=1)
    ] = 0.5,
) -> None:
    """Measure a person detector: recall, precision at its threshold, and AP.

    Persons without an annotation, such as those too small to label in COCO keypoints files, count
    as false positives, which lowers the precision.
    """
    from hrpose.evaluation.evaluate import evaluate_detector

    with progress("images") as show:
        report = evaluate_detector(
            detector,
            annotations,
            images,
            box_threshold=box_threshold,
            min_height=min_height,
            min_iou=min_iou,
            progress=show,
        )
    scores, best = report.scores, report.scores.best_threshold
    recall, precision = scores.at(report.threshold)
    best_recall, best_precision = scores.at(best)
    typer.echo(
        f"{report.name}: {persons_in(scores.persons, report.images)}, at least "
        f"{min_height:g} px high, IoU {min_iou:g}\n"
        f"threshold {report.threshold:.2f}: recall {recall:.3f}, precision {precision:.3f}, "
        f"{report.boxes_per_image:.1f} boxes per image\n"
        f"threshold {best:.2f}: recall {best_recall:.3f}, precision {best_precision:.3f} "
        f"(best balance)\n"
        f"AP {scores.AP:.3f}"
    )


def analyze(
    results: Annotated[
        Path, typer.Argument(help="COCO keypoint results, as `evaluate --out` writes them.")
    ],
    annotations: Annotated[Path, typer.Argument(help="COCO keypoints JSON.")],
    images: ImagesIfAny = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="The weights of the results: adds heatmaps and AP under box noise.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    skeleton: Annotated[
        Path | None, typer.Option(help="A YAML file that completes the annotations' skeleton.")
    ] = None,
    max_detections: MaxDetections = 20,
    category: Category = None,
    merge_categories: MergeCategories = False,
    flip_test: FlipTestOfWeights = True,
    batch_size: BatchSizeOfWeights = 64,
    out: Annotated[Path, typer.Option(help="HTML file to write.", rich_help_panel=RESULTS)] = Path(
        "analysis.html"
    ),
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="JSON file for the numbers.", rich_help_panel=RESULTS),
    ] = None,
    store_calibration: Annotated[
        Path | None,
        typer.Option(
            help="Write a copy of --weights whose keypoint scores are calibrated.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
) -> None:
    """Analyze results: an HTML report on errors, boxes, scores and single persons."""
    from hrpose.api import load
    from hrpose.data.coco import read_annotations
    from hrpose.evaluation.analyze import analyze, check_copy
    from hrpose.evaluation.analyze import store_calibration as store
    from hrpose.evaluation.report import render
    from hrpose.io import write_atomically
    from hrpose.weights import find

    if store_calibration is not None and weights is None:
        raise conflict("--store-calibration: needs the weights of the results; add --weights")
    estimator = None
    if weights is not None:
        if store_calibration is not None:
            check_copy(find(weights), store_calibration)
        estimator = load(
            weights,
            detector="full-image",
            flip_test=flip_test,
            batch_size=batch_size,
            precision="fp32",
        )
    with progress("") as show:
        analysis = analyze(
            results,
            read_annotations(annotations, category=category, merge_categories=merge_categories),
            images,
            estimator,
            skeleton=skeleton,
            max_detections=max_detections,
            progress=lambda what, done, total: show(done, total, what),
            notify=warn,
        )
    scores = analysis.calibration
    if store_calibration is not None and isinstance(scores, str):
        raise conflict(f"--store-calibration: {scores}")
    write_atomically(out, render(analysis))
    written = [out]
    if json_file is not None:
        text = json.dumps(analysis.as_dict(), indent=2, allow_nan=False)
        write_atomically(json_file, f"{text}\n")
        written.append(json_file)
    if store_calibration is not None and weights is not None and not isinstance(scores, str):
        store(find(weights), scores.calibration, store_calibration)
        written.append(store_calibration)
    gains = sorted(analysis.gains, key=lambda gain: -gain.scores.AP)
    most = ", ".join(f"{g.error} {g.scores.AP - analysis.scores.AP:+.3f}" for g in gains[:3])
    typer.echo(f"AP {analysis.scores.AP:.3f}; largest gains if fixed: {most}")
    typer.echo(f"wrote {', '.join(map(str, written))} (open the page in a browser)")


def verify(
    context: typer.Context,
    golden: Annotated[
        Path | None, typer.Option(help="Golden vectors; by default those in the package.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the certificate.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Weights to check too: a name or a file.", rich_help_panel=MODEL),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="The original of exported --weights, to compare with.", rich_help_panel=MODEL
        ),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(help="A data set for --weights: COCO keypoints JSON.", rich_help_panel=MODEL),
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Images of --annotations.", rich_help_panel=MODEL)
    ] = None,
    boxes: Annotated[
        str, typer.Option(help="ground-truth, or a COCO detections file.", rich_help_panel=MODEL)
    ] = GROUND_TRUTH,
    published: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="The published AP (or PCKh) of --weights.", rich_help_panel=MODEL
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="The largest accepted difference from it.", rich_help_panel=MODEL
        ),
    ] = TOLERANCE,
    flip_test: FlipTestOfWeights = True,
) -> None:
    """Compare this installation with numbers of the official code; exit code 1 if they differ.

    With --weights, also a model with its published score, or an exported model with its original.
    """
    from rich.console import Console

    from hrpose.evaluation.parity.comparisons import Certificate, verify
    from hrpose.evaluation.parity.golden import Golden
    from hrpose.io import write_atomically

    about_data = ("boxes", "tolerance")
    for name in ("against", "annotations", "images", "published", "flip_test", *about_data):
        if given(context, name) and weights is None:
            raise conflict(f"--{name.replace('_', '-')}: needs weights; add --weights")
    if (annotations is None) != (images is None):
        raise conflict("--annotations and --images go together; found only one of them")
    for name in about_data:
        if given(context, name) and annotations is None:
            raise conflict(f"--{name}: needs a data set; add --annotations and --images")
    if boxes == DETECTOR:
        raise UserError(
            f"--boxes: expected {GROUND_TRUTH} or a COCO detections file, found {boxes}; "
            "give a file",
            code="option-invalid",
        )
    vectors = Golden.open(golden)
    with Console(stderr=True).status("comparing with the golden vectors"):
        certificate = verify(vectors)
    if weights is not None:
        data = None if annotations is None or images is None else (annotations, images, boxes)
        more = _model(weights, against, data, published, tolerance, flip_test)
        certificate = Certificate((*certificate.checks, *more), certificate.not_run)
    _show(certificate, vectors.is_part)
    if out is not None:
        write_atomically(out, certificate.to_json() + "\n")
        typer.echo(f"wrote {out}")
    if not certificate.equal:
        raise typer.Exit(1)


def _model(
    weights: str,
    against: str | None,
    data: tuple[Path, str, str] | None,
    published: float | None,
    tolerance: float,
    flip_test: bool,
) -> "list[Check]":
    from hrpose.api import load
    from hrpose.evaluation.parity.comparisons import (
        Check,
        compare_models,
        persons_of,
        primary_metric,
        synthetic_persons,
    )
    from hrpose.weights.registry import RELEASED

    if published is None and against is None and weights in RELEASED:
        published = RELEASED[weights].score
    if published is not None and data is None:
        raise conflict(f"--weights {weights}: add --annotations and --images to measure it on")
    if published is None and against is None:
        raise conflict(
            f"--weights {weights}: add --published AP to compare with, or --against the weights "
            "it was exported from"
        )
    checks: list[Check] = []
    exactly: dict[str, Any] = {"detector": "full-image", "batch_size": 32, "precision": "fp32"}
    found = load(weights, flip_test=flip_test, **exactly)
    expected = None if published is None else ("published", published)
    with progress("images") as show:
        name = Path(weights).name
        if against is not None:
            origin = load(against, flip_test=flip_test, **exactly)
            images = synthetic_persons() if data is None else persons_of(*data[:2])
            checks += compare_models(name, found, origin, images)
            if data is not None and expected is None:
                expected = (Path(against).name, primary_metric(origin, *data, progress=show)[1])
        if data is not None and expected is not None:
            what, value = primary_metric(found, *data, progress=show)
            label = f"{what}: {value:.4f}, {expected[0]} {expected[1]:.4f}"
            checks.append(Check(label, name, abs(value - expected[1]), tolerance))
    return checks


def _show(certificate: "Certificate", is_part: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from hrpose.evaluation.parity.comparisons import library_versions

    table = Table(
        "what",
        Column("on", no_wrap=True),
        Column("difference", justify="right", no_wrap=True),
        Column("at most", justify="right", no_wrap=True),
        Column("equal", no_wrap=True),
    )
    for check in certificate.checks:
        table.add_row(
            escape(check.what),
            escape(check.on),
            f"{check.difference:.1e} {check.unit}".strip() if check.difference else "0",
            f"{check.tolerance:.0e}" if check.tolerance else "0",
            "[green]yes[/]" if check.equal else "[bold red]NO[/]",
        )
    console = Console(width=max(100, Console().width), highlight=False)
    console.print(table)
    for what, why in certificate.not_run:
        console.print(f"not run: {what} ({why})", markup=False)
    versions = (f"{name} {version}" for name, version in library_versions().items())
    console.print(", ".join(versions), soft_wrap=True)
    if is_part:
        console.print("golden vectors: those in the package; --golden DIR for others")
    unequal = sum(not check.equal for check in certificate.checks)
    verdict = "all equal" if not unequal else f"{unequal} not equal"
    console.print(f"{len(certificate.checks)} comparisons, {verdict}")
