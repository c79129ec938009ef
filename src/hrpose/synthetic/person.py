"""People with COCO's 17 joints."""

import cv2
import numpy as np

from hrpose.skeleton import COCO_17
from hrpose.synthetic.body import SIDES, Joints, direction, rotation
from hrpose.synthetic.drawing import BodyPart, Paint, Pixels, cloth, colour_unlike
from hrpose.synthetic.figure import Figure

_FRONT_SHARE = 0.85
_TRUNK = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
_SIDED = (
    *("hip", "knee", "ankle", "toes"),
    *("shoulder", "elbow", "wrist", "fingers", "eye", "ear"),
)


def _pose(rng: np.random.Generator) -> Joints:
    """Joints (3,) in the picture's frame, by name: COCO's, and the ends of hands, feet, head."""
    joints = {"neck": np.array([0, 0.17, 0])}
    for side, s in SIDES.items():
        arm, bend, stride, knee = np.deg2rad(rng.uniform((8, 0, -15, 0), (110, 100, 35, 45)))
        swing, spread = np.deg2rad(rng.uniform((-15, 2), (35, 20)))
        shoulder, hip = np.array([s * 0.12, 0.2, 0]), np.array([s * 0.075, 0.51, 0])
        upper = direction(s * arm, swing)
        # An elbow bends forwards, inwards or up: some mixture of these.
        towards = np.array([-s, -1, 1]) * rng.uniform((0, 0, 0.1), (0.4, 1, 0.5))
        towards -= upper * (towards @ upper)
        lower = np.cos(bend) * upper + np.sin(bend) * towards / np.linalg.norm(towards)
        shin = direction(s * spread, stride - knee)
        ahead = np.array([s * 0.3, 0.35, 1])
        joints[f"{side}_shoulder"] = shoulder
        joints[f"{side}_elbow"] = elbow = shoulder + 0.16 * upper
        joints[f"{side}_wrist"] = wrist = elbow + 0.15 * lower
        joints[f"{side}_fingers"] = wrist + 0.045 * lower
        joints[f"{side}_hip"] = hip
        joints[f"{side}_knee"] = kneecap = hip + 0.225 * direction(s * spread, stride)
        joints[f"{side}_ankle"] = ankle = kneecap + 0.215 * shin
        joints[f"{side}_toes"] = ankle + 0.06 * ahead / np.linalg.norm(ahead)
    yaw, pitch, roll, glance, nod = np.deg2rad(
        rng.uniform((-40, -8, -12, -15, -10), (40, 10, 12, 15, 12))
    )
    # The head turns on the neck; its points are given from its centre.
    head = {"crown": (0.0, -0.03, 0.0), "chin": (0.0, 0.04, 0.01)}
    head |= {"nose": (0.0, 0.018, 0.078), "mouth": (0.0, 0.048, 0.062)}
    head |= {"hair": (0.0, -0.022, -0.03)}
    for side, s in SIDES.items():
        head[f"{side}_eye"] = (s * 0.03, -0.012, 0.062)
        head[f"{side}_ear"] = (s * 0.07, 0.008, 0.005)
    turn = rotation(0, nod) @ rotation(1, glance)
    joints |= {name: turn @ np.array(point) + (0, 0.08, 0) for name, point in head.items()}
    if rng.random() > _FRONT_SHARE:
        yaw += np.pi
    whole = rotation(2, roll) @ rotation(0, pitch) @ rotation(1, yaw)
    return {name: whole @ point for name, point in joints.items()}


def _parts(rng: np.random.Generator) -> list[BodyPart]:
    sleeve, leg = rng.choice(["shirt", "skin"]), rng.choice(["trousers", "trousers", "skin"])
    build = rng.uniform(1.0, 1.35)
    parts = [
        BodyPart("shirt", _TRUNK, (0.045 * build, 0.045 * build, 0.055 * build, 0.055 * build), 0),
        BodyPart("skin", ("neck", "chin"), (0.04, 0.04), -0.02),
        BodyPart("skin", ("crown", "chin"), (0.07, 0.052), 0.03),
        BodyPart("hair", ("hair",), (0.084,), 0.03),
        BodyPart("dark", ("mouth",), (0.011,), 0.03),
        BodyPart("dark skin", ("nose",), (0.017,), 0.04),
    ]
    for side in SIDES:
        hip, knee, ankle, toes, shoulder, elbow, wrist, fingers, eye, ear = (
            f"{side}_{name}" for name in _SIDED
        )
        parts += [
            BodyPart("trousers", (hip, knee), (0.06 * build, 0.045 * build), -0.06),
            BodyPart(leg, (knee, ankle), (0.042 * build, 0.03 * build), -0.07),
            BodyPart("shoes", (ankle, toes), (0.03, 0.026), -0.06),
            BodyPart("shirt", (shoulder, elbow), (0.047 * build, 0.036 * build), 0.02),
            BodyPart(sleeve, (elbow, wrist), (0.036 * build, 0.027 * build), 0.03),
            BodyPart("skin", (wrist, fingers), (0.027, 0.024), 0.03),
            BodyPart("white", (eye,), (0.019,), 0.03),
            BodyPart("dark", (eye,), (0.01,), 0.031),
            BodyPart("dark skin", (ear,), (0.02,), 0.04),
        ]
    return parts


def _wardrobe(rng: np.random.Generator, image: Pixels) -> dict[str, Paint]:
    """A figure's paints by name, in colours that stand out from the picture."""
    around = np.array(cv2.mean(image)[:3])
    skin = (70, 45, 30) + rng.uniform(0.15, 1) * np.array([180, 165, 155]) + rng.normal(0, 8, 3)
    shirt = colour_unlike(rng, [around])
    trousers = colour_unlike(rng, [around, shirt])
    return {
        "skin": Paint(skin.clip(0, 255)),
        "dark skin": Paint((skin * 0.6).clip(0, 255)),
        "hair": Paint((skin * rng.uniform(0.1, 0.4) + rng.uniform(0, 30, 3)).clip(0, 255)),
        "shoes": Paint(rng.uniform(0, 255, 3)),
        "white": Paint(np.full(3, 245.0)),
        "dark": Paint(np.array([25.0, 15.0, 15.0])),
        "shirt": cloth(rng, image.shape, shirt),
        "trousers": cloth(rng, image.shape, trousers),
    }


PERSON = Figure("people", COCO_17, _pose, _parts, _wardrobe, room=(0.5, 1.0))
