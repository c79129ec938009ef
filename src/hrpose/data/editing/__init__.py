"""Whole data sets of COCO keypoints: merged, split, thinned out and counted.

They work on the entries as they are in the file, so that what is not COCO's own stays in them.
"""

from enum import StrEnum


class Keypoints(StrEnum):
    """Which keypoints are kept where the sets differ."""

    same = "same"
    common = "common"
    all = "all"
