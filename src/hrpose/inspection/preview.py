"""`hrpose data preview`: some people as the network will see them, drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrpose.codec import Codec
from hrpose.data.augment import Augmentation, draw_crop, photometric
from hrpose.data.pictures import PictureSource
from hrpose.drawing import draw, overlay
from hrpose.errors import UserError
from hrpose.geometry import Crop, transform, transform_boxes, warp
from hrpose.heatmap import sigma_for
from hrpose.inspection.labels import Labels, read_labels
from hrpose.inspection.poses import usable
from hrpose.poses import Poses
from hrpose.skeleton import Skeleton

# What augmentation makes of a person is drawn so many times.
VIEWS = 4
# Around the crop, in the first tile.
_ROOM = 1.6


@dataclass(frozen=True, slots=True)
class Look:
    """How people are shown: the crop's size in pixels, what is done to it, how many and which."""

    input_wh: tuple[int, int]
    augmentation: Augmentation
    people: int
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One person: `tiles` by caption, uint8 RGB; `joints` that are labelled."""

    picture: str
    annotation: int
    joints: int
    box_wh: tuple[int, int]
    tiles: dict[str, NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """All that the page shows."""

    name: str
    labels: Labels
    look: Look
    people: list[Person]
    unread: list[str]


def preview(
    annotations: Path,
    images: str,
    look: Look,
    skeleton: Callable[[Skeleton], Skeleton] = lambda found: found,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Preview:
    """Draw some people of a COCO keypoints set, chosen by the seed.

    `skeleton` completes the annotations' one. Raises UserError where there is nobody to show.
    """
    labels, _ = read_labels(annotations)
    if labels.skeleton is None:
        raise UserError(f"{annotations}: expected a category with 'keypoints', found none")
    source, known = PictureSource(images), skeleton(labels.skeleton)
    can = np.flatnonzero(labels.labelled.any(axis=1) & usable(labels))
    if not len(can):
        raise UserError(f"{annotations}: expected people with labelled joints, found none")
    rng = np.random.default_rng(look.seed)
    chosen = np.sort(rng.choice(can, min(look.people, len(can)), replace=False)).tolist()
    people, unread = [], []
    for done, person in enumerate(chosen, start=1):
        try:
            people.append(_shown(labels, person, known, source, look))
        except UserError as error:
            unread.append(str(error))
        progress(done, len(chosen))
    return Preview(annotations.name, labels, look, people, unread)


def _shown(
    labels: Labels, person: int, skeleton: Skeleton, source: PictureSource, look: Look
) -> Person:
    name = labels.file_names[int(labels.image_index[person])]
    number = int(labels.annotation_ids[person])
    image = source.read(name)
    keypoints = labels.keypoints[person].astype(np.float32)
    crop = Crop.from_box(labels.boxes[person], look.input_wh)
    wide = Crop.from_box(labels.boxes[person], look.input_wh, padding=_ROOM)
    tiles = {"labels and box": _drawn(warp(image, wide), wide, keypoints, skeleton,
                                      labels.boxes[person])}  # fmt: skip
    codec = Codec("gaussian", sigma_for(look.input_wh))
    visible = (keypoints[:, 2] > 0).astype(np.float32)
    heatmaps, _ = codec.encode(transform(keypoints[:, :2], crop.matrix), visible, look.input_wh)
    tiles["target heatmaps"] = overlay(warp(image, crop), heatmaps.max(axis=0))
    for view in range(VIEWS):
        rng = np.random.default_rng((look.seed, number, view))
        edited = draw_crop(crop, keypoints, skeleton, look.augmentation, rng)
        cut = photometric(warp(image, edited), look.augmentation.photometric, rng)
        points = keypoints[skeleton.flip_permutation] if edited.mirrored else keypoints
        how = ", mirrored" if edited.mirrored else ""
        tiles[f"augmented {view + 1}{how}"] = _drawn(cut, edited, points, skeleton)
    width, height = labels.boxes[person, 2:].round().astype(int).tolist()
    return Person(name, number, int(visible.sum()), (width, height), tiles)


def _drawn(
    tile: NDArray[np.uint8],
    crop: Crop,
    keypoints: NDArray[np.float32],
    skeleton: Skeleton,
    box: NDArray[np.float64] | None = None,
) -> NDArray[np.uint8]:
    """The labelled joints on a crop, and the person's box where it is given."""
    points = transform(keypoints[:, :2], crop.matrix)
    placed = np.concatenate([points, keypoints[:, 2:] > 0], axis=1).astype(np.float32)
    shown = np.array([[0.0, 0.0, *crop.input_wh]])
    if box is not None:
        shown = transform_boxes(box[None].astype(np.float64), crop.matrix)
    poses = Poses(placed[None], shown.astype(np.float32), np.ones(1, np.float32), skeleton)
    return draw(tile, poses, threshold=0.5, boxes=box is not None)
