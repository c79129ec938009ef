"""`hrpose verify`: this installation and its weights against the official code's numbers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose.cli.console import given, progress
from hrpose.cli.options import MODEL, FlipTestOfWeights, ImagesIfAny

if TYPE_CHECKING:
    from hrpose.evaluation.parity.comparisons import Certificate, Check


# As `hrpose.evaluation` calls them, which cannot be imported without the train extra.
GROUND_TRUTH, DETECTOR = "ground-truth", "detector"
TOLERANCE = 0.001


def verify(
    context: typer.Context,
    golden: Annotated[
        Path | None, typer.Option(help="Golden vectors; by default those in the package.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the certificate.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Weights to check too: a name or a file.", rich_help_panel=MODEL),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="The original of exported --weights, to compare with.", rich_help_panel=MODEL
        ),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(help="A data set for --weights: COCO keypoints JSON.", rich_help_panel=MODEL),
    ] = None,
    images: ImagesIfAny = None,
    boxes: Annotated[
        str, typer.Option(help="ground-truth, or a COCO detections file.", rich_help_panel=MODEL)
    ] = GROUND_TRUTH,
    published: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="The published AP (or PCKh) of --weights.", rich_help_panel=MODEL
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="The largest accepted difference from it.", rich_help_panel=MODEL
        ),
    ] = TOLERANCE,
    flip_test: FlipTestOfWeights = True,
) -> None:
    """Compare this installation with numbers of the official code; exit code 1 if they differ.

    With --weights, also a model with its published score, or an exported model with its original.
    """
    from rich.console import Console

    from hrpose.errors import UserError
    from hrpose.evaluation.parity.comparisons import Certificate, verify
    from hrpose.evaluation.parity.golden import Golden
    from hrpose.io import write_atomically

    about_data = ("boxes", "tolerance")
    for name in ("against", "annotations", "images", "published", "flip_test", *about_data):
        if given(context, name) and weights is None:
            raise UserError(
                f"--{name.replace('_', '-')}: needs weights; add --weights", code="option-conflict"
            )
    if (annotations is None) != (images is None):
        raise UserError(
            "--annotations and --images go together; found only one of them", code="option-conflict"
        )
    for name in about_data:
        if given(context, name) and annotations is None:
            raise UserError(
                f"--{name}: needs a data set; add --annotations and --images",
                code="option-conflict",
            )
    if boxes == DETECTOR:
        raise UserError(
            f"--boxes: expected {GROUND_TRUTH} or a COCO detections file, found {boxes}; "
            "give a file",
            code="option-invalid",
        )
    vectors = Golden.open(golden)
    with Console(stderr=True).status("comparing with the golden vectors"):
        certificate = verify(vectors)
    if weights is not None:
        data = None if annotations is None or images is None else (annotations, images, boxes)
        more = _model(weights, against, data, published, tolerance, flip_test)
        certificate = Certificate((*certificate.checks, *more), certificate.not_run)
    _show(certificate, vectors.is_part)
    if out is not None:
        write_atomically(out, certificate.to_json() + "\n")
        typer.echo(f"wrote {out}")
    if not certificate.equal:
        raise typer.Exit(1)


def _model(
    weights: str,
    against: str | None,
    data: tuple[Path, str, str] | None,
    published: float | None,
    tolerance: float,
    flip_test: bool,
) -> "list[Check]":
    from hrpose.api import load
    from hrpose.errors import UserError
    from hrpose.evaluation.parity.comparisons import Check
    from hrpose.evaluation.parity.models import (
        compare_models,
        persons_of,
        primary_metric,
        synthetic_persons,
    )
    from hrpose.weights.registry import RELEASED

    if published is None and against is None and weights in RELEASED:
        published = RELEASED[weights].score
    if published is not None and data is None:
        raise UserError(
            f"--weights {weights}: to measure its score, add --annotations and --images",
            code="option-conflict",
        )
    if published is None and against is None:
        raise UserError(
            f"--weights {weights}: add --published AP to compare with, or --against the weights "
            "it was exported from",
            code="option-conflict",
        )
    checks: list[Check] = []
    found = load(weights, detector="none", flip_test=flip_test, batch_size=32)
    expected = None if published is None else ("published", published)
    with progress("images") as show:
        name = Path(weights).name
        if against is not None:
            origin = load(against, detector="none", flip_test=flip_test, batch_size=32)
            images = synthetic_persons() if data is None else persons_of(*data[:2])
            checks += compare_models(name, found, origin, images)
            if data is not None and expected is None:
                expected = (Path(against).name, primary_metric(origin, *data, progress=show)[1])
        if data is not None and expected is not None:
            what, value = primary_metric(found, *data, progress=show)
            label = f"{what}: {value:.4f}, {expected[0]} {expected[1]:.4f}"
            checks.append(Check(label, name, abs(value - expected[1]), tolerance))
    return checks


def _show(certificate: "Certificate", is_part: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from hrpose.evaluation.parity.comparisons import library_versions

    table = Table(
        "what",
        Column("on", no_wrap=True),
        Column("difference", justify="right", no_wrap=True),
        Column("at most", justify="right", no_wrap=True),
        Column("equal", no_wrap=True),
    )
    for check in certificate.checks:
        table.add_row(
            escape(check.what),
            escape(check.on),
            f"{check.difference:.1e} {check.unit}".strip() if check.difference else "0",
            f"{check.tolerance:.0e}" if check.tolerance else "0",
            "[green]yes[/]" if check.equal else "[bold red]NO[/]",
        )
    console = Console(width=max(100, Console().width), highlight=False)
    console.print(table)
    for what, why in certificate.not_run:
        console.print(f"not run: {what} ({why})", markup=False)
    versions = (f"{name} {version}" for name, version in library_versions().items())
    console.print(", ".join(versions), soft_wrap=True)
    if is_part:
        console.print("golden vectors: the part that the package carries; --golden DIR for others")
    unequal = sum(not check.equal for check in certificate.checks)
    verdict = "all equal" if not unequal else f"{unequal} not equal"
    console.print(f"{len(certificate.checks)} comparisons, {verdict}")
