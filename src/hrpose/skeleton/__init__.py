"""What the keypoints are: `Skeleton`, and those of the known data sets as data.

A skeleton of one's own is read from a COCO file (`from_coco_category`) and completed by a
YAML file (`hrpose.data.skeleton_file`).
"""

from hrpose.skeleton.animals import AP_10K
from hrpose.skeleton.definition import DEFAULT_SIGMA, Colour, Skeleton, guess_flip_pairs
from hrpose.skeleton.people import COCO_17, CROWDPOSE_14, LSP_14, MPII_16
from hrpose.skeleton.shipped import SHIPPED, from_coco_category
from hrpose.skeleton.wholebody import HAND_21, WHOLEBODY_133

__all__ = [
    "AP_10K",
    "COCO_17",
    "CROWDPOSE_14",
    "DEFAULT_SIGMA",
    "HAND_21",
    "LSP_14",
    "MPII_16",
    "SHIPPED",
    "WHOLEBODY_133",
    "Colour",
    "Skeleton",
    "from_coco_category",
    "guess_flip_pairs",
]
