"""`hrpose train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose.cli.options import Data, Overrides, Resume, RunFolder

if TYPE_CHECKING:
    from hrpose.training.doctor import Finding


def train(
    recipe: Annotated[
        Path, typer.Argument(help="A recipe, such as recipes/w32-coco-256x192.yaml.")
    ],
    data: Data = Path("data"),
    out: RunFolder = None,
    overrides: Overrides = None,
    resume: Resume = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only look the recipe, the data and the weights over."),
    ] = False,
) -> None:
    """Train a network by a recipe. What may cost points is said first."""
    from hrpose.training import run
    from hrpose.training.processes import started
    from hrpose.training.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    if check:
        datamodule, _ = run.check(loaded, data, say, started())
        people = len(datamodule.train_table)
        if started().first:
            typer.echo(f"{loaded.name}: ready to train on {people} people")
        return
    destination = out or Path("runs") / loaded.name
    weights = run.train(loaded, data, destination, resume, say)
    if started().first:
        typer.echo(f"wrote {weights}")


def say(finding: "Finding") -> None:
    """A finding of the recipe doctor, for the eye."""
    typer.echo(str(finding), err=True)
