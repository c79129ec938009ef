"""`hrpose explain`: one page that shows each step of the method on an image."""

from dataclasses import dataclass
from pathlib import Path

from hrpose.explain.page import render, report
from hrpose.explain.trace import Trace, box_to_explain, trace
from hrpose.image import encode
from hrpose.io import fitted, name_to_text, write_atomically
from hrpose.poses import THRESHOLD
from hrpose.viz import heatmap_sheet

__all__ = ["Written", "box_to_explain", "trace", "write"]


@dataclass(frozen=True, slots=True)
class Written:
    """The files of one explanation: the page, and two of its images in full size."""

    page: Path
    crop: Path
    heatmaps: Path


def write(traced: Trace, name: str, folder: Path, threshold: float = THRESHOLD) -> Written:
    """Write the explanation of a traced person in the image called `name` into `folder`.

    `crop` is the network's input, pixel for pixel; `heatmaps` has one tile per keypoint. Raises
    UserError where the files cannot be written.
    """
    stem = fitted(Path(name).stem, 230)
    files = Written(
        *(folder / f"{stem}-{part}" for part in
          ("explained.html", "crop.png", "heatmaps.png"))
    )  # fmt: skip
    heatmaps = heatmap_sheet(
        traced.view, traced.merged, traced.metadata.skeleton, traced.in_crop, traced.strides
    )
    write_atomically(files.page, render(report(traced, name_to_text(name), threshold)))
    write_atomically(files.crop, encode(traced.view, ".png"))
    write_atomically(files.heatmaps, encode(heatmaps, ".png"))
    return files
