"""From the averaged weights of a training to the file that ships.

    python -m tools.distillation.release WEIGHTS HELD_OUT IMAGES OUT

WEIGHTS (safetensors) become ONNX with float16 weights, whose keypoint scores and covariances are
calibrated on the held-out persons (COCO keypoints JSON) in their labeled boxes, without flip test,
as `hrpose predict` runs. Prints what `hrpose evaluate` and `hrpose analyze` say with and without
flip test.
"""

import argparse
import tempfile
from pathlib import Path

import hrpose
from hrpose.data.coco import read_annotations
from hrpose.data.images import ImageFiles
from hrpose.evaluation.analyze import ScoreReport, analyze
from hrpose.evaluation.calibrate import calibrated, measure, store


def release(weights: Path, held_out: Path, images: str, out: Path) -> None:
    """Write `out`. Raises UserError where the export differs from PyTorch."""
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder, "weights.onnx")
        print("exported:", hrpose.export(weights, exported, half=True))
        estimator = hrpose.load(exported, detector="full-image", precision="fp32")
        persons = read_annotations(held_out).persons()
        measured = measure(estimator, persons, ImageFiles(images))
        metadata, reasons = calibrated(estimator.metadata, measured)
        store(exported, metadata, out)
        print(f"calibrated, without flip test: {metadata.calibration}", *reasons)
        for flip_test in (False, True):
            report = _scores(out, held_out, images, Path(folder, str(flip_test)), flip_test)
            print(f"flip test {flip_test}: expected error of scores {report.before.error:.3f}")


def _scores(
    weights: Path, held_out: Path, images: str, folder: Path, flip_test: bool
) -> ScoreReport:
    report = hrpose.evaluate(weights, held_out, images, flip_test=flip_test, out=folder)
    values = " ".join(f"{name} {report.metrics[name]:.4f}" for name in ("AP", "AP50", "AP75", "AR"))
    print(f"{weights.name}, flip test {flip_test}: {values}")
    found = analyze(folder / "results.json", held_out).calibration
    if isinstance(found, str):
        raise SystemExit(found)
    return found


def main() -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description="Make the file that ships.")
    for name in ("weights", "held_out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("images")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    release(given.weights, given.held_out, given.images, given.out)


if __name__ == "__main__":
    main()
