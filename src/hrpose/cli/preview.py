"""`hrpose data preview`."""

from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli.options import Images, InputSize, parse_input_size


def preview(
    annotations: Annotated[Path, typer.Argument(help="COCO keypoints JSON.")],
    images: Images,
    skeleton: Annotated[
        Path | None, typer.Option(help="A YAML file that completes the annotations' skeleton.")
    ] = None,
    people: Annotated[int, typer.Option(min=1, max=500, help="How many people are shown.")] = 48,
    seed: Annotated[int, typer.Option(min=0, help="The same seed shows the same people.")] = 0,
    input_size: InputSize = "192x256",
    photometric: Annotated[
        float, typer.Option(min=0, max=1, help="Changes of light and colour, as in recipes.")
    ] = 0.0,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("preview.html"),
) -> None:
    """Write a page to browse: people with joints, augmented, as heatmaps; and distributions."""
    from hrpose.cli.console import progress
    from hrpose.data.augment import Augmentation
    from hrpose.files import write_atomically
    from hrpose.inspection.page import render
    from hrpose.inspection.preview import Look, preview
    from hrpose.skeleton import Skeleton

    def complete(found: Skeleton) -> Skeleton:
        if skeleton is None:
            return found
        from hrpose.data.skeleton_file import complete_skeleton

        return complete_skeleton(found, skeleton)

    size = parse_input_size(input_size) or (192, 256)
    look = Look(size, Augmentation(photometric=photometric), people, seed)
    with progress("people") as show:
        shown = preview(annotations, images, look, complete, show)
    write_atomically(out, render(shown))
    for line in shown.unread:
        typer.echo(f"not shown: {line}", err=True)
    typer.echo(f"wrote {out}: {len(shown.people)} people (open it in a browser)")
