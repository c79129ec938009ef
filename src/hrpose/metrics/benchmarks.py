"""CrowdPose, OCHuman, COCO-WholeBody and PoseTrack18: their annotations and their metrics.

Annotations become COCO keypoints JSON, in which stays what the metrics need. These are computed as
the benchmarks' own tools do; the first three are COCO's with other labels.

- CrowdPose (Li et al., CVPR 2019): images have a `crowdIndex`; their published width and height are
  exchanged. The area of a person is 0.53 times that of its box, there are no ranges of size. AP
  also of the easy, medium and hard images.
- OCHuman (Zhang et al., CVPR 2019): annotations have a `max_iou`, the greatest IoU of their box
  with another one's. AP also of the persons of a moderate and a great one.
- COCO-WholeBody (Jin et al., ECCV 2020): feet, face and hands, which are lists of their own
  (`foot_kpts` ...), are joined to the 17 keypoints, as 133. AP and AR also of each part.
- PoseTrack18 (Andriluka et al., CVPR 2018): its files, one for each clip, become one. Images have
  `vid_id` and polygons to ignore, annotations `track_id` and `bbox_head`, the unit of length. The
  metrics are in `hrpose.metrics.posetrack`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hrpose.data.coco import CocoAnnotations, read_annotations
from hrpose.data.dataset_folder import must_be_new
from hrpose.data.formats.mpii import numbers
from hrpose.data.formats.pose_set import invalid
from hrpose.data.images import ImageFiles
from hrpose.data.rules import Entry, id_key
from hrpose.errors import UserError
from hrpose.io import read_json, write_atomically
from hrpose.metrics.coco import MAX_DETECTIONS, Compared, KeypointScores, Poses, compared
from hrpose.metrics.posetrack import posetrack18, table
from hrpose.skeletons import COCO_17, WHOLEBODY_133

Document = dict[str, Any]
# The lists beside `keypoints` of COCO-WholeBody, in the order of its 133 keypoints.
PART_KEYS = {"foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}
# OCHuman's images up to here are its validation set, the others its test set.
_OCHUMAN_VAL = 2500
# OCHuman: 1 visible, 2 hidden by the person itself, 3 hidden by others. The first two are visible.
_OCHUMAN_VISIBILITY = {0: 0, 1: 2, 2: 2, 3: 1}


@dataclass(frozen=True, slots=True)
class Converted:
    """One file that was written, its persons and images, and how many images got another size."""

    path: Path
    persons: int
    images: int
    resized: int


def convert(name: str, source: Path, out: Path, images: Path | None = None) -> list[Converted]:
    """Convert the benchmark `name` of `READERS` to files in the folder `out`.

    `images`, a folder or zip file, is read for the sizes of images. Raises UserError, naming the
    file and the entry, before anything is written.
    """
    must_be_new(out)
    documents = READERS[name](source)
    files = None if images is None else ImageFiles(images)
    listed = [entry for document in documents.values() for entry in document["images"]]
    if files is not None and not any(str(each.get("file_name")) in files for each in listed):
        raise UserError(
            f"{images}: expected the images of {source}, found none of them; name the folder that "
            "their 'file_name' begins in",
            code="images-missing",
        )
    resized = {each: _resize(document, files) for each, document in documents.items()}
    done = []
    for each, document in documents.items():
        path = out / f"{each}.json"
        write_atomically(path, json.dumps(document))
        persons, entries = len(document["annotations"]), len(document["images"])
        done.append(Converted(path, persons, entries, resized[each]))
    return done


def read_crowdpose(source: Path) -> dict[str, Document]:
    """CrowdPose's file as it is; `convert` corrects the sizes of images, where it has those."""
    annotations = read_annotations(source, sized=False)
    for entry in annotations.entries("images"):
        _number(f"{source}: image {entry.get('id')}", entry, "crowdIndex")
    return {source.stem: dict(annotations.document)}


def read_ochuman(source: Path) -> dict[str, Document]:
    """`val` and `test` of OCHuman's one file, as its own tool divides and numbers them.

    Persons without keypoints or mask are left out, and those whose MaxIoU is 1. Masks are not kept.
    """
    raw = read_json(source)
    names = raw.get("keypoint_names") if isinstance(raw, dict) else None
    if not isinstance(names, list) or not set(COCO_17.keypoints) <= set(map(str, names)):
        raise invalid(str(source), "OCHuman's annotations with its 'keypoint_names'", names)
    rows = [names.index(keypoint) for keypoint in COCO_17.keypoints]
    images: dict[Any, Entry] = {}
    for entry in CocoAnnotations(source, raw).entries("images"):
        where = f"{source}: image {entry.get('image_id')}"
        persons = [p for p in _list(where, entry, "annotations") if p["keypoints"] and p["segms"]]
        if persons:
            images[id_key(entry.get("image_id"))] = {**entry, "annotations": persons}
    if not images:
        raise invalid(f"{source}: 'images'", "persons with keypoints and a mask", None)
    kept = [images[key] for key in sorted(images, key=lambda key: (isinstance(key, str), key))]
    parts = {"val": kept[:_OCHUMAN_VAL], "test": kept[_OCHUMAN_VAL:]}
    return {part: _ochuman_part(source, own, names, rows) for part, own in parts.items() if own}


def _ochuman_part(
    source: Path, entries: list[Entry], names: list[str], rows: list[int]
) -> Document:
    images: list[Entry] = []
    annotations: list[Entry] = []
    for entry in entries:
        where, image_id = f"{source}: image {entry['image_id']}", len(images) + 1
        persons: list[Entry] = []
        for person in entry["annotations"]:
            if not 0 <= (overlap := _number(where, person, "max_iou")) < 1:
                continue
            x, y, right, bottom = numbers(where, person, "bbox", (4,)).tolist()
            points = numbers(where, person, "keypoints", (3 * len(names),)).reshape(-1, 3)[rows]
            try:
                seen = [_OCHUMAN_VISIBILITY[int(v)] for v in points[:, 2]]
            except KeyError as error:
                raise invalid(f"{where}: 'keypoints'", "visibility 0 to 3", str(error)) from error
            keypoints = np.column_stack([points[:, :2], seen]).ravel().tolist()
            persons.append(
                {
                    "id": len(annotations) + len(persons) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "iscrowd": 0,
                    "num_keypoints": sum(v > 0 for v in seen),
                    "keypoints": keypoints,
                    "bbox": [x, y, right - x, bottom - y],
                    "area": (right - x) * (bottom - y),
                    "max_iou": overlap,
                }
            )
        if persons:
            kept = {key: entry.get(key) for key in ("file_name", "width", "height")}
            images.append({"id": image_id, **kept})
            annotations += persons
    categories = [COCO_17.to_coco_category()]
    return {"images": images, "annotations": annotations, "categories": categories}


def read_wholebody(source: Path) -> dict[str, Document]:
    """COCO-WholeBody's file with all 133 keypoints in `keypoints`."""
    return {source.stem: dict(whole_body(read_annotations(source, sized=False)).document)}


def has_parts(annotations: CocoAnnotations) -> bool:
    """Whether feet, face and hands of COCO-WholeBody are in lists of their own."""
    return any(PART_KEYS.keys() & entry.keys() for entry in annotations.entries("annotations"))


def whole_body(annotations: CocoAnnotations) -> CocoAnnotations:
    """Annotations of COCO-WholeBody with all 133 keypoints in `keypoints`."""
    joined = []
    for given in annotations.entries("annotations"):
        entry = _joined(f"{annotations.path}: annotation {given.get('id')}", given)
        count = int(np.count_nonzero(entry["keypoints"][2::3]))
        joined.append({**entry, "num_keypoints": count})
    category = WHOLEBODY_133.to_coco_category(annotations.category_id)
    parts = {"annotations": joined, "categories": [category]}
    return replace(annotations, document={**annotations.document, **parts}, category=None)


def joined_results(
    annotations: CocoAnnotations, source: Path, results: list[Entry]
) -> tuple[CocoAnnotations, list[Entry]]:
    """Annotations and results of COCO-WholeBody with the 133 keypoints as one list, where the
    results have them; others stay as they are.
    """
    joined = [
        _joined(f"{source}: result {row}", entry) if PART_KEYS.keys() & entry.keys() else entry
        for row, entry in enumerate(results)
    ]
    lists = [each["keypoints"] for each in joined if isinstance(each.get("keypoints"), list)]
    whole = any(len(each) == 3 * len(WHOLEBODY_133) for each in lists) and has_parts(annotations)
    return (whole_body(annotations) if whole else annotations), joined


def _joined(where: str, entry: Entry) -> Entry:
    keypoints = numbers(where, entry, "keypoints", (3 * len(COCO_17),)).tolist()
    for key, count in PART_KEYS.items():
        keypoints += numbers(where, entry, key, (3 * count,)).tolist()
    rest = {key: value for key, value in entry.items() if key not in PART_KEYS}
    return {**rest, "keypoints": keypoints}


def read_posetrack18(source: Path) -> dict[str, Document]:
    """The clips of a folder, one file each, or of one file, as one document.

    Images are in the order of the clips' files and of their own, and of the clip `vid_id`.
    """
    paths = sorted(source.glob("*.json")) if source.is_dir() else [source]
    if not paths:
        raise invalid(str(source), "PoseTrack18's JSON files", None)
    images: dict[int, Entry] = {}
    annotations: list[Entry] = []
    categories: list[Entry] = []
    for path in paths:
        clip = read_annotations(path, sized=False)
        own = clip.entries("categories")
        if categories and own[0].get("keypoints") != categories[0].get("keypoints"):
            raise invalid(f"{path}: 'categories'", f"the keypoints of {paths[0]}", "others")
        categories = categories or own
        for entry in clip.entries("images"):
            number = int(_number(f"{path}: image", entry, "id"))
            if number in images:
                raise invalid(f"{path}: image {number}", "an id of its own", "that of another")
            images[number] = {**entry, "vid_id": entry.get("vid_id", path.stem)}
        annotations += clip.entries("annotations")
    if not any("bbox_head" in entry for entry in annotations):
        raise invalid(f"{source}: 'annotations'", "those of PoseTrack18, with a 'bbox_head'", None)
    annotations = [{**entry, "id": row} for row, entry in enumerate(annotations, 1)]
    document = {"images": list(images.values()), "annotations": annotations}
    return {source.stem: {**document, "categories": categories}}


READERS: Mapping[str, Callable[[Path], dict[str, Document]]] = {
    "crowdpose": read_crowdpose,
    "ochuman": read_ochuman,
    "coco-wholebody": read_wholebody,
    "posetrack18": read_posetrack18,
}


def _resize(document: Document, files: ImageFiles | None) -> int:
    """Give images the sizes of their files, and return how many had others."""
    resized = 0
    for row, entry in enumerate(document["images"]):
        if files is None or (name := str(entry.get("file_name"))) not in files:
            continue
        width, height = files.size(name)
        resized += (entry.get("width"), entry.get("height")) != (width, height)
        document["images"][row] = {**entry, "width": width, "height": height}
    return resized


def _list(where: str, entry: Mapping[str, Any], key: str) -> list[Entry]:
    value, keys = entry.get(key), ("keypoints", "segms")
    if not isinstance(value, list) or not all(
        isinstance(each, dict) and all(name in each for name in keys) for each in value
    ):
        raise invalid(f"{where}: '{key}'", f"a list of objects with {' and '.join(keys)}", value)
    return value


def _number(where: str, entry: Mapping[str, Any], key: str, most: float = 1e18) -> float:
    value, expected = entry.get(key), f"a number up to {most:g}"
    if not isinstance(value, int | float) or not abs(value) <= most:
        raise invalid(f"{where}: '{key}'", expected, value if value is None else repr(value))
    return value


# CrowdPose's images by crowd index, which is in [0, 1]: from the first number to below the second.
CROWD_LEVELS = {"easy": (0.0, 0.2), "medium": (0.2, 0.8), "hard": (0.8, np.inf)}
# OCHuman's persons by MaxIoU, in the same way; its tool leaves out a MaxIoU of 1.
OVERLAPS = {"moderate": (0.5, 0.75), "hard": (0.75, 1.0)}
# CrowdPose has boxes, but no masks: the mean part of a box that is person.
_BOX_TO_AREA = 0.53

# The keypoints of COCO-WholeBody by part.
PARTS = {
    "body": range(17),
    "foot": range(17, 23),
    "face": range(23, 91),
    "left hand": range(91, 112),
    "right hand": range(112, 133),
}


def crowdpose(
    annotations: CocoAnnotations, results: Poses, max_detections: int = MAX_DETECTIONS
) -> dict[str, float]:
    """CrowdPose's nine metrics, in [0, 1]; -1 where no such person is labeled.

    Images have a `crowdIndex`. Persons without a visible keypoint are ignored: `num_keypoints` of
    the annotations counts them, which of CrowdPose's are those with visibility 2.
    """
    given = compared(annotations, results)
    counts = {entry.get("id"): _visible(entry) for entry in annotations.entries("annotations")}
    labels = []
    for label, entry in zip(given.labels, annotations.annotations, strict=True):
        width, height = label["bbox"][2:]
        area = height * width * _BOX_TO_AREA
        labels.append({**label, "area": area, "num_keypoints": counts.get(entry["id"], 0)})
    given = replace(given, labels=labels, poses=[p for p in given.poses if _scored(p)])
    scores = given.scores(max_detections)
    measured = {name: getattr(scores, name) for name in ("AP", "AP50", "AP75")}
    measured |= {name: getattr(scores, name) for name in ("AR", "AR50", "AR75")}
    ids = annotations.image_columns["image_ids"].tolist()
    key, where = "crowdIndex", f"{annotations.path}: image"
    indices = [_number(f"{where} {e['id']}", e, key, most=1) for e in annotations.images]
    for level, (low, high) in CROWD_LEVELS.items():
        own = {image for image, index in zip(ids, indices, strict=True) if low <= index < high}
        measured[f"AP {level}"] = _of_images(given, own).scores(max_detections).AP
    return measured


def ochuman(
    annotations: CocoAnnotations, results: Poses, max_detections: int = MAX_DETECTIONS
) -> dict[str, float]:
    """COCO's ten metrics, and the AP of the persons of moderate and great MaxIoU.

    Annotations have a `max_iou`. As in the files that OCHuman's tool writes for a range of MaxIoU,
    images without such a person do not count, and in the others persons out of the range are not
    labeled: poses of them are wrong.
    """
    given = compared(annotations, results)
    measured = given.scores(max_detections).as_dict()
    key, where = "max_iou", f"{annotations.path}: annotation"
    overlaps = [_number(f"{where} {e['id']}", e, key, most=1) for e in annotations.annotations]
    for level, (low, high) in OVERLAPS.items():
        pairs = zip(given.labels, overlaps, strict=True)
        labels = [label for label, overlap in pairs if low <= overlap < high]
        chosen = replace(given, labels=labels)
        own = {label["image_id"] for label in labels}
        measured[f"AP {level}"] = _of_images(chosen, own).scores(max_detections).AP
    return measured


def whole_body_parts(
    annotations: CocoAnnotations, results: Poses, max_detections: int = MAX_DETECTIONS
) -> dict[str, KeypointScores]:
    """COCO's ten metrics of each part of COCO-WholeBody, and of the `whole`, by name.

    Persons without a labeled keypoint of a part are ignored there, which is what the flags such as
    `face_valid` come to, as nothing is labeled where they are false. The sizes of predictions are
    those of their body, the areas of persons the same in all parts.
    """
    given = compared(annotations, results)
    if len(given.sigmas) != len(WHOLEBODY_133):
        raise _unavailable(annotations, "COCO-WholeBody")
    poses = []
    for pose in given.poses:
        x, y = pose["keypoints"].reshape(-1, 3)[PARTS["body"], :2].T
        poses.append({**pose, "area": float(np.ptp(x) * np.ptp(y))})
    given = replace(given, poses=poses)
    parts = {**PARTS, "whole": range(len(WHOLEBODY_133))}
    return {name: _of_part(given, part).scores(max_detections) for name, part in parts.items()}


def coco_wholebody(
    annotations: CocoAnnotations, results: Poses, max_detections: int = MAX_DETECTIONS
) -> dict[str, float]:
    """COCO's ten metrics of the whole body, and AP and AR of each part."""
    parts = whole_body_parts(annotations, results, max_detections)
    measured = parts.pop("whole").as_dict()
    for name, scores in parts.items():
        measured |= {f"{name} AP": scores.AP, f"{name} AR": scores.AR}
    return measured


@dataclass(frozen=True, slots=True)
class Benchmark:
    """How a benchmark's files are recognized, what they have, and how results are measured."""

    recognize: Callable[[CocoAnnotations], bool]
    expected: str
    measure: Callable[[CocoAnnotations, Poses, int], dict[str, float]]


BENCHMARKS: Mapping[str, Benchmark] = {
    "CrowdPose": Benchmark(
        lambda found: any("crowdIndex" in image for image in found.images),
        "images with a 'crowdIndex'",
        crowdpose,
    ),
    "OCHuman": Benchmark(
        lambda found: any("max_iou" in entry for entry in found.annotations),
        "annotations with a 'max_iou'",
        ochuman,
    ),
    "COCO-WholeBody": Benchmark(
        lambda found: found.skeleton.keypoints == WHOLEBODY_133.keypoints,
        f"{len(WHOLEBODY_133)} keypoints",
        coco_wholebody,
    ),
    "PoseTrack18": Benchmark(
        lambda found: any("bbox_head" in entry for entry in found.annotations),
        "annotations with a 'bbox_head'",
        lambda annotations, results, _: table(posetrack18(annotations, results)),
    ),
}


def recognize(annotations: CocoAnnotations) -> str | None:
    """The name of the benchmark that annotations are of, None where they are of none."""
    found = (name for name, each in BENCHMARKS.items() if each.recognize(annotations))
    return next(found, None)


def check_benchmark(name: str, annotations: CocoAnnotations) -> None:
    """Raises UserError where the annotations lack what the benchmark `name` needs."""
    if not BENCHMARKS[name].recognize(annotations):
        raise _unavailable(annotations, name)


def _of_images(given: Compared, chosen: set[Any]) -> Compared:
    """What is compared in some of the images."""
    return replace(
        given,
        image_ids=tuple(image for image in given.image_ids if image in chosen),
        labels=[label for label in given.labels if label["image_id"] in chosen],
        poses=[pose for pose in given.poses if pose["image_id"] in chosen],
    )


def _of_part(given: Compared, part: range) -> Compared:
    """What is compared of some of the keypoints. Poses without any of them do not count."""
    columns = slice(3 * part.start, 3 * part.stop)
    labels, poses = [], []
    for label in given.labels:
        keypoints = label["keypoints"][columns]
        count = int((keypoints[2::3] > 0).sum())
        labels.append({**label, "keypoints": keypoints, "num_keypoints": count})
    for pose in given.poses:
        pose = {**pose, "keypoints": pose["keypoints"][columns]}
        poses += [pose] * _scored(pose)
    return replace(given, labels=labels, poses=poses, sigmas=given.sigmas[part.start : part.stop])


def _scored(pose: Mapping[str, Any]) -> bool:
    """Whether any keypoint of a pose has a score above 0; others are left out by the tools."""
    return bool((pose["keypoints"][2::3] > 0).any())


def _visible(entry: Mapping[str, Any]) -> int:
    """The number of keypoints of CrowdPose's annotation that are counted."""
    count = entry.get("num_keypoints")
    seen = (entry.get("keypoints") or [])[2::3]
    return count if isinstance(count, int) else sum(v == 2 for v in seen)


def _unavailable(annotations: CocoAnnotations, name: str) -> UserError:
    return UserError(
        f"{annotations.path}: expected {BENCHMARKS[name].expected}, which {name} has, found none; "
        f"give its own annotations, after 'hrpose data convert {name.lower()}'",
        code="metric-unavailable",
    )
