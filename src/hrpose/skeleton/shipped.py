"""The skeletons that come with hrpose, by name and by the categories of COCO files."""

from collections.abc import Mapping
from typing import Any

from hrpose.skeleton.animals import AP_10K
from hrpose.skeleton.definition import Skeleton, guess_flip_pairs
from hrpose.skeleton.people import COCO_17, CROWDPOSE_14, LSP_14, MPII_16
from hrpose.skeleton.wholebody import HAND_21, WHOLEBODY_133

SHIPPED = {
    skeleton.name: skeleton
    for skeleton in (COCO_17, MPII_16, LSP_14, CROWDPOSE_14, WHOLEBODY_133, HAND_21, AP_10K)
}


def from_coco_category(category: Mapping[str, Any]) -> Skeleton:
    """Read a COCO category with `keypoints` and, where present, `skeleton` (1-based pairs).

    A category with the names of a shipped skeleton is that skeleton. Flip pairs of others are
    found by their left/right names (see `guess_flip_pairs`).
    """
    names = tuple(str(name) for name in category["keypoints"])
    for known in SHIPPED.values():
        if names == known.keypoints:
            return known
    limbs = tuple((int(a) - 1, int(b) - 1) for a, b in category.get("skeleton") or ())
    name = str(category.get("name", "unnamed"))
    return Skeleton(name, names, flip_pairs=guess_flip_pairs(names), limbs=limbs)
