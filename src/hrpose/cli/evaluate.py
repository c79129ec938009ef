"""`hrpose evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli.options import BatchSize, BoxThreshold, Detector, FlipTest, Refine, Weights
from hrpose.errors import UserError


def evaluate(
    annotations: Annotated[Path, typer.Option(help="COCO keypoints JSON.")],
    images: Annotated[Path, typer.Option(help="The folder of its pictures.")],
    weights: Weights = "w16-small",
    boxes: Annotated[
        str, typer.Option(help="ground-truth, detector, or a COCO detections file.")
    ] = "ground-truth",
    detector: Detector = "auto",
    box_threshold: BoxThreshold = None,
    flip_test: FlipTest = True,
    refine: Refine = False,
    batch_size: BatchSize = 64,
    out: Annotated[
        Path | None, typer.Option(help="Where metrics.json and results.json go.")
    ] = None,
) -> None:
    """Score weights on a data set: COCO's ten figures."""
    from rich.console import Console
    from rich.table import Table

    from hrpose.api import load
    from hrpose.evaluation import DETECTOR, evaluate

    if boxes != DETECTOR and (detector != "auto" or box_threshold is not None):
        raise UserError(
            f"--detector and --box-threshold: expected --boxes {DETECTOR}, found {boxes}; "
            "leave them out"
        )
    estimator = load(
        weights,
        detector=detector if boxes == DETECTOR else "whole",
        box_threshold=box_threshold,
        flip_test=flip_test,
        refine=refine,
        batch_size=batch_size,
    )
    report = evaluate(estimator, annotations, images, boxes, out)
    table = Table(
        title=f"{weights} on {annotations.name}: {report.people} people in {report.pictures} "
        f"pictures\nboxes: {report.boxes}; flip test: {'on' if flip_test else 'off'}"
        + (", second look" if refine else "")
    )
    figures = report.scores.as_dict()
    for name in figures:
        table.add_column(name, justify="right")
    table.add_row(*(f"{value:.3f}" for value in figures.values()))
    Console(width=110).print(table)
    if out is not None:
        typer.echo(f"wrote {out / 'metrics.json'} and {out / 'results.json'}")
