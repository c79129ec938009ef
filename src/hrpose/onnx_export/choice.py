"""Whose weights a file holds decides how it is exported."""

from pathlib import Path

from hrpose.errors import UserError
from hrpose.metadata import DetectorMetadata, read_metadata
from hrpose.onnx_export.finder import FinderReport, export_finder
from hrpose.onnx_export.pose import ExportReport
from hrpose.onnx_export.pose import export as export_pose


def export(weights: Path, out: Path) -> ExportReport | FinderReport:
    """Write the weights of a pose network or of a finder as ONNX: `export_pose`, `export_finder`.

    Raises UserError, and writes nothing, as these do.
    """
    if weights.suffix == ".onnx":
        raise UserError(f"{weights}: is ONNX already; expected .safetensors or .ckpt")
    if weights.suffix == ".safetensors" and isinstance(read_metadata(weights), DetectorMetadata):
        return export_finder(weights, out)
    return export_pose(weights, out)
