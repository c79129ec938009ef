"""Drawing: poses on images, hidden faces, heatmaps over crops, grids of tiles, HTML pages."""

from hrpose.viz.drawing import (
    LEFT,
    MIDDLE,
    RIGHT,
    details,
    draw,
    heatmap_sheet,
    keypoint_colors,
    limb_colors,
)
from hrpose.viz.grids import grid, overlay, side_by_side
from hrpose.viz.hiding import HIDDEN, Hider, hide

__all__ = [
    "HIDDEN", "LEFT", "MIDDLE", "RIGHT", "Hider", "details", "draw", "grid", "heatmap_sheet",
    "hide", "keypoint_colors", "limb_colors", "overlay", "side_by_side",
]  # fmt: skip
