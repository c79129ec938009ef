"""Poses on an image: limbs, keypoints and, where asked for, boxes and words."""

import numpy as np
from numpy.typing import NDArray

from hrpose.poses import THRESHOLD, Poses
from hrpose.viz import drawing
from hrpose.viz.drawing import INK, PAPER, keypoint_colors, limb_colors, person_size


def draw(
    image: NDArray[np.uint8],
    poses: Poses,
    threshold: float = THRESHOLD,
    boxes: bool = False,
    *,
    ids: bool = False,
    scores: bool = False,
    names: bool = False,
) -> NDArray[np.uint8]:
    """A copy of an (h, w, 3) uint8 RGB image with the skeletons of `poses` on it.

    Left limbs are blue, right ones orange (the person's left and right), the others green.
    Keypoints with a score below `threshold`, in [0, 1], are absent: they are left out, and so are
    limbs that end in one. `boxes` draws the people's boxes, `ids` their track ids (or their place
    in `poses` where nobody was followed), `scores` how sure each pose is, `names` what the
    keypoints are called. Lines grow with the person; small people are drawn over large ones.
    """
    canvas = np.array(image, order="C")
    order = sorted(range(len(poses)), key=lambda person: -person_size(poses, person, threshold))
    for person in order:
        width = line_width(person_size(poses, person, threshold))
        if boxes:
            drawing.box(canvas, poses.boxes[person], width * 0.6 + 1.6, INK)
            drawing.box(canvas, poses.boxes[person], max(width * 0.6, 1), PAPER)
        _draw_skeleton(canvas, poses, person, width, threshold)
    if ids or scores or names:
        drawing.write_words(canvas, poses, order, threshold, ids=ids, scores=scores, names=names)
    return canvas


def line_width(size: float) -> float:
    """Pixels for a person whose keypoints reach over `size` pixels: a seventieth, from 1.8 to 14."""
    return float(np.clip(size / 70, 1.8, 14))


def _draw_skeleton(
    canvas: NDArray[np.uint8], poses: Poses, person: int, width: float, threshold: float
) -> None:
    """First the whole rim, then the colors, so that no rim cuts through a neighboring limb."""
    # Plain numbers: many small shapes are drawn faster without arrays.
    keypoints = poses.keypoints[person].tolist()
    present = (poses.keypoints[person, :, 2] >= threshold).tolist()
    limbs = [
        (start, end, color)
        for (start, end), color in zip(
            poses.skeleton.limbs, limb_colors(poses.skeleton), strict=True
        )
        if present[start] and present[end]
    ]
    dots = [
        (index, color)
        for index, color in enumerate(keypoint_colors(poses.skeleton))
        if present[index]
    ]
    rim = 0.5 + width * 0.14
    radius = width * 0.85 + 0.6
    for start, end, _ in limbs:
        drawing.line(canvas, keypoints[start], keypoints[end], width + 2 * rim, INK)
    for index, _ in dots:
        drawing.disc(canvas, keypoints[index], radius + rim, INK)
    for start, end, color in limbs:
        drawing.line(canvas, keypoints[start], keypoints[end], width, color)
    for index, color in dots:
        drawing.disc(canvas, keypoints[index], radius + rim * 0.5, INK)
        drawing.disc(canvas, keypoints[index], radius, color)
