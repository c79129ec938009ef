"""Clips, animated images, cameras and streams, all read in one way."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

from hrpose.image import is_animated
from hrpose.io import without_secrets
from hrpose.video.decoding import (
    AnimatedImage,
    Decoder,
    Frame,
    Frames,
    open_container,
    regular_kind,
)
from hrpose.video.live import Live, open_live

__all__ = ["Clip", "Frame"]


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
            return cls(without_secrets(source), open_live(source, reconnect, stopped))
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
