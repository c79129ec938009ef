"""Reading untrusted image files (bounded in size, upright, always RGB), and encoding images."""

import contextlib
import io
import logging
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from hrpose.bit_depth import to_8_bits
from hrpose.errors import UserError
from hrpose.file_kinds import COMMON_FORMATS, HEAD, kind_of, not_regular, other_formats
from hrpose.io import printable

MAX_BYTES = 200_000_000
MAX_PIXELS = 100_000_000

# The suffixes of such files, for lists of names without content.
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif",
    ".mpo", ".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm",
    ".psd", ".qoi", ".sgi", ".pcx", ".tga",
)  # fmt: skip
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


class ImageError(UserError):
    """A file that cannot be used as an image: of another kind, damaged, or too large."""


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
    bits, 1 to 16, by default those that the file's values have (`hrpose.bit_depth.scaling_of`).
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
    _bound(label, "pixels", image.width * image.height, MAX_PIXELS)
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


def is_upright(source: str | PathLike[str] | bytes, name: str | None = None) -> bool:
    """Whether the file's pixels are stored upright, as `read_image` returns them.

    Raises UserError as `image_size` does.
    """
    return exif_orientation(source, name) == 1


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
    data = source if isinstance(source, bytes) else read_bytes(source, label, max_bytes)
    if not data:
        raise ImageError(
            f"{label}: expected an image, found an empty file; copy it here again",
            code="image-damaged",
        )
    _bound(label, "bytes", len(data), max_bytes)
    return data


def _open(data: bytes, label: str, max_pixels: int) -> Image.Image:
    """The image with its header read and its size checked."""
    with _quiet():  # Pillow warns of sizes, which are checked here, and of odd metadata
        try:
            try:
                image = Image.open(io.BytesIO(data), formats=COMMON_FORMATS)
            except UnidentifiedImageError:
                image = Image.open(io.BytesIO(data), formats=other_formats())
            _bound(label, "pixels", image.width * image.height, max_pixels)
            if isinstance(image, TiffImageFile):
                _read_tags(image)
        except UnidentifiedImageError:
            raise _unsupported(data, label) from None
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


def _unsupported(data: bytes, label: str) -> ImageError:
    """The error for bytes that no format of the installed packages fits, by what they are."""
    kind = kind_of(data[:HEAD])
    if kind.name == "HEIC image" and "HEIF" not in other_formats():
        return ImageError(
            f"{label}: is {kind}, for which a package is missing; pip install 'hrpose[heic]'",
            code="package-missing",
        )
    if kind.role == "image":
        return ImageError(
            f"{label}: is {kind} that is damaged, or that the installed Pillow cannot read; copy "
            "it again, update Pillow, or convert it to JPEG or PNG",
            code="image-unsupported",
        )
    remedy = "convert it to JPEG or PNG"
    if kind.role == "clip":
        remedy = f"hrpose.track('{label}') and `hrpose predict` follow the persons in it"
    return ImageError(
        f"{label}: expected an image, found {kind}; {remedy}", code="image-unsupported"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings; for short steps only, because of the lock."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read_tags(image: TiffImageFile) -> None:
    """Read all that Pillow would read of a TIFF file's tags when it decodes, and may warn about."""
    _ = image.is_animated  # counts the images
    exif = image.getexif()
    exif.get(ExifTags.Base.Orientation)
    for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if ifd in exif:
            exif.get_ifd(ifd)


def read_bytes(
    source: str | PathLike[str], name: str | None = None, max_bytes: int = MAX_BYTES
) -> bytes:
    """The bytes of an image's file, at most one more than `max_bytes`.

    Raises UserError, naming the file or `name`, where it is missing, not a file, or unreadable.
    """
    path, label = Path(source), _label(source, name)
    try:
        if path.is_dir():
            raise ImageError(
                f"{label}: expected an image, found a folder; name the files in it",
                code="file-unreadable",
            )
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ImageError(str(not_regular(label, found.st_mode)), code="file-unreadable")
        if not found.st_size:  # so say files of /proc, which may block whoever reads them
            return b""
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except FileNotFoundError:
        raise ImageError(f"{label}: no such file; check the name", code="file-unreadable") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, ImageError):
            raise
        raise ImageError(
            f"{label}: cannot be read ({reason}); check the file", code="file-unreadable"
        ) from error


def _bound(label: str, unit: str, found: int, limit: int) -> None:
    if found > limit:
        # A file is read only to its bound, so its length is not known.
        count = f"{found:,}" if unit == "pixels" else "more"
        raise ImageError(
            f"{label}: expected at most {limit:,} {unit}, found {count}; make it smaller",
            code="image-too-large",
        )


def _orientation(image: Image.Image, data: bytes | None = None) -> int:
    """The EXIF orientation; 1 where there is none. A PNG file that is not decoded yet needs its
    `data`.
    """
    metadata = None
    if data is not None and isinstance(image, PngImageFile):
        metadata = _without_pixels(data, image.is_animated)
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


def _without_pixels(data: bytes, animated: bool) -> bytes:
    """A PNG file with its metadata alone, including those behind its pixels."""
    parts, start, behind = [data[:8]], 8, False
    while start + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[start : start + 8])
        end = start + 12 + length
        if kind == b"IEND" or end > len(data) or not kind.isalpha():
            break
        if behind and animated and kind == b"fcTL":
            break  # the second image of several
        if kind in (b"IDAT", b"fcTL", b"fdAT"):
            behind |= kind == b"IDAT"
        elif behind:
            # Pillow does not check the sums of these.
            parts.append(_chunk(kind, data[start + 8 : end - 4]))
        else:
            parts.append(data[start:end])
        start = end
    return b"".join([*parts, _chunk(b"IDAT"), _chunk(b"IEND")])


def _chunk(kind: bytes, content: bytes = b"") -> bytes:
    """One part of a PNG file."""
    part = kind + content
    return struct.pack(">I", len(content)) + part + struct.pack(">I", zlib.crc32(part))


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
