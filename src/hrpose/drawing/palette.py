"""The colours: the skeleton's own, or one for each side, the same in every picture."""

import colorsys

from hrpose.skeleton import Colour, Skeleton

# After Okabe and Ito: told apart by most colour-blind people, and bright on photos. RGB.
LEFT, RIGHT, MIDDLE = (0, 158, 255), (255, 140, 0), (90, 220, 120)
# The thin rim that lets a line be seen on any ground.
INK: Colour = (18, 20, 26)
PAPER: Colour = (255, 255, 255)


def keypoint_colours(skeleton: Skeleton) -> list[Colour]:
    """One RGB colour per keypoint: the skeleton's, or its side's, the pairs' first one being left.

    A skeleton without either gets as many hues as it has keypoints.
    """
    if skeleton.colours:
        return list(skeleton.colours)
    if not skeleton.flip_pairs:
        hues = [index / len(skeleton) for index in range(len(skeleton))]
        rgb = [colorsys.hsv_to_rgb(hue, 0.8, 1.0) for hue in hues]
        return [(round(r * 255), round(g * 255), round(b * 255)) for r, g, b in rgb]
    colours: list[Colour] = [MIDDLE] * len(skeleton)
    for left, right in skeleton.flip_pairs:
        colours[left], colours[right] = LEFT, RIGHT
    return colours


def limb_colours(skeleton: Skeleton) -> list[Colour]:
    """One RGB colour per limb: its end's, or the side's and the middle's where it joins both."""
    colours = keypoint_colours(skeleton)
    if skeleton.colours or not skeleton.flip_pairs:
        return [colours[end] for _, end in skeleton.limbs]
    found: list[Colour] = []
    for start, end in skeleton.limbs:
        sides = {colours[start], colours[end]} - {MIDDLE}
        found.append(sides.pop() if len(sides) == 1 else MIDDLE)
    return found
