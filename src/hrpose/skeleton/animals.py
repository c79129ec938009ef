"""Skeletons of animals."""

from hrpose.skeleton.definition import Skeleton

# AP-10K (Yu et al., NeurIPS 2021). Its authors measured no OKS constants. These are the numbers, in
# this order, that published figures were computed with: COCO's, given out without regard to which
# joint is which, so that the sides differ.
AP_10K = Skeleton(
    name="ap-10k",
    keypoints=(
        "left_eye",
        "right_eye",
        "nose",
        "neck",
        "root_of_tail",
        "left_shoulder",
        "left_elbow",
        "left_front_paw",
        "right_shoulder",
        "right_elbow",
        "right_front_paw",
        "left_hip",
        "left_knee",
        "left_back_paw",
        "right_hip",
        "right_knee",
        "right_back_paw",
    ),
    flip_pairs=((0, 1), (5, 8), (6, 9), (7, 10), (11, 14), (12, 15), (13, 16)),
    limbs=(
        (0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (3, 5), (5, 6), (6, 7), (3, 8), (8, 9), (9, 10),
        (4, 11), (11, 12), (12, 13), (4, 14), (14, 15), (15, 16),
    ),
    sigmas=(
        0.025, 0.025, 0.026, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107,
        0.087, 0.087, 0.089, 0.089,
    ),
    upper_body=(0, 1, 2, 3, 5, 6, 7, 8, 9, 10),
    category="animal",
)  # fmt: skip
