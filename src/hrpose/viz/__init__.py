"""Images worth looking at: poses on images, heatmaps over crops, sheets of labeled tiles."""

from hrpose.viz.drawing import LEFT, MIDDLE, RIGHT, keypoint_colors, limb_colors
from hrpose.viz.heatmaps import grid, heatmap_sheet, overlay, side_by_side
from hrpose.viz.poses import draw

__all__ = [
    "LEFT", "MIDDLE", "RIGHT", "draw", "grid", "heatmap_sheet", "keypoint_colors", "limb_colors",
    "overlay", "side_by_side",
]  # fmt: skip
