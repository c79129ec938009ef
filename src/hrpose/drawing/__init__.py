"""Pictures worth looking at: poses on photos, heatmaps over crops, sheets of labelled tiles."""

from hrpose.drawing.heatmaps import heatmap_sheet, overlay
from hrpose.drawing.palette import LEFT, MIDDLE, RIGHT, keypoint_colours, limb_colours
from hrpose.drawing.poses import draw
from hrpose.drawing.sheet import grid, side_by_side

__all__ = [
    "LEFT", "MIDDLE", "RIGHT", "draw", "grid", "heatmap_sheet", "keypoint_colours", "limb_colours",
    "overlay", "side_by_side",
]  # fmt: skip
