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
from hrpose.codec import Codec, sigma_for
from hrpose.data.augmentation import Augmentation, half_body, photometric
from hrpose.explain import figures
from hrpose.explain.trace import Features, PersonBox, Trace, trace
from hrpose.geometry import Crop, warp
from hrpose.image import read_image
from hrpose.session import open_session
from hrpose.viz import LEFT, grid, heatmap_sheet, overlay
from hrpose.viz.drawing import line
from hrpose.viz.grids import BACKGROUND, write

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / "examples" / "people" / "walking.jpg"
BOX = np.array([262.0, 63.0, 200.0, 417.0])
# One arm: wider than high, so that squeezing it shows.
WIDE_BOX = np.array([250.0, 60.0, 230.0, 160.0])
SHOWN = ("nose", "left_ear", "left_shoulder", "right_hip", "left_knee", "left_ankle")

Pixels = NDArray[np.uint8]
# Of the two shipped weights the smaller ones, which show what goes wrong.
DEFAULT = "w16-small"


def all_of_them() -> Iterator[tuple[str, bytes]]:
    """(file name, content) of every image."""
    found = weights.find(DEFAULT)
    traced = trace(open_session(found), read_image(IMAGE), PersonBox(BOX), "nose", found)
    assert traced.features is not None
    yield "crop.webp", _webp(_shrunk(figures.crop_on_image(traced), 560))
    yield "aspect.webp", _webp(_aspect(traced))
    yield "targets.webp", _webp(_targets(traced))
    yield "heatmaps.webp", _webp(_heatmaps(traced))
    yield "quarter.webp", _webp(_quarter(traced), sharp=True)
    yield "flip.webp", _webp(_flip(traced))
    yield "pose.webp", _webp(_shrunk(figures.pose_on_image(traced, 0.3), 560))
    yield "augmentation.webp", _webp(_augmentation(traced))
    yield "features.webp", _webp(_features(traced, traced.features), sharp=True)
    elbow = replace(traced, keypoint=traced.metadata.skeleton.keypoints.index("left_elbow"))
    yield "without.webp", _webp(_without(elbow, traced.features), sharp=True)


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
    factor = 384 / wh[1]
    names = [f"squeezed into {wh[0]} x {wh[1]}", "grown first"]
    return grid([_larger(tile, factor) for tile in tiles], names, 2)


def _targets(traced: Trace) -> Pixels:
    """Target heatmaps of the paper's codec, for three of the estimated keypoints."""
    names = traced.metadata.skeleton.keypoints
    chosen = [names.index(name) for name in ("nose", "left_shoulder", "left_knee")]
    codec = Codec("gaussian", sigma=sigma_for(traced.metadata.input_wh))
    points = traced.in_crop[chosen]
    heatmaps, _ = codec.encode(points, np.ones(len(chosen)), traced.metadata.input_wh)
    tiles = [overlay(traced.view, heatmap, codec.strides(heatmap.shape[::-1]), _double(traced))
             for heatmap in heatmaps]  # fmt: skip
    return grid(tiles, [names[index].replace("_", " ") for index in chosen], 3)


def _heatmaps(traced: Trace) -> Pixels:
    skeleton = traced.metadata.skeleton
    chosen = [skeleton.keypoints.index(name) for name in SHOWN]
    whole = heatmap_sheet(
        traced.view, traced.merged, skeleton, traced.in_crop, traced.strides, _double(traced), 1
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
    keypoint = traced.metadata.skeleton.keypoints.index("left_elbow")
    one = replace(traced, keypoint=keypoint)
    tiles = [
        figures.heat_tile(one, one.direct[keypoint]),
        figures.heat_tile(one, one.mirrored[one.twin], mirrored=True),
        figures.heat_tile(one, one.flipped_back[keypoint]),
        figures.heat_tile(one, one.merged[keypoint]),
    ]
    labels = ["left elbow", "right, in the mirror", "flipped back", "the mean"]
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
    factor = 288 / traced.metadata.input_wh[1]
    tiles = [_larger(tile, factor) for _, tile in shown]
    return grid(tiles, [label for label, _ in shown], 4)


def _double(traced: Trace) -> int:
    """The enlargement of an input to about 400 pixels."""
    return max(1, round(400 / traced.metadata.input_wh[1]))


def _features(traced: Trace, features: Features) -> Pixels:
    """The mean over the channels of every branch at every stage, with what flows between them."""
    tall, step, row, top, left = 132, 168, 172, 40, 20
    wide = round(tall * traced.metadata.input_wh[0] / traced.metadata.input_wh[1])
    columns = [*features.columns, (traced.direct.max(axis=0, keepdims=True),)]
    titles = ["stem", "stage 1", "stage 2", "stage 3", "stage 4", "sum", "heatmaps"]
    size = (top + 4 * row, left * 2 + 6 * step + wide, 3)
    canvas = np.full(size, BACKGROUND, np.uint8)
    for column, (branches, title) in enumerate(zip(columns, titles, strict=True)):
        x = left + column * step
        write(canvas, (x, 10), title, 19, rim=None)
        following = columns[column + 1] if column + 1 < len(columns) else ()
        for branch, maps in enumerate(branches):
            y = top + branch * row
            for target in range(len(following)):
                new = target >= len(branches)
                if new and branch < len(branches) - 1:
                    continue
                start = (x + wide + 4.0, y + tall / 2)
                end = (x + step - 4.0, top + target * row + tall / 2)
                width = 3.0 if branch == target else 1.4
                line(canvas, start, end, width, LEFT if new else (138, 146, 164))
            tile = cv2.resize(
                figures.feature_map(maps), (wide, tall), interpolation=cv2.INTER_NEAREST
            )
            canvas[y : y + tall, x : x + wide] = tile
            channels, height, across = maps.shape
            if not following:
                channels = len(traced.direct)
            words = f"{channels} x {height} x {across}"
            write(canvas, (x, y + tall + 6), words, 15, (168, 176, 192), rim=None)
    return canvas


def _without(traced: Trace, features: Features) -> Pixels:
    """The heatmap of the traced keypoint, and the same with each branch left out."""
    tiles, labels = [], []
    names = ["all branches", *(f"without 1/{4 * 2**branch}" for branch in range(4))]
    for name, heatmaps in zip(names, (traced.direct, *features.without), strict=True):
        heatmap = heatmaps[traced.keypoint]
        squares = figures.feature_map(heatmap[None])
        scale = max(1, round(264 / len(squares)))
        tiles.append(squares.repeat(scale, axis=0).repeat(scale, axis=1))
        labels.append(f"{name}: {heatmap.max():.2f}")
    return grid(tiles, labels, 5)


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
