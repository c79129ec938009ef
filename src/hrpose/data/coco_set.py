"""Poses as a COCO data set of one's own, to be mended in an annotation tool.

    dataset/images/default/photo.jpg
    dataset/annotations/person_keypoints_default.json

This is the layout that CVAT calls "COCO Keypoints 1.0"; FiftyOne reads it as a
`COCODetectionDataset`, and `hrpose train` and `hrpose evaluate` as annotations.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from hrpose.poses import Poses
from hrpose.skeleton import Skeleton

IMAGES = "images/default"
ANNOTATIONS = "annotations/person_keypoints_default.json"


@dataclass(slots=True)
class CocoSet:
    """Pictures and their people, collected one picture after the other.

    Joints with a score below `threshold` are absent: x, y and visibility 0. The others have
    visibility 2.
    """

    skeleton: Skeleton
    threshold: float
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add(self, image_id: int, file_name: str, image_wh: tuple[int, int], poses: Poses) -> None:
        """A picture that lies in `IMAGES` under `file_name`, and the people in it."""
        width, height = image_wh
        self.images.append(
            {"id": image_id, "file_name": file_name, "width": width, "height": height}
        )
        for keypoints, box, score in zip(
            poses.keypoints.tolist(), poses.boxes.tolist(), poses.scores.tolist(), strict=True
        ):
            triples = [
                [round(x, 2), round(y, 2), 2] if s >= self.threshold else [0, 0, 0]
                for x, y, s in keypoints
            ]
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "keypoints": [value for triple in triples for value in triple],
                    "num_keypoints": sum(triple[2] > 0 for triple in triples),
                    "bbox": [round(value, 2) for value in box],
                    "area": round(box[2] * box[3], 2),
                    "iscrowd": 0,
                    # Readers ask for it, and may find it empty.
                    "segmentation": [],
                    # Not COCO's, but both tools keep it as an attribute.
                    "score": round(score, 4),
                }
            )

    def to_json(self) -> str:
        """The annotations file."""
        category = {**self.skeleton.to_coco_category(), "supercategory": "person"}
        return json.dumps(
            {
                "info": {"description": "Keypoints predicted by hrpose"},
                "licenses": [],
                "categories": [category],
                "images": self.images,
                "annotations": self.annotations,
            }
        )
