"""The labels of a data set, read leniently, and the findings of a check with their report.

An entry that breaks a rule of COCO becomes a finding; where it can be repaired, it is checked like
the others.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import CocoAnnotations, read_annotations
from hrpose.data.rules import CORNERS, Problem
from hrpose.skeleton import Skeleton

# Each kind of finding and its description, in the order of the report.
KINDS = {
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
        yield f"{self.images} images, {self.persons} persons"
        for kind, count in self.counts.items():
            yield f"{kind}: {count} {KINDS[kind]}"
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
    return Finding("malformed", file, problem.message, 0.0, image_id, number)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
