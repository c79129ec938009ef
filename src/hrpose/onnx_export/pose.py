"""A pose network as an ONNX file for `hrpose.session`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hrpose.errors import UserError
from hrpose.metadata import Metadata, write_with_metadata
from hrpose.network import checkpoint
from hrpose.network.preprocess import Normalise
from hrpose.onnx_export.graph import smooth_pictures, to_onnx

# In units of the heatmaps' standard deviation, as for the golden vectors of the reference.
TOLERANCE = 1e-4
# In crop pixels. The quarter offset is exact; a Taylor step divides small numbers of float32.
KEYPOINT_TOLERANCE = 1e-3


class CropsToKeypoints(nn.Module):
    """uint8 crops (n, h, w, 3) to heatmaps (n, k, h/4, w/4) and keypoints (n, k, 3): x, y in
    crop pixels, score.
    """

    def __init__(self, network: nn.Module, passport: Metadata) -> None:
        super().__init__()
        self.normalise = Normalise(passport.mean, passport.std)
        self.network = network
        self.codec = passport.codec

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        heatmaps = self.network(self.normalise(crops))
        points, scores = self.codec.decode(heatmaps)
        return heatmaps, torch.cat([points, scores[..., None]], dim=-1)


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written, and how far it is from PyTorch: the greatest difference of a heatmap
    value (in standard deviations of the heatmaps) and of a keypoint (x and y in crop pixels, and
    its score).
    """

    path: Path
    heatmap_difference: float
    keypoint_difference: float
    crops: int


def export(weights: Path, out: Path) -> ExportReport:
    """Write `weights` (.safetensors or .ckpt) as ONNX, proven equal to PyTorch first.

    Input `crops`: uint8 RGB (batch, h, w, 3), any batch size. Outputs `heatmaps` and `keypoints`.
    The passport goes into the file's metadata. Raises UserError, and writes nothing, where ONNX
    Runtime's results differ from PyTorch's.
    """
    if out.suffix != ".onnx":
        raise UserError(f"{out}: expected a name that ends with .onnx")
    network, passport = checkpoint.load(weights)
    model = CropsToKeypoints(network, passport).eval()
    width, height = passport.input_wh
    graph = to_onnx(
        model,
        torch.zeros((2, height, width, 3), dtype=torch.uint8),
        network=network,
        input_name="crops",
        output_names=["heatmaps", "keypoints"],
        dynamic={0: torch.export.Dim("batch")},
    )
    content = graph.SerializeToString()
    report = _compare(model, passport, content, out)
    # Written so that NaN is not equal.
    equal = report.heatmap_difference <= TOLERANCE
    if not (equal and report.keypoint_difference <= KEYPOINT_TOLERANCE):
        raise UserError(
            f"{weights}: ONNX Runtime differs from PyTorch by {report.heatmap_difference:.1e} "
            f"standard deviations (at most {TOLERANCE:.0e} expected) and by "
            f"{report.keypoint_difference:.1e} px (at most {KEYPOINT_TOLERANCE:.0e}); "
            "nothing was written"
        )
    write_with_metadata(out, content, passport)
    return report


def _compare(
    model: CropsToKeypoints, passport: Metadata, content: bytes, out: Path, batch: int = 3
) -> ExportReport:
    import onnxruntime as ort

    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    width, height = passport.input_wh
    crops = smooth_pictures(batch, height, width)
    with torch.inference_mode():
        heatmaps, keypoints = (tensor.numpy() for tensor in model(crops))
    found_heatmaps, found_keypoints = session.run(
        ["heatmaps", "keypoints"], {"crops": crops.numpy()}
    )
    # A keypoint may jump only where two pixels of its heatmap are equal to rounding; decode the
    # very heatmaps that the file gave, so that the decoding in the graph is what is compared.
    points, scores = passport.codec.decode(found_heatmaps)
    difference = np.abs(found_keypoints - np.concatenate([points, scores[..., None]], axis=-1))
    spread = max(float(heatmaps.std()), 1e-12)
    return ExportReport(
        out,
        heatmap_difference=float(np.abs(found_heatmaps - heatmaps).max()) / spread,
        keypoint_difference=float(difference.max()),
        crops=len(keypoints),
    )
