"""Rank correlation of `hrpose data rank` with the error of the model.

    python -m benchmarks.rank_value val.json images --weights w16-small

The labels serve the measurement only: the ranking does not see them. It also reports how many
planted label errors (keypoints moved by 15 to 40 percent of the person's size) are listed first.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrpose.api import load
from hrpose.data.images import ImageFiles
from hrpose.estimator import InputImage
from hrpose.quality.labels import read_labels
from hrpose.quality.ranking import gains, predict_views, rank


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Rank correlation; ties are ignored."""
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(ranks)[0, 1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("images")
    parser.add_argument("--weights", default="w16-small")
    parser.add_argument("--planted", type=int, default=100)
    options = parser.parse_args()
    labels, _ = read_labels(options.annotations)
    source = ImageFiles(options.images)
    estimator = load(options.weights, detector="none", flip_test=False, batch_size=64)
    disagreement, entropy, error, confidence = (np.full(len(labels), np.nan) for _ in range(4))
    sizes = np.sqrt(labels.boxes[:, 2:].prod(axis=1))
    for row, name in enumerate(labels.file_names):
        own = np.flatnonzero(labels.image_index == row)
        if not len(own):
            continue
        views = predict_views(estimator, InputImage.of(source.read(name), labels.boxes[own]))
        disagreement[own], entropy[own] = views.disagreement, views.entropy
        confidence[own] = views.scores.mean(axis=1)
        mask = labels.labeled[own]
        off = np.linalg.norm(labels.keypoints[own, :, :2] - views.points, axis=-1)
        off = np.minimum(off / sizes[own, None], 1)
        error[own] = (off * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
    gain = gains(disagreement, entropy)
    print(f"{len(labels)} people of {options.annotations.name}, {options.weights}")
    for title, values in (("gain", gain), ("disagreement alone", disagreement),
                          ("entropy alone", entropy), ("1 - mean score", -confidence)):  # fmt: skip
        print(f"  rank correlation of {title} with the mean error: {spearman(values, error):.3f}")
    worst = error >= np.quantile(error, 0.75)
    first = gain >= np.quantile(gain, 0.75)
    print(f"  of the quarter ranked first, {100 * worst[first].mean():.0f} % are of the quarter "
          f"with the greatest error")  # fmt: skip
    images = labels.image_index
    by_image = [
        (gain[images == row].mean(), error[images == row].mean()) for row in np.unique(images)
    ]
    print(f"  by image: {spearman(*np.array(by_image).T):.3f}")
    planted(labels, source, estimator, options.planted)


def planted(labels, source, estimator, count: int) -> None:  # type: ignore[no-untyped-def]
    """Move keypoints, and report how many of them are listed first."""
    rng = np.random.default_rng(0)
    choices = rng.permutation(np.argwhere(labels.labeled))[:count]
    keypoints = labels.keypoints.copy()
    wanted = set()
    for person, keypoint in choices.tolist():
        size = np.sqrt(labels.boxes[person, 2:].prod())
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.4) * size
        keypoints[person, keypoint, :2] += far * np.array([np.cos(angle), np.sin(angle)])
        wanted.add((int(labels.annotation_ids[person]), labels.names[keypoint]))
    found = rank(estimator, source, [], replace(labels, keypoints=keypoints)).doubtful
    listed = [(each.annotation, each.keypoint) for each in found]
    total = int(labels.labeled.sum())
    for first in (count, 2 * count, 5 * count):
        hits = len(wanted & set(listed[:first]))
        print(f"  of {count} planted errors among {total} labels, {hits} in the first {first}")
    print(f"  and {len(wanted & set(listed))} in the whole list of {len(listed)}")


if __name__ == "__main__":
    main()
