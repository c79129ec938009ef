"""Curves and bars as SVG and HTML: no script, colours from the page's style."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import ArrayLike

WIDTH, HEIGHT = 420, 280
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 44


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A curve through points with values in [0, 1]; `faint` ones stand back."""

    name: str
    x: ArrayLike
    y: ArrayLike
    faint: bool = False
    dots: bool = False


def line_chart(
    lines: Sequence[Line],
    x_title: str,
    y_title: str,
    x_range: tuple[float, float] = (0.0, 1.0),
    bars: Sequence[float] = (),
) -> str:
    """Curves over [0, 1], with their names below. `bars` are shares, drawn behind them side by side
    over the whole width, the highest as high as the chart.
    """
    inner_w, inner_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    low, high = x_range

    def at(x: float, y: float) -> tuple[float, float]:
        return LEFT + (x - low) / (high - low) * inner_w, TOP + (1 - y) * inner_h

    parts = []
    for step in np.linspace(0, 1, 6):
        _, y = at(low, step)
        x, _ = at(low + step * (high - low), 0)
        parts.append(
            f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{step:.1f}</text>'
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">'
            f"{low + step * (high - low):.3g}</text>"
        )
    if bars:
        wide, most = inner_w / len(bars), max(*bars, 1e-9)
        for index, share in enumerate(bars):
            tall = inner_h * share / most
            parts.append(
                f'<rect class="bar" x="{LEFT + index * wide + 1:.1f}" '
                f'y="{TOP + inner_h - tall:.1f}" width="{wide - 2:.1f}" height="{tall:.1f}"/>'
            )
    for index, line in enumerate(lines):
        pairs = zip(np.asarray(line.x).tolist(), np.asarray(line.y).tolist(), strict=True)
        points = [at(x, y) for x, y in pairs]
        style = "faint" if line.faint else f"c{index % 6}"
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="curve {style}" points="{path}"/>')
        if line.dots:
            parts += [
                f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in points
            ]
    middle = LEFT + inner_w / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>'
        f'<text transform="translate(13 {TOP + inner_h / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_title)}</text>"
    )
    key = "".join(
        f'<span class="key {"faint" if line.faint else f"c{index % 6}"}">{escape(line.name)}</span>'
        for index, line in enumerate(lines)
        if line.name
    )
    title = escape(f"{y_title} over {x_title}")
    return (
        f'<figure class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{title}">{"".join(parts)}</svg><figcaption>{key}</figcaption></figure>'
    )


def share_bar(shares: Mapping[str, float]) -> str:
    """One bar of 100 percent, a part for each share; classes are the shares' names."""
    parts = "".join(
        f'<i class="{escape(name)}" style="width:{100 * share:.2f}%" '
        f'title="{escape(name)} {100 * share:.1f} %"></i>'
        for name, share in shares.items()
        if share > 0
    )
    return f'<div class="shares">{parts}</div>'


def gain_bar(start: float, end: float) -> str:
    """An AP in [0, 1] and what is added to it."""
    grown = max(end - start, 0.0)
    return (
        f'<div class="shares"><i class="ap" style="width:{100 * start:.2f}%"></i>'
        f'<i class="gain" style="width:{100 * grown:.2f}%"></i></div>'
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of ready HTML under plain heads; the page may scroll it sideways on a phone."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{whole}</div>'
