"""`hrpose export`."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    weights: Annotated[Path, typer.Option(help="Trained weights (.safetensors or .ckpt).")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")],
) -> None:
    """Write weights as ONNX, proven equal to PyTorch before it is written."""
    from hrpose.onnx_export import export

    report = export(weights, out)
    typer.echo(
        f"wrote {report.path}: heatmaps equal to PyTorch's within "
        f"{report.heatmap_difference:.1e} standard deviations, keypoints within "
        f"{report.keypoint_difference:.1e} px, on {report.crops} crops"
    )
