"""What PCKh compares with: the heads and joints of the people in a converted MPII file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import CocoAnnotations, read_annotations
from hrpose.errors import UserError
from hrpose.geometry import xywh_to_xyxy

DIGITS = 9  # rounds away what adding and taking 1 leave in the last place


@dataclass(frozen=True, slots=True, eq=False)
class PckhTruth:
    """What PCKh compares n people with, as `hrpose.metrics.pckh.pckh` takes it (from 1 on).

    `points` (n, 16, 2), `missing` (n, 16), `head_boxes` (n, 2, 2) two corners; `known` (n,) tells
    who has a head box, the others cannot be measured.
    """

    points: NDArray[np.float64]
    missing: NDArray[np.bool_]
    head_boxes: NDArray[np.float64]
    known: NDArray[np.bool_]


def pckh_truth(
    annotations: Path | CocoAnnotations, ids: Sequence[int] | NDArray[np.int64]
) -> PckhTruth | None:
    """The truth for the people with these annotation ids, in their order.

    None where nobody in the file has a `head_box`, so that nothing can be measured.
    """
    annotations = read_annotations(annotations)
    people = {person.get("id"): person for person in annotations.entries("annotations")}
    if not any("head_box" in person for person in people.values()):
        return None
    points = np.zeros((len(ids), 16, 3))
    boxes = np.full((len(ids), 4), np.nan)
    for row, person in enumerate(people[int(i)] for i in ids):
        where = f"{annotations.path}: annotation {person['id']}"
        key = "pckh_keypoints" if "pckh_keypoints" in person else "keypoints"
        points[row] = numbers_of(where, person, key, (48,)).reshape(16, 3)
        if "head_box" in person:
            boxes[row] = numbers_of(where, person, "head_box", (4,))
    corners = xywh_to_xyxy(boxes).reshape(-1, 2, 2) + 1
    return PckhTruth(
        points=(points[..., :2] + 1).round(DIGITS),
        missing=points[..., 2] <= 0,
        head_boxes=corners.round(DIGITS),
        known=np.isfinite(boxes).all(axis=1),
    )


def numbers_of(
    where: str, entry: Mapping[str, Any], key: str, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """An entry's finite numbers of this shape. Raises UserError that begins with `where`."""
    value = entry.get(key)
    form = f"numbers of shape {shape}" if shape else "a number"
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{where}: '{key}': expected {form}, found {error}") from error
    if numbers.shape != shape or not (np.abs(numbers) < 1e6).all():
        found = f"shape {numbers.shape}" if numbers.shape != shape else "NaN, infinity or far away"
        raise UserError(f"{where}: '{key}': expected {form}, found {found}")
    return numbers
