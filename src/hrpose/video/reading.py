"""Clips, animated images, cameras and streams, all read in one way.

Of a camera or stream the newest frame is read each time, and a connection that broke off is made
again.
"""

import logging
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from time import monotonic
from typing import TypeVar

import av
from av.container import InputContainer

from hrpose.errors import UserError
from hrpose.image import is_animated
from hrpose.io import without_secrets
from hrpose.video.decoding import (
    CONTAINERS,
    AnimatedImage,
    Decoder,
    Frame,
    Frames,
    open_container,
    regular_kind,
)

__all__ = ["Clip", "Frame"]

# By platform: FFmpeg's input device, and its name of camera number n.
CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}

# The schemes of streams, and FFmpeg's names of the protocols that each may use. None of them reads
# local files: a playlist comes from a stranger.
_WEB = "http,https,httpproxy,tcp,tls,crypto"
SCHEMES = {
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsp,rtsps,rtp,srtp,udp,tcp,tls,crypto",
    "http": _WEB,
    "https": _WEB,
}
# Beside those of files: RTSP, Motion JPEG, and HLS with its sound.
FORMATS = (*CONTAINERS, "rtsp", "sdp", "mpjpeg", "hls", "aac", "mp3", "webvtt")
OPTIONS = {"rtsp": {"rtsp_flags": "prefer_tcp"}, "rtsps": {"rtsp_flags": "prefer_tcp"}}
# Seconds for opening a stream, and for its next bytes, after which it counts as lost.
TIMEOUT = 15.0
# Seconds before the first attempt to connect again, and at most between two.
FIRST_PAUSE, MAX_PAUSE = 0.5, 8.0
# Seconds by which the times of a stream may differ from those of arrival; then they have jumped.
MAX_DRIFT = 5.0
# Seconds between two frames at least.
_MIN_STEP = 0.001
# Seconds between two questions whether to stop.
_POLL = 0.1

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Clip:
    """An open clip, camera or stream; iterate over it once for its frames.

    Times are the clip's own, so a variable frame rate is kept. Frames are rotated upright by the
    clip's metadata, and all have the size of the first. Damaged frames are left out, and `damage`
    reports them in one line. A camera or stream (`live`) yields only its newest frame: frames that
    were not fetched in time are dropped, so that nothing lags behind.
    """

    def __init__(self, name: str, frames: Frames, sound_file: Path | None = None) -> None:
        """Use `Clip.open`. `sound_file` is the file whose sound a drawn clip can have."""
        self.name = name
        self.live = isinstance(frames, Live)
        self.sound_file = sound_file
        self._frames = frames

    @classmethod
    def open(
        cls,
        source: str | Path,
        *,
        reconnect: float = 60.0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> "Clip":
        """Open a file, camera number n with "camera:n", or an address (rtsp://, http://).

        The content of a file decides; an image with several frames in time, such as an animated
        GIF, is a clip too. A stream that breaks off is opened again for up to `reconnect` seconds.
        A camera or stream ends where `stopped` returns True, which is asked several times a second,
        also while nothing comes.

        Raises UserError where it cannot be opened, is no clip, or its frames are too large.
        """
        if isinstance(source, str) and (source.startswith("camera:") or "://" in source):
            return cls(without_secrets(source), _open_live(source, reconnect, stopped))
        path = Path(source)
        if regular_kind(path).role == "image" and is_animated(path):
            return cls(str(path), AnimatedImage(path))
        return cls(str(path), Decoder(open_container(path), str(path)), path)

    @property
    def damage(self) -> str | None:
        """What could not be read, in one line."""
        return self._frames.damage

    @property
    def rate(self) -> float:
        """Mean frames per second; 30 where the clip does not say."""
        return self._frames.rate

    @property
    def time_base(self) -> Fraction:
        """The unit of the clip's own times, in seconds."""
        return self._frames.time_base

    @property
    def frame_count(self) -> int | None:
        """The approximate number of frames; None where it is unknown, as for a camera."""
        return self._frames.frame_count

    def close(self) -> None:
        self._frames.close()

    def __enter__(self) -> "Clip":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)


def _open_live(source: str, reconnect: float, stopped: Callable[[], bool]) -> "Live | Decoder":
    """The camera or stream `source`, by the rules of `hrpose.video.Clip.open`.

    A clip at an http address that has an end is an ordinary clip: all of its frames are read.
    Raises UserError where it cannot be opened.
    """
    name = without_secrets(source)
    container = _in_thread(lambda: _open(source), stopped, name)
    if source.startswith("http") and container.duration:
        return Decoder(container, name)
    return Live(source, container, reconnect, stopped)


class Live:
    """A camera or stream, read in a thread: frames that were not fetched in time are dropped.

    Times count from the first frame. A stream that ends or is silent for `TIMEOUT` seconds was
    lost: it is opened again, with growing pauses, and the logger `hrpose.video.reading` warns of
    both. Iterating raises UserError where no frame came for `reconnect` seconds more.
    """

    def __init__(
        self,
        source: str,
        container: InputContainer,
        reconnect: float = 60.0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._source, self._reconnect, self._stopped = source, reconnect, stopped
        self._closed = threading.Event()
        self._reader: threading.Thread | None = None
        self.name = without_secrets(source)
        self._decoder = Decoder(container, self.name)
        self._container = container

    @property
    def damage(self) -> str | None:
        return self._decoder.damage

    @property
    def rate(self) -> float:
        return self._decoder.rate

    @property
    def time_base(self) -> Fraction:
        return self._decoder.time_base

    @property
    def frame_count(self) -> None:
        return None

    def __iter__(self) -> Iterator[Frame]:
        """The newest frame each time, numbered in their order."""
        latest: queue.Queue[Frame | BaseException | None] = queue.Queue(maxsize=1)

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
                for frame in self._connected():
                    put(frame)
                    if self._closed.is_set():
                        break
                end: BaseException | None = None
            except BaseException as error:
                end = error
            # After the last frame, not in its place; the reader may have stopped already.
            while not self._closed.is_set():
                try:
                    latest.put(end, timeout=_POLL)
                    return
                except queue.Full:
                    continue
            self._container.close()

        self._reader = threading.Thread(target=read, daemon=True, name="hrpose-camera")
        self._reader.start()
        index = 0
        try:
            while not self._stopped():
                try:
                    item = latest.get(timeout=_POLL)
                except queue.Empty:
                    continue
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                yield replace(item, index=index)
                index += 1
        finally:
            self._closed.set()
            self._reader.join(timeout=_POLL if self._stopped() else 5)

    def close(self) -> None:
        self._closed.set()
        # A thread that waits for a silent stream ends after `TIMEOUT`, and closes it then.
        if self._reader is None or not self._reader.is_alive():
            self._container.close()

    def _connected(self) -> Iterator[Frame]:
        """The frames of all connections, with times that increase and keep close to the clock."""
        began: float | None = None
        lost: float | None = None
        last = -_MIN_STEP
        while True:
            offset: float | None = None
            for frame in self._of_connection():
                now = monotonic()
                began = now if began is None else began
                if offset is None or abs(frame.time + offset - (now - began)) > MAX_DRIFT:
                    offset = now - began - frame.time
                last = max(frame.time + offset, last + _MIN_STEP)
                if lost is not None:
                    _log.warning("%s: connected again after %.0f s", self.name, now - lost)
                    lost = None
                yield replace(frame, time=last)
            if self._source.startswith("camera:") or self._closed.is_set():
                if began is None:
                    raise _no_frames(self.name)
                return
            if lost is None:
                lost = monotonic()
                _log.warning(
                    "%s: connection lost; trying again for %.0f s", self.name, self._reconnect
                )
            if not self._connect_again(lost + self._reconnect):
                return

    def _connect_again(self, until: float) -> bool:
        """Whether there is a connection; False where the clip was closed meanwhile."""
        pause = FIRST_PAUSE
        self._container.close()
        while not self._closed.wait(pause):
            try:
                self._container = _open(self._source)
                self._decoder.read(self._container)
            except UserError as error:
                if monotonic() + pause > until:
                    raise UserError(
                        f"{self.name}: connection lost for {self._reconnect:.0f} s; check the "
                        "camera and the network, or wait longer with --reconnect",
                        code="stream-lost",
                    ) from error
                pause = min(2 * pause, MAX_PAUSE)
            else:
                return True
        return False

    def _of_connection(self) -> Iterator[Frame]:
        """The frames of one connection, with its own times."""
        # Motion JPEG has no times: those of arrival are the best there are.
        timeless = self._container.format.name in ("mpjpeg", "mjpeg")
        time = 0.0
        for decoded in self._decoder.decoded():
            step = self._decoder.step(decoded)
            if timeless:
                time = monotonic()
            else:
                time = time + step if decoded.time is None else decoded.time
            yield Frame(self._decoder.upright(decoded), 0, time, step)


def _no_frames(name: str) -> UserError:
    return UserError(f"{name}: expected frames, found none that can be read", code="clip-invalid")


def _in_thread(work: Callable[[], T], stopped: Callable[[], bool], name: str) -> T:
    """The result of `work`, which may block; raises UserError as soon as `stopped` returns True."""
    done: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue()

    def run() -> None:
        try:
            done.put((work(), None))
        except BaseException as error:
            done.put((None, error))

    threading.Thread(target=run, daemon=True, name="hrpose-connect").start()
    while not stopped():
        try:
            result, error = done.get(timeout=_POLL)
        except queue.Empty:
            continue
        if error is not None:
            raise error
        return result  # type: ignore[return-value]
    raise UserError(f"{name}: stopped before it was opened", code="stream-unavailable")


def _open(source: str) -> InputContainer:
    """Raises UserError where a camera or stream cannot be opened."""
    return _open_camera(source) if source.startswith("camera:") else _open_stream(source)


def _open_stream(address: str) -> InputContainer:
    scheme, name = address.partition("://")[0], without_secrets(address)
    if scheme not in SCHEMES:
        raise UserError(
            f"{name}: expected a stream at {', '.join(SCHEMES)}://", code="address-invalid"
        )
    options = {
        "protocol_whitelist": SCHEMES[scheme],
        "format_whitelist": ",".join(FORMATS),
        **OPTIONS.get(scheme, {}),
    }
    try:
        return av.open(address, "r", options=options, timeout=TIMEOUT, metadata_errors="replace")
    except (av.FFmpegError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise UserError(
            f"{name}: cannot be opened ({reason}); check the address, the network and the "
            "camera's user and password",
            code="stream-unavailable",
        ) from None  # FFmpeg's own message has the password


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
