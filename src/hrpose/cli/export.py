"""`hrpose export`."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    weights: Annotated[Path, typer.Option(help="Trained weights (.safetensors or .ckpt).")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")],
) -> None:
    """Write weights as ONNX, proven equal to PyTorch before it is written."""
    from hrpose.network.finder import read_passport
    from hrpose.onnx_export import export, export_finder

    if read_passport(weights) is not None:
        written = export_finder(weights, out)
        typer.echo(
            f"wrote {written.path}: equal to PyTorch within {written.difference:.1e}; with weights "
            f"rounded to float16, as they are in the file, within {written.file_difference:.1e}"
        )
        return
    report = export(weights, out)
    typer.echo(
        f"wrote {report.path}: heatmaps equal to PyTorch's within "
        f"{report.heatmap_difference:.1e} standard deviations, keypoints within "
        f"{report.keypoint_difference:.1e} px, on {report.crops} crops"
    )
