"""`hrpose verify`: this installation and its weights beside the official code's numbers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose.cli.options import FlipTestOfWeights, ImagesIfAny

if TYPE_CHECKING:
    from hrpose.evaluation.parity.certificate import Certificate, Check


# As `hrpose.evaluation` calls them, which cannot be imported without the train extra.
GROUND_TRUTH, DETECTOR = "ground-truth", "detector"
TOLERANCE = 0.001


def verify(
    golden: Annotated[
        Path | None, typer.Option(help="Golden vectors, instead of those in the package.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the certificate goes, as JSON.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weights to check too: a name or a file.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="What an exported --weights came from, to compare with.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="A data set for --weights: COCO keypoints JSON.")
    ] = None,
    images: ImagesIfAny = None,
    boxes: Annotated[
        str, typer.Option(help="ground-truth, or a COCO detections file.")
    ] = GROUND_TRUTH,
    published: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="The AP (or PCKh) that --weights should reach."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="How far from it is still equal.")
    ] = TOLERANCE,
    flip_test: FlipTestOfWeights = True,
) -> None:
    """Compare this installation with the official code's numbers; exit code 1 if not equal.

    With --weights also a model: against the figure published for it, or an exported model against
    its origin.
    """
    from rich.console import Console

    from hrpose.errors import UserError
    from hrpose.evaluation.parity.certificate import Certificate
    from hrpose.evaluation.parity.comparisons import verify
    from hrpose.evaluation.parity.golden import Golden
    from hrpose.files import write_atomically

    about_data = {"--boxes": boxes != GROUND_TRUTH, "--tolerance": tolerance != TOLERANCE}
    about_weights = {
        "--against": against is not None,
        "--annotations": annotations is not None,
        "--images": images is not None,
        "--published": published is not None,
        "--no-flip-test": not flip_test,
        **about_data,
    }
    for option, was_given in about_weights.items():
        if was_given and weights is None:
            raise UserError(f"{option}: is about weights; add --weights")
    if (annotations is None) != (images is None):
        raise UserError("--annotations and --images go together; found only one of them")
    for option, was_given in about_data.items():
        if was_given and annotations is None:
            raise UserError(f"{option}: is about a data set; add --annotations and --images")
    if boxes == DETECTOR:
        raise UserError(
            f"--boxes: expected {GROUND_TRUTH} or a COCO detections file, found {boxes}; "
            "give a file"
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
    from hrpose.cli.console import progress
    from hrpose.errors import UserError
    from hrpose.evaluation.parity.certificate import Check
    from hrpose.evaluation.parity.models import (
        compare_models,
        drawn_people,
        figure,
        people_of,
    )
    from hrpose.weights.registry import RELEASED

    if published is None and against is None and weights in RELEASED:
        published = RELEASED[weights].score
    if published is not None and data is None:
        raise UserError(
            f"--weights {weights}: to measure its figure, add --annotations and --images"
        )
    if published is None and against is None:
        raise UserError(
            f"--weights {weights}: add --published AP to compare with, or --against the weights "
            "it was exported from"
        )
    checks: list[Check] = []
    found = load(weights, detector="whole", flip_test=flip_test, batch_size=32)
    expected = None if published is None else ("published", published)
    with progress("pictures") as show:
        name = Path(weights).name
        if against is not None:
            origin = load(against, detector="whole", flip_test=flip_test, batch_size=32)
            pictures = drawn_people() if data is None else people_of(*data[:2])
            checks += compare_models(name, found, origin, pictures)
            if data is not None and expected is None:
                expected = (Path(against).name, figure(origin, *data, progress=show)[1])
        if data is not None and expected is not None:
            what, value = figure(found, *data, progress=show)
            label = f"{what}: {value:.4f}, {expected[0]} {expected[1]:.4f}"
            checks.append(Check(label, name, abs(value - expected[1]), tolerance))
    return checks


def _show(certificate: "Certificate", is_part: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from hrpose.evaluation.parity.certificate import library_versions

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
