"""`hrpose data ...`: making and changing data sets."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli import check, convert, preview, rank, sets, sigmas, skeleton

app = typer.Typer(help="Make and change data sets.", no_args_is_help=True)
app.add_typer(convert.app, name="convert")
app.command("check")(check.check)
app.command("preview")(preview.preview)
app.command("rank")(rank.rank)
app.command("skeleton")(skeleton.skeleton)
app.command("sigmas")(sigmas.sigmas)
sets.add_to(app)


class Figure(StrEnum):
    """What can be drawn."""

    person = "person"
    animal = "animal"


@app.callback()
def _data() -> None:
    pass


@app.command()
def synthetic(
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    pictures: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 1000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same pictures.")] = 0,
    figure: Annotated[
        Figure, typer.Option(help="People with COCO's joints, or animals with nine of their own.")
    ] = Figure.person,
) -> None:
    """Draw pictures of simple figures with exact keypoints, as a COCO data set."""
    from hrpose.synthetic import ANIMAL, PERSON, write_dataset

    drawn = {Figure.person: PERSON, Figure.animal: ANIMAL}[figure]
    annotations = write_dataset(out, pictures, seed, figure=drawn)
    typer.echo(f"wrote {annotations}")


@app.command()
def pack(
    annotations: Annotated[Path, typer.Argument(help="COCO keypoints JSON.")],
    images: Annotated[Path, typer.Argument(help="The folder or zip file of its pictures.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    height: Annotated[
        int, typer.Option(min=64, help="A person's crop keeps at least so many pixels.")
    ] = 256,
    aspect: Annotated[float, typer.Option(min=0.1, help="Width by height of the crops.")] = 0.75,
    padding: Annotated[float, typer.Option(min=0.5, help="Around the boxes.")] = 1.25,
    reach: Annotated[
        float, typer.Option(min=1, help="Room for augmentation: 1 + its scale + 6 times its shift.")
    ] = 1.6,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of the JPEG files.")] = 85,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Cut every person out once, so that training reads small pictures; can be stopped and resumed.

    In a recipe, `images: OUT` and `annotations: OUT/annotations.json` then read the pack.
    """
    from hrpose.cli.console import progress
    from hrpose.data.pack import PackSettings, write_pack

    settings = PackSettings(aspect, padding, height, reach, quality)
    total = 0
    with progress("people") as show:
        for done, total in write_pack(annotations, images, out, settings, workers):
            show(done, total)
    size = sum(file.stat().st_size for file in out.glob("part-*.bin"))
    typer.echo(f"wrote {out}: {total} people, {size / 1e6:.1f} MB")
