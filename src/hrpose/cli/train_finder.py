"""`hrpose train-finder`."""

from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli.options import Data, Overrides, Resume, RunFolder


def train_finder(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/finder-4.yaml.")],
    data: Data = Path("data"),
    out: RunFolder = None,
    overrides: Overrides = None,
    resume: Resume = False,
) -> None:
    """Train a finder of people on pictures in which every person is boxed."""
    from hrpose.training.finder.recipe import FinderRecipe
    from hrpose.training.finder.run import train
    from hrpose.yaml_file import load_as

    loaded = load_as(recipe, overrides or (), FinderRecipe)
    weights = train(loaded, data, out or Path("runs") / loaded.name, resume)
    typer.echo(f"wrote {weights}")
