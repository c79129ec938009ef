"""Drawing: poses on images, heatmaps over crops, grids of labeled tiles, and HTML pages."""

from hrpose.viz.drawing import (
    LEFT,
    MIDDLE,
    RIGHT,
    draw,
    heatmap_sheet,
    keypoint_colors,
    limb_colors,
    overlay,
)
from hrpose.viz.shapes import grid, side_by_side

__all__ = [
    "LEFT", "MIDDLE", "RIGHT", "draw", "grid", "heatmap_sheet", "keypoint_colors", "limb_colors",
    "overlay", "side_by_side",
]  # fmt: skip
