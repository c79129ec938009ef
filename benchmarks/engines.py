"""The engines on this machine beside ONNX Runtime in float32: one thread, CPU time, and how far
keypoints move.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.rows import Fact, Row
from hrpose import engines, weights
from hrpose.detection.person_detector import builtin_file
from hrpose.estimator import PoseEstimator
from hrpose.geometry import warp
from hrpose.metadata import Metadata
from hrpose.models import checkpoint
from hrpose.models.export import export
from hrpose.models.hrnet import HRNet
from hrpose.session import OnnxSession, open_network
from hrpose.synthetic import render_image

PERSONS = 16
BASELINE = "ONNX Runtime, fp32"


def rows() -> Iterator[Row | Fact]:
    """Nothing where OpenVINO is not installed. The weights of W32 are random."""
    with tempfile.TemporaryDirectory() as name:
        w32 = Path(name) / "w32.onnx"
        write_w32(w32)
        yield from _network("w16-small", weights.find("w16-small"), (PERSONS, 192, 128, 3))
        yield from _network("the person detector on an image", builtin_file(), (1, 320, 320, 3))
        yield from _network("W32 256x192", w32, (PERSONS, 256, 192, 3))
        for what, file in (("w16-small", weights.find("w16-small")), ("W32 256x192", w32)):
            yield from _distance(what, file)


def _network(what: str, file: Path, shape: tuple[int, ...]) -> Iterator[Row]:
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    plain = open_network(file, threads=1, device="cpu")
    feeds = {plain.inputs[0].name: images}
    for precision in engines.openvino_precisions("CPU"):
        fast = open_network(file, threads=1, device="openvino", precision=precision)
        yield Row(
            f"{what}, {fast.engine}",
            BASELINE,
            lambda fast=fast: fast(feeds),  # type: ignore[misc]
            lambda: plain(feeds),
            rounds=5,
            per=len(images),
        )


def _distance(what: str, file: Path) -> Iterator[Fact]:
    """How far the keypoints of synthetic persons are from those of float32."""
    plain = PoseEstimator(OnnxSession(file, device="cpu"))
    rng = np.random.default_rng(0)
    crops = []
    for _ in range(2 * PERSONS):
        drawn = render_image(rng, (320, 320), 1)
        crops.append(warp(drawn.image, plain.metadata.crop(drawn.boxes[0])))
    expected, _ = plain.keypoints(np.stack(crops))
    for precision in engines.openvino_precisions("CPU"):
        fast = PoseEstimator(OnnxSession(file, device="openvino", precision=precision))
        found, _ = fast.keypoints(np.stack(crops))
        off = np.linalg.norm(found - expected, axis=-1) / plain.metadata.codec.stride
        yield Fact(
            f"{what}, {fast.engine}: keypoints from float32, pixels of the heatmap",
            f"median {np.median(off):.4f}, 90 % below {np.quantile(off, 0.9):.4f}",
            "median under .05",
        )


def write_w32(file: Path) -> None:
    """W32 at 256x192 with random weights, as .onnx, and as .safetensors beside it."""
    torch.manual_seed(0)
    network = HRNet.from_name("w32").eval()
    for parameter in network.parameters():
        if parameter.ndim == 4:  # the published initialization fades to denormal numbers
            torch.nn.init.kaiming_normal_(parameter)
    source = file.with_suffix(".safetensors")
    checkpoint.save(source, network, Metadata("w32", (192, 256)))
    export(source, file)
