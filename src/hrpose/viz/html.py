"""HTML pages in one file: the document with its style and policy, charts and tables."""

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


def document(
    title: str,
    package: str,
    header: str,
    main: str,
    footer: str,
    script: str = "",
    *,
    language: str = "en",
) -> str:
    """A whole page. All arguments are HTML, except for `title`, which is escaped.

    The style is that of all pages and `page.css` of the `package`, `language` that of the text, by
    its code in HTML. The policy in the head allows nothing but images inside the page, and `script`
    by its hash.
    """
    style = "".join(
        (resources.files(name) / "page.css").read_text(encoding="utf-8")
        for name in ("hrpose.viz", package)
    )
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    if script:
        allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{allowed}'"
        script = f"<script>{script}</script>\n"
    return f"""<!doctype html>
<html lang="{language}">
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
    """An image (h, w, 3) uint8 RGB as the `src` of an HTML image, a data URL of a `.png` or `.jpg`.

    Raises UserError where the image is too large for the format.
    """
    kind = {".jpg": "jpeg", ".png": "png"}[suffix]
    content = encode(image, suffix, {cv2.IMWRITE_JPEG_QUALITY: 86} if suffix == ".jpg" else {})
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def captioned(image: NDArray[np.uint8], caption: str, suffix: str = ".jpg") -> str:
    """An image, as in `source`, with its caption as HTML; the caption is escaped."""
    height, width = image.shape[:2]
    return (
        f'<figure><img src="{source(image, suffix)}" width="{width}" height="{height}" '
        f'alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


# The box of a chart within its margins, in pixels.
_WIDTH = 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 14, 44


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A curve through points with y in [0, 1]; `faint` ones are in the background."""

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
    """Curves over `x_range`, with a key below.

    `bars` are shares, drawn in the background side by side over the whole width, the largest as
    high as the chart.
    """
    height = 280
    inner_w, inner_h = _WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    low, high = x_range

    def at(x: float, y: float) -> tuple[float, float]:
        return _LEFT + (x - low) / (high - low) * inner_w, _TOP + (1 - y) * inner_h

    parts = []
    for step in np.linspace(0, 1, 6):
        x, y = at(low + step * (high - low), step)
        parts += [_rule(y, f"{step:.1f}"), _tick(x, height, f"{low + step * (high - low):.3g}")]
    if bars:
        width, most = inner_w / len(bars), max(*bars, 1e-9)
        parts += [
            _bar(_LEFT + index * width + 1, width - 2, height, inner_h * share / most)
            for index, share in enumerate(bars)
        ]
    for index, line in enumerate(lines):
        pairs = zip(np.asarray(line.x).tolist(), np.asarray(line.y).tolist(), strict=True)
        points = [at(x, y) for x, y in pairs]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="curve {_style(index, line)}" points="{path}"/>')
        if line.dots:
            parts += [
                f'<circle class="{_style(index, line)}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
                for x, y in points
            ]
    parts.append(
        f'<text transform="translate(13 {_TOP + inner_h / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_title)}</text>"
    )
    key = "".join(
        f'<span class="key {_style(index, line)}">{escape(line.name)}</span>'
        for index, line in enumerate(lines)
        if line.name
    )
    chart = _svg(f"{y_title} over {x_title}", height, parts, x_title)
    return f'<figure class="chart">{chart}<figcaption>{key}</figcaption></figure>'


def _style(index: int, line: Line) -> str:
    return "faint" if line.faint else f"c{index % 6}"


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts` between neighboring `edges`; one more edge than counts."""

    title: str
    unit: str
    counts: tuple[int, ...]
    edges: tuple[float, ...]


def histogram_chart(histogram: Histogram) -> str:
    """Bars side by side, with the centers of some below and counts at the left."""
    height = 240
    inner_w, inner_h = _WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    most = max(*histogram.counts, 1)
    width = inner_w / len(histogram.counts)
    parts = [_rule(_TOP + (1 - share) * inner_h, _short(share * most)) for share in (0.0, 0.5, 1.0)]
    for index, count in enumerate(histogram.counts):
        label = f"{_span(*histogram.edges[index : index + 2])}: {count}"
        x = _LEFT + index * width + 0.5
        parts.append(_bar(x, max(width - 1, 0.5), height, inner_h * count / most, label))
    for index in np.unique(np.linspace(0, len(histogram.counts) - 1, 6).round().astype(int)):
        center = (histogram.edges[index] + histogram.edges[index + 1]) / 2
        parts.append(_tick(_LEFT + (index + 0.5) * width, height, _short(center)))
    chart = _svg(histogram.title, height, parts, histogram.unit)
    return f"<figure><figcaption>{escape(histogram.title)}</figcaption>{chart}</figure>"


@dataclass(frozen=True, slots=True)
class Band:
    """A horizontal line at `value`, and the band from `low` to `high` around it."""

    name: str
    value: float
    low: float
    high: float


# More points make a page large, and show no more.
_MOST_POINTS = 2000


def scatter_chart(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    bands: Sequence[Band],
    x_title: str,
    y_title: str,
) -> str:
    """Points (n,), at most 2,000 of them evenly chosen, and horizontal bands with a key below."""
    height = 300
    inner_w, inner_h = _WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    chosen = np.unique(np.linspace(0, len(x) - 1, _MOST_POINTS).round().astype(int))
    edges = [value for band in bands for value in (band.value, band.low, band.high)]
    ranges = []
    for values in (x, np.concatenate([y, [v for v in edges if np.isfinite(v)]])):
        low, high = float(values.min()), float(values.max())
        margin = max(0.06 * (high - low), 1e-6)
        ranges.append((low - margin, high + margin))
    (left, right), (bottom, top) = ranges

    def across(value: float) -> float:
        return _LEFT + (value - left) / (right - left) * inner_w

    def down(value: float) -> float:
        return _TOP + (top - value) / (top - bottom) * inner_h

    parts = []
    parts += [_rule(down(value), f"{value:g}") for value in ticks(bottom, top, 5)]
    parts += [_tick(across(value), height, f"{value:g}") for value in ticks(left, right, 6)]
    for index, band in enumerate(bands):
        if np.isfinite([band.low, band.high]).all():
            parts.append(
                f'<rect class="band c{index % 6}" x="{_LEFT}" y="{down(band.high):.1f}" '
                f'width="{inner_w}" height="{max(down(band.low) - down(band.high), 0.5):.1f}"/>'
            )
        ends = f"{_LEFT},{down(band.value):.1f} {_WIDTH - _RIGHT},{down(band.value):.1f}"
        parts.append(f'<polyline class="curve c{index % 6}" points="{ends}"/>')
    parts += [
        f'<circle class="point" cx="{across(x[i]):.1f}" cy="{down(y[i]):.1f}" r="2"/>'
        for i in chosen
    ]
    parts.append(
        f'<text transform="translate(13 {_TOP + inner_h / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_title)}</text>"
    )
    key = "".join(
        f'<span class="key c{index % 6}">{escape(band.name)} {band.value:.3g}</span>'
        for index, band in enumerate(bands)
    )
    chart = _svg(f"{y_title} over {x_title}", height, parts, x_title)
    return f'<figure class="chart">{chart}<figcaption>{key}</figcaption></figure>'


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers from low to high, about `count` of them."""
    rough = (high - low) / count
    power = 10.0 ** np.floor(np.log10(rough))
    step = float(power * min(factor for factor in (1, 2, 5, 10) if factor * power >= rough))
    first, last = int(np.ceil(low / step)), int(np.floor(high / step + 1e-9))
    return [round(number * step, 9) for number in range(first, last + 1)]


def _svg(title: str, height: int, parts: Sequence[str], x_title: str) -> str:
    middle = _LEFT + (_WIDTH - _LEFT - _RIGHT) / 2
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f'{"".join(parts)}<text x="{middle}" y="{height - 7}" text-anchor="middle">'
        f"{escape(x_title)}</text></svg>"
    )


def _rule(y: float, label: str) -> str:
    """A horizontal line with its value at the left."""
    return (
        f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    )


def _tick(x: float, height: int, label: str) -> str:
    """A value below the chart."""
    return f'<text x="{x:.1f}" y="{height - _BOTTOM + 16}" text-anchor="middle">{label}</text>'


def _bar(x: float, width: float, height: int, tall: float, label: str = "") -> str:
    """A bar that stands on the bottom of the chart, `tall` pixels high."""
    title = f"<title>{label}</title>" if label else ""
    return (
        f'<rect class="bar" x="{x:.1f}" y="{height - _BOTTOM - tall:.1f}" width="{width:.1f}" '
        f'height="{tall:.1f}">{title}</rect>'
    )


def _span(low: float, high: float) -> str:
    # The edges of a histogram of integers are between them.
    if (low * 2) % 2 == 1 and (high * 2) % 2 == 1:
        first, last = round(low + 0.5), round(high - 0.5)
        return str(first) if first == last else f"{first} to {last}"
    return f"{_short(low)} to {_short(high)}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == round(value) else f"{value:.2g}"


def share_bar(shares: Mapping[str, float]) -> str:
    """One bar of 100 percent with a part for each share; their names are also their classes."""
    parts = "".join(
        f'<i class="{escape(name)}" style="width:{100 * share:.2f}%" '
        f'title="{escape(name)} {100 * share:.1f} %"></i>'
        for name, share in shares.items()
        if share > 0
    )
    return f'<div class="shares">{parts}</div>'


def gain_bar(start: float, end: float) -> str:
    """An AP in [0, 1] and the gain up to another."""
    gain = max(end - start, 0.0)
    return (
        f'<div class="shares"><i class="ap" style="width:{100 * start:.2f}%"></i>'
        f'<i class="gain" style="width:{100 * gain:.2f}%"></i></div>'
    )


def interval_bar(low: float, value: float, high: float, reach: float) -> str:
    """An interval and the value in it on a line from `-reach` to `reach`, whose middle is 0."""

    def at(value: float) -> float:
        return 100 * (min(max(value / reach, -1.0), 1.0) + 1) / 2

    return (
        '<div class="interval"><i class="zero"></i>'
        f'<i class="range" style="left:{at(low):.2f}%;width:{at(high) - at(low):.2f}%"></i>'
        f'<i class="value" style="left:{at(value):.2f}%"></i></div>'
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of HTML cells under plain text heads; narrow screens scroll it sideways."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{whole}</div>'
