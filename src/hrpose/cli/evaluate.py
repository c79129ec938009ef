"""`hrpose evaluate`."""

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli.options import BatchSize, BoxThreshold, Detector, FlipTest, Images, Refine, Weights


class Nms(StrEnum):
    """How repeated poses of one person are thinned."""

    hard = "hard"
    soft = "soft"


class Metric(StrEnum):
    """COCO's AP, MPII's PCKh, or PCK with NME and EPE; auto looks at the annotations."""

    auto = "auto"
    ap = "ap"
    pckh = "pckh"
    pck = "pck"


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
        Nms, typer.Option(help="OKS-NMS: drop repeated poses, or lower their scores.")
    ] = Nms.hard,
    metric: Annotated[
        Metric, typer.Option(help="auto: PCKh with head boxes, PCK without OKS constants, else AP.")
    ] = Metric.auto,
    flip_test: FlipTest = True,
    batch_size: BatchSize = 64,
    out: Annotated[Path | None, typer.Option(help="Where the figures and the results go.")] = None,
) -> None:
    """Score weights on a data set: COCO's ten figures, PCKh or PCK; or predict a test set."""
    from rich.table import Table

    from hrpose.api import load
    from hrpose.cli.console import plain_console, progress
    from hrpose.evaluation import DETECTOR, check_boxes, evaluate

    check_boxes(boxes, detector, box_threshold)
    estimator = load(
        weights,
        detector=detector if boxes == DETECTOR else "whole",
        box_threshold=box_threshold if boxes == DETECTOR else None,
        flip_test=flip_test,
        refine=refine,
        batch_size=batch_size,
    )
    with progress("pictures") as show:
        report = evaluate(
            estimator,
            annotations,
            images,
            boxes,
            out,
            box_threshold=box_threshold or 0.0,
            nms=nms.value,
            metric=metric.value,
            progress=show,
        )
    flip = f"flip test: {'on' if flip_test else 'off'}{', second look' if refine else ''}"
    title = (
        f"{weights} on {annotations.name}: {report.people} people in {report.pictures} pictures\n"
        f"boxes: {report.boxes}; {flip}"
    )
    if report.scores is None:
        typer.echo(f"{title}\nno figures, for there are no labels")
    else:
        table = Table(title=title)
        figures = report.scores.as_dict()
        for name in figures:
            table.add_column(name, justify="right")
        table.add_row(*("-" if math.isnan(v) else f"{v:.3f}" for v in figures.values()))
        plain_console(110).print(table)
    if report.files:
        typer.echo(f"wrote {' and '.join(map(str, report.files))}")
