"""Figures of the documentation: one image at each step of the method."""

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hrpose import weights
from hrpose.codec import Codec
from hrpose.data.augmentation import Augmentation, half_body, photometric
from hrpose.explain import figures
from hrpose.explain.trace import PersonBox, Trace, trace
from hrpose.geometry import Crop, warp
from hrpose.image import read_image
from hrpose.session import open_session
from hrpose.viz import grid, heatmap_sheet, overlay

IMAGE = Path(__file__).resolve().parents[2] / "examples" / "astronaut.jpg"
BOX = np.array([30.0, 20.0, 390.0, 490.0])
# Head and shoulders: wider than high, so that squeezing it shows.
WIDE_BOX = np.array([110.0, 20.0, 230.0, 190.0])
SHOWN = ("nose", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_wrist")

Pixels = NDArray[np.uint8]


def all_of_them() -> Iterator[tuple[str, bytes]]:
    """(file name, content) of every image."""
    session = open_session(weights.find("w16-small"))
    traced = trace(session, read_image(IMAGE), PersonBox(BOX), keypoint="nose")
    yield "crop.webp", _webp(_shrunk(figures.crop_on_image(traced), 560))
    yield "aspect.webp", _webp(_aspect(traced))
    yield "targets.webp", _webp(_targets(traced))
    yield "heatmaps.webp", _webp(_heatmaps(traced))
    yield "quarter.webp", _webp(_quarter(traced), sharp=True)
    yield "flip.webp", _webp(_flip(traced))
    yield "pose.webp", _webp(_shrunk(figures.pose_on_image(traced, 0.3), 560))
    yield "augmentation.webp", _webp(_augmentation(traced))


def _aspect(traced: Trace) -> Pixels:
    """The same box squeezed into the input, and grown to its shape first."""
    wh = traced.metadata.input_wh
    x, y, w, h = WIDE_BOX
    squeezed = np.array([[wh[0] / w, 0, -x * wh[0] / w], [0, wh[1] / h, -y * wh[1] / h]])
    kept = Crop.from_box(WIDE_BOX, wh, padding=1.0)
    tiles = [
        np.asarray(cv2.warpAffine(traced.image, squeezed, wh), np.uint8),
        warp(traced.image, kept),
    ]
    return grid([_larger(tile, 2) for tile in tiles], ["squeezed into 128 x 192", "grown first"], 2)


def _targets(traced: Trace) -> Pixels:
    """Target heatmaps of the paper's codec, for three of the estimated keypoints."""
    names = traced.metadata.skeleton.keypoints
    chosen = [names.index(name) for name in ("nose", "left_ear", "left_shoulder")]
    codec = Codec("gaussian", sigma=1.5)
    points = traced.in_crop[chosen]
    heatmaps, _ = codec.encode(points, np.ones(len(chosen)), traced.metadata.input_wh)
    tiles = [overlay(traced.view, heatmap, traced.strides, 2) for heatmap in heatmaps]
    return grid(tiles, [names[index].replace("_", " ") for index in chosen], 3)


def _heatmaps(traced: Trace) -> Pixels:
    skeleton = traced.metadata.skeleton
    chosen = [skeleton.keypoints.index(name) for name in SHOWN]
    whole = heatmap_sheet(
        traced.view, traced.merged, skeleton, traced.in_crop, traced.strides, 2, 1
    )
    # A grid of one column, of which some tiles are chosen.
    tall = (whole.shape[0] - _gap(whole, len(skeleton))) // len(skeleton)
    tiles = [whole[index * tall : (index + 1) * tall] for index in chosen]
    rows = [np.concatenate(tiles[row : row + 3], axis=1) for row in (0, 3)]
    return np.concatenate(rows, axis=0)


def _gap(sheet: Pixels, tiles: int) -> int:
    """The pixels below the last of `tiles` equal rows."""
    return sheet.shape[0] % tiles


def _quarter(traced: Trace) -> Pixels:
    """The pixels around a peak, and the quarter offset, whatever the codec of the weights is."""
    codec = replace(traced.metadata.codec, name="gaussian")
    in_crop, _ = codec.decode(traced.merged)
    paper = replace(traced, metadata=replace(traced.metadata, codec=codec), in_crop=in_crop)
    tiles = [
        figures.pixels(paper, traced.merged[traced.keypoint]),
        figures.pixels(paper, traced.merged[traced.keypoint], arrow=True),
    ]
    side = tiles[1].shape[0]
    tiles[0] = np.asarray(cv2.resize(tiles[0], (side, side), interpolation=cv2.INTER_AREA))
    return _shrunk(np.concatenate(tiles, axis=1), 1000)


def _flip(traced: Trace) -> Pixels:
    keypoint = traced.metadata.skeleton.keypoints.index("left_shoulder")
    one = replace(traced, keypoint=keypoint)
    tiles = [
        figures.heat_tile(one, one.direct[keypoint]),
        figures.heat_tile(one, one.mirrored[one.twin], mirrored=True),
        figures.heat_tile(one, one.flipped_back[keypoint]),
        figures.heat_tile(one, one.merged[keypoint]),
    ]
    labels = ["left shoulder", "right, in the mirror", "flipped back", "the mean"]
    return grid(tiles, labels, 4)


def _augmentation(traced: Trace) -> Pixels:
    """Each augmentation alone, at the end of its range."""
    crop, image, a = traced.crop, traced.image, Augmentation()
    # Half body needs visible keypoints; those below the edge of the image count too.
    keypoints = traced.poses.keypoints[0].copy()
    keypoints[:, 2] = 1
    w, h = crop.size
    shown: list[tuple[str, Pixels]] = [
        ("the crop", warp(image, crop)),
        ("scale 0.65", warp(image, replace(crop, size=(w * 0.65, h * 0.65)))),
        ("scale 1.35", warp(image, replace(crop, size=(w * 1.35, h * 1.35)))),
        ("rotation 45", warp(image, replace(crop, rotation_deg=45.0))),
        ("rotation -90", warp(image, replace(crop, rotation_deg=-90.0))),
        ("mirrored", warp(image, replace(crop, mirrored=True))),
        ("half body", warp(image, half_body(crop, keypoints, traced.metadata.skeleton, a, True))),
        ("light, color", photometric(warp(image, crop), 1.0, np.random.default_rng(11))),
    ]
    tiles = [_larger(tile, 1.5) for _, tile in shown]
    return grid(tiles, [label for label, _ in shown], 4)


def _larger(image: Pixels, factor: float) -> Pixels:
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def _shrunk(image: Pixels, width: int) -> Pixels:
    size = (width, round(image.shape[0] * width / image.shape[1]))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _webp(image: Pixels, sharp: bool = False) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=90 if sharp else 82, method=6)
    return buffer.getvalue()
