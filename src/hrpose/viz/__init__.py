"""Pictures worth looking at: poses on photos, heatmaps over crops, sheets of labelled tiles."""

from hrpose.viz.drawing import LEFT, MIDDLE, RIGHT, keypoint_colours, limb_colours
from hrpose.viz.heatmaps import grid, heatmap_sheet, overlay, side_by_side
from hrpose.viz.poses import draw

__all__ = [
    "LEFT", "MIDDLE", "RIGHT", "draw", "grid", "heatmap_sheet", "keypoint_colours", "limb_colours",
    "overlay", "side_by_side",
]  # fmt: skip
