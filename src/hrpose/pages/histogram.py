"""How many of each size there are: bars side by side, as SVG."""

from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 44


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts` between neighbouring `edges`; one more edge than counts."""

    title: str
    unit: str
    counts: tuple[int, ...]
    edges: tuple[float, ...]


def histogram_chart(histogram: Histogram) -> str:
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


def _span(low: float, high: float) -> str:
    # Of whole numbers the edges lie between them.
    if (low * 2) % 2 == 1 and (high * 2) % 2 == 1:
        first, last = round(low + 0.5), round(high - 0.5)
        return str(first) if first == last else f"{first} to {last}"
    return f"{_short(low)} to {_short(high)}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == round(value) else f"{value:.2g}"
