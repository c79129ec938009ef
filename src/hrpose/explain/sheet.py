"""The story as one picture, to be printed or put on a slide."""

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.drawing import text
from hrpose.drawing.palette import LEFT
from hrpose.explain.story import Figure, Section, Story
from hrpose.skeleton import Colour

WIDTH, GAP, MARGIN = 900, 20, 48
GROUND: Colour = (255, 255, 255)
INK: Colour = (28, 32, 40)
QUIET: Colour = (91, 100, 114)
CODE: Colour = (243, 245, 248)
TITLE, HEADING, BODY, CAPTION = 44, 30, 21, 17
Image = NDArray[np.uint8]


def render(story: Story) -> Image:
    """Title and lead over two columns of sections, as evenly filled as their order allows."""
    blocks = [_section(section) for section in story.sections]
    heights = np.cumsum([len(block) for block in blocks])
    split = 1 + int(np.argmin(np.abs(heights[:-1] - heights[-1] / 2))) if len(blocks) > 1 else 1
    columns = [_stack(part, 2 * GAP) for part in (blocks[:split], blocks[split:]) if part]
    width = 2 * WIDTH + 3 * MARGIN
    top = _stack(
        [
            _paragraph(story.title, TITLE, INK, width - 2 * MARGIN),
            _paragraph(story.lead, BODY + 4, QUIET, width - 2 * MARGIN),
        ],
        GAP,
    )
    height = len(top) + max(len(column) for column in columns) + 3 * MARGIN
    canvas = np.full((height, width, 3), GROUND, np.uint8)
    canvas[MARGIN : MARGIN + len(top), MARGIN : MARGIN + top.shape[1]] = top
    for index, column in enumerate(columns):
        x, y = MARGIN + index * (WIDTH + MARGIN), len(top) + 2 * MARGIN
        canvas[y : y + len(column), x : x + WIDTH] = column
    return canvas


def _section(section: Section) -> Image:
    parts = [_paragraph(section.title, HEADING, LEFT, WIDTH)]
    parts += [_paragraph(paragraph, BODY, INK, WIDTH) for paragraph in section.text]
    if section.working:
        lines = [_paragraph(line, BODY, INK, WIDTH - 2 * GAP, CODE) for line in section.working]
        block = _stack(lines, 4, CODE)
        padded = np.full((len(block) + 2 * GAP, WIDTH, 3), CODE, np.uint8)
        padded[GAP:-GAP, GAP : GAP + block.shape[1]] = block
        parts.append(padded)
    for start in range(0, len(section.figures), section.columns):
        parts.append(_row(section.figures[start : start + section.columns], section.columns))
    return _stack(parts, GAP)


def _row(figures: tuple[Figure, ...], columns: int) -> Image:
    """Figures next to each other, each as large as its column allows, captions below."""
    width = (WIDTH - GAP * (columns - 1)) // columns
    canvases = []
    for figure in figures:
        height, wide = figure.image.shape[:2]
        factor = min(width / wide, 620 / height, 1.0)
        size = (max(1, round(wide * factor)), max(1, round(height * factor)))
        image = np.array(cv2.resize(figure.image, size, interpolation=cv2.INTER_AREA), np.uint8)
        canvases.append(_stack([image, _paragraph(figure.caption, CAPTION, QUIET, width)], 6))
    row = np.full((max(len(each) for each in canvases), WIDTH, 3), GROUND, np.uint8)
    for index, each in enumerate(canvases):
        x = index * (width + GAP)
        row[: len(each), x : x + each.shape[1]] = each
    return row


def _paragraph(words: str, size: int, colour: Colour, width: int, ground: Colour = GROUND) -> Image:
    lines = text.wrapped(words, size, width)
    step = round(size * 1.45)
    canvas = np.full((step * len(lines), width, 3), ground, np.uint8)
    for index, line in enumerate(lines):
        text.write(canvas, (0, index * step), line, size, colour, rim=None)
    return canvas


def _stack(parts: list[Image], gap: int, ground: Colour = GROUND) -> Image:
    """Pictures below each other."""
    width = max(part.shape[1] for part in parts)
    height = sum(len(part) for part in parts) + gap * (len(parts) - 1)
    canvas = np.full((height, width, 3), ground, np.uint8)
    y = 0
    for part in parts:
        canvas[y : y + len(part), : part.shape[1]] = part
        y += len(part) + gap
    return canvas
