"""Persons, and poses of them with errors that are known for every keypoint."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.evaluation.error_analysis import Kind
from hrpose.skeletons import COCO_17

SHARES = {
    Kind.GOOD: 0.5, Kind.JITTER: 0.2, Kind.INVERSION: 0.08, Kind.SWAP: 0.07, Kind.MISS: 0.15,
}  # fmt: skip
SIGMAS = np.asarray(COCO_17.sigmas)
# A grid of points, so far apart that no keypoint is near another one's.
GRID = np.stack(np.meshgrid(np.arange(5), np.arange(4)), axis=-1).reshape(-1, 2)[:17]


@dataclass(frozen=True)
class Case:
    annotations: Path
    results: Path
    kinds: NDArray[np.int8]
    missed: int
    background: int
    repeats: int


def write_case(folder: Path, entries: int = 150, seed: int = 0) -> Case:
    """Two persons in each image, half of them medium; a tenth missed, as many background poses, and
    a few poses twice.
    """
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    kinds, counts = [], {"missed": 0, "background": 0, "repeats": 0}
    for image in range(1, entries + 1):
        size = 80.0 if image % 2 else 160.0
        corners = np.array([[0.0, 0.0], [2000.0, 0.0]]) + rng.uniform(0, 20, (2, 2))
        persons = [corner + GRID * size * 2 + rng.uniform(-5, 5, (17, 2)) for corner in corners]
        for index, points in enumerate(persons):
            visible = np.where(rng.uniform(size=17) < 0.9, 2, 0)
            visible[:6] = 2
            labels = np.concatenate([points * (visible > 0)[:, None], visible[:, None]], axis=1)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "bbox": [*corners[index], size, size],
                    "area": size * size / 2,
                    "keypoints": labels.ravel().tolist(),
                    "num_keypoints": int((visible > 0).sum()),
                    "iscrowd": 0,
                }
            )
        for index, points in enumerate(persons):
            draw = rng.uniform()
            if draw < 0.1:
                counts["missed"] += 1
                continue
            labels = np.reshape(annotations[2 * image - 2 + index]["keypoints"], (17, 3))
            other = np.reshape(annotations[2 * image - 1 - index]["keypoints"], (17, 3))
            kind, pose = _with_errors(rng, points, persons[1 - index], labels, other, size)
            kinds.append(np.where(labels[:, 2] > 0, kind, Kind.UNLABELED))
            score = rng.uniform(0.3, 1)
            results.append(_result(image, pose, rng.uniform(size=17), score))
            if draw > 0.95:
                counts["background"] += 1
                counts["repeats"] += 1
                results.append(_result(image, pose, rng.uniform(size=17), score / 2))
            elif draw > 0.85:
                counts["background"] += 1
                nowhere = rng.uniform(9000, 9500, (17, 2))
                results.append(_result(image, nowhere, rng.uniform(size=17), score))
    images = [
        {"id": i, "file_name": f"{i}.png", "width": 4000, "height": 2000}
        for i in range(1, entries + 1)
    ]
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [COCO_17.to_coco_category()],
    }
    truth, found = folder / "annotations.json", folder / "results.json"
    truth.write_text(json.dumps(document), encoding="utf-8")
    found.write_text(json.dumps(results), encoding="utf-8")
    return Case(truth, found, np.asarray(kinds, np.int8), **counts)


def _with_errors(
    rng: np.random.Generator,
    points: NDArray[np.float64],
    neighbor: NDArray[np.float64],
    labels: NDArray[np.float64],
    other: NDArray[np.float64],
    size: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The kind of each keypoint (17,), and where it then is (17, 2)."""
    twins = COCO_17.flip_permutation
    kind = rng.choice([int(k) for k in SHARES], p=list(SHARES.values()), size=17)
    # Some keypoints must be good, or the pose would be background.
    kind[1:4] = Kind.GOOD
    # There is no inversion without a labeled counterpart, and no swap without a labeled neighbor.
    kind[(kind == Kind.INVERSION) & ((twins == np.arange(17)) | (labels[twins, 2] == 0))] = (
        Kind.MISS
    )
    kind[(kind == Kind.SWAP) & (other[:, 2] == 0)] = Kind.MISS
    angle = rng.uniform(0, 2 * np.pi, 17)
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    similarity = np.where(kind == Kind.GOOD, 0.97, 0.7)
    distance = np.sqrt(-np.log(similarity) * 8 * SIGMAS**2 * size**2 / 2)
    pose = points + direction * distance[:, None]
    pose = np.where((kind == Kind.INVERSION)[:, None], points[twins], pose)
    pose = np.where((kind == Kind.SWAP)[:, None], neighbor, pose)
    pose = np.where((kind == Kind.MISS)[:, None], points + np.array([0, 7000]), pose)
    return kind, pose


def _result(
    image: int, points: NDArray[np.float64], scores: NDArray[np.float64], score: float
) -> dict[str, Any]:
    keypoints = np.concatenate([points, scores[:, None]], axis=1)
    return {
        "image_id": image,
        "category_id": 1,
        "keypoints": keypoints.ravel().round(3).tolist(),  # as in every results file
        "score": float(score),
    }
