"""Learning from a few labels: the time that "Learn" takes, and what the model is worth on others.

    python -m benchmarks.label_learning animals
        30 synthetic animals are labeled, and 100 others measure the model
    python -m benchmarks.label_learning people.json --source badminton
        the same with persons of a COCO file beside `images`, and nine keypoints that no model
        knows by name: the first half of the persons is for labels, the second for measuring

The labels are in the project as if they had been set in the browser, and the learning is that of
its button. The score before is that of the best guess without a model, the mean place of each
keypoint in the box of the labeled persons; both are of the labels' boxes.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.api import load
from hrpose.data.images import ImageFiles
from hrpose.estimator import InputImage
from hrpose.io import read_json
from hrpose.label.learn import Learner
from hrpose.label.project import Project
from hrpose.metrics.oks import keypoint_similarities
from hrpose.synthetic import ANIMAL, write_dataset

# New names, so that no weights of the last layer are taken over.
_NINE = {
    "nose": "face",
    "left_shoulder": "left_upper",
    "right_shoulder": "right_upper",
    "left_wrist": "left_hand",
    "right_wrist": "right_hand",
    "left_knee": "left_leg",
    "right_knee": "right_leg",
    "left_ankle": "left_foot",
    "right_ankle": "right_foot",
}
_PCK = 0.1  # of the longer side of the box
_DRAWS = 1000
Floats = NDArray[np.float64]


def nine_keypoints(path: Path, source: str, count: int, held_out: int) -> tuple[Any, Any]:
    """COCO documents of nine keypoints: `count` persons for labels, and others to measure."""
    document = read_json(path)
    names = document["categories"][0]["keypoints"]
    chosen = [names.index(name) for name in _NINE]
    images = [image for image in document["images"] if image.get("source") == source]
    half = len(images) // 2
    parts = []
    for part, number in ((images[:half], count), (images[half:], held_out)):
        at = np.linspace(0, len(part) - 1, number).round().astype(int)
        kept = {part[index]["id"]: part[index] for index in at}
        persons = []
        for person in document["annotations"]:
            if person["image_id"] in kept:
                points = np.reshape(person["keypoints"], (-1, 3))[chosen]
                seen = int((points[:, 2] > 0).sum())
                persons.append({**person, "keypoints": points.ravel().tolist()})
                persons[-1]["num_keypoints"] = seen
        category = {"id": 1, "name": "player", "keypoints": list(_NINE.values()), "skeleton": []}
        parts.append(
            {"images": list(kept.values()), "annotations": persons, "categories": [category]}
        )
    return parts[0], parts[1]


def guesses(train: Any, test: Any) -> list[Floats]:
    """(k, 2) for each person to measure: the mean place in the box of the labeled persons."""
    places = []
    for person in train["annotations"]:
        x, y, w, h = person["bbox"]
        points = np.reshape(person["keypoints"], (-1, 3)).astype(float)
        points[points[:, 2] == 0] = np.nan
        places.append((points[:, :2] - (x, y)) / (w, h))
    mean = np.nanmean(places, axis=0)
    boxes = [person["bbox"] for person in test["annotations"]]
    return [mean * box[2:] + box[:2] for box in boxes]


def predictions(weights: Path, images: Path, test: Any) -> list[Floats]:
    """(k, 2) for each person to measure, by a model."""
    estimator = load(str(weights), detector="full-image", threads=1)
    files = {image["id"]: image["file_name"] for image in test["images"]}
    pixels = ImageFiles(images)
    found = []
    for person in test["annotations"]:
        item = InputImage.of(pixels.read(files[person["image_id"]]), [person["bbox"]])
        ((_, poses),) = estimator.stream([item], select=False)
        found.append(np.asarray(poses.keypoints[0, :, :2], float))
    return found


def scores(found: list[Floats], test: Any, sigmas: Any) -> list[tuple[str, float, float, float]]:
    """OKS and PCK with the bounds of a 95 % interval, by a bootstrap of images."""
    rows = []
    for points, person in zip(found, test["annotations"], strict=True):
        truth = np.reshape(person["keypoints"], (1, -1, 3)).astype(float)
        seen = truth[0, :, 2] > 0
        if not seen.any():
            continue
        terms = keypoint_similarities(points[None], truth, [person["area"]], sigmas)[0]
        near = np.linalg.norm(points - truth[0, :, :2], axis=1) < _PCK * max(person["bbox"][2:])
        rows.append((person["image_id"], terms[seen].mean(), near[seen].mean()))
    table = np.array(rows)
    _, group = np.unique(table[:, 0], return_inverse=True)
    counts = np.bincount(group)
    drawn = np.random.default_rng(0).integers(0, len(counts), (_DRAWS, len(counts)))
    result = []
    for name, values in (("OKS", table[:, 1]), (f"PCK@{_PCK}", table[:, 2])):
        means = np.bincount(group, values)[drawn].sum(1) / counts[drawn].sum(1)
        low, high = np.percentile(means, [2.5, 97.5])
        result.append((name, float(values.mean()), float(low), float(high)))
    return result


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", help="animals, or a COCO file")
    parser.add_argument("--source", default="", help="the `source` of the file's images")
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--held-out", type=int, default=100)
    parser.add_argument("--set", action="append", default=[], help="of the recipe")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labels = folder / "labels.json"
        if arguments.what == "animals":
            parts, roots = [], []
            for part, images in (("train", arguments.count), ("test", arguments.held_out)):
                written = write_dataset(folder / part, images, seed=len(part), figure=ANIMAL)
                parts.append(read_json(written))
                roots.append(folder / part / "images")
            train, test = parts
        else:
            path = Path(arguments.what)
            train, test = nine_keypoints(
                path, arguments.source, arguments.count, arguments.held_out
            )
            photos = folder / "photos"
            photos.mkdir()
            for image in train["images"]:
                data = (path.parent / "images" / image["file_name"]).read_bytes()
                (photos / image["file_name"]).write_bytes(data)
            roots = [photos, path.parent / "images"]
        labels.write_text(json.dumps(train), "utf-8")
        project = Project(roots[0], None, labels)
        learner = Learner(project, load, lambda: None, arguments.set)
        start = time.monotonic()
        learner.start()
        while (model := learner.models()[0]).state == "training":
            time.sleep(1)
        seconds = time.monotonic() - start
        if model.state != "ready":
            raise SystemExit(f"{model.state}: {model.reason}")
        weights = project.folder / "models" / model.name / "model.onnx"
        sigmas = project.skeleton.sigmas
        print(
            f"{len(train['images'])} images, {model.persons} persons to learn from and "
            f"{model.held_out} held out: {seconds / 60:.1f} minutes; the page says {model.score}"
        )
        measured = {"before": guesses(train, test), "after": predictions(weights, roots[1], test)}
        for word, found in measured.items():
            for metric, mean, low, high in scores(found, test, sigmas):
                print(
                    f"{len(found)} other persons, {word}: {metric} {mean:.3f} "
                    f"({low:.3f} to {high:.3f})"
                )
        project.close()


if __name__ == "__main__":
    main()
