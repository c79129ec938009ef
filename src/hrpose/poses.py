"""`Poses`, the result: the poses of the persons in one image, and their scores."""

from __future__ import annotations  # so that help() shows the names of types, not their contents

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.errors import UserError, missing
from hrpose.geometry import BODY_MARGIN, box_around, expand_boxes, xywh_to_xyxy
from hrpose.image import ImageSource
from hrpose.metrics.oks import oks_nms
from hrpose.skeleton import Skeleton

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

# Keypoints with a lower score are absent, by default.
THRESHOLD = 0.3
# Persons that a detector found are left out where their pose has a lower score, by default: of the
# poses above it more are right than wrong (docs/guide/detection.md).
MIN_SCORE = 0.25
# Of two poses with a higher OKS, in boxes that a detector found, one is left out.
MAX_OKS = 0.5
# The official code's threshold for the keypoints that count in a pose's score.
COUNTED_SCORE = 0.2
# Keypoints below this score are too uncertain to say where the person is.
CONFIDENT_SCORE = 0.2
# A box around fewer confident keypoints may miss the rest of the body.
MIN_KEYPOINTS = 6
# Keypoints on one spot are not a tiny person: a box becomes at most this many times smaller.
MAX_SHRINK = 10


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Poses:
    """n persons with k keypoints each, in pixels of their image.

    `keypoints` (n, k, 3) float32: x, y, score; scores in [0, 1]. `boxes` (n, 4) float32:
    [x, y, w, h]. `scores` (n,) float32 in [0, 1] are those of the poses. `track_ids` (n,) int64 in
    a video, else None. `skeleton` names the k keypoints. `filled` (n, k) bool marks keypoints that
    were not predicted but interpolated over time, None if there are none. `image_wh` (w, h) is the
    image's size in pixels, and `source` the image as it was given, if they are known: pixels stay
    in memory as long as the poses, and `dataclasses.replace(poses, source=None)` lets go of them.
    `covariance` (n, k, 2, 2) float32 in pixels² is that of each keypoint's place, if it was asked
    for: its 95 % ellipse holds the true place in 95 of 100 cases, see `hrpose.covariance`. With it,
    if the weights tell them, `presence` (n, k, 3) float32 are the probabilities that a keypoint is
    visible, hidden and absent.
    Raises ValueError where shapes do not fit.
    """

    keypoints: NDArray[np.float32]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    skeleton: Skeleton
    track_ids: NDArray[np.int64] | None = None
    filled: NDArray[np.bool_] | None = None
    image_wh: tuple[int, int] | None = None
    source: ImageSource | None = None
    covariance: NDArray[np.float32] | None = None
    presence: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        n, k = len(self.keypoints), len(self.skeleton)
        expected = {"keypoints": (n, k, 3), "boxes": (n, 4), "scores": (n,)}
        if self.track_ids is not None:
            expected["track_ids"] = (n,)
        if self.filled is not None:
            expected["filled"] = (n, k)
        if self.covariance is not None:
            expected["covariance"] = (n, k, 2, 2)
        if self.presence is not None:
            expected["presence"] = (n, k, 3)
        for field, shape in expected.items():
            if (found := getattr(self, field).shape) != shape:
                raise ValueError(f"Poses.{field}: expected shape {shape}, found {found}")

    @classmethod
    def empty(cls, skeleton: Skeleton) -> Poses:
        """No poses."""
        zeros = np.zeros(0, np.float32)
        return cls(zeros.reshape(0, len(skeleton), 3), zeros.reshape(0, 4), zeros, skeleton)

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, chosen: Any) -> Poses:
        """The persons that `chosen` selects: an index, a slice, a mask or an array of indices."""
        if isinstance(chosen, int | np.integer):
            chosen = [chosen]
        names = ("keypoints", "boxes", "scores", "track_ids", "filled", "covariance", "presence")
        columns = {name: getattr(self, name) for name in names}
        return replace(
            self, **{name: value[chosen] for name, value in columns.items() if value is not None}
        )

    def __iter__(self) -> Iterator[Poses]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        count = len(self)
        persons = f"{count or 'no'} person{'' if count == 1 else 's'}"
        parts = [persons, self.skeleton.name]
        lists = {"scores": [f"{score:.2f}".removeprefix("0") for score in self.scores[:6]]}
        if self.track_ids is not None:
            lists["ids"] = list(map(str, self.track_ids[:6]))
        more = [".."] * (count > 6)
        parts += [" ".join([name, *values, *more]) for name, values in lists.items() if values]
        return f"Poses({', '.join(parts)})"

    @property
    def xy(self) -> NDArray[np.float32]:
        """(n, k, 2) the keypoints in pixels, without their scores."""
        return self.keypoints[..., :2]

    @property
    def conf(self) -> NDArray[np.float32]:
        """(n, k) the scores of the keypoints, in [0, 1]."""
        return self.keypoints[..., 2]

    @property
    def xyn(self) -> NDArray[np.float32]:
        """(n, k, 2) the keypoints in parts of the image's width and height.

        Raises UserError where the size of the image is not known.
        """
        if self.image_wh is None:
            raise UserError("xyn: the size of the image is not known", code="image-missing")
        return np.asarray(self.xy / self.image_wh, np.float32)

    @property
    def boxes_xyxy(self) -> NDArray[np.float32]:
        """(n, 4) the boxes as corners [left, top, right, bottom] in pixels."""
        return xywh_to_xyxy(self.boxes)

    def keypoint(self, name: str) -> NDArray[np.float32]:
        """(n, 3): x, y and score of the keypoint of this `name` of each person.

        Raises UserError where the skeleton has none of this name.
        """
        if name not in self.skeleton.keypoints:
            known = ", ".join(self.skeleton.keypoints)
            raise UserError(f"keypoint {name!r}: expected one of {known}", code="keypoint-unknown")
        return self.keypoints[:, self.skeleton.keypoints.index(name)]

    def draw(
        self, image: NDArray[np.uint8] | None = None, threshold: float = THRESHOLD, **options: Any
    ) -> NDArray[np.uint8]:
        """The image (h, w, 3) uint8 RGB with these poses on it.

        `image` is by default the one that the estimator was given: a file is read again.
        `threshold` in [0, 1] and `options` are those of `hrpose.draw`. Raises UserError where there
        is no image.
        """
        from hrpose.viz import draw

        return draw(self._image() if image is None else image, self, threshold, **options)

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write the drawn image, or with a `path` that ends with .json the text of `to_json`.

        `options` are those of `draw`. Returns the path. Raises UserError where it cannot be
        written.
        """
        from hrpose.image import WRITABLE, encode
        from hrpose.io import write_atomically

        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in (".json", *WRITABLE):
            raise UserError(
                f"{path}: expected a name that ends with one of .json, {', '.join(WRITABLE)}",
                code="image-unsupported",
            )
        json_text = suffix == ".json"
        write_atomically(
            path, self.to_json(**options) if json_text else encode(self.draw(**options), suffix)
        )
        return path

    def show(self, **options: Any) -> None:
        """Show the drawn image: in a notebook, or with the image viewer of this system.

        `options` are those of `draw`. Raises UserError where nothing shows images.
        """
        from PIL import Image, ImageShow

        if not ImageShow.show(Image.fromarray(self.draw(**options)), title="hrpose"):
            raise UserError(
                "show: needs a notebook or an image viewer, found none; "
                "poses.save('drawn.png') writes a file",
                code="display-missing",
            )

    def _repr_png_(self) -> bytes | None:
        """The drawn image for notebooks, at most 1280 pixels long; None without an image."""
        if self.source is None:
            return None
        from PIL import Image

        try:
            drawn, data = Image.fromarray(self.draw()), io.BytesIO()
        except UserError:  # the file is gone
            return None
        drawn.thumbnail((1280, 1280))
        drawn.save(data, "PNG")
        return data.getvalue()

    def _image(self) -> NDArray[np.uint8]:
        if self.source is None:
            raise UserError("these poses keep no image; give draw the pixels", code="image-missing")
        pixels = self.source.pixels()
        found = (pixels.shape[1], pixels.shape[0])
        if self.image_wh not in (None, found):
            raise UserError(
                f"{self.source.name or 'image'}: expected {self.image_wh} pixels as when its poses "
                f"were estimated, found {found}; give draw the pixels",
                code="image-missing",
            )
        return pixels

    def to_json(self, threshold: float = THRESHOLD) -> str:
        """JSON: the image's name, width and height, and for each person box, score and keypoints.

        The form is that of the server. Keypoints with a score below `threshold`, in [0, 1], are not
        `present`; pixels are rounded to 1/100, scores to 1/10000.
        """
        ids = [None] * len(self) if self.track_ids is None else self.track_ids.tolist()
        persons = []
        for keypoints, box, score, track_id in zip(
            self.keypoints.tolist(), self.boxes.tolist(), self.scores.tolist(), ids, strict=True
        ):
            entries = [
                {"name": name, "x": round(x, 2), "y": round(y, 2), "score": round(s, 4),
                 "present": s >= threshold}
                for name, (x, y, s) in zip(self.skeleton.keypoints, keypoints, strict=True)
            ]  # fmt: skip
            person = {"box": [round(v, 2) for v in box], "score": round(score, 4)}
            if track_id is not None:
                person["track_id"] = track_id
            persons.append({**person, "keypoints": entries})
        width, height = self.image_wh or (None, None)
        about = {
            "image": None if self.source is None else self.source.name or None,
            "width": width,
            "height": height,
            "skeleton": self.skeleton.name,
            "threshold": threshold,
        }
        return json.dumps({**about, "persons": persons}, indent=1)

    def to_coco(self, image_id: int | str, category_id: int = 1) -> list[dict[str, Any]]:
        """Entries of a COCO keypoint results file, one per person; with `track_id` in a video.

        Persons with interpolated keypoints have their indices as `filled`. Where covariances are
        known, `covariance` has those of x, of x and y, and of y of each keypoint, in pixels²,
        and `presence` the probabilities of visible, hidden and absent.

        `keypoints` are x, y, score of each keypoint in one list, `bbox` is [x, y, w, h], in pixels.
        `image_id` and `category_id` are those of the annotations they belong to.
        """
        entries: list[dict[str, Any]] = []
        for keypoints, box, score in zip(self.keypoints, self.boxes, self.scores, strict=True):
            entries.append(
                {
                    "image_id": image_id,
                    "category_id": category_id,
                    "keypoints": [round(float(v), 4) for v in keypoints.ravel()],
                    "score": round(float(score), 6),
                    "bbox": [round(float(v), 3) for v in box],
                }
            )
        if self.track_ids is not None:
            for entry, track_id in zip(entries, self.track_ids, strict=True):
                entry["track_id"] = int(track_id)
        if self.filled is not None:
            for entry, filled in zip(entries, self.filled, strict=True):
                if filled.any():
                    entry["filled"] = np.flatnonzero(filled).tolist()
        if self.covariance is not None:
            for entry, values in zip(entries, self.covariance, strict=True):
                parts = values[:, [0, 0, 1], [0, 1, 1]].ravel().tolist()
                entry["covariance"] = [float(f"{value:.5g}") for value in parts]
        if self.presence is not None:
            for entry, present in zip(entries, self.presence, strict=True):
                entry["presence"] = [round(value, 4) for value in present.ravel().tolist()]
        return entries

    @classmethod
    def from_coco(cls, entries: Sequence[Mapping[str, Any]], skeleton: Skeleton) -> Poses:
        """The inverse of `to_coco`, with its rounding.

        `entries` are the persons of one image, of this `skeleton`. Raises KeyError or ValueError
        where an entry is not as `to_coco` writes it.
        """
        if not entries:
            return cls.empty(skeleton)
        values: dict[str, Any] = {}
        for field, key in (("keypoints", "keypoints"), ("boxes", "bbox"), ("scores", "score")):
            with np.errstate(over="ignore"):  # beyond float32 is infinite
                values[field] = np.array([entry[key] for entry in entries], np.float32)
        values["keypoints"] = values["keypoints"].reshape(len(entries), -1, 3)
        if "track_id" in entries[0]:
            values["track_ids"] = np.array([entry["track_id"] for entry in entries], np.int64)
        if any("filled" in entry for entry in entries):
            values["filled"] = np.zeros((len(entries), len(skeleton)), np.bool_)
            for entry, filled in zip(entries, values["filled"], strict=True):
                filled[entry.get("filled", [])] = True
        if "covariance" in entries[0]:
            parts = np.array([entry["covariance"] for entry in entries], np.float32)
            parts = parts.reshape(len(entries), -1, 3)
            values["covariance"] = parts[..., [[0, 1], [1, 2]]]
        if "presence" in entries[0]:
            present = np.array([entry["presence"] for entry in entries], np.float32)
            values["presence"] = present.reshape(len(entries), -1, 3)
        return cls(skeleton=skeleton, **values)

    @classmethod
    def from_target(
        cls,
        target: Mapping[str, Any],
        skeleton: Skeleton | None = None,
        *,
        label: int | None = 1,
        logits: bool = False,
    ) -> Poses:
        """Of a `target`, `skeleton`, `label` and `logits` as in `hrpose.keypoint_rcnn.poses_of`."""
        from hrpose.keypoint_rcnn import poses_of

        return poses_of(target, skeleton, label=label, logits=logits)

    def to_target(self, convert: Any = None, threshold: float = THRESHOLD) -> dict[str, Any]:
        """What Keypoint R-CNN returns, see `hrpose.keypoint_rcnn.target_of`; a score below
        `threshold`, in [0, 1], is not visible. `convert`, such as `torch.as_tensor`, makes each
        value of an array.
        """
        from hrpose.keypoint_rcnn import target_of

        return target_of(self, threshold, convert)

    def to_pandas(self, threshold: float = THRESHOLD) -> pd.DataFrame:
        """One row per keypoint, see `hrpose.tables.Row`. Needs `hrpose[tables]`.

        Keypoints with a score below `threshold`, in [0, 1], are not `present`.
        """
        from hrpose.tables import rows, to_pandas

        return to_pandas(rows(self, threshold=threshold), covariance=self.covariance is not None)

    def to_supervision(self, threshold: float = THRESHOLD) -> Any:
        """`supervision.KeyPoints`, see `hrpose.poses.to_supervision`.

        Keypoints with a score below `threshold`, in [0, 1], are not `visible`.
        """
        return to_supervision(self, threshold)


def rescore(
    keypoints: ArrayLike, box_scores: ArrayLike, above: float = COUNTED_SCORE
) -> NDArray[np.float64]:
    """(n,) pose scores: the box's score times the mean of the keypoint scores above `above`.

    The paper's rule (section 4.1, "Testing"). `keypoints` (n, k, 3) with scores last, `box_scores`
    (n,). A pose without a keypoint above it gets 0.
    """
    scores = np.asarray(keypoints, np.float64)[:, :, 2]
    counted = scores > above
    mean = np.where(counted, scores, 0).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    result: NDArray[np.float64] = mean * np.asarray(box_scores, np.float64)
    return result


def select(poses: Poses, *, detected: bool, min_score: float | None = None) -> NDArray[np.int64]:
    """The indices of the poses to return, in order.

    Poses with a score below `min_score` are left out. Of persons that a detector found, those whose
    pose repeats a better one are left out too, and `min_score` is 0.25 by default instead of 0.
    """
    if min_score is None:
        min_score = MIN_SCORE if detected else 0.0
    good = np.flatnonzero(poses.scores >= min_score)
    return good[distinct(poses[good])] if detected and len(good) > 1 else good


def distinct(poses: Poses) -> NDArray[np.int64]:
    """The indices of the poses, in order, without those that repeat a better one (OKS-NMS)."""
    areas = poses.boxes[:, 2:].prod(axis=1)
    kept = oks_nms(poses.keypoints, areas, poses.scores, MAX_OKS, poses.skeleton.sigmas)
    return np.sort(kept)


def boxes_around(
    keypoints: NDArray[np.float32], boxes_xywh: NDArray[np.float64], image_wh: tuple[int, int]
) -> NDArray[np.float64]:
    """Boxes (n, 4) around `keypoints` (n, k, 3), in the same pixels.

    Keypoints with a low score or outside the image of `image_wh` are ignored. A person with few
    others keeps the box of `boxes_xywh` (n, 4).
    """
    points = keypoints[..., :2].astype(np.float64)
    inside = ((points >= 0) & (points < image_wh)).all(axis=-1)
    sure = inside & (keypoints[..., 2] >= CONFIDENT_SCORE)
    tight = box_around(points, sure)
    margin = np.maximum(
        BODY_MARGIN * tight[:, 2:].max(axis=1), boxes_xywh[:, 2:].max(axis=1) / MAX_SHRINK / 2
    )
    enough = sure.sum(axis=1) >= MIN_KEYPOINTS
    return np.where(enough[:, None], expand_boxes(tight, margin), boxes_xywh)


def to_supervision(poses: Poses, threshold: float) -> Any:
    """`supervision.KeyPoints` of n persons: xy (n, k, 2), and the scores of keypoints and persons.

    Keypoints with a score below `threshold` are not `visible`. Its `data` has `xyxy` (n, 4), the
    corners of the boxes, `class_name`, `tracker_id` in a video, and `covariance` (n, k, 2, 2) if it
    is known. Raises UserError where supervision is missing or older than 0.29.
    """
    try:
        from supervision import KeyPoints  # type: ignore[import-not-found, unused-ignore]
    except ModuleNotFoundError as error:
        raise missing("to_supervision", error, "supervision>=0.29") from error
    n = len(poses)
    name = poses.skeleton.category or poses.skeleton.name
    data: dict[str, Any] = {"xyxy": xywh_to_xyxy(poses.boxes), "class_name": np.full(n, name)}
    if poses.track_ids is not None:
        data["tracker_id"] = poses.track_ids
    if poses.covariance is not None:
        data["covariance"] = poses.covariance
    try:
        return KeyPoints(
            xy=poses.keypoints[..., :2],
            class_id=np.zeros(n, np.int64),
            keypoint_confidence=poses.keypoints[..., 2],
            detection_confidence=poses.scores,
            visible=poses.keypoints[..., 2] >= threshold,
            data=data,
        )
    except TypeError as error:
        raise UserError(
            "to_supervision: expected supervision 0.29 or newer, found an older one; "
            "pip install -U supervision",
            code="package-outdated",
        ) from error
