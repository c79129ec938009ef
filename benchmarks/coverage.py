"""How many labels are inside the ellipses that should hold 50, 80 and 95 % of them.

    python -m benchmarks.coverage --weights w16-small --annotations val.json --images images
    python -m benchmarks.coverage --weights w16-small --synthetic 800

The first measures weights that have a covariance on labeled persons. The second draws persons,
fits the covariance on them and measures it on as many others.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hrpose
from hrpose.data.coco import read_annotations
from hrpose.data.images import ImageFiles
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.analyze import SIZES
from hrpose.evaluation.calibrate import Measured, calibrated, measure
from hrpose.metadata import Metadata
from hrpose.synthetic import write_dataset

# Left and right of one name, and the face.
FACE = ("nose", "eye", "ear")


def groups(metadata: Metadata) -> dict[str, NDArray[np.bool_]]:
    """(k,) which keypoints are of each group."""
    names = [
        name.removeprefix("left_").removeprefix("right_") for name in metadata.skeleton.keypoints
    ]
    group = ["face" if name in FACE else name for name in names]
    return {name: np.array([each == name for each in group]) for name in dict.fromkeys(group)}


def report(measured: Measured, metadata: Metadata) -> None:
    """Print a row for all labels, and each group of keypoints, size and visibility."""
    every = np.ones(measured.labeled.shape, np.bool_)
    rows = {"all": every, **{name: every & own for name, own in groups(metadata).items()}}
    for name, (low, high) in SIZES.items():
        rows[name] = every & ((measured.areas >= low) & (measured.areas < high))[:, None]
    rows |= {"visible": measured.visibility == 2, "hidden": measured.visibility == 1}
    print(f"{'':10} {'labels':>6}  50 %           80 %           95 %           radius, px")
    for name, chosen in rows.items():
        if (found := measured.coverage(metadata, chosen)) is not None:
            parts = zip(found.found, found.low, found.high, strict=True)
            cells = [f"{100 * f:4.1f} ({100 * a:3.0f}-{100 * b:3.0f})" for f, a, b in parts]
            print(f"{name:10} {found.keypoints:6}  {'  '.join(cells)}  {found.radius:.1f}")
    if (presence := measured.presence(metadata)) is not None:
        print(
            f"presence: area {presence.area:.3f}, by the score {presence.score_area:.3f}; visible "
            f"{presence.visible_area:.3f} and {presence.visible_score_area:.3f}; expected error "
            f"{presence.curve.error:.3f}"
        )


def measured_on(estimator: PoseEstimator, annotations: Path, images: Path) -> Measured:
    """Run the weights in the labeled boxes."""
    persons = read_annotations(annotations).persons()
    persons = replace(persons, skeleton=estimator.metadata.skeleton)
    return measure(estimator, persons, ImageFiles(images))


def main() -> None:
    """Read the command line and print the rows."""
    parser = argparse.ArgumentParser(description="Coverage of ellipses.")
    parser.add_argument("--weights", default="w16-small")
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--synthetic", type=int, metavar="IMAGES")
    given = parser.parse_args()
    estimator = hrpose.load(given.weights, detector="full-image", precision="fp32")
    if given.synthetic is None:
        measured = measured_on(estimator, given.annotations, given.images)
        report(measured, estimator.metadata)
        return
    with tempfile.TemporaryDirectory() as folder:
        files = [
            write_dataset(Path(folder, name), given.synthetic, seed)
            for seed, name in ((1, "fit"), (2, "others"))
        ]
        fitted_on, others = (measured_on(estimator, file, file.parent / "images") for file in files)
    metadata, reasons = calibrated(estimator.metadata, fitted_on, ("covariance",))
    if reasons:
        raise SystemExit(reasons[0])
    report(others, replace(metadata, presence=None))


if __name__ == "__main__":
    main()
