"""From an image with every person boxed to a training or validation sample of the person detector."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from hrpose.data.augmentation import photometric
from hrpose.data.dataset import Epochs
from hrpose.data.images import ImageFiles
from hrpose.data.persons import BoxTable
from hrpose.detection import person_detector
from hrpose.geometry import Crop, clip_boxes, transform_boxes, warp

# Lower people, in input pixels, are neither people nor background: too hard to see for a small
# network. The same goes for people of whom less than this part is inside.
LOWEST, NARROWEST = 12.0, 4.0
LEAST_INSIDE = 0.3
# Decoded images that are kept from one epoch to the next; beyond it they are decoded again.
KEPT_BYTES = 512 << 20
# Lower people, relative to the image's longer side, would be blurred in a frame of their own.
CLOSE_UP = 0.2


class DetectorSample(NamedTuple):
    """One frame as the network sees it; after collation, a batch with a leading n.

    `image` uint8 (h, w, 3) RGB. The rest is on the maps' cells: `heat` (h/4, w/4), `distances`
    (4, h/4, w/4) and `weights` (h/4, w/4) as in `centers.Targets`; `counts` (h/4, w/4) is 0 where
    neither a person nor background is to be learned, else 1.
    """

    image: Tensor
    heat: Tensor
    distances: Tensor
    weights: Tensor
    counts: Tensor


class FrameDraw(NamedTuple):
    """Which image, and the seed of the frame's generator; no seed means the full image."""

    image: int
    seed: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Framing:
    """How far training frames stray. `zoom`: the frame's width relative to the image's longer
    side, drawn log-uniformly from this range. `close`: the probability of a frame around one of
    the people instead, as portraits are taken. `photometric` as in `hrpose.data.augmentation`.
    """

    zoom: tuple[float, float] = (0.45, 1.2)
    close: float = 0.0
    photometric: float = 0.4


@dataclass(frozen=True, slots=True)
class BoxedImages:
    """The images of a table, how far frames of them stray, and the share of frames from them.

    `complete`: every person in them is boxed. Otherwise only what is inside a box is learned from.
    """

    table: BoxTable
    images: ImageFiles
    framing: Framing = Framing()
    complete: bool = True
    share: float = 1.0


class DetectorDataset(Dataset[DetectorSample]):
    """The images of all parts, one part after the other, as samples, indexed by `FrameDraw`.

    Those of complete parts are decoded once and kept, up to `KEPT_BYTES` in each process; the
    others may be too many.
    """

    def __init__(self, parts: Sequence[BoxedImages], input_wh: tuple[int, int]) -> None:
        self.parts = parts
        self.input_wh = input_wh
        self._rows = [(part, row) for part in parts for row in range(len(part.table))]
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._room = KEPT_BYTES

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, draw: FrameDraw) -> DetectorSample:
        pixels, boxes = self.frame(draw)
        part, _ = self._rows[draw.image]
        targets, counts = learnable(boxes, self.input_wh, part.complete)
        return DetectorSample(*(torch.from_numpy(array) for array in (pixels, *targets, counts)))

    def frame(self, draw: FrameDraw) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The input's pixels (h, w, 3), and all boxes (n, 4) in it, which may reach outside."""
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
        if image in self._kept:
            return self._kept[image]
        pixels = part.images.read(part.table.file_names[row])
        if part.complete and pixels.nbytes <= self._room:
            self._kept[image] = pixels
            self._room -= pixels.nbytes
        return pixels


class FrameSampler(Epochs, Sampler[FrameDraw]):
    """Draws `samples` frames an epoch; every epoch has other ones, the same in every run.

    `images` is how many there are in each part, `shares` how often frames are drawn from it.
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
    """A frame of the input's proportions: inside the image along an axis where it is smaller,
    around it where it is larger; mirrored half of the time.
    """
    # Every number is drawn whether it is used or not, so that one choice never shifts the others.
    zoom, across, down, mirror, close, who = rng.uniform(size=6)
    image, part = np.array(image_wh, np.float64), np.array([across, down])
    proportions = np.array([1.0, input_wh[1] / input_wh[0]])
    tall = boxes[boxes[:, 3] >= CLOSE_UP * max(image_wh)]
    if close < framing.close and len(tall):
        x, y, w, h = tall[int(who * len(tall))]
        # The person takes a third of the frame, or all of it and a little more.
        low, high = np.log(0.9), np.log(3.0)
        size = proportions * max(w, h / proportions[1]) * np.exp(low + zoom * (high - low))
        middle = np.array([x + w / 2, y + h / 2]) + (part - 0.5) * 0.6 * size
    else:
        low, high = np.log(framing.zoom)
        size = proportions * max(image_wh) * np.exp(low + zoom * (high - low))
        middle = image / 2 + (part - 0.5) * np.abs(image - size)
    room = np.abs(image - size) / 2
    x, y = np.clip(middle, image / 2 - room, image / 2 + room)
    width, height = size
    center = (float(x), float(y))
    return Crop(center, (float(width), float(height)), input_wh, mirrored=bool(mirror < 0.5))


def learnable(
    boxes: NDArray[np.float64], input_wh: tuple[int, int], complete: bool = True
) -> tuple[person_detector.Targets, NDArray[np.float32]]:
    """The targets of boxes (n, 4) in the input, cut at its edges, and where they count: nowhere
    outside them where the boxes are not `complete`.
    """
    seen = clip_boxes(boxes, input_wh)
    inside = seen[:, 2:].prod(axis=1) / np.maximum(boxes[:, 2:].prod(axis=1), 1e-9)
    persons = (inside >= LEAST_INSIDE) & (seen[:, 2:] >= (NARROWEST, LOWEST)).all(axis=1)
    targets = person_detector.encode(seen[persons], input_wh)
    counts = np.full_like(targets.heat, float(complete))
    cells = seen / person_detector.STRIDE
    for known, part in ((1, cells[persons]), (0, cells[~persons])):
        for x, y, w, h in part:
            counts[int(y) : int(np.ceil(y + h)), int(x) : int(np.ceil(x + w))] = known
    # What a person teaches counts even where somebody else is hidden behind.
    counts[targets.weights > 0] = 1
    return targets, counts
