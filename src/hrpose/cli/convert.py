"""`hrpose data convert ...`: other data sets to COCO keypoints JSON, and back."""

from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli import convert_formats

app = typer.Typer(help="Convert data sets to COCO keypoints JSON, and back.", no_args_is_help=True)


@app.command()
def mpii(
    annot: Annotated[
        Path, typer.Argument(help="The folder with train.json, valid.json, gt_valid.mat ...")
    ],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    images: Annotated[
        Path | None,
        typer.Option(help="The pictures, a folder or zip file; by default images beside ANNOT."),
    ] = None,
) -> None:
    """MPII in the form of HRNet's official code; with gt_valid.mat, ready for PCKh."""
    from hrpose.data.mpii import convert

    for done in convert(annot, out, images):
        heads = f", {done.heads} with head boxes" if done.heads else ""
        typer.echo(f"wrote {done.path}: {done.people} people in {done.pictures} pictures{heads}")
        if done.pictures_found < done.pictures:
            typer.echo(
                f"  {done.pictures - done.pictures_found} pictures were not found and their sizes "
                "guessed; poses do not depend on them, but name the folder with --images to be sure"
            )


@app.command("to-mpii")
def to_mpii(
    annotations: Annotated[Path, typer.Argument(help="What 'convert mpii' wrote.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
) -> None:
    """Back to the official code's JSON, and gt_NAME.mat where there are head boxes."""
    from hrpose.data.mpii_back import from_coco

    for path in from_coco(annotations, out):
        typer.echo(f"wrote {path}")


convert_formats.add_to(app)
