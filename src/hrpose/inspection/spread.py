"""How a set's people are spread: joints labelled, sizes, shapes, visibility; as SVG bars."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from hrpose.inspection.labels import Labels
from hrpose.pages.charts import share_bar, table

WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 44


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts` of people between neighbouring `edges`; one more edge than counts."""

    title: str
    unit: str
    counts: tuple[int, ...]
    edges: tuple[float, ...]


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


def bars(histogram: Histogram) -> str:
    """One chart: bars side by side, the edges of some written below, counts at the left."""
    inner_w, inner_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    most = max(*histogram.counts, 1)
    wide = inner_w / len(histogram.counts)
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = TOP + (1 - share) * inner_h
        parts.append(
            f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(share * most)}</text>'
        )
    for index, count in enumerate(histogram.counts):
        tall = inner_h * count / most
        low, high = histogram.edges[index : index + 2]
        parts.append(
            f'<rect class="bar" x="{LEFT + index * wide + 0.5:.1f}" y="{TOP + inner_h - tall:.1f}" '
            f'width="{max(wide - 1, 0.5):.1f}" height="{tall:.1f}"><title>{_span(low, high)}: '
            f"{count}</title></rect>"
        )
    for index in np.unique(np.linspace(0, len(histogram.counts) - 1, 6).round().astype(int)):
        middle = (histogram.edges[index] + histogram.edges[index + 1]) / 2
        parts.append(
            f'<text x="{LEFT + (index + 0.5) * wide:.1f}" y="{HEIGHT - BOTTOM + 16}" '
            f'text-anchor="middle">{_short(middle)}</text>'
        )
    parts.append(
        f'<text x="{LEFT + inner_w / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(histogram.unit)}</text>"
    )
    return (
        f"<figure><figcaption>{escape(histogram.title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(histogram.title)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def shares(rows: Sequence[tuple[str, int, int, int]]) -> str:
    """A table: for each joint a bar of seen, hidden and not labelled."""
    cells = []
    for name, *counts in rows:
        total = max(sum(counts), 1)
        parts = zip(("seen", "hidden", "none"), counts, strict=True)
        bar = share_bar({kind: count / total for kind, count in parts})
        cells.append([escape(name.replace("_", " ")), bar, *map(str, counts)])
    return table(["", "", "seen", "hidden", "no label"], cells)


def _span(low: float, high: float) -> str:
    # Of whole numbers the edges lie between them.
    if (low * 2) % 2 == 1 and (high * 2) % 2 == 1:
        first, last = round(low + 0.5), round(high - 0.5)
        return str(first) if first == last else f"{first} to {last}"
    return f"{_short(low)} to {_short(high)}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == round(value) else f"{value:.2g}"
