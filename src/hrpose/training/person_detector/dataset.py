"""The data of a person detector's training: boxed images, drawn frames, targets and samples."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from hrpose.data.augmentation import photometric
from hrpose.data.coco import read_annotations
from hrpose.data.dataset import Epochs
from hrpose.data.images import ImageFiles
from hrpose.data.persons import BoxTable
from hrpose.data.rules import note_lines
from hrpose.detection import person_detector
from hrpose.errors import UserError
from hrpose.geometry import Crop, clip_boxes, transform_boxes, warp
from hrpose.metadata import DetectorMetadata
from hrpose.models.hrnet import Normalize
from hrpose.training.recipe import DataSet, DetectorRecipe, Framing, PartlyBoxed

# Persons that are smaller, in input pixels, or less inside the frame, are ignored: neither persons
# nor background.
MIN_HEIGHT, MIN_WIDTH = 12.0, 4.0
MIN_INSIDE = 0.3
# The memory for decoded images, which are kept for the next epochs.
CACHE_BYTES = 512 << 20
# The least height, relative to the image's longer side, of a person with a frame around it.
MIN_CLOSE_HEIGHT = 0.2
# Batches for the statistics of the BatchNorms of exported weights.
_UNFOLDING_BATCHES = 32


class DetectorSample(NamedTuple):
    """One frame as the network sees it; after collation, a batch with a leading n.

    `image` uint8 (h, w, 3) RGB. The rest is on the cells of the maps: `heat` (h/4, w/4),
    `distances` (4, h/4, w/4) and `weights` (h/4, w/4) as in
    `hrpose.detection.person_detector.Targets`; `counts` (h/4, w/4) is 0 on ignored cells, else 1.
    """

    image: Tensor
    heat: Tensor
    distances: Tensor
    weights: Tensor
    counts: Tensor


class FrameDraw(NamedTuple):
    """An image, and the seed of the frame's generator; without a seed, the full image."""

    image: int
    seed: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class BoxedImages:
    """The images of a table, how frames of them are drawn, and the share of frames from them.

    `complete` where every person in them has a box; otherwise only pixels inside boxes count.
    """

    table: BoxTable
    images: ImageFiles
    framing: Framing = field(default_factory=Framing)
    complete: bool = True
    share: float = 1.0


class DetectorDataset(Dataset[DetectorSample]):
    """The images of all parts, one part after the other, as samples, indexed by `FrameDraw`.

    Images of complete parts are decoded once and kept, up to `CACHE_BYTES` in each process; the
    others may be too many.
    """

    def __init__(self, parts: Sequence[BoxedImages], input_wh: tuple[int, int]) -> None:
        self.parts = parts
        self.input_wh = input_wh
        self._rows = [(part, row) for part in parts for row in range(len(part.table))]
        self._cache: dict[int, NDArray[np.uint8]] = {}
        self._free_bytes = CACHE_BYTES

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, draw: FrameDraw) -> DetectorSample:
        pixels, boxes = self.frame(draw)
        part, _ = self._rows[draw.image]
        targets, counts = targets_of(boxes, self.input_wh, part.complete)
        return DetectorSample(*(torch.from_numpy(array) for array in (pixels, *targets, counts)))

    def frame(self, draw: FrameDraw) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The pixels of the input (h, w, 3), and all boxes (n, 4), which may extend beyond it."""
        part, row = self._rows[draw.image]
        image = self._image(draw.image)
        wh = (image.shape[1], image.shape[0])
        boxes = part.table.boxes[row]
        if draw.seed is None:
            crop = Crop.from_box([0, 0, *wh], self.input_wh, padding=1.0)
            return warp(image, crop), transform_boxes(boxes, crop.matrix)
        rng = np.random.default_rng(draw.seed)
        crop = draw_frame(wh, boxes, self.input_wh, part.framing, rng)
        pixels = photometric(warp(image, crop), part.framing.photometric, rng)
        return pixels, transform_boxes(boxes, crop.matrix)

    def _image(self, image: int) -> NDArray[np.uint8]:
        part, row = self._rows[image]
        if image in self._cache:
            return self._cache[image]
        pixels = part.images.read(part.table.file_names[row])
        if part.complete and pixels.nbytes <= self._free_bytes:
            self._cache[image] = pixels
            self._free_bytes -= pixels.nbytes
        return pixels


class FrameSampler(Epochs, Sampler[FrameDraw]):
    """Draws `samples` frames in each epoch, by `seed` and epoch.

    `images` are the numbers of images of the parts, `shares` those of frames drawn from them.
    """

    def __init__(
        self, images: Sequence[int], samples: int, seed: int, shares: Sequence[float] = (1.0,)
    ) -> None:
        super().__init__()
        self.images, self.samples, self.seed = images, samples, seed
        self.shares = np.array(shares) / sum(shares)

    def __len__(self) -> int:
        return self.samples

    def __iter__(self) -> Iterator[FrameDraw]:
        rng, start = np.random.default_rng((self.seed, self.epoch)), self.start
        part = rng.choice(len(self.images), size=self.samples, p=self.shares)
        first = np.array([0, *accumulate(self.images)])[part]
        images = first + rng.integers(np.array(self.images)[part])
        for sample, image in enumerate(images[start:], start):
            yield FrameDraw(int(image), (self.seed, self.epoch, sample))


def draw_frame(
    image_wh: tuple[int, int],
    boxes: NDArray[np.float64],
    input_wh: tuple[int, int],
    framing: Framing,
    rng: np.random.Generator,
) -> Crop:
    """A random frame with the aspect ratio of the input, mirrored with probability one half.

    Along each axis it is inside the image where it is smaller, and around it where it is larger.
    `boxes` (n, 4) are those of the persons.
    """
    # All numbers are drawn, used or not, so that one choice does not shift the others.
    zoom, across, down, mirror, close, which = rng.uniform(size=6)
    image, part = np.array(image_wh, np.float64), np.array([across, down])
    proportions = np.array([1.0, input_wh[1] / input_wh[0]])
    tall = boxes[boxes[:, 3] >= MIN_CLOSE_HEIGHT * max(image_wh)]
    if close < framing.close and len(tall):
        x, y, w, h = tall[int(which * len(tall))]
        # The person fills between a third of the frame and a little more than all of it.
        low, high = np.log(0.9), np.log(3.0)
        size = proportions * max(w, h / proportions[1]) * np.exp(low + zoom * (high - low))
        middle = np.array([x + w / 2, y + h / 2]) + (part - 0.5) * 0.6 * size
    else:
        low, high = np.log(framing.zoom)
        size = proportions * max(image_wh) * np.exp(low + zoom * (high - low))
        middle = image / 2 + (part - 0.5) * np.abs(image - size)
    margin = np.abs(image - size) / 2
    x, y = np.clip(middle, image / 2 - margin, image / 2 + margin)
    width, height = size
    center = (float(x), float(y))
    return Crop(center, (float(width), float(height)), input_wh, mirrored=bool(mirror < 0.5))


def targets_of(
    boxes: NDArray[np.float64], input_wh: tuple[int, int], complete: bool = True
) -> tuple[person_detector.Targets, NDArray[np.float32]]:
    """The targets of boxes (n, 4) in the input, clipped to it, and `DetectorSample.counts`, which
    are 0 outside the boxes where these are not `complete`.
    """
    clipped = clip_boxes(boxes, input_wh)
    inside = clipped[:, 2:].prod(axis=1) / np.maximum(boxes[:, 2:].prod(axis=1), 1e-9)
    persons = (inside >= MIN_INSIDE) & (clipped[:, 2:] >= (MIN_WIDTH, MIN_HEIGHT)).all(axis=1)
    targets = person_detector.encode(clipped[persons], input_wh)
    counts = np.full_like(targets.heat, float(complete))
    cells = clipped / person_detector.STRIDE
    for known, part in ((1, cells[persons]), (0, cells[~persons])):
        for x, y, w, h in part:
            counts[int(y) : int(np.ceil(y + h)), int(x) : int(np.ceil(x + w))] = known
    # The cells of a person count, even where an ignored person is behind.
    counts[targets.weights > 0] = 1
    return targets, counts


class DetectorDataModule(L.LightningDataModule):
    """The images that a recipe trains on and those held out.

    Samples are made in the process of the training: most images are decoded once, and warping takes
    little time beside the network. Raises UserError where images are missing.
    """

    def __init__(self, recipe: DetectorRecipe, root: Path) -> None:
        super().__init__()
        self.recipe = recipe
        part = recipe.data.train
        table, images = _read(part, root)
        train_table, held_out = table.held_out(recipe.data.held_out_every)
        if len(train_table) == 0:
            raise UserError(
                f"{root / part.annotations}: expected at least 2 images, found fewer",
                code="images-missing",
            )
        self.held_out = BoxedImages(held_out, images)
        self.train_parts = [BoxedImages(train_table, images, recipe.framing)]
        if more := recipe.data.partly_boxed:
            self.train_parts = [
                replace(self.train_parts[0], share=1 - more.share),
                BoxedImages(*_partly(more, root), more.framing, False, more.share),
            ]

    def parts(self) -> Iterator[tuple[str, BoxTable, str]]:
        """The name, the table and the hash of the images of each part."""
        names = ("validation", "training", "partly boxed")
        for name, part in zip(names, (self.held_out, *self.train_parts), strict=False):
            yield name, part.table, part.images.digest(part.table.file_names)

    def train_dataloader(self) -> DataLoader[DetectorSample]:
        settings = self.recipe.training
        parts = self.train_parts
        images = [len(part.table) for part in parts]
        samples = settings.samples_per_epoch or sum(images)
        shares = [part.share for part in parts]
        return DataLoader(
            DetectorDataset(parts, self.recipe.frame_wh),
            batch_size=min(settings.batch_size, samples),
            sampler=FrameSampler(images, samples, settings.seed, shares),
            drop_last=True,
        )

    def frames(self, metadata: DetectorMetadata) -> Iterator[Tensor]:
        """Batches of normalized training frames, for the statistics of BatchNorms."""
        normalize = Normalize(metadata.mean, metadata.std)
        for batch in islice(self.train_dataloader(), _UNFOLDING_BATCHES):
            yield normalize(batch.image)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, NDArray[np.float64]]]:
        side = self.recipe.side
        images = FullImages(DetectorDataset([self.held_out], (side, side)))
        return DataLoader(images, batch_size=16, collate_fn=_collate)


def _read(part: DataSet, root: Path) -> tuple[BoxTable, ImageFiles]:
    """Boxes and images. Logs what was left out; raises UserError where images are missing."""
    table = read_annotations(root / part.annotations).boxes()
    for line in note_lines(root / part.annotations, table.notes):
        logging.getLogger("hrpose").warning(line)
    images = ImageFiles(root / part.images)
    missing = [name for name in table.file_names if name not in images]
    if missing:
        raise UserError(
            f"{root / part.annotations}: {len(missing)} of {len(table)} images are not in "
            f"{root / part.images}, such as {missing[0]}",
            code="images-missing",
        )
    return table, images


def _partly(part: PartlyBoxed, root: Path) -> tuple[BoxTable, ImageFiles]:
    table, images = _read(part, root)
    try:
        chosen = table.without(part.without)
    except ValueError as error:
        raise UserError(f"data.partly_boxed.without: {error}", code="recipe-invalid") from error
    if len(chosen) == 0:
        raise UserError(
            f"{root / part.annotations}: expected images, found none", code="images-missing"
        )
    return chosen, images


class FullImages(Dataset[tuple[Tensor, NDArray[np.float64]]]):
    """Each image as a letterbox, uint8 (h, w, 3), with all its boxes (n, 4) in the input."""

    def __init__(self, dataset: DetectorDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, NDArray[np.float64]]:
        pixels, boxes = self.dataset.frame(FrameDraw(index))
        return torch.from_numpy(pixels), boxes


def _collate(
    images: Sequence[tuple[Tensor, NDArray[np.float64]]],
) -> tuple[Tensor, list[NDArray[np.float64]]]:
    return torch.stack([pixels for pixels, _ in images]), [boxes for _, boxes in images]
