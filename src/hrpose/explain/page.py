"""The explanation of one pose: eleven steps of text, figures and exercises, as one HTML page.

The words are in `text/`, one file per language; what is here are the values in them.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose import codec as codecs
from hrpose.errors import UserError
from hrpose.explain import figures as images
from hrpose.explain.trace import Trace
from hrpose.models.networks import NETWORKS
from hrpose.poses import COUNTED_SCORE, THRESHOLD
from hrpose.viz.html import captioned, document, table

LANGUAGES = ("en", "zh")  # by their codes in HTML
CHANNELS = 6


class Words:
    """The texts of a language."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = texts(language)

    def __call__(self, key: str, **values: Any) -> str:
        """The text `key`, such as `crop.title`, with its values; paragraphs with empty lines."""
        section, name = key.split(".")
        text = self._texts[section][name].strip().format(**values)
        return text if name == "lines" else re.sub(r"(?<!\n)\n(?!\n)", " ", text)

    def section(
        self,
        key: str,
        figures: Sequence["Figure"] = (),
        arithmetic: str = "",
        html: str = "",
        columns: int = 1,
        **values: Any,
    ) -> "Section":
        """The step `key` with its title, text, exercise and answer, all with these values."""
        names = ("title", "text", "exercise", "answer")
        title, text, exercise, answer = (self(f"{key}.{name}", **values) for name in names)
        return Section(title, text, exercise, answer, tuple(figures), arithmetic, html, columns)

    def keypoint(self, name: str) -> str:
        """A keypoint in words."""
        return self._texts.get("keypoints", {}).get(name, name.replace("_", " "))


@cache
def texts(language: str) -> dict[str, dict[str, str]]:
    """All texts of a language, by section and name. Raises UserError where there are none."""
    if language not in LANGUAGES:
        raise UserError(
            f"language {language}: expected {' or '.join(LANGUAGES)}", code="option-invalid"
        )
    file = resources.files(__package__) / "text" / f"{language}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """An image (h, w, 3) uint8 RGB and its caption; an `exact` one is kept without loss."""

    image: NDArray[np.uint8]
    caption: str
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A step of the method: paragraphs, an exercise and its answer, figures in `columns`."""

    title: str
    text: str
    exercise: str
    answer: str
    figures: tuple[Figure, ...] = ()
    arithmetic: str = ""
    html: str = ""
    columns: int = 1


@dataclass(frozen=True, slots=True)
class Report:
    """A title, an introduction, and the sections in order, in the language of `words`."""

    title: str
    lead: str
    sections: tuple[Section, ...]
    words: Words


def report(trace: Trace, name: str, threshold: float = THRESHOLD, language: str = "en") -> Report:
    """The explanation of one person's pose in the image called `name`.

    Keypoints with a score below `threshold`, in [0, 1], are not drawn. `language` is one of
    `LANGUAGES`.
    """
    words, metadata = Words(language), trace.metadata
    height, width = trace.image.shape[:2]
    count = len(metadata.skeleton)
    return Report(
        words("page.title", name=name),
        words("page.lead", width=width, height=height, keypoints=count, weights=metadata.title),
        (
            _box(trace, words), _crop(trace, words), _input(trace, words), _network(trace, words),
            *_without(trace, words), _heatmaps(trace, words), _flip_test(trace, words),
            _decoding(trace, words), _to_image(trace, words), _skeleton(trace, words, threshold),
            _scores(trace, words, threshold),
        ),
        words,
    )  # fmt: skip


def _box(trace: Trace, words: Words) -> Section:
    person = trace.person
    x, y, w, h = person.xywh
    several = "" if person.count > 1 or person.origin in ("given", "image") else "_one"
    origin = words(
        f"box.{person.origin}{several}", name=person.name, count=person.count, score=person.score
    )
    figure = Figure(images.box_on_image(trace), words("box.caption"))
    return words.section("box", (figure,), origin=origin, x=x, y=y, w=w, h=h)


def _crop(trace: Trace, words: Words) -> Section:
    padding = trace.metadata.padding
    (in_w, in_h), (w, h) = trace.metadata.input_wh, trace.box[2:]
    crop_w, crop_h = trace.crop.size
    shape_w, shape_h = crop_w / padding, crop_h / padding
    grown = "wider" if shape_w > w + 1e-6 else "higher" if shape_h > h + 1e-6 else "same"
    values: dict[str, Any] = {
        "w": w, "h": h, "in_w": in_w, "in_h": in_h, "padding": padding, "crop_w": crop_w,
        "crop_h": crop_h, "shape_w": shape_w, "shape_h": shape_h, "aspect": in_w / in_h,
        "box_aspect": w / h, "grown": words(f"crop.{grown}"),
    }  # fmt: skip
    figure = Figure(images.crop_on_image(trace), words("crop.caption"))
    return words.section("crop", (figure,), words("crop.lines", **values), **values)


def _input(trace: Trace, words: Words) -> Section:
    metadata = trace.metadata
    (width, height), scale = metadata.input_wh, metadata.input_wh[0] / trace.crop.size[0]
    stride = metadata.codec.stride
    mean, std = (
        ", ".join(f"{value:.3f}" for value in values) for values in (metadata.mean, metadata.std)
    )
    direct, mirrored = images.network_input(trace), images.network_input(trace, mirrored=True)
    return words.section(
        "input",
        (
            Figure(direct, words("input.caption", width=width, height=height)),
            Figure(mirrored, words("input.mirrored")),
        ),
        columns=2,
        scale=scale, mean=mean, std=std, stride=stride, per_pixel=1 / scale, area=1 / scale**2,
        per_heatmap=stride / scale,
    )  # fmt: skip


def _network(trace: Trace, words: Words) -> Section:
    heat_w, heat_h = trace.metadata.heatmap_wh
    name, features = trace.metadata.network, trace.features
    values: dict[str, Any] = {
        "heat_w": heat_w,
        "heat_h": heat_h,
        "keypoints": len(trace.metadata.skeleton),
    }
    if features is None:
        missing = words("network.missing", network=name)
        sizes: dict[str, Any] = {"numbers": "c x h x w", "multiplications": "9 x c x c x h x w"}
        return words.section("network", inside=missing, **values, **sizes)
    units = ", ".join(str(stage.modules) for stage in NETWORKS[name].stages)
    last = features.columns[4]
    shapes = [branch.shape for branch in last]
    figures = tuple(
        Figure(image, words("network.channel", part=4 * 2**branch, number=number), True)
        for branch, maps in enumerate(last)
        for number, image in images.channels(maps, CHANNELS)
    )
    titles = [
        words("network.stem"), *(words("network.stage", number=n) for n in range(1, 5)),
        words("network.sum"), words("network.heatmaps"),
    ]  # fmt: skip
    diagram = images.diagram(trace, features, titles, words("network.diagram"))
    return words.section(
        "network",
        figures,
        html=f"{diagram}\n<p>{escape(words('network.channels'))}</p>",
        columns=CHANNELS,
        inside=words("network.features", network=name, units=units),
        numbers=", ".join(f"{c} x {h} x {w} = {c * h * w:,}" for c, h, w in shapes),
        multiplications=", ".join(f"{9 * c * c * h * w:,}" for c, h, w in shapes),
        **values,
    )


def _without(trace: Trace, words: Words) -> tuple[Section, ...]:
    """What each branch contributes; no section where the features are unknown."""
    if trace.features is None:
        return ()
    name, chosen, without = _name(trace, words), trace.keypoint, trace.features.without
    (all_points, all_peaks), *others = (
        trace.metadata.codec.decode(heatmaps) for heatmaps in (trace.direct, *without)
    )
    parts = [4 * 2**branch for branch in range(len(others))]
    moves = [np.linalg.norm(points - all_points, axis=-1) for points, _ in others]
    peaks = [heights for _, heights in others]
    columns = ("left_out", "peak", "moved", "mean_peak", "mean_moved")
    rows = [[words("without.none"), f"{all_peaks[chosen]:.2f}", "", f"{all_peaks.mean():.2f}", ""]]
    rows += [
        [f"1/{part}", f"{peak[chosen]:.2f}", f"{moved[chosen]:.1f}", f"{peak.mean():.2f}",
         f"{moved.mean():.1f}"]
        for part, peak, moved in zip(parts, peaks, moves, strict=True)
    ]  # fmt: skip
    figures = [
        Figure(
            images.feature_map(trace.direct[chosen : chosen + 1]),
            words("without.all", name=name, peak=all_peaks[chosen]),
            True,
        )
    ]
    figures += [
        Figure(
            images.feature_map(heatmaps[chosen : chosen + 1]),
            words("without.part", part=part, peak=peak[chosen]),
            True,
        )
        for part, heatmaps, peak in zip(parts, without, peaks, strict=True)
    ]
    most = int(np.argmax([moved[chosen] for moved in moves]))
    lowest = int(np.argmin([peak[chosen] for peak in peaks]))
    return (
        words.section(
            "without",
            figures,
            html=table([words(f"without.{column}", name=name) for column in columns], rows),
            columns=5,
            name=name, full=all_peaks[chosen], peak=peaks[0][chosen], moved=moves[0][chosen],
            most_moved=parts[most], most_pixels=moves[most][chosen], lowest=parts[lowest],
            lowest_peak=peaks[lowest][chosen],
        ),
    )  # fmt: skip


def _name(trace: Trace, words: Words, keypoint: int | None = None) -> str:
    """The name of a keypoint, by default of the one shown in detail."""
    names = trace.metadata.skeleton.keypoints
    return words.keypoint(names[trace.keypoint if keypoint is None else keypoint])


def _heatmaps(trace: Trace, words: Words) -> Section:
    count, sigma = len(trace.metadata.skeleton), trace.metadata.codec.sigma
    x, y = trace.peak_pixels[trace.keypoint]
    row = trace.merged[trace.keypoint, y] / max(float(trace.merged[trace.keypoint].max()), 1e-6)
    left, right = (f"{row[i]:.2f}" if 0 <= i < len(row) else "-" for i in (x - 1, x + 1))
    one, two, three = (float(np.exp(-(d**2) / (2 * sigma**2))) for d in (1, 2, 3))
    figures = [
        Figure(
            images.keypoint_tile(trace, index),
            f"{_name(trace, words, index)}: {float(trace.peaks[index]):.2f}",
        )
        for index in range(count)
    ]
    return words.section(
        "heatmaps", figures, columns=6, count=count, sigma=sigma, one=one, two=two, three=three,
        name=_name(trace, words), left=left, right=right,
    )  # fmt: skip


def _flip_test(trace: Trace, words: Words) -> Section:
    metadata, keypoint = trace.metadata, trace.keypoint
    names: dict[str, Any] = {"name": _name(trace, words), "twin": _name(trace, words, trace.twin)}
    aligned = metadata.codec.flip_back(trace.mirrored, metadata.skeleton.flip_permutation)
    crossing = "crossing" if trace.twin != keypoint else "single"
    unit = "unit" if metadata.codec.unit_lengths else "shifted"
    direct, merged = trace.direct[keypoint], trace.merged[keypoint]
    mirrored = images.heat_tile(trace, trace.mirrored[trace.twin], mirrored=True)
    back = images.heat_tile(trace, trace.flipped_back[keypoint])
    return words.section(
        "flip",
        (
            Figure(images.heat_tile(trace, direct), words("flip.direct", **names)),
            Figure(mirrored, words("flip.mirrored", **names)),
            Figure(back, words("flip.back", **names)),
            Figure(images.pixels(trace, direct), words("flip.direct_pixels"), True),
            Figure(images.pixels(trace, aligned[keypoint]), words(f"flip.back_{unit}"), True),
            Figure(images.pixels(trace, merged), words("flip.mean"), True),
        ),
        columns=3,
        crossing=words(f"flip.{crossing}", **names),
        shift=words(f"flip.{unit}"),
        direct=direct.max(),
        flipped=aligned[keypoint].max(),
        merged=merged.max(),
        **names,
    )


def _decoding(trace: Trace, words: Words) -> Section:
    """The quarter offset or the Taylor step, whichever the codec uses."""
    codec, heatmap = trace.metadata.codec, trace.merged[trace.keypoint]
    (x, y), position = trace.peak_pixels[trace.keypoint], trace.in_heatmap[trace.keypoint]
    height, width = heatmap.shape
    move = [float(value) for value in position - (x, y)]
    lines = [words("decoding.highest", x=x, y=y, value=heatmap[y, x])]
    quarter = codec.name == "gaussian"
    if quarter:
        shown = words("decoding.arrow" if any(move) else "decoding.still")
        rule = words("decoding.quarter", shown=shown)
    else:
        rule = words("decoding.newton", codec=codec.name)
    if 0 < x < width - 1 and 0 < y < height - 1:
        pairs = [heatmap[y, [x - 1, x + 1]], heatmap[[y - 1, y + 1], x]]
        for axis, (before, after), step in zip("xy", pairs, move, strict=True):
            said = words("decoding.move" if step else "decoding.no_move", move=step)
            line = words(f"decoding.{axis}_line", before=before, after=after)
            lines.append(f"{line}   {said}" if quarter else line)
    if not quarter:
        lines.append(words("decoding.step", x=move[0], y=move[1]))
    digits = 2 if quarter else 3
    lines.append(words("decoding.position", x=position[0], y=position[1], digits=digits))
    (by_quarters,), _ = codecs.decode(heatmap[None])
    figure = Figure(images.pixels(trace, heatmap, arrow=True), words("decoding.caption"), True)
    return words.section(
        "decoding", (figure,), "\n".join(lines), name=_name(trace, words), rule=rule,
        last_x=width - 1, last_y=height - 1, x=by_quarters[0], y=by_quarters[1],
    )  # fmt: skip


def _to_image(trace: Trace, words: Words) -> Section:
    sx, sy = trace.strides
    in_image = sx / trace.metadata.input_wh[0] * trace.crop.size[0]
    hx, hy = trace.in_heatmap[trace.keypoint]
    cx, cy = trace.in_crop[trace.keypoint]
    px, py, _ = (float(value) for value in trace.poses.keypoints[0, trace.keypoint])
    (a, b, c), (d, e, f) = trace.crop.inverse_matrix
    return words.section(
        "back",
        (
            Figure(images.keypoint_in_heatmap(trace), words("back.in_heatmap"), True),
            Figure(images.keypoint_in_input(trace), words("back.in_input")),
            Figure(images.keypoint_on_image(trace), words("back.in_image")),
        ),
        words("back.input_line", hx=hx, sx=sx, hy=hy, sy=sy, cx=cx, cy=cy)
        + f"\nx = {a:.4f} * {cx:.2f} {_signed(b)} * {cy:.2f} {_signed(c, 2)} = {px:.2f}"
        f"\ny = {d:.4f} * {cx:.2f} {_signed(e)} * {cy:.2f} {_signed(f, 2)} = {py:.2f}",
        columns=3,
        stride=sx,
        in_image=in_image,
        quarter=in_image / 4,
        double=in_image / 2,
    )


def _signed(value: float, digits: int = 4) -> str:
    sign = "-" if round(value, digits) < 0 else "+"
    return f"{sign} {abs(value):.{digits}f}"


def _skeleton(trace: Trace, words: Words, threshold: float) -> Section:
    scores = trace.poses.keypoints[0, :, 2]
    present, low, middle, high = (int((scores >= t).sum()) for t in (threshold, 0.1, 0.5, 0.7))
    figure = Figure(images.pose_on_image(trace, threshold), words("skeleton.caption"))
    return words.section(
        "skeleton", (figure,), present=present, count=len(scores), threshold=threshold, low=low,
        middle=middle, high=high,
    )  # fmt: skip


def _scores(trace: Trace, words: Words, threshold: float) -> Section:
    scores, box = trace.poses.keypoints[0, :, 2], trace.person.score
    above = scores[scores > COUNTED_SCORE]
    meaning = words("scores.peak" if trace.metadata.calibration is None else "scores.calibrated")
    given = "box_detected" if trace.person.origin == "detector" else "box_given"
    line = words(
        "scores.line", mean=float(np.mean(above)) if len(above) else 0.0, counted=len(above),
        count=len(scores), box=box, score=trace.poses.scores[0],
    )  # fmt: skip
    names = [_name(trace, words, index) for index in range(len(scores))]
    caption = words("scores.caption", threshold=threshold)
    return words.section(
        "scores",
        arithmetic=line,
        html=images.score_bars(trace, names, threshold, caption),
        meaning=meaning,
        counted=COUNTED_SCORE,
        box=words(f"scores.{given}", box=box),
    )


def render(explanation: Report) -> str:
    """The page as HTML. All text of the report is escaped."""
    words = explanation.words
    return document(
        explanation.title,
        "hrpose.explain",
        header=f"<p>{escape(explanation.lead)}</p>",
        main="\n".join(_section(section, words) for section in explanation.sections),
        footer=escape(words("page.footer")),
        language=words.language,
    )


def _section(section: Section, words: Words) -> str:
    code = f"\n<pre>{escape(section.arithmetic)}</pre>" if section.arithmetic else ""
    figures = "\n".join(
        captioned(each.image, each.caption, ".png" if each.exact else ".jpg")
        for each in section.figures
    )
    small = " small" if section.columns > 3 and section.figures[0].exact else ""
    style = f'class="figures{small}" style="--columns: {section.columns}"'
    grid = f"\n<div {style}>\n{figures}\n</div>" if figures else ""
    return f"""<section>
<h2>{escape(section.title)}</h2>
{_paragraphs(section.text)}{code}
{section.html}{grid}
<aside>
<h3>{escape(words("page.exercise"))}</h3>
{_paragraphs(section.exercise)}
<details><summary>{escape(words("page.answer"))}</summary>
{_paragraphs(section.answer)}
</details>
</aside>
</section>"""


def _paragraphs(text: str) -> str:
    paragraphs = re.sub(r"`(.+?)`", r"<code>\1</code>", escape(text)).split("\n\n")
    return "\n".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
