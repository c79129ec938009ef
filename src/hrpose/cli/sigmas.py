"""`hrpose data sigmas`."""

from pathlib import Path
from typing import Annotated

import typer

from hrpose.errors import UserError


def sigmas(
    annotations: Annotated[
        list[Path],
        typer.Argument(
            help="COCO keypoints JSON of the same pictures, one file for each annotator; a single "
            "file gives a guess from the lengths of limbs."
        ),
    ],
    truth: Annotated[
        Path | None, typer.Option(help="Annotations that are the truth, if there are such.")
    ] = None,
    skeleton: Annotated[
        Path | None, typer.Option(help="A YAML file that completes the skeleton, with limbs.")
    ] = None,
    limb_share: Annotated[
        float | None,
        typer.Option(min=0.001, max=10, help="Of the guess: sigma by limb length; else 0.17."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="COCO results, to see how much their AP depends on the constants."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The YAML file to write, for `data.skeleton` in recipes.")
    ] = None,
) -> None:
    """Estimate OKS constants: how far annotators are off, by COCO's definition."""
    import math
    from dataclasses import replace

    import yaml
    from rich.table import Table

    from hrpose.analysis.sigmas import LIMB_SHARE, ap_by_factor, from_limbs, from_repeats
    from hrpose.cli.console import plain_console
    from hrpose.data.coco import load_persons
    from hrpose.data.persons import PersonTable
    from hrpose.data.skeleton_file import complete_skeleton
    from hrpose.files import write_atomically

    if out is not None and out.exists():
        raise UserError(f"{out}: exists, and may have been corrected by hand; remove it first")

    def load(path: Path) -> PersonTable:
        table = load_persons(path)
        if not len(table):
            raise UserError(f"{path}: expected people with labelled keypoints, found none")
        if skeleton is None:
            return table
        return replace(table, skeleton=complete_skeleton(table.skeleton, skeleton))

    tables = [load(path) for path in annotations]
    if len(tables) > 1 or truth is not None:
        if limb_share is not None:
            raise UserError("--limb-share: is for one file alone; leave it out, or give one file")
        estimate = from_repeats(tables, None if truth is None else load(truth))
    else:
        estimate = from_limbs(tables[0], limb_share or LIMB_SHARE)
    console = plain_console(100)
    shown = Table(title=estimate.method)
    for name in ("keypoint", "sigma", "95 % from", "to", "people", "so far"):
        shown.add_column(name, justify="left" if name == "keypoint" else "right")
    known = estimate.skeleton.has_sigmas
    for joint, name in enumerate(estimate.skeleton.keypoints):
        values = (estimate.sigmas[joint], estimate.low[joint], estimate.high[joint])
        numbers = ["-" if math.isnan(value) else f"{value:.4f}" for value in values]
        so_far = f"{estimate.skeleton.sigmas[joint]:.3f}" if known else "-"
        shown.add_row(name, *numbers, str(estimate.people[joint]), so_far)
    console.print(shown)
    if results is not None:
        figures = Table(title=f"AP of {results.name} with these constants times a factor")
        for name in ("times", "AP", "AP50", "AP75"):
            figures.add_column(name, justify="right")
        for factor, scores in ap_by_factor(estimate, truth or annotations[0], results):
            values = (scores.AP, scores.AP50, scores.AP75)
            figures.add_row(f"{factor:g}", *(f"{value:.3f}" for value in values))
        console.print(figures)
    if out is not None:
        block = yaml.safe_dump({"sigmas": estimate.known()}, sort_keys=False, allow_unicode=True)
        write_atomically(out, f"# {estimate.method}\n{block}")
        typer.echo(f"wrote {out}")
