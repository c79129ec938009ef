"""`hrpose export`, `quantize` and `summary`: networks and the files they become."""

from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli.console import plain_console
from hrpose.cli.options import FlipTest, Images, InputSize, parse_input_size
from hrpose.errors import UserError


def summary(
    network: Annotated[
        str, typer.Argument(help="A network (w32, w48), or weights by name (w16-small) or file.")
    ],
    input_size: InputSize = None,
) -> None:
    """Print parameters and multiply-accumulates of each stage of a network, for one crop."""
    from rich.console import Console
    from rich.table import Column, Table

    from hrpose.metadata import Metadata
    from hrpose.models import NETWORKS, HRNet
    from hrpose.models.summary import summarize
    from hrpose.session import open_session
    from hrpose.weights import EMBEDDED, find

    # `w16-small` is both: the weights say what they are used with.
    only_network = network in NETWORKS and network not in EMBEDDED
    metadata = (
        Metadata(network, (192, 256)) if only_network else open_session(find(network)).metadata
    )
    input_wh = parse_input_size(input_size) or metadata.input_wh
    model = HRNet.from_name(metadata.network, len(metadata.skeleton))
    stages = summarize(model, input_wh)
    table = Table(
        "stage",
        Column("parameters", justify="right"),
        Column("GMACs", justify="right"),
        title=f"{metadata.network}: {model.num_keypoints} keypoints, {input_wh[0]}x{input_wh[1]}",
    )
    for cost in stages:
        table.add_row(cost.stage, f"{cost.parameters:,}", f"{cost.macs / 1e9:.3f}")
    table.add_section()
    parameters, macs = sum(c.parameters for c in stages), sum(c.macs for c in stages)
    table.add_row("all", f"{parameters:,}", f"{macs / 1e9:.3f}")
    Console().print(table)


def export(
    weights: Annotated[
        str,
        typer.Option(
            help="Trained weights: a file (.safetensors, .ckpt) or a name (see `hrpose weights "
            "list`; hf:owner/name@revision)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="ONNX file to write.")],
) -> None:
    """Export weights to ONNX; the result is compared with PyTorch before it is written."""
    from hrpose.api import export
    from hrpose.models.export import DetectorReport

    report = export(weights, out)
    if isinstance(report, DetectorReport):
        typer.echo(
            f"wrote {report.path}: equal to PyTorch within {report.difference:.1e}; with weights "
            f"rounded to float16, as they are in the file, within {report.file_difference:.1e}"
        )
        return
    typer.echo(
        f"wrote {report.path}: heatmaps equal to PyTorch's within "
        f"{report.heatmap_difference:.1e} standard deviations, keypoints within "
        f"{report.keypoint_difference:.1e} px, on {report.crops} crops"
    )


def quantize(
    weights: Annotated[str, typer.Argument(help="A name, or an ONNX file of `hrpose export`.")],
    out: Annotated[Path, typer.Argument(help="ONNX file to write.")],
    annotations: Annotated[Path, typer.Option(help="COCO keypoints JSON to measure the AP on.")],
    images: Images,
    calibration_annotations: Annotated[
        Path | None, typer.Option(help="COCO keypoints JSON for calibration; by default the same.")
    ] = None,
    calibration_images: Annotated[str | None, typer.Option(help="Images for calibration.")] = None,
    persons: Annotated[int, typer.Option(min=1, help="Persons used for calibration.")] = 200,
    most_drop: Annotated[
        float, typer.Option(min=0, max=1, help="The largest accepted drop of AP.")
    ] = 0.01,
    flip_test: FlipTest = False,
) -> None:
    """Quantize weights to 8 bits; written only where the AP drops by no more than --most-drop."""
    from rich.table import Table

    from hrpose import weights as store
    from hrpose.evaluation.quantize import quantize

    if (calibration_annotations is None) != (calibration_images is None):
        raise UserError(
            "--calibration-annotations and --calibration-images go together", code="option-conflict"
        )
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
        persons=persons,
        most_drop=most_drop,
        flip_test=flip_test,
    )
    table = Table(
        title=f"{weights} on {annotations.name}, ground-truth boxes, calibrated on "
        f"{report.calibrated_on} persons"
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
