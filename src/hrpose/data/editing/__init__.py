"""COCO data sets merged, split, reduced to a subset, and their statistics.

Entries are copied as they are in the file, so that keys that are not COCO's own are preserved.
"""

from enum import StrEnum


class Keypoints(StrEnum):
    """Which keypoints a merged data set has where those of its parts differ; same: an error."""

    same = "same"
    common = "common"
    all = "all"
