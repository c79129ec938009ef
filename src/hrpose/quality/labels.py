"""The labels of a data set, read leniently, the findings of a check, and their report.

An entry that breaks a rule of COCO becomes a finding; where it can be repaired, it is checked like
the others. Swapped left and right keypoints are found by comparison with a model's predictions.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import CocoAnnotations, read_annotations
from hrpose.data.images import ImageFiles
from hrpose.data.persons import group_by_image
from hrpose.data.rules import CORNERS, Problem
from hrpose.errors import UserError
from hrpose.estimator import InputImage, PoseEstimator
from hrpose.skeleton import Skeleton

# Each kind of finding and its description, in the order of the report.
KINDS = {
    "no-persons": "nobody is labeled, so that nothing can be trained or measured",
    "missing-file": "images that are missing",
    "unreadable": "images that cannot be decoded",
    "wrong-size": "images whose size differs from the annotations",
    "exif-rotation": "images that EXIF rotates, whose labels may be for the unrotated image",
    "malformed": "entries that are not valid COCO",
    "no-keypoints": "boxes without a labeled keypoint, which training ignores",
    "box-corners": "boxes that fit only as x1 y1 x2 y2, where x y width height belong",
    "box-outside-image": "boxes that leave the image",
    "box-too-large": "boxes far larger than what their keypoints span",
    "keypoint-outside-image": "persons with keypoints outside the image",
    "keypoint-outside-box": "persons with keypoints that their crop may not show",
    "swapped-sides": "persons whose left and right keypoints seem swapped",
    "duplicate-person": "persons who are labeled twice",
    "near-duplicate": "images that are in both data sets",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem: its kind, its place, and a description in `detail`.

    `badness` orders the findings of one kind, the worst first; its unit depends on the kind.
    `annotation` is None for problems of images, `keypoints` are the names of those concerned.
    """

    kind: str
    file: str
    detail: str
    badness: float = 0.0
    image: int | None = None
    annotation: int | None = None
    keypoints: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The finding for JSON, without what does not apply."""
        entry = {
            "kind": self.kind,
            "file": self.file,
            "image_id": self.image,
            "annotation_id": self.annotation,
            "keypoints": list(self.keypoints) or None,
            "detail": self.detail,
            "badness": round(self.badness, 4),
        }
        return {key: value for key, value in entry.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Report:
    """All findings in a set of `images` and `persons`; `notes` name checks that were skipped."""

    images: int
    persons: int
    findings: Sequence[Finding]
    notes: Sequence[str] = field(default=())

    @property
    def counts(self) -> dict[str, int]:
        """The number of findings of each kind that was found, in the order of `KINDS`."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def of(self, kind: str) -> list[Finding]:
        """The findings of one kind, the worst first."""
        own = (finding for finding in self.findings if finding.kind == kind)
        return sorted(own, key=lambda finding: -finding.badness)

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON, kind by kind."""
        return {
            "images": self.images,
            "persons": self.persons,
            "counts": self.counts,
            "notes": list(self.notes),
            "findings": [f.as_dict() for kind in self.counts for f in self.of(kind)],
        }

    def lines(self, worst: int | None = 3) -> Iterator[str]:
        """The report as text: one line for each kind, with the worst few findings, or all."""
        counted: list[str] = []
        for count, what in ((self.images, "image"), (self.persons, "person")):
            counted.append(f"{count:,} {what}{'s' * (count != 1)}")
        yield ", ".join(counted)
        for kind, count in self.counts.items():
            yield f"{kind} ({count:,}): {KINDS[kind]}"
            for finding in self.of(kind)[:worst]:
                where = "" if finding.annotation is None else f", annotation {finding.annotation}"
                yield f"    {finding.file}{where}: {finding.detail}"
        for note in self.notes:
            yield f"note: {note}"
        if not self.findings:
            yield "no problems found"


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """n persons in m images as in the file: nothing is clipped, only crowds are left out.

    Columns as in `PersonTable`; `exact` (n,) marks boxes that may leave the image (MPII's). A file
    of boxes has no `skeleton`, and (n, 0, 3) keypoints.
    """

    skeleton: Skeleton | None
    image_ids: NDArray[np.int64]
    file_names: tuple[str, ...]
    image_wh: NDArray[np.int32]
    image_index: NDArray[np.int32]
    annotation_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    keypoints: NDArray[np.float64]
    exact: NDArray[np.bool_]

    @classmethod
    def of(cls, annotations: CocoAnnotations) -> "Labels":
        """The labels of a parsed file."""
        images, instances = annotations.image_columns, annotations.instances(crowds=False)
        persons = instances.columns
        exact = [entry.get("bbox_exact") is True for entry in instances.entries]
        return cls(
            skeleton=annotations.skeleton if annotations.has_keypoints else None,
            image_ids=images["image_ids"],
            file_names=tuple(name.decode() for name in images["file_names"].tolist()),
            image_wh=images["image_wh"],
            image_index=persons["image_index"],
            annotation_ids=persons["annotation_ids"],
            boxes=persons["boxes"],
            keypoints=persons["keypoints"].astype(np.float64),
            exact=np.asarray(exact, np.bool_),
        )

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """(n, k): which keypoints are labeled."""
        mask: NDArray[np.bool_] = self.keypoints[..., 2] > 0
        return mask

    @property
    def names(self) -> tuple[str, ...]:
        """The keypoints' names."""
        return () if self.skeleton is None else self.skeleton.keypoints

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(n,): which persons have a box that is inside their image, at least in part."""
        size = self.image_wh[self.image_index]
        low, high = self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]
        inside = (self.boxes[:, 2:] > 0) & (low < size) & (high > 0)
        usable: NDArray[np.bool_] = np.all(inside, axis=1)
        return usable

    def finding(
        self, kind: str, person: int, detail: str, badness: float, keypoints: Any = ()
    ) -> Finding:
        """A problem of one person; `keypoints` are indices."""
        image = int(self.image_index[person])
        return Finding(
            kind,
            self.file_names[image],
            detail,
            float(badness),
            int(self.image_ids[image]),
            int(self.annotation_ids[person]),
            tuple(self.names[keypoint] for keypoint in keypoints),
        )


def read_labels(path: Path | CocoAnnotations) -> tuple[Labels, list[Finding]]:
    """The labels of a COCO file, and a finding for each malformed entry, repaired or left out.

    Parsed annotations must be lenient. Raises UserError where the file, its categories or its lists
    are unusable.
    """
    annotations = read_annotations(path, lenient=True)
    labels = Labels.of(annotations)
    names = dict(zip(labels.image_ids.tolist(), labels.file_names, strict=True))
    # The check of boxes finds these itself, and says how far they are off.
    problems = [problem for problem in annotations.problems if problem.odd is not CORNERS]
    return labels, [_malformed(problem, names) for problem in problems]


def _malformed(problem: Problem, names: dict[int, str]) -> Finding:
    entry, of_image = problem.entry, problem.of == "image"
    number = _whole(entry.get("id")) if problem.of == "annotation" else None
    image = "id" if of_image else "image_id"
    image_id = _whole(entry.get(image))
    file = entry.get("file_name") if of_image else names.get(-1 if image_id is None else image_id)
    file = file if isinstance(file, str) else "(no image)"
    # The report names the annotation itself.
    detail = problem.message.removeprefix(f"annotation {number}: ")
    return Finding("malformed", file, detail, 0.0, image_id, number)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


# Keypoints with a lower score are ignored, and so are pairs that are closer, relative to the size.
_MIN_SCORE = 0.2
_MIN_DISTANCE = 0.1
# Longer distances, relative to the size, count like this one.
_MAX_DISTANCE = 0.3
# From this evidence on a group counts as swapped. It is relative to the most that swapping could
# gain: 1 where the predicted keypoints are on the labels of the other side.
MIN_EVIDENCE = 0.5

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Group:
    """Flip pairs (indices into the skeleton's) that may be swapped together; `all`: every pair."""

    pairs: tuple[int, ...]
    all: bool

    def keypoints(self, skeleton: Skeleton) -> list[int]:
        """The indices of the keypoints, pair by pair, left first."""
        return [keypoint for pair in self.pairs for keypoint in skeleton.flip_pairs[pair]]


def groups(skeleton: Skeleton) -> list[Group]:
    """The groups swapped in practice: all pairs, one pair, or all pairs beyond one limb.

    Pairs and unpaired keypoints are the nodes of a graph, limbs its edges. Where removing an edge
    splits the graph, the smaller part is a group: knees and ankles, arms, a face.
    """
    pairs = skeleton.flip_pairs
    if not pairs:
        return []
    node = {keypoint: number for number, pair in enumerate(pairs) for keypoint in pair}
    for keypoint in range(len(skeleton)):
        node.setdefault(keypoint, len(pairs) + keypoint)
    edges = {frozenset((node[a], node[b])) for a, b in skeleton.limbs}
    edges = {edge for edge in edges if len(edge) == 2}
    every = frozenset(range(len(pairs)))
    parts = {frozenset([pair]) for pair in every}
    for edge in edges:
        start, end = edge
        near = _reachable(start, edges - {edge})
        if end not in near:
            parts.add(min(every & near, every - near, key=lambda part: (len(part), sorted(part))))
    parts -= {frozenset(), every}
    return [
        Group(tuple(sorted(every)), all=True),
        *(Group(tuple(p), False) for p in sorted(map(sorted, parts))),
    ]


def _reachable(start: int, edges: Iterable[frozenset[int]]) -> set[int]:
    neighbors: dict[int, set[int]] = {}
    for a, b in edges:
        neighbors.setdefault(a, set()).add(b)
        neighbors.setdefault(b, set()).add(a)
    found, waiting = {start}, [start]
    while waiting:
        more = neighbors.get(waiting.pop(), set()) - found
        found |= more
        waiting += more
    return found


def evidence(
    poses: NDArray[np.float64],
    keypoints: NDArray[np.float64],
    sizes: NDArray[np.float64],
    skeleton: Skeleton,
    known: list[Group],
) -> NDArray[np.float64]:
    """(n, g) in [-1, 1]: how much better a group's labels fit the predictions when swapped.

    `poses` (the predictions) and `keypoints` (the labels) (n, k, 3), `sizes` (n,) in pixels. 0
    where too few keypoints have a high score and are far from their twin: at least one, of all
    pairs six.
    """
    result = np.zeros((len(poses), len(known)))
    if not len(known):
        return result
    sure = np.nan_to_num(poses[..., 2]) >= _MIN_SCORE
    labeled = keypoints[..., 2] > 0
    own = _distances(poses, keypoints, sizes)
    twin = skeleton.flip_permutation
    other = _distances(poses, keypoints[:, twin], sizes)
    apart = _distances(keypoints, keypoints[:, twin], sizes)
    counted = sure & labeled & labeled[:, twin] & (apart > _MIN_DISTANCE)
    weight = np.where(counted, np.nan_to_num(poses[..., 2]), 0)
    gain = weight * np.where(counted, own - other, 0)
    most = weight * np.minimum(apart, _MAX_DISTANCE)
    for column, group in enumerate(known):
        columns = group.keypoints(skeleton)
        enough = counted[:, columns].sum(axis=1) >= (6 if group.all and len(columns) > 4 else 1)
        share = gain[:, columns].sum(axis=1) / np.maximum(most[:, columns].sum(axis=1), 1e-9)
        result[:, column] = np.where(enough, share, 0)
    return result


def _distances(
    a: NDArray[np.float64], b: NDArray[np.float64], sizes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, k): relative to the size, at most `_MAX_DISTANCE`."""
    lengths = np.linalg.norm(a[..., :2] - b[..., :2], axis=-1) / sizes[:, None]
    result: NDArray[np.float64] = np.minimum(
        np.nan_to_num(lengths, nan=_MAX_DISTANCE), _MAX_DISTANCE
    )
    return result


def swapped(known: list[Group], seen: NDArray[np.float64]) -> Iterator[tuple[int, int, float]]:
    """(person, group, evidence in [0, 1]) for each person with a swapped group.

    `seen` (n, g) is the `evidence` of the groups `known`. Of several groups of a person the one
    with the most pairs that agree is reported.
    """
    pairs = np.array([len(group.pairs) for group in known])
    agreed = np.where(seen > MIN_EVIDENCE, seen * pairs, 0)
    for person in np.flatnonzero(agreed.any(axis=1)).tolist():
        group = int(np.argmax(agreed[person]))
        yield person, group, float(seen[person, group])


def check_keypoints(estimator: PoseEstimator, labels: Labels) -> None:
    """Raises UserError where the model predicts other keypoints than are labeled."""
    found = estimator.metadata.skeleton.keypoints
    if labels.names != found:
        raise UserError(
            f"--weights: expected the keypoints of the annotations ({', '.join(labels.names)}), "
            f"found {', '.join(found)}",
            code="keypoints-differ",
        )


def predicted(
    estimator: PoseEstimator,
    labels: Labels,
    source: ImageFiles,
    persons: NDArray[np.int64],
    progress: Progress,
) -> NDArray[np.float64]:
    """(n, k, 3): the pose predicted in the box of each of the `persons`, NaN for the others and for
    those whose image cannot be read.
    """
    poses = np.full((len(labels), len(labels.names), 3), np.nan)
    persons = persons[labels.usable[persons]]
    groups_of_image = [persons[own] for own in group_by_image(labels.image_index[persons]).values()]

    def images() -> Iterator[InputImage]:
        for done, own in enumerate(groups_of_image, start=1):
            progress(done, len(groups_of_image))
            try:
                image = source.read(labels.file_names[int(labels.image_index[own[0]])])
                item = InputImage.of(image, labels.boxes[own])
            except UserError:
                continue
            yield replace(item, key=own)

    for item, found in estimator.stream(images()):
        poses[item.key] = found.keypoints
    return poses


def swapped_sides(
    labels: Labels,
    source: ImageFiles | None,
    estimator: PoseEstimator | None,
    notes: list[str],
    progress: Callable[[int, int], None],
) -> list[Finding]:
    """Persons whose labels fit the predictions better when left and right are swapped.

    Adds to `notes` where nothing can be compared. Raises UserError where the model predicts other
    keypoints than are labeled.
    """
    skeleton = labels.skeleton
    if skeleton is None or not skeleton.flip_pairs:
        notes.append("left and right were not checked: the skeleton has no flip pairs")
        return []
    if estimator is None or source is None:
        notes.append("left and right were not checked: add --weights and --images")
        return []
    check_keypoints(estimator, labels)
    persons = np.flatnonzero(labels.labeled.any(axis=1))
    poses = predicted(estimator, labels, source, persons, progress)
    sizes = np.sqrt(np.maximum(labels.boxes[:, 2:].prod(axis=1), 1.0))
    known = groups(skeleton)
    seen = evidence(poses, labels.keypoints, sizes, skeleton, known)
    findings = []
    for person, group, share in swapped(known, seen):
        keypoints = known[group].keypoints(skeleton)
        shown = "all pairs" if known[group].all else _left_names(labels, keypoints)
        labeled = [keypoint for keypoint in keypoints if labels.labeled[person, keypoint]]
        detail = f"{shown} swapped, by the model"
        findings.append(labels.finding("swapped-sides", person, detail, share, labeled))
    return findings


def _left_names(labels: Labels, keypoints: list[int]) -> str:
    """The names of the pairs' left keypoints."""
    return ", ".join(labels.names[keypoint].replace("_", " ") for keypoint in keypoints[::2][:4])
