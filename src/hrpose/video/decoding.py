"""Decoding untrusted clips and animated images: upright RGB frames with their times."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from hrpose.errors import UserError
from hrpose.file_kinds import EMPTY, FileKind, file_kind
from hrpose.image import open_image
from hrpose.io import prefetch

# A frame of 8192 x 6144, more than consumer cameras have.
MAX_PIXELS = 50_331_648

# FFmpeg's names of the formats that are opened: those of cameras, phones, recorders, television and
# the web, and raw streams. It knows hundreds more, some of which are playlists or scripts that
# refer to other files or addresses.
CONTAINERS = (
    "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "avi", "matroska", "webm", "mpegts", "mpeg", "asf",
    "flv", "live_flv", "ogg", "mxf", "gxf", "dv", "rm", "ivf", "nut", "wtv", "dhav", "yuv4mpegpipe",
    "mpegvideo", "m4v", "h261", "h263", "h264", "hevc", "vvc", "av1", "obu", "vc1", "cavsvideo",
    "dirac", "mjpeg", "mjpeg_2000",
)  # fmt: skip


# Seconds that browsers show a frame of an animated image that asks for less than `_MIN_DURATION`.
DEFAULT_DURATION = 0.1
_MIN_DURATION = 0.0101


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame of a clip: `image` (h, w, 3) uint8 RGB, upright.

    `index` counts from 0. `time` and `duration` in seconds; the clip starts at time 0.
    """

    image: NDArray[np.uint8]
    index: int
    time: float
    duration: float


class Frames(Protocol):
    """The frames of a clip, an animated image, or a camera or stream; iterate once.

    `damage` reports in one line what was left out.
    """

    @property
    def damage(self) -> str | None: ...

    @property
    def rate(self) -> float:
        """Mean frames per second; 30 where it is unknown."""
        ...

    @property
    def frame_count(self) -> int | None:
        """The approximate number of frames; None where it is unknown, as for a camera."""
        ...

    @property
    def time_base(self) -> Fraction:
        """The unit of its own times, in seconds."""
        ...

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...


class Decoder:
    """The frames of an open container.

    Raises UserError, and closes it, where it has no video or too large frames.
    """

    def __init__(self, container: InputContainer, name: str) -> None:
        self.name = name
        self.damage: str | None = None
        self._size: tuple[int, int] | None = None
        self._to_rgb = VideoReformatter()
        self.read(container)

    def read(self, container: InputContainer) -> None:
        """Go on with another container; its frames are scaled to the size of the first."""
        try:
            self._container, self._stream = container, _video(container, self.name)
        except BaseException:
            container.close()
            raise

    @property
    def rate(self) -> float:
        average, guessed = self._stream.average_rate, self._stream.guessed_rate
        # Where FFmpeg knows no average (DV), it says that each tick of the clock is a frame.
        if average and guessed and average * self.time_base >= 1:
            average = guessed
        return float(average or guessed or 30)

    @property
    def time_base(self) -> Fraction:
        return self._stream.time_base or Fraction(1, av.time_base)

    @property
    def frame_count(self) -> int | None:
        if self._stream.frames:
            return self._stream.frames
        duration = self._container.duration
        return round(duration / av.time_base * self.rate) if duration else None

    def close(self) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        start = (self._container.start_time or 0) / av.time_base
        count = 0

        def timed() -> Iterator[tuple[av.VideoFrame, int, float, float]]:
            nonlocal count
            end = 0.0
            for decoded in self.decoded():
                step = self.step(decoded)
                time = end if decoded.time is None else decoded.time - start
                yield decoded, count, time, step
                count, end = count + 1, time + step

        def frame(timed: tuple[av.VideoFrame, int, float, float]) -> Frame:
            decoded, index, time, step = timed
            return Frame(self.upright(decoded), index, time, step)

        yield from prefetch(frame, timed(), threads=1, waiting=2)
        if count == 0:
            raise UserError(
                f"{self.name}: expected frames, found none that can be read", code="clip-invalid"
            )

    def step(self, decoded: av.VideoFrame) -> float:
        """The duration of a frame in seconds."""
        return float(decoded.duration * (decoded.time_base or 0)) or 1 / self.rate

    def upright(self, decoded: av.VideoFrame) -> NDArray[np.uint8]:
        """(h, w, 3) RGB of the first frame's size, rotated by the clip's metadata."""
        self._size = self._size or (decoded.width, decoded.height)
        width, height = self._size
        rgb = self._to_rgb.reformat(decoded, width, height, "rgb24", threads=1)
        pixels: NDArray[Any] = rgb.to_ndarray()
        # FFmpeg's angle is counter-clockwise, as NumPy's is.
        return np.ascontiguousarray(np.rot90(pixels, round(decoded.rotation / 90)))

    def decoded(self) -> Iterator[av.VideoFrame]:
        lost, ended = 0, False
        packets = self._container.demux(self._stream)
        while not ended:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except av.FFmpegError:  # the rest of the file cannot be read
                lost, ended = lost + 1, True
                packet = None
            try:
                # None flushes the frames that the decoder still holds.
                decoded = self._stream.decode(packet)
            except av.FFmpegError:  # damage has many exceptions
                lost += 1
                continue
            for frame in decoded:
                if frame.is_corrupt:
                    lost += 1
                else:
                    yield frame
        if lost:
            frames = "1 frame" if lost == 1 else f"{lost} frames"
            self.damage = f"{self.name}: damaged or cut off; {frames} could not be read"


class AnimatedImage:
    """The frames of an animated GIF, WebP, PNG or AVIF: complete, on white, each with its duration.

    Raises UserError where the file is not an image, or is larger than images may be.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.damage: str | None = None
        self._image = open_image(path)

    @property
    def rate(self) -> float:
        """Frames per second, by the duration of the current frame."""
        return 1 / self._duration()

    @property
    def time_base(self) -> Fraction:
        return Fraction(1, 1000)

    @property
    def frame_count(self) -> int:
        return int(getattr(self._image, "n_frames", 1)) - self._first()

    def close(self) -> None:
        self._image.close()

    def __iter__(self) -> Iterator[Frame]:
        time = 0.0
        for index in count():
            try:
                self._image.seek(self._first() + index)
                self._image.load()
                pixels = self._pixels()
            except EOFError:
                break
            except Exception as error:  # a decoder may raise anything at damaged bytes
                self.damage = f"{self.name}: damaged or cut off after {index} frames"
                if index == 0:
                    raise UserError(
                        f"{self.name}: expected frames, found none that can be read",
                        code="clip-invalid",
                    ) from error
                break
            duration = self._duration()
            yield Frame(pixels, index, time, duration)
            time += duration

    def _first(self) -> int:
        """1 where the first image of a PNG file is for programs that show no animation."""
        return int(getattr(self._image, "default_image", False))

    def _duration(self) -> float:
        """Seconds of the current frame."""
        seconds = float(self._image.info.get("duration", 0)) / 1000
        return seconds if seconds >= _MIN_DURATION else DEFAULT_DURATION

    def _pixels(self) -> NDArray[np.uint8]:
        if self._image.has_transparency_data:
            white = Image.new("RGBA", self._image.size, "white")
            return np.array(
                Image.alpha_composite(white, self._image.convert("RGBA")).convert("RGB")
            )
        return np.array(self._image.convert("RGB"))


def _video(container: InputContainer, name: str) -> av.VideoStream:
    """The video of a container. Raises UserError where it has none within the bounds."""
    stream = container.streams.best("video")
    # A stream of an unknown codec has no context, nor a size.
    if not isinstance(stream, av.VideoStream) or stream.codec_context is None:
        raise UserError(
            f"{name}: expected a clip, found no video in it; choose another file",
            code="clip-invalid",
        )
    stream.thread_type = "AUTO"
    if stream.width * stream.height > MAX_PIXELS:
        raise UserError(
            f"{name}: expected frames of at most {MAX_PIXELS:,} pixels, found "
            f"{stream.width} x {stream.height}; make it smaller",
            code="image-too-large",
        )
    # Frames may be larger than the header says.
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def regular_kind(path: Path) -> FileKind:
    """The kind of a clip's file. Raises UserError where it is missing or no regular file."""
    try:
        return file_kind(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the name", code="file-unreadable") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror})", code="file-unreadable"
        ) from error


def open_container(path: Path) -> InputContainer:
    """Open a clip's file for reading; only the file itself is read, whatever it refers to.

    Its content decides what it is, not its ending. Raises UserError where it is missing, no regular
    file, or of another kind.
    """
    kind = regular_kind(path)
    if kind == EMPTY:
        raise UserError(
            f"{path}: expected a clip, found an empty file; copy it here again", code="clip-invalid"
        )
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(CONTAINERS)}
    try:
        # With "file:", a name with a colon is no protocol.
        return av.open(f"file:{path}", "r", options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        if kind.role == "clip":
            raise UserError(
                f"{path}: {kind} that cannot be read ({reason}); one that was cut off may lack its "
                "index: copy or record it again",
                code="clip-invalid",
            ) from error
        raise UserError(
            f"{path}: expected a clip, found {kind}; convert it to MP4", code="clip-invalid"
        ) from error
