"""`python -m benchmarks.eight_bits VAL.json IMAGES TRAIN.json IMAGES`: two quantizers, two engines.

    pip install nncf openvino

`hrpose quantize` uses ONNX Runtime's quantizer; NNCF is OpenVINO's. Both get the same 200 persons
of TRAIN.json, and the AP is measured on VAL.json in ground-truth boxes without the flip test, by
each engine. Speed is CPU time on one thread, 16 crops in a batch.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hrpose import weights as registry
from hrpose.data.coco import read_annotations
from hrpose.data.images import ImageFiles
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.predictions import ground_truth, predict, ranked_results
from hrpose.evaluation.quantize import _in_float32, _quantize, calibration_crops
from hrpose.metadata import Metadata, metadata_of, write_with_metadata
from hrpose.metrics.coco import evaluate_keypoints
from hrpose.session import OnnxSession


def by_nncf(source: Path, target: Path, crops: list[Any]) -> None:
    """Quantize the convolutions by NNCF."""
    import nncf  # type: ignore[import-not-found, unused-ignore]

    dataset = nncf.Dataset(np.concatenate(crops), lambda crop: {"crops": crop[None]})
    model = nncf.quantize(_in_float32(source), dataset, subset_size=200)
    content = model.SerializeToString()
    write_with_metadata(target, content, metadata_of(source, Metadata))


def main() -> None:
    """Print a row for each file on each engine."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("val", "val_images", "train", "train_images"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--weights", default="w16-small")
    given = parser.parse_args()
    source = registry.find(given.weights)
    metadata = metadata_of(source, Metadata)
    rng = np.random.default_rng(0)
    crops = calibration_crops(metadata, given.train, given.train_images, 200, rng)
    parsed = read_annotations(given.val)
    table, images = parsed.persons(), ImageFiles(given.val_images)
    batch = np.concatenate(crops)[:16]
    with tempfile.TemporaryDirectory() as folder:
        files = {"float": source}
        for name, quantizer in (("ONNX Runtime's", _quantize), ("NNCF's", by_nncf)):
            files[name] = Path(folder) / f"{len(files)}.onnx"
            quantizer(source, files[name], crops)
        for name, file in files.items():
            for device, precision in (("cpu", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")):
                session = OnnxSession(file, 1, device, precision)
                estimator = PoseEstimator(session, batch_size=32)
                found = predict(estimator, table, ground_truth(table), images)
                results = ranked_results(table, found)
                ap = evaluate_keypoints(parsed, results, table.skeleton.sigmas).AP
                seconds = []
                for _ in range(9):
                    start = time.process_time()
                    session(batch)
                    seconds.append(time.process_time() - start)
                each = float(np.median(seconds)) / len(batch) * 1000
                print(f"| {name} | {session.engine} | {ap:.4f} | {each:.2f} ms |", flush=True)


if __name__ == "__main__":
    main()
