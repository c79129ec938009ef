"""`hrpose data predict-labels`: labels by a model, as far as its views of a person agree.

A model that finds a keypoint at the same place in the image, its mirror image, and crops that are
shifted, larger or smaller, is mostly right; where its answers differ, it mostly guesses. The views
of one model are averaged as in Radosavovic et al., "Data Distillation" (CVPR 2018), which found
labels made so good enough to train on.

    OUT/labels.jsonl      what they were made with, then one line for each image or frame
    OUT/images/           links to the images, and frames of clips as JPEG
    OUT/annotations.json  the COCO keypoints file, written at the end
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError
from hrpose.estimator import MAX_PERSONS, Detector
from hrpose.geometry import Crop, transform, warp
from hrpose.image import ImageSource, encode
from hrpose.io import name_to_text, write_atomically
from hrpose.metrics.oks import keypoint_similarities
from hrpose.models.onnx_pose import PoseModel
from hrpose.poses import Poses, distinct
from hrpose.predict.inputs import Boxes, ClipInput, ImageInput, Inputs, flat_names
from hrpose.skeleton import Skeleton

# Crops that go through the network at once.
BATCH = 24


@dataclass(frozen=True, slots=True)
class View:
    """How a view's crop differs from the person's: its center moves by `shift`, relative to its
    size, its sides are `scale` times as long, and it may be the mirror image.
    """

    shift: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    mirrored: bool = False

    def of(self, crop: Crop) -> Crop:
        """The crop of this view."""
        (x, y), (w, h) = crop.center, crop.size
        return replace(
            crop,
            center=(x + self.shift[0] * w, y + self.shift[1] * h),
            size=(w * self.scale, h * self.scale),
            mirrored=self.mirrored,
        )


# About what boxes of a detector vary by.
VIEWS = (
    View(),
    View(mirrored=True),
    View(shift=(0.05, 0.03)),
    View(shift=(-0.05, -0.03), mirrored=True),
    View(scale=0.88),
    View(scale=1.14, mirrored=True),
)


@dataclass(frozen=True, slots=True, eq=False)
class Consensus:
    """What the views of n persons agree on.

    `points` (n, k, 2) are means in image pixels, weighted by the views' scores, `scores` (n, k)
    the views' mean scores in [0, 1], `trust` (n, k) in [0, 1] the agreement: the mean term of the
    OKS between the views' points and their mean, in which a keypoint's OKS constant and the area
    of the person's box say what is near.
    """

    points: NDArray[np.float64]
    scores: NDArray[np.float64]
    trust: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.points)


def consensus(
    model: PoseModel,
    boxes: NDArray[np.float64],
    cut: Callable[[int, Crop], NDArray[np.uint8]],
    views: Sequence[View] = VIEWS,
) -> Consensus:
    """The keypoints of the persons in `boxes` (n, 4) [x, y, w, h], by `views` of each.

    `cut` gives the pixels (h, w, 3) of a crop of a person, by its row.
    """
    metadata = model.metadata
    crops = [(row, view.of(metadata.crop(box))) for row, box in enumerate(boxes) for view in views]
    shape = (len(boxes), len(views), len(metadata.skeleton))
    flat_points, flat_scores = np.zeros((len(crops), shape[2], 2)), np.zeros((len(crops), shape[2]))
    for start in range(0, len(crops), BATCH):
        part = crops[start : start + BATCH]
        found, peaks = model.keypoints(np.stack([cut(row, crop) for row, crop in part]))
        matrices = np.stack([crop.inverse_matrix for _, crop in part])
        flat_points[start : start + BATCH] = transform(found, matrices)
        flat_scores[start : start + BATCH] = metadata.keypoint_scores(peaks)
    points, scores = flat_points.reshape(*shape, 2), flat_scores.reshape(shape)
    order = metadata.skeleton.flip_permutation
    for at, view in enumerate(views):
        if view.mirrored:
            points[:, at], scores[:, at] = points[:, at][:, order], scores[:, at][:, order]
    # Views without a peak have no weight.
    weights = np.maximum(scores, 1e-3)[..., None]
    mean = (points * weights).sum(axis=1) / weights.sum(axis=1)
    areas = boxes[:, 2:].prod(axis=1)
    near = [
        keypoint_similarities(points[:, at], mean, areas, metadata.skeleton.sigmas)
        for at in range(len(views))
    ]
    trust = np.mean(near, axis=0) if len(boxes) else np.zeros((0, shape[2]))
    return Consensus(mean, scores.mean(axis=1), trust)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What is labeled: keypoints that the views agree on with at least `min_trust`, of persons with
    at least `min_keypoints` of these. Of clips, every `every`-th frame.
    """

    min_trust: float = 0.8
    min_keypoints: int = 6
    every: int = 15


# What is counted as left out.
UNREAD, EMPTY = "images that cannot be read", "images without a person"
FEW, REPEATED = "persons with too few trusted keypoints", "persons labeled twice"
DOUBTFUL = "keypoints without enough trust"
_JPEG = {cv2.IMWRITE_JPEG_QUALITY: 95}


@dataclass(frozen=True, slots=True)
class PseudoLabels:
    """What was written: numbers of `images` with a person, `persons` and `keypoints`, the numbers
    `left_out` by reason, how many images were `resumed` from an earlier run, and lines about what
    could not be read.
    """

    path: Path
    images: int
    persons: int
    keypoints: int
    resumed: int
    left_out: Mapping[str, int]
    unread: tuple[str, ...] = field(default=())


def predict_labels(
    model: PoseModel,
    weights: Mapping[str, str],
    detector: Detector,
    inputs: Inputs,
    out: Path,
    thresholds: Thresholds,
    *,
    boxes: Mapping[ImageInput, Boxes] | None = None,
    copy: bool = False,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> PseudoLabels:
    """Label the persons in images, and in frames of clips, that `detector` or `boxes` give.

    `weights` are facts about the model, which are written too: its name, hash and license. Run
    again with the same settings, images that are done are not repeated, and new ones are added.
    Raises UserError where `out` has labels of other settings.
    """
    metadata = model.metadata
    plan = {
        "version": 1,
        "model": dict(weights),
        "skeleton": metadata.skeleton.to_dict(),
        "detector": "boxes" if boxes is not None else detector.name,
        "thresholds": asdict(thresholds),
        "views": [asdict(view) for view in VIEWS],
    }
    file = out / "labels.jsonl"
    done = _begun(file, plan)
    resumed, unread = len(done), []
    taken = {line["file_name"] for line in done.values()}
    (out / "images").mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:

        def add(line: dict[str, Any]) -> None:
            lines.write(json.dumps(line) + "\n")
            lines.flush()
            done[line["key"]] = line
            taken.add(line["file_name"])

        names = flat_names(inputs.images)
        for number, image in enumerate(inputs.images, 1):
            if str(image) not in done:
                try:
                    pixels = ImageSource.of(image.content()).pixels()
                    given = None if boxes is None else boxes[image]
                    found = _labeled(model, pixels, _boxes(detector, pixels, given), thresholds)
                except UserError as error:
                    unread.append(str(error))  # tried again by the next run
                else:
                    name = _free(name_to_text(names[image]), taken)
                    _place(out / "images" / name, image, pixels, copy)
                    add({"key": str(image), "file_name": name, **found})
            progress(number, len(inputs.images) if not inputs.clips else None)
        for clip in inputs.clips:
            try:
                for key, given_name, pixels in _frames(clip, thresholds.every, done):
                    name = _free(given_name, taken)
                    found = _labeled(model, pixels, _boxes(detector, pixels, None), thresholds)
                    if found["persons"]:
                        path = out / "images" / name
                        write_atomically(path, encode(pixels, ".jpg", _JPEG))
                    add({"key": key, "file_name": name, **found})
                    progress(len(done), None)
            except UserError as error:
                unread.append(str(error))
    left_out = Counter({UNREAD: len(unread)} if unread else {})
    for line in done.values():
        left_out.update(line["left_out"])
    document = _document(done.values(), metadata.skeleton, plan)
    path = out / "annotations.json"
    write_atomically(path, json.dumps(document))
    persons = document["annotations"]
    return PseudoLabels(
        path,
        len(document["images"]),
        len(persons),
        sum(each["num_keypoints"] for each in persons),
        resumed,
        dict(left_out),
        tuple(unread),
    )


def _begun(file: Path, plan: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The lines of an earlier run by their keys; a new file begins with the plan.

    The last line may have been cut off, and is dropped then.
    """
    plan = json.loads(json.dumps(plan))
    if not file.exists():
        write_atomically(file, json.dumps(plan) + "\n")
        return {}
    text = file.read_bytes().decode("utf-8", "replace")
    whole = text[: text.rfind("\n") + 1]
    try:
        first, *rest = map(json.loads, whole.splitlines())
        found = {line["key"]: line for line in rest}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{file}: expected the labels of an earlier run, found {error!r}; remove the file, or "
            "choose another --out",
            code="annotations-invalid",
        ) from error
    if first != plan:
        other = [key for key in plan if first.get(key) != plan[key]]
        raise UserError(
            f"{file.parent}: has labels made with other settings ({', '.join(other)}); choose "
            "another --out",
            code="resume-mismatch",
        )
    if whole != text:
        write_atomically(file, whole)
    return found


def _boxes(
    detector: Detector, pixels: NDArray[np.uint8], given: Boxes | None
) -> NDArray[np.float64]:
    if given is not None:
        return np.asarray(given[0], np.float64).reshape(-1, 4)
    return detector(pixels).best(MAX_PERSONS).xywh.astype(np.float64)


def _labeled(
    model: PoseModel, pixels: NDArray[np.uint8], boxes: NDArray[np.float64], limits: Thresholds
) -> dict[str, Any]:
    """The size of an image, its persons and what was left out, for one line."""
    (height, width), skeleton = pixels.shape[:2], model.metadata.skeleton
    left_out: Counter[str] = Counter()
    agreed = consensus(model, boxes, lambda _, crop: warp(pixels, crop))
    inside = ((agreed.points >= 0) & (agreed.points <= (width - 1, height - 1))).all(axis=-1)
    good = (agreed.trust >= limits.min_trust) & inside
    enough = good.sum(axis=1) >= limits.min_keypoints
    left_out[FEW] += int((~enough).sum())
    rows = np.flatnonzero(enough)
    trust = np.where(good, agreed.trust, 0)
    scores = trust.sum(axis=1) / np.maximum(good.sum(axis=1), 1)
    points = np.concatenate([agreed.points, agreed.scores[..., None]], axis=-1)
    poses = Poses(
        points[rows].astype(np.float32),
        boxes[rows].astype(np.float32),
        # Of two on the same person the one with more trusted keypoints is better.
        (trust[rows].sum(axis=1) / len(skeleton)).astype(np.float32),
        skeleton,
    )
    kept = rows[distinct(poses)] if len(rows) else rows
    left_out[REPEATED] += len(rows) - len(kept)
    left_out[DOUBTFUL] += int((~good[kept]).sum())
    left_out[EMPTY] += not len(kept)
    persons = [
        {
            "bbox": [round(value, 2) for value in boxes[row].tolist()],
            "keypoints": [
                [round(x, 2), round(y, 2), 2] if ok else [0, 0, 0]
                for (x, y), ok in zip(agreed.points[row].tolist(), good[row], strict=True)
            ],
            "keypoint_trust": [round(value, 3) for value in trust[row].tolist()],
            "trust": round(float(scores[row]), 3),
        }
        for row in kept
    ]
    counts = {name: count for name, count in left_out.items() if count}
    return {"width": width, "height": height, "persons": persons, "left_out": counts}


def _frames(
    clip: ClipInput, every: int, done: Mapping[str, Any]
) -> Iterator[tuple[str, str, NDArray[np.uint8]]]:
    """The key, the name and the pixels of each frame to label that is not done."""
    from hrpose.video import Clip

    with Clip.open(clip.source) as opened:
        for frame in opened:
            key = f"{clip}#{frame.index}"
            if frame.index % every == 0 and key not in done:
                yield key, f"{clip.stem}_{frame.index:06d}.jpg", frame.image
        if opened.damage is not None:
            raise UserError(opened.damage, code="file-unreadable")


def _free(name: str, taken: Container[str]) -> str:
    """The name, or where an image of an earlier run has it, another one."""
    path, free = PurePath(name), name
    for number in count(2):
        if free not in taken:
            break
        free = f"{path.stem}-{number}{path.suffix}"
    return free


def _place(path: Path, image: ImageInput, pixels: NDArray[np.uint8], copy: bool) -> None:
    """Link or copy an image to the data set; what came from an address is written."""
    if path.exists() or path.is_symlink():
        return
    if not isinstance(image.source, Path):
        write_atomically(path, encode(pixels, PurePath(path).suffix or ".png"))
    elif copy:
        shutil.copyfile(image.source, path)
    else:
        target = os.path.relpath(image.source.resolve(), path.parent.resolve())
        path.symlink_to(target)


def _document(
    lines: Iterable[Mapping[str, Any]], skeleton: Skeleton, plan: Mapping[str, Any]
) -> dict[str, Any]:
    """The COCO keypoints file of these lines; images without persons are not in it."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for line in lines:
        if not line["persons"]:
            continue
        size = {name: line[name] for name in ("file_name", "width", "height")}
        images.append({"id": len(images) + 1, **size})
        for person in line["persons"]:
            x, y, w, h = person["bbox"]
            triples = person["keypoints"]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": 1,
                    "bbox": [x, y, w, h],
                    "area": round(w * h, 2),
                    "iscrowd": 0,
                    "num_keypoints": sum(v > 0 for _, _, v in triples),
                    "keypoints": [value for triple in triples for value in triple],
                    "trust": person["trust"],
                    "keypoint_trust": person["keypoint_trust"],
                }
            )
    return {
        "info": {"description": "Labels predicted by a model, not by people", "made_with": plan},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{**skeleton.to_coco_category(), "supercategory": "person"}],
    }
