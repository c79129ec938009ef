"""A synthetic clip of two persons who cross, and a stand-in estimator that knows the truth."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clips import times, write_clip
from hrpose.estimator import InputImage, PoseEstimator
from hrpose.geometry import Boxes, iou
from hrpose.poses import Poses
from hrpose.skeletons import COCO_17
from hrpose.synthetic import render_image
from tiny_weights import METADATA

RATE = 30


@dataclass(frozen=True, eq=False)
class Scene:
    """t frames of two persons. `keypoints` (t, 2, 17, 3), `boxes` (t, 2, 4), `seen` (t, 2): whether
    more than half of the person is visible. The red value of the first pixel is the frame's number.
    """

    images: list[NDArray[np.uint8]]
    keypoints: NDArray[np.float64]
    boxes: NDArray[np.float64]
    seen: NDArray[np.bool_]

    def write(self, path: Path) -> Path:
        return write_clip(path, self.images, times(len(self.images), RATE), codec="ffv1",
                          pixels="bgr0")  # fmt: skip


def crossing(seed: int, frames: int = 60) -> Scene:
    """One moves to the right, one to the left; they pass each other in the middle."""
    rng = np.random.default_rng(seed)
    actors = [render_image(rng, (128, 160), 1) for _ in range(2)]
    images, keypoints, boxes, seen = [], [], [], []
    for index in range(frames):
        image = np.full((160, 400, 3), 90, np.uint8)
        owner = np.full((160, 400), -1)
        share = index / (frames - 1)
        places = [round(136 * 2 * share), round(136 * 2 * (1 - share))]
        for number, (actor, x) in enumerate(zip(actors, places, strict=True)):
            mask = actor.masks[0]
            image[:, x : x + 128][mask] = actor.image[mask]
            owner[:, x : x + 128][mask] = number
        image[0, 0, 0] = index
        images.append(image)
        moved = [(x, 0) for x in places]
        keypoints.append([a.keypoints[0] + (*m, 0) for a, m in zip(actors, moved, strict=True)])
        boxes.append([a.boxes[0] + (*m, 0, 0) for a, m in zip(actors, moved, strict=True)])
        seen.append([(owner == n).sum() > a.areas[0] / 2 for n, a in enumerate(actors)])
    return Scene(images, np.array(keypoints), np.array(boxes), np.array(seen))


class Knowing(PoseEstimator):
    """Returns the truth with noise of 1% of a person's height. A box of a hidden person gets the
    pose of the person in front, as with a network. Its detector finds the visible persons, in any
    order.
    """

    def __init__(self, scene: Scene, seed: int = 0) -> None:
        super().__init__(_no_session, detector=self)  # type: ignore[arg-type]
        self.name = "stand-in"
        self.scene = scene
        self.rng = np.random.default_rng(seed)
        self.asked: list[int] = []

    @property
    def metadata(self):  # type: ignore[no-untyped-def]
        return METADATA

    def __call__(self, image):  # type: ignore[no-untyped-def,override]
        frame = int(image[0, 0, 0])
        self.asked.append(frame)
        seen = self.rng.permutation(np.flatnonzero(self.scene.seen[frame]))
        boxes = self.scene.boxes[frame][seen] + self.rng.normal(0, 2, (len(seen), 4))
        return Boxes(boxes, np.full(len(seen), 0.9))

    def stream(
        self, images: Iterable[InputImage], **_: object
    ) -> Iterator[tuple[InputImage, Poses]]:
        for image in images:
            frame = int(image.pixels[0, 0, 0])
            alike = iou(image.boxes.astype(np.float64), self.scene.boxes[frame])
            nearest = np.where(self.scene.seen[frame], alike, -1).argmax(axis=1)
            keypoints = self.scene.keypoints[frame][nearest].copy()
            heights = self.scene.boxes[frame][nearest][:, 3]
            noise = self.rng.normal(0, 0.01, keypoints[..., :2].shape)
            keypoints[..., :2] += noise * heights[:, None, None]
            keypoints[..., 2] = 0.9
            poses = Poses(
                keypoints.astype(np.float32), image.boxes.astype(np.float32),
                np.full(len(nearest), 0.8, np.float32), COCO_17,
            )  # fmt: skip
            yield image, poses


def _no_session(crops: object) -> None:
    raise AssertionError("the stand-in has no network")
