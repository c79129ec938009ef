"""Export to ONNX: pose models and person detectors, proven equal to PyTorch before writing."""

import json
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from hrpose.detection.person_detector import read_maps
from hrpose.engines import onnxruntime
from hrpose.errors import UserError
from hrpose.metadata import (
    CHECKSUM_KEY,
    FOLDED_KEY,
    DetectorMetadata,
    Metadata,
    read_metadata,
    write_with_metadata,
)
from hrpose.models import checkpoint
from hrpose.models.checkpoint import folded_names
from hrpose.models.hrnet import Normalize
from hrpose.models.onnx_graph import OPSET

# Smaller tensors (biases, constants) stay float32: halving them would save nothing.
_MIN_HALVED_SIZE = 256


def to_onnx(
    model: nn.Module,
    example: Tensor,
    *,
    network: nn.Module,
    input_name: str,
    output_names: list[str],
    dynamic: Mapping[int, Any],
) -> onnx.ModelProto:
    """The graph of `model`, checked. `dynamic` are the dimensions that are free.

    Its metadata map the convolutions of `network`, a part of the model, to tensors of the graph.
    """
    with warnings.catch_warnings():
        # The exporter warns about its internals; what counts is compared afterwards.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=[input_name],
            output_names=output_names,
            dynamic_shapes={input_name: dict(dynamic)},
        )
    assert program is not None
    proto = program.model_proto
    # The exporter stores stack traces with paths of this machine; they must not be published.
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        del value.metadata_props[:]
    for initializer in proto.graph.initializer:
        del initializer.metadata_props[:]
    del proto.graph.metadata_props[:]
    names = json.dumps(folded_names(network, proto.graph))
    helper.set_model_props(proto, {FOLDED_KEY: names})
    onnx.checker.check_model(proto)
    return proto


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its weights stored as float16, and cast to float32 where they are used.

    It computes in float32 as before, with weights rounded to 11 bits; ONNX Runtime casts once,
    when it loads the file, which is about half as large.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    casts = []
    for initializer in half.graph.initializer:
        weights = numpy_helper.to_array(initializer)
        if weights.dtype != np.float32 or weights.size < _MIN_HALVED_SIZE:
            continue
        name = initializer.name
        initializer.CopyFrom(numpy_helper.from_array(weights.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *half.graph.node]
    del half.graph.node[:]
    half.graph.node.extend(nodes)
    texts = {text.key: text.value for text in half.metadata_props if text.key != CHECKSUM_KEY}
    del half.metadata_props[:]
    helper.set_model_props(half, texts)
    onnx.checker.check_model(half)
    return half


def smooth_images(batch: int, height: int, width: int) -> Tensor:
    """Random smooth uint8 images (n, h, w, 3) for comparisons.

    With noise every heatmap would be near zero, which proves little.
    """
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (batch, 3, 8, 6)).astype(np.float32))
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return smooth.clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8).contiguous()


# In units of the heatmaps' standard deviation, as for the golden vectors of the reference.
TOLERANCE = 1e-4
# In crop pixels. The quarter offset is exact; a Taylor step divides small numbers of float32.
KEYPOINT_TOLERANCE = 1e-3
# Of heatmaps once the weights are rounded to float16, on these images; peaks are ten and more high.
HALF_HEATMAP_TOLERANCE = 3e-1


class CropsToKeypoints(nn.Module):
    """The exported pose model: uint8 crops (n, h, w, 3) to heatmaps (n, k, h/4, w/4) and keypoints
    (n, k, 3), which are x and y in crop pixels, and the peak.
    """

    def __init__(self, network: nn.Module, metadata: Metadata) -> None:
        super().__init__()
        self.normalize = Normalize(metadata.mean, metadata.std)
        self.network = network
        self.codec = metadata.codec

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        heatmaps = self.network(self.normalize(crops))
        points, scores = self.codec.decode(heatmaps)
        return heatmaps, torch.cat([points, scores[..., None]], dim=-1)


@dataclass(frozen=True, slots=True)
class ExportReport:
    """An exported pose model and its greatest differences from PyTorch.

    Of a heatmap's value in standard deviations of the heatmaps, and of a keypoint (x and y in crop
    pixels, and its score), on so many `crops`. `half_difference` is that of heatmaps after the
    weights were rounded to float16, None where they were not.
    """

    path: Path
    heatmap_difference: float
    keypoint_difference: float
    crops: int
    half_difference: float | None = None


def export_pose(weights: Path, out: Path, half: bool = False) -> ExportReport:
    """Write `weights` (.safetensors or .ckpt) as ONNX, proven equal to PyTorch first.

    Input `crops`: uint8 RGB (batch, h, w, 3), any batch size. Outputs `heatmaps` and `keypoints`.
    `half` then rounds the weights to float16, in which they are stored, and compares again. Raises
    UserError, and writes nothing, where ONNX Runtime's results differ from PyTorch's.
    """
    if out.suffix != ".onnx":
        raise UserError(f"{out}: expected a name that ends with .onnx", code="option-invalid")
    network, metadata = checkpoint.load(weights)
    model = CropsToKeypoints(network, metadata).eval()
    width, height = metadata.input_wh
    graph = to_onnx(
        model,
        torch.zeros((2, height, width, 3), dtype=torch.uint8),
        network=network,
        input_name="crops",
        output_names=["heatmaps", "keypoints"],
        dynamic={0: torch.export.Dim("batch")},
    )
    content = graph.SerializeToString()
    report = _compare(model, metadata, content, out)
    # Written so that NaN is not equal.
    equal = report.heatmap_difference <= TOLERANCE
    if not (equal and report.keypoint_difference <= KEYPOINT_TOLERANCE):
        raise UserError(
            f"{weights}: ONNX Runtime differs from PyTorch by {report.heatmap_difference:.1e} "
            f"standard deviations (at most {TOLERANCE:.0e} expected) and by "
            f"{report.keypoint_difference:.1e} px (at most {KEYPOINT_TOLERANCE:.0e}); "
            "nothing was written",
            code="export-differs",
        )
    if half:
        content = halved(graph).SerializeToString()
        rounded = _compare(model, metadata, content, out)
        report = replace(report, half_difference=rounded.heatmap_difference)
        if not rounded.heatmap_difference <= HALF_HEATMAP_TOLERANCE:
            raise UserError(
                f"{weights}: with float16 weights the heatmaps differ by "
                f"{rounded.heatmap_difference:.1e} standard deviations (at most "
                f"{HALF_HEATMAP_TOLERANCE:.0e} expected); nothing was written",
                code="export-differs",
            )
    write_with_metadata(out, content, metadata)
    return report


def _compare(
    model: CropsToKeypoints, metadata: Metadata, content: bytes, out: Path, batch: int = 3
) -> ExportReport:
    session = onnxruntime().InferenceSession(content, providers=["CPUExecutionProvider"])
    width, height = metadata.input_wh
    crops = smooth_images(batch, height, width)
    with torch.inference_mode():
        heatmaps, keypoints = (tensor.numpy() for tensor in model(crops))
    found_heatmaps, found_keypoints = session.run(
        ["heatmaps", "keypoints"], {"crops": crops.numpy()}
    )
    # A keypoint may jump only where two pixels of its heatmap are equal to rounding; decode the
    # very heatmaps that the file gave, so that the decoding in the graph is what is compared.
    points, scores = metadata.codec.decode(found_heatmaps)
    difference = np.abs(found_keypoints - np.concatenate([points, scores[..., None]], axis=-1))
    spread = max(float(heatmaps.std()), 1e-12)
    return ExportReport(
        out,
        heatmap_difference=float(np.abs(found_heatmaps - heatmaps).max()) / spread,
        keypoint_difference=float(difference.max()),
        crops=len(keypoints),
    )


# Greatest differences of a center's probability and of a distance relative to its length: of the
# graph from PyTorch, and of the file, whose weights are rounded to float16.
DETECTOR_TOLERANCE = 1e-4
HALF_TOLERANCE = 2e-2


class ImagesToMaps(nn.Module):
    """The exported person detector: uint8 images (n, h, w, 3), h and w multiples of 32, to `heat`
    (n, h/4, w/4) in [0, 1] and `distances` (n, 4, h/4, w/4) in input pixels.
    """

    def __init__(self, network: nn.Module, metadata: DetectorMetadata) -> None:
        super().__init__()
        self.normalize = Normalize(metadata.mean, metadata.std)
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, distances = read_maps(self.network(self.normalize(images)))
        return torch.sigmoid(logits), distances


@dataclass(frozen=True, slots=True)
class DetectorReport:
    """An exported person detector and its greatest differences from PyTorch.

    Of probabilities, and of distances relative to their length: before the weights were rounded,
    and of the file.
    """

    path: Path
    difference: float
    file_difference: float


def export_detector(weights: Path, out: Path) -> DetectorReport:
    """Write a person detector (.safetensors) as ONNX with float16 weights, proven equal first.

    Input `images`: uint8 RGB (batch, h, w, 3), any batch size, h and w multiples of 32. Outputs
    `heat` and `distances`. Raises UserError, and writes nothing, where ONNX Runtime's results
    differ from PyTorch's.
    """
    if out.suffix != ".onnx":
        raise UserError(f"{out}: expected a name that ends with .onnx", code="option-invalid")
    network, metadata = checkpoint.load_detector(weights)
    model = ImagesToMaps(network, metadata).eval()
    cells_high, cells_wide = torch.export.Dim("cells_high"), torch.export.Dim("cells_wide")
    graph = to_onnx(
        model,
        torch.zeros((2, 96, 128, 3), dtype=torch.uint8),
        network=network,
        input_name="images",
        output_names=["heat", "distances"],
        dynamic={0: torch.export.Dim("batch"), 1: 32 * cells_high, 2: 32 * cells_wide},
    )
    content: bytes = halved(graph).SerializeToString()
    report = DetectorReport(
        out,
        _difference(model, graph.SerializeToString(), metadata.side),
        _difference(model, content, metadata.side),
    )
    # Written so that NaN is not equal.
    if not (report.difference <= DETECTOR_TOLERANCE and report.file_difference <= HALF_TOLERANCE):
        raise UserError(
            f"{weights}: ONNX Runtime differs from PyTorch by {report.difference:.1e} (at most "
            f"{DETECTOR_TOLERANCE:.0e} expected), with float16 weights by "
            f"{report.file_difference:.1e} "
            f"(at most {HALF_TOLERANCE:.0e}); nothing was written",
            code="export-differs",
        )
    write_with_metadata(out, content, metadata)
    return report


def _difference(model: ImagesToMaps, content: bytes, side: int) -> float:
    session = onnxruntime().InferenceSession(content, providers=["CPUExecutionProvider"])
    differences = []
    # A square, and what a wide image becomes.
    for batch, height, width in ((1, side, side), (2, 32, side)):
        images = smooth_images(batch, height, width)
        with torch.inference_mode():
            heat, distances = (maps.numpy() for maps in model(images))
        found_heat, found = session.run(["heat", "distances"], {"images": images.numpy()})
        relative = np.abs(found / distances - 1)
        differences += [np.abs(found_heat - heat).max(), relative.max()]
    # NumPy's maximum: Python's would ignore NaN.
    return float(np.max(differences))


def export(weights: Path, out: Path, half: bool = False) -> ExportReport | DetectorReport:
    """Write a pose model or a person detector as ONNX, by `export_pose` or `export_detector`.

    A detector's weights are always stored as float16. Raises UserError, and writes nothing, as
    these do.
    """
    if weights.suffix == ".onnx":
        raise UserError(
            f"{weights}: is ONNX already; expected .safetensors or .ckpt", code="weights-unsuitable"
        )
    if weights.suffix == ".safetensors" and isinstance(read_metadata(weights), DetectorMetadata):
        return export_detector(weights, out)
    return export_pose(weights, out, half)
