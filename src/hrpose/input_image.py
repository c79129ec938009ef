"""Images on their way in: as users give them, and as they are read, with boxes.

`ImageSource` is one image as it was given: a file, bytes, an address, pixels. `sources_in` finds
out whether several were given: a list, a folder, a pattern, a generator. `InputImage` is an image
that was read and whose boxes were checked.
"""

from __future__ import annotations  # so that help() shows the names of types, not their contents

import glob
import logging
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from hrpose._version import __version__
from hrpose.errors import UserError
from hrpose.file_kinds import TEXT, file_kind
from hrpose.geometry import Crop, checked_boxes, checked_scores, warp
from hrpose.image import (
    MAX_BYTES,
    SUFFIXES,
    ImageError,
    from_pillow,
    image_size,
    read_image,
    read_reduced,
)
from hrpose.io import natural_key
from hrpose.metadata import Metadata

File = str | Path | bytes
# What a user may give for an image: a path, an address, bytes, a file object, a PIL image, an array
# or a tensor. It cannot be written as a type without PyTorch.
AnyImage = Any
# One of these, or several: a list, a folder, a pattern, a generator.
AnyImages = Any

ACCEPTED = (
    "a path, an http(s) address, bytes, a file object, a PIL image, an array (h, w, 3), a tensor, "
    "or several of them: a list, a folder, a pattern (*.jpg), a generator"
)
# Seconds: for a pause of the other side, and for a whole download.
PAUSE_SECONDS, DOWNLOAD_SECONDS = 20.0, 120.0
_CHUNK = 1 << 20
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# What was skipped of a folder, at level INFO.
_log = logging.getLogger(__name__)


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
        if isinstance(given, str) and _ADDRESS.match(given):
            name = given.partition("?")[0]
            source = cls(fetch(given), name)
        elif isinstance(given, str | os.PathLike):
            path = Path(os.fsdecode(given))
            source = cls(path, str(path))
        elif isinstance(given, bytes | bytearray | memoryview):
            source = cls(bytes(given))
        elif isinstance(given, np.ndarray | Image.Image) or _is_tensor(given):
            return cls(given, str(getattr(given, "filename", "")), bgr)
        elif callable(getattr(given, "read", None)):
            source = cls(_read(given), _name_of(given))
        elif hasattr(given, "__array__"):
            return cls(np.asarray(given), "", bgr)
        else:
            raise _unknown(given)
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
        if isinstance(given, Path):
            return given
        if isinstance(given, bytes):
            return given
        if isinstance(given, Image.Image):
            return from_pillow(given, self.name or None)
        if isinstance(given, np.ndarray):
            pixels = _checked(given)
        elif given is None:
            raise UserError(
                "these poses came without their image from another process; give draw its pixels",
                code="image-missing",
            )
        else:
            pixels = _of_tensor(given)
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


def sources_in(given: Any) -> Iterator[Any] | None:
    """The images in what a user gave for several; None where it is one image.

    Several are a list, tuple or other iterable, a folder (the images in it, in natural order), a
    pattern such as "images/*.jpg", and pixels with a first axis more, (n, h, w, 3) or tensors
    (n, 3, h, w). Raises UserError where a folder or pattern has no images.
    """
    if isinstance(given, str | os.PathLike):
        return _files(os.fsdecode(given))
    if isinstance(given, np.ndarray) or _is_tensor(given):
        return iter(given) if given.ndim == 4 else None
    one = (bytes, bytearray, memoryview, Image.Image, ImageSource, Mapping, Set)
    if isinstance(given, one) or hasattr(given, "read") or hasattr(given, "__array__"):
        return None
    return _each(given) if isinstance(given, Iterable) else None


def _each(several: Iterable[Any]) -> Iterator[Any]:
    for one in several:
        inside = sources_in(one) if isinstance(one, str | os.PathLike) else None
        yield from (one,) if inside is None else inside


def _files(name: str) -> Iterator[Any] | None:
    """The images of a folder or pattern; None for a file and an address."""
    if _ADDRESS.match(name):
        return None
    try:
        if Path(name).is_dir():
            files = [file for file in Path(name).iterdir() if not file.name.startswith(".")]
        elif not glob.has_magic(name) or Path(name).exists():
            return None
        else:
            files = [Path(file) for file in glob.glob(name, recursive=True)]
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name}: cannot be read ({reason})", code="file-unreadable") from error
    images = [file for file in files if _is_image(file)]
    if not images:
        raise UserError(
            f"{name}: expected images, found none; check the name", code="images-missing"
        )
    if len(images) < len(files):
        _log.info("%s: skipped %d that are no images", name, len(files) - len(images))
    return iter(sorted(images, key=lambda file: natural_key(str(file))))


def _is_image(file: Path) -> bool:
    """By the content. A damaged file is an image by its ending, so that it is reported."""
    try:
        kind = file_kind(file)
    except (OSError, UserError):  # a folder, a device, no permission
        return False
    named = file.suffix.lower() in SUFFIXES
    return kind.role == "image" or (named and kind.role != "clip" and kind != TEXT)


@dataclass(frozen=True, slots=True, eq=False)
class InputImage:
    """An image with the boxes of the persons in it.

    `pixels` (h, w, 3) uint8 RGB; `boxes` (n, 4) [x, y, w, h] in pixels of the full image;
    `box_scores` (n,) in [0, 1]. `pixels` may be the full image reduced by the whole factor
    `reduction`; boxes, crops and poses are in pixels of the full image all the same. `detected`
    says that a detector found the boxes, which may then be wrong or repeat a person. `size` (w, h)
    is that of the full image, where it is not that of `pixels`. `source` is what was read. `key` is
    the caller's, who gets it back with the poses.
    """

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    box_scores: NDArray[np.float64]
    reduction: int = 1
    detected: bool = False
    size: tuple[int, int] | None = None
    source: ImageSource | None = None
    key: Any = None

    @property
    def image_wh(self) -> tuple[int, int]:
        """(w, h) of the full image in pixels."""
        return self.size or (self.pixels.shape[1], self.pixels.shape[0])

    @classmethod
    def of(
        cls,
        image: AnyImage,
        boxes: ArrayLike | None = None,
        box_scores: ArrayLike | None = None,
        *,
        bit_depth: int | None = None,
    ) -> InputImage:
        """Read an image and check its boxes; without boxes the full image is one box.

        `bit_depth` is that of `read_image`. Raises UserError where the image cannot be read, and
        which box is wrong and how.
        """
        pixels = ImageSource.of(image).pixels(bit_depth)
        height, width = pixels.shape[:2]
        return cls(pixels, *_check(boxes, box_scores, width, height))

    @classmethod
    def reduced(
        cls,
        file: File,
        metadata: Metadata,
        boxes: ArrayLike | None = None,
        box_scores: ArrayLike | None = None,
        overview: InputImage | None = None,
        size: tuple[int, int] | None = None,
        bit_depth: int | None = None,
    ) -> InputImage:
        """As `of`, but decoded at the smallest size at which no crop has to be enlarged.

        `overview` is the same file, decoded before at some size, and is reused if it is large
        enough. `size` (w, h) is that of the file, if it is known.
        """
        size = size or image_size(file)
        checked, scores = _check(boxes, box_scores, *size)
        crops = [metadata.crop(box) for box in checked]
        limit = min((min(np.divide(crop.size, crop.input_wh)) for crop in crops), default=np.inf)
        if overview is not None and overview.reduction <= max(1, limit):
            return cls(overview.pixels, checked, scores, overview.reduction, size=size)
        pixels, reduction = read_reduced(file, limit, bit_depth=bit_depth)
        return cls(pixels, checked, scores, reduction, size=size)

    def cut(self, crop: Crop) -> NDArray[np.uint8]:
        """The pixels of a crop of the full image: (input h, input w, 3) uint8."""
        # The first pixel of a reduced image is the mean of a square; this is the square's center.
        center = (self.reduction - 1) / 2
        return warp(self.pixels, crop.inside((center, center), self.reduction))


class _Bounded(urllib.request.HTTPRedirectHandler):
    """Follows at most five redirects, to http and https only."""

    max_redirections = 5


def fetch(address: str) -> bytes:
    """The bytes at an http or https address, at most `MAX_BYTES`.

    Raises UserError for other addresses, and where it cannot be downloaded in time.
    """
    label = "".join(c if c.isprintable() else "?" for c in address.partition("?")[0])
    if not address.lower().startswith(("http://", "https://")):
        raise UserError(
            f"{label}: expected an address with http:// or https://; `hrpose predict` reads others "
            "(s3://...)",
            code="address-invalid",
        )
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Bounded(),
    ):
        opener.add_handler(handler)
    end = monotonic() + DOWNLOAD_SECONDS
    data = bytearray()
    try:
        request = urllib.request.Request(address, headers={"User-Agent": f"hrpose/{__version__}"})
        with opener.open(request, timeout=PAUSE_SECONDS) as answer:
            while chunk := answer.read1(_CHUNK):
                data += chunk
                if len(data) > MAX_BYTES:
                    raise ImageError(
                        f"{label}: expected at most {MAX_BYTES:,} bytes, found more",
                        code="file-too-large",
                    )
                if monotonic() > end:
                    raise TimeoutError(f"more than {DOWNLOAD_SECONDS:g} seconds")
    except (OSError, ValueError, urllib.error.URLError) as error:
        if isinstance(error, UserError):
            raise
        reason = " ".join(str(getattr(error, "reason", None) or error).split())[:200]
        code = ""
        if isinstance(error, urllib.error.HTTPError):
            code = f"{error.code} "
            error.close()
        raise UserError(
            f"{label}: cannot be downloaded ({code}{reason}); check the address",
            code="download-failed",
        ) from error
    return bytes(data)


def _is_tensor(given: Any) -> bool:
    """A PyTorch tensor, without importing PyTorch."""
    return all(hasattr(given, name) for name in ("detach", "cpu", "numpy", "ndim"))


def _of_tensor(tensor: Any) -> NDArray[np.uint8]:
    """(3, h, w) or (h, w, 3), uint8 or floats from 0 to 1, as (h, w, 3) uint8."""
    tensor = tensor.detach().cpu()
    floats = tensor.is_floating_point()
    values: NDArray[Any] = (tensor.float() if floats else tensor).numpy()
    shape = tuple(values.shape)
    if values.ndim == 3 and shape[0] == 3:
        values = values.transpose(1, 2, 0)
    if values.ndim != 3 or values.shape[2] != 3 or not values.size:
        raise _wrong("tensor", f"shape (3, h, w) or (h, w, 3), found {shape}", "")
    if floats:
        if not ((values >= 0) & (values <= 1)).all():  # NaN is wrong too
            found = f"{np.nanmin(values):g} to {np.nanmax(values):g}"
            cure = "divide by 255, or undo the normalization"
            raise _wrong("tensor", f"floats from 0 to 1, found {found}", cure)
        values = np.rint(values * 255).astype(np.uint8)
    if values.dtype != np.uint8:
        raise _wrong("tensor", f"uint8, or floats from 0 to 1, found {values.dtype}", "")
    return np.ascontiguousarray(values)


def _checked(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """The same array, if it is (h, w, 3) uint8."""
    shape = pixels.shape
    if pixels.ndim == 3 and shape[2] == 3 and pixels.dtype == np.uint8 and pixels.size:
        return pixels
    cure = ""
    if pixels.ndim == 2:
        cure = "gray: np.stack([image] * 3, axis=-1)"
    elif pixels.ndim == 3 and shape[2] == 4:
        cure = "leave out the alpha channel: image[..., :3]"
    elif pixels.ndim == 3 and shape[0] == 3 and shape[2] != 3:
        cure = "channels last: image.transpose(1, 2, 0)"
    elif pixels.dtype.kind == "f" and pixels.size:
        scaled = "(image * 255).round()" if np.nanmax(pixels) <= 1 else "image.round()"
        cure = f"{scaled}.astype('uint8')"
    found = f"{pixels.dtype} of shape {shape}"
    raise _wrong("image", f"uint8 RGB of shape (h, w, 3), found {found}", cure)


def _wrong(what: str, expected: str, cure: str) -> UserError:
    remedy = f"; {cure}" if cure else ""
    return UserError(f"{what}: expected {expected}{remedy}", code="array-invalid")


def _unknown(given: Any) -> UserError:
    cure = ""
    if given is None:
        cure = "; cv2.imread returns None where it cannot read a file: give the file's path"
    kind = type(given).__name__
    return UserError(f"image: expected {ACCEPTED}, found {kind}{cure}", code="image-unsupported")


def _read(file: Any) -> bytes:
    """The bytes of a file object: all of those in memory, else from its position on."""
    data = file.getvalue() if hasattr(file, "getvalue") else file.read(MAX_BYTES + 1)
    if not isinstance(data, bytes):
        raise UserError(
            f"image: expected a file object of bytes, found {type(data).__name__}; open the file "
            "with mode 'rb'",
            code="image-unsupported",
        )
    if not data:
        raise ImageError(
            "image: expected an image, found a file object at its end; seek(0) first",
            code="image-damaged",
        )
    return data


def _name_of(file: Any) -> str:
    name = getattr(file, "name", "")
    return name if isinstance(name, str) else ""


def _check(
    boxes: ArrayLike | None, scores: ArrayLike | None, width: int, height: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    checked = checked_boxes([[0, 0, width, height]] if boxes is None else boxes, width, height)
    return checked, checked_scores(np.ones(len(checked)) if scores is None else scores, checked)
