"""Four-legged animals with nine joints of their own, to try other skeletons than a person's on."""

import cv2
import numpy as np

from hrpose.skeleton import Skeleton
from hrpose.synthetic.body import SIDES, Floats, Joints, direction, rotation
from hrpose.synthetic.drawing import BodyPart, Paint, Pixels, cloth, colour_unlike
from hrpose.synthetic.figure import Figure

_LEGS = ("front", "back")

ANIMAL_9 = Skeleton(
    name="animal-9",
    keypoints=(
        "nose",
        "left_ear",
        "right_ear",
        "withers",
        "root_of_tail",
        "left_front_paw",
        "right_front_paw",
        "left_back_paw",
        "right_back_paw",
    ),
    flip_pairs=((1, 2), (5, 6), (7, 8)),
    limbs=((0, 1), (0, 2), (0, 3), (3, 4), (3, 5), (3, 6), (4, 7), (4, 8)),
    upper_body=(0, 1, 2, 3, 5, 6),
    category="animal",
)


def _pose(rng: np.random.Generator) -> Joints:
    joints = {
        "withers": np.array([0, -0.06, 0.26]),
        "root_of_tail": np.array([0, -0.06, -0.3]),
    }
    wag, droop = np.deg2rad(rng.uniform((-35, 10), (35, 70)))
    joints["tail_tip"] = joints["root_of_tail"] + 0.24 * direction(wag, -droop)
    for leg, z in zip(_LEGS, (0.24, -0.26), strict=True):
        for side, s in SIDES.items():
            swing, bend, spread = np.deg2rad(rng.uniform((-28, 0, 0), (28, 35, 8)))
            bend = -bend if leg == "front" else bend
            joints[f"{side}_{leg}_hip"] = hip = np.array([s * 0.08, 0.04, z])
            knee = hip + 0.2 * direction(s * spread, swing)
            joints[f"{side}_{leg}_knee"] = knee
            joints[f"{side}_{leg}_paw"] = knee + 0.19 * direction(s * spread, swing + bend)
    raised, glance, nod = np.deg2rad(rng.uniform((-25, -25, -20), (70, 25, 25)))
    neck = np.array([0, -np.sin(raised), np.cos(raised)])
    poll = joints["withers"] + 0.24 * neck
    # The head turns on the neck; its points are given from its top, where the neck ends.
    head = {"poll": (0.0, 0.0, 0.0), "muzzle": (0.0, 0.06, 0.13), "nose": (0.0, 0.065, 0.175)}
    for side, s in SIDES.items():
        head[f"{side}_eye"] = (s * 0.045, 0.0, 0.055)
        head[f"{side}_ear_root"] = (s * 0.045, -0.03, -0.01)
        head[f"{side}_ear"] = (s * 0.075, -0.12, -0.01)
    turn = rotation(1, glance) @ rotation(0, nod)
    joints |= {name: poll + turn @ np.array(point) for name, point in head.items()}
    # Mostly from the side, from either; from before and behind too.
    yaw = rng.choice([-1, 1]) * np.pi / 2 + np.deg2rad(rng.uniform(-65, 65))
    pitch, roll = np.deg2rad(rng.uniform((-5, -8), (20, 8)))
    whole: Floats = rotation(2, roll) @ rotation(0, pitch) @ rotation(1, yaw)
    return {name: whole @ point for name, point in joints.items()}


def _parts(rng: np.random.Generator) -> list[BodyPart]:
    build = rng.uniform(0.85, 1.25)
    hips = tuple(f"{side}_{leg}_hip" for side in SIDES for leg in _LEGS)
    trunk = (*hips, "withers", "root_of_tail")
    parts = [
        BodyPart("coat", trunk, (*(0.075 * build,) * 4, 0.06 * build, 0.06 * build), 0),
        BodyPart("coat", ("withers", "poll"), (0.075 * build, 0.055), 0.01),
        BodyPart("coat", ("root_of_tail", "tail_tip"), (0.03, 0.014), -0.01),
        BodyPart("coat", ("poll", "muzzle"), (0.065, 0.042), 0.03),
        BodyPart("dark", ("nose",), (0.026,), 0.04),
    ]
    for side in SIDES:
        parts += [
            BodyPart("dark coat", (f"{side}_ear_root", f"{side}_ear"), (0.032, 0.014), 0.03),
            BodyPart("white", (f"{side}_eye",), (0.019,), 0.035),
            BodyPart("dark", (f"{side}_eye",), (0.011,), 0.036),
        ]
        for leg in _LEGS:
            hip, knee, paw = (f"{side}_{leg}_{name}" for name in ("hip", "knee", "paw"))
            parts += [
                BodyPart("coat", (hip, knee), (0.06 * build, 0.036), 0.01),
                BodyPart("coat", (knee, paw), (0.034, 0.026), 0.0),
                BodyPart("dark", (paw,), (0.032,), 0.01),
            ]
    return parts


def _wardrobe(rng: np.random.Generator, image: Pixels) -> dict[str, Paint]:
    coat = colour_unlike(rng, [np.array(cv2.mean(image)[:3])])
    return {
        "coat": cloth(rng, image.shape, coat),
        "dark coat": Paint((coat * 0.6).clip(0, 255)),
        "white": Paint(np.full(3, 240.0)),
        "dark": Paint(np.array([25.0, 18.0, 15.0])),
    }


ANIMAL = Figure("animals", ANIMAL_9, _pose, _parts, _wardrobe, room=(1.2, 1.0))
