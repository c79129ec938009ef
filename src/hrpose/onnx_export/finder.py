"""The finder as an ONNX file for `hrpose.detection.finder`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn

from hrpose.errors import UserError
from hrpose.metadata import DetectorMetadata, write_with_metadata
from hrpose.network import finder
from hrpose.network.preprocess import Normalise
from hrpose.onnx_export.graph import halved, smooth_pictures, to_onnx

# Greatest differences of a centre's probability and of a distance relative to its length: of the
# graph from PyTorch, and of the file, whose weights are rounded to float16.
TOLERANCE = 1e-4
HALF_TOLERANCE = 2e-2


class PicturesToMaps(nn.Module):
    """uint8 pictures (n, h, w, 3), h and w multiples of 32, to `heat` (n, h/4, w/4) in [0, 1] and
    `distances` (n, 4, h/4, w/4) in input pixels.
    """

    def __init__(self, network: nn.Module, passport: DetectorMetadata) -> None:
        super().__init__()
        self.normalise = Normalise(passport.mean, passport.std)
        self.network = network

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        logits, distances = finder.read_maps(self.network(self.normalise(pictures)))
        return torch.sigmoid(logits), distances


@dataclass(frozen=True, slots=True)
class FinderReport:
    """What was written, and the greatest differences from PyTorch, of probabilities and of
    distances relative to their length: before the weights were rounded, and of the file.
    """

    path: Path
    difference: float
    file_difference: float


def export_finder(weights: Path, out: Path) -> FinderReport:
    """Write a finder's weights (.safetensors) as ONNX with float16 storage, proven equal first.

    Input `pictures`: any number of any size that is a multiple of 32. Raises UserError, and
    writes nothing, where ONNX Runtime's results differ from PyTorch's.
    """
    if out.suffix != ".onnx":
        raise UserError(f"{out}: expected a name that ends with .onnx")
    network, passport = finder.load(weights)
    model = PicturesToMaps(network, passport).eval()
    cells_high, cells_wide = torch.export.Dim("cells_high"), torch.export.Dim("cells_wide")
    graph = to_onnx(
        model,
        torch.zeros((2, 96, 128, 3), dtype=torch.uint8),
        network=network,
        input_name="pictures",
        output_names=["heat", "distances"],
        dynamic={0: torch.export.Dim("batch"), 1: 32 * cells_high, 2: 32 * cells_wide},
    )
    content: bytes = halved(graph).SerializeToString()
    report = FinderReport(
        out,
        _difference(model, graph.SerializeToString(), passport.side),
        _difference(model, content, passport.side),
    )
    # Written so that NaN is not equal.
    if not (report.difference <= TOLERANCE and report.file_difference <= HALF_TOLERANCE):
        raise UserError(
            f"{weights}: ONNX Runtime differs from PyTorch by {report.difference:.1e} (at most "
            f"{TOLERANCE:.0e} expected), with float16 weights by {report.file_difference:.1e} "
            f"(at most {HALF_TOLERANCE:.0e}); nothing was written"
        )
    write_with_metadata(out, content, passport)
    return report


def _difference(model: PicturesToMaps, content: bytes, side: int) -> float:
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    differences = []
    # A square, and what a wide picture becomes.
    for batch, height, width in ((1, side, side), (2, 32, side)):
        pictures = smooth_pictures(batch, height, width)
        with torch.inference_mode():
            heat, distances = (maps.numpy() for maps in model(pictures))
        found_heat, found = session.run(["heat", "distances"], {"pictures": pictures.numpy()})
        relative = np.abs(found / distances - 1)
        differences += [np.abs(found_heat - heat).max(), relative.max()]
    # NumPy's greatest: Python's would pass over NaN.
    return float(np.max(differences))
