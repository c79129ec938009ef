"""The dataset and samplers: from a row of a `PersonTable` to a training or evaluation sample.

The dataset is a pure function of a `Draw`; all randomness is in the seeds that the sampler draws. A
sample therefore does not depend on the number of workers, nor on which one makes it.
"""

import errno
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from hrpose.data.augmentation import Augmentation, draw_crop, photometric
from hrpose.data.images import ImageFiles, check_size, compare_sizes
from hrpose.data.packed import Cutout, Pack, is_pack
from hrpose.data.persons import PersonTable
from hrpose.errors import UserError
from hrpose.geometry import Crop, transform, warp

# Seconds between attempts to read an image.
_PAUSES = (0.1, 1.0)
# Errors of the system that waiting does not change.
_PERMANENT = (
    *(None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EACCES, errno.EPERM),
)


class Cutouts(Protocol):
    """The images of the persons of a table, by row."""

    def read(self, person: int, crop: Crop | None = None) -> Cutout:
        """The part of the image that `crop` shows, or all of it; without, that of every crop."""
        ...

    def digest(self) -> str:
        """A hash that tells other images from these, by names and sizes of files alone."""
        ...


def read_with_retries(cutouts: Cutouts, person: int, crop: Crop) -> Cutout:
    """`cutouts.read`, repeated after a moment where the disk failed.

    Network disks fail for moments, which must not end a training of days. Raises UserError where
    the image stays unreadable, and at once where waiting cannot help: it is missing, forbidden or
    damaged.
    """
    for pause in _PAUSES:
        try:
            return cutouts.read(person, crop)
        except UserError as error:
            if not _is_temporary(error.__cause__):
                raise
            time.sleep(pause)
    return cutouts.read(person, crop)


def _is_temporary(cause: BaseException | None) -> bool:
    """Whether a read may succeed later; decoders raise OSError without a number."""
    return isinstance(cause, OSError) and cause.errno not in _PERMANENT


class Images:
    """The full images, from a folder or a zip file."""

    def __init__(self, table: PersonTable, source: ImageFiles) -> None:
        self.table = table
        self.source = source

    def read(self, person: int, crop: Crop | None = None) -> Cutout:
        """The person's image. Raises UserError where it has another size than in the table."""
        name = self.table.image_name(person)
        image = self.source.read(name)
        check_size(image, self.table.image_wh[self.table.image_index[person]], name)
        return Cutout(image)

    def digest(self) -> str:
        """A hash of the names and the sizes in bytes of the persons' images."""
        used = self.table.file_names[np.unique(self.table.image_index)]
        return self.source.digest(name.decode() for name in used.tolist())


def open_cutouts(path: str | Path, table: PersonTable, where: object = "annotations") -> Cutouts:
    """Open a folder, a zip file or a pack that has the image of every person.

    Raises UserError where one is missing, and where images have another size than in the table;
    `where` names the annotations in the message.
    """
    if is_pack(path):
        pack = Pack(Path(path))
        pack.check(table, where)
        return pack
    source = ImageFiles(path)
    rows = np.unique(table.image_index)
    used = table.file_names[rows]
    missing = [name.decode() for name in used if name.decode() not in source]
    if missing:
        raise UserError(
            f"{where}: {len(missing)} of {len(used)} images are not in {path}, "
            f"such as {missing[0]}",
            code="images-missing",
        )
    compare_sizes(source, used, table.image_wh[rows], where)
    return Images(table, source)


class Draw(NamedTuple):
    """Which person, and the seed of the sample's generator; no seed means no augmentation."""

    person: int
    seed: tuple[int, ...] | None = None


class Sample(NamedTuple):
    """One person as the network sees it; after collation, a batch with a leading n.

    `image` uint8 (h, w, 3) RGB, `points` float32 (k, 2) in input pixels, `visible` float32 (k,) 1
    where labeled, `trust` float32 (), `person` int64 () the row in the table, `to_image` float64
    (2, 3) from input to image pixels.

    With `crop_to_source`, float64 (2, 3) from input pixels to pixels of `image`, the image is not
    warped yet; in a batch it is padded with black.
    """

    image: Tensor
    points: Tensor
    visible: Tensor
    trust: Tensor
    person: Tensor
    to_image: Tensor
    crop_to_source: Tensor | None = None


class PoseDataset(Dataset[Sample]):
    """The persons of a table as samples, indexed by `Draw`.

    `warped` False leaves the warp to the device (`hrpose.training.module`).
    """

    def __init__(
        self,
        table: PersonTable,
        cutouts: Cutouts,
        input_wh: tuple[int, int],
        padding: float = 1.25,
        augmentation: Augmentation | None = None,
        unit_lengths: bool = False,
        warped: bool = True,
    ) -> None:
        self.table = table
        self.cutouts = cutouts
        self.input_wh = input_wh
        self.padding = padding
        self.augmentation = augmentation or Augmentation()
        self.unit_lengths = unit_lengths
        self.warped = warped

    def __len__(self) -> int:
        return len(self.table)

    def crop_of(self, draw: Draw) -> tuple[Crop, np.random.Generator | None]:
        """The crop of a draw, and the generator for the photometric changes."""
        crop = Crop.from_box(
            self.table.boxes[draw.person],
            self.input_wh,
            self.padding,
            unit_lengths=self.unit_lengths,
        )
        if draw.seed is None:
            return crop, None
        rng = np.random.default_rng(draw.seed)
        keypoints = self.table.keypoints[draw.person]
        return draw_crop(crop, keypoints, self.table.skeleton, self.augmentation, rng), rng

    def __getitem__(self, draw: Draw) -> Sample:
        crop, rng = self.crop_of(draw)
        cutout = read_with_retries(self.cutouts, draw.person, crop)
        inside, image = crop.inside(cutout.origin, cutout.shrunk), cutout.image
        crop_to_source = None
        if self.warped:
            image = warp(image, inside)
            if rng is not None:
                image = photometric(image, self.augmentation.photometric, rng)
        else:
            crop_to_source = torch.from_numpy(inside.inverse_matrix)
        points, visible = self._keypoints(draw.person, crop)
        return Sample(
            torch.from_numpy(image),
            torch.from_numpy(points),
            torch.from_numpy(visible),
            torch.tensor(float(self.table.trust[draw.person])),  # faster than from NumPy's number
            torch.tensor(draw.person),
            torch.from_numpy(crop.inverse_matrix),
            crop_to_source,
        )

    def _keypoints(
        self, person: int, crop: Crop
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        keypoints = self.table.keypoints[person]
        if crop.mirrored:
            keypoints = keypoints[self.table.skeleton.flip_permutation]
        points = transform(keypoints[:, :2], crop.matrix).astype(np.float32)
        return points, (keypoints[:, 2] > 0).astype(np.float32)


class Epochs:
    """The part of a sampler that has the epoch, and how much of it was drawn already."""

    def __init__(self) -> None:
        self.epoch = 0
        self._resumed = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Start an epoch; the trainer calls it."""
        self.epoch = epoch

    def resume(self, epoch: int, draws: int) -> None:
        """Skip the first `draws` of this epoch, which were drawn before the training stopped."""
        self.epoch, self._resumed = epoch, (epoch, draws)

    @property
    def start(self) -> int:
        """The first draw of the current epoch."""
        epoch, draws = self._resumed
        return draws if epoch == self.epoch else 0


class TrainingSampler(Epochs, Sampler[Draw]):
    """`samples` draws in each epoch, in proportion to the persons' weights.

    With equal weights every person is drawn once before any is drawn again. The order and the seeds
    depend on (seed, epoch) alone. Of n processes each takes every nth draw, all of them equally
    many: together their batches are those of a single process.
    """

    def __init__(
        self,
        weights: NDArray[np.float64],
        seed: int,
        samples: int | None = None,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        super().__init__()
        self.weights = weights / weights.sum()
        self.seed = seed
        self.samples = samples or len(weights)
        self.rank, self.processes = rank, processes

    def __len__(self) -> int:
        return self.samples // self.processes

    def __iter__(self) -> Iterator[Draw]:
        rng = np.random.default_rng((self.seed, self.epoch))
        # Systematic sampling: only the fractional part of a person's share is random.
        ends = np.cumsum(self.weights[(shuffled := rng.permutation(len(self.weights)))])
        positions = (np.arange(self.samples) + rng.uniform()) / self.samples
        persons = shuffled[np.searchsorted(ends, positions * ends[-1], side="right")]
        persons = rng.permutation(persons)
        mine = range(self.rank, len(self) * self.processes, self.processes)
        for position in mine[self.start :]:
            yield Draw(int(persons[position]), (self.seed, self.epoch, position))


class EvaluationSampler(Sampler[Draw]):
    """Every person once, in the table's order, without augmentation.

    Of n processes each takes every nth person.
    """

    def __init__(self, count: int, rank: int = 0, processes: int = 1) -> None:
        self.persons = range(rank, count, processes)

    def __len__(self) -> int:
        return len(self.persons)

    def __iter__(self) -> Iterator[Draw]:
        return map(Draw, self.persons)


def sampling_weights(table: PersonTable, by_source: dict[str, float]) -> NDArray[np.float64]:
    """(n,): how often each person is drawn; `by_source` gives the persons of a source their weight.

    Raises UserError where no person would be drawn.
    """
    weights = np.ones(len(table), np.float64)
    sources = table.person_sources()
    for source, weight in by_source.items():
        weights[sources == source.encode()] = weight
    if not weights.any():
        raise UserError(
            f"data.sampling: expected a weight above 0, found 0 for all {len(table)} persons to "
            "train on",
            code="recipe-invalid",
        )
    return weights


def collate(samples: Sequence[Sample]) -> Sample:
    """Stack samples into a batch; images that are not warped yet are padded to one size."""
    images, *fields, crop_to_source = zip(*samples, strict=True)
    if crop_to_source[0] is None:
        return Sample(torch.stack(images), *map(torch.stack, fields))
    height, width = (-(-max(image.shape[axis] for image in images) // 32) * 32 for axis in (0, 1))
    canvas = torch.zeros((len(images), height, width, 3), dtype=torch.uint8)
    for area, image in zip(canvas, images, strict=True):
        area[: image.shape[0], : image.shape[1]] = image
    return Sample(canvas, *map(torch.stack, fields))._replace(
        crop_to_source=torch.stack(crop_to_source)
    )
