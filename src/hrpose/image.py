"""Images as users give them, read within bounds as upright RGB pixels, and encoding images."""

from __future__ import annotations  # so that help() shows the names of types, not their contents

import contextlib
import io
import logging
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from hrpose.errors import UserError
from hrpose.file_kinds import COMMON_FORMATS, ImageError, other_formats, unsupported_image
from hrpose.image_formats import read_tags, to_8_bits, without_pixels
from hrpose.image_inputs import (
    fetch,
    from_array,
    from_tensor,
    is_address,
    is_tensor,
    name_of,
    read_object,
    unknown_image,
)
from hrpose.io import printable, read_file, without_secrets

MAX_BYTES = 200_000_000
MAX_PIXELS = 100_000_000

# The suffixes of the files that `encode` writes.
WRITABLE = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

# The transposition that turns an image upright, by its EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
# TIFF's tags of the stored size.
_WIDTH, _HEIGHT = ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength
# Formats that may have 16 bits a channel, and those whose further images are frames in time.
_DEEP = ("PNG", "TIFF", "PPM", "JPEG2000")
_ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")

# Notes on images that were read all the same, as (name, note).
_log = logging.getLogger(__name__)

# Python's warning filters belong to the whole process, so only one thread may change them. Nothing
# that takes long is done while the lock is held: other threads are decoding.
_filters = threading.Lock()


File = str | Path | bytes
# What a user may give for an image: a path, an address, bytes, a file object, a PIL image, an array
# or a tensor. It cannot be written as a type without PyTorch.
AnyImage = Any
# One of these, or several: a list, a folder, a pattern, a generator.
AnyImages = Any


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ImageSource:
    """One image as a user gave it: a `Path`, the bytes of a file, or pixels of any kind.

    `given` is kept, not copied: a path costs nothing, pixels stay in memory as long as this does.
    `name` is the file's or the address's, "" for pixels. `bgr` says that arrays are in the order of
    OpenCV. Pixels are left out of pickles.
    """

    given: Any
    name: str = ""
    bgr: bool = False

    @classmethod
    def of(cls, given: Any, bgr: bool = False) -> ImageSource:
        """Check the kind of what was given; file objects are read, addresses are fetched.

        Raises UserError that says what is accepted, and where a file or address cannot be read.
        """
        if isinstance(given, ImageSource):
            return given
        if isinstance(given, str) and is_address(given):
            source = cls(fetch(given, MAX_BYTES), without_secrets(given))
        elif isinstance(given, str | os.PathLike):
            path = Path(os.fsdecode(given))
            source = cls(path, str(path))
        elif isinstance(given, bytes | bytearray | memoryview):
            source = cls(bytes(given))
        elif isinstance(given, np.ndarray | Image.Image) or is_tensor(given):
            return cls(given, str(getattr(given, "filename", "")), bgr)
        elif callable(getattr(given, "read", None)):
            source = cls(read_object(given, MAX_BYTES), name_of(given))
        elif hasattr(given, "__array__"):
            return cls(np.asarray(given), "", bgr)
        else:
            raise unknown_image(given)
        if bgr:
            raise UserError(
                f"bgr: is for arrays and tensors, found {source.name or 'the bytes of a file'}, "
                "whose order is known; leave it out",
                code="option-conflict",
            )
        return source

    def content(self) -> NDArray[np.uint8] | Path | bytes:
        """The pixels (h, w, 3) uint8 RGB, or the file or its bytes, which are not decoded here.

        Raises UserError, with the remedy, for pixels of another shape or type.
        """
        given = self.given
        if isinstance(given, Path | bytes):
            return given
        if isinstance(given, Image.Image):
            return from_pillow(given, self.name or None)
        if isinstance(given, np.ndarray):
            pixels = from_array(given)
        elif given is None:
            raise UserError(
                "these poses came without their image from another process; give draw its pixels",
                code="image-missing",
            )
        else:
            pixels = from_tensor(given)
        return np.ascontiguousarray(pixels[..., ::-1]) if self.bgr else pixels

    def pixels(self, bit_depth: int | None = None) -> NDArray[np.uint8]:
        """The upright image (h, w, 3) uint8 RGB; a file is read, with the `bit_depth` of
        `read_image`. Raises UserError as `content`.
        """
        content = self.content()
        if isinstance(content, np.ndarray):
            return content
        return read_image(content, self.name or None, bit_depth=bit_depth)

    def __repr__(self) -> str:
        kind = type(self.given).__name__
        shape = "" if (found := getattr(self.given, "shape", None)) is None else f" {tuple(found)}"
        return f"ImageSource({self.name or kind + shape})"

    def __reduce__(self) -> tuple[Any, ...]:
        given = self.given if isinstance(self.given, Path) else None
        return type(self), (given, self.name, self.bgr)


def read_image(
    source: str | PathLike[str] | bytes,
    name: str | None = None,
    *,
    bit_depth: int | None = None,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """An image as (h, w, 3) uint8 RGB, upright, from a path or from the bytes of a file.

    The first image of a file with several. The EXIF orientation is honored, transparency shown
    on white; color profiles are not applied. More than 8 bits a channel are scaled from `bit_depth`
    bits, 1 to 16, by default those that the file's values have (`hrpose.image_formats.scaling_of`).
    The logger `hrpose.image` notes such a scaling, and that a file has further images, at level
    INFO. `name` stands in messages for bytes.

    Raises UserError, naming the file, where it cannot be read, is not of
    `hrpose.file_kinds.FORMATS`, is damaged or cut off, or has more than `max_bytes` or
    `max_pixels`; both are checked before decoding.
    """
    label = _label(source, name)
    data = _content(source, label, max_bytes)
    with _open(data, label, max_pixels) as image:
        return _decoded(image, data, label, bit_depth)


def open_image(source: str | PathLike[str] | bytes, name: str | None = None) -> Image.Image:
    """A file's image, not decoded yet. Raises as `image_size` does."""
    label = _label(source, name)
    return _open(_content(source, label, MAX_BYTES), label, MAX_PIXELS)


def from_pillow(image: Image.Image, name: str | None = None) -> NDArray[np.uint8]:
    """A Pillow image of any mode as `read_image` would give its file: RGB, upright by its EXIF.

    Raises UserError where it is too large, or its file is damaged.
    """
    label = _label(b"", name)
    _bound(label, image, MAX_PIXELS)
    return _decoded(image, b"", label, None)


def read_reduced(
    source: str | PathLike[str] | bytes,
    max_factor: float,
    name: str | None = None,
    *,
    bit_depth: int | None = None,
) -> tuple[NDArray[np.uint8], int]:
    """An image as `read_image`, and the factor by which it is smaller: 1, 2, 4 or 8.

    Only JPEG files are decoded smaller, with less work, by at most `max_factor`; others have factor
    1. Pixel i of each axis is the mean of the pixels f * i to f * i + f - 1 of the full image, with
    its center at f * i + (f - 1) / 2; the last one may reach over the edge. Raises UserError as
    `read_image`.
    """
    label = _label(source, name)
    data = _content(source, label, MAX_BYTES)
    with _open(data, label, MAX_PIXELS) as image:
        factor = _factor(image, max_factor)
        if factor > 1:
            image.draft(None, (image.width // factor, image.height // factor))
        return _decoded(image, data, label, bit_depth), factor


def _factor(image: Image.Image, max_factor: float) -> int:
    """How many times smaller than its file an image may be decoded."""
    if not isinstance(image, JpegImageFile):
        return 1
    orientation = _orientation(image)
    for factor in (8, 4, 2):
        fits = factor <= min(max_factor, *image.size)
        # Pixels that reach over an edge would land at the opposite edge.
        whole = image.width % factor == image.height % factor == 0
        if fits and (whole or orientation not in _UPRIGHT):
            return factor
    return 1


def _decoded(
    image: Image.Image, data: bytes, label: str, bit_depth: int | None
) -> NDArray[np.uint8]:
    try:
        pixels = _to_rgb(image, data, label, bit_depth)
    except ImageError:
        raise
    except Exception as error:  # a decoder may raise anything at damaged bytes
        raise _damaged(label, error) from error
    if _log.isEnabledFor(logging.INFO) and (more := _further(image)):
        _log.info("%s: %s", label, f"{more}, of which the first is read")
    # Pillow turns TIFF files while decoding. PNG files may have their EXIF behind the pixels.
    orientation = 1 if image.format == "TIFF" else _orientation(image)
    if orientation in _UPRIGHT:
        pixels = pixels.transpose(_UPRIGHT[orientation])
    return np.array(pixels)


def _further(image: Image.Image) -> str | None:
    """What a file has beside its first image, where that is no view or size of the same."""
    with contextlib.suppress(Exception):  # damage behind the first image
        if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
            return f"{getattr(image, 'n_frames', 1)} pages"
        if image.format in _ANIMATED and getattr(image, "is_animated", False):
            return "several frames"
    return None


def image_size(
    source: str | PathLike[str] | bytes, name: str | None = None, *, max_pixels: int = MAX_PIXELS
) -> tuple[int, int]:
    """(w, h) of the upright image that `read_image` would give, from the file's header alone.

    Raises UserError as `read_image` does, except for damage behind the header.
    """
    (width, height), orientation, _ = _header(source, name, max_pixels)
    return (height, width) if orientation in _SIDEWAYS else (width, height)


def is_animated(source: str | PathLike[str] | bytes) -> bool:
    """Whether an image's file has several frames, to be read as a clip; False if it is damaged."""
    with contextlib.suppress(Exception), open_image(source) as image:
        return image.format in _ANIMATED and bool(getattr(image, "is_animated", False))
    return False


def exif_orientation(source: str | PathLike[str] | bytes, name: str | None = None) -> int:
    """The EXIF orientation that `read_image` undoes, 1 to 8: 1 is upright, from 5 on the stored
    image is on its side. It is 1 for TIFF files, which are turned while they are decoded.

    Raises UserError as `image_size` does.
    """
    _, orientation, kind = _header(source, name, MAX_PIXELS)
    return orientation if orientation in _UPRIGHT and kind != "TIFF" else 1


def _header(
    source: str | PathLike[str] | bytes, name: str | None, max_pixels: int
) -> tuple[tuple[int, int], int, str | None]:
    """The stored size (w, h), the EXIF orientation and the format; nothing is decoded."""
    label = _label(source, name)
    data = _content(source, label, MAX_BYTES)
    with _open(data, label, max_pixels) as image:
        if isinstance(image, TiffImageFile):
            # Pillow has turned the size already, but not by every tag that may hold an orientation.
            size = (image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT])
            return size, _orientation(image), image.format
        return image.size, _orientation(image, data), image.format


def _label(source: str | PathLike[str] | bytes, name: str | None) -> str:
    """The image's name for a message of one line, whatever characters it has."""
    return printable(name or ("image" if isinstance(source, bytes) else str(Path(source))))


def _content(source: str | PathLike[str] | bytes, label: str, max_bytes: int) -> bytes:
    data = source if isinstance(source, bytes) else read_file(Path(source), max_bytes, label)
    if not data:
        raise ImageError(
            f"{label}: expected an image, found an empty file; copy it here again",
            code="image-damaged",
        )
    if len(data) > max_bytes:
        raise ImageError(
            f"{label}: expected at most {max_bytes:,} bytes, found more", code="file-too-large"
        )
    return data


def _open(data: bytes, label: str, max_pixels: int) -> Image.Image:
    """The image with its header read and its size checked."""
    with _quiet():  # Pillow warns of sizes, which are checked here, and of odd metadata
        try:
            try:
                image = Image.open(io.BytesIO(data), formats=COMMON_FORMATS)
            except UnidentifiedImageError:
                image = Image.open(io.BytesIO(data), formats=other_formats())
            _bound(label, image, max_pixels)
            if isinstance(image, TiffImageFile):
                read_tags(image)
        except UnidentifiedImageError:
            raise unsupported_image(data, label) from None
        except Image.DecompressionBombError:
            raise ImageError(
                f"{label}: expected at most {max_pixels:,} pixels, found far more; make it smaller",
                code="image-too-large",
            ) from None
        except ImageError:
            raise
        except Exception as error:  # a decoder may raise anything at damaged bytes
            raise _damaged(label, error) from error
        return image


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings; for short steps only, because of the lock."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _bound(label: str, image: Image.Image, max_pixels: int) -> None:
    if (found := image.width * image.height) > max_pixels:
        raise ImageError(
            f"{label}: expected at most {max_pixels:,} pixels, found {found:,}; make it smaller",
            code="image-too-large",
        )


def _orientation(image: Image.Image, data: bytes | None = None) -> int:
    """The EXIF orientation; 1 where there is none. A PNG file that is not decoded yet needs its
    `data`.
    """
    metadata = None
    if data is not None and isinstance(image, PngImageFile):
        metadata = without_pixels(data, image.is_animated)
    with _quiet():
        try:
            if metadata is not None:
                with contextlib.suppress(Exception):  # then the header's remain
                    image = Image.open(io.BytesIO(metadata), formats=("PNG",))
                exif = Image.Image.getexif(image)  # a PNG file's own `getexif` would decode it
            else:
                exif = image.getexif()
            return int(exif.get(ExifTags.Base.Orientation, 1))
        except Exception:  # damaged metadata do not spoil the image
            return 1


def _to_rgb(image: Image.Image, data: bytes, label: str, bit_depth: int | None) -> Image.Image:
    """Decode, and bring every kind of pixel to 8-bit RGB."""
    image.load()
    if image.format in _DEEP or image.mode.startswith("I;16"):
        image, reason = to_8_bits(image, data, bit_depth)
        if reason is not None:
            note = f"more than 8 bits a channel, {reason}; --bit-depth forces another depth"
            _log.info("%s: %s", label, note)
    if image.mode in ("I", "F"):
        # The values of black and white are unknown.
        raise ImageError(
            f"{label}: expected 8 or 16 bits a channel, found 32; convert it to 8 bits",
            code="image-unsupported",
        )
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _damaged(label: str, error: Exception) -> ImageError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ImageError(
        f"{label}: damaged or cut off ({reason}); copy or download it again", code="image-damaged"
    )


def encode(
    image: NDArray[np.uint8], suffix: str, settings: Mapping[int, int] = MappingProxyType({})
) -> bytes:
    """An (h, w, 3) RGB or (h, w) gray uint8 image as the bytes of a file, such as a `.png`.

    `settings` are OpenCV's (`cv2.IMWRITE_*`). Raises UserError for an image too large for the
    format: a side of a JPEG has at most 65,500 pixels, of a WebP 16,383.
    """
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    flat = [value for pair in settings.items() for value in pair]
    done, data = cv2.imencode(suffix, pixels, flat)
    if not done:
        height, width = image.shape[:2]
        raise UserError(
            f"an image of {width} x {height} pixels cannot be written as {suffix}; "
            "make it smaller, or choose PNG",
            code="image-too-large",
        )
    return data.tobytes()
