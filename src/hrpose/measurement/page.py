"""The page of `hrpose measure`: charts over time with intervals, and the image beside them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

import numpy as np

from hrpose.measurement.propagation import Floats
from hrpose.measurement.recordings import Recording
from hrpose.measurement.series import FLAGS, MISSING, OK, SHORT, Repetitions, Series
from hrpose.viz.html import document, source, table, ticks

# A page shows so many frames of a clip, evenly spread, and so many images; the tables have all.
MOST_FRAMES, MOST_IMAGES = 2000, 40
# A chart in pixels: its box, and the margins at the left, the right, the top and the bottom.
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 150, 46, 8, 8, 22
_UNITS = {"deg": "degrees", "px": "pixels", "m": "meters", "px/s": "pixels per second",
          "m/s": "meters per second"}  # fmt: skip


def render(
    recordings: Sequence[Recording],
    measured: Sequence[Series],
    scales: Mapping[str, str],
    repetitions: Sequence[tuple[Series, Repetitions]] = (),
) -> str:
    """The page as HTML; all text of files is escaped.

    `measured` are the series of all persons in the recordings; `scales` says for a recording, by
    its name, where meters come from. `repetitions` are marked.
    """
    found = {id(series): each for series, each in repetitions}
    sections: list[str] = []
    data: list[dict[str, Any]] = []
    shown = [each for each in recordings if each.is_clip]
    images = [each for each in recordings if not each.is_clip]
    for recording in [*shown, *images[:MOST_IMAGES]]:
        own = [
            s
            for s in measured
            if s.track.file == recording.name and s.track.is_clip == recording.is_clip
        ]
        if not own:
            sections.append(_empty(recording))
            continue
        frames = _frames(recording)
        number = len(data)
        data.append(_data(recording, own, frames))
        facts = _facts(recording, own, scales.get(recording.name))
        body = _clip if recording.is_clip else _image
        sections.append(
            f'<section class="recording" data-number="{number}">'
            f"<h2>{escape(recording.name)}</h2><p>{facts}</p>"
            f"{body(recording, own, frames, found)}</section>"
        )
    if len(images) > MOST_IMAGES:
        sections.append(
            f"<section><p>{len(images) - MOST_IMAGES} more images are in the tables.</p></section>"
        )
    script = (resources.files("hrpose.measurement") / "page.js").read_text(encoding="utf-8")
    packed = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    main = "\n".join(sections) + f'<script type="application/json" id="data">{packed}</script>'
    header = (
        "<p>Values with their 95 % intervals. They are those of the image's plane: a movement "
        "toward the camera or away from it shortens segments and changes angles.</p>"
    )
    footer = (
        "Made by hrpose. Bands are 95 % intervals from the covariances of the keypoints; dotted "
        "lines are segments too short in pixels to trust, or interpolated keypoints."
    )
    return document("Measures", "hrpose.measurement", header, main, footer, script)


def _empty(recording: Recording) -> str:
    return f"<section><h2>{escape(recording.name)}</h2><p>No person.</p></section>"


def _frames(recording: Recording) -> list[int]:
    """The frames that are shown, of those that there are."""
    frames = [frame for frame, _, _ in recording.shots]
    return frames[:: -(-len(frames) // MOST_FRAMES)]


def _facts(recording: Recording, own: Sequence[Series], scale: str | None) -> str:
    parts = [f"{len(own)} person{'s' if len(own) > 1 else ''}"]
    if recording.is_clip:
        rate = recording.rate
        parts.insert(0, f"{len(recording.shots)} frames")
        if rate is not None:
            parts.append(f"{rate:.4g} frames per second")
    if scale is not None:
        parts.append(f"meters: {escape(scale)}")
    if not recording.has_covariance:
        parts.append("no intervals: the results have no covariances")
    if any((series.facing == 0).any() for series in own):
        parts.append(
            "in some images it is unclear which way a person faces: there, angles forward and "
            "backward are counted as if to the right"
        )
    return "; ".join(parts) + "."


def _data(recording: Recording, own: Sequence[Series], frames: Sequence[int]) -> dict[str, Any]:
    """What the script needs: images, keypoints and values of the shown frames."""
    at = {frame: i for i, frame in enumerate(frames)}
    times = {frame: time for frame, time, _ in recording.shots}
    skeleton = own[0].track.skeleton
    left, right = ({pair[side] for pair in skeleton.flip_pairs} for side in (0, 1))
    limbs = [
        [a, b, 0 if {a, b} <= left else 1 if {a, b} <= right else 2] for a, b in skeleton.limbs
    ]
    persons = []
    for series in own:
        track, points = series.track, {}
        for t, frame in enumerate(track.frames.tolist()):
            if frame in at:
                points[at[frame]] = [_rounded(v) for v in track.xy[t].ravel()]
        rows = [t for t, frame in enumerate(track.frames.tolist()) if frame in at]
        persons.append(
            {
                "id": track.person,
                "points": points,
                "rows": [at[frame] for frame in track.frames[rows].tolist()],
                "values": [
                    [[_rounded(v) for v in column[rows, m]] for column in _columns(series)]
                    for m in range(len(series.measures))
                ],
                "flags": [series.flags[rows, m].tolist() for m in range(len(series.measures))],
                "units": [unit.replace("deg", "°") for unit in series.units],
            }
        )
    width, height = recording.image_wh or _extent(own)
    return {
        "wh": [width, height],
        "times": [round(times[frame], 4) for frame in frames],
        "numbers": list(frames),
        "images": {at[f]: source(image) for f, image in recording.images.items() if f in at},
        "limbs": limbs,
        "persons": persons,
        "flags": list(FLAGS),
    }


def _columns(series: Series) -> tuple[Floats, Floats, Floats]:
    return series.values, series.low, series.high


def _rounded(value: float) -> float | None:
    return None if not np.isfinite(value) else round(float(value), 3 if abs(value) < 10 else 1)


def _extent(own: Sequence[Series]) -> tuple[int, int]:
    """A size that all keypoints fit into, where that of the images is unknown."""
    points = np.concatenate([series.track.keypoints[..., :2].reshape(-1, 2) for series in own])
    width, height = np.ceil(points.max(axis=0) * 1.05 + 1).astype(int).tolist()
    return max(width, 1), max(height, 1)


def _view(recording: Recording, own: Sequence[Series]) -> str:
    """The image, its skeletons, and what chooses the frame and the person."""
    width, height = recording.image_wh or _extent(own)
    persons = "".join(
        f'<option value="{i}">person {series.track.person}</option>' for i, series in enumerate(own)
    )
    hidden = " hidden" if len(own) < 2 else ""
    image = '<img alt="" hidden>' if recording.images else ""
    frames = (
        '<input type="range" min="0" value="0" aria-label="frame"><output></output>'
        if recording.is_clip
        else ""
    )
    return (
        f'<div class="view"><div class="image" style="aspect-ratio:{width}/{height}">'
        f'{image}<svg class="overlay" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="skeletons"></svg></div>{frames}'
        f"<label{hidden}>Measured: <select>{persons}</select></label></div>"
    )


def _clip(
    recording: Recording,
    own: Sequence[Series],
    frames: Sequence[int],
    found: Mapping[int, Repetitions],
) -> str:
    times = np.array([time for _, time, _ in recording.shots])
    span = (float(times[0]), float(max(times[-1], times[0] + 1e-3)))
    blocks = []
    for number, series in enumerate(own):
        charts = "".join(_charts(series, span, set(frames), found.get(id(series))))
        repeated = _repetitions(found[id(series)]) if id(series) in found else ""
        hidden = " hidden" if number else ""
        blocks.append(
            f'<div class="person" data-person="{number}"{hidden}>{charts}{repeated}'
            f"<h3>Over the whole clip</h3>{_summary(series)}</div>"
        )
    return f'<div class="both">{_view(recording, own)}<div>{"".join(blocks)}</div></div>'


def _image(
    recording: Recording,
    own: Sequence[Series],
    frames: Sequence[int],
    found: Mapping[int, Repetitions],
) -> str:
    blocks = []
    for number, series in enumerate(own):
        rows = [
            [escape(name), _number(series.values[0, m]), _interval(series, m), series.units[m],
             FLAGS[series.flags[0, m]]]
            for m, name in enumerate(series.names)
        ]  # fmt: skip
        hidden = " hidden" if number else ""
        heads = ["measure", "value", "95 % interval", "unit", ""]
        blocks.append(
            f'<div class="person" data-person="{number}"{hidden}>{table(heads, rows)}</div>'
        )
    return f'<div class="both">{_view(recording, own)}<div>{"".join(blocks)}</div></div>'


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _interval(series: Series, m: int) -> str:
    low, high = series.low[0, m], series.high[0, m]
    return "" if np.isnan(low) else f"{_number(low)} to {_number(high)}"


def _summary(series: Series) -> str:
    """A table: for each measure its least, median and largest value, and half its interval."""
    rows = []
    for m, name in enumerate(series.names):
        values, flags = series.values[:, m], series.flags[:, m]
        known = values[~np.isnan(values)]
        half = (series.high[:, m] - series.low[:, m]) / 2
        half = half[~np.isnan(half)]
        numbers = [_number(v) for v in np.quantile(known, [0, 0.5, 1])] if len(known) else [""] * 3
        interval = f"± {_number(float(np.median(half)))}" if len(half) else ""
        shares = [f"{100 * float(np.mean(flags == flag)):.0f} %" for flag in (MISSING, SHORT)]
        rows.append([escape(name), *numbers, interval, series.units[m], *shares])
    heads = ("measure", "least", "median", "largest", "95 %", "unit", "missing", "too short")
    return table(heads, rows)


def _repetitions(found: Repetitions) -> str:
    rows = []
    for number, each in enumerate(found.repetitions, start=1):
        times = (each.start, each.peak, each.end, each.rise, each.fall)
        values = (each.start_value, each.peak_value)
        rows.append([str(number), *map(_number, (*times, *values))])
    cadence = "" if found.cadence is None else f", {found.cadence:.1f} per minute"
    heads = ["", "start, s", "peak, s", "end, s", "rise, s", "fall, s", "lowest", "peak"]
    return (
        f"<h3>{len(found)} repetitions of {escape(found.measure)}{cadence}</h3>{table(heads, rows)}"
    )


def _charts(
    series: Series, span: tuple[float, float], frames: set[int], found: Repetitions | None
) -> Iterator[str]:
    """A chart for each measure; those of left and right are in one."""
    rows = np.array([t for t, frame in enumerate(series.track.frames.tolist()) if frame in frames])
    groups: dict[tuple[str, str], list[int]] = {}
    for m, name in enumerate(series.names):
        title = name.removesuffix("_left").removesuffix("_right")
        groups.setdefault((title, series.units[m]), []).append(m)
    for (title, unit), members in groups.items():
        yield _chart(series, title, unit, members, rows, span, found)


def _chart(
    series: Series,
    title: str,
    unit: str,
    members: Sequence[int],
    rows: np.ndarray[Any, Any],
    span: tuple[float, float],
    found: Repetitions | None,
) -> str:
    columns = np.array([column[rows][:, list(members)] for column in _columns(series)])
    known = columns[0][~np.isnan(columns[0])]
    if not len(known):
        return ""
    low, high = _range(columns)
    inner_w, inner_h = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    times = series.track.times[rows]

    def at(time: Any) -> Any:
        return _LEFT + (time - span[0]) / (span[1] - span[0]) * inner_w

    def y(values: Floats) -> Floats:
        return np.asarray(_TOP + (1 - (np.clip(values, low, high) - low) / (high - low)) * inner_h)

    parts = []
    for value in ticks(low, high, 4):
        up = float(y(np.array([value]))[0])
        parts.append(
            f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{up:.1f}" y2="{up:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{up + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    for value in ticks(*span, 8):
        parts.append(
            f'<text x="{at(value):.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{value:g} s</text>'
        )
    x, keys = at(times), []
    for order, m in enumerate(members):
        name = series.names[m]
        side = 0 if name.endswith("_left") else 1 if name.endswith("_right") else 2
        if found is not None and found.measure == name:
            parts += [
                f'<rect class="repetition" x="{at(each.start):.1f}" y="{_TOP}" '
                f'height="{inner_h}" width="{at(each.end) - at(each.start):.1f}"/>'
                for each in found.repetitions
            ]
        values, lowest, highest = columns[:, :, order]
        for part in _unbroken(series.track.frames[rows], values):
            if not np.isnan(lowest[part]).any():
                edge = [*zip(x[part], y(highest[part]), strict=True)]
                edge += [*zip(x[part], y(lowest[part]), strict=True)][::-1]
                parts.append(f'<polygon class="band s{side}" points="{_points(edge)}"/>')
        flags = series.flags[rows, m]
        for doubtful in (False, True):
            # Between a value that is sure and one that is not, the line is dotted.
            near = np.convolve(np.pad(flags != OK, 1), np.ones(3), "valid") > 0
            own = np.where(near if doubtful else flags == OK, values, np.nan)
            for part in _unbroken(series.track.frames[rows], own):
                line = [*zip(x[part], y(values[part]), strict=True)]
                kind = "curve doubtful" if doubtful else "curve"
                parts.append(f'<polyline class="{kind} s{side}" points="{_points(line)}"/>')
        keys.append(f'<span class="key s{side}" data-measure="{m}">{escape(name)} <b></b></span>')
    parts.append(f'<line class="cursor" x1="-9" x2="-9" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
    return (
        f'<figure class="chart" data-left="{_LEFT}" data-right="{_WIDTH - _RIGHT}">'
        f"<figcaption><span><strong>{escape(title)}</strong>, {_UNITS[unit]}</span> "
        f"{''.join(keys)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)} over time">'
        f"{''.join(parts)}</svg></figure>"
    )


def _range(columns: Floats) -> tuple[float, float]:
    """What the chart shows: nearly all values and intervals, and not the widest outliers."""
    known = columns[~np.isnan(columns)]
    low, high = (float(v) for v in np.quantile(known, [0.01, 0.99]))
    values = columns[0][~np.isnan(columns[0])]
    low, high = min(low, float(values.min())), max(high, float(values.max()))
    margin = max(0.06 * (high - low), 1e-3 * max(abs(low), abs(high)), 1e-6)
    return low - margin, high + margin


def _unbroken(frames: np.ndarray[Any, Any], values: Floats) -> Iterator[slice]:
    """The parts without gaps of at least two values."""
    step = int(np.median(np.diff(frames))) if len(frames) > 1 else 1
    known = ~np.isnan(values)
    starts = [t for t in range(len(values)) if known[t]
              and (t == 0 or not known[t - 1] or frames[t] - frames[t - 1] > step)]  # fmt: skip
    for start in starts:
        end = start + 1
        while end < len(values) and known[end] and frames[end] - frames[end - 1] <= step:
            end += 1
        if end - start > 1:
            yield slice(start, end)


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in pairs)
