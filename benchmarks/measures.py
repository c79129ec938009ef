"""How many true measures are inside the 95 % intervals of `hrpose measure`.

    python -m benchmarks.measures                          walkers with noise of known covariances
    python -m benchmarks.measures --synthetic 300          drawn persons, as weights see them
    python -m benchmarks.measures --annotations val.json --images images --as-shipped

Drawn persons are measured with weights whose covariance was fitted on other drawn persons, and
with the numbers of standard deviations that hold 95 % on these; so are the speeds of persons
who move from one drawn pose to another. Labeled persons are measured in two halves, of which each
is measured by a fit on the other, or with `--as-shipped` by the fit that the weights have. Labels
are the truth there, with their own noise. Persons are in their true boxes.

The last column is the number of standard deviations that hold 95 %: `FITTED` is that of persons
whom neither the weights nor a row of the guide have seen.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import hrpose
from benchmarks.walkers import walk
from hrpose.data.coco import read_annotations
from hrpose.data.images import ImageFiles
from hrpose.evaluation.calibrate import calibrated, measure, store
from hrpose.image import encode, read_image
from hrpose.measurement.definitions import Kind, Measure, default_measures
from hrpose.measurement.propagation import FITTED, NORMAL, Errors, Values, propagate, speed
from hrpose.skeletons import COCO_17
from hrpose.synthetic import PERSON, render_image, write_dataset
from hrpose.synthetic.figures import Keypoints
from hrpose.weights import find

Floats = NDArray[np.float64]
MEASURES = tuple(each for each in default_measures(COCO_17) if each.kind != "speed")
RATE, FRAMES = 30.0, 16  # of clips of moving persons


class Person(NamedTuple):
    """A person: the number of the `image`, the keypoints as in `truth` and as `found`.

    Both are (1, 17, 2), NaN without a label or a score; `covariance` (1, 17, 2, 2).
    """

    image: int
    truth: Floats
    found: Floats
    covariance: Floats


@dataclass
class Share:
    """Errors of values of one kind, in standard deviations, and how many of these hold 95 %."""

    z: float
    ratios: list[Floats] = field(default_factory=list)
    sigmas: list[Floats] = field(default_factory=list)
    images: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, image: int, exact: Values, values: Values, each: Measure, *, short: bool) -> None:
        """Count the values that are flagged as too short or, without `short`, the others."""
        known = ~np.isnan(exact.values) & ~np.isnan(values.sigmas) & (values.short == short)
        apart = np.abs(values.values - exact.values)[known]
        if each.is_angle:  # 179 and -179 degrees are near each other
            turn = 180.0 if each.axis == "horizontal" else 360.0
            apart = np.minimum(apart, turn - apart)
        self.ratios.append(apart / values.sigmas[known])
        self.sigmas.append(values.sigmas[known])
        self.images.append(np.full(int(known.sum()), image))


Shares = dict[Kind, Share]


def compare(
    shares: Shares, person: Person, errors: Errors = FITTED, *, short: bool = False
) -> None:
    """Count the values of a person by kind of measure."""
    for each in MEASURES:
        exact = propagate(each, person.truth)
        found = propagate(each, person.found, person.covariance, shortest=errors.shortest)
        share = shares.setdefault(each.kind, Share(errors.z95[each.kind]))
        share.add(person.image, exact, found, each, short=short)


def fitted(shares: Shares) -> Errors:
    """The errors in which 95 % of the values are inside their intervals."""
    own = {kind: float(np.quantile(np.concatenate(s.ratios), 0.95)) for kind, s in shares.items()}
    return Errors({**FITTED.z95, **own}, FITTED.shortest)


def interval_of(inside: NDArray[np.bool_], images: NDArray[np.int64]) -> tuple[float, float]:
    """The 95 % interval of a share by a bootstrap over images."""
    _, rows = np.unique(images, return_inverse=True)
    counts, hits = np.bincount(rows), np.bincount(rows, inside)
    drawn = np.random.default_rng(0).integers(0, len(counts), (2000, len(counts)))
    low, high = np.quantile(hits[drawn].sum(1) / counts[drawn].sum(1), (0.025, 0.975))
    return float(low), float(high)


def walkers(count: int = 60, seed: int = 1) -> Shares:
    """Walkers with Gaussian noise whose covariances differ by keypoint and frame."""
    rng, times = np.random.default_rng(seed), np.arange(150) / 30
    shares: Shares = {}
    for number in range(count):
        truth = walk(rng, times, height=float(rng.uniform(150, 400)))
        roots = rng.normal(size=(*truth.shape, 2)) * 0.008 * np.ptp(truth[0, :, 1])
        noisy = truth + np.einsum("tkij,tkj->tki", roots, rng.normal(size=truth.shape))
        covariance = roots @ roots.swapaxes(-1, -2)
        compare(shares, Person(number, truth, noisy, covariance), NORMAL)
    return shares


def write_moving(folder: Path, clips: int, seed: int) -> tuple[Path, Path]:
    """Write clips of `FRAMES` frames as a data set: persons go from one drawn pose to another.

    Background, clothes and place are those of the clip; grain and pose are those of the frame.
    """
    entries, annotations = [], []
    (folder / "images").mkdir(parents=True)
    for clip in range(clips):
        rng = np.random.default_rng((seed, clip))
        first, last = PERSON.pose(rng), PERSON.pose(rng)
        drift, state = rng.uniform(-2, 2, 2), int(rng.integers(2**31))
        for frame in range(FRAMES):
            share = frame / (FRAMES - 1)

            def pose(
                _: np.random.Generator,
                first: Keypoints = first,
                last: Keypoints = last,
                share: float = share,
            ) -> Keypoints:
                return {name: first[name] * (1 - share) + last[name] * share for name in first}

            drawn = render_image(
                np.random.default_rng(state), persons=1, figure=replace(PERSON, pose=pose)
            )
            noise = np.random.default_rng((state, frame)).normal(0, 4, drawn.image.shape)
            shift = np.round(drift * frame).astype(int)
            pixels = np.roll(drawn.image + noise, shift[::-1], axis=(0, 1)).clip(0, 255)
            number = clip * FRAMES + frame
            (folder / "images" / f"{number}.png").write_bytes(
                encode(pixels.astype(np.uint8), ".png")
            )
            keypoints = drawn.keypoints[0] + (*shift, 0)
            box = drawn.boxes[0] + (*shift, 0, 0)
            entries.append(
                {"id": number, "file_name": f"{number}.png", "width": 320, "height": 240}
            )
            annotations.append(
                {
                    "id": number + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": box.tolist(),
                    "num_keypoints": int((keypoints[:, 2] > 0).sum()),
                    "keypoints": keypoints.ravel().tolist(),
                }
            )
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": entries, "annotations": annotations}))
    return path, folder / "images"


def speeds(persons: list[Person]) -> Share:
    """The errors of speeds of all keypoints in clips of moving persons, a person for each frame."""
    share, times = Share(FITTED.z95["speed"]), np.arange(FRAMES) / RATE
    for clip in range(len(persons) // FRAMES):
        frames = persons[clip * FRAMES : (clip + 1) * FRAMES]
        truth, found, covariance = (
            np.concatenate([getattr(person, name) for person in frames])
            for name in ("truth", "found", "covariance")
        )
        for keypoint in range(17):
            each = Measure(f"keypoint {keypoint}", "speed", np.eye(17)[[keypoint]])
            exact, values = speed(each, truth, times), speed(each, found, times, covariance)
            share.add(clip, exact, values, each, short=False)
    return share


def predicted(
    weights: str, fit: tuple[Path, Path] | None, held_out: tuple[Path, Path]
) -> Iterator[Person]:
    """The persons of a held-out data set.

    Data sets are COCO JSON and the folder of its images. Without one to fit on, the fit of the
    weights is taken.
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
                own = poses.covariance[row][None].astype(np.float64)
                yield Person(image_id, truth, points, own)


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


def report(title: str, shares: dict[Kind, Share]) -> None:
    """Print a row for each kind and one for all."""
    total = Share(1.0)
    for share in shares.values():
        total.ratios += [ratio / share.z for ratio in share.ratios]
        total.images += share.images
    for kind, share in [*shares.items(), ("all", total)]:
        ratios, images = np.concatenate(share.ratios), np.concatenate(share.images)
        if not len(ratios):
            continue
        low, high = interval_of(ratios <= share.z, images)
        text = f"{100 * np.mean(ratios <= share.z):.1f} ({100 * low:.1f}-{100 * high:.1f}) %"
        if kind != "all":
            half = share.z * np.median(np.concatenate(share.sigmas))
            text += f" | ± {half:.3g} | {np.quantile(ratios, 0.95):.3f}"
        print(f"| {title} | {kind} | {len(ratios):,} | {text} |", flush=True)


def drawn(weights: str, images: int, folder: Path) -> None:
    """Print the rows of drawn persons."""
    sets = []
    for seed in (1, 2):
        path = write_dataset(folder / str(seed), images, seed=seed)
        sets.append((path, path.parent / "images"))
    parts: list[Shares] = [{}, {}, {}]
    for person in predicted(weights, sets[0], sets[0]):
        compare(parts[0], person)
    own = fitted(parts[0])
    for person in predicted(weights, sets[0], sets[1]):
        compare(parts[1], person)
        compare(parts[2], person, own)
    report(f"{weights}, drawn, covariances fitted on others", parts[1])
    report(f"{weights}, drawn, covariances and numbers fitted on others", parts[2])
    moving = write_moving(folder / "moving", max(images // 5, 1), seed=4)
    report(
        f"{weights}, drawn and moving", {"speed": speeds(list(predicted(weights, sets[0], moving)))}
    )


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
        folder = Path(name)
        pairs: list[tuple[tuple[Path, Path] | None, tuple[Path, Path]]]
        if options.synthetic is not None:
            drawn(options.weights, options.synthetic, folder)
            return
        if options.annotations is None:
            report("walkers, known noise", walkers())
            return
        if options.as_shipped:
            pairs = [(None, (options.annotations, options.images))]
        else:
            first, second = halves(options.annotations, folder)
            sets = [(first, options.images), (second, options.images)]
            pairs = [(sets[0], sets[1]), (sets[1], sets[0])]
        sure: Shares = {}
        short: Shares = {}
        for fit, held_out in pairs:
            for person in predicted(options.weights, fit, held_out):
                compare(sure, person)
                compare(short, person, short=True)
    report(options.weights, sure)
    report(f"{options.weights}, too short", short)


if __name__ == "__main__":
    main()
