"""Targets of Keypoint R-CNN, torchvision's form of persons in an image, as NumPy arrays.

A target is a dictionary: `boxes` (n, 4) as corners, `labels` (n,) and `keypoints` (n, k, 3); what
its models return has `scores` as well. Values may be tensors, arrays or lists, and come back as
arrays, or as what a function makes of them: PyTorch is never imported here.
"""

from __future__ import annotations  # so that help() shows the names of types, not their contents

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.errors import UserError
from hrpose.geometry import xywh_to_xyxy, xyxy_to_xywh
from hrpose.image import ImageSource, encode
from hrpose.image_inputs import is_tensor
from hrpose.io import write_atomically
from hrpose.poses import Poses
from hrpose.skeleton import Skeleton

# Rows [x, y, w, h], or a target.
AnyBoxes = ArrayLike | Mapping[str, Any]
# The label of persons in torchvision's models and in COCO.
PERSON = 1
# Coordinates beyond this are no pixels.
_MAX_COORDINATE = 1e6
_MAX_IMAGES = 10_000_000


class TargetDataset(Protocol):
    """A map-style data set of `(image, target)`, such as a `torch.utils.data.Dataset`.

    Images are what `PoseEstimator` accepts: tensors (3, h, w), PIL images, arrays, files.
    """

    def __getitem__(self, index: int, /) -> tuple[Any, Mapping[str, Any]]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """The n persons of one image, in its pixels.

    `boxes` (n, 4) are [left, top, right, bottom]. `keypoints` (n, k, 3) are x, y and visibility: 0,
    or 1 and 2 where labeled. `scores` (n,) and `keypoint_scores` (n, k) are those of predictions.
    `areas` (n,) in pixels² and `crowds` (n,) are those of COCO, `image_id` is the image's;
    `left_out` counts the entries with other labels.
    """

    boxes: NDArray[np.float64]
    keypoints: NDArray[np.float64] | None = None
    scores: NDArray[np.float64] | None = None
    keypoint_scores: NDArray[np.float64] | None = None
    areas: NDArray[np.float64] | None = None
    crowds: NDArray[np.bool_] | None = None
    image_id: int | None = None
    left_out: int = 0

    @classmethod
    def of(cls, target: Mapping[str, Any], label: int | None = PERSON) -> Target:
        """Check a target; of its persons those with this `label`, or with None all.

        Keys that mean nothing here, such as `masks`, are ignored. Raises UserError which key is
        wrong and how.
        """
        if not isinstance(target, Mapping) or "boxes" not in target:
            found: object = target
            if isinstance(target, Mapping):
                found = f"keys {', '.join(map(str, target))}" if target else "none"
            elif isinstance(target, list | tuple):
                found = f"a {type(target).__name__}; give that of one image, such as output[0]"
            raise _wrong("target", "a dictionary with boxes (n, 4)", _short(found))
        form = getattr(getattr(target["boxes"], "format", None), "value", "XYXY")
        if form != "XYXY":
            raise _wrong("boxes", "corners (XYXY)", f"the format {form}; convert them first")
        boxes = _numbers(target["boxes"], "boxes", (-1, 4))
        n = len(boxes)
        keypoints = None
        if target.get("keypoints") is not None:
            keypoints = _numbers(target["keypoints"], "keypoints", (n, -1, 3))
            others = keypoints[..., 2][~np.isin(keypoints[..., 2], (0, 1, 2))]
            if others.size:
                raise _wrong("keypoints", "a visibility of 0, 1 or 2", f"{others[0]:g}")
        k = 0 if keypoints is None else keypoints.shape[1]
        shapes = {"labels": (n,), "scores": (n,), "keypoints_scores": (n, k), "area": (n,),
                  "iscrowd": (n,)}  # fmt: skip
        more = {
            key: _numbers(target[key], key, shape)
            for key, shape in shapes.items()
            if target.get(key) is not None
        }
        chosen = np.ones(n, bool) if label is None else more.get("labels", np.ones(n)) == label
        turned = chosen & ((boxes[:, 2:] <= boxes[:, :2]).any(axis=1))
        if turned.any():
            box = boxes[np.argmax(turned)].tolist()
            raise _wrong("boxes", "left < right and top < bottom", str(box))
        picked = {key: values[chosen] for key, values in more.items()}
        return cls(
            boxes[chosen],
            None if keypoints is None else keypoints[chosen],
            picked.get("scores"),
            picked.get("keypoints_scores"),
            picked.get("area"),
            picked["iscrowd"] > 0 if "iscrowd" in picked else None,
            _image_id(target.get("image_id")),
            int((~chosen).sum()),
        )

    @property
    def boxes_xywh(self) -> NDArray[np.float64]:
        """(n, 4) the boxes as [x, y, w, h]."""
        return xyxy_to_xywh(self.boxes)

    def with_keypoints(self) -> NDArray[np.float64]:
        """The keypoints (n, k, 3). Raises UserError where persons have none."""
        if self.keypoints is None and not len(self.boxes):
            return np.zeros((0, 0, 3))
        if self.keypoints is None:
            raise _wrong("target", "keypoints (n, k, 3)", "none")
        return self.keypoints


def boxes_of(
    boxes: AnyBoxes | None, scores: ArrayLike | None
) -> tuple[ArrayLike | None, ArrayLike | None]:
    """Boxes (n, 4) [x, y, w, h] and scores: those given, or of the persons of a target.

    Given `scores` count instead of the target's. Raises UserError for what is no target, such as
    the list of several that torchvision's models return.
    """
    several = isinstance(boxes, list | tuple) and boxes and isinstance(boxes[0], Mapping)
    if not (several or isinstance(boxes, Mapping)):
        return boxes, scores
    read = Target.of(boxes)  # type: ignore[arg-type]
    return read.boxes_xywh, read.scores if scores is None else scores


def poses_of(
    target: Mapping[str, Any],
    skeleton: Skeleton | None = None,
    *,
    label: int | None = PERSON,
    logits: bool = False,
) -> Poses:
    """`Poses` of a target; the `skeleton` is that of COCO if it has 17 keypoints.

    Labeled keypoints have the score 1, others 0; predictions keep theirs. `logits` are scores of
    keypoints on any scale, as torchvision's Keypoint R-CNN returns them: the logistic function
    brings them to [0, 1]. `label` is that of `Target.of`. Raises UserError for other targets.
    """
    read = Target.of(target, label)
    keypoints = read.with_keypoints()
    skeleton = _skeleton(keypoints, skeleton)
    if not len(keypoints):
        return Poses.empty(skeleton)
    scores = (keypoints[..., 2] > 0).astype(float)
    if read.keypoint_scores is not None:
        scores = read.keypoint_scores
        if logits:
            scores = 1 / (1 + np.exp(-np.clip(scores, -50, 50)))
    of_poses = np.ones(len(keypoints)) if read.scores is None else read.scores
    for name, values in (("keypoints_scores", scores), ("scores", of_poses)):
        if not ((values >= 0) & (values <= 1)).all():
            remedy = "; Poses.from_target(target, logits=True) takes those of torchvision's models"
            remedy = remedy if values is scores else ""
            raise _wrong(name, "0 to 1", f"{values.min():g} to {values.max():g}{remedy}")
    found = np.concatenate([keypoints[..., :2], scores[..., None]], axis=-1)
    return Poses(
        found.astype(np.float32),
        read.boxes_xywh.astype(np.float32),
        of_poses.astype(np.float32),
        skeleton,
    )


def target_of(
    poses: Poses, threshold: float, convert: Callable[[NDArray[Any]], Any] | None = None
) -> dict[str, Any]:
    """The inverse of `poses_of`: what Keypoint R-CNN returns for an image.

    `boxes` (n, 4) float32, `labels` (n,) int64, `scores` (n,) float32, `keypoints` (n, k, 3) and
    `keypoints_scores` (n, k) float32, each as `convert` makes it of the array. The visibility of a
    keypoint is 1 where its score reaches `threshold`, else 0.
    """
    present = (poses.conf >= threshold).astype(np.float32)[..., None]
    target: dict[str, NDArray[Any]] = {
        "boxes": xywh_to_xyxy(poses.boxes),
        "labels": np.full(len(poses), PERSON, np.int64),
        "scores": poses.scores.copy(),
        "keypoints": np.concatenate([poses.xy, present], axis=-1),
        "keypoints_scores": poses.conf.copy(),
    }
    return {key: values if convert is None else convert(values) for key, values in target.items()}


def write_coco(
    dataset: TargetDataset,
    folder: str | Path,
    skeleton: Skeleton | None = None,
    *,
    label: int | None = PERSON,
) -> Path:
    """Write a data set of `(image, target)` as COCO keypoints; returns the annotations' file.

    The images become PNG files in `images` of the new `folder`, pixel for pixel. `skeleton` names
    the keypoints, by default those of COCO if there are 17; `label` is that of `Target.of`. Raises
    UserError, naming the index, for what is no target, and for a folder with something in it.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder}: expected a new or empty folder, found files there; choose another",
            code="folder-not-empty",
        )
    return _write_coco(dataset, folder, skeleton, label)


def _write_coco(
    dataset: TargetDataset, folder: Path, skeleton: Skeleton | None, label: int | None = PERSON
) -> Path:
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise _wrong("dataset", "one of (image, target) with len() and an index, such as a "
                     "torch.utils.data.Dataset", type(dataset).__name__)  # fmt: skip
    images, annotations = [], list[dict[str, Any]]()
    ids: set[int] = set()
    left_out = 0
    for index in range(min(len(dataset), _MAX_IMAGES)):
        pair = dataset[index]
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise _wrong(f"dataset[{index}]", "(image, target)", _short(pair))
        try:
            read = Target.of(pair[1], label)
            keypoints = read.with_keypoints()
            skeleton = _skeleton(keypoints, skeleton)
            pixels = ImageSource.of(pair[0]).pixels()
        except UserError as error:
            raise UserError(f"dataset[{index}]: {error}", code=error.code) from error
        image_id = index + 1 if read.image_id is None else read.image_id
        if image_id in ids:
            raise _wrong(f"dataset[{index}]", "an image_id of its own", f"{image_id} again")
        ids.add(image_id)
        name = f"{index:08d}.png"
        write_atomically(folder / "images" / name, encode(pixels, ".png"))
        height, width = pixels.shape[:2]
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        annotations += _annotations(read, keypoints, image_id, len(annotations) + 1)
        left_out += read.left_out
    if skeleton is None:
        raise _wrong("dataset", "at least one (image, target)", "none")
    if left_out and not annotations:
        remedy = "hrpose.keypoint_rcnn.write_coco(..., label=None) takes all"
        raise _wrong("dataset", f"persons with the label {label}",
                     f"{left_out} with others; {remedy}")  # fmt: skip
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [skeleton.to_coco_category()],
    }
    path = folder / "annotations.json"
    write_atomically(path, json.dumps(document))
    return path


@contextmanager
def as_files(
    annotations: str | Path | TargetDataset, images: str | Path | None, skeleton: Skeleton
) -> Iterator[tuple[Path, str | Path]]:
    """COCO annotations and images: those given, or of a data set, for as long as they are used.

    Raises UserError as `write_coco`, and where a file has no `images` or a data set has others.
    """
    if isinstance(annotations, str | Path):
        if images is None:
            raise UserError(
                f"images: expected those of {annotations}, found none", code="option-missing"
            )
        yield Path(annotations), images
        return
    if images is not None:
        raise UserError("images: a data set has its own; leave them out", code="option-conflict")
    with TemporaryDirectory() as folder:
        written = write_coco(annotations, folder, skeleton)
        yield written, written.parent / "images"


def kept_as_files(
    annotations: str | Path | TargetDataset, out: Path | None, name: str, written: bool
) -> Path:
    """COCO annotations: those given, or of a data set, written to the folder `name` in `out`.

    Those of an earlier try are replaced; where a training is resumed, they were `written` before.
    """
    if isinstance(annotations, str | Path):
        return Path(annotations)
    if out is None:
        raise UserError(
            f"out: expected a folder, to which the data set {name} is written, found none",
            code="option-missing",
        )
    if written and (file := out / name / "annotations.json").exists():
        return file
    return _write_coco(annotations, out / name, None)


def _annotations(
    target: Target, keypoints: NDArray[np.float64], image_id: int, first: int
) -> list[dict[str, Any]]:
    boxes = target.boxes_xywh
    areas = boxes[:, 2:].prod(axis=1) if target.areas is None else target.areas
    crowds = np.zeros(len(boxes), bool) if target.crowds is None else target.crowds
    labeled = np.where(keypoints[..., 2:] > 0, keypoints, 0)
    return [
        {
            "id": first + row,
            "image_id": image_id,
            "category_id": 1,
            "bbox": boxes[row].tolist(),
            "area": float(areas[row]),
            "iscrowd": int(crowds[row]),
            "keypoints": labeled[row].ravel().tolist(),
            "num_keypoints": int((labeled[row, :, 2] > 0).sum()),
        }
        for row in range(len(boxes))
    ]


def _skeleton(keypoints: NDArray[np.float64], given: Skeleton | None) -> Skeleton:
    from hrpose.skeletons import COCO_17

    skeleton = COCO_17 if given is None else given
    if not isinstance(skeleton, Skeleton):
        raise _wrong("skeleton", "a hrpose.Skeleton, such as those of hrpose.skeletons",
                     _short(given))  # fmt: skip
    n, count, _ = keypoints.shape
    if n and count != len(skeleton):
        remedy = "" if given else "; name the others with a skeleton"
        raise _wrong("keypoints", f"the {len(skeleton)} of {skeleton.name}", f"{count}{remedy}")
    return skeleton


def _numbers(values: Any, key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Finite numbers of this shape, in which -1 is any length; none of them may be (0,)."""
    array = _array(values, key)
    if array.size == 0 and shape[0] in (0, -1):
        array = np.zeros((0, *(max(length, 0) for length in shape[1:])))
    fits = array.ndim == len(shape) and all(
        length in (-1, found) for length, found in zip(shape, array.shape, strict=True)
    )
    if not fits:
        names = tuple("nk"[axis] if length == -1 else length for axis, length in enumerate(shape))
        raise _wrong(key, f"shape {names}".replace("'", ""), f"{array.shape}")
    if not (np.isfinite(array) & (np.abs(array) <= _MAX_COORDINATE**2)).all():
        raise _wrong(key, "finite numbers", "others")
    if key in ("boxes", "keypoints") and (np.abs(array) > _MAX_COORDINATE).any():
        raise _wrong(key, "pixels below a million", f"{np.abs(array).max():g}")
    return array


def _array(values: Any, key: str) -> NDArray[np.float64]:
    try:
        if is_tensor(values):  # NumPy has no bfloat16
            values = values.detach().cpu()
            values = (values.double() if values.is_floating_point() else values).numpy()
        array = np.asarray(values)
        converted = array.astype(np.float64) if array.dtype.kind != "c" else None
    except (TypeError, ValueError, OverflowError, RuntimeError, NotImplementedError) as error:
        raise _wrong(key, "numbers", _short(error)) from error
    if converted is None or array.dtype.kind in "US":
        raise _wrong(key, "numbers", f"{array.dtype.name} {array.ravel()[:3].tolist()}")
    return converted


def _image_id(value: Any) -> int | None:
    if value is None:
        return None
    number = _array(value, "image_id")
    if number.size != 1 or not abs(number.item()) < 2**53 or number.item() % 1:
        raise _wrong("image_id", "one whole number", f"shape {number.shape}")
    return int(number.item())


def _short(found: object) -> str:
    text = found if isinstance(found, str) else f"{type(found).__name__} {found!s}"
    return " ".join(text.split())[:80]


def _wrong(what: str, expected: str, found: str) -> UserError:
    return UserError(f"{what}: expected {expected}, found {found}", code="target-invalid")
