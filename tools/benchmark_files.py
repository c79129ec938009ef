"""Made-up annotations and results of four benchmarks, in their own formats, with what is rare.

Ties of scores, perfect and absent poses, persons without a labeled keypoint, crowds, images without
persons, values on the borders of levels, lost and exchanged tracks, and regions to ignore.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.metrics.benchmarks import PART_KEYS
from hrpose.metrics.posetrack import KEYPOINTS
from hrpose.skeletons import COCO_17, CROWDPOSE_14, POSETRACK18_17

Files = tuple[dict[str, Any], list[dict[str, Any]]]
OCHUMAN_19 = (*COCO_17.keypoints[5:], *COCO_17.keypoints[:5], "head", "neck")


def crowdpose(seed: int) -> Files:
    """CrowdPose: images with a crowd index, and `num_keypoints` of visible keypoints."""
    rng = np.random.default_rng(seed)
    truth, results = _coco(rng, len(CROWDPOSE_14))
    levels = [0.0, 0.2, 0.8, 1.0, 0.1999, 0.79999]
    for row, image in enumerate(truth["images"]):
        image["crowdIndex"] = levels[row] if row < len(levels) else float(rng.random())
    for person in truth["annotations"]:
        person["num_keypoints"] = sum(v == 2 for v in person["keypoints"][2::3])
        del person["area"]
    truth["categories"] = [CROWDPOSE_14.to_coco_category()]
    return truth, results


def coco_wholebody(seed: int) -> Files:
    """COCO-WholeBody: parts in lists of their own, of which some are not valid."""
    rng = np.random.default_rng(seed)
    counts = {"keypoints": 17, **PART_KEYS}
    truth, results = _coco(rng, sum(counts.values()))
    for entry in (*truth["annotations"], *results):
        values, labeled = entry["keypoints"], "bbox" in entry
        for key, count in counts.items():
            entry[key], values = values[: 3 * count], values[3 * count :]
            if key == "keypoints":
                continue
            valid = bool(rng.random() > 0.3)
            if labeled:
                entry[key.replace("kpts", "valid")] = valid
            if labeled and not valid:
                entry[key] = [0.0] * (3 * count)
    truth["categories"] = [COCO_17.to_coco_category()]
    return truth, results


def ochuman(seed: int) -> Files:
    """OCHuman's one file. Results are of its validation set, numbered as its tool does."""
    rng = np.random.default_rng(seed)
    k = len(OCHUMAN_19)
    truth, results = _coco(rng, 17)
    order = [OCHUMAN_19.index(name) for name in COCO_17.keypoints]
    images = []
    numbers: dict[int, int] = {}
    for row, image in enumerate(truth["images"]):
        persons = []
        for person in truth["annotations"]:
            if person["image_id"] != image["id"]:
                continue
            points = np.zeros((k, 3))
            points[order] = np.reshape(person["keypoints"], (17, 3))
            points[:, 2] = np.where(points[:, 2] > 0, rng.integers(1, 4, k), 0)
            x, y, width, height = person["bbox"]
            labeled = rng.random() > 0.2
            persons.append(
                {
                    "bbox": [x, y, x + width, y + height],
                    "keypoints": points.ravel().tolist() if labeled else None,
                    "segms": {"outer": [], "inner": []} if rng.random() > 0.1 else None,
                    "max_iou": float(rng.choice([0.5, 0.75, 1.0, 0.7499, rng.uniform(0, 1)])),
                }
            )
        size = {key: image[key] for key in ("file_name", "width", "height")}
        images.append({"image_id": row, **size, "annotations": persons})
        if any(p["keypoints"] and p["segms"] and p["max_iou"] < 1 for p in persons):
            numbers[image["id"]] = len(numbers) + 1
    raw = {
        "keypoint_names": list(OCHUMAN_19),
        "keypoint_visible": {"missing": 0, "vis": 1, "self_occluded": 2, "others_occluded": 3},
        "images": images,
    }
    results = [r for r in results if r["image_id"] in numbers]
    return raw, [{**r, "image_id": numbers[r["image_id"]]} for r in results]


def posetrack18(seed: int, clips: int = 3, frames: int = 12) -> tuple[list[Any], list[Any]]:
    """PoseTrack18's clips, one document each, and the predictions in the same form."""
    rng = np.random.default_rng(seed)
    pairs = [_clip(rng, clip, frames) for clip in range(1, clips + 1)]
    return [truth for truth, _ in pairs], [found for _, found in pairs]


def _coco(rng: np.random.Generator, k: int) -> Files:
    images, annotations, results = [], [], []
    for image_id in range(1, 25):
        size = {"width": 640, "height": 640, "file_name": f"{image_id}.jpg"}
        images.append({"id": image_id, **size})
        persons = int(rng.integers(0, 5)) if image_id != 7 else 24
        for _ in range(persons):
            side = float(np.exp(rng.uniform(np.log(20), np.log(300))))
            corner = rng.uniform(0, 300, 2)
            points = corner + rng.uniform(0, side, (k, 2))
            seen = rng.integers(0, 3, k) * (rng.random() > 0.15)
            points[seen == 0] = 0
            box = [*corner.tolist(), side, side * float(rng.uniform(0.5, 1.5))]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "keypoints": np.column_stack([points, seen]).ravel().tolist(),
                    "num_keypoints": int((seen > 0).sum()),
                    "area": side * side * float(rng.uniform(0.3, 0.9)),
                    "bbox": box,
                    "iscrowd": int(rng.random() < 0.1),
                }
            )
            for _ in range(int(rng.integers(0, 4))):
                noise = side * float(rng.choice([0, 0.01, 0.03, 0.1]))
                found = points + rng.normal(0, 1, points.shape) * noise
                results.append(_result(rng, image_id, found))
        if rng.random() < 0.3:
            results.append(_result(rng, image_id, rng.uniform(0, 640, (k, 2))))
    return {"images": images, "annotations": annotations}, results


def _result(rng: np.random.Generator, image_id: int, points: NDArray[Any]) -> dict[str, Any]:
    scores = rng.random(len(points)) * (rng.random() > 0.05)
    keypoints = np.column_stack([points.round(3), scores]).ravel().tolist()
    # Few different scores, so that many are equal.
    score = float(rng.integers(1, 20) / 20)
    return {"image_id": image_id, "category_id": 1, "keypoints": keypoints, "score": score}


def _clip(rng: np.random.Generator, clip: int, frames: int) -> tuple[Any, Any]:
    k = len(POSETRACK18_17)
    category = {
        "id": 1,
        "name": "person",
        "keypoints": list(POSETRACK18_17.keypoints),
        "skeleton": [],
    }
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": [category]}
    found: dict[str, Any] = {"images": [], "annotations": [], "categories": [category]}
    unlabeled = [POSETRACK18_17.keypoints.index(f"{side}_ear") for side in ("left", "right")]
    starts = rng.uniform(50, 400, (4, 2))
    bodies = rng.uniform(0, 120, (4, k, 2))
    speeds = rng.normal(0, 6, (4, 2))
    names = rng.permutation(40)[:8] + 1
    for frame in range(frames):
        image_id = 10000 * clip + frame
        image = {"id": image_id, "frame_id": image_id, "vid_id": f"{clip:06d}"}
        image |= {"file_name": f"images/val/{clip:06d}_mpii/{frame:06d}.jpg"}
        if rng.random() < 0.5:
            corner = rng.integers(0, 400, 2)
            shape = np.array([[0, 0], [150, 20], [80, 70], [120, 200], [0, 90]]) + corner
            image["ignore_regions_x"] = [shape[:, 0].tolist()]
            image["ignore_regions_y"] = [shape[:, 1].tolist()]
        truth["images"].append(image)
        found["images"].append(dict(image))
        for person in range(4):
            points = (starts[person] + frame * speeds[person] + bodies[person]).round()
            if rng.random() < 0.15 or frame == 3:
                pass
            else:
                there = rng.random(k) > 0.15
                there[unlabeled] = False
                there &= rng.random() > 0.05
                values = np.column_stack([points, np.ones(k)]) * there[:, None]
                truth["annotations"].append(
                    {
                        "id": 100 * image_id + person,
                        "image_id": image_id,
                        "category_id": 1,
                        "track_id": person,
                        "keypoints": values.ravel().tolist(),
                        "bbox_head": [*points[2].tolist(), 24, 32],
                        "bbox": [*points.min(axis=0).tolist(), 120, 120],
                    }
                )
            if frame == 5:
                continue
            for _ in range(int(rng.choice([0, 1, 1, 1, 1, 1, 2]))):
                noise = rng.integers(-9, 10, (k, 2)) * rng.choice([0, 1, 1, 3])
                # Exactly at the limit: half of 0.6 times the diagonal of 40.
                noise[rng.random(k) < 0.1] = [0, 12]
                there = rng.random(k) > 0.1
                values = np.column_stack([points + noise, np.ones(k)]) * there[:, None]
                number = names[person + 4 * (rng.random() < 0.1)]
                found["annotations"].append(
                    {
                        "id": len(found["annotations"]) + 1,
                        "image_id": image_id,
                        "category_id": 1,
                        "track_id": int(number if rng.random() > 0.1 else rng.choice(names)),
                        "keypoints": values.ravel().tolist(),
                        "scores": (rng.integers(0, 30, k) / 30).tolist(),
                        "score": float(rng.random()),
                    }
                )
    assert len(KEYPOINTS) == k - len(unlabeled)
    return truth, found
