"""The skeletons that come with hrpose, by name."""

from hrpose.skeleton.animals import AP_10K
from hrpose.skeleton.people import COCO_17, CROWDPOSE_14, LSP_14, MPII_16
from hrpose.skeleton.wholebody import HAND_21, WHOLEBODY_133

SHIPPED = {
    skeleton.name: skeleton
    for skeleton in (COCO_17, MPII_16, LSP_14, CROWDPOSE_14, WHOLEBODY_133, HAND_21, AP_10K)
}
