"""What a set has, in numbers."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hrpose.data.coco import read_annotations

# COCO's bounds between small, medium and large people, in pixels of area.
_SMALL, _LARGE = 32**2, 96**2
_QUANTILES = (0, 10, 50, 90, 100)


def stats(path: Path) -> dict[str, Any]:
    """Numbers of a file, ready for JSON.

    Quantiles are the least, 10%, 50%, 90% and the largest. Raises UserError as reading does.
    """
    file = read_annotations(path)
    people = [a for a in file.annotations if not a.get("iscrowd")]
    k = len(file.skeleton)
    visibility = np.asarray(
        [(a.get("keypoints") or [0] * (3 * k))[2::3] for a in people], np.float64
    ).reshape(-1, k)
    labelled = visibility > 0
    boxes = np.asarray([a["bbox"] for a in people], np.float64).reshape(-1, 4)
    areas = np.asarray([a.get("area", a["bbox"][2] * a["bbox"][3]) for a in people], np.float64)
    per_picture = Counter(a["image_id"] for a in people)
    source_of = {image["id"]: str(image.get("source", "")) for image in file.images}
    sources: dict[str, dict[str, int]] = {}
    for source, count in Counter(source_of.values()).items():
        sources[source] = {"pictures": count, "people": 0}
    for image_id, count in per_picture.items():
        sources[source_of[image_id]]["people"] += count
    return {
        "file": str(path),
        "skeleton": file.skeleton.name,
        "pictures": len(file.images),
        "pictures_without_people": len(file.images) - len(per_picture),
        "people": len(people),
        "people_without_joints": int((~labelled.any(axis=1)).sum()),
        "crowds": len(file.annotations) - len(people),
        "boxes_made_from_joints": sum(a.get("bbox_guessed") is True for a in people),
        "people_per_picture": _quantiles([per_picture[i["id"]] for i in file.images]),
        "joints_per_person": _quantiles(labelled.sum(axis=1)),
        "box_longer_side": _quantiles(boxes[:, 2:].max(axis=1, initial=0)),
        "picture_width": _quantiles([i["width"] for i in file.images]),
        "picture_height": _quantiles([i["height"] for i in file.images]),
        "sizes": {
            "small": int((areas < _SMALL).sum()),
            "medium": int(((areas >= _SMALL) & (areas <= _LARGE)).sum()),
            "large": int((areas > _LARGE).sum()),
        },
        "joints": {
            name: {"visible": int((column == 2).sum()), "hidden": int((column == 1).sum())}
            for name, column in zip(file.skeleton.keypoints, visibility.T, strict=True)
        },
        "sources": sources if set(sources) != {""} else {},
    }


def _quantiles(values: ArrayLike) -> list[float]:
    numbers = np.asarray(values, np.float64)
    if not numbers.size:
        return []
    return [round(float(v), 1) for v in np.percentile(numbers, _QUANTILES)]
