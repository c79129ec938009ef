"""What single formats of images need: more than 8 bits a channel as 8, metadata behind the pixels.

Cameras of 10, 12 or 14 bits store their values in files of 16, often at the lower end, and thermal
cameras use a small part of their range. Scaled by 65,535, both are nearly black or gray.
"""

import struct
import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

# Bits of sensors, and of 8-bit data in a 16-bit file.
DEPTHS = (8, 10, 12, 14, 16)
# Of the values, the share beyond which each end is taken for dead pixels and highlights.
OUTLIERS = 0.001
# A smaller part of the depth's range shows too little to detect a person, and is stretched.
MIN_SPAN = 1 / 8
# With fewer levels there is nothing but noise to stretch.
MIN_LEVELS = 16
# TIFF's tags of bits a channel, and of the largest value.
_BITS, _LARGEST, _S_LARGEST = 258, 281, 341
# Pixels that are enough to know the range of an image.
_SAMPLE = 1_000_000


@dataclass(frozen=True, slots=True)
class Scaling:
    """The values that become 0 and 255; `reason` says it in words."""

    black: int
    white: int
    reason: str

    def __call__(self, values: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """The values, of any shape, in [0, 255]."""
        span = self.white - self.black
        clipped = np.clip(values, self.black, self.white).astype(np.uint32) - self.black
        return ((clipped * 255 + span // 2) // span).astype(np.uint8)


def by_bits(bits: int) -> Scaling:
    """All values of `bits` bits, 1 to 16."""
    return Scaling(0, 2**bits - 1, f"scaled by {bits} significant bits")


def scaling_of(values: NDArray[np.uint16], stated: int | None = None) -> Scaling:
    """The scaling of an image (h, w) or (h, w, channels) by its values.

    White is the largest value of `stated` bits, those that the file says its values have, or else
    of the fewest `DEPTHS` that hold all but the brightest 0.1 % of them. A file whose values exceed
    what it states has been scaled to 16 bits already, as PNG asks of writers. An image that uses
    less than an eighth of that range, as those of thermal cameras do, is stretched from its 0.1 %
    to its 99.9 % quantile.
    """
    step = max(1, int(np.sqrt(values.shape[0] * values.shape[1] / _SAMPLE)))
    sample = np.sort(values[::step, ::step], axis=None)
    last = sample.size - 1
    low, high = (int(sample[round(last * share)]) for share in (OUTLIERS, 1 - OUTLIERS))
    if stated is None or int(sample[-1]) >= 2**stated:
        stated = next(bits for bits in DEPTHS if high < 2**bits)
    if MIN_LEVELS <= high - low < MIN_SPAN * 2**stated:
        return Scaling(low, high, "stretched from the range of its values")
    return by_bits(stated)


def to_8_bits(
    image: Image.Image, data: bytes, bits: int | None = None
) -> tuple[Image.Image, str | None]:
    """A decoded image with 8 bits a channel; it is `image` itself where that has no more.

    `data` is its file, or empty where there is none; its values are scaled by `bits` bits, or by
    `scaling_of`, whose reason is returned where it is another one than all 16 bits. Images of 32
    bits are returned as they are.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        wide: NDArray[np.uint16] | None = np.asarray(image).astype(np.uint16)
    else:
        wide = _wide_colors(image, data, always=bits is not None)
    if wide is None:
        return image, None
    alpha = image.mode in ("LA", "RGBA")
    values = wide[..., :-1] if alpha else wide
    scaling = scaling_of(values, _stated_bits(image, data)) if bits is None else by_bits(bits)
    scaled = scaling(values)
    if alpha:
        scaled = np.concatenate([scaled, (wide[..., -1:] >> 8).astype(np.uint8)], axis=-1)
    reason = None if bits is not None or scaling == by_bits(16) else scaling.reason
    return Image.fromarray(scaled), reason


def _wide_colors(image: Image.Image, data: bytes, always: bool) -> NDArray[np.uint16] | None:
    """Channels of 16 bits, of which Pillow reads only the upper 8, in the order of its own.

    None for other images, and unless `always` for those that are bright enough in 8 bits.
    """
    if not data:
        return None
    if isinstance(image, PngImageFile):
        found = data[24] == 16 and data[25] in (2, 4, 6)
    else:
        found = isinstance(image, TiffImageFile) and image.tag_v2.get(_BITS, ())[:3] == (16,) * 3
    if not found:
        return None
    upper = np.asarray(image)
    colors = upper[..., :-1] if image.mode in ("LA", "RGBA") else upper
    if not always and np.quantile(colors, 1 - OUTLIERS) >= 64:  # its values need 15 bits or more
        return None
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16 or decoded.ndim != 3:
        return None
    order = cv2.COLOR_BGR2RGB if decoded.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    wide: NDArray[np.uint16] = np.asarray(cv2.cvtColor(decoded, order), np.uint16)
    if image.mode == "LA":
        wide = wide[..., 2:]
    # What the two libraries do not agree on, such as an orientation, is Pillow's.
    return wide if np.array_equal(wide >> 8, upper) else None


def _stated_bits(image: Image.Image, data: bytes) -> int | None:
    """The bits that a file says its values have; None where it does not say, or says 16."""
    bits = 16
    if isinstance(image, PngImageFile):
        at = data.find(b"sBIT", 0, data.find(b"IDAT"))
        if at > 0:
            length = int.from_bytes(data[at - 4 : at], "big")
            bits = max(data[at + 4 : at + 4 + min(length, 4)], default=16)
    elif isinstance(image, TiffImageFile):
        bits = max(image.tag_v2.get(_BITS, (16,)))
        largest = image.tag_v2.get(_LARGEST) or image.tag_v2.get(_S_LARGEST)
        if bits == 16 and largest:
            bits = int(np.max(largest)).bit_length()
    return bits if 8 <= bits < 16 else None


def without_pixels(data: bytes, animated: bool) -> bytes:
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


def read_tags(image: TiffImageFile) -> None:
    """Read all that Pillow would read of a TIFF file's tags when it decodes, and may warn about."""
    _ = image.is_animated  # counts the images
    exif = image.getexif()
    exif.get(ExifTags.Base.Orientation)
    for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if ifd in exif:
            exif.get_ifd(ifd)
