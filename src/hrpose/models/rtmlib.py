"""Pose models for rtmlib: an ONNX file that its `Custom(pose_class="ViTPose")` runs unchanged.

Needs `onnx`, not PyTorch. rtmlib (0.0.16) cuts the crop itself, normalizes BGR pixels by a mean in
RGB order, runs the file on one crop, and reads the peaks of its heatmaps: blurred by a Gaussian of
2 pixels, one Newton step on the logarithm, lengths between the centers of the outer pixels. The
file adds to the model

- before it: the inverse of that normalization, and RGB order, which restore the very pixels;
- after it: the decoding by the model's own codec, and heatmaps drawn anew, one Gaussian for each
  keypoint, as high as its score. From these rtmlib reads the same keypoints again. From heatmaps
  of the `gaussian` and `dark` codecs it reads points that are up to a heatmap pixel off
  (docs/guide/deploy.md has the numbers).
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from hrpose.codec import MIN_EXPONENT, decode_taylor
from hrpose.engines import onnxruntime
from hrpose.errors import UserError
from hrpose.metadata import Calibration, Metadata, check_weights, metadata_of, write_with_metadata
from hrpose.models.onnx_graph import OPSET, Array, Graph
from hrpose.models.onnx_pose import SOURCE_KEY
from hrpose.session import open_session

# Of rtmlib's ViTPose: mean and standard deviation, for BGR, and the factor by which boxes grow.
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
PADDING = 1.25
# Crop pixels per pixel of the drawn heatmaps, and their Gaussian in these pixels: so small that
# rtmlib's blur, which is mirrored at the border, seldom reaches it.
_STRIDE, _SIGMA = 2, 1.5
# rtmlib's blur. `hrpose.codec.decode_taylor` has the same where this is the sigma.
_BLUR = 2.0
# The greatest distance in crop pixels, and the greatest difference of scores, of keypoints read
# again from the drawn heatmaps.
TOLERANCE = 1e-2


@dataclass(frozen=True, slots=True)
class RtmlibReport:
    """A file for rtmlib: the size of its input (w, h), the factor by which the model was trained to
    enlarge boxes, and the greatest `difference` of its keypoints from the model's, in crop pixels.
    """

    path: Path
    input_wh: tuple[int, int]
    padding: float
    difference: float


def export_rtmlib(weights: Path, out: Path) -> RtmlibReport:
    """Write an ONNX pose model of hrpose, `weights`, as one that rtmlib runs, compared first.

    Raises UserError, and writes nothing, where the file is none of hrpose or the keypoints differ.
    """
    if out.suffix != ".onnx":
        raise UserError(f"{out}: expected a name that ends with .onnx", code="option-invalid")
    metadata = metadata_of(weights, Metadata)
    content = rtmlib_model(weights).SerializeToString()
    difference = _difference(weights, content, metadata)
    # Written so that NaN is not equal.
    if not difference <= TOLERANCE:
        raise UserError(
            f"{weights}: the keypoints in the file for rtmlib differ by {difference:.1e} px (at "
            f"most {TOLERANCE:.0e} expected); nothing was written",
            code="export-differs",
        )
    write_with_metadata(out, content, None)
    return RtmlibReport(out, metadata.input_wh, metadata.padding, difference)


def rtmlib_model(weights: Path) -> onnx.ModelProto:
    """The pose model of an ONNX file that hrpose runs, as one that rtmlib runs.

    Input `input`: float32 (batch, 3, h, w), normalized as rtmlib does. Output: float32 heatmaps
    (batch, k, h/2, w/2). Raises UserError where the file is not a pose model of hrpose.
    """
    check_weights(weights)
    metadata = metadata_of(weights, Metadata)
    model = onnx.load(weights)
    opset = {each.domain: each.version for each in model.opset_import}.get("")
    if opset != OPSET:
        raise UserError(
            f"{weights}: expected ONNX operators of opset {OPSET}, found {opset}; export the "
            "weights again",
            code="weights-unsuitable",
        )
    crops, drawn = _crops(metadata), _drawn(metadata)
    crops.ir_version = drawn.ir_version = model.ir_version
    del model.metadata_props[:]
    whole = onnx.compose.merge_models(
        crops,
        onnx.compose.add_prefix(model, "model_"),
        io_map=[("crops", "model_crops")],
        outputs=["model_heatmaps"],
    )
    whole = onnx.compose.merge_models(
        whole,
        onnx.compose.add_prefix(drawn, "drawn_"),
        io_map=[("model_heatmaps", "drawn_heatmaps")],
    )
    helper.set_model_props(whole, {SOURCE_KEY: metadata.to_json()})
    whole.producer_name = "hrpose"
    onnx.checker.check_model(whole)
    return whole


def _crops(metadata: Metadata) -> onnx.ModelProto:
    """What rtmlib puts in, as the uint8 RGB crops that the model expects."""
    width, height = metadata.input_wh
    graph = Graph("input", (3, height, width), np.float32)
    xp = graph.namespace
    mean, std = (
        xp.asarray(np.reshape(values, (1, 3, 1, 1)), dtype=np.float32) for values in (_MEAN, _STD)
    )
    bgr = xp.round(graph.input * std + mean)
    rgb = xp.take(bgr, xp.asarray([2, 1, 0], dtype=np.int64), axis=1)
    return graph.model(crops=xp.astype(xp.permute_dims(rgb, (0, 2, 3, 1)), np.uint8))


def _drawn(metadata: Metadata) -> onnx.ModelProto:
    """The model's heatmaps as others, from which rtmlib reads the model's keypoints."""
    columns, rows = metadata.heatmap_wh
    graph = Graph("heatmaps", (len(metadata.skeleton), rows, columns), np.float32)
    xp = graph.namespace
    points, peaks = metadata.codec.decode(graph.input)
    scores = _calibrated(xp.clip(peaks, 0.0, 1.0), metadata.calibration)

    def profile(axis: int) -> Array:
        """The Gaussian along an axis, 1 at its highest pixel: (batch, k, length)."""
        factor, length = _lengths(metadata.input_wh[axis])
        distance = xp.arange(length, dtype=np.float32) - (points[..., axis] * factor)[..., None]
        exponent = distance * distance * (-0.5 / _SIGMA**2)
        values = xp.exp(xp.maximum(exponent, xp.full_like(exponent, MIN_EXPONENT)))
        return values / xp.max(values, axis=-1)

    across, down = profile(0), profile(1) * scores[..., None]
    return graph.model(drawn=down[..., None] * across[:, :, None, :])


def _lengths(side: int) -> tuple[float, int]:
    """Pixels of a drawn heatmap per pixel of the crop, and how many there are along a side.

    To rtmlib the outer centers are the edges of the box, while its warp counts whole pixels.
    """
    length = side // _STRIDE
    return (length - 1) / side, length


def _calibrated(scores: Array, calibration: Calibration | None) -> Array:
    """As `Calibration` does it with NumPy."""
    if calibration is None:
        return scores
    xp = scores.graph.namespace
    inside = xp.clip(scores, 1e-3, 1 - 1e-3)
    logit = xp.log(inside) - xp.log(inside * -1.0 + 1.0)
    odds = xp.exp(logit * (-1 / calibration.temperature) + -calibration.offset)
    return xp.asarray(1.0, dtype=np.float32) / (odds + 1.0)


def _difference(weights: Path, content: bytes, metadata: Metadata) -> float:
    """The greatest distance in crop pixels, or difference of scores if that is greater, of
    keypoints that are read as rtmlib does, from those of the model, on random smooth crops.

    Keypoints near the border, and those without a peak, do not count.
    """
    width, height = metadata.input_wh
    coarse = np.random.default_rng(0).uniform(0, 255, (3, 8, 6, 3))
    crops = np.stack(
        [cv2.resize(each, (width, height), interpolation=cv2.INTER_CUBIC) for each in coarse]
    )
    crops = crops.clip(0, 255).astype(np.uint8)
    points, peaks = metadata.codec.decode(open_session(weights, device="cpu")(crops))
    session = onnxruntime().InferenceSession(content, providers=["CPUExecutionProvider"])
    (drawn,) = session.run(None, {"input": as_rtmlib(crops)})
    found, scores = decode_taylor(drawn, _BLUR)
    factors, sizes = np.array([_lengths(side) for side in metadata.input_wh]).T
    wanted = points * factors
    inside = ((wanted > 6) & (wanted < sizes - 7)).all(axis=-1) & (scores > 1e-2)
    distance = np.linalg.norm((found - wanted) / factors, axis=-1)
    off = np.abs(scores - metadata.keypoint_scores(peaks))
    return float(np.max(np.concatenate([distance[inside], off.ravel()]), initial=0))


def as_rtmlib(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB crops (n, h, w, 3) as rtmlib gives them to a model: (n, 3, h, w), BGR, normalized."""
    normalized = (crops[..., ::-1] - np.array(_MEAN)) / np.array(_STD)
    return np.ascontiguousarray(normalized.transpose(0, 3, 1, 2), np.float32)
