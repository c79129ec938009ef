"""`hrpose explain`: one page that shows each step of the method on an image."""

from pathlib import Path

from hrpose.explain.page import LANGUAGES, render, report
from hrpose.explain.trace import PersonBox, Trace, box_to_explain, trace
from hrpose.image import encode
from hrpose.io import fitted, name_to_text, write_atomically
from hrpose.poses import THRESHOLD
from hrpose.viz import heatmap_sheet

__all__ = ["LANGUAGES", "PersonBox", "box_to_explain", "trace", "write"]


def write(
    traced: Trace,
    name: str,
    out: Path,
    threshold: float = THRESHOLD,
    language: str = "en",
    *,
    images: bool = False,
) -> list[Path]:
    """Write the page about a traced person in the image called `name` into the folder `out`.

    Where `out` ends in .html it is the page itself. `language` is one of `LANGUAGES`. With `images`
    also the network's input, pixel for pixel, and the heatmaps, with one tile per keypoint. Returns
    the files, first the page. Raises UserError for another language, and where they cannot be
    written.
    """
    page = render(report(traced, name_to_text(name), threshold, language))
    files: dict[str, str | bytes] = {"explained.html": page}
    if images:
        heatmaps = heatmap_sheet(
            traced.view, traced.merged, traced.metadata.skeleton, traced.in_crop, traced.strides
        )
        files["crop.png"] = encode(traced.view, ".png")
        files["heatmaps.png"] = encode(heatmaps, ".png")
    stem = out.parent / out.stem if out.suffix == ".html" else out / fitted(Path(name).stem, 230)
    paths = {ending: stem.with_name(f"{stem.name}-{ending}") for ending in files}
    if out.suffix == ".html":
        paths["explained.html"] = out
    for ending, content in files.items():
        write_atomically(paths[ending], content)
    return list(paths.values())
