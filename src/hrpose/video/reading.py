"""Reading untrusted clips, and cameras: upright RGB frames with their times."""

import queue
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from hrpose.errors import UserError

# A frame of 8192 x 6144, more than consumer cameras have.
MAX_PIXELS = 50_331_648

# FFmpeg's names of the containers that are opened. It knows hundreds more, some of which are
# playlists that refer to other files or addresses.
CONTAINERS = ("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "avi", "matroska", "webm", "mpegts")

# By platform: FFmpeg's input device, and its name of camera number n.
CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame of a clip: `image` (h, w, 3) uint8 RGB, upright.

    `index` counts from 0. `time` and `duration` in seconds; the clip starts at time 0.
    """

    image: NDArray[np.uint8]
    index: int
    time: float
    duration: float


class Clip:
    """An open clip or camera; iterate over it once for its frames.

    Times are the clip's own, so a variable frame rate is kept. Frames are rotated upright by the
    clip's metadata, and all have the size of the first. Damaged frames are left out, and `damage`
    reports them in one line. A camera (`live`) yields only its newest frame: frames that were not
    fetched in time are dropped, so that nothing lags behind.
    """

    def __init__(self, container: InputContainer, name: str, live: bool = False) -> None:
        """Use `Clip.open`."""
        self.name = name
        self.live = live
        self.damage: str | None = None
        self._container = container
        stream = container.streams.best("video")
        # A stream of an unknown codec has no context, nor a size.
        if not isinstance(stream, av.VideoStream) or stream.codec_context is None:
            raise UserError(
                f"{name}: expected a clip, found no video in it; choose another file",
                code="clip-invalid",
            )
        self._stream = stream
        stream.thread_type = "AUTO"
        if stream.width * stream.height > MAX_PIXELS:
            raise UserError(
                f"{name}: expected frames of at most {MAX_PIXELS:,} pixels, found "
                f"{stream.width} x {stream.height}; make it smaller",
                code="image-too-large",
            )
        # Frames may be larger than the header says.
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}

    @classmethod
    def open(cls, source: str | Path) -> "Clip":
        """Open a file, or camera number n with "camera:n".

        Raises UserError where it cannot be opened, is no clip, or its frames are too large.
        """
        name = str(source)
        live = name.startswith("camera:")
        container = _open_camera(name) if live else open_container(Path(source))
        try:
            return cls(container, name, live)
        except BaseException:
            container.close()
            raise

    @property
    def rate(self) -> float:
        """Mean frames per second; 30 where the clip does not say."""
        return float(self._stream.average_rate or self._stream.guessed_rate or 30)

    @property
    def time_base(self) -> Fraction:
        """The unit of the clip's own times, in seconds."""
        return self._stream.time_base or Fraction(1, av.time_base)

    @property
    def frame_count(self) -> int | None:
        """The approximate number of frames; None where it is unknown, as for a camera."""
        if self.live:
            return None
        if self._stream.frames:
            return self._stream.frames
        duration = self._container.duration
        return round(duration / av.time_base * self.rate) if duration else None

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> "Clip":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        return _newest(self._frames()) if self.live else self._frames()

    def _frames(self) -> Iterator[Frame]:
        size: tuple[int, int] | None = None
        start = (self._container.start_time or 0) / av.time_base
        index, end = 0, 0.0
        for decoded in self._decoded():
            if size is None:
                size = decoded.width, decoded.height
                start = decoded.time or 0.0 if self.live else start
            step = float(decoded.duration * (decoded.time_base or 0)) or 1 / self.rate
            time = end if decoded.time is None else decoded.time - start
            yield Frame(_upright(decoded, size), index, time, step)
            index, end = index + 1, time + step
        if index == 0:
            raise UserError(
                f"{self.name}: expected frames, found none that can be read", code="clip-invalid"
            )

    def _decoded(self) -> Iterator[av.VideoFrame]:
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


def open_container(path: Path) -> InputContainer:
    """Open a clip's file for reading; only the file itself is read, whatever it refers to.

    Raises UserError where it is missing or of another kind.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; check the name", code="file-unreadable")
    if not path.is_file():
        raise UserError(
            f"{path}: expected a clip, found a folder or device; name a file",
            code="file-unreadable",
        )
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(CONTAINERS)}
    try:
        # With "file:", a name with a colon is no protocol.
        return av.open(f"file:{path}", "r", options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{path}: expected a clip (MP4, MOV, AVI, MKV, WebM), found: {reason}; one that was "
            "cut off may lack its index: copy or record it again",
            code="clip-invalid",
        ) from error


def _open_camera(name: str) -> InputContainer:
    number = name.removeprefix("camera:")
    if not (number.isascii() and number.isdigit()):
        raise UserError(
            f"{name}: expected camera:0, camera:1 ..., found '{number}' as the number",
            code="option-invalid",
        )
    if sys.platform not in CAMERAS:
        raise UserError(
            f"{name}: cameras are supported on Linux and macOS; record a clip instead",
            code="camera-unavailable",
        )
    device, pattern = CAMERAS[sys.platform]
    try:
        return av.open(pattern.format(int(number)), "r", format=device)
    except (av.FFmpegError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{name}: cannot be opened ({reason}); check that it is connected and not in use",
            code="camera-unavailable",
        ) from error


def _upright(decoded: av.VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
    """(h, w, 3) RGB of the first frame's size, rotated by the clip's metadata."""
    width, height = size
    pixels: NDArray[Any] = decoded.to_ndarray(format="rgb24", width=width, height=height)
    # FFmpeg's angle is counter-clockwise, as NumPy's is.
    return np.ascontiguousarray(np.rot90(pixels, round(decoded.rotation / 90)))


def _newest(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Read in a thread at the rate of the source; yield the newest frame each time, renumbered."""
    latest: queue.Queue[Frame | BaseException | None] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def put(frame: Frame) -> None:
        while True:
            try:
                latest.put_nowait(frame)
                return
            except queue.Full:
                try:
                    latest.get_nowait()
                except queue.Empty:
                    continue

    def read() -> None:
        try:
            for frame in frames:
                put(frame)
                if stopped.is_set():
                    return
            end: BaseException | None = None
        except BaseException as error:
            end = error
        # After the last frame, not in its place; the reader may have stopped already.
        while not stopped.is_set():
            try:
                latest.put(end, timeout=0.1)
                return
            except queue.Full:
                continue

    reader = threading.Thread(target=read, daemon=True, name="hrpose-camera")
    reader.start()
    try:
        index = 0
        while isinstance(item := latest.get(), Frame):
            yield replace(item, index=index)
            index += 1
        if item is not None:
            raise item
    finally:
        stopped.set()
        reader.join(timeout=5)
