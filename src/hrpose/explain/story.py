"""What is told: sections of text and pictures, which `page` lays out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """A picture (h, w, 3) uint8 RGB under its caption. Photos may be compressed with loss."""

    image: NDArray[np.uint8]
    caption: str
    photo: bool = True


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
