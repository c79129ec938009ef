"""`hrpose evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli.options import BatchSize, FlipTest, Weights


def evaluate(
    annotations: Annotated[Path, typer.Option(help="COCO keypoints JSON.")],
    images: Annotated[Path, typer.Option(help="The folder of its pictures.")],
    weights: Weights = "w16-small",
    boxes: Annotated[
        str, typer.Option(help="ground-truth, or a COCO detections file.")
    ] = "ground-truth",
    flip_test: FlipTest = True,
    batch_size: BatchSize = 64,
    out: Annotated[
        Path | None, typer.Option(help="Where metrics.json and results.json go.")
    ] = None,
) -> None:
    """Score weights on a data set: COCO's ten figures."""
    from rich.console import Console
    from rich.table import Table

    from hrpose.api import load
    from hrpose.evaluation import evaluate

    estimator = load(weights, flip_test=flip_test, batch_size=batch_size)
    report = evaluate(estimator, annotations, images, boxes, out)
    table = Table(
        title=f"{weights} on {annotations.name}: {report.people} people in {report.pictures} "
        f"pictures\nboxes: {report.boxes}; flip test: {'on' if flip_test else 'off'}"
    )
    figures = report.scores.as_dict()
    for name in figures:
        table.add_column(name, justify="right")
    table.add_row(*(f"{value:.3f}" for value in figures.values()))
    Console(width=110).print(table)
    if out is not None:
        typer.echo(f"wrote {out / 'metrics.json'} and {out / 'results.json'}")
