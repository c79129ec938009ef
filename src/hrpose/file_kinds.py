"""What a file is, by its first bytes, and what of it can be read.

Endings are wrong, missing or unknown too often to decide by them.
"""

import errno
import functools
import importlib
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from hrpose.errors import UserError
from hrpose.io import natural_key, not_regular

# What Pillow may read. It knows more; each is code that hostile bytes could reach, and some run
# other programs (EPS). JPEG includes MPO, several views; PPM includes PGM and PBM. HEIF needs the
# extra `heic`. The first six are tried first; TGA has no signature.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF",
           "AVIF", "HEIF", "JPEG2000", "PPM", "PSD", "QOI", "SGI", "PCX", "TGA")  # fmt: skip
COMMON_FORMATS = FORMATS[:6]
# They let Pillow read HEIC. The wheels of the second contain x265, which is under the GPL.
_HEIF_PACKAGES = ("pi_heif", "pillow_heif")

# The suffixes of images and clips: for names without content, and where the content is damaged.
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif",
    ".mpo", ".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm",
    ".psd", ".qoi", ".sgi", ".pcx", ".tga",
)  # fmt: skip
CLIP_SUFFIXES = (
    ".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mts", ".m2ts", ".ts", ".mpg", ".mpeg",
    ".m2v", ".vob", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".mj2", ".mjpeg", ".mxf",
    ".ogv", ".dv", ".h264", ".264", ".h265", ".hevc",
)  # fmt: skip
# What a folder holds beside files.
_FOLDER, _HIDDEN, _LOOP = "folder", "hidden file or folder", "link to a folder already read"

# Enough for the signature of every kind, and for three packets of an MPEG transport stream.
HEAD = 512

Role = Literal["image", "clip", "other", "unknown"]


@dataclass(frozen=True, slots=True)
class FileKind:
    """`name` is a noun that "1 NAME" and "2 NAMEs" are made of, such as "JPEG image" or "PDF".

    A file whose `role` is "unknown" may be anything without a signature. `animated` is True for an
    image whose first bytes announce several frames, None where a decoder has to tell.
    """

    role: Role
    name: str
    animated: bool | None = False

    def __str__(self) -> str:
        """With its article: "a PDF", "an MP4 clip"."""
        vowel = self.name[0] in "aeiouAEIO" or self.name.startswith(_SPELLED)
        return f"{'an' if vowel else 'a'} {self.name}"


# Abbreviations whose first letter is spoken as a vowel.
_SPELLED = ("HDF5", "MP4", "MPEG", "MXF", "SGI")


TEXT = FileKind("other", "text file")
EMPTY = FileKind("other", "empty file")
UNKNOWN = FileKind("unknown", "file of an unknown kind")

_SOUND = FileKind("other", "sound file")
_GIF = FileKind("image", "GIF image", None)
_HEIC = FileKind("image", "HEIC image")
_MP4, _MOV = FileKind("clip", "MP4 clip"), FileKind("clip", "QuickTime clip")
_H264, _HEVC = FileKind("clip", "raw H.264 clip"), FileKind("clip", "raw HEVC clip")
_MPEGTS = FileKind("clip", "MPEG transport stream")

# (where, bytes, kind); the first that fits.
_SIGNATURES = [
    (0, b"\xff\xd8\xff", FileKind("image", "JPEG image")),
    (0, b"GIF87a", _GIF),
    (0, b"GIF89a", _GIF),
    (0, b"II*\0", FileKind("image", "TIFF image")),
    (0, b"MM\0*", FileKind("image", "TIFF image")),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", FileKind("image", "JPEG 2000 image")),
    (0, b"\xff\x4f\xff\x51", FileKind("image", "JPEG 2000 image")),
    (0, b"8BPS", FileKind("image", "Photoshop image")),
    (0, b"qoif", FileKind("image", "QOI image")),
    (0, b"\x01\xda\x00", FileKind("image", "SGI image")),
    (0, b"\x01\xda\x01", FileKind("image", "SGI image")),
    (0, b"\x0a\x05\x01\x08", FileKind("image", "PCX image")),
    (0, b"\x1a\x45\xdf\xa3", FileKind("clip", "Matroska or WebM clip")),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", FileKind("clip", "Windows Media clip")),
    (0, b"FLV\x01", FileKind("clip", "Flash clip")),
    (0, b"\0\0\x01\xba", FileKind("clip", "MPEG program stream")),
    (0, b"\0\0\x01\xb3", FileKind("clip", "MPEG clip")),
    (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01", FileKind("clip", "MXF clip")),
    (0, b"DKIF", FileKind("clip", "IVF clip")),
    (0, b"YUV4MPEG2", FileKind("clip", "YUV4MPEG clip")),
    (0, b"nut/multimedia container", FileKind("clip", "NUT clip")),
    (0, b".RMF", FileKind("clip", "RealMedia clip")),
    (0, b"\x1f\x07\0", FileKind("clip", "DV clip")),
    (0, b"DHAV", FileKind("clip", "Dahua clip")),
    # Raw H.264 and HEVC begin with a parameter set, or the delimiter before it.
    *((0, b"\0\0\x01" + nal, _H264) for nal in (b"\x67", b"\x27", b"\x47", b"\x09")),
    *((0, b"\0\0\0\x01" + nal, _H264) for nal in (b"\x67", b"\x27", b"\x47", b"\x09")),
    *((0, b"\0\0\0\x01" + nal, _HEVC) for nal in (b"\x40\x01", b"\x42\x01", b"\x46\x01")),
    (0, b"%PDF-", FileKind("other", "PDF")),
    (0, b"%!PS", FileKind("other", "PostScript file")),
    (0, b"\xc5\xd0\xd3\xc6", FileKind("other", "PostScript file")),
    (0, b"PK\x03\x04", FileKind("other", "zip archive or Office document")),
    (0, b"PK\x05\x06", FileKind("other", "zip archive or Office document")),
    (0, b"\x1f\x8b", FileKind("other", "gzip archive")),
    (0, b"7z\xbc\xaf\x27\x1c", FileKind("other", "7z archive")),
    (0, b"Rar!\x1a\x07", FileKind("other", "RAR archive")),
    (257, b"ustar", FileKind("other", "tar archive")),
    (0, b"\xff\x0a", FileKind("other", "JPEG XL image")),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", FileKind("other", "JPEG XL image")),
    (0, b"\0\0\x01\0", FileKind("other", "Windows icon")),
    (0, b"icns", FileKind("other", "macOS icon")),
    (0, b"DDS ", FileKind("other", "DDS texture")),
    (0, b"\x76\x2f\x31\x01", FileKind("other", "OpenEXR image")),
    (0, b"SIMPLE  =", FileKind("other", "FITS image")),
    (0, b"ID3", _SOUND),
    (0, b"fLaC", _SOUND),
    (0, b"\x93NUMPY", FileKind("other", "NumPy array")),
    (0, b"PAR1", FileKind("other", "Parquet table")),
    (0, b"SQLite format 3\0", FileKind("other", "SQLite database")),
    (0, b"\x89HDF\r\n\x1a\n", FileKind("other", "HDF5 file")),
    (0, b"\x7fELF", FileKind("other", "program")),
    (128, b"DICM", FileKind("other", "DICOM file")),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileKind("other", "Office document")),
]  # fmt: skip
# The first brand of files in boxes (ISO/IEC 14496-12).
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"mif1"), _HEIC),
    **dict.fromkeys((b"hevc", b"hevx", b"msf1"), FileKind("image", "HEIC image", None)),
    b"avif": FileKind("image", "AVIF image"),
    b"avis": FileKind("image", "AVIF image", True),
    b"qt  ": _MOV,
    b"crx ": FileKind("other", "raw photo"),
    **dict.fromkeys((b"M4A ", b"M4B "), _SOUND),
}
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")

# Files with TIFF's signature whose first image is a thumbnail.
_RAW_SUFFIXES = (".arw", ".cr2", ".dng", ".nef", ".nrw", ".orf", ".pef", ".rw2", ".srw")


def file_kind(path: Path) -> FileKind:
    """The kind of a regular file, of which at most `HEAD` bytes are read.

    Raises OSError where it cannot be read, and UserError for a pipe, device or socket, whose bytes
    may never come.
    """
    head = read_head(path)
    if not head:
        return EMPTY
    # Of two kinds, every frame or the thumbnail has the signature of an image.
    kind, suffix = kind_of(head), path.suffix.lower()
    if kind.name == "TIFF image" and suffix in _RAW_SUFFIXES:
        return FileKind("other", "raw photo")
    if kind.name == "JPEG image" and suffix in (".mjpeg", ".mjpg"):
        return FileKind("clip", "Motion JPEG clip")
    return kind


def read_head(path: Path) -> bytes:
    """The first bytes of a regular file. Raises as `file_kind`."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise not_regular(path, found.st_mode)
    # Files of /proc say that they are empty, and may block whoever reads them all the same.
    if not found.st_size:
        return b""
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # half the time of `open`
    try:
        return os.read(file, HEAD)
    finally:
        os.close(file)


def kind_of(head: bytes) -> FileKind:
    """The kind of a file that begins with `head`."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return FileKind("image", "PNG image", _announces_frames(head))
    if head[:4] == b"RIFF":
        return _riff(head)
    if head[:4] == b"OggS":
        return _ogg(head)
    if head[4:8] in _BOXES:
        return _BRANDS.get(head[8:12], _MP4) if head[4:8] == b"ftyp" else _MOV
    if head.startswith(b"\0\0\0\x0cjP  \r\n\x87\n") and head[20:24] == b"mjp2":
        return FileKind("clip", "Motion JPEG 2000 clip")
    if head[:2] == b"BM" and head[15:18] == b"\0\0\0":  # the upper bytes of a header's length
        return FileKind("image", "BMP image")
    if re.match(rb"P[1-6fF]\s+(#|\d)", head):
        return FileKind("image", "PPM image")
    for start, signature, kind in _SIGNATURES:
        if head.startswith(signature, start):
            return kind
    if _is_transport_stream(head):
        return _MPEGTS
    return TEXT if _is_text(head) else UNKNOWN


def _announces_frames(head: bytes) -> bool | None:
    """Whether a PNG file is animated: its `acTL` stands before its pixels."""
    at = 8
    while at + 8 <= len(head):
        kind = head[at + 4 : at + 8]
        if kind in (b"acTL", b"IDAT"):
            return kind == b"acTL"
        at += 12 + int.from_bytes(head[at : at + 4], "big")
    return None


def _riff(head: bytes) -> FileKind:
    kind = head[8:12]
    if kind == b"WEBP":
        return FileKind("image", "WebP image", head[12:16] == b"VP8X" and bool(head[20] & 2))
    if kind in (b"AVI ", b"AMV "):
        return FileKind("clip", "AVI clip")
    return _SOUND if kind == b"WAVE" else FileKind("other", "RIFF file")


def _ogg(head: bytes) -> FileKind:
    """Ogg files begin with the first packet of each of their streams, which names its codec."""
    sound = head.startswith((b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   "), 28)
    if sound and not any(codec in head for codec in (b"theora", b"OVP80", b"BBCD")):
        return _SOUND
    return FileKind("clip", "Ogg clip")


def _is_transport_stream(head: bytes) -> bool:
    """Packets of 188 bytes begin with a sync byte; AVCHD has four bytes of time before each."""
    return any(
        len(head) > first + 2 * length and all(head[first + i * length] == 0x47 for i in range(3))
        for first, length in ((0, 188), (4, 192), (0, 204))
    )


def _is_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16
        return True
    control = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
    return not control and 0 not in head


@functools.cache
def other_formats() -> tuple[str, ...]:
    """Those of `FORMATS` beyond the common ones that the installed packages read."""
    from PIL import Image  # the start of a command does without

    for package in _HEIF_PACKAGES:
        try:
            importlib.import_module(package).register_heif_opener()
        except ImportError:
            continue
        break
    Image.init()
    return tuple(name for name in FORMATS if name not in COMMON_FORMATS and name in Image.OPEN)


class ImageError(UserError):
    """A file that cannot be used as an image: of another kind, damaged, or too large."""


def unsupported_image(data: bytes, label: str) -> ImageError:
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


def input_kind(path: Path) -> FileKind:
    """As `file_kind`, with the role image or clip for all that is to be read as one.

    An image or clip that is empty, damaged or of another kind than its ending promises has the role
    that its ending says, so that it is reported and not left out.
    """
    kind, suffix = file_kind(path), path.suffix.lower()
    if kind.role in ("image", "clip"):
        return kind
    if suffix in SUFFIXES:
        return replace(kind, role="image")
    # A text that ends with .ts is a program.
    if suffix in CLIP_SUFFIXES and not (kind == TEXT and suffix == ".ts"):
        return replace(kind, role="clip")
    return kind


def kind_or_reason(path: Path) -> FileKind:
    """The `input_kind` of whatever is at `path`, or why it cannot be read as a kind."""
    try:
        return input_kind(path)
    except UserError:
        return FileKind("other", "pipe or device")
    except OSError as error:
        gone = error.errno in (errno.ENOENT, errno.ELOOP)
        return FileKind("unknown", "broken link" if gone else "unreadable file")


def files_in(
    top: Path, skipped: Counter[str], *, recursive: bool = False, without: Path | None = None
) -> Iterator[tuple[Path, FileKind, str]]:
    """The images and clips in a folder, in natural order, with their names relative to it.

    `skipped` counts the others by their kinds. Hidden files and the folder `without` are left out;
    folders in it are read only if `recursive`. Raises OSError where `top` cannot be read.
    """
    own = None if without is None else _identity(without)
    seen = {own, _identity(top)}
    waiting = [(top, "")]
    while waiting:
        folder, above = waiting.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: natural_key(entry.name))
        except OSError:
            if folder == top:
                raise
            skipped["unreadable folder"] += 1
            continue
        below = []
        for entry in entries:
            if entry.name.startswith("."):
                skipped[_HIDDEN] += 1
            elif not Path(entry.path).is_dir():  # that of `entry` fails at links in a circle
                path = Path(entry.path)
                kind = kind_or_reason(path)
                if kind.role in ("image", "clip"):
                    yield path, kind, f"{above}{entry.name}"
                else:
                    skipped[kind.name] += 1
            elif not recursive:
                skipped[_FOLDER] += 1
            elif (identity := _identity(Path(entry.path))) not in seen:
                seen.add(identity)
                below.append((Path(entry.path), f"{above}{entry.name}/"))
            elif identity != own:
                skipped[_LOOP] += 1
        waiting += reversed(below)


def _identity(path: Path) -> tuple[int, int] | None:
    """What two names of one folder share; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def skipped_text(skipped: Mapping[str, int]) -> str:
    """Counts by kind, as "3 text files, 1 PDF, 2 folders (--recursive)"; "" for none."""
    return ", ".join(
        f"{number:,} {kind if number == 1 else _plural(kind)}"
        + (" (--recursive)" if kind == _FOLDER else "")
        for kind, number in sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
    )


def _plural(kind: str) -> str:
    """The noun before a preposition gets the s: "files of an unknown kind"."""
    noun, *rest = re.split(r"(?= of | to | or )", kind)
    return f"{noun}s{''.join(rest)}" if noun != "hidden file" else "hidden files or folders"
