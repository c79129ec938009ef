"""Annotations read leniently: what is wrong becomes a finding, and the rest is looked at."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import Reader, read_json
from hrpose.errors import UserError
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
    """The labels of a COCO file, and its malformed annotations, which are left out.

    Raises UserError where the file, its categories or its list of pictures cannot be used at all.
    """
    document = read_json(path)
    reader = Reader(path)
    categories = reader.entries(document, "categories")
    skeleton: Skeleton | None = None
    wanted = [entry.get("id") for entry in categories]
    if any(entry.get("keypoints") for entry in categories):
        skeleton, category = reader.skeleton(document)
        wanted = [category]
    k = 0 if skeleton is None else len(skeleton)
    pictures = reader.pictures(document)
    names = tuple(name.decode() for name in pictures["file_names"].tolist())
    rows = {int(image): row for row, image in enumerate(pictures["image_ids"])}
    entries = reader.entries(document, "annotations")
    people = [
        {**entry, "keypoints": (entry.get("keypoints") or [0] * 3 * k) if k else []}
        for entry in entries
        if entry.get("category_id") in wanted and not entry.get("iscrowd")
    ]
    people, findings = _wellformed(reader, people, k, rows, names)
    for entry in entries:
        if isinstance(kind := entry.get("category_id"), list | dict):
            said = f"annotation {entry.get('id')}: expected 'category_id' as a number, found {kind}"
            findings.append(_malformed(entry, said, rows, names))
    columns = reader.people(people, k, rows)
    labels = Labels(
        skeleton=skeleton,
        image_ids=pictures["image_ids"],
        file_names=names,
        image_wh=pictures["image_wh"],
        image_index=columns["image_index"],
        annotation_ids=columns["annotation_ids"],
        boxes=columns["boxes"],
        keypoints=columns["keypoints"].astype(np.float64),
        areas=columns["areas"],
    )
    return labels, findings


def _wellformed(
    reader: Reader,
    people: list[dict[str, Any]],
    k: int,
    rows: dict[int, int],
    names: tuple[str, ...],
) -> tuple[list[dict[str, Any]], list[Finding]]:
    """The entries that the reader takes, and why it refuses the others."""
    try:
        reader.people(people, k, rows)
    except UserError:
        pass
    else:
        return people, []
    kept: list[dict[str, Any]] = []
    findings = []
    seen: Counter[int] = Counter()
    for entry in people:
        try:
            columns = reader.people([entry], k, rows)
            seen[number := int(columns["annotation_ids"][0])] += 1
            if seen[number] == 1:
                kept.append(entry)
                continue
            said = f"annotation {number}: its 'id' is another one's too"
        except UserError as error:
            said = str(error).removeprefix(f"{reader.path}: ")
        findings.append(_malformed(entry, said, rows, names))
    return kept, findings


def _malformed(
    entry: dict[str, Any], said: str, rows: dict[int, int], names: tuple[str, ...]
) -> Finding:
    number, image = entry.get("id"), entry.get("image_id")
    number, image = (value if isinstance(value, int) else None for value in (number, image))
    row = None if image is None else rows.get(image)
    return Finding(
        "malformed", "(no picture)" if row is None else names[row], said, 0.0, image, number
    )
