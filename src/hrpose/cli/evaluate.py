"""`hrpose evaluate`, `evaluate-detector`, `analyze`, `agreement`: what results are worth."""

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose.cli import check_writable, conflict, describe, refuse_with
from hrpose.cli.console import (
    PARTLY_DONE,
    conclude,
    note,
    persons_in,
    plain_console,
    progress,
    say,
    table,
    warn,
)
from hrpose.cli.options import (
    MODEL,
    RESULTS,
    Annotations,
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
from hrpose.errors import missing

if TYPE_CHECKING:
    from hrpose.data.coco import CocoAnnotations
    from hrpose.evaluation.evaluate import Report

MaxDetections = Annotated[
    int,
    typer.Option(min=1, help="Poses of an image that count in the AP, the best; COCO's are 20."),
]


class Nms(StrEnum):
    """How duplicates of a person's pose are suppressed."""

    hard = "hard"
    soft = "soft"


class Metric(StrEnum):
    """COCO's AP, MPII's PCKh, PCK, NME and EPE, or a benchmark; auto goes by the annotations."""

    auto = "auto"
    ap = "AP"
    pckh = "PCKh"
    pck = "PCK"
    nme = "NME"
    epe = "EPE"
    crowdpose = "CrowdPose"
    ochuman = "OCHuman"
    coco_wholebody = "COCO-WholeBody"
    posetrack18 = "PoseTrack18"


@describe(
    "hrpose evaluate --annotations val.json --images images --boxes detector --out results",
    "hrpose evaluate --annotations val.json --images images --weights w32.safetensors --json",
    "hrpose evaluate --annotations crowdpose_test.json --results results.json",
    images="number of images",
    persons="number of persons",
    boxes="where the boxes came from",
    metrics="each metric and its value, null where it is not defined; empty without labels",
    primary="the name of the main metric; null without labels",
    flip_test="whether the flip test was on",
    engine="what ran the pose model",
    files="the files written",
)
def evaluate(
    context: typer.Context,
    annotations: Annotated[
        Path, typer.Option(help="COCO keypoints JSON, or a test set's image_info JSON.")
    ],
    images: ImagesIfAny = None,
    weights: Weights = "w32-small",
    results: Annotated[
        Path | None,
        typer.Option(help="Measure these COCO keypoint results, instead of weights on images."),
    ] = None,
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
            help="auto: the benchmark of the annotations, PCKh with head boxes, PCK without OKS "
            "sigmas, else AP.",
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
    from hrpose import api
    from hrpose.data.coco import read_annotations
    from hrpose.evaluation.evaluate import evaluate_results
    from hrpose.metrics.benchmarks import BENCHMARKS

    if images is None or results is not None:
        if images is not None or results is None:
            raise conflict("--images: expected it or --results, which are measured without images")
        refuse_with(context, "--results", "weights", "boxes", "detector", "refine", "nms")
        truth = read_annotations(
            annotations, category=category, merge_categories=merge_categories, sized=False
        )
        report = evaluate_results(truth, results, metric.value, max_detections, out, warn)
        _say_report(report, f"{results} on {annotations.name}", f"metric: {report.metric}")
        return
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
    found = f"{weights} on {annotations.name}: {persons_in(report.persons, report.images)}"
    benchmark = f"; metric: {report.metric}" if report.metric in BENCHMARKS else ""
    _say_report(report, found, f"boxes: {report.boxes}; {flip}; {report.engine}{benchmark}")


def _say_report(report: "Report", *lines: str) -> None:
    """The lines, the tables of metrics, and the files that were written."""
    from rich.table import Column, Table

    from hrpose.metrics.pck import DISTANCES

    say(*lines)
    conclude(
        images=report.images,
        persons=report.persons,
        boxes=report.boxes,
        metrics={} if report.primary is None else report.metrics,
        primary=report.primary,
        flip_test=report.flip_test,
        engine=report.engine,
        files=report.files,
    )
    if report.primary is None:
        say("no metrics: the annotations have no labels")
    # Distances are printed in a table of their own; PoseTrack18's rows have eight columns.
    width = 8 if report.metric == "PoseTrack18" else 10
    for last in (False, True) if report.primary is not None else ():
        own = [(n, v) for n, v in report.metrics.items() if (n in DISTANCES) is last]
        for at in range(0, len(own), width):
            part = own[at : at + width]
            table = Table(*(Column(name, justify="right") for name, _ in part))
            table.add_row(*("-" if math.isnan(v) else f"{v:.3f}" for _, v in part))
            plain_console(110).print(table)
    if report.files:
        say(f"wrote {' and '.join(map(str, report.files))}")


@describe(
    "hrpose evaluate-detector --annotations val.json --images images --detector yolox-s",
    "hrpose evaluate-detector --annotations val.json --images images --min-height 32 --json",
    images="number of images",
    persons="number of persons that count",
    AP="the AP of the boxes",
    threshold="an object with `value`, `recall` and `precision` at the detector's threshold",
    best_threshold="the same at the threshold with the best balance",
    boxes_per_image="mean number of boxes in an image, at the detector's threshold",
)
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
    from hrpose.evaluation.predictions import evaluate_detector

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
    conclude(
        images=report.images,
        persons=scores.persons,
        AP=scores.AP,
        threshold={"value": report.threshold, "recall": recall, "precision": precision},
        best_threshold={"value": best, "recall": best_recall, "precision": best_precision},
        boxes_per_image=report.boxes_per_image,
    )
    say(
        f"{report.name}: {persons_in(scores.persons, report.images)}, at least "
        f"{min_height:g} px high, IoU {min_iou:g}",
        f"threshold {report.threshold:.2f}: recall {recall:.3f}, precision {precision:.3f}, "
        f"{report.boxes_per_image:.1f} boxes per image",
        f"threshold {best:.2f}: recall {best_recall:.3f}, precision {best_precision:.3f} "
        f"(best balance)",
        f"AP {scores.AP:.3f}",
    )


@describe(
    "hrpose analyze results/results.json --annotations val.json --images images",
    "hrpose analyze old/results.json new/results.json --annotations val.json --fail-below -0.01",
    "hrpose analyze results/results.json --annotations val.json --json > analysis.json",
    analysis="all numbers of the page; null for two results",
    comparison="all numbers of the page of two results; null for one",
    files="the page",
)
def analyze(
    results: Annotated[
        list[Path],
        typer.Argument(
            help="COCO keypoint results, as `evaluate --out` writes them; of two, the second is "
            "compared with the first.",
            metavar="RESULTS [RESULTS]",
        ),
    ],
    annotations: Annotations,
    images: ImagesIfAny = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="The weights of the results: adds heatmaps, AP under box noise, and how many "
            "labels are inside their ellipses.",
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
    fail_below: Annotated[
        float | None,
        typer.Option(
            help="With two results: exit code 1 where the interval of the AP's difference begins "
            "below this, such as -0.01."
        ),
    ] = None,
) -> None:
    """Analyze results: an HTML report on errors, boxes, scores and single persons; or on the
    differences of two results.
    """
    from hrpose.api import load
    from hrpose.data.coco import read_annotations
    from hrpose.evaluation.analyze import analyze
    from hrpose.evaluation.report import render
    from hrpose.io import write_atomically

    if len(results) > 2:
        raise conflict(f"RESULTS: expected one file or two, found {len(results)}")
    check_writable(out)
    if len(results) == 2:
        if weights is not None:
            raise conflict("--weights: are those of one file of results; leave it out with two")
        truth = read_annotations(annotations, category=category, merge_categories=merge_categories)
        _compare(results, truth, images, skeleton, max_detections, out, fail_below)
        return
    if fail_below is not None:
        raise conflict("--fail-below: is about the difference of two results; name a second file")
    estimator = None
    if weights is not None:
        estimator = load(
            weights,
            detector="full-image",
            flip_test=flip_test,
            batch_size=batch_size,
            precision="fp32",
        )
    with progress("") as show:
        analysis = analyze(
            results[0],
            read_annotations(annotations, category=category, merge_categories=merge_categories),
            images,
            estimator,
            skeleton=skeleton,
            max_detections=max_detections,
            progress=lambda what, done, total: show(done, total, what),
            notify=warn,
        )
    write_atomically(out, render(analysis))
    gains = sorted(analysis.gains, key=lambda gain: -gain.scores.AP)
    most = ", ".join(f"{g.error} {g.scores.AP - analysis.scores.AP:+.3f}" for g in gains[:3])
    conclude(analysis=analysis.as_dict(), comparison=None, files=[out])
    say(f"AP {analysis.scores.AP:.3f}; largest gains if fixed: {most}")
    if (within := analysis.coverage.get("all")) is not None:
        say(f"labels inside the {within.levels[-1]:.0%} ellipses: {within.found[-1]:.1%}")
    say(f"wrote {out} (open the page in a browser)")


def _compare(
    results: list[Path],
    annotations: "CocoAnnotations",
    images: str | None,
    skeleton: Path | None,
    max_detections: int,
    out: Path,
    fail_below: float | None,
) -> None:
    from hrpose.evaluation.compare import compare
    from hrpose.evaluation.report import render_comparison
    from hrpose.io import write_atomically

    a, b = results
    with progress("draws") as show:
        comparison = compare(
            a,
            b,
            annotations,
            images,
            skeleton=skeleton,
            max_detections=max_detections,
            progress=show,
            notify=warn,
        )
    write_atomically(out, render_comparison(comparison))
    conclude(analysis=None, comparison=comparison.as_dict(), files=[out])
    ap = comparison.metrics["AP"]
    say(
        f"AP {ap.a:.3f} in {a}, {ap.b:.3f} in {b}: {ap.difference:+.3f}, 95 % interval "
        f"{ap.low:+.3f} to {ap.high:+.3f} ({comparison.draws:,} draws of images)",
        f"{persons_in(comparison.persons, comparison.images)}: {comparison.gained} got better, "
        f"{comparison.lost} worse",
        f"wrote {out} (open the page in a browser)",
    )
    if fail_below is not None and not ap.low >= fail_below:  # NaN fails.
        note(f"--fail-below {fail_below:g}: the interval begins at {ap.low:+.4f}")
        raise typer.Exit(PARTLY_DONE)


@describe(
    "hrpose agreement out/measures.csv markers.csv",
    "hrpose agreement out/measures.csv goniometer.csv --person 0 --big 3 --json",
    measures="an object for each measure: `pairs`, and with their intervals `bias`, `lower`, "
    "`upper`, `icc_2_1`, `icc_3_1` and `big_errors`",
    files="the page",
)
def agreement(
    measured: Annotated[Path, typer.Argument(help="The measures.csv of `hrpose measure`.")],
    reference: Annotated[
        Path,
        typer.Argument(
            help="CSV with `frame` or `time` (seconds), and a column for each measure, or the "
            "columns `measure` and `value`; `file` and `person` where there are several."
        ),
    ],
    big: Annotated[
        float, typer.Option(min=0, help="Larger errors are big ones, in the measure's unit.")
    ] = 5.0,
    person: Annotated[
        str | None, typer.Option(help="Whom the reference is of, where it has no such column.")
    ] = None,
    out: Annotated[Path, typer.Option(help="HTML file to write.", rich_help_panel=RESULTS)] = Path(
        "agreement.html"
    ),
) -> None:
    """Compare measures with a reference: bias, limits of agreement, ICC and big errors."""
    from dataclasses import asdict

    from hrpose.io import write_atomically

    try:
        from hrpose.measurement.agreement import compare_measures, render_agreement
    except ModuleNotFoundError as error:
        raise missing("agreement", error, "hrpose[measure]") from error

    compared = compare_measures(measured, reference, big, person)
    write_atomically(out, render_agreement(compared, (str(measured), str(reference))))
    conclude(measures={each.measure: asdict(each.agreement) for each in compared}, files=[out])
    rows = []
    for each in compared:
        found = each.agreement
        limits = f"{found.lower.value:.2f} to {found.upper.value:.2f}"
        icc = f"{found.icc_2_1.value:.3f}"
        share = f"{100 * found.big_errors.value:.1f} %"
        rows.append((each.measure, found.pairs, f"{found.bias.value:+.2f}", limits, icc, share))
    table(rows, "measure", "pairs", "bias", "limits of agreement", "ICC(2,1)", f"beyond {big:g}")
    say(f"wrote {out} (open the page in a browser)")
