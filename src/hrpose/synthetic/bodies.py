"""The figures: persons with COCO's 17 keypoints, and animals with 9."""

import cv2
import numpy as np

from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17
from hrpose.synthetic.drawing import (
    SIDES,
    BodyPart,
    Figure,
    Floats,
    Keypoints,
    Paint,
    Pixels,
    cloth,
    color_unlike,
    direction,
    rotation,
)

# How often a person faces the camera.
_FRONT_SHARE = 0.85
_TRUNK = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
_LEGS = ("front", "back")
_SIDED = (
    *("hip", "knee", "ankle", "toes"),
    *("shoulder", "elbow", "wrist", "fingers", "eye", "ear"),
)


def _person_pose(rng: np.random.Generator) -> Keypoints:
    """Keypoints (3,) in body heights, by name: COCO's, and the ends of hands, feet and head."""
    keypoints = {"neck": np.array([0, 0.17, 0])}
    for side, s in SIDES.items():
        arm, bend, stride, knee = np.deg2rad(rng.uniform((8, 0, -15, 0), (110, 100, 35, 45)))
        swing, spread = np.deg2rad(rng.uniform((-15, 2), (35, 20)))
        shoulder, hip = np.array([s * 0.12, 0.2, 0]), np.array([s * 0.075, 0.51, 0])
        upper = direction(s * arm, swing)
        # An elbow bends in a mixture of forward, inward and up.
        toward = np.array([-s, -1, 1]) * rng.uniform((0, 0, 0.1), (0.4, 1, 0.5))
        toward -= upper * (toward @ upper)
        lower = np.cos(bend) * upper + np.sin(bend) * toward / np.linalg.norm(toward)
        shin = direction(s * spread, stride - knee)
        forward = np.array([s * 0.3, 0.35, 1])
        keypoints[f"{side}_shoulder"] = shoulder
        keypoints[f"{side}_elbow"] = elbow = shoulder + 0.16 * upper
        keypoints[f"{side}_wrist"] = wrist = elbow + 0.15 * lower
        keypoints[f"{side}_fingers"] = wrist + 0.045 * lower
        keypoints[f"{side}_hip"] = hip
        keypoints[f"{side}_knee"] = kneecap = hip + 0.225 * direction(s * spread, stride)
        keypoints[f"{side}_ankle"] = ankle = kneecap + 0.215 * shin
        keypoints[f"{side}_toes"] = ankle + 0.06 * forward / np.linalg.norm(forward)
    yaw, pitch, roll, glance, nod = np.deg2rad(
        rng.uniform((-40, -8, -12, -15, -10), (40, 10, 12, 15, 12))
    )
    # Points of the head are relative to its center; it turns on the neck.
    head = {"crown": (0.0, -0.03, 0.0), "chin": (0.0, 0.04, 0.01)}
    head |= {"nose": (0.0, 0.018, 0.078), "mouth": (0.0, 0.048, 0.062)}
    head |= {"hair": (0.0, -0.022, -0.03)}
    for side, s in SIDES.items():
        head[f"{side}_eye"] = (s * 0.03, -0.012, 0.062)
        head[f"{side}_ear"] = (s * 0.07, 0.008, 0.005)
    turn = rotation(0, nod) @ rotation(1, glance)
    keypoints |= {name: turn @ np.array(point) + (0, 0.08, 0) for name, point in head.items()}
    if rng.random() > _FRONT_SHARE:
        yaw += np.pi
    body = rotation(2, roll) @ rotation(0, pitch) @ rotation(1, yaw)
    return {name: body @ point for name, point in keypoints.items()}


def _person_parts(rng: np.random.Generator) -> list[BodyPart]:
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


def _person_wardrobe(rng: np.random.Generator, image: Pixels) -> dict[str, Paint]:
    """A person's paints by name, in colors that differ from those of the image."""
    around = np.array(cv2.mean(image)[:3])
    skin = (70, 45, 30) + rng.uniform(0.15, 1) * np.array([180, 165, 155]) + rng.normal(0, 8, 3)
    shirt = color_unlike(rng, [around])
    trousers = color_unlike(rng, [around, shirt])
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


PERSON = Figure(
    "persons", COCO_17, _person_pose, _person_parts, _person_wardrobe, extent=(0.5, 1.0)
)


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


def _animal_pose(rng: np.random.Generator) -> Keypoints:
    keypoints = {"withers": np.array([0, -0.06, 0.26]), "root_of_tail": np.array([0, -0.06, -0.3])}
    wag, droop = np.deg2rad(rng.uniform((-35, 10), (35, 70)))
    keypoints["tail_tip"] = keypoints["root_of_tail"] + 0.24 * direction(wag, -droop)
    for leg, z in zip(_LEGS, (0.24, -0.26), strict=True):
        for side, s in SIDES.items():
            swing, bend, spread = np.deg2rad(rng.uniform((-28, 0, 0), (28, 35, 8)))
            bend = -bend if leg == "front" else bend
            keypoints[f"{side}_{leg}_hip"] = hip = np.array([s * 0.08, 0.04, z])
            knee = hip + 0.2 * direction(s * spread, swing)
            keypoints[f"{side}_{leg}_knee"] = knee
            keypoints[f"{side}_{leg}_paw"] = knee + 0.19 * direction(s * spread, swing + bend)
    raised, glance, nod = np.deg2rad(rng.uniform((-25, -25, -20), (70, 25, 25)))
    neck = np.array([0, -np.sin(raised), np.cos(raised)])
    poll = keypoints["withers"] + 0.24 * neck
    # Points of the head are relative to its top, where the neck ends.
    head = {"poll": (0.0, 0.0, 0.0), "muzzle": (0.0, 0.06, 0.13), "nose": (0.0, 0.065, 0.175)}
    for side, s in SIDES.items():
        head[f"{side}_eye"] = (s * 0.045, 0.0, 0.055)
        head[f"{side}_ear_root"] = (s * 0.045, -0.03, -0.01)
        head[f"{side}_ear"] = (s * 0.075, -0.12, -0.01)
    turn = rotation(1, glance) @ rotation(0, nod)
    keypoints |= {name: poll + turn @ np.array(point) for name, point in head.items()}
    # Mostly from either side, sometimes from the front or the back.
    yaw = rng.choice([-1, 1]) * np.pi / 2 + np.deg2rad(rng.uniform(-65, 65))
    pitch, roll = np.deg2rad(rng.uniform((-5, -8), (20, 8)))
    body: Floats = rotation(2, roll) @ rotation(0, pitch) @ rotation(1, yaw)
    return {name: body @ point for name, point in keypoints.items()}


def _animal_parts(rng: np.random.Generator) -> list[BodyPart]:
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


def _animal_wardrobe(rng: np.random.Generator, image: Pixels) -> dict[str, Paint]:
    coat = color_unlike(rng, [np.array(cv2.mean(image)[:3])])
    return {
        "coat": cloth(rng, image.shape, coat),
        "dark coat": Paint((coat * 0.6).clip(0, 255)),
        "white": Paint(np.full(3, 240.0)),
        "dark": Paint(np.array([25.0, 18.0, 15.0])),
    }


ANIMAL = Figure(
    "animals", ANIMAL_9, _animal_pose, _animal_parts, _animal_wardrobe, extent=(1.2, 1.0)
)
