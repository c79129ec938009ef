"""`hrpose data rank`."""

import csv
import io
import json
from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli.options import BatchSize, Detector, Weights
from hrpose.errors import UserError


def rank(
    images: Annotated[
        str, typer.Argument(help="Pictures: a folder, images.zip or images.zip@/DIR.")
    ],
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="COCO keypoints JSON of some of them. Labels are searched for errors; people who "
            "have a box and no joints are ranked with that box."
        ),
    ] = None,
    weights: Weights = "w16-small",
    detector: Detector = "auto",
    batch_size: BatchSize = 64,
    top: Annotated[int, typer.Option(min=0, help="So many of each are printed.")] = 10,
    out: Annotated[
        Path | None, typer.Option(help="All of both lists: .json, or .csv with a column 'list'.")
    ] = None,
) -> None:
    """Say which pictures a label would teach most, and which labels are probably wrong."""
    from rich.table import Table

    from hrpose.api import load
    from hrpose.cli.console import plain_console, progress
    from hrpose.data.pictures import PictureSource
    from hrpose.files import write_atomically
    from hrpose.image import SUFFIXES
    from hrpose.inspection.labels import read_labels
    from hrpose.inspection.poses import check_joints
    from hrpose.inspection.rank import as_dict, rank

    if out is not None and out.suffix not in (".json", ".csv"):
        raise UserError(f"--out {out}: expected a name that ends in .json or .csv")
    source = PictureSource(images)
    labels = None if annotations is None else read_labels(annotations)[0]
    names = [name for name in source.names() if name.lower().endswith(SUFFIXES)]
    estimator = load(weights, detector=detector, batch_size=batch_size)
    if labels is not None and labels.skeleton is not None:
        check_joints(estimator, labels)
    with progress("pictures") as show:
        ranking = rank(estimator, source, names, labels, show)
    lists = as_dict(ranking)
    if out is not None and out.suffix == ".json":
        write_atomically(out, json.dumps(lists, indent=1, ensure_ascii=False) + "\n")
    elif out is not None:
        rows = [{"list": kind, **row} for kind in ("unlabelled", "doubtful") for row in lists[kind]]
        text = io.StringIO()
        columns = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(text, list(columns) or ["list"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(out, text.getvalue())
    shown = plain_console(100)
    titles = {
        "unlabelled": f"what to label next, of {len(ranking.unlabelled)} pictures",
        "doubtful": f"labels to look at, of {len(ranking.doubtful)} in doubt",
    }
    for kind, title in titles.items():
        if not lists[kind]:
            continue
        table = Table(title=title)
        for name in lists[kind][0]:
            table.add_column(name.replace("_", " "))
        for row in lists[kind][:top]:
            table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
        shown.print(table)
    if not ranking.unlabelled and not ranking.doubtful:
        typer.echo("nobody to rank was found")
    for line in ranking.unread:
        typer.echo(f"not looked at: {line}", err=True)
    if out is not None:
        typer.echo(f"wrote {out}")
