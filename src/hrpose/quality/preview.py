"""`hrpose data preview`: a page that shows persons as training sees them, and statistics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrpose.codec import Codec, sigma_for
from hrpose.data.augmentation import Augmentation, draw_crop, photometric
from hrpose.data.coco import CocoAnnotations, read_annotations
from hrpose.data.images import ImageFiles
from hrpose.errors import UserError
from hrpose.geometry import Crop, transform, transform_boxes, warp
from hrpose.poses import Poses
from hrpose.quality.labels import Labels, read_labels
from hrpose.skeleton import Skeleton
from hrpose.viz import draw, overlay
from hrpose.viz.html import Histogram, captioned, document, histogram_chart, share_bar, table

# How many augmented crops of a person are shown.
VIEWS = 4
# Padding around the box, in the tile of the labels.
_WIDE_PADDING = 1.6


def histograms(labels: Labels) -> list[Histogram]:
    """Histograms of labeled keypoints, box size, box aspect ratio and persons per image."""
    width, height = np.maximum(labels.boxes[:, 2:], 1e-9).T
    in_image = np.bincount(labels.image_index, minlength=len(labels.file_names))
    found = [
        _logarithmic(
            "Size of the person", "square root of the box's area, pixels", np.sqrt(width * height)
        ),
        _logarithmic("Aspect ratio of the box", "width / height", width / height),
        _whole("Persons per image", "persons", in_image),
    ]
    if labels.skeleton is not None:
        keypoints = _whole("Labeled keypoints", "per person", labels.labeled.sum(axis=1))
        found.insert(0, keypoints)
    return found


def visibility(labels: Labels) -> list[tuple[str, int, int, int]]:
    """Each keypoint's name and how often it is visible, hidden, and not labeled."""
    visibilities = labels.keypoints[..., 2]
    return [
        (name, int((own == 2).sum()), int(((own > 0) & (own != 2)).sum()), int((own == 0).sum()))
        for name, own in zip(labels.names, visibilities.T, strict=True)
    ]


def _whole(title: str, unit: str, values: NDArray[np.int64]) -> Histogram:
    """A histogram with a bar for each number, or of at most forty bars."""
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


def visibility_table(rows: Sequence[tuple[str, int, int, int]]) -> str:
    """An HTML table: for each keypoint a bar of visible, hidden and not labeled."""
    cells = []
    for name, *counts in rows:
        total = max(sum(counts), 1)
        parts = zip(("seen", "hidden", "none"), counts, strict=True)
        bar = share_bar({kind: count / total for kind, count in parts})
        cells.append([escape(name.replace("_", " ")), bar, *map(str, counts)])
    return table(["", "", "visible", "hidden", "not labeled"], cells)


@dataclass(frozen=True, slots=True)
class PreviewSettings:
    """What is shown: the input size in pixels, the augmentation, how many persons, and the seed."""

    input_wh: tuple[int, int]
    augmentation: Augmentation
    persons: int
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class PersonTiles:
    """One person: `tiles` by caption, (h, w, 3) uint8 RGB; the number of labeled `keypoints`."""

    image: str
    annotation: int
    keypoints: int
    box_wh: tuple[int, int]
    tiles: dict[str, NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """The content of the page; `unread` are messages about images that cannot be read."""

    name: str
    labels: Labels
    settings: PreviewSettings
    persons: list[PersonTiles]
    unread: list[str]


def preview(
    annotations: Path | CocoAnnotations,
    images: str,
    settings: PreviewSettings,
    skeleton: Callable[[Skeleton], Skeleton] = lambda found: found,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Preview:
    """Draw some persons of a COCO keypoints data set, chosen by the seed.

    `skeleton` completes that of the annotations. Raises UserError where no person can be shown.
    """
    file = read_annotations(annotations, lenient=True)
    labels, _ = read_labels(file)
    if labels.skeleton is None:
        raise UserError(
            f"{file.path}: expected a category with 'keypoints', found none",
            code="annotations-invalid",
        )
    source, known = ImageFiles(images), skeleton(labels.skeleton)
    usable = np.flatnonzero(labels.labeled.any(axis=1) & labels.usable)
    if not len(usable):
        raise file.no_labels()
    rng = np.random.default_rng(settings.seed)
    chosen = np.sort(rng.choice(usable, min(settings.persons, len(usable)), replace=False)).tolist()
    persons, unread = [], []
    for done, person in enumerate(chosen, start=1):
        try:
            persons.append(_shown(labels, person, known, source, settings))
        except UserError as error:
            unread.append(str(error))
        progress(done, len(chosen))
    return Preview(file.path.name, labels, settings, persons, unread)


def _shown(
    labels: Labels, person: int, skeleton: Skeleton, source: ImageFiles, settings: PreviewSettings
) -> PersonTiles:
    name = labels.file_names[int(labels.image_index[person])]
    number = int(labels.annotation_ids[person])
    image = source.read(name)
    keypoints = labels.keypoints[person].astype(np.float32)
    crop = Crop.from_box(labels.boxes[person], settings.input_wh)
    wide = Crop.from_box(labels.boxes[person], settings.input_wh, padding=_WIDE_PADDING)
    tiles = {"labels and box": _drawn(warp(image, wide), wide, keypoints, skeleton,
                                      labels.boxes[person])}  # fmt: skip
    codec = Codec("gaussian", sigma_for(settings.input_wh))
    visible = (keypoints[:, 2] > 0).astype(np.float32)
    heatmaps, _ = codec.encode(transform(keypoints[:, :2], crop.matrix), visible, settings.input_wh)
    tiles["target heatmaps"] = overlay(warp(image, crop), heatmaps.max(axis=0))
    for view in range(VIEWS):
        rng = np.random.default_rng((settings.seed, number, view))
        edited = draw_crop(crop, keypoints, skeleton, settings.augmentation, rng)
        pixels = photometric(warp(image, edited), settings.augmentation.photometric, rng)
        points = keypoints[skeleton.flip_permutation] if edited.mirrored else keypoints
        how = ", mirrored" if edited.mirrored else ""
        tiles[f"augmented {view + 1}{how}"] = _drawn(pixels, edited, points, skeleton)
    width, height = labels.boxes[person, 2:].round().astype(int).tolist()
    return PersonTiles(name, number, int(visible.sum()), (width, height), tiles)


def _drawn(
    tile: NDArray[np.uint8],
    crop: Crop,
    keypoints: NDArray[np.float32],
    skeleton: Skeleton,
    box: NDArray[np.float64] | None = None,
) -> NDArray[np.uint8]:
    """A crop with the labeled keypoints drawn, and the person's box where it is given."""
    points = transform(keypoints[:, :2], crop.matrix)
    placed = np.concatenate([points, keypoints[:, 2:] > 0], axis=1).astype(np.float32)
    shown = np.array([[0.0, 0.0, *crop.input_wh]])
    if box is not None:
        shown = transform_boxes(box[None].astype(np.float64), crop.matrix)
    poses = Poses(placed[None], shown.astype(np.float32), np.ones(1, np.float32), skeleton)
    return draw(tile, poses, threshold=0.5, boxes=box is not None)


def render(preview: Preview) -> str:
    """The page as HTML; all text of the data set is escaped."""
    script = (resources.files("hrpose.quality") / "page.js").read_text(encoding="utf-8")
    labels, settings = preview.labels, preview.settings
    width, height = settings.input_wh
    unread = "".join(f"<li>{escape(line)}</li>" for line in preview.unread)
    persons = "".join(_person(person) for person in preview.persons)
    charts = "".join(histogram_chart(histogram) for histogram in histograms(labels))
    posed = int(labels.labeled.any(axis=1).sum())
    header = (
        f"<p>{len(labels.file_names)} images, {len(labels)} persons, {posed} of them with "
        "keypoints; "
        f"{len(labels.names)} keypoints in the skeleton.</p>"
    )
    main = f"""<section>
<h2>Persons</h2>
<p>{len(preview.persons)} persons chosen by the seed {settings.seed}, as the network sees them in
{width} x {height} pixels. Left limbs are blue and right ones orange, or in the skeleton's colors.
<span class="keys">Keys: <kbd>&larr;</kbd> <kbd>&rarr;</kbd> previous and next page,
<kbd>Home</kbd> <kbd>End</kbd> first and last.</span></p>
<nav hidden aria-label="pages of persons"><button id="previous">&larr; previous</button>
<output id="page"></output><button id="next">next &rarr;</button></nav>
<div id="persons">{persons}</div>
{f"<p>Not shown:</p><ul>{unread}</ul>" if unread else ""}
</section>
<section>
<h2>Distributions</h2>
<p>Of all {len(labels)} persons, not only those above.</p>
<div class="charts">{charts}</div>
</section>
<section>
<h2>Visibility</h2>
<p><span class="key seen">visible</span><span class="key hidden">hidden, position labeled</span>
<span class="key none">not labeled</span></p>
{visibility_table(visibility(labels))}
</section>"""
    return document(preview.name, "hrpose.quality", header, main, "Made by hrpose.", script)


def _person(person: PersonTiles) -> str:
    figures = "".join(captioned(tile, caption) for caption, tile in person.tiles.items())
    width, height = person.box_wh
    return (
        f"<article><p><b>{escape(person.image)}</b>, annotation {person.annotation}: "
        f"{person.keypoints} keypoints, box {width} x {height}</p>{figures}</article>"
    )
