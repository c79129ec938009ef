"""How many poses are right, and how many are nobody's, by the least score of a pose.

    python -m benchmarks.unsure_poses val.json images [--weights W] [--count N]

The table of docs/guide/detection.md. Poses in the boxes of the built-in detector; a pose is right
with an OKS of 0.5 or more to a person that no better pose has, and nobody's where the IoU of its
box with every labeled box is below 0.3; for that, persons without labeled keypoints count too.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hrpose
from hrpose.geometry import iou
from hrpose.io import read_json
from hrpose.metrics.oks import oks
from hrpose.skeletons import COCO_17

LEAST = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)


def measure(estimator: hrpose.PoseEstimator, annotations: Path, images: Path, count: int) -> None:
    """Print the table."""
    data = read_json(annotations)
    persons = defaultdict(list)
    for annotation in data["annotations"]:
        persons[annotation["image_id"]].append(annotation)
    scores, right, nobodys, labeled = [], [], [], 0
    for image in data["images"][:count]:
        poses = estimator(images / image["file_name"])
        here = persons[image["id"]]
        boxes = np.array([person["bbox"] for person in here], np.float64).reshape(-1, 4)
        named = [person for person in here if person.get("num_keypoints", 0)]
        labeled += len(named)
        scores.append(poses.scores)
        nobodys.append(iou(poses.boxes, boxes).max(axis=1, initial=0) < 0.3)
        right.append(_right(poses, named))
    score, good, nobody = map(np.concatenate, (scores, right, nobodys))
    print(f"{estimator!r}: {len(scores)} images, {labeled} persons with keypoints")
    print("| `--min-score` | poses | right | overlap no labeled person | persons found |")
    print("|---|---|---|---|---|")
    for least in LEAST:
        kept = score >= least
        poses_left, hits = int(kept.sum()), int((good & kept).sum())
        print(
            f"| {least:g} | {poses_left} | {hits} ({hits / max(poses_left, 1):.0%}) "
            f"| {int((nobody & kept).sum())} | {hits / max(labeled, 1):.0%} |"
        )


def _right(poses: hrpose.Poses, persons: list[dict[str, object]]) -> NDArray[np.bool_]:
    """(n,) whether each pose is the best for a person, and near enough."""
    result = np.zeros(len(poses), bool)
    if not persons or not len(poses):
        return result
    truth = np.array([person["keypoints"] for person in persons], np.float64).reshape(-1, 17, 3)
    areas = np.array([person["area"] for person in persons], np.float64)
    similar = oks(poses.keypoints, truth, areas, COCO_17.sigmas)
    free = np.ones(len(persons), bool)
    for pose in np.argsort(-poses.scores, kind="stable"):
        best = int(np.argmax(np.where(free, similar[pose], -1)))
        if free[best] and similar[pose, best] >= 0.5:
            result[pose], free[best] = True, False
    return result


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description="Right and wrong poses by their least score.")
    parser.add_argument("annotations", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--weights", default="w32-small")
    parser.add_argument("--count", type=int, help="of images, by default all")
    given = parser.parse_args()
    estimator = hrpose.load(given.weights, detector="builtin", min_score=0, exact=True)
    measure(estimator, given.annotations, given.images, given.count)


if __name__ == "__main__":
    main()
