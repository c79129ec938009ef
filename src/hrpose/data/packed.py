"""Packed data sets: one small image for each person, made once and read fast in every epoch.

A pack is a folder: `annotations.json` (a copy), `part-*.bin` (concatenated JPEG files), `index.npy`
(where each person's image is in the parts, and where it was in its source image) and `pack.json`
(the settings). A person's image covers every crop that training may draw, up to the edges of the
source image.

The JPEG files have a restart marker after every square of 16 x 16 pixels, so that the squares of
any rectangle, behind a header with their size, are a JPEG file again: a crop decodes only what it
shows. Its pixels are those of the full image, except for two along the cuts, where the decoder
smooths color over neighbors.
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

from hrpose.data.augmentation import Augmentation, half_body
from hrpose.data.coco import CocoAnnotations, read_annotations
from hrpose.data.images import ImageFiles, compare_sizes
from hrpose.data.persons import PersonTable
from hrpose.errors import UserError
from hrpose.geometry import Crop
from hrpose.image import MAX_BYTES, encode
from hrpose.io import read_json, write_atomically

PERSONS_IN_A_PART = 1000
MAX_PIXELS = 10_000_000
# The half-body crops that a pack covers.
PAPER = Augmentation()

# One row for each person: the part, the bytes in it, and the left, top and reduction that lead from
# the source image to the person's image.
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

# Pixels in a square's width and height, where color has half of the resolution.
SQUARE = 16
SMOOTHED = 2

# The markers that begin a frame and hold its size: SOF0 to SOF15 without DHT, JPG and DAC.
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_RESTART, _SCAN, _END = 0xD0, 0xDA, 0xD9


@dataclass(frozen=True, slots=True)
class PackSettings:
    """How a pack is made.

    A person's crop, at `padding` around the box, is stored with at least `height` pixels where the
    image has them: larger ones are reduced by a whole factor. `reach` is how much larger than the
    crop's diagonal the stored square is: 1 covers every rotation, 1.35 the paper's scale too, and
    the default a shift of 0.04 as well.
    """

    aspect: float = 0.75
    padding: float = 1.25
    height: int = 256
    reach: float = 1.6
    quality: int = 85


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """A part of an image, (h, w, 3) uint8 RGB, in which point p of the image is
    (p - origin) / shrunk.
    """

    image: NDArray[np.uint8]
    origin: tuple[float, float] = (0.0, 0.0)
    shrunk: int = 1


class Pack:
    """Reads the persons of a pack. Has no open file, so worker processes may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            document = read_json(folder / "pack.json")
            self.settings = PackSettings(**document["settings"])
            self.index = np.load(folder / "index.npy", mmap_mode="r", allow_pickle=False)
        except Exception as error:  # NumPy and Python may raise anything at damaged bytes
            raise _invalid(
                f"{folder}: expected a finished pack of `hrpose data pack`, found {error!r}"
            ) from error
        if self.index.dtype != INDEX or self.index.ndim != 1:
            raise _invalid(f"{folder / 'index.npy'}: expected the index of a pack")

    def check(self, table: PersonTable, where: object) -> None:
        """Raises UserError where `table` does not have the persons of the pack, in its order."""
        if not np.array_equal(self.index["annotation_id"], table.annotation_ids):
            raise UserError(
                f"{where}: expected the annotations that {self.folder} was made from "
                f"({len(self.index)} persons), found others ({len(table)}); "
                f"name {self.folder / 'annotations.json'}, or make the pack again",
                code="pack-unsuitable",
            )

    def digest(self) -> str:
        """A hash of the settings, and of where each person's image is."""
        content = json.dumps(asdict(self.settings)).encode() + self.index.tobytes()
        return hashlib.sha256(content).hexdigest()

    def lacks(
        self, input_wh: tuple[int, int], padding: float, augmentation: Augmentation
    ) -> list[str]:
        """What must change for the pack to cover such crops; empty where it does.

        Options of `hrpose data pack`, or a key of a recipe; a shift counts up to three times its
        standard deviation. Crops without augmentation are covered up to the pack's padding.
        """
        settings, a = self.settings, augmentation
        found = []
        if not math.isclose(aspect := input_wh[0] / input_wh[1], settings.aspect, rel_tol=0.01):
            found.append(f"--aspect {aspect:.4g}")
        height = math.ceil(input_wh[1] * settings.padding / padding - 1e-6)
        if height > settings.height:
            found.append(f"--height {height}")
        # Along each axis the center shifts by a part of the size, which is twice the radius.
        spread = 1 + a.scale + 2 * 3 * a.shift
        reach = spread * padding / settings.padding
        if a.half_body_probability > 0:
            reach = max(reach, spread * a.half_body_padding / PAPER.half_body_padding)
            if a.half_body_min_keypoints < PAPER.half_body_min_keypoints:
                least = PAPER.half_body_min_keypoints
                found.append(f"augmentation.half_body_min_keypoints={least}")
        if reach > settings.reach * (1 + 1e-6):
            found.append(f"--reach {math.ceil(100 * reach - 1e-6) / 100:g}")
        return found

    def read(self, person: int, crop: Crop | None = None) -> Cutout:
        """The image of a row of the table, or at least the part of it that `crop` shows."""
        row = self.index[person]
        path = part_file(self.folder, int(row["part"]))
        if row["offset"] < 0 or not 0 < row["length"] <= MAX_BYTES or row["shrunk"] < 1:
            raise _invalid(f"{self.folder / 'index.npy'}: person {person}: damaged")
        try:
            with path.open("rb") as file:
                file.seek(int(row["offset"]))
                content = file.read(int(row["length"]))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path}: cannot be read ({error}); make the pack again", code="file-unreadable"
            ) from error
        shrunk = int(row["shrunk"])
        # Each pixel is the mean of a square of pixels, whose center may be between two.
        half = (shrunk - 1) / 2
        origin = (int(row["left"]) + half, int(row["top"]) + half)
        if crop is not None:
            bounds = crop.inside(origin, shrunk).bounds(SMOOTHED + 1)
            if (part := rectangle(content, *bounds)) is not None:
                content, (x, y) = part
                origin = (origin[0] + x * shrunk, origin[1] + y * shrunk)
        return Cutout(_decode(content, f"{path}, person {person}"), origin, shrunk)


def _decode(content: bytes, label: str) -> NDArray[np.uint8]:
    """Decode a JPEG file of a pack, by OpenCV in half the time of `read_image`.

    Its size is read from the header first, as packs are untrusted and memory must stay bounded.
    """
    size = jpeg_size(content)
    if size is None or not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise _invalid(f"{label}: expected a JPEG image, found something else")
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise _invalid(f"{label}: expected a JPEG image, found a damaged one")
    return image  # type: ignore[return-value]


def _invalid(message: str) -> UserError:
    return UserError(f"{message}; make the pack again", code="pack-invalid")


def is_pack(path: str | Path) -> bool:
    """Whether a folder is a finished pack."""
    return (Path(path) / "pack.json").is_file()


def part_file(folder: Path, part: int) -> Path:
    """The images of one part."""
    return folder / f"part-{part:05d}.bin"


def write_pack(
    annotations: Path | CocoAnnotations,
    images: str | Path,
    out: Path,
    settings: PackSettings,
    workers: int = 1,
) -> Iterator[tuple[int, int]]:
    """Make a pack, part by part; yields (persons done, all persons) after each.

    Repeated after an interruption, it continues with the missing parts. Raises UserError where
    `out` has a pack made with other settings, or an image cannot be read.
    """
    file, source = read_annotations(annotations), ImageFiles(images)
    table, content = file.persons(), file.path.read_bytes()
    if not isinstance(annotations, Path):  # one of its categories
        content = json.dumps(file.part(file.images, file.annotations)).encode()
    compare_sizes(source, table.file_names, table.image_wh, file.path)
    plan = {
        "settings": asdict(settings),
        "persons": len(table),
        "annotations_sha256": hashlib.sha256(content).hexdigest(),
    }
    _same_plan(out, plan)
    write_atomically(out / "annotations.json", content)
    write_atomically(out / "plan.json", json.dumps(plan))
    # Sorted by image, so that each image is read once.
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
    saved = BytesIO()
    np.save(saved, index)
    write_atomically(out / "index.npy", saved.getvalue())
    write_atomically(out / "pack.json", json.dumps({"version": 1, **plan}, indent=2) + "\n")
    for number in range(len(parts)):
        _rows_file(out, number).unlink()
    (out / "plan.json").unlink()


def _same_plan(out: Path, plan: dict[str, Any]) -> None:
    if is_pack(out):
        raise UserError(
            f"{out}: has a finished pack already; choose another folder", code="folder-not-empty"
        )
    if not (out / "plan.json").is_file():
        return
    try:
        found = read_json(out / "plan.json")
    except UserError:
        found = None
    if found != plan:
        raise UserError(
            f"{out}: has an unfinished pack made with other settings or annotations; "
            "choose another folder",
            code="folder-not-empty",
        )


def _rows_file(out: Path, part: int) -> Path:
    """The index of one part; as it is written last, the part is complete where it exists."""
    return out / f"part-{part:05d}.rows.npy"


def _write_part(
    table: PersonTable, source: ImageFiles, out: Path, number: int, settings: PackSettings
) -> int:
    rows, offset = np.zeros(len(table), INDEX), 0
    contents: list[bytes] = []
    image, current = np.zeros((1, 1, 3), np.uint8), -1
    for person in range(len(table)):
        if (row := int(table.image_index[person])) != current:
            image, current = source.read(table.file_names[row].decode()), row
        left, top, shrunk, cutout = cut(image, *reach_of(table, person, settings), settings)
        encoded = encode_tiled(cutout, settings.quality)
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
    """A person's crop, and how far from its center training may crop, in pixels of the image.

    That is the radius of a circle around the crop at every rotation and scale, and around the crops
    of either half of the body.
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
    """The square of `reach` around the center of `crop`, up to the edges of the image.

    Returns its left and top in the image, the whole factor that it is reduced by, and its pixels.
    """
    limits = np.array(image.shape[1::-1])
    center = np.asarray(crop.center)
    # One more pixel on each side, as the warp interpolates.
    start = np.clip(np.floor(center - reach) - 1, 0, limits - 1).astype(int)
    end = np.clip(np.ceil(center + reach) + 2, start + 1, limits).astype(int)
    shrunk = int(min(max(1, crop.size[1] // settings.height), *(end - start)))
    w, h = (int(n) for n in (end - start) // shrunk)
    left, top = (int(n) for n in start)
    region = image[top : top + h * shrunk, left : left + w * shrunk]
    if shrunk > 1:
        region = cv2.resize(region, (w, h), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return left, top, shrunk, region


def encode_tiled(image: NDArray[np.uint8], quality: int) -> bytes:
    """(h, w, 3) uint8 RGB as a JPEG file with a restart marker after every square, 6 % larger."""
    settings = {
        cv2.IMWRITE_JPEG_QUALITY: quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
        cv2.IMWRITE_JPEG_RST_INTERVAL: 1,
    }
    return encode(image, ".jpg", settings)


def rectangle(
    content: bytes, left_top: tuple[int, int], right_bottom: tuple[int, int]
) -> tuple[bytes, tuple[int, int]] | None:
    """A file of `encode_tiled` with only the squares of a rectangle, and the position (x, y) of its
    first pixel in the full image. The rectangle may reach beyond the image.

    None for other JPEG files, and where the rectangle is outside the image.
    """
    header = _header(content)
    if header is None:
        return None
    size_at, scan, size = header
    columns, rows = (-(-length // SQUARE) for length in size)
    x0, y0 = (max(0, length // SQUARE) for length in left_top)
    x1, y1 = (-(-length // SQUARE) for length in right_bottom)
    x1, y1 = min(x1, columns), min(y1, rows)
    data = np.frombuffer(content, np.uint8)
    # 0xff in compressed data is always followed by 0: whatever looks like a marker is one.
    restarts = (data[scan:-1] == 0xFF) & (data[scan + 1 :] & 0xF8 == _RESTART)
    bounds = np.concatenate([[scan], np.flatnonzero(restarts) + scan + 2, [len(content)]])
    if len(bounds) != columns * rows + 1 or x0 >= x1 or y0 >= y1:
        return None
    x0 = max(0, min(x0, columns - 2))  # images a few pixels wide are not smoothed at all
    # Squares of a row are consecutive; each ends with a marker, the last one with that of the end.
    first = np.arange(y0, y1) * columns + x0
    strips = [data[i:j] for i, j in zip(bounds[first], bounds[first + x1 - x0], strict=True)]
    squares = (first[:, None] + np.arange(x1 - x0)).ravel()
    markers = np.cumsum(bounds[squares + 1] - bounds[squares]) - 1
    joined = np.concatenate(strips)
    joined[markers] = _RESTART + np.arange(len(squares)) % 8
    joined[-1] = _END
    left, top = x0 * SQUARE, y0 * SQUARE
    width, height = min(x1 * SQUARE, size[0]) - left, min(y1 * SQUARE, size[1]) - top
    shape = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return (content[:size_at] + shape + content[size_at + 4 : scan] + joined.tobytes(), (left, top))


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """(w, h) from the header of a JPEG file, None where there is none."""
    header = _header(content)
    return None if header is None else header[2]


def _header(content: bytes) -> tuple[int, int, tuple[int, int]] | None:
    """The offset of the size, the offset of the compressed data, and the size (w, h)."""
    position, frame = 2, 0
    while content[:2] == b"\xff\xd8" and position + 9 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker in _FRAMES:
            frame = position + 5
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        if marker == _SCAN and frame:
            height, width = (int.from_bytes(content[i : i + 2], "big") for i in (frame, frame + 2))
            return frame, position, (width, height)
    return None
