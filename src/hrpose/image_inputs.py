"""Images that are not given as one file: several, addresses, file objects, arrays, tensors."""

import base64
import contextlib
import glob
import http.client
import logging
import os
import re
import string
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hrpose._version import __version__
from hrpose.errors import UserError
from hrpose.file_kinds import files_in, kind_or_reason, skipped_text
from hrpose.io import natural_key, without_secrets

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


def is_address(name: str) -> bool:
    """Whether a name has a scheme, as https://."""
    return bool(_ADDRESS.match(name))


def sources_in(given: Any) -> Iterator[Any] | None:
    """The images in what a user gave for several; None where it is one image.

    Several are a list, tuple or other iterable, a folder (the images in it, in natural order), a
    pattern such as "images/*.jpg", a column of names, and pixels with a first axis more,
    (n, h, w, 3) or tensors (n, 3, h, w). Raises UserError where a folder or pattern has no images.
    """
    if isinstance(given, str | os.PathLike):
        files = images_in(os.fsdecode(given))
        return None if files is None else iter(files)
    if isinstance(given, np.ndarray) or is_tensor(given):
        if given.ndim == 1 and isinstance(given, np.ndarray) and given.dtype.kind in "OU":
            return _each(given.tolist())  # names of files, as tables have them
        return iter(given) if given.ndim == 4 else None
    one = (bytes, bytearray, memoryview, Image.Image, Mapping, Set)
    if isinstance(given, one) or hasattr(given, "read"):
        return None
    if hasattr(given, "__array__"):
        return sources_in(np.asarray(given))
    return _each(given) if isinstance(given, Iterable) else None


def _each(several: Iterable[Any]) -> Iterator[Any]:
    for one in several:
        inside = sources_in(one) if isinstance(one, str | os.PathLike) else None
        yield from (one,) if inside is None else inside


def images_in(name: str) -> list[Path] | None:
    """The image files of a folder or pattern, in natural order; None for a file and an address.

    Raises UserError where there are none.
    """
    if is_address(name):
        return None
    if not name:
        raise UserError("image: expected a file, found an empty name", code="file-unreadable")
    skipped: Counter[str] = Counter()
    try:
        if Path(name).is_dir():
            found = [(path, kind) for path, kind, _ in files_in(Path(name), skipped)]
        elif not glob.has_magic(name) or Path(name).exists():
            return None
        else:
            paths = sorted(glob.glob(name, recursive=True), key=natural_key)
            found = [(Path(path), kind_or_reason(Path(path))) for path in paths]
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name}: cannot be read ({reason})", code="file-unreadable") from error
    skipped.update(kind.name for _, kind in found if kind.role != "image")
    images = [path for path, kind in found if kind.role == "image"]
    if not images:
        raise UserError(
            f"{name}: expected images, found {skipped_text(skipped) or 'none'}; check the name",
            code="images-missing",
        )
    if skipped:
        _log.info("%s: %s", name, f"skipped {skipped_text(skipped)}")
    return images


class _Bounded(urllib.request.HTTPRedirectHandler):
    """Follows at most five redirects, to http and https only."""

    max_redirections = 5


def fetch(address: str, max_bytes: int) -> bytes:
    """The bytes at an http or https address, at most `max_bytes`.

    Raises UserError for other addresses, and where it cannot be downloaded in time.
    """
    label = "".join(c if c.isprintable() else "?" for c in without_secrets(address))
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
        request = _request(address)
        with opener.open(request, timeout=PAUSE_SECONDS) as answer:
            while chunk := answer.read1(_CHUNK):
                data += chunk
                if len(data) > max_bytes:
                    raise UserError(
                        f"{label}: expected at most {max_bytes:,} bytes, found more",
                        code="file-too-large",
                    )
                if monotonic() > end:
                    raise TimeoutError(f"more than {DOWNLOAD_SECONDS:g} seconds")
    except (OSError, ValueError, http.client.HTTPException) as error:
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


def _request(address: str) -> urllib.request.Request:
    """The request for an address, in which a user and password may stand, and spaces."""
    parts = urllib.parse.urlsplit(urllib.parse.quote(address, safe=string.punctuation))
    user, _, host = parts.netloc.rpartition("@")
    url = parts._replace(netloc=host, fragment="").geturl()
    request = urllib.request.Request(url, headers={"User-Agent": f"hrpose/{__version__}"})
    if user:
        secret = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {secret}")  # for this host only
    return request


def read_object(file: Any, max_bytes: int) -> bytes:
    """The bytes of a file object: all of those in memory, else from its position on."""
    data: Any = ""
    with contextlib.suppress(UnicodeDecodeError):  # opened as text
        data = file.getvalue() if hasattr(file, "getvalue") else file.read(max_bytes + 1)
    if not isinstance(data, bytes):
        raise UserError(
            f"image: expected a file object of bytes, found {type(data).__name__}; open the file "
            "with mode 'rb'",
            code="image-unsupported",
        )
    if not data:
        raise UserError(
            "image: expected an image, found a file object at its end; seek(0) first",
            code="image-damaged",
        )
    return data


def is_tensor(given: Any) -> bool:
    """A PyTorch tensor, without importing PyTorch."""
    return all(hasattr(given, name) for name in ("detach", "cpu", "numpy", "ndim"))


def from_tensor(tensor: Any) -> NDArray[np.uint8]:
    """(3, h, w) or (h, w, 3), uint8 or floats from 0 to 1, as (h, w, 3) uint8."""
    try:
        tensor = tensor.detach().cpu()
        floats = tensor.is_floating_point()
        values: NDArray[Any] = (tensor.float() if floats else tensor).numpy()
    except (TypeError, NotImplementedError, RuntimeError) as error:  # sparse, on no device
        raise _wrong("tensor", f"one with values in memory, found another ({error})", "") from error
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


def from_array(pixels: NDArray[Any]) -> NDArray[np.uint8]:
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


def unknown_image(given: Any) -> UserError:
    """The error for what is no image."""
    cure = ""
    if given is None:
        cure = "; cv2.imread returns None where it cannot read a file: give the file's path"
    kind = type(given).__name__
    return UserError(f"image: expected {ACCEPTED}, found {kind}{cure}", code="image-unsupported")


def name_of(file: Any) -> str:
    """The name of a file object, "" where it has none."""
    name = getattr(file, "name", "")
    return name if isinstance(name, str) else ""
