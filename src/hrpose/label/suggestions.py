"""What a model suggests while somebody labels: poses to begin with, which images to label next,
frames of clips, and labels that may be wrong.

One thread computes it: first what the shown image needs, then the rest.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.data.formats.pose_set import box_of_keypoints
from hrpose.errors import UserError
from hrpose.estimator import InputImage, PoseEstimator
from hrpose.geometry import iou
from hrpose.image import encode
from hrpose.label.project import Project
from hrpose.label.store import OUTSIDE, VISIBLE, ImageRow, Keypoint, Label, PersonRow
from hrpose.poses import THRESHOLD, Poses
from hrpose.quality import check
from hrpose.quality import labels as quality
from hrpose.quality.ranking import gains, predict_views

# Frames of a clip that are compared, and how many of them are kept.
CANDIDATES, FRAMES = 60, 20
# A label is an outlier where the model, this sure, sees the keypoint this far away, relative to the
# square root of the box's area.
_SURE, _FAR = 0.5, 0.15
# A person is missing where the model is this sure of one who overlaps no labeled one this much.
_SURE_PERSON, _OVERLAP = 0.45, 0.3
# Images are compared by thumbnails of this side; so many are put in an order by it.
_SIDE, _MOST = 16, 1000
# Images that wait for their poses: who hurries through them waits for the last ones only.
_WAITING = 4
_log = logging.getLogger(__name__)
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The predicted persons of an image: their labels, the surest first, with their scores; and
    how the model's views of each differ (`hrpose.quality.ranking.Views`), where that is known.
    """

    labels: tuple[Label, ...]
    scores: tuple[float, ...]
    disagreement: tuple[float, ...] | None = None
    entropy: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain lists, which `from_json` reads."""
        return {
            "labels": [[label.box, label.keypoints] for label in self.labels],
            "scores": self.scores,
            "disagreement": self.disagreement,
            "entropy": self.entropy,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Suggestion":
        """The suggestion that `to_json` wrote."""
        labels = tuple(Label.checked(box, keypoints) for box, keypoints in value["labels"])
        return cls(labels, tuple(value["scores"]), value["disagreement"], value["entropy"])

    @classmethod
    def of(cls, poses: Poses, pixels: Pixels) -> "Suggestion":
        """The poses in an image as labels.

        Keypoints that the model is not sure of are left to whoever labels; those that it sees
        beyond the edge, where nobody could take hold of them, are outside.
        """
        height, width = pixels.shape[:2]
        order = np.argsort(-poses.scores, kind="stable")
        labels = []
        for person in order.tolist():
            points: list[Keypoint] = []
            for x, y, score in poses.keypoints[person].astype(float).tolist():
                inside = -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5
                seen = (x, y, VISIBLE) if inside else (0.0, 0.0, OUTSIDE)
                points.append(seen if score >= THRESHOLD else None)
            labels.append(Label.checked(poses.boxes[person].astype(float).tolist(), points))
        return cls(tuple(labels), tuple(poses.scores[order].astype(float).tolist()))


class Assistant:
    """Suggests by the model of an estimator, whose keypoints are those of the project.

    Without an estimator it puts images in an order in which each is as unlike the ones before as
    possible. `model` names the model, for what is kept of its work.
    """

    def __init__(self, project: Project, estimator: PoseEstimator | None, model: str) -> None:
        self.project = project
        self._changed = threading.Condition()
        self._urgent: dict[int, Callable[[], None]] = {}
        self._stopped = False
        self._computing = threading.Lock()  # one image at a time goes through the networks
        self.use(estimator, model)
        self._thread = threading.Thread(target=self._run, name="suggestions", daemon=True)
        self._thread.start()

    def use(self, estimator: PoseEstimator | None, model: str) -> None:
        """Suggest by another model from now on."""
        kept = self.project.store.predictions(model)
        with self._changed:
            self.estimator, self.model = estimator, model
            self._known = {image: Suggestion.from_json(value) for image, value in kept.items()}
            self._unlike: list[int] = []
            self._steps = self._work(estimator)
            self.ready = False
            self._changed.notify_all()

    def close(self) -> None:
        """Stop, after what is being computed."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def order(self) -> list[int]:
        """The ids of all images, the most informative first; those not compared yet are last."""
        with self._changed:
            known, unlike = dict(self._known), list(self._unlike)
        seen = {image: each for image, each in known.items() if each.entropy and each.disagreement}
        gain: dict[int, float] = {}
        if seen:
            every = gains(
                np.concatenate([each.disagreement for each in seen.values()]),
                np.concatenate([each.entropy for each in seen.values()]),
            )
            ends = np.cumsum([len(each.labels) for each in seen.values()])[:-1]
            own = zip(seen, np.split(every, ends), strict=True)
            gain = {image: float(values.mean()) for image, values in own}
        place = {image: at for at, image in enumerate(unlike)}
        images = [image.id for image in self.project.images()]
        return sorted(images, key=lambda id: (-gain.get(id, -1.0), place.get(id, len(place))))

    def suggestion(self, image: ImageRow) -> Suggestion | None:
        """The predicted persons of an image; None until they are known. Nobody without a model."""
        with self._changed:
            if self.estimator is None:
                return Suggestion((), ())
            if image.id not in self._known:
                self._urgent.pop(image.id, None)
                self._urgent[image.id] = lambda: self._predict(image)
                while len(self._urgent) > _WAITING:
                    del self._urgent[next(iter(self._urgent))]
                self._changed.notify_all()
            return self._known.get(image.id)

    def in_box(self, image: ImageRow, box: Sequence[float]) -> Label | None:
        """The pose that the model sees in a box; None without a model. Raises UserError."""
        estimator = self.estimator
        if estimator is None:
            return None
        pixels = self.project.files.read(image.name)
        with self._computing:
            poses = estimator(pixels, [list(box)])
        return replace(Suggestion.of(poses, pixels).labels[0], box=Label.checked(box, ()).box)

    # ---- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._stopped or self._urgent or not self.ready):
                    self._changed.wait()
                if self._stopped:
                    return
                image = next(reversed(self._urgent), None)
                urgent = None if image is None else self._urgent.pop(image)
                steps = self._steps
            try:
                if urgent is not None:
                    urgent()
                elif next(steps, None) is None:
                    with self._changed:
                        self.ready = steps is self._steps
            except Exception:  # a generator that raised is at its end
                _log.exception("suggestions")

    def _work(self, estimator: PoseEstimator | None) -> Iterator[bool]:
        """Everything that nobody waits for, in small steps."""
        for clip in self.project.clips_left():
            yield from self._frames(clip, estimator)
        if estimator is None:
            yield from self._compare()
            return
        for image in self.project.images():
            known = self._known.get(image.id)
            if known is None or known.entropy is None:
                self._predict(image, views=True)
                yield True

    def _predict(self, image: ImageRow, views: bool = False) -> None:
        """Keep the poses in an image; with `views`, also how much is gained by labeling it."""
        with self._changed:
            estimator, model = self.estimator, self.model
        if estimator is None:
            return
        try:
            pixels = self.project.files.read(image.name)
            with self._computing:
                found = self._seen(estimator, pixels, views)
        except UserError as error:
            _log.info("%s", error)
            found = Suggestion((), (), (), ())
        self.project.store.predict(image.id, model, found.to_json())
        with self._changed:
            if model == self.model:
                self._known[image.id] = found

    @staticmethod
    def _seen(estimator: PoseEstimator, pixels: Pixels, views: bool) -> Suggestion:
        found = Suggestion.of(estimator(pixels), pixels)
        if not views or not found.labels:
            return replace(found, entropy=(), disagreement=()) if views else found
        boxes = np.array([each.box for each in found.labels], np.float64)
        seen = predict_views(estimator, InputImage.of(pixels, boxes))
        return replace(
            found,
            disagreement=tuple(seen.disagreement.tolist()),
            entropy=tuple(seen.entropy.tolist()),
        )

    def _compare(self) -> Iterator[bool]:
        """Put the images in an order by how unlike they are."""
        images, small = [], []
        for image in self.project.images()[:_MOST]:
            try:
                small.append(_thumbnail(self.project.files.read(image.name)))
                images.append(image.id)
            except UserError as error:
                _log.info("%s", error)
            yield True
        with self._changed:
            self._unlike = [images[at] for at in unlike_first(small)]

    def _frames(self, clip: str, estimator: PoseEstimator | None) -> Iterator[bool]:
        """Keep the frames of a clip that are most worth labeling."""
        try:
            from hrpose.video import Clip
        except ModuleNotFoundError:
            _log.warning("%s: clips need hrpose[video]", clip)
            return
        data: dict[int, bytes] = {}
        small: list[NDArray[np.float32]] = []
        views: list[Suggestion] = []
        try:
            with Clip.open(self.project.root / clip) as opened:
                step = max(1, (opened.frame_count or 10 * CANDIDATES) // CANDIDATES)
                for frame in opened:
                    if frame.index % step == 0 and len(data) < 4 * CANDIDATES:
                        data[frame.index] = encode(
                            frame.image, ".jpg", {cv2.IMWRITE_JPEG_QUALITY: 95}
                        )
                        small.append(_thumbnail(frame.image))
                        if estimator is not None:
                            with self._computing:
                                views.append(self._seen(estimator, frame.image, views=True))
                    yield True
        except UserError as error:
            _log.warning("%s", error)
        order = unlike_first(small)
        if any(each.entropy for each in views):
            disagreement = [np.mean(each.disagreement or (0.0,)) for each in views]
            entropy = [np.mean(each.entropy or (0.0,)) for each in views]
            order = np.argsort(-gains(disagreement, entropy), kind="stable").tolist()
        numbers, apart = list(data), max(1, len(data) // (2 * FRAMES))
        chosen: list[int] = []
        for at in order:
            if len(chosen) < FRAMES and all(abs(at - other) >= apart for other in chosen):
                chosen.append(at)
        self.project.add_frames(clip, {numbers[at]: data[numbers[at]] for at in sorted(chosen)})

    # ---- labels that may be wrong ------------------------------------------------------------

    def findings(self, image: ImageRow, persons: Sequence[PersonRow]) -> list["Finding"]:
        """What may be wrong in the labels of an image, without what somebody said is right."""
        size = self.project.sized(image)
        labels = _labels_of(self.project, image, persons, size)
        found = list(_by_rules(labels, persons, size))
        estimator = self.estimator
        if estimator is not None and len(labels):
            pixels = self.project.files.read(image.name)
            item = InputImage.of(pixels, labels.boxes)
            with self._computing:
                ((_, poses),) = estimator.stream([item], select=False)
            found += _by_model(labels, persons, poses.keypoints.astype(np.float64))
        suggestion = self._known.get(image.id)
        if suggestion is not None and (len(labels) or image.done):
            found += _missing(labels, suggestion)
        right = self.project.store.verdicts(image.id)
        return [finding for finding in found if finding.key not in right]


@dataclass(frozen=True, slots=True)
class Finding:
    """A label that may be wrong: the `kind` of `hrpose data check`, `outlier` or `missing-person`.

    `person` is its id, None for one who is missing; `keypoints` are those concerned. `repair` is
    the label that would be right, None where the person is one too many. `key` names the finding.
    """

    kind: str
    person: str | None
    keypoints: tuple[str, ...]
    repair: Label | None

    @property
    def key(self) -> str:
        what: Any = self.person
        if what is None and self.repair is not None and self.repair.box is not None:
            what = [round(value) for value in self.repair.box]
        return f"{self.kind} {what} {' '.join(self.keypoints)}"


def unlike_first(small: Sequence[NDArray[np.float32]]) -> list[int]:
    """An order in which each thumbnail is as far as possible from all before it.

    It begins with the one nearest to their mean: González's farthest-first traversal.
    """
    if not small:
        return []
    points = np.stack(small).reshape(len(small), -1)
    at = int(np.linalg.norm(points - points.mean(axis=0), axis=1).argmin())
    order, distance = [], np.full(len(points), np.inf)
    for _ in range(len(points)):
        order.append(at)
        distance = np.minimum(distance, np.linalg.norm(points - points[at], axis=1))
        distance[at] = -1
        at = int(distance.argmax())
    return order


def _thumbnail(pixels: Pixels) -> NDArray[np.float32]:
    small = cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def _labels_of(
    project: Project, image: ImageRow, persons: Sequence[PersonRow], size: tuple[int, int]
) -> quality.Labels:
    """The persons of one image as the checks of data sets take them."""
    boxes, keypoints = [], []
    for person in persons:
        assert person.label is not None
        points = [p if p is not None and p[2] else (0.0, 0.0, 0) for p in person.label.keypoints]
        seen = [point for point in points if point[2]]
        boxes.append(person.label.box or (box_of_keypoints(seen, size) if seen else (0, 0, 1, 1)))
        keypoints.append(points)
    n, k = len(persons), len(project.skeleton)
    return quality.Labels(
        project.skeleton,
        np.array([image.id]),
        (image.name,),
        np.array([size], np.int32),
        np.zeros(n, np.int32),
        np.arange(n),
        np.array(boxes, np.float64).reshape(n, 4),
        np.array(keypoints, np.float64).reshape(n, k, 3),
        np.zeros(n, np.bool_),
    )


def _by_rules(
    labels: quality.Labels, persons: Sequence[PersonRow], size: tuple[int, int]
) -> Iterator[Finding]:
    """What `hrpose data check` finds without a model."""
    for found in (
        *check.no_keypoints(labels),
        *check.duplicate_persons(labels),
        *check.boxes(labels),
        *check.keypoints_outside(labels),
    ):
        person = persons[found.annotation or 0]
        label = person.label
        assert label is not None
        repair: Label | None = replace(label, box=None)  # then it follows the keypoints
        if found.kind in ("no-keypoints", "duplicate-person"):
            repair = None
        elif found.kind == "keypoint-outside-image":
            points = [
                (point[0], point[1], OUTSIDE)
                if point is not None and name in found.keypoints
                else point
                for name, point in zip(labels.names, label.keypoints, strict=True)
            ]
            repair = replace(label, keypoints=tuple(points))
        elif found.kind == "box-outside-image" and label.box is not None:
            low = np.clip(label.box[:2], 0, size)
            high = np.clip(np.add(label.box[:2], label.box[2:]), 0, size)
            if (high - low > 1).all():
                repair = Label.checked([*low.tolist(), *(high - low).tolist()], label.keypoints)
        yield Finding(found.kind, person.id, found.keypoints, repair)


def _by_model(
    labels: quality.Labels, persons: Sequence[PersonRow], poses: NDArray[np.float64]
) -> Iterator[Finding]:
    """Sides that seem swapped, and keypoints that the model sees elsewhere; poses (n, k, 3)."""
    assert labels.skeleton is not None
    twin = labels.skeleton.flip_permutation
    sizes = np.sqrt(np.maximum(labels.boxes[:, 2:].prod(axis=1), 1.0))
    known = quality.groups(labels.skeleton)
    seen = quality.evidence(poses, labels.keypoints, sizes, labels.skeleton, known)
    swapped: dict[int, list[int]] = {}
    for row, group, _ in quality.swapped(known, seen) if known else ():
        swapped[row] = known[group].keypoints(labels.skeleton)
    off = np.linalg.norm(labels.keypoints[..., :2] - poses[..., :2], axis=-1) / sizes[:, None]
    far = labels.labeled & (off >= _FAR) & (poses[..., 2] >= _SURE)
    for at, person in enumerate(persons):
        assert person.label is not None
        points = person.label.keypoints
        exchanged = swapped.get(at, [])
        if exchanged:
            own = [i if i not in exchanged else int(twin[i]) for i in range(len(points))]
            repair = replace(person.label, keypoints=tuple(points[i] for i in own))
            names = tuple(labels.names[i] for i in sorted(exchanged))
            yield Finding("swapped-sides", person.id, names, repair)
        for i in np.flatnonzero(far[at]).tolist():
            if i not in exchanged:
                x, y = (round(float(value), 2) for value in poses[at, i, :2])
                moved = (*points[:i], (x, y, VISIBLE), *points[i + 1 :])
                repair = replace(person.label, keypoints=moved)
                yield Finding("outlier", person.id, (labels.names[i],), repair)


def _missing(labels: quality.Labels, suggestion: Suggestion) -> Iterator[Finding]:
    """Persons whom the model is sure of, and nobody labeled."""
    for label, score in zip(suggestion.labels, suggestion.scores, strict=True):
        box = np.array([label.box], np.float64)
        overlap = iou(box, labels.boxes).max(initial=0.0)
        if score >= _SURE_PERSON and overlap < _OVERLAP:
            yield Finding("missing-person", None, (), label)
