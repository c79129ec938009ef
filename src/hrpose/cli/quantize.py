"""`hrpose quantize`."""

from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli.options import FlipTest, Images
from hrpose.errors import UserError


def quantize(
    weights: Annotated[str, typer.Argument(help="A name, or an ONNX file of `hrpose export`.")],
    out: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    annotations: Annotated[Path, typer.Option(help="COCO keypoints JSON of people who judge.")],
    images: Images,
    calibration_annotations: Annotated[
        Path | None, typer.Option(help="Other people, whose crops give the ranges of values.")
    ] = None,
    calibration_images: Annotated[str | None, typer.Option(help="Their pictures.")] = None,
    people: Annotated[int, typer.Option(min=1, help="How many of them.")] = 200,
    most_drop: Annotated[
        float, typer.Option(min=0, max=1, help="The most AP that may be lost.")
    ] = 0.01,
    flip_test: FlipTest = False,
) -> None:
    """Write weights with eight-bit arithmetic, if they are nearly as good."""
    from rich.table import Table

    from hrpose import weights as store
    from hrpose.cli.console import plain_console
    from hrpose.quantization import quantize

    if (calibration_annotations is None) != (calibration_images is None):
        raise UserError("--calibration-annotations and --calibration-images go together")
    calibration = (
        None
        if calibration_annotations is None or calibration_images is None
        else (calibration_annotations, calibration_images)
    )
    report = quantize(
        store.find(weights),
        out,
        annotations,
        images,
        calibration=calibration,
        people=people,
        most_drop=most_drop,
        flip_test=flip_test,
    )
    table = Table(
        title=f"{weights} on {annotations.name}, ground-truth boxes, calibrated on "
        f"{report.calibrated_on} people"
        + (" of the same set" if calibration is None else f" of {calibration[0].name}")
    )
    for name in ("", "float", "8 bits", "drop"):
        table.add_column(name, justify="left" if not name else "right")
    before, after = report.before, report.after
    for name, value in before.scores.as_dict().items():
        other = after.scores.as_dict()[name]
        table.add_row(name, f"{value:.3f}", f"{other:.3f}", f"{value - other:.3f}")
    table.add_section()
    for name, value, other in zip(
        report.keypoints, before.similarity, after.similarity, strict=True
    ):
        table.add_row(name, f"{value:.3f}", f"{other:.3f}", f"{value - other:.3f}")
    plain_console(100).print(table)
    typer.echo(
        f"wrote {report.path}: {report.bytes_after / 1e6:.2f} MB instead of "
        f"{report.bytes_before / 1e6:.2f}; for each keypoint its mean term of the OKS"
    )
