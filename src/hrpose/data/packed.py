"""A data set as one small image for each person: made once, read quickly in every epoch.

A pack is a folder: `annotations.json` (as it was), `part-*.bin` (JPEG files one behind the other),
`index.npy` (where each person's image is, and where it lay in its image) and `pack.json` (how it
was made). What training may draw of a person is in the person's image, as far as the image
goes.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.data import tiled_jpeg
from hrpose.data.augmentation import Augmentation, half_body
from hrpose.data.coco import load_persons, read_json
from hrpose.data.images import ImageFiles
from hrpose.data.persons import PersonTable
from hrpose.errors import UserError
from hrpose.geometry import Crop
from hrpose.image import MAX_BYTES
from hrpose.io import write_atomically

PERSONS_IN_A_PART = 1000
MAX_PIXELS = 10_000_000
# The half-body crops that a pack has room for.
PAPER = Augmentation()

# One row for each person: the part, where its bytes lie, and the left, top and shrinking factor
# that lead from the image to the person's image.
INDEX = np.dtype(
    [
        ("part", "i4"),
        ("offset", "i8"),
        ("length", "i4"),
        ("left", "i4"),
        ("top", "i4"),
        ("shrunk", "i4"),
        ("annotation_id", "i8"),
    ]
)


@dataclass(frozen=True, slots=True)
class PackSettings:
    """How a pack is made.

    A person's crop, at `padding` around the box, is stored with at least `height` pixels where the
    image has them: larger ones are shrunk by a whole factor. `reach` is how much larger than the
    crop's diagonal the stored square is: 1 for every rotation, 1.35 for the paper's scale too, and
    the default has room for a shift of 0.04 as well.
    """

    aspect: float = 0.75
    padding: float = 1.25
    height: int = 256
    reach: float = 1.6
    quality: int = 85


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """A part of an image, (h, w, 3) uint8 RGB, and how to find it: a point p of the image is
    (p - origin) / shrunk in it.
    """

    image: NDArray[np.uint8]
    origin: tuple[float, float] = (0.0, 0.0)
    shrunk: int = 1


class Pack:
    """Reads the people of a pack. Holds no open file: worker processes may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            document = read_json(folder / "pack.json")
            self.settings = PackSettings(**document["settings"])
            self.index = np.load(folder / "index.npy", mmap_mode="r", allow_pickle=False)
        except Exception as error:  # NumPy and Python may raise anything at damaged bytes
            raise UserError(
                f"{folder}: expected a finished pack of `hrpose data pack`, found {error!r}; "
                "run it again, it goes on where it stopped"
            ) from error
        if self.index.dtype != INDEX or self.index.ndim != 1:
            raise UserError(f"{folder / 'index.npy'}: expected the index of a pack; make it again")

    def check(self, table: PersonTable, where: object) -> None:
        """The rows of `table` must be the people of the pack, in its order."""
        if not np.array_equal(self.index["annotation_id"], table.annotation_ids):
            raise UserError(
                f"{where}: expected the annotations that {self.folder} was made from "
                f"({len(self.index)} people), found others ({len(table)}); "
                f"name {self.folder / 'annotations.json'}, or make the pack again"
            )

    def lacks(
        self, input_wh: tuple[int, int], padding: float, augmentation: Augmentation
    ) -> list[str]:
        """What would have to be otherwise for such crops to find in it all that they show.

        Options of `hrpose data pack`, or a key of a recipe; a shift counts up to three times its
        standard deviation. Nothing for crops that are not augmented up to the pack's padding.
        """
        settings, a = self.settings, augmentation
        found = []
        if not math.isclose(aspect := input_wh[0] / input_wh[1], settings.aspect, rel_tol=0.01):
            found.append(f"--aspect {aspect:.4g}")
        height = math.ceil(input_wh[1] * settings.padding / padding - 1e-6)
        if height > settings.height:
            found.append(f"--height {height}")
        # Along each axis the center strays by a part of the size, which is twice the radius.
        strays = 1 + a.scale + 2 * 3 * a.shift
        reach = strays * padding / settings.padding
        if a.half_body_probability > 0:
            reach = max(reach, strays * a.half_body_padding / PAPER.half_body_padding)
            if a.half_body_min_keypoints < PAPER.half_body_min_keypoints:
                least = PAPER.half_body_min_keypoints
                found.append(f"augmentation.half_body_min_keypoints={least}")
        if reach > settings.reach * (1 + 1e-6):
            found.append(f"--reach {math.ceil(100 * reach - 1e-6) / 100:g}")
        return found

    def read(self, person: int, crop: Crop | None = None) -> Cutout:
        """The image of a row of the table; of it at least what `crop` of the image shows."""
        row = self.index[person]
        path = part_file(self.folder, int(row["part"]))
        if row["offset"] < 0 or not 0 < row["length"] <= MAX_BYTES or row["shrunk"] < 1:
            raise UserError(
                f"{self.folder / 'index.npy'}: person {person}: damaged; make the pack again"
            )
        try:
            with path.open("rb") as file:
                file.seek(int(row["offset"]))
                content = file.read(int(row["length"]))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({error}); make the pack again") from error
        shrunk = int(row["shrunk"])
        # Shrinking takes the mean of squares of pixels; their centers lie between the pixels.
        middle = (shrunk - 1) / 2
        origin = (int(row["left"]) + middle, int(row["top"]) + middle)
        if crop is not None:
            bounds = crop.inside(origin, shrunk).bounds(tiled_jpeg.SMOOTHED + 1)
            if (part := tiled_jpeg.rectangle(content, *bounds)) is not None:
                content, (x, y) = part
                origin = (origin[0] + x * shrunk, origin[1] + y * shrunk)
        return Cutout(_decode(content, f"{path}, person {person}"), origin, shrunk)


def _decode(content: bytes, label: str) -> NDArray[np.uint8]:
    """A JPEG file as a pack has it: OpenCV reads it in half the time of `read_image`.

    Its size is read from the header first, so that a pack of unknown origin stays bounded.
    """
    size = tiled_jpeg.jpeg_size(content)
    if size is None or not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise UserError(f"{label}: expected a JPEG image, found something else; make it again")
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise UserError(f"{label}: expected a JPEG image, found a damaged one; make it again")
    return image  # type: ignore[return-value]


def is_pack(place: str | Path) -> bool:
    """Whether a place of images is a finished pack."""
    return (Path(place) / "pack.json").is_file()


def part_file(folder: Path, part: int) -> Path:
    """The images of one part."""
    return folder / f"part-{part:05d}.bin"


def write_pack(
    annotations: Path, images: str | Path, out: Path, settings: PackSettings, workers: int = 1
) -> Iterator[tuple[int, int]]:
    """Make a pack, part by part; yields (people done, people in all) after each.

    Stopped, it goes on where it was: parts that are there are not made again. Raises UserError
    where `out` holds a pack made otherwise, or an image cannot be read.
    """
    table, source = load_persons(annotations), ImageFiles(images)
    plan = {
        "settings": asdict(settings),
        "persons": len(table),
        "annotations_sha256": hashlib.sha256(annotations.read_bytes()).hexdigest(),
    }
    _same_plan(out, plan)
    write_atomically(out / "annotations.json", annotations.read_bytes())
    write_atomically(out / "plan.json", json.dumps(plan))
    # People of one image lie side by side, so that it is read once.
    order = np.argsort(table.image_index, kind="stable")
    parts = [order[i : i + PERSONS_IN_A_PART] for i in range(0, len(order), PERSONS_IN_A_PART)]
    todo = [number for number in range(len(parts)) if not _rows_file(out, number).is_file()]
    done = len(table) - sum(len(parts[number]) for number in todo)
    yield done, len(table)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(_write_part, table.select(parts[n]), source, out, n, settings) for n in todo
        ]
        try:
            for job in jobs:
                done += job.result()
                yield done, len(table)
        finally:
            pool.shutdown(cancel_futures=True)
    index = np.zeros(len(table), INDEX)
    for number, persons in enumerate(parts):
        index[persons] = np.load(_rows_file(out, number), allow_pickle=False)
    content = BytesIO()
    np.save(content, index)
    write_atomically(out / "index.npy", content.getvalue())
    write_atomically(out / "pack.json", json.dumps({"version": 1, **plan}, indent=2) + "\n")
    for number in range(len(parts)):
        _rows_file(out, number).unlink()
    (out / "plan.json").unlink()


def _same_plan(out: Path, plan: dict[str, Any]) -> None:
    if is_pack(out):
        raise UserError(f"{out}: holds a finished pack already; choose another folder")
    if not (out / "plan.json").is_file():
        return
    try:
        found = read_json(out / "plan.json")
    except UserError:
        found = None
    if found != plan:
        raise UserError(
            f"{out}: holds the beginning of a pack made with other settings or annotations; "
            "choose another folder"
        )


def _rows_file(out: Path, part: int) -> Path:
    """The index of one part; it is written last, so that it says that the part is whole."""
    return out / f"part-{part:05d}.rows.npy"


def _write_part(
    table: PersonTable, source: ImageFiles, out: Path, number: int, settings: PackSettings
) -> int:
    rows, offset = np.zeros(len(table), INDEX), 0
    contents: list[bytes] = []
    image, shown = np.zeros((1, 1, 3), np.uint8), -1
    for person in range(len(table)):
        if (row := int(table.image_index[person])) != shown:
            image, shown = source.read(table.file_names[row].decode()), row
        left, top, shrunk, cutout = cut(image, *reach_of(table, person, settings), settings)
        encoded = tiled_jpeg.encode(cutout, settings.quality)
        annotation_id = table.annotation_ids[person]
        rows[person] = number, offset, len(encoded), left, top, shrunk, annotation_id
        contents.append(encoded)
        offset += len(encoded)
    write_atomically(part_file(out, number), b"".join(contents))
    content = BytesIO()
    np.save(content, rows)
    write_atomically(_rows_file(out, number), content.getvalue())
    return len(table)


def reach_of(table: PersonTable, person: int, settings: PackSettings) -> tuple[Crop, float]:
    """A person's crop, and how far from its center a training may look, in pixels of the image.

    That is the circle around the crop at every rotation and scale, and around the crops of either
    half of the body.
    """
    input_wh = (round(1000 * settings.aspect), 1000)
    crop = Crop.from_box(table.boxes[person], input_wh, settings.padding)
    keypoints, skeleton = table.keypoints[person], table.skeleton
    halves = [
        half_body(crop, keypoints, skeleton, PAPER, prefer_upper=upper) for upper in (True, False)
    ]
    reach = max(
        math.dist(crop.center, other.center) + settings.reach * math.hypot(*other.size) / 2
        for other in (crop, *halves)
    )
    return crop, reach


def cut(
    image: NDArray[np.uint8], crop: Crop, reach: float, settings: PackSettings
) -> tuple[int, int, int, NDArray[np.uint8]]:
    """The square of `reach` around the center of `crop`, as far as the image goes.

    Returns its left and top in the image, the whole factor it was shrunk by, and its pixels.
    """
    limits = np.array(image.shape[1::-1])
    center = np.asarray(crop.center)
    # A pixel more on each side, because the warp reads between two.
    start = np.clip(np.floor(center - reach) - 1, 0, limits - 1).astype(int)
    end = np.clip(np.ceil(center + reach) + 2, start + 1, limits).astype(int)
    shrunk = int(min(max(1, crop.size[1] // settings.height), *(end - start)))
    w, h = (int(n) for n in (end - start) // shrunk)
    left, top = (int(n) for n in start)
    region = image[top : top + h * shrunk, left : left + w * shrunk]
    if shrunk > 1:
        region = cv2.resize(region, (w, h), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return left, top, shrunk, region
