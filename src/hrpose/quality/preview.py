"""How a set's people are spread: joints labelled, sizes, shapes, visibility."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrpose.codec import Codec, sigma_for
from hrpose.data.augmentation import Augmentation, draw_crop, photometric
from hrpose.data.images import PictureSource
from hrpose.errors import UserError
from hrpose.geometry import Crop, transform, transform_boxes, warp
from hrpose.poses import Poses
from hrpose.quality.annotations import Labels, read_labels
from hrpose.quality.left_right import usable
from hrpose.skeleton import Skeleton
from hrpose.viz import draw, overlay
from hrpose.viz.html import Histogram, document, histogram_chart, share_bar, source, table


def histograms(labels: Labels) -> list[Histogram]:
    """Joints labelled, the root of the box's area, width by height, people in a picture."""
    width, height = np.maximum(labels.boxes[:, 2:], 1e-9).T
    in_picture = np.bincount(labels.image_index, minlength=len(labels.file_names))
    found = [
        _logarithmic(
            "Size of the person", "root of the box's area, pixels", np.sqrt(width * height)
        ),
        _logarithmic("Shape of the box", "width by height", width / height),
        _whole("People in a picture", "people", in_picture),
    ]
    if labels.skeleton is not None:
        joints = _whole("Joints with a label", "of each person", labels.labelled.sum(axis=1))
        found.insert(0, joints)
    return found


def visibility(labels: Labels) -> list[tuple[str, int, int, int]]:
    """Each joint's name and how often it is seen, hidden, and not labelled."""
    seen = labels.keypoints[..., 2]
    return [
        (name, int((own == 2).sum()), int(((own > 0) & (own != 2)).sum()), int((own == 0).sum()))
        for name, own in zip(labels.names, seen.T, strict=True)
    ]


def _whole(title: str, unit: str, values: NDArray[np.int64]) -> Histogram:
    """One bar for each number, or for as many as fit forty bars."""
    most = int(values.max(initial=1))
    step = -(-(most + 1) // 40)
    edges = np.arange(0, most + step + 1, step) - 0.5
    return _counted(title, unit, values, np.asarray(edges, np.float64))


def _logarithmic(title: str, unit: str, values: NDArray[np.float64]) -> Histogram:
    low, high = np.quantile(values, [0.001, 0.999]) if len(values) else (1.0, 2.0)
    edges = np.geomspace(low, max(high, low * 1.01), 25)
    return _counted(
        title, unit, np.clip(values, edges[0], edges[-1]), np.asarray(edges, np.float64)
    )


def _counted(
    title: str, unit: str, values: NDArray[np.generic], edges: NDArray[np.float64]
) -> Histogram:
    counts, _ = np.histogram(values, edges)
    return Histogram(title, unit, tuple(counts.tolist()), tuple(edges.tolist()))


def shares(rows: Sequence[tuple[str, int, int, int]]) -> str:
    """A table: for each joint a bar of seen, hidden and not labelled."""
    cells = []
    for name, *counts in rows:
        total = max(sum(counts), 1)
        parts = zip(("seen", "hidden", "none"), counts, strict=True)
        bar = share_bar({kind: count / total for kind, count in parts})
        cells.append([escape(name.replace("_", " ")), bar, *map(str, counts)])
    return table(["", "", "seen", "hidden", "no label"], cells)


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


def render(preview: Preview) -> str:
    """The whole page. Every word of the set is escaped."""
    script = (resources.files("hrpose.quality") / "page.js").read_text(encoding="utf-8")
    labels, look = preview.labels, preview.look
    width, height = look.input_wh
    unread = "".join(f"<li>{escape(line)}</li>" for line in preview.unread)
    people = "".join(_person(person) for person in preview.people)
    charts = "".join(histogram_chart(histogram) for histogram in histograms(labels))
    posed = int(labels.labelled.any(axis=1).sum())
    header = (
        f"<p>{len(labels.file_names)} pictures, {len(labels)} people, {posed} of them with joints; "
        f"{len(labels.names)} joints in the skeleton.</p>"
    )
    main = f"""<section>
<h2>People</h2>
<p>{len(preview.people)} people chosen by the seed {look.seed}, as the network sees them in
{width} x {height} pixels. Left limbs are blue and right ones orange, or in the skeleton's colours.
<span class="keys">Keys: <kbd>&larr;</kbd> <kbd>&rarr;</kbd> one page back or on,
<kbd>Home</kbd> <kbd>End</kbd> first and last.</span></p>
<nav hidden aria-label="pages of people"><button id="back">&larr; back</button>
<output id="place"></output><button id="on">on &rarr;</button></nav>
<div id="people">{people}</div>
{f"<p>Not shown:</p><ul>{unread}</ul>" if unread else ""}
</section>
<section>
<h2>Distributions</h2>
<p>Of all {len(labels)} people, not only those above.</p>
<div class="charts">{charts}</div>
</section>
<section>
<h2>Visibility</h2>
<p><span class="key seen">seen</span><span class="key hidden">hidden, place labelled</span>
<span class="key none">no label</span></p>
{shares(visibility(labels))}
</section>"""
    return document(preview.name, "hrpose.quality", header, main, "Made by hrpose.", script)


def _person(person: Person) -> str:
    figures = "".join(
        f'<figure><img src="{source(tile)}" width="{tile.shape[1]}" height="{tile.shape[0]}" '
        f'alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption>'
        "</figure>"
        for caption, tile in person.tiles.items()
    )
    width, height = person.box_wh
    return (
        f"<article><p><b>{escape(person.picture)}</b>, annotation {person.annotation}: "
        f"{person.joints} joints, box {width} x {height}</p>{figures}</article>"
    )
