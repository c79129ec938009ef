"""What is told: sections of text and images, which `page` lays out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrpose.explain import figures
from hrpose.explain.trace import Trace


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """An image (h, w, 3) uint8 RGB under its caption. Images may be compressed with loss."""

    image: NDArray[np.uint8]
    caption: str
    smooth: bool = True


@dataclass(frozen=True, slots=True)
class Section:
    """A step of the method: paragraphs, lines of working, figures in rows of `columns`."""

    title: str
    text: tuple[str, ...]
    figures: tuple[Figure, ...] = ()
    working: tuple[str, ...] = ()
    columns: int = 1


@dataclass(frozen=True, slots=True)
class Story:
    """The whole: what it is about, and its sections in order."""

    title: str
    lead: str
    sections: tuple[Section, ...]


def decoding(trace: Trace) -> Section:
    """The section for the keypoint that is looked at closely."""
    quarter = trace.metadata.codec.name == "gaussian"
    return _quarter_offset(trace) if quarter else _taylor_step(trace)


def _figures(trace: Trace) -> tuple[Figure, ...]:
    heatmap = trace.merged[trace.keypoint]
    return (
        Figure(
            figures.pixels(trace, heatmap, arrow=True),
            "The highest pixel has a white frame. The arrow leads from its middle to the place.",
            smooth=False,
        ),
    )


def _quarter_offset(trace: Trace) -> Section:
    heatmap = trace.merged[trace.keypoint]
    (x, y), (px, py) = trace.peaks[trace.keypoint], trace.in_heatmap[trace.keypoint]
    height, width = heatmap.shape
    lines = [f"highest pixel  ({x}, {y}), value {heatmap[y, x]:.3f}"]
    moved = (px, py) != (x, y)
    if 1 < x < width - 1 and 1 < y < height - 1:
        left, right, above, below = (
            float(value)
            for value in (
                heatmap[y, x - 1],
                heatmap[y, x + 1],
                heatmap[y - 1, x],
                heatmap[y + 1, x],
            )
        )
        lines += [
            f"x: left {left:.3f}, right {right:.3f}   {_step(px - x)}",
            f"y: above {above:.3f}, below {below:.3f}   {_step(py - y)}",
        ]
    lines.append(f"place  ({px:.2f}, {py:.2f})")
    end = (
        "Here the arrow shows the move."
        if moved
        else "This peak does not move: it is at the border, or its neighbors are equal."
    )
    return Section(
        f"7. One keypoint, pixel by pixel: the {trace.name}",
        (
            "The highest pixel of the heatmap (its argmax) is where the keypoint is, roughly. But "
            "keypoints do not sit on whole pixels. If the true place is a little to the right, the "
            "right neighbor is brighter than the left one.",
            "So HRNet's authors use a simple rule, the quarter offset: along x and along y, the "
            "place moves by a quarter of a pixel toward the brighter neighbor. " + end,
        ),
        _figures(trace),
        tuple(lines),
    )


def _step(move: float) -> str:
    return f"move {move:+.2f}" if move else "no move"


def _taylor_step(trace: Trace) -> Section:
    codec = trace.metadata.codec
    heatmap = trace.merged[trace.keypoint]
    (x, y), place = trace.peaks[trace.keypoint], trace.in_heatmap[trace.keypoint]
    move = place - np.array([x, y])
    return Section(
        f"7. One keypoint, pixel by pixel: the {trace.name}",
        (
            "The highest pixel of the heatmap (its argmax) is where the keypoint is, roughly. But "
            "keypoints do not sit on whole pixels; the top of the hill is between them.",
            f"These weights use the codec '{codec.name}'. The heatmap is smoothed a little, so "
            "that it has one clean hill. The hill is a Gaussian, and the logarithm of a Gaussian "
            "is a parabola, whose top can be computed: from the slope and the curvature at the "
            "highest pixel, one step of Newton's method leads to it (DARK, Zhang et al., 2020). "
            "The paper's own rule, a quarter of a pixel toward the brighter neighbor, is a "
            "rough form of the same idea.",
        ),
        _figures(trace),
        (
            f"highest pixel  ({x}, {y}), value {heatmap[y, x]:.3f}",
            f"Newton's step  ({move[0]:+.3f}, {move[1]:+.3f})",
            f"place  ({place[0]:.3f}, {place[1]:.3f})",
        ),
    )
