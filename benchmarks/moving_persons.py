"""Clips of persons at exactly known places: they walk, cross, are covered, enter and leave.

A person is a still image that is moved over a still background, so that the truth is exact and
every error is the tracking's. Persons are synthetic figures, or cut out of images with COCO labels.
Speeds are in body heights per second, a body height being the height of the person's box.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.estimator import PoseEstimator
from hrpose.image import read_image
from hrpose.metrics.oks import oks
from hrpose.synthetic import render_image
from hrpose.synthetic.figures import background
from hrpose.video import Clip, Frame

HEIGHT = 180  # of a person's box, in pixels
SIZE_WH = (960, 320)
SECONDS = 4.0

Place = Callable[[float], tuple[float, float] | None]
Cover = Callable[[float], tuple[float, float, float, float] | None]


@dataclass(frozen=True, eq=False)
class Actor:
    """`image` (h, w, 3) and `mask` (h, w) of a person; `keypoints` (k, 3) and `box` within it."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    keypoints: NDArray[np.float64]
    box: NDArray[np.float64]

    def scaled(self, height: float) -> "Actor":
        """With a box of `height` pixels."""
        factor = height / self.box[3]
        size = [max(1, round(length * factor)) for length in self.mask.shape[::-1]]
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        image = np.asarray(cv2.resize(self.image, size, interpolation=how), np.uint8)
        mask = cv2.resize(self.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        keypoints = self.keypoints * (factor, factor, 1)
        return Actor(image, mask, keypoints, self.box * factor)


@dataclass(frozen=True, eq=False)
class Seen:
    """A person in one frame: number, `keypoints` (k, 3), `box` (4,), and the `visible` share."""

    number: int
    keypoints: NDArray[np.float64]
    box: NDArray[np.float64]
    visible: float


class Scene(Clip):
    """A clip that is drawn as it is read.

    `places` are the persons' centers as functions of the time, None where absent; those later in
    the list are in front. `covers` are gray boxes [x, y, w, h] in front of all.
    """

    def __init__(
        self,
        name: str,
        persons: list[tuple[Actor, Place]],
        rate: float,
        seconds: float = SECONDS,
        covers: list[Cover] | None = None,
        size_wh: tuple[int, int] = SIZE_WH,
        seed: int = 0,
    ) -> None:
        self.name, self.live, self.sound_file = name, False, None
        self._rate, self.persons, self.covers = rate, persons, covers or []
        self.count = max(2, round(seconds * rate))
        self.background = background(np.random.default_rng(seed), size_wh)
        grain = np.random.default_rng(seed + 1).integers(0, 7, (4, *self.background.shape))
        self.grain = grain.astype(np.uint8)
        self.truth: list[list[Seen]] = []

    @property
    def rate(self) -> float:
        return self._rate

    @property
    def frame_count(self) -> int | None:
        return self.count

    def close(self) -> None:
        """Nothing is open."""

    def __iter__(self) -> Iterator[Frame]:
        self.truth = []
        for index in range(self.count):
            time = index / self._rate
            yield Frame(self._draw(time), index, time, 1 / self._rate)

    def _draw(self, time: float) -> NDArray[np.uint8]:
        image = self.background.copy()
        height, width = image.shape[:2]
        owner = np.full((height, width), -1)
        corners: dict[int, NDArray[np.float64]] = {}
        for number, (actor, place) in enumerate(self.persons):
            center = place(time)
            if center is None:
                continue
            x, y, w, h = actor.box
            corner = np.rint(np.array(center) - (x + w / 2, y + h / 2)).astype(int)
            corners[number] = corner.astype(np.float64)
            low = np.maximum(corner, 0)
            high = np.minimum(corner + actor.mask.shape[::-1], (width, height))
            if (high <= low).any():
                continue
            target = np.s_[low[1] : high[1], low[0] : high[0]]
            (left, top), (right, bottom) = low - corner, high - corner
            mask = actor.mask[top:bottom, left:right]
            image[target][mask] = actor.image[top:bottom, left:right][mask]
            owner[target][mask] = number
        for cover in self.covers:
            if (box := cover(time)) is not None:
                x, y, w, h = (round(v) for v in box)
                target = np.s_[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)]
                image[target], owner[target] = 96, -2
        self.truth.append(
            [
                Seen(
                    number,
                    self.persons[number][0].keypoints + np.append(corner, 0),
                    self.persons[number][0].box + np.append(corner, (0, 0)),
                    float((owner == number).sum() / self.persons[number][0].mask.sum()),
                )
                for number, corner in corners.items()
            ]
        )
        grain = self.grain[round(time * self._rate) % len(self.grain)]
        return np.asarray(cv2.subtract(cv2.add(image, grain), np.full(4, 3.0)), np.uint8)


def synthetic_actors(estimator: PoseEstimator, count: int, seed: int = 0) -> list[Actor]:
    """Figures that the estimator sees well when they stand still: once, and with OKS of 0.9."""
    rng = np.random.default_rng(seed)
    actors: list[Actor] = []
    while len(actors) < count:
        drawn = render_image(rng, (200, 260), 1)
        actor = Actor(drawn.image, drawn.masks[0], drawn.keypoints[0], drawn.boxes[0])
        if seen_well(estimator, actor := actor.scaled(HEIGHT)):
            actors.append(actor)
    return actors


def labeled_actors(
    estimator: PoseEstimator, annotations: Path, images: Path, count: int
) -> list[Actor]:
    """Persons of a COCO file, as rectangles, that the estimator sees well."""
    document = json.loads(annotations.read_text())
    names = {entry["id"]: entry["file_name"] for entry in document["images"]}
    actors: list[Actor] = []
    for entry in document["annotations"]:
        keypoints = np.array(entry["keypoints"], np.float64).reshape(-1, 3)
        x, y, w, h = entry["bbox"]
        if (keypoints[:, 2] > 0).sum() < 14 or h < 0.8 * HEIGHT or w > h:
            continue
        image = read_image(images / names[entry["image_id"]])
        low = np.maximum(np.rint([x - 0.1 * w, y - 0.06 * h]), 0).astype(int)
        high = np.rint([x + 1.1 * w, y + 1.06 * h]).astype(int)
        cut = image[low[1] : high[1], low[0] : high[0]]
        actor = Actor(
            cut, np.ones(cut.shape[:2], np.bool_), keypoints - (*low, 0),
            np.array([x - low[0], y - low[1], w, h]),
        ).scaled(HEIGHT)  # fmt: skip
        if seen_well(estimator, actor):
            actors.append(actor)
        if len(actors) == count:
            break
    return actors


def seen_well(estimator: PoseEstimator, actor: Actor) -> bool:
    """Whether the detector finds the person once, and the pose is right."""
    scene = Scene("", [(actor, lambda time: (480.0, 160.0))], 1)
    poses = estimator(next(iter(scene)).image)
    if len(poses) != 1:
        return False
    (truth,) = scene.truth[0]
    area = float(actor.box[2:].prod()) * 0.53
    sigmas = poses.skeleton.sigmas
    return float(oks(poses.keypoints, truth.keypoints[None], [area], sigmas)[0, 0]) > 0.85


def still(x: float = SIZE_WH[0] / 2) -> Place:
    """At one place."""
    return lambda time: (x, SIZE_WH[1] / 2)


def walking(speed: float, start: float, low: float = 100, high: float = SIZE_WH[0] - 100) -> Place:
    """To and fro between `low` and `high`."""
    span = high - low

    def place(time: float) -> tuple[float, float]:
        way = (start - low + speed * HEIGHT * time) % (2 * span)
        return (low + (way if way <= span else 2 * span - way), SIZE_WH[1] / 2)

    return place


def straight(speed: float, start: float, y: float = SIZE_WH[1] / 2) -> Place:
    """To the right, or to the left with a negative speed; absent outside the image."""

    def place(time: float) -> tuple[float, float] | None:
        x = start + speed * HEIGHT * time
        return (x, y) if -HEIGHT < x < SIZE_WH[0] + HEIGHT else None

    return place


def between(place: Place, start: float, end: float) -> Place:
    """Present from `start` to `end` only."""
    return lambda time: place(time) if start <= time < end else None


def covered(part: str, share: float, start: float, end: float, actor: Actor) -> Cover:
    """A box in front of a person who is `still`, covering `share` of a `part`."""
    (w, h), (cx, cy) = actor.box[2:], (SIZE_WH[0] / 2, SIZE_WH[1] / 2)
    left, top = cx - w / 2, cy - h / 2
    box = {
        "left": (left - 10, top - 20, 10 + share * w, h + 40),
        "right": (left + w * (1 - share), top - 20, 10 + share * w, h + 40),
        "middle": (cx - share * w / 2, top - 20, share * w, h + 40),
        "top": (left - 20, top - 10, w + 40, 10 + share * h),
        "bottom": (left - 20, top + h * (1 - share), w + 40, 10 + share * h),
    }[part]
    return lambda time: box if start <= time < end else None


def passing_pillar(width: float, speed: float, start: float = 0.5) -> Cover:
    """A pillar of `width` pixels that passes from the left, in body heights per second."""
    return lambda time: (
        SIZE_WH[0] / 2 - HEIGHT - width + speed * HEIGHT * (time - start),
        20,
        width,
        SIZE_WH[1] - 40,
    )


@dataclass(frozen=True)
class Covers:
    """How persons are covered: for how long, by pillars (pixels, speed), by passers (speed)."""

    seconds: tuple[float, ...] = (0.5, 1.0, 2.0)
    parts: tuple[tuple[str, float], ...] = (
        ("left", 0.5), ("right", 0.5), ("top", 0.45), ("bottom", 0.5), ("middle", 0.35),
        ("middle", 0.6),
    )  # fmt: skip
    pillars: tuple[tuple[float, float], ...] = ((40, 1.0), (80, 1.0), (40, 0.5), (80, 0.5))
    passers: tuple[float, ...] = (0.5, 1.0, 2.0)


# With them, other actors and another pace nothing was tuned.
HELD_OUT = Covers(
    (0.7, 1.4, 2.3),
    (("left", 0.4), ("right", 0.55), ("top", 0.4), ("bottom", 0.4), ("middle", 0.5)),
    ((25, 0.7), (60, 1.3), (100, 0.8), (60, 0.6)),
    (-0.7, 1.4, -2.5),
)


def occlusions(
    actors: list[Actor], covers: Covers | None = None, rate: float = 25
) -> Iterator[tuple[int, Scene]]:
    """How many persons there are, and scenes in which the first is covered for a while."""
    covers = covers or Covers()
    first, second = actors[:2]
    alone = [(first, still())]
    for seconds in covers.seconds:
        for part, share in covers.parts:
            cover = covered(part, share, 1.0, 1.0 + seconds, first)
            name = f"{part} {share:.0%} for {seconds:g} s"
            yield 1, Scene(name, alone, rate, 2.5 + seconds, [cover])
    for width, speed in covers.pillars:
        seconds = 1 + (2 * HEIGHT + width) / HEIGHT / speed
        name = f"pillar of {width:g} px at {speed:g}"
        yield 1, Scene(name, alone, rate, seconds + 0.5, [passing_pillar(width, speed)])
    for speed in covers.passers:
        passer = straight(speed, 480 - np.sign(speed) * 1.6 * HEIGHT)
        persons = [*alone, (second, passer)]
        yield 2, Scene(f"crossed at {speed:g}", persons, rate, 3.2 / abs(speed))


def motions(actor: Actor) -> Iterator[tuple[float, float, Scene]]:
    """(speed, rate, scene) of one person who walks to and fro, from 0.5 to 6 body heights/s."""
    for speed in (0.5, 1.0, 2.0, 4.0, 6.0):
        for rate in (1, 2, 5, 10, 15, 25, 30):
            name = f"{speed:g} heights/s at {rate} frames/s"
            seconds = max(4.0, 8 / rate)
            yield speed, rate, Scene(name, [(actor, walking(speed, 300))], rate, seconds)


def stories(actors: list[Actor], rate: float, pace: float = 1.0) -> Iterator[Scene]:
    """Several persons: they cross, overtake, pass behind a pillar, enter and leave.

    With another `pace` they move by so much faster, elsewhere, and others are in front.
    """
    a, b, c = actors[:3]
    seed = round(100 * (pace - 1))

    def scene(
        name: str, persons: list[tuple[Actor, Place]], seconds: float = SECONDS,
        covers: list[Cover] | None = None,
    ) -> Scene:  # fmt: skip
        turned = persons if pace == 1 else persons[::-1]
        return Scene(name, turned, rate, seconds / pace, covers, seed=seed)

    def right(speed: float, start: float) -> Place:
        return straight(speed * pace, start)

    wall: list[Cover] = [lambda time: (440.0, 0.0, 80.0 if pace == 1 else 60.0, 320.0)]
    yield scene("crossing", [(a, right(1, 250)), (b, right(-1, 710))])
    yield scene("crossing fast", [(a, right(2, 100)), (b, right(-2, 860))], 2.5)
    yield scene("overtaking", [(a, right(0.5, 300)), (b, right(1.5, 120))])
    yield scene("behind a pillar", [(a, right(1, 150))], covers=wall)
    yield scene("two behind a pillar", [(a, right(1, 250)), (b, right(-1, 710))], covers=wall)
    yield scene("entering and leaving", [(a, right(1.5, -90)), (b, right(-1.5, 1050)),
                                         (c, between(still(), 1, 3))], 5)  # fmt: skip
    yield scene("three", [(a, still(480)), (b, right(1, 200)), (c, right(-0.8, 800))])
