"""`hrpose data check`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli.options import BatchSizeOfWeights, FlipTestOfWeights, ImagesIfAny, chosen
from hrpose.errors import UserError


def check(
    annotations: Annotated[Path, typer.Argument(help="COCO keypoints JSON.")],
    images: ImagesIfAny = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Another set, such as val.json, whose pictures must not be in this one."),
    ] = None,
    against_images: Annotated[
        str | None, typer.Option(help="The other set's pictures, if they are elsewhere.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weights for these joints, to compare labels with.")
    ] = None,
    skip: Annotated[
        str, typer.Option("--ignore", help="Kinds of faults to leave out, commas between.")
    ] = "",
    flip_test: FlipTestOfWeights = True,
    batch_size: BatchSizeOfWeights = 64,
    worst: Annotated[int, typer.Option(min=0, help="Of each kind, so many are printed.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Where all findings go as JSON.")] = None,
) -> None:
    """Find what spoils a training: bad labels, bad pictures, pictures that are in val too.

    Ends with exit code 1 where faults were found, 0 where there are none.
    """
    from hrpose.api import load
    from hrpose.cli.console import progress
    from hrpose.files import write_atomically
    from hrpose.inspection.check import check
    from hrpose.inspection.findings import KINDS

    ignored = chosen("--ignore", skip, KINDS)
    if images is None and (against is not None or weights is not None):
        raise UserError("--against and --weights: need the pictures; add --images")
    if against_images is not None and against is None:
        raise UserError("--against-images: expected --against FILE too, found none; add it")
    estimator = None
    if weights is not None:
        estimator = load(weights, detector="whole", flip_test=flip_test, batch_size=batch_size)
    with progress("") as show:
        report = check(
            annotations,
            images,
            against=against,
            against_images=against_images,
            estimator=estimator,
            ignore=ignored,
            progress=lambda what, done, total: show(done, total, what),
        )
    if out is not None:
        entry = {"annotations": str(annotations), "images": images, **report.as_dict()}
        write_atomically(out, json.dumps(entry, indent=1, ensure_ascii=False) + "\n")
    for line in report.lines(worst):
        typer.echo(line)
    if out is not None:
        typer.echo(f"wrote {out}")
    if report.findings:
        raise typer.Exit(1)
