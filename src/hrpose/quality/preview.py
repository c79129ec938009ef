"""How a set's people are spread: keypoints labeled, sizes, shapes, visibility."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrpose.codec import Codec, sigma_for
from hrpose.data.augmentation import Augmentation, draw_crop, photometric
from hrpose.data.images import ImageFiles
from hrpose.errors import UserError
from hrpose.geometry import Crop, transform, transform_boxes, warp
from hrpose.poses import Poses
from hrpose.quality.annotations import Labels, read_labels
from hrpose.quality.left_right import usable
from hrpose.skeleton import Skeleton
from hrpose.viz import draw, overlay
from hrpose.viz.html import Histogram, document, histogram_chart, share_bar, source, table


def histograms(labels: Labels) -> list[Histogram]:
    """Keypoints labeled, the root of the box's area, width by height, people in an image."""
    width, height = np.maximum(labels.boxes[:, 2:], 1e-9).T
    in_image = np.bincount(labels.image_index, minlength=len(labels.file_names))
    found = [
        _logarithmic(
            "Size of the person", "root of the box's area, pixels", np.sqrt(width * height)
        ),
        _logarithmic("Shape of the box", "width by height", width / height),
        _whole("People in an image", "persons", in_image),
    ]
    if labels.skeleton is not None:
        keypoints = _whole("Keypoints with a label", "of each person", labels.labeled.sum(axis=1))
        found.insert(0, keypoints)
    return found


def visibility(labels: Labels) -> list[tuple[str, int, int, int]]:
    """Each keypoint's name and how often it is seen, hidden, and not labeled."""
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
    """A table: for each keypoint a bar of seen, hidden and not labeled."""
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
    persons: int
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One person: `tiles` by caption, uint8 RGB; `keypoints` that are labeled."""

    image: str
    annotation: int
    keypoints: int
    box_wh: tuple[int, int]
    tiles: dict[str, NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """All that the page shows."""

    name: str
    labels: Labels
    look: Look
    persons: list[Person]
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
    source, known = ImageFiles(images), skeleton(labels.skeleton)
    can = np.flatnonzero(labels.labeled.any(axis=1) & usable(labels))
    if not len(can):
        raise UserError(f"{annotations}: expected people with labeled keypoints, found none")
    rng = np.random.default_rng(look.seed)
    chosen = np.sort(rng.choice(can, min(look.persons, len(can)), replace=False)).tolist()
    persons, unread = [], []
    for done, person in enumerate(chosen, start=1):
        try:
            persons.append(_shown(labels, person, known, source, look))
        except UserError as error:
            unread.append(str(error))
        progress(done, len(chosen))
    return Preview(annotations.name, labels, look, persons, unread)


def _shown(
    labels: Labels, person: int, skeleton: Skeleton, source: ImageFiles, look: Look
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
    """The labeled keypoints on a crop, and the person's box where it is given."""
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
    persons = "".join(_person(person) for person in preview.persons)
    charts = "".join(histogram_chart(histogram) for histogram in histograms(labels))
    posed = int(labels.labeled.any(axis=1).sum())
    header = (
        f"<p>{len(labels.file_names)} images, {len(labels)} people, {posed} of them with "
        "keypoints; "
        f"{len(labels.names)} keypoints in the skeleton.</p>"
    )
    main = f"""<section>
<h2>People</h2>
<p>{len(preview.persons)} people chosen by the seed {look.seed}, as the network sees them in
{width} x {height} pixels. Left limbs are blue and right ones orange, or in the skeleton's colors.
<span class="keys">Keys: <kbd>&larr;</kbd> <kbd>&rarr;</kbd> one page back or on,
<kbd>Home</kbd> <kbd>End</kbd> first and last.</span></p>
<nav hidden aria-label="pages of people"><button id="back">&larr; back</button>
<output id="place"></output><button id="on">on &rarr;</button></nav>
<div id="people">{persons}</div>
{f"<p>Not shown:</p><ul>{unread}</ul>" if unread else ""}
</section>
<section>
<h2>Distributions</h2>
<p>Of all {len(labels)} people, not only those above.</p>
<div class="charts">{charts}</div>
</section>
<section>
<h2>Visibility</h2>
<p><span class="key seen">seen</span><span class="key hidden">hidden, place labeled</span>
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
        f"<article><p><b>{escape(person.image)}</b>, annotation {person.annotation}: "
        f"{person.keypoints} keypoints, box {width} x {height}</p>{figures}</article>"
    )
