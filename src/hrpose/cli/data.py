"""`hrpose data ...`: making and changing data sets."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make and change data sets.", no_args_is_help=True)


@app.callback()
def _data() -> None:
    pass


@app.command()
def synthetic(
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    pictures: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 1000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same pictures.")] = 0,
) -> None:
    """Draw pictures of simple figures with exact keypoints, as a COCO data set."""
    from hrpose.synthetic import write_dataset

    annotations = write_dataset(out, pictures, seed)
    typer.echo(f"wrote {annotations}")
