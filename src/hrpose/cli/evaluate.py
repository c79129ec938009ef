"""`hrpose evaluate`, `evaluate-detector` and `analyze`: how good weights and detectors are."""

import json
import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli.console import plain_console, progress
from hrpose.cli.options import (
    MODEL,
    RESULTS,
    BatchSize,
    BatchSizeOfWeights,
    BoxThreshold,
    Detector,
    FlipTest,
    FlipTestOfWeights,
    Images,
    ImagesIfAny,
    Refine,
    Weights,
)
from hrpose.errors import UserError


class Nms(StrEnum):
    """What becomes of repeated poses of one person."""

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
        Nms, typer.Option(help="OKS-NMS: drop repeated poses (hard) or lower their scores (soft).")
    ] = Nms.hard,
    metric: Annotated[
        Metric,
        typer.Option(
            case_sensitive=False,
            help="auto takes PCKh where there are head boxes, PCK without OKS sigmas, else AP.",
        ),
    ] = Metric.auto,
    flip_test: FlipTest = True,
    batch_size: BatchSize = 64,
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
            flip_test=flip_test,
            refine=refine,
            batch_size=batch_size,
            out=out,
            progress=show,
        )
    flip = f"flip test: {'on' if flip_test else 'off'}{'; refined' if refine else ''}"
    title = (
        f"{weights} on {annotations.name}: {report.persons} persons in {report.images} images\n"
        f"boxes: {report.boxes}; {flip}"
    )
    if report.primary is None:
        typer.echo(f"{title}\nno metrics: the annotations have no labels")
    else:
        typer.echo(title)
        console = plain_console(110)
        # Distances, which most evaluations have too, get rows of their own.
        for last in (False, True):
            some = {n: v for n, v in report.metrics.items() if (n in DISTANCES) is last}
            table = Table(*(Column(name, justify="right") for name in some))
            table.add_row(*("-" if math.isnan(v) else f"{v:.3f}" for v in some.values()))
            if some:
                console.print(table)
    if report.files:
        typer.echo(f"wrote {' and '.join(map(str, report.files))}")


def evaluate_detector(
    annotations: Annotated[Path, typer.Option(help="COCO JSON with boxes of persons.")],
    images: Images,
    detector: Detector = "builtin",
    box_threshold: BoxThreshold = None,
    min_height: Annotated[
        float, typer.Option(help="Ignore persons and boxes lower than this, in pixels.", min=0)
    ] = 96.0,
    min_iou: Annotated[
        float, typer.Option(help="The least IoU of a box and its person.", min=0.01, max=1)
    ] = 0.5,
) -> None:
    """Measure a person detector: recall, precision at its threshold, and AP.

    Persons without annotation, as those too small to label in COCO keypoints files, count as false
    positives: precision reads low there.
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
        f"{report.name} on {report.images} images with {scores.persons} persons at least "
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
    from hrpose.evaluation.analyze import analyze, check_copy
    from hrpose.evaluation.analyze import store_calibration as store
    from hrpose.evaluation.report import render
    from hrpose.io import write_atomically
    from hrpose.weights import find

    if store_calibration is not None and weights is None:
        raise UserError(
            "--store-calibration: needs the weights of the results; add --weights",
            code="option-conflict",
        )
    estimator = None
    if weights is not None:
        if store_calibration is not None:
            check_copy(find(weights), store_calibration)
        estimator = load(weights, detector="none", flip_test=flip_test, batch_size=batch_size)
    with progress("") as show:
        analysis = analyze(
            results,
            annotations,
            images,
            estimator,
            skeleton=skeleton,
            progress=lambda what, done, total: show(done, total, what),
        )
    scores = analysis.calibration
    if store_calibration is not None and isinstance(scores, str):
        raise UserError(f"--store-calibration: {scores}", code="option-conflict")
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
