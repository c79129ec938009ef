"""Annotations read leniently: what is wrong becomes a finding, and the rest is looked at."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import CocoAnnotations, read_annotations
from hrpose.data.rules import Problem
from hrpose.inspection.findings import Finding
from hrpose.skeleton import Skeleton


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """n people in m pictures, as the file says it: nothing is cut, nobody left out but crowds.

    Columns as in `PersonTable`. Boxes without any skeleton have `skeleton` None and keypoints of
    shape (n, 0, 3).
    """

    skeleton: Skeleton | None
    image_ids: NDArray[np.int64]
    file_names: tuple[str, ...]
    image_wh: NDArray[np.int32]
    image_index: NDArray[np.int32]
    annotation_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    keypoints: NDArray[np.float64]
    areas: NDArray[np.float64]

    @classmethod
    def of(cls, annotations: CocoAnnotations) -> "Labels":
        """The labels of a parsed file."""
        images, people = annotations.image_columns, annotations.instances(crowds=False).columns
        return cls(
            skeleton=annotations.skeleton if annotations.has_keypoints else None,
            image_ids=images["image_ids"],
            file_names=tuple(name.decode() for name in images["file_names"].tolist()),
            image_wh=images["image_wh"],
            image_index=people["image_index"],
            annotation_ids=people["annotation_ids"],
            boxes=people["boxes"],
            keypoints=people["keypoints"].astype(np.float64),
            areas=people["areas"],
        )

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(n, k): which joints have a label."""
        mask: NDArray[np.bool_] = self.keypoints[..., 2] > 0
        return mask

    @property
    def names(self) -> tuple[str, ...]:
        return () if self.skeleton is None else self.skeleton.keypoints

    def finding(
        self, kind: str, person: int, detail: str, badness: float, joints: Any = ()
    ) -> Finding:
        """A fault of one person; `joints` are indices."""
        picture = int(self.image_index[person])
        return Finding(
            kind,
            self.file_names[picture],
            detail,
            float(badness),
            int(self.image_ids[picture]),
            int(self.annotation_ids[person]),
            tuple(self.names[joint] for joint in joints),
        )


def read_labels(path: Path) -> tuple[Labels, list[Finding]]:
    """The labels of a COCO file, and its malformed entries, which are left out.

    Raises UserError where the file, its categories or its lists cannot be used at all.
    """
    annotations = read_annotations(path, lenient=True)
    labels = Labels.of(annotations)
    names = dict(zip(labels.image_ids.tolist(), labels.file_names, strict=True))
    return labels, [_malformed(problem, names) for problem in annotations.problems]


def _malformed(problem: Problem, names: dict[int, str]) -> Finding:
    entry, of_image = problem.entry, problem.kind == "image"
    number, image = (None, "id") if of_image else (_whole(entry.get("id")), "image_id")
    image_id = _whole(entry.get(image))
    file = entry.get("file_name") if of_image else names.get(-1 if image_id is None else image_id)
    file = file if isinstance(file, str) else "(no picture)"
    return Finding("malformed", file, problem.message, 0.0, image_id, number)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
