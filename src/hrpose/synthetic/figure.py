"""What is drawn, as data: how a kind of body stands, what it is made of, and which joints it has.

No part of a figure is drawn differently on the left than on the right: as with real bodies, only
where it faces (eyes and nose in front) tells its left from its right. So a mirrored picture with
swapped pairs is as true as the first.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hrpose.skeleton import Skeleton
from hrpose.synthetic.body import Joints
from hrpose.synthetic.drawing import BodyPart, Paint, Pixels


@dataclass(frozen=True, slots=True)
class Figure:
    """A kind of body.

    `pose` gives joints (3,) in the picture's frame, in body heights, by name: the skeleton's, and
    others to draw with. `parts` are what a body with these joints is made of, `wardrobe` its paints
    by name, for a picture that they stand out from. `room` is the most width and height that a
    figure takes, in body heights.
    """

    plural: str
    skeleton: Skeleton
    pose: Callable[[np.random.Generator], Joints]
    parts: Callable[[np.random.Generator], list[BodyPart]]
    wardrobe: Callable[[np.random.Generator, Pixels], dict[str, Paint]]
    room: tuple[float, float]

    def dress(self, rng: np.random.Generator, joints: Joints, number: int) -> list[BodyPart]:
        """The parts of one figure, the farthest first; its `number` is written on each."""

        def nearness(part: BodyPart) -> float:
            return part.lift + float(np.mean([joints[name][2] for name in part.joints]))

        return [part._replace(figure=number) for part in sorted(self.parts(rng), key=nearness)]
