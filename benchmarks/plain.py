"""Baselines: one person, one keypoint, one pair at a time, written from their description."""

import contextlib
import io
import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from hrpose.data.persons import PersonTable
from hrpose.geometry import Crop

Floats = NDArray[Any]


def targets(points: Floats, wh: tuple[int, int], sigma: float) -> Floats:
    """(n, k, 2) heatmap pixels to (n, k, h, w): a Gaussian is made and pasted for each keypoint."""
    width, height = wh
    reach = int(3 * sigma)
    out = np.zeros((*points.shape[:2], height, width), np.float32)
    for person in range(points.shape[0]):
        for keypoint in range(points.shape[1]):
            x, y = (int(v + 0.5) for v in points[person, keypoint])
            patch = np.arange(-reach, reach + 1, dtype=np.float32)
            gaussian = np.exp(-(patch[:, None] ** 2 + patch[None, :] ** 2) / (2 * sigma**2))
            x0, x1 = max(0, x - reach), min(width, x + reach + 1)
            y0, y1 = max(0, y - reach), min(height, y + reach + 1)
            if x0 < x1 and y0 < y1:
                left, top = x0 - x + reach, y0 - y + reach
                window = gaussian[top : top + y1 - y0, left : left + x1 - x0]
                out[person, keypoint, y0:y1, x0:x1] = window
    return out


def decode(heatmaps: Floats) -> Floats:
    """(n, k, h, w) to (n, k, 2): the peak, a quarter pixel toward the higher neighbor."""
    n, k, height, width = heatmaps.shape
    points = np.zeros((n, k, 2), np.float32)
    for person in range(n):
        for keypoint in range(k):
            one = heatmaps[person, keypoint]
            y, x = divmod(int(one.argmax()), width)
            if one[y, x] <= 0:
                continue
            points[person, keypoint] = x, y
            if 1 < x < width - 1 and 1 < y < height - 1:
                slope = np.array([one[y, x + 1] - one[y, x - 1], one[y + 1, x] - one[y - 1, x]])
                points[person, keypoint] += np.sign(slope) * 0.25
    return points


def to_image(points: Floats, crops: list[Crop]) -> Floats:
    """(n, k, 2) heatmap pixels to image pixels, each point by itself."""
    out = np.zeros(points.shape)
    for person, crop in enumerate(crops):
        (x, y), (_, h) = crop.center, crop.size
        corners = np.array([[x, y], [x, y - h / 2], [x - h / 2, y]], np.float32)
        middle = np.array([24, 32], np.float32)
        inside = np.array([middle, middle - [0, 32], middle - [32, 0]], np.float32)
        matrix = cv2.getAffineTransform(inside, corners)
        for keypoint in range(points.shape[1]):
            out[person, keypoint] = matrix @ np.array([*points[person, keypoint], 1.0])
    return out


def oks_nms(
    keypoints: Floats, areas: Floats, scores: Floats, threshold: float, sigmas: Floats
) -> list[int]:
    """Greedy suppression, one pair of poses at a time."""
    variances = (2 * sigmas) ** 2
    order = list(np.argsort(scores)[::-1])
    kept = []
    while order:
        best = order.pop(0)
        kept.append(int(best))
        rest = []
        for other in order:
            difference = keypoints[other, :, :2] - keypoints[best, :, :2]
            area = (areas[best] + areas[other]) / 2 + np.spacing(1)
            similarity = np.exp(-(difference**2).sum(axis=1) / variances / area / 2).mean()
            if not math.isnan(similarity) and similarity <= threshold:
                rest.append(other)
        order = rest
    return kept


def oks_nms_per_image(
    images: Floats,
    keypoints: Floats,
    areas: Floats,
    scores: Floats,
    threshold: float,
    sigmas: Floats,
) -> list[int]:
    """Each image's poses by themselves, as a list of indices."""
    by_image: dict[int, list[int]] = {}
    for index, image in enumerate(images):
        by_image.setdefault(int(image), []).append(index)
    kept = []
    for rows in by_image.values():
        chosen = oks_nms(keypoints[rows], areas[rows], scores[rows], threshold, sigmas)
        kept += [rows[i] for i in chosen]
    return kept


def person_dicts(path: Path) -> list[dict[str, Any]]:
    """The people of a COCO file as a list of dicts of lists and arrays."""
    document = json.loads(path.read_text())
    names = {image["id"]: image["file_name"] for image in document["images"]}
    entries = []
    for person in document["annotations"]:
        keypoints = np.array(person["keypoints"], float).reshape(-1, 3)
        entries.append(
            {
                "image": f"images/{names[person['image_id']]}",
                "center": np.array(person["bbox"][:2]) + np.array(person["bbox"][2:]) / 2,
                "scale": np.array(person["bbox"][2:]) / 200,
                "box": person["bbox"],
                "keypoints": keypoints * [1, 1, 0],
                "visible": np.minimum(keypoints[:, 2:], 1) * [1, 1, 0],
            }
        )
    return entries


def evaluate(
    truth_file: Path,
    results_file: Path,
    images: Floats,
    keypoints: Floats,
    scores: Floats,
    areas: Floats,
    sigmas: Floats,
) -> float:
    """Load, rescore one pose at a time, suppress, write, and let pycocotools find the AP."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    person_dicts(truth_file)
    rescored = np.zeros(len(scores))
    for pose in range(len(scores)):
        total, count = 0.0, 0
        for keypoint in range(keypoints.shape[1]):
            if keypoints[pose, keypoint, 2] > 0.2:
                total, count = total + keypoints[pose, keypoint, 2], count + 1
        rescored[pose] = scores[pose] * (total / count if count else 0)
    kept = oks_nms_per_image(images, keypoints, areas, rescored, 0.9, sigmas)
    results = [
        {
            "image_id": int(images[i]),
            "category_id": 1,
            "keypoints": keypoints[i].ravel().tolist(),
            "score": float(rescored[i]),
        }
        for i in kept
    ]
    results_file.write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(truth_file))
        evaluation = COCOeval(truth, truth.loadRes(str(results_file)), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def sample(
    table: PersonTable, images: Path, person: int, rng: np.random.Generator
) -> tuple[Floats, ...]:
    """A training sample of 256x192: whole image, one warp, floats, one target at a time."""
    image = cv2.imread(str(images / table.image_name(person)))
    assert image is not None
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    crop = Crop.from_box(table.boxes[person], (192, 256))
    zoom, angle = np.clip(rng.normal(1, 0.35), 0.65, 1.35), np.clip(rng.normal(0, 45), -90, 90)
    keypoints, mirrored = table.keypoints[person].astype(float), rng.uniform() < 0.5
    (x, y), (w, h) = crop.center, crop.size
    if mirrored:
        image = np.ascontiguousarray(image[:, ::-1])
        keypoints = keypoints[table.skeleton.flip_permutation]
        keypoints[:, 0] = image.shape[1] - keypoints[:, 0] - 1
        x = image.shape[1] - x - 1
    turned = Crop((x, y), (w * zoom, h * zoom), (192, 256), float(angle))
    warped = cv2.warpAffine(image, turned.matrix, (192, 256), flags=cv2.INTER_LINEAR)
    points = np.zeros((17, 2))
    for keypoint in range(17):
        points[keypoint] = turned.matrix @ np.array([*keypoints[keypoint, :2], 1.0])
    floats = torch.from_numpy(warped).permute(2, 0, 1).float().div(255)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normal = floats.sub_(mean[:, None, None]).div_(std[:, None, None])
    return normal.numpy(), targets(points[None] / 4, (48, 64), 2)[0], keypoints[:, 2]


@torch.no_grad()
def predict(network: torch.nn.Module, image: Path, crops: list[Crop]) -> Floats:
    """Whole image, one crop at a time, an eager network, one keypoint at a time."""
    image = cv2.cvtColor(cv2.imread(str(image)), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    inputs = []
    for crop in crops:
        warped = cv2.warpAffine(image, crop.matrix, crop.input_wh, flags=cv2.INTER_LINEAR)
        floats = torch.from_numpy(warped).permute(2, 0, 1).float().div(255)
        inputs.append(floats.sub_(mean[:, None, None]).div_(std[:, None, None]))
    heatmaps = network(torch.stack(inputs)).numpy()
    return to_image(decode(heatmaps), crops)
