"""MPII as the official code has it (`annot/*.json`, `gt_*.mat`) to COCO keypoints JSON, and back.

MPII counts pixels from 1 and gives each person a center and a scale, the person's height in units
of 200 pixels; the official code moves the center a little down and enlarges the scale by 1.25. The
box is chosen so that `Crop.from_box` with the usual padding of 1.25 is exactly that crop. Four
entries of an annotation are not COCO's own:

- `head_box` [x, y, w, h]: the labeled head, whose size PCKh measures with.
- `pckh_keypoints`: the ground truth of PCKh, where that is not `keypoints`.
- `bbox_exact`: the box may reach outside the image, and must not be cut to it.
- `mpii`: the center and scale, for converting back.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import CocoAnnotations, read_annotations
from hrpose.data.formats.matlab import read_mat, write_mat
from hrpose.data.formats.pose_set import invalid
from hrpose.data.images import ImageFiles, stays_inside
from hrpose.data.persons import PersonTable
from hrpose.errors import UserError
from hrpose.geometry import xywh_to_xyxy
from hrpose.io import read_json, write_atomically
from hrpose.skeleton import Skeleton
from hrpose.skeletons import MPII_16

SETS = ("train", "valid", "trainval", "test")

_UNIT = 200.0  # pixels of a scale of 1
_DOWN = 15.0  # pixels that the center moves down, at a scale of 1
_PADDING = 1.25
_DIGITS = 9  # rounds away what adding and subtracting 1 leave in the last digit
_UNLABELED = [-1.0, -1.0]
# The names of MPII_16 in the official `gt_valid.mat`.
_SHORT_NAMES = "rank rkne rhip lhip lkne lank pelv thor neck head rwri relb rsho lsho lelb lwri"


@dataclass(frozen=True, slots=True)
class ConvertedSet:
    """One file that was written: its persons and images, the images found, and the head boxes."""

    path: Path
    persons: int
    images: int
    images_found: int
    heads: int


def convert(annot: Path, out: Path, images: Path | None = None) -> list[ConvertedSet]:
    """Convert all the sets in the folder `annot` to `out`/train.json and so on.

    `images` (a folder or zip file; by default beside `annot`) is read for the images' sizes.
    Raises UserError, naming the file and the entry, before anything of that set is written.
    """
    keep_apart(annot, out)
    if images is None:
        beside = (annot.resolve().parent / name for name in ("images", "images.zip"))
        images = next((path for path in beside if path.exists()), None)
    source = None if images is None else ImageFiles(images)
    present = [name for name in SETS if (annot / f"{name}.json").is_file()]
    if not present:
        expected = ", ".join(f"{name}.json" for name in SETS)
        raise invalid(str(annot), f"MPII's {expected} in this folder", None)
    done = []
    for name in present:
        path, heads = annot / f"{name}.json", annot / f"gt_{name}.mat"
        document = to_coco(path, heads if heads.is_file() else None, source)
        write_atomically(out / path.name, json.dumps(document))
        persons = document["annotations"]
        done.append(
            ConvertedSet(
                path=out / path.name,
                persons=len(persons),
                images=len(document["images"]),
                images_found=sum("size_guessed" not in entry for entry in document["images"]),
                heads=sum("head_box" in person for person in persons),
            )
        )
    return done


def to_coco(
    path: Path, heads: Path | None = None, images: ImageFiles | None = None
) -> dict[str, Any]:
    """The COCO form of one official JSON file, persons in its order, numbered from 1.

    `heads` is its `gt_*.mat`. The size of an image that is not in `images` is the smallest that
    contains all labels, and marked by `size_guessed`.
    """
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise invalid(str(path), "MPII annotations, a list of objects", type(entries).__name__)
    ids: dict[str, int] = {}
    persons = []
    for row, entry in enumerate(entries):
        person = _person(f"{path}: entry {row}", entry)
        image_id = ids.setdefault(entry["image"], len(ids) + 1)
        persons.append({"id": row + 1, "image_id": image_id, "category_id": 1, **person})
    if heads is not None:
        _add_heads(heads, persons)
    return {
        "info": {"description": f"MPII {path.stem}, converted by hrpose"},
        "images": _images(ids, persons, images),
        "annotations": persons,
        "categories": [MPII_16.to_coco_category()],
    }


def keep_apart(source: Path, out: Path) -> None:
    """Raises UserError where results would replace their source: both have the same file names."""
    if source.resolve() == out.resolve():
        raise UserError(
            f"{out}: its files would be replaced; choose another folder", code="overwrite-refused"
        )


def _person(where: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The COCO entries of one official entry."""
    name = entry.get("image")
    if not isinstance(name, str) or not stays_inside(name):
        raise invalid(f"{where}: 'image'", "a relative path without '..'", name)
    center = numbers(where, entry, "center", (2,)).tolist()
    scale = float(numbers(where, entry, "scale", ()))
    if not 0 < scale <= 1000:
        raise invalid(f"{where}: 'scale'", "a number above 0", scale)
    mpii: dict[str, Any] = {"center": center, "scale": scale}
    joints = np.zeros((16, 3))
    if "joints" in entry or "joints_vis" in entry:  # the test set has none
        points = numbers(where, entry, "joints", (16, 2))
        labeled = numbers(where, entry, "joints_vis", (16,))
        if not np.isin(labeled, (0, 1)).all():
            raise invalid(f"{where}: 'joints_vis'", "0 and 1", labeled.tolist())
        joints[:, :2] = np.where(labeled[:, None] > 0, (points - 1).round(_DIGITS), 0)
        joints[:, 2] = 2 * labeled
        odd = [j for j in range(16) if not labeled[j] and points[j].tolist() != _UNLABELED]
        if odd:
            mpii["unlabeled"] = {str(j): points[j].tolist() for j in odd}
    else:
        mpii["test"] = True
    box = _box(center, scale)
    return {
        "iscrowd": 0,
        "num_keypoints": int((joints[:, 2] > 0).sum()),
        "keypoints": joints.ravel().tolist(),
        "bbox": box,
        # The crop may reach outside the image, and must not be cut to it.
        "bbox_exact": True,
        "area": box[2] * box[3],
        "mpii": mpii,
    }


def _box(center: Sequence[float], scale: float) -> list[float]:
    """The box [x, y, w, h], counted from 0, that becomes the official crop with 1.25 around it."""
    x, y = center
    if x == -1:  # The official code leaves an unknown center as it is, and does not enlarge.
        side = _UNIT * scale / _PADDING
    else:
        side, y = _UNIT * scale, y + _DOWN * scale
    return [x - 1 - side / 2, y - 1 - side / 2, side, side]


def _add_heads(path: Path, persons: list[dict[str, Any]]) -> None:
    """Give each person the `head_box`, and where they differ the points, of a `gt_*.mat`."""
    shapes: dict[str, tuple[int | str, ...]] = {
        "headboxes_src": (2, 2, "n"),
        "pos_gt_src": (16, 2, "n"),
        "jnt_missing": (16, "n"),
    }
    mat = read_mat(path, shapes)
    boxes, points, missing = (np.moveaxis(mat[name], -1, 0).astype(np.float64) for name in shapes)
    if len(boxes) != len(persons):
        raise invalid(str(path), f"the {len(persons)} persons of the JSON file", len(boxes))
    faulty = ~(np.isfinite(boxes).all(axis=(1, 2)) & np.isin(missing, (0, 1)).all(axis=1))
    faulty |= ~(np.isfinite(points) | (missing[..., None] > 0)).all(axis=(1, 2))
    if faulty.any():
        row = int(np.argmax(faulty))
        raise invalid(f"{path}: person {row}", "finite numbers, missing 0 or 1", "NaN")
    for person, box, own, gone in zip(persons, boxes, points, missing, strict=True):
        (x, y), (right, bottom) = box.tolist()
        person["head_box"] = [x - 1, y - 1, right - x, bottom - y]
        truth = np.zeros((16, 3))
        truth[gone == 0] = np.insert((own[gone == 0] - 1).round(_DIGITS), 2, 2, axis=1)
        if not np.allclose(truth.ravel(), person["keypoints"], rtol=0, atol=1e-6):
            person["pckh_keypoints"] = truth.ravel().tolist()


def _images(
    ids: Mapping[str, int], persons: Sequence[Mapping[str, Any]], source: ImageFiles | None
) -> list[dict[str, Any]]:
    extent = dict.fromkeys(ids.values(), (1, 1))
    for person in persons:
        joints = np.asarray(person["keypoints"]).reshape(-1, 3)
        x, y, w, h = person.get("head_box", (0, 0, 0, 0))
        others = [person["mpii"]["center"], [x + w, y + h]]
        far = np.concatenate([joints[joints[:, 2] > 0, :2], others]).max(axis=0)
        old = extent[person["image_id"]]
        extent[person["image_id"]] = (
            max(old[0], math.ceil(far[0]) + 1),
            max(old[1], math.ceil(far[1]) + 1),
        )
    entries = []
    for name, image_id in ids.items():
        found = source is not None and name in source
        width, height = source.size(name) if source is not None and found else extent[image_id]
        guessed = {} if found else {"size_guessed": True}
        entries.append(
            {"id": image_id, "file_name": name, "width": width, "height": height, **guessed}
        )
    return entries


def from_coco(annotations: Path, out: Path) -> list[Path]:
    """Write the official form of a converted file: `out`/NAME.json and, with heads, gt_NAME.mat.

    The points of missing joints in the .mat file, which PCKh ignores, are not restored.
    """
    keep_apart(annotations.parent, out)
    parsed = read_annotations(annotations)
    images, persons = parsed.entries("images"), parsed.entries("annotations")
    try:
        names = {entry["id"]: entry["file_name"] for entry in images}
        persons = sorted(persons, key=lambda person: person["id"])
        entries = [_entry(person, names) for person in persons]
    except (KeyError, TypeError, ValueError) as error:
        raise invalid(
            str(annotations), "a file of 'hrpose data convert mpii'", repr(error)
        ) from error
    written = [out / annotations.name]
    write_atomically(written[0], json.dumps(entries))
    truth = pckh_truth(parsed, [person["id"] for person in persons])
    if truth is not None and truth.known.all():
        written.append(out / f"gt_{annotations.stem}.mat")
        points = np.where(truth.missing[..., None], _UNLABELED[0], truth.points)
        names_cell = np.array(_SHORT_NAMES.split(), dtype=object)[None]
        mat = {
            "dataset_joints": names_cell,
            "jnt_missing": truth.missing.T.astype(np.float64),
            "pos_gt_src": points.transpose(1, 2, 0),
            "headboxes_src": truth.head_boxes.transpose(1, 2, 0),
        }
        write_mat(written[1], mat)
    return written


def _entry(person: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    """The official entry of one COCO annotation."""
    mpii = person["mpii"]
    entry = {"image": names[person["image_id"]], "center": mpii["center"], "scale": mpii["scale"]}
    if mpii.get("test"):
        return entry
    odd = mpii.get("unlabeled", {})
    joints = np.asarray(person["keypoints"], np.float64).reshape(16, 3)
    points = [
        [round(x + 1, _DIGITS), round(y + 1, _DIGITS)] if v > 0 else odd.get(str(j), _UNLABELED)
        for j, (x, y, v) in enumerate(joints.tolist())
    ]
    return {**entry, "joints": points, "joints_vis": [int(v > 0) for v in joints[:, 2]]}


@dataclass(frozen=True, slots=True, eq=False)
class PckhTruth:
    """The ground truth of PCKh for n persons, in pixels from 1 on, for `hrpose.metrics.pck.pckh`.

    `points` (n, 16, 2), `missing` (n, 16), `head_boxes` (n, 2, 2) two corners; `known` (n,) where
    a person has a head box: the others cannot be measured.
    """

    points: NDArray[np.float64]
    missing: NDArray[np.bool_]
    head_boxes: NDArray[np.float64]
    known: NDArray[np.bool_]


def pckh_truth(
    annotations: CocoAnnotations, ids: Sequence[int] | NDArray[np.int64]
) -> PckhTruth | None:
    """The ground truth of the persons with these annotation ids, in their order.

    None where no person of the file has a `head_box`, so that nothing can be measured.
    """
    persons = {person.get("id"): person for person in annotations.entries("annotations")}
    if not any("head_box" in person for person in persons.values()):
        return None
    points = np.zeros((len(ids), 16, 3))
    boxes = np.full((len(ids), 4), np.nan)
    for row, person in enumerate(persons[int(i)] for i in ids):
        where = f"{annotations.path}: annotation {person['id']}"
        key = "pckh_keypoints" if "pckh_keypoints" in person else "keypoints"
        points[row] = numbers(where, person, key, (48,)).reshape(16, 3)
        if "head_box" in person:
            boxes[row] = numbers(where, person, "head_box", (4,))
    corners = xywh_to_xyxy(boxes).reshape(-1, 2, 2) + 1
    return PckhTruth(
        points=(points[..., :2] + 1).round(_DIGITS),
        missing=points[..., 2] <= 0,
        head_boxes=corners.round(_DIGITS),
        known=np.isfinite(boxes).all(axis=1),
    )


def is_mpii(skeleton: Skeleton) -> bool:
    """Whether the keypoints are the 16 that PCKh is defined for."""
    return skeleton.keypoints == MPII_16.keypoints


def heads_of(annotations: CocoAnnotations, table: PersonTable, required: bool) -> PckhTruth | None:
    """The labels of PCKh for a table. Raises UserError where they are `required` and missing."""
    if not is_mpii(table.skeleton):
        raise UserError(
            f"{annotations.path}: PCKh is for MPII's 16 keypoints, found others",
            code="metric-unavailable",
        )
    truth = pckh_truth(annotations, table.annotation_ids)
    if truth is None and required:
        raise UserError(
            f"{annotations.path}: expected persons with a 'head_box', found none; "
            "run 'hrpose data convert mpii' on a folder with gt_valid.mat",
            code="metric-unavailable",
        )
    return truth


def numbers(
    where: str, entry: Mapping[str, Any], key: str, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """An entry's finite numbers of this shape. Raises UserError that begins with `where`."""
    value = entry.get(key)
    form = f"numbers of shape {shape}" if shape else "a number"
    if value is None:
        raise invalid(f"{where}: '{key}'", form, None)
    try:
        found = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid(f"{where}: '{key}'", form, str(error)) from error
    if found.shape != shape or not (np.abs(found) < 1e6).all():
        what = f"shape {found.shape}" if found.shape != shape else "NaN, infinity or far away"
        raise invalid(f"{where}: '{key}'", form, what)
    return found
