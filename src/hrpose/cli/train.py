"""`hrpose train`, `train-detector` and `finetune`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose.cli.options import (
    MODEL,
    Category,
    Data,
    InputSize,
    MergeCategories,
    Overrides,
    Resume,
    ResumeWithChanges,
    RunFolder,
    parse_input_size,
)

if TYPE_CHECKING:
    from hrpose.training.recipe_checks import Finding


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe, such as recipes/w32-coco-256x192.yaml.")],
    data: Data = Path("data"),
    category: Category = None,
    merge_categories: MergeCategories = False,
    out: RunFolder = None,
    overrides: Overrides = None,
    resume: Resume = False,
    resume_with_changes: ResumeWithChanges = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the recipe, the data and the weights.")
    ] = False,
) -> None:
    """Train a pose model by a recipe. Warnings about the recipe and the data come first."""
    from hrpose.training import train as train_module
    from hrpose.training.distributed import launched
    from hrpose.training.recipe import load_recipe

    chosen = _categories(category, merge_categories)
    loaded = load_recipe(recipe, (*(overrides or ()), *chosen))
    if check:
        datamodule, _ = train_module.check(loaded, data, report, launched())
        persons = len(datamodule.train_table)
        if launched().first:
            typer.echo(f"{loaded.name}: ready to train on {persons} persons")
        return
    destination = out or Path("runs") / loaded.name
    weights = train_module.train(
        loaded,
        data,
        destination,
        resume or resume_with_changes,
        report,
        with_changes=resume_with_changes,
    )
    if launched().first:
        typer.echo(f"wrote {weights}")


def _categories(category: str | None, merge: bool) -> list[str]:
    """Both options as overrides of a recipe, which has them too."""
    named = [] if category is None else [f"data.category={json.dumps(category)}"]
    return [*named, *["data.merge_categories=true"] * merge]


def report(finding: "Finding") -> None:
    """Print a finding of the recipe checks."""
    typer.echo(str(finding), err=True)


def train_detector(
    recipe: Annotated[Path, typer.Argument(help="Recipe, such as recipes/person-detector.yaml.")],
    data: Data = Path("data"),
    out: RunFolder = None,
    overrides: Overrides = None,
    resume: Resume = False,
    resume_with_changes: ResumeWithChanges = False,
) -> None:
    """Train a person detector on images in which every person has a box."""
    from hrpose.training.person_detector.train import train
    from hrpose.training.recipe import DetectorRecipe
    from hrpose.yaml_file import load_as

    loaded = load_as(recipe, overrides or (), DetectorRecipe)
    weights = train(
        loaded,
        data,
        out or Path("runs") / loaded.name,
        resume or resume_with_changes,
        report,
        with_changes=resume_with_changes,
    )
    typer.echo(f"wrote {weights}")


def finetune(
    train: Annotated[Path, typer.Argument(help="COCO keypoints JSON to train on.")],
    val: Annotated[Path, typer.Argument(help="COCO keypoints JSON for validation.")],
    start: Annotated[
        str,
        typer.Option(
            "--from",
            help="Weights to start from: a name of `hrpose weights list` or a file.",
            rich_help_panel=MODEL,
        ),
    ] = "w16-small",
    images: Annotated[
        Path | None, typer.Option(help="Images to train on; by default images/ beside TRAIN.")
    ] = None,
    val_images: Annotated[
        Path | None, typer.Option(help="Images for validation; by default images/ beside VAL.")
    ] = None,
    skeleton: Annotated[
        Path | None, typer.Option(help="YAML file of `hrpose data skeleton`, corrected.")
    ] = None,
    category: Category = None,
    merge_categories: MergeCategories = False,
    input_size: InputSize = None,
    out: RunFolder = None,
    overrides: Overrides = None,
    resume: Resume = False,
    resume_with_changes: ResumeWithChanges = False,
) -> None:
    """Fine-tune a trained model on keypoints of your own; a recipe is written for you.

    Keypoints with names that the model knows keep its weights. OUT/recipe.yaml holds what was done;
    `hrpose train OUT/recipe.yaml --data .` repeats it.
    """
    from hrpose.training.distributed import launched
    from hrpose.training.train import finetune

    written = finetune(
        train,
        val,
        out,
        start=start,
        images=images,
        val_images=val_images,
        skeleton=skeleton,
        category=category,
        merge_categories=merge_categories,
        input_wh=parse_input_size(input_size),
        overrides=overrides or (),
        resume=resume,
        with_changes=resume_with_changes,
        report=report,
    )
    if launched().first:
        typer.echo(f"wrote {written}")
