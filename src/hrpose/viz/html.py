"""The frame of a page: its head with the policy, and what all pages look like."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.image import encode


def document(title: str, room: str, header: str, main: str, footer: str, script: str = "") -> str:
    """The whole page, of ready HTML but for the `title`, which is escaped and its heading.

    To the style of all pages comes `page.css` of the package `room`. The policy in the head lets
    nothing in but images inside the page and `script`, by its hash.
    """
    style = "".join(
        (resources.files(package) / "page.css").read_text(encoding="utf-8")
        for package in ("hrpose.pages", room)
    )
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    if script:
        allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{allowed}'"
        script = f"<script>{script}</script>\n"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{header}
</header>
<main>
{main}
</main>
<footer><p>{footer}</p></footer>
{script}</body>
</html>
"""


def source(image: NDArray[np.uint8], suffix: str = ".jpg") -> str:
    """An (h, w, 3) uint8 RGB image as the `src` of an HTML image: all bytes of a `.png` or
    `.jpg` file. Raises UserError where it is too large for that.
    """
    kind = {".jpg": "jpeg", ".png": "png"}[suffix]
    content = encode(image, suffix, {cv2.IMWRITE_JPEG_QUALITY: 86} if suffix == ".jpg" else {})
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


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


_WIDTH, _HEIGHT = 420, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 14, 44


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts` between neighboring `edges`; one more edge than counts."""

    title: str
    unit: str
    counts: tuple[int, ...]
    edges: tuple[float, ...]


def histogram_chart(histogram: Histogram) -> str:
    """One chart: bars side by side, the edges of some written below, counts at the left."""
    inner_w, inner_h = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    most = max(*histogram.counts, 1)
    wide = inner_w / len(histogram.counts)
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = _TOP + (1 - share) * inner_h
        parts.append(
            f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(share * most)}</text>'
        )
    for index, count in enumerate(histogram.counts):
        tall = inner_h * count / most
        low, high = histogram.edges[index : index + 2]
        parts.append(
            f'<rect class="bar" x="{_LEFT + index * wide + 0.5:.1f}" '
            f'y="{_TOP + inner_h - tall:.1f}" '
            f'width="{max(wide - 1, 0.5):.1f}" height="{tall:.1f}"><title>{_span(low, high)}: '
            f"{count}</title></rect>"
        )
    for index in np.unique(np.linspace(0, len(histogram.counts) - 1, 6).round().astype(int)):
        middle = (histogram.edges[index] + histogram.edges[index + 1]) / 2
        parts.append(
            f'<text x="{_LEFT + (index + 0.5) * wide:.1f}" y="{_HEIGHT - _BOTTOM + 16}" '
            f'text-anchor="middle">{_short(middle)}</text>'
        )
    parts.append(
        f'<text x="{_LEFT + inner_w / 2}" y="{_HEIGHT - 8}" text-anchor="middle">'
        f"{escape(histogram.unit)}</text>"
    )
    return (
        f"<figure><figcaption>{escape(histogram.title)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(histogram.title)}">'
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
