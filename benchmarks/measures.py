"""How many true measures are inside the 95 % intervals of `hrpose measure`.

    python -m benchmarks.measures                          walkers with noise of known covariances
    python -m benchmarks.measures --synthetic 300          drawn persons, as weights see them
    python -m benchmarks.measures --annotations val.json --images images

Drawn and labeled persons are measured with weights whose covariance was fitted on other images of
the same kind; labeled ones in two halves, of which each is measured by a fit on the other, or with
`--as-shipped` by the fit that the weights have. Labels are the truth there, with their own noise.
Persons are in their true boxes.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hrpose
from benchmarks.walkers import walk
from hrpose.data.coco import read_annotations
from hrpose.data.images import ImageFiles
from hrpose.evaluation.calibrate import calibrated, measure, store
from hrpose.image import read_image
from hrpose.measurement.definitions import Kind, Measure, default_measures
from hrpose.measurement.propagation import FITTED_Z95, NORMAL_Z95, propagate
from hrpose.skeletons import COCO_17
from hrpose.synthetic import write_dataset
from hrpose.weights import find

Floats = NDArray[np.float64]
MEASURES = tuple(each for each in default_measures(COCO_17) if each.kind != "speed")


@dataclass
class Share:
    """How many of the values are inside their intervals, and half the widths of these."""

    inside: int = 0
    count: int = 0
    halves: list[Floats] = field(default_factory=list)

    def add(self, inside: NDArray[np.bool_], halves: Floats) -> None:
        """Count more values."""
        self.inside, self.count = self.inside + int(inside.sum()), self.count + len(inside)
        self.halves.append(halves)

    def __str__(self) -> str:
        if not self.count:
            return "-"
        share, half = 100 * self.inside / self.count, float(np.median(np.concatenate(self.halves)))
        return f"{share:.1f} % of {self.count:,} (median ± {half:.3g})"


def compare(
    shares: dict[str, Share],
    truth: Floats,
    found: Floats,
    covariance: Floats,
    *,
    sure: bool,
    z: Mapping[Kind, float] = FITTED_Z95,
) -> None:
    """Count, by kind of measure, true values of `truth` (t, 17, 2) inside intervals of `found`.

    With `sure` the values that are not flagged as too short, else those that are. `z` standard
    deviations hold 95 %.
    """
    for each in MEASURES:
        own = z[each.kind]
        exact, values = propagate(each, truth), propagate(each, found, covariance, z=own)
        known = ~np.isnan(exact.values) & ~np.isnan(values.values) & (values.short != sure)
        apart = np.abs(values.values - exact.values)[known]
        if each.is_angle:  # 179 and -179 degrees are near each other
            turn = 180.0 if each.axis == "horizontal" else 360.0
            apart = np.minimum(apart, turn - apart)
        half = own * values.sigmas[known]
        shares.setdefault(kind_of(each), Share()).add(apart <= half, half)


def kind_of(each: Measure) -> str:
    """The row of a measure."""
    if not each.is_angle:
        return "lengths and distances"
    return "tilts and signed angles" if each.positive is not None else "angles without a sign"


def walkers(count: int = 60, seed: int = 1) -> dict[str, Share]:
    """Walkers with Gaussian noise whose covariances differ by keypoint and frame."""
    rng, times = np.random.default_rng(seed), np.arange(150) / 30
    shares: dict[str, Share] = {}
    for _ in range(count):
        truth = walk(rng, times, height=float(rng.uniform(150, 400)))
        roots = rng.normal(size=(*truth.shape, 2)) * 0.008 * np.ptp(truth[0, :, 1])
        noisy = truth + np.einsum("tkij,tkj->tki", roots, rng.normal(size=truth.shape))
        covariance = roots @ roots.swapaxes(-1, -2)
        compare(shares, truth, noisy, covariance, sure=True, z=NORMAL_Z95)
    return shares


def predicted(
    weights: str, fit: tuple[Path, Path] | None, held_out: tuple[Path, Path]
) -> Iterator[tuple[Floats, Floats, Floats]]:
    """For each person of a held-out data set the truth, the keypoints (1, 17, 2), and covariances.

    Data sets are COCO JSON and the folder of its images. Without one to fit on, the fit of the
    weights is taken. Keypoints without a label are NaN in the truth.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy: str | Path = weights
        if fit is not None:
            copy = Path(folder) / "fitted.onnx"
            plain = hrpose.load(weights, detector="full-image", precision="fp32")
            measured = measure(plain, read_annotations(fit[0]).persons(), ImageFiles(str(fit[1])))
            store(find(weights), calibrated(plain.metadata, measured, ["covariance"])[0], copy)
        estimator = hrpose.load(copy, covariance=True, precision="fp32")
        document = json.loads(held_out[0].read_text())
        names = {image["id"]: image["file_name"] for image in document["images"]}
        by_image: dict[int, list[dict[str, object]]] = {}
        for entry in document["annotations"]:
            if entry.get("num_keypoints", 1) and not entry.get("iscrowd"):
                by_image.setdefault(entry["image_id"], []).append(entry)
        for image_id, entries in by_image.items():
            image = read_image(held_out[1] / names[image_id])
            poses = estimator(image, [entry["bbox"] for entry in entries])
            for row, entry in enumerate(entries):
                labels = np.array(entry["keypoints"], np.float64).reshape(1, 17, 3)
                truth = np.where(labels[..., 2:] > 0, labels[..., :2], np.nan)
                assert poses.covariance is not None
                sure = poses.conf[row, :, None] >= 0.3
                points = np.where(sure, poses.xy[row], np.nan)[None].astype(np.float64)
                yield truth, points, poses.covariance[row][None].astype(np.float64)


def halves(annotations: Path, folder: Path) -> tuple[Path, Path]:
    """Two COCO files with every other image."""
    document = json.loads(annotations.read_text())
    paths = []
    for part in (0, 1):
        images = document["images"][part::2]
        ids = {image["id"] for image in images}
        own = [entry for entry in document["annotations"] if entry["image_id"] in ids]
        paths.append(folder / f"{part}.json")
        paths[-1].write_text(json.dumps({**document, "images": images, "annotations": own}))
    return paths[0], paths[1]


def report(title: str, *flagged: tuple[str, dict[str, Share]]) -> None:
    """Print a table."""
    for name, shares in flagged:
        total = Share(sum(s.inside for s in shares.values()), sum(s.count for s in shares.values()))
        total.halves = [np.zeros(1)]
        for kind, share in [*shares.items(), ("all", total)]:
            text = str(share) if kind != "all" else str(share).partition(" (")[0]
            print(f"| {title}{name} | {kind} | {text} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="w32-small")
    parser.add_argument("--synthetic", type=int, metavar="IMAGES")
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--as-shipped", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, pairs = Path(name), []
        if options.synthetic is not None:
            for part in ("fit", "held"):
                seed = {"fit": 1, "held": 2}[part]
                write_dataset(folder / part, options.synthetic, seed=seed)
            sets = [
                (folder / part / "annotations.json", folder / part / "images")
                for part in ("fit", "held")
            ]
            pairs = [(sets[0], sets[1])]
        elif options.as_shipped:
            pairs = [(None, (options.annotations, options.images))]
        elif options.annotations is not None:
            first, second = halves(options.annotations, folder)
            sets = [(first, options.images), (second, options.images)]
            pairs = [(sets[0], sets[1]), (sets[1], sets[0])]
        else:
            report("walkers, known noise", ("", walkers()))
            return
        sure: dict[str, Share] = {}
        short: dict[str, Share] = {}
        for fit, held_out in pairs:
            for truth, found, covariance in predicted(options.weights, fit, held_out):
                compare(sure, truth, found, covariance, sure=True)
                compare(short, truth, found, covariance, sure=False)
    report(options.weights, ("", sure), (", too short", short))


if __name__ == "__main__":
    main()
