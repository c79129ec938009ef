"""Faults planted in a clean data set, to measure how many of them `hrpose data check` finds."""

import copy
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hrpose.io import read_json, write_atomically
from hrpose.quality.labels import Group, Report, groups, read_labels
from hrpose.skeleton import Skeleton

# The share of planted swaps that exchange all pairs; the others exchange some keypoints.
_WHOLE = 0.5
# Sides are swapped only if they are apart by at least this part of the square root of the box area.
_APART = 0.1


@dataclass(slots=True)
class Planted:
    """The planted faults: from kind to file names or annotation ids. `groups` has, for each
    annotation with swapped sides, the swapped keypoints.
    """

    annotations: Path
    images: Path
    others: Path
    faults: dict[str, set[Any]] = field(default_factory=dict)
    groups: dict[int, Group] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Score:
    """The counts of one kind: `planted`, `reported`, and both (`right`)."""

    kind: str
    planted: int
    reported: int
    right: int

    @property
    def recall(self) -> float:
        return self.right / max(self.planted, 1)

    @property
    def precision(self) -> float:
        return self.right / max(self.reported, 1)


def plant(
    annotations: Path, images: Path, out: Path, each: int, rng: np.random.Generator
) -> Planted:
    """Copy a clean set into `out` with `each` faults of every kind, at most one per person or
    image. `out`/val.json and `out`/val are the other set, with copies of some images.
    """
    labels, _ = read_labels(annotations)
    assert labels.skeleton is not None
    document = read_json(annotations)
    planted = Planted(out / "train.json", out / "train", out / "val.json")
    names = {int(i): name for i, name in zip(labels.image_ids, labels.file_names, strict=True)}
    for name in labels.file_names:
        write_atomically(out / "train" / name, (images / name).read_bytes())
    order = rng.permutation(len(document["images"])).tolist()
    entries = document["images"]

    def next_image() -> dict[str, Any]:
        entry: dict[str, Any] = entries[order.pop()]
        return entry

    damages: dict[str, Callable[[Path, dict[str, Any]], None]] = {
        "missing-file": lambda path, entry: path.unlink(),
        "unreadable": lambda path, entry: _damage(path, rng),
        "exif-rotation": _turn,
        "wrong-size": lambda path, entry: _resize(entry, rng),
        "near-duplicate": lambda path, entry: _copy(path, out / "val" / entry["file_name"], rng),
    }
    for kind, damage in damages.items():
        chosen = [next_image() for _ in range(each)]
        for entry in chosen:
            damage(out / "train" / entry["file_name"], entry)
        planted.faults[kind] = {entry["file_name"] for entry in chosen}
    own = [next_image() for _ in range(each)]
    free = {names[entries[row]["id"]] for row in order}
    _write_val(document, planted, own, images, out)
    persons = document["annotations"]
    whole = [i for i, person in enumerate(persons) if names[person["image_id"]] in free]
    waiting = rng.permutation([i for i in whole if any(persons[i]["keypoints"][2::3])]).tolist()
    last = max(person["id"] for person in persons)
    skeleton = labels.skeleton
    sizes = {
        int(i): (int(w), int(h))
        for i, (w, h) in zip(labels.image_ids, labels.image_wh, strict=True)
    }
    moves: dict[str, Callable[[dict[str, Any]], bool]] = {
        "keypoint-outside-image": lambda person: _move_out(person, rng, sizes[person["image_id"]]),
        "keypoint-outside-box": lambda person: _move_off(person, rng, sizes[person["image_id"]]),
        "box-corners": lambda person: _to_corners(person, sizes[person["image_id"]]),
        "box-outside-image": _move_box,
        "box-too-large": _shrink,
        "no-keypoints": _unlabel,
        "malformed": lambda person: _malform(person, rng),
        "swapped-sides": lambda person: _swap(person, skeleton, planted, rng, each),
    }
    for kind, move in moves.items():
        planted.faults[kind] = set()
        while len(planted.faults[kind]) < each and waiting:
            person = persons[waiting.pop()]
            if move(person):
                planted.faults[kind].add(person["id"])
    planted.faults["duplicate-person"] = set()
    for _ in range(min(each, len(waiting))):
        last += 1
        persons.append(_double(persons[waiting.pop()], last, rng))
        planted.faults["duplicate-person"].add(last)
    write_atomically(planted.annotations, json.dumps(document))
    return planted


def score(planted: Planted, report: Report) -> list[Score]:
    """How much of each kind was found; of a person labeled twice, either label counts."""
    scores = []
    for kind, wanted in planted.faults.items():
        found = report.of(kind)
        persons = isinstance(next(iter(wanted), None), int)
        keys = {finding.annotation if persons else finding.file for finding in found}
        scores.append(Score(kind, len(wanted), len(keys), len(keys & wanted)))
    return scores


def _damage(path: Path, rng: np.random.Generator) -> None:
    data = path.read_bytes()
    kinds = (data[: len(data) // 2], b"", b"<html>404 Not Found</html>")
    path.write_bytes(kinds[rng.integers(3)])


def _turn(path: Path, entry: dict[str, Any]) -> None:
    """Add an EXIF orientation that turns the image."""
    with Image.open(path) as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", exif=exif, quality=90)
    path.write_bytes(buffer.getvalue())


def _resize(entry: dict[str, Any], rng: np.random.Generator) -> None:
    """Record the size of an image that was scaled, or turned, after annotation."""
    width, height = entry["width"], entry["height"]
    if rng.uniform() < 0.5 and width != height:
        entry["width"], entry["height"] = height, width
    else:
        factor = rng.choice([0.5, 0.9, 1.25, 2])
        entry["width"], entry["height"] = round(width * factor), round(height * factor)


def _copy(path: Path, copy_to: Path, rng: np.random.Generator) -> None:
    """Copy the image scaled, brightened, cropped a little, compressed, every other one mirrored."""
    image = cv2.imread(str(path))
    assert image is not None
    height, width = image.shape[:2]
    dx, dy = (int(rng.integers(0, max(length // 50, 1) + 1)) for length in (width, height))
    image = image[dy : height - dy, dx : width - dx]
    image = cv2.resize(image, None, fx=(f := rng.uniform(0.5, 1.2)), fy=f)
    image = cv2.convertScaleAbs(image, alpha=rng.uniform(0.85, 1.15), beta=rng.uniform(-15, 15))
    image = image[:, ::-1] if rng.uniform() < 0.5 else image
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 90))])
    write_atomically(copy_to, data.tobytes())


def _write_val(
    document: dict[str, Any], planted: Planted, own: list[dict[str, Any]], images: Path, out: Path
) -> None:
    """Write the other set: the copies, and images moved from the first set."""
    for entry in own:
        name = entry["file_name"]
        write_atomically(out / "val" / name, (images / name).read_bytes())
        (out / "train" / name).unlink()
    shared = [e for e in document["images"] if e["file_name"] in planted.faults["near-duplicate"]]
    gone = {entry["id"] for entry in own}
    val = {**document, "images": [*shared, *own], "annotations": []}
    write_atomically(planted.others, json.dumps(val))
    document["images"][:] = [e for e in document["images"] if e["id"] not in gone]
    document["annotations"][:] = [a for a in document["annotations"] if a["image_id"] not in gone]


def _move_out(person: dict[str, Any], rng: np.random.Generator, wh: tuple[int, int]) -> bool:
    """Move a keypoint out of the image, by 3 to 60 pixels."""
    x, y, w, h = person["bbox"]
    middle, far = (x + w / 2, y + h / 2), rng.uniform(3, 60)
    ways = (-far, middle[1]), (wh[0] + far, middle[1]), (middle[0], -far), (middle[0], wh[1] + far)
    return _put(person, rng, ways[rng.integers(4)])


def _move_off(person: dict[str, Any], rng: np.random.Generator, wh: tuple[int, int]) -> bool:
    """Move a keypoint out of the box by a fifth to a half of its longer side, inside the image."""
    x, y, w, h = person["bbox"]
    middle, far = (x + w / 2, y + h / 2), rng.uniform(0.2, 0.5) * max(w, h)
    ways = (
        (x - far, middle[1]),
        (x + w + far, middle[1]),
        (middle[0], y - far),
        (middle[0], y + h + far),
    )
    inside = [way for way in ways if 0 <= way[0] < wh[0] and 0 <= way[1] < wh[1]]
    return bool(inside) and _put(person, rng, inside[rng.integers(len(inside))])


def _put(person: dict[str, Any], rng: np.random.Generator, place: tuple[float, float]) -> bool:
    points = np.array(person["keypoints"], float).reshape(-1, 3)
    points[rng.choice(np.flatnonzero(points[:, 2] > 0)), :2] = place
    person["keypoints"] = points.ravel().tolist()
    return True


def _to_corners(person: dict[str, Any], wh: tuple[int, int]) -> bool:
    """Write the box as its corners, where that leaves the image."""
    x, y, w, h = person["bbox"]
    person["bbox"] = [x, y, x + w, y + h]
    leaves = 2 * x + w > wh[0] + 3 or 2 * y + h > wh[1] + 3
    if not leaves:
        person["bbox"] = [x, y, w, h]
    return bool(leaves)


def _move_box(person: dict[str, Any]) -> bool:
    """Enlarge the box to the left, out of the image."""
    x, y, w, h = person["bbox"]
    person["bbox"] = [-5, y, x + w + 5, h]
    return True


def _shrink(person: dict[str, Any]) -> bool:
    """Shrink the person to a quarter, where at least half of the keypoints are labeled."""
    points = np.array(person["keypoints"], float).reshape(-1, 3)
    labeled = points[:, 2] > 0
    if 2 * labeled.sum() < len(points):
        return False
    middle = points[labeled, :2].mean(axis=0)
    points[labeled, :2] = middle + (points[labeled, :2] - middle) / 4
    person["keypoints"] = points.ravel().tolist()
    return True


def _unlabel(person: dict[str, Any]) -> bool:
    person["keypoints"] = [0] * len(person["keypoints"])
    person["num_keypoints"] = 0
    return True


def _malform(person: dict[str, Any], rng: np.random.Generator) -> bool:
    kind = rng.integers(4)
    if kind == 0:
        person["keypoints"] = person["keypoints"][:-3]
    elif kind == 1:
        person["keypoints"][0] = float("nan")
    elif kind == 2:
        person["bbox"] = [*person["bbox"][:2], 0, 0]
    else:
        person["image_id"] = 10**9 + int(person["id"])
    return True


def _swap(
    person: dict[str, Any],
    skeleton: Skeleton,
    planted: Planted,
    rng: np.random.Generator,
    each: int,
) -> bool:
    """Swap all pairs, or one group of pairs, if left and right are apart."""
    known = groups(skeleton)
    whole = len(planted.groups) < _WHOLE * each
    group = known[0] if whole else known[int(rng.integers(1, len(known)))]
    points = np.array(person["keypoints"], float).reshape(-1, 3)
    size = np.sqrt(max(person["bbox"][2] * person["bbox"][3], 1))
    pairs = np.array([skeleton.flip_pairs[pair] for pair in group.pairs])
    both = (points[pairs[:, 0], 2] > 0) & (points[pairs[:, 1], 2] > 0)
    apart = np.linalg.norm(points[pairs[:, 0], :2] - points[pairs[:, 1], :2], axis=1) / size
    if not (both & (apart > _APART)).any():
        return False
    person["keypoints"] = points[permutation(group, skeleton)].ravel().tolist()
    planted.groups[person["id"]] = group
    return True


def _double(person: dict[str, Any], number: int, rng: np.random.Generator) -> dict[str, Any]:
    """The same person by another annotator: everything a little different."""
    twin = copy.deepcopy(person)
    size = np.sqrt(max(person["bbox"][2] * person["bbox"][3], 1))
    points = np.array(twin["keypoints"], float).reshape(-1, 3)
    points[:, :2] += np.where(points[:, 2:] > 0, rng.normal(0, 0.015 * size, (len(points), 2)), 0)
    twin["keypoints"] = points.ravel().tolist()
    twin["bbox"] = (np.array(twin["bbox"]) + rng.normal(0, 0.01 * size, 4)).tolist()
    twin["id"] = number
    return twin


def permutation(group: Group, skeleton: Skeleton) -> NDArray[np.int64]:
    """(k,): the keypoint that takes the place of each where the group is swapped."""
    order = np.arange(len(skeleton))
    for pair in group.pairs:
        left, right = skeleton.flip_pairs[pair]
        order[[left, right]] = right, left
    return order
