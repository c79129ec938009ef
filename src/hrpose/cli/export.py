"""`hrpose export`."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    weights: Annotated[
        str,
        typer.Option(
            help="Trained weights: a file (.safetensors, .ckpt) or a name (one of `hrpose weights "
            "list`, hf:owner/name@revision)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")],
) -> None:
    """Write weights as ONNX, proven equal to PyTorch before it is written."""
    from hrpose.api import export
    from hrpose.onnx_export import FinderReport

    report = export(weights, out)
    if isinstance(report, FinderReport):
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
