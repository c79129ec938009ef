"""`python -m benchmarks.differences`: how often intervals of a difference hold the true one.

Drawn are a population of images with labeled persons and the results of two models, B better than
A; the difference of their metrics on all of it is the truth. Then samples of images are compared as
`hrpose analyze A B` does, and the intervals of 95 % counted that hold the truth. Within an image
persons are alike hard, which an interval from persons instead of images would miss.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrpose.data.coco import CocoAnnotations, CocoResults
from hrpose.evaluation.compare import Comparison, compare
from hrpose.metrics.coco import KeypointScores, evaluate_keypoints
from hrpose.skeletons import COCO_17

METRICS = ("AP", "AP50", "AP75", "APM", "APL", "AR")
Entry = dict[str, Any]


@dataclass(frozen=True)
class Population:
    """The annotations of each image, and the results of A and B, by image id from 1."""

    persons: dict[int, list[Entry]]
    results: tuple[dict[int, list[Entry]], dict[int, list[Entry]]]

    def files(self, images: list[int]) -> tuple[Entry, list[Entry], list[Entry]]:
        """Annotations and both results of these images, numbered anew: one may be in it twice."""
        pairs = list(enumerate(images, start=1))
        annotations = [{**e, "image_id": new} for new, old in pairs for e in self.persons[old]]
        document = {
            "images": [
                {"id": new, "file_name": f"{new}.png", "width": 2000, "height": 2000}
                for new, _ in pairs
            ],
            "annotations": [{**e, "id": i} for i, e in enumerate(annotations, start=1)],
            "categories": [COCO_17.to_coco_category()],
        }
        a, b = (
            [{**e, "image_id": new} for new, old in pairs for e in result[old]]
            for result in self.results
        )
        return document, a, b

    def scores(self) -> tuple[KeypointScores, KeypointScores]:
        """The metrics of both on all images."""
        document, *results = self.files(list(self.persons))
        truth = CocoAnnotations(Path("population"), document)
        a, b = (evaluate_keypoints(truth, CocoResults(Path("results"), each)) for each in results)
        return a, b


def population(rng: np.random.Generator, images: int, gain: float = 0.06) -> Population:
    """So many images, with one to four persons each; the errors of B are smaller by `gain`."""
    spread = 2 * np.asarray(COCO_17.sigmas)
    persons: dict[int, list[Entry]] = defaultdict(list)
    a: dict[int, list[Entry]] = defaultdict(list)
    b: dict[int, list[Entry]] = defaultdict(list)
    for image in range(1, images + 1):
        hard = np.exp(rng.normal(0, 0.4))
        for _ in range(int(rng.integers(1, 5))):
            side = float(np.exp(rng.uniform(np.log(40), np.log(300))))
            points = rng.uniform(0, side, (17, 2)) + rng.uniform(0, 1600, 2)
            labels = np.concatenate([points, np.full((17, 1), 2.0)], axis=1)
            persons[image].append(
                {"category_id": 1, "bbox": [*points.min(axis=0), side, side], "iscrowd": 0,
                 "area": side * side, "keypoints": labels.ravel().tolist(), "num_keypoints": 17}
            )  # fmt: skip
            own = hard * np.exp(rng.normal(0, 0.4))
            # Models err alike, but not the same.
            shared = rng.normal(0, 1, (17, 2))
            for found, size in ((a, 1.0), (b, 1.0 - gain)):
                if rng.uniform() < 0.06:
                    continue
                error = 0.8 * shared + 0.6 * rng.normal(0, 1, (17, 2))
                moved = points + error * spread[:, None] * side * own * size * 0.8
                score = float(1 / (1 + own * np.exp(rng.normal(0, 0.3))))
                keypoints = np.concatenate([moved, np.full((17, 1), score)], axis=1)
                entry = {"category_id": 1, "score": score, "keypoints": keypoints.ravel().tolist()}
                found[image].append(entry)
    return Population(persons, (a, b))


def samples(
    whole: Population, rng: np.random.Generator, count: int, images: int, draws: int
) -> Iterator[Comparison]:
    """Comparisons of random samples of the population, through files, as the command does them."""
    ids = np.array(list(whole.persons))
    with tempfile.TemporaryDirectory() as temporary:
        paths = [Path(temporary) / f"{name}.json" for name in ("annotations", "a", "b")]
        for _ in range(count):
            chosen = rng.choice(ids, size=images, replace=False).tolist()
            for path, content in zip(paths, whole.files(chosen), strict=True):
                path.write_text(json.dumps(content), encoding="utf-8")
            yield compare(paths[1], paths[2], paths[0], draws=draws, rng=rng)


def held(
    whole: Population,
    rng: np.random.Generator,
    count: int,
    images: int,
    draws: int,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, int]:
    """How many of the intervals of `count` samples hold the population's difference, by metric."""
    a, b = (scores.as_dict() for scores in whole.scores())
    holds = dict.fromkeys(METRICS, 0)
    for done, comparison in enumerate(samples(whole, rng, count, images, draws), start=1):
        for name in METRICS:
            found = comparison.metrics[name]
            holds[name] += found.low <= b[name] - a[name] <= found.high
        progress(f"{done}: {holds}")
    return holds


def main() -> None:
    """Print the truth, and how many intervals hold it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--images", type=int, nargs="+", default=[300])
    parser.add_argument("--population", type=int, default=20_000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    whole = population(rng, given.population)
    a, b = (scores.as_dict() for scores in whole.scores())
    print("the truth:", ", ".join(f"{n} {a[n]:.3f} {b[n] - a[n]:+.4f}" for n in METRICS))
    for images in given.images:
        holds = held(whole, rng, given.samples, images, given.draws)
        shares = ", ".join(f"{name} {count}" for name, count in holds.items())
        print(f"{images} images, intervals of {given.samples} that hold it: {shares}", flush=True)


if __name__ == "__main__":
    main()
