"""`hrpose train-finder`."""

from pathlib import Path
from typing import Annotated

import typer


def train_finder(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/finder.yaml.")],
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
    """Train a finder of people on pictures in which every person is boxed."""
    from hrpose.training.finder.recipe import FinderRecipe
    from hrpose.training.finder.run import train
    from hrpose.training.recipe import load_as

    loaded = load_as(recipe, overrides or (), FinderRecipe)
    weights = train(loaded, data, out or Path("runs") / loaded.name, resume)
    typer.echo(f"wrote {weights}")
