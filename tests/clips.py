"""Clips for tests: images at given times, with sound and rotation."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
SOUND_RATE = 48000


def colors(count: int, size_wh: tuple[int, int] = (64, 48)) -> list[Pixels]:
    """Images that differ: a red corner at the top left, and a gray that grows."""
    width, height = size_wh
    images = []
    for index in range(count):
        image = np.full((height, width, 3), 40 + 150 * index // max(count, 1), np.uint8)
        image[: height // 4, : width // 4] = (200, 20, 20)
        images.append(image)
    return images


def times(count: int, rate: float = 25) -> list[float]:
    return [index / rate for index in range(count)]


def write_clip(
    path: Path,
    images: Iterable[Pixels],
    at: Sequence[float],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rotation: float | None = None,
    sound: str | None = None,
    sound_seconds: float | None = None,
    options: dict[str, str] | None = None,
    tick: Fraction = Fraction(1, 1000),
) -> Path:
    """A clip with an image at each of the times `at`, in seconds; `sound` names a codec."""
    with av.open(str(path), "w", options=options or {}) as container:
        rate = 25 if len(at) < 2 else Fraction(1 / (at[1] - at[0])).limit_denominator(100)
        video = container.add_stream(codec, rate=rate)
        video.pix_fmt = pixels
        video.codec_context.time_base = video.time_base = tick
        if rotation is not None:
            video.set_display_rotation(rotation)
        audio = None
        if sound is not None:
            audio = container.add_stream(sound, rate=SOUND_RATE)
            audio.layout = "mono"
        images = list(images)
        video.height, video.width = images[0].shape[:2]
        for image, time in zip(images, at, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(time / tick), tick
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            seconds = sound_seconds or at[-1] + 1 / float(rate)
            for frame in beep(seconds, audio.codec_context.format.name):
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def beep(seconds: float, sample_format: str) -> Iterable[av.AudioFrame]:
    wave = np.sin(np.arange(int(seconds * SOUND_RATE)) * (2 * np.pi * 440 / SOUND_RATE)) * 0.3
    kinds = {"flt": (1, np.float32), "s16": (2**15, np.int16), "s32": (2**31, np.int32)}
    loudest, kind = kinds[sample_format.removesuffix("p")]
    wave = (wave * loudest).astype(kind)
    for start in range(0, len(wave), 960):
        piece = wave[None, start : start + 960]
        frame = av.AudioFrame.from_ndarray(piece, format=sample_format, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
        yield frame


def sound_packets(path: Path) -> list[tuple[float, bytes]]:
    """(time in seconds, bytes) of every packet of sound."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        return [
            (float(packet.pts * packet.time_base), bytes(packet))
            for packet in container.demux(audio=0)
            if packet.pts is not None
        ]


def frames(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def duration(path: Path) -> float:
    """The length of the images' track, in seconds."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        return float(video.duration * video.time_base)
