"""Quantize weights to eight bits: a smaller, faster ONNX file, written only where its AP holds.

ONNX Runtime's quantizer does the work (static, calibrated, scales per channel). The first and the
last convolution keep float arithmetic: they cost little and decide most.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from hrpose.data.coco import CocoAnnotations, read_annotations
from hrpose.data.images import ImageFiles
from hrpose.data.persons import PersonTable
from hrpose.engines import onnxruntime
from hrpose.errors import UserError
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.predictions import ground_truth, predict, ranked_results
from hrpose.geometry import warp
from hrpose.io import with_texts, write_atomically
from hrpose.metadata import CHECKSUM_KEY, Metadata, metadata_of, write_with_metadata
from hrpose.metrics.coco import KeypointScores, evaluate_keypoints
from hrpose.metrics.oks import keypoint_similarities
from hrpose.session import open_session

_BATCH = 8
# By this text ONNX Runtime recognizes a graph that was prepared for its quantizer.
_PREPARED = "onnx.quant.pre_process"


@dataclass(frozen=True, slots=True)
class Measured:
    """Weights on a data set with ground-truth boxes: COCO's metrics, and for each keypoint the mean
    similarity in [0, 1] to the labels (its term of the OKS), NaN where it is never labeled.
    """

    scores: KeypointScores
    similarity: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class QuantizationReport:
    """What eight bits cost and save. `bytes` are the files' sizes."""

    path: Path
    keypoints: tuple[str, ...]
    before: Measured
    after: Measured
    bytes_before: int
    bytes_after: int
    calibrated_on: int

    @property
    def drop(self) -> float:
        return self.before.scores.AP - self.after.scores.AP


def quantize(
    weights: Path,
    out: Path,
    annotations: Path,
    images: str | Path,
    *,
    calibration: tuple[Path, str | Path] | None = None,
    persons: int = 200,
    max_drop: float = 0.01,
    flip_test: bool = False,
    seed: int = 0,
) -> QuantizationReport:
    """Write `weights` (.onnx of `hrpose export`) with eight-bit arithmetic to `out`.

    The ranges of activations are those of `persons` crops of `calibration`, (annotations, images),
    which should be another data set than `annotations` and `images`, on which the AP is measured;
    without it they are the same. Raises UserError, and writes nothing, where the AP drops by more
    than `max_drop`.
    """
    if out.suffix != ".onnx":
        raise UserError(f"{out}: expected a name that ends with .onnx", code="option-invalid")
    metadata = metadata_of(weights, Metadata)
    parsed = read_annotations(annotations)
    table = parsed.persons()
    if table.skeleton.keypoints != metadata.skeleton.keypoints:
        raise UserError(
            f"{annotations}: expected the keypoints of {weights}, found others",
            code="keypoints-differ",
        )
    source = ImageFiles(images)
    chosen: tuple[CocoAnnotations | Path, str | Path] = calibration or (parsed, images)
    crops = calibration_crops(metadata, *chosen, persons, np.random.default_rng(seed))
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.onnx"
        _quantize(weights, small, crops)
        before, after = (
            measure(path, parsed, table, source, flip_test) for path in (weights, small)
        )
        content = small.read_bytes()
    report = QuantizationReport(
        out,
        metadata.skeleton.keypoints,
        before,
        after,
        bytes_before=weights.stat().st_size,
        bytes_after=len(content),
        calibrated_on=sum(map(len, crops)),
    )
    if not report.drop <= max_drop:
        raise UserError(
            f"{weights}: eight bits cost {report.drop:.3f} AP ({before.scores.AP:.3f} to "
            f"{after.scores.AP:.3f}), at most {max_drop:g} allowed; nothing was written; "
            "calibrate on more or other persons, or allow more",
            code="drop-too-large",
        )
    write_atomically(out, content)
    return report


def calibration_crops(
    metadata: Metadata,
    annotations: CocoAnnotations | Path,
    images: str | Path,
    persons: int,
    rng: np.random.Generator,
) -> list[NDArray[np.uint8]]:
    """Crops (n, h, w, 3) of randomly chosen persons, in batches.

    Raises UserError where the annotations have none.
    """
    annotations = read_annotations(annotations)
    table, source = annotations.persons(), ImageFiles(images)
    if len(table) == 0:
        raise UserError(
            f"{annotations.path}: expected persons to calibrate on, found none",
            code="persons-missing",
        )
    rows = np.sort(rng.permutation(len(table))[:persons])
    crops = [
        warp(source.read(table.image_name(row)), metadata.crop(table.boxes[row])) for row in rows
    ]
    return [np.stack(crops[i : i + _BATCH]) for i in range(0, len(crops), _BATCH)]


def measure(
    weights: Path,
    annotations: CocoAnnotations,
    table: PersonTable,
    source: ImageFiles,
    flip_test: bool,
) -> Measured:
    """The metrics of weights on the persons of `table`, with ground-truth boxes."""
    estimator = PoseEstimator(
        open_session(weights, precision="fp32"), flip_test=flip_test, batch_size=32
    )
    predictions = predict(estimator, table, ground_truth(table), source)
    results = ranked_results(table, predictions)
    labeled = table.keypoints[..., 2] > 0
    terms = keypoint_similarities(
        predictions.keypoints, table.keypoints, table.areas, table.skeleton.sigmas
    )
    count = labeled.sum(axis=0)
    mean = np.where(count > 0, (terms * labeled).sum(axis=0) / np.maximum(count, 1), np.nan)
    return Measured(evaluate_keypoints(annotations, results, table.skeleton.sigmas), mean)


def _in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with float16 weights made float32, as the quantizer wants them."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    stored = {entry.name: entry for entry in wide.graph.initializer}
    nodes = []
    for node in wide.graph.node:
        entry = stored.get(node.input[0]) if node.op_type == "Cast" else None
        if entry is not None and entry.data_type == onnx.TensorProto.FLOAT16:
            values = numpy_helper.to_array(entry).astype(np.float32)
            entry.CopyFrom(numpy_helper.from_array(values, node.output[0]))
        else:
            nodes.append(node)
    del wide.graph.node[:]
    wide.graph.node.extend(nodes)
    return wide


def _quantize(weights: Path, out: Path, crops: list[NDArray[np.uint8]]) -> None:
    onnxruntime()
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[NDArray[np.uint8]] = iter(crops)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"crops": batch}

    try:
        model = onnx.load(weights)
    except Exception as error:  # A file of another form can raise anything.
        raise UserError(
            f"{weights}: expected an ONNX file of `hrpose export`, found: {error}",
            code="weights-unsuitable",
        ) from error
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    if not convolutions or any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise UserError(
            f"{weights}: expected float weights of `hrpose export`, found others",
            code="weights-unsuitable",
        )
    # The quantizer asks for a preparation that the exporter has done; this text says so.
    ready = out.with_name("ready.onnx")
    content = _in_float32(model).SerializeToString()
    texts = {_PREPARED: "onnxruntime.quant", CHECKSUM_KEY: None}
    ready.write_bytes(with_texts(ready, content, texts))
    quantize_static(
        ready,
        out,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        # Seven bits for weights: products of eight would overflow on processors without VNNI.
        reduce_range=True,
        op_types_to_quantize=["Conv", "Add", "Relu"],
        nodes_to_exclude=[convolutions[0], convolutions[-1]],
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )
    metadata = metadata_of(out, Metadata)
    renamed = replace(metadata, name=f"{metadata.name}-int8", scores={})
    content = with_texts(out, out.read_bytes(), {_PREPARED: None, "onnx.infer": None})
    write_with_metadata(out, content, renamed)
