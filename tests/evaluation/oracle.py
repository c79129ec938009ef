"""An oracle: a session that returns the targets of a data set's persons."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import load_persons
from hrpose.geometry import transform
from hrpose.metadata import Metadata

METADATA = Metadata(network="oracle", input_wh=(192, 256))


class Oracle:
    """Returns the targets of a data set's persons, in their order."""

    def __init__(
        self, annotations: Path, metadata: Metadata = METADATA, unlabeled: bool = False
    ) -> None:
        self.metadata = metadata
        table = load_persons(annotations, unlabeled)
        matrices = np.stack([metadata.crop(box).matrix for box in table.boxes])
        points = transform(table.keypoints[..., :2].astype(np.float64), matrices)
        self.targets, _ = metadata.codec.encode(points, table.keypoints[..., 2], metadata.input_wh)
        self.next = 0

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        start, self.next = self.next, self.next + len(crops)
        answer: NDArray[np.float32] = self.targets[start : self.next]
        return answer


@dataclass(frozen=True)
class DataSet:
    annotations: Path
    images: Path

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.annotations.read_bytes())
        return document


def detections(data: DataSet, tmp_path: Path, **changes: Any) -> Path:
    """Each person's own box as a detector would give it."""
    entries = [
        {
            "image_id": person["image_id"],
            "category_id": 1,
            "bbox": person["bbox"],
            "score": 0.5,
            **changes,
        }
        for person in data.document()["annotations"]
    ]
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path
