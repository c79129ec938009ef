"""COCO data sets merged, split, reduced to a subset, and their statistics.

Entries are copied as they are in the file, so that keys that are not COCO's own are preserved.
"""

from enum import StrEnum


class Keypoints(StrEnum):
    """The keypoints of a merged data set where its parts differ: they must not, or those of all."""

    same = "same"
    common = "common"
    all = "all"
