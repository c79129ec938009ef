"""Writing clips, as H.264 with the source's own times and sound; and a window that shows frames."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from hrpose.errors import UserError
from hrpose.io import write_error
from hrpose.video.decoding import open_container

# In order of preference; which of them exist depends on how FFmpeg was built. Every build can write
# MPEG-4 part 2.
ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf", "mpeg4")
OPTIONS = {
    # Without latency, so that no frame waits in the encoder for others. Beside networks the faster
    # preset counts: "veryfast" takes a quarter more time and makes a sixth smaller files.
    "libx264": {"crf": "23", "preset": "superfast", "tune": "zerolatency"},
    "mpeg4": {"qmin": "2", "qmax": "5"},
}

# An MP4 needs an index of its frames, by default at the end of the work. In fragments, with indices
# of their own, it can be played at any time while it is written, and after a crash; at the end
# FFmpeg makes it an ordinary MP4 with one index. The sound may be shorter than the images, which
# do not wait for it long. In microseconds.
CONTAINER = {
    "movflags": "hybrid_fragmented+delay_moov",
    "flush_packets": "1",
    "frag_duration": "200000",
    "max_interleave_delta": "200000",
}

# The finest time base of MPEG-4 part 2. A frame of every usual rate is a whole number of ticks, or
# within 8 microseconds of one.
CLOCK = Fraction(1, 60000)

_BT709 = 1  # FFmpeg's number for the colors of high definition video


class Recorder:
    """Writes a clip to `path`, which is playable at any time: a crash loses the last 0.2 seconds.

    The file is made at the first frame; it replaces an older one. `close` completes it. An odd
    width or height is padded by a repeated column or row, because the format has even sizes
    only. `rate` in frames per second is a hint for the encoder; the times of the frames decide.
    `sound_of` is the clip whose sound is copied. Raises UserError where `path` cannot be written.
    """

    def __init__(self, path: Path, rate: float, sound_of: Path | None = None) -> None:
        self.path = path
        # FFmpeg's name of the encoder in use, and the sound codecs that an MP4 cannot hold.
        self.encoder = next(name for name in ENCODERS if _exists(name))
        self.left_out: tuple[str, ...] = ()
        self._rate, self._sound_of = rate, sound_of
        self._sound: _Sound | None = None
        self._last_tick, self._end = -1, 0.0
        self._durations: list[int] = []
        self._to_yuv = VideoReformatter()
        self._rgb: av.VideoFrame | None = None
        self._writing: tuple[OutputContainer, av.VideoStream] | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(path, error) from error

    def write(self, image: NDArray[np.uint8], time: float, duration: float) -> None:
        """Add an (h, w, 3) uint8 RGB frame, shown from `time` for `duration`, in seconds."""
        frame = self._to_yuv.reformat(
            self._padded(image),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,  # which would wait for each other longer than they work
        )
        # Times of damaged clips may repeat or decrease; the format needs them to increase.
        self._last_tick = max(round(time / CLOCK), self._last_tick + 1)
        frame.pts, frame.time_base = self._last_tick, CLOCK
        self._durations.append(max(round(duration / CLOCK), 1))
        self._end = time + duration
        try:
            if self._writing is None:
                self._writing = self._start(frame.width, frame.height)
            container, video = self._writing
            self._mux(container, video.encode(frame))
            self._copy_sound(container, self._end)
        except (OSError, av.FFmpegError) as error:  # a full disk
            raise write_error(self.path, error) from error

    def close(self, rest_of_sound: bool = False) -> None:
        """Complete the file; a second call does nothing. Without frames there is no file.

        Without `rest_of_sound` the sound ends with the frames. Raises UserError where the rest
        cannot be written; what was written before stays.
        """
        if self._writing is None:
            return
        (container, video), self._writing = self._writing, None
        try:
            try:
                self._mux(container, video.encode(None))
                self._copy_sound(container, float("inf") if rest_of_sound else self._end)
            finally:
                container.close()
        except (OSError, av.FFmpegError) as error:
            raise write_error(self.path, error) from error
        finally:
            if self._sound is not None:
                self._sound.close()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _padded(self, image: NDArray[np.uint8]) -> av.VideoFrame:
        """The image with even sizes; the next one overwrites it."""
        height, width = image.shape[:2]
        wide, high = width + width % 2, height + height % 2
        if self._rgb is None or (self._rgb.width, self._rgb.height) != (wide, high):
            self._rgb = av.VideoFrame(wide, high, "rgb24")
        plane = self._rgb.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(high, plane.line_size)  # type: ignore[call-overload]
        pixels = rows[:, : wide * 3].reshape(high, wide, 3)
        pixels[:height, :width] = image
        pixels[height:, :width] = image[-1:]
        pixels[:, width:] = pixels[:, width - 1 : width]
        return self._rgb

    def _start(self, width: int, height: int) -> tuple[OutputContainer, av.VideoStream]:
        # A new file, not the one that a link of this name leads to.
        self.path.unlink(missing_ok=True)
        container = av.open(f"file:{self.path}", "w", format="mp4", options=dict(CONTAINER))
        rate = Fraction(self._rate).limit_denominator(1001)
        options = dict(OPTIONS.get(self.encoder, {}))
        stream = container.add_stream(self.encoder, rate=rate, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = CLOCK
        # No B-frames: times and durations are stored exactly as given.
        stream.codec_context.max_b_frames = 0
        stream.codec_context.colorspace = stream.codec_context.color_primaries = _BT709
        stream.codec_context.color_trc = _BT709
        stream.codec_context.color_range = ColorRange.MPEG
        if self._sound_of is not None:
            self._sound = _Sound(self._sound_of, container)
            self.left_out = self._sound.left_out
        return container, stream

    def _copy_sound(self, container: OutputContainer, end: float) -> None:
        if self._sound is not None:
            for packet in self._sound.until(end):
                container.mux(packet)

    def _mux(self, container: OutputContainer, packets: list["Packet[av.VideoStream]"]) -> None:
        for packet in packets:
            # Without B-frames, packets are in the order of the frames.
            packet.duration = self._durations.pop(0)
            packet.time_base = CLOCK
            container.mux(packet)


class _Sound:
    """The sound of a clip, packet by packet as it is stored, for another container."""

    def __init__(self, source: Path, target: OutputContainer) -> None:
        self._source = open_container(source)
        self._start = Fraction(self._source.start_time or 0, av.time_base)
        self._streams: dict[int, AudioStream] = {}
        left_out = []
        for stream in self._source.streams.audio:
            if stream.codec.canonical_name in target.supported_codecs:
                self._streams[stream.index] = target.add_stream_from_template(stream)
            else:
                left_out.append(stream.codec.canonical_name)
        self.left_out = tuple(left_out)
        self._packets = self._demuxed()
        self._next = next(self._packets, None)

    def until(self, time: float) -> Iterator["Packet[Stream]"]:
        """The next packets that begin before `time` in seconds."""
        while self._next is not None and (self._next.pts or 0) * self._next.time_base < time:
            yield self._next
            self._next = next(self._packets, None)

    def close(self) -> None:
        self._source.close()

    def _demuxed(self) -> Iterator["Packet[Stream]"]:
        """Packets with times from the start of the clip; they end where it is damaged."""
        if not self._streams:
            return
        wanted = [self._source.streams[index] for index in self._streams]
        last: dict[int, int] = {}
        try:
            for packet in self._source.demux(wanted):
                if packet.pts is None or packet.dts is None:
                    continue
                # Times of damaged or joined clips may decrease, which an MP4 cannot hold.
                if packet.dts <= last.get(packet.stream_index, packet.dts - 1):
                    continue
                last[packet.stream_index] = packet.dts
                shift = round(self._start / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = self._streams[packet.stream_index]
                yield packet
        except av.FFmpegError:
            return


def _exists(encoder: str) -> bool:
    try:
        av.Codec(encoder, "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


class Window:
    """A window that shows frames, by Python's Tk; the headless OpenCV that hrpose uses has none.

    Raises UserError where there is no display, or Python has no Tk.
    """

    def __init__(self, title: str) -> None:
        try:
            import tkinter
        except ImportError as error:
            raise UserError(
                "--show: needs Python's tkinter, found none; install it (Debian: python3-tk) or "
                "leave --show out",
                code="package-missing",
            ) from error
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise UserError(
                f"--show: needs a display ({error}); leave --show out", code="display-missing"
            ) from error
        self.open = True
        self._root.title(title)
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._root.protocol("WM_DELETE_WINDOW", self._closed)
        for key in ("<Escape>", "q"):
            self._root.bind(key, lambda _: self._closed())

    def show(self, image: NDArray[np.uint8]) -> bool:
        """Show an (h, w, 3) uint8 RGB image, reduced to fit the screen; False once it is closed."""
        from PIL import ImageTk

        if self.open:
            scaled = Image.fromarray(image)
            screen = self._root.winfo_screenwidth(), self._root.winfo_screenheight()
            scaled.thumbnail((screen[0] * 9 // 10, screen[1] * 9 // 10))
            # Tk keeps no reference to the image that it shows.
            self._shown = ImageTk.PhotoImage(scaled, master=self._root)
            self._label.configure(image=self._shown)
            self._root.update()
        return self.open

    def _closed(self) -> None:
        self.open = False

    def __enter__(self) -> "Window":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._root.destroy()
