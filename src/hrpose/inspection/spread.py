"""How a set's people are spread: joints labelled, sizes, shapes, visibility."""

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from hrpose.inspection.labels import Labels
from hrpose.pages.charts import share_bar, table
from hrpose.pages.histogram import Histogram


def histograms(labels: Labels) -> list[Histogram]:
    """Joints labelled, the root of the box's area, width by height, people in a picture."""
    width, height = np.maximum(labels.boxes[:, 2:], 1e-9).T
    in_picture = np.bincount(labels.image_index, minlength=len(labels.file_names))
    found = [
        _logarithmic(
            "Size of the person", "root of the box's area, pixels", np.sqrt(width * height)
        ),
        _logarithmic("Shape of the box", "width by height", width / height),
        _whole("People in a picture", "people", in_picture),
    ]
    if labels.skeleton is not None:
        joints = _whole("Joints with a label", "of each person", labels.labelled.sum(axis=1))
        found.insert(0, joints)
    return found


def visibility(labels: Labels) -> list[tuple[str, int, int, int]]:
    """Each joint's name and how often it is seen, hidden, and not labelled."""
    seen = labels.keypoints[..., 2]
    return [
        (name, int((own == 2).sum()), int(((own > 0) & (own != 2)).sum()), int((own == 0).sum()))
        for name, own in zip(labels.names, seen.T, strict=True)
    ]


def _whole(title: str, unit: str, values: NDArray[np.int64]) -> Histogram:
    """One bar for each number, or for as many as fit forty bars."""
    most = int(values.max(initial=1))
    step = -(-(most + 1) // 40)
    edges = np.arange(0, most + step + 1, step) - 0.5
    return _counted(title, unit, values, np.asarray(edges, np.float64))


def _logarithmic(title: str, unit: str, values: NDArray[np.float64]) -> Histogram:
    low, high = np.quantile(values, [0.001, 0.999]) if len(values) else (1.0, 2.0)
    edges = np.geomspace(low, max(high, low * 1.01), 25)
    return _counted(
        title, unit, np.clip(values, edges[0], edges[-1]), np.asarray(edges, np.float64)
    )


def _counted(
    title: str, unit: str, values: NDArray[np.generic], edges: NDArray[np.float64]
) -> Histogram:
    counts, _ = np.histogram(values, edges)
    return Histogram(title, unit, tuple(counts.tolist()), tuple(edges.tolist()))


def shares(rows: Sequence[tuple[str, int, int, int]]) -> str:
    """A table: for each joint a bar of seen, hidden and not labelled."""
    cells = []
    for name, *counts in rows:
        total = max(sum(counts), 1)
        parts = zip(("seen", "hidden", "none"), counts, strict=True)
        bar = share_bar({kind: count / total for kind, count in parts})
        cells.append([escape(name.replace("_", " ")), bar, *map(str, counts)])
    return table(["", "", "seen", "hidden", "no label"], cells)
