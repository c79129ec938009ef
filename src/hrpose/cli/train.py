"""`hrpose train`."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[
        Path, typer.Argument(help="A recipe, such as recipes/w32-coco-256x192.yaml.")
    ],
    data: Annotated[
        Path, typer.Option(help="The folder that the recipe's data paths start from.")
    ] = Path("data"),
    out: Annotated[
        Path | None, typer.Option(help="Checkpoints and logs; by default runs/NAME.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: optimizer.lr=5e-4."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint.")
    ] = False,
) -> None:
    """Train a network by a recipe."""
    from hrpose.training.recipe import load_recipe
    from hrpose.training.run import train

    loaded = load_recipe(recipe, overrides or ())
    destination = out or Path("runs") / loaded.name
    weights = train(loaded, data, destination, resume)
    typer.echo(f"wrote {weights}")
