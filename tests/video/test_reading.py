from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from time import sleep
from typing import Any

import av
import numpy as np
import pytest

from clips import beep, colors, times, write_clip
from hrpose.file_kinds import file_kind
from hrpose.video import Clip, decoding, reading
from refusals import refused


def read(source: Path) -> list:
    with Clip.open(source) as opened:
        return list(opened)


def test_frames_are_the_images_with_their_times(tmp_path: Path) -> None:
    images = colors(6)
    path = write_clip(tmp_path / "a.mkv", images, times(6), codec="ffv1", pixels="bgr0")
    found = read(path)
    assert [frame.index for frame in found] == list(range(6))
    assert [frame.time for frame in found] == pytest.approx(times(6), abs=1e-3)
    assert [frame.duration for frame in found] == pytest.approx([0.04] * 6, abs=1e-3)
    for frame, image in zip(found, images, strict=True):
        np.testing.assert_array_equal(frame.image, image)
        assert frame.image.flags.c_contiguous


@pytest.mark.parametrize("size", [(63, 48), (64, 47), (61, 45)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    images = colors(2, size)
    path = write_clip(tmp_path / "a.mkv", images, times(2), codec="ffv1", pixels="bgr0")
    np.testing.assert_array_equal(read(path)[1].image, images[1])


PIXELS = {"mjpeg": "yuvj420p"}


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.mov", "libx264"), ("a.webm", "libvpx"),
        ("a.mts", "libx264"), ("a.m2ts", "libx264"), ("a.ts", "libx264"), ("a.3gp", "libx264"),
        ("a.flv", "libx264"), ("a.mpg", "mpeg2video"), ("a.vob", "mpeg2video"), ("a.wmv", "wmv2"),
        ("a.mxf", "mpeg2video"), ("a.nut", "mpeg4"), ("a.ogv", "libvpx"), ("a.ivf", "libvpx"),
        ("a.mjpeg", "mjpeg"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("named", [True, False])
def test_containers(tmp_path: Path, name: str, codec: str, named: bool) -> None:
    """With their endings and without: the content decides."""
    images = colors(5)
    ticks = (
        Fraction(1, 25)
        if name in ("a.mpg", "a.vob", "a.mxf", "a.ivf", "a.ogv", "a.mjpeg")
        else None
    )
    path = write_clip(
        tmp_path / name, images, times(5), codec=codec, pixels=PIXELS.get(codec, "yuv420p"),
        **({} if ticks is None else {"tick": ticks}),
    )  # fmt: skip
    if not named and name != "a.mjpeg":  # whose every frame is an image
        path = path.rename(tmp_path / "clip")
    found = read(path)
    assert [frame.time for frame in found] == pytest.approx(times(5), abs=2e-3)
    for frame, image in zip(found, images, strict=True):
        assert np.abs(frame.image.astype(int) - image).mean() < 12


def test_a_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    at = [0, 0.04, 0.2, 0.21, 0.5, 1.0]
    path = write_clip(tmp_path / "a.mkv", colors(6), at)
    assert [frame.time for frame in read(path)] == pytest.approx(at, abs=1e-3)


# FFmpeg counts the angle counter-clockwise; where the red corner of the top left must come to.
@pytest.mark.parametrize(
    ("rotation", "corner"),
    [(0, "top left"), (90, "bottom left"), (-90, "top right"), (180, "bottom right")],
)
def test_frames_are_upright(tmp_path: Path, rotation: float, corner: str) -> None:
    path = write_clip(tmp_path / "a.mp4", colors(2), times(2), rotation=rotation)
    image = read(path)[0].image
    assert image.shape == ((48, 64, 3) if rotation in (0, 180) else (64, 48, 3))
    red = image[..., 0].astype(int) - image[..., 1]
    y, x = np.unravel_index(red.argmax(), red.shape)
    found = ("top" if y < image.shape[0] / 2 else "bottom") + (
        " left" if x < image.shape[1] / 2 else " right"
    )
    assert found == corner


def test_times_start_at_zero(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", colors(4), [time + 7 for time in times(4)])
    assert [frame.time for frame in read(path)] == pytest.approx(times(4), abs=1e-3)


def test_a_frame_of_another_size_is_scaled_to_the_first(tmp_path: Path) -> None:
    parts = b""
    for size in ((64, 48), (96, 80)):
        path = write_clip(tmp_path / "part.ts", colors(3, size), times(3), codec="libx264")
        parts += path.read_bytes()
    (tmp_path / "a.ts").write_bytes(parts)
    found = read(tmp_path / "a.ts")
    assert len(found) > 3
    assert {frame.image.shape for frame in found} == {(48, 64, 3)}


def noisy(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.ts", "a.mp4"])
def test_a_clip_truncated_within_a_frame(tmp_path: Path, name: str) -> None:
    path = write_clip(
        tmp_path / name, noisy(25), times(25), codec="mpeg4",
        options={"movflags": "faststart"} if name == "a.mp4" else None, tick=Fraction(1, 25),
    )  # fmt: skip
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    with Clip.open(path) as opened:
        found = list(opened)
        assert 5 <= len(found) <= 20
        assert opened.damage is None or "damaged or cut off" in opened.damage


def test_damage_is_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mov", noisy(25), times(25), codec="png", pixels="rgb24")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    path.write_bytes(data)
    with Clip.open(path) as opened:
        found = list(opened)
        assert opened.damage is not None
    assert 20 <= len(found) < 25
    assert found[-1].time > 0.9


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video", "mpeg4"])
def test_raw_streams(tmp_path: Path, codec: str) -> None:
    """The network of a camera without a container: no times, so those of the stream's rate."""
    raw = {"libx264": "h264", "libx265": "hevc", "mpeg2video": "mpeg2video", "mpeg4": "m4v"}[codec]
    images = colors(5, (128, 96))
    path = tmp_path / f"a.{raw}"
    with av.open(str(path), "w", format=raw) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    found = read(path)
    assert len(found) == 5
    assert all(0 < frame.duration <= 0.04 for frame in found)


def test_motion_jpeg_2000(tmp_path: Path) -> None:
    """FFmpeg writes none; the box of its signature stands before what QuickTime has."""
    path = write_clip(
        tmp_path / "a.mov", colors(3), times(3), codec="jpeg2000",
        options={"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    )  # fmt: skip
    data = path.read_bytes().replace(b"ftypqt  ", b"ftypmjp2", 1)
    (tmp_path / "clip").write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n" + data)
    assert len(read(tmp_path / "clip")) == 3


def playlist(tmp_path: Path) -> bytes:
    target = write_clip(tmp_path / "secret.ts", colors(3), times(3), codec="libx264")
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target.name}\n#EXT-X-ENDLIST\n".encode()


def no_index(tmp_path: Path) -> bytes:
    path = write_clip(tmp_path / "whole.mp4", colors(3), times(3))
    data = path.read_bytes()
    return data[: data.index(b"moov") - 4]


def unknown_codec(tmp_path: Path) -> bytes:
    data = write_clip(tmp_path / "whole.avi", colors(3), times(3), codec="mpeg4").read_bytes()
    return data.replace(b"FMP4", b"\x01??\x02").replace(b"fmp4", b"\x01??\x02")


@pytest.mark.parametrize(
    "content",
    [
        unknown_codec,
        b"",
        b"hello, this is no clip at all" * 40,
        b"<html><body>" + b"x" * 4000,
        playlist,
        no_index,
    ],
)
def test_files_that_are_no_clip(tmp_path: Path, content: object) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content(tmp_path) if callable(content) else content)
    with refused("clip-invalid", str(path)):
        read(path)


def test_sound_alone_is_no_clip(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        audio = container.add_stream("aac", rate=48000)
        audio.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 48000
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    with refused("clip-invalid", "a.mp4"):
        read(tmp_path / "a.mp4")


def test_frames_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4", colors(2), times(2))
    monkeypatch.setattr(decoding, "MAX_PIXELS", 64 * 48 - 1)
    with refused("image-too-large", "3,071", "64 x 48"):
        read(path)


def test_ogg_files_of_sound_alone(tmp_path: Path) -> None:
    """The first packets say which codecs are in it, whatever the order of its streams."""
    sound, clip = tmp_path / "sound.ogg", tmp_path / "clip.ogg"
    with av.open(str(sound), "w") as container:
        audio = container.add_stream("libopus", rate=48000)
        audio.layout = "mono"
        for frame in beep(0.1, "s16"):
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    write_clip(
        clip, colors(3), times(3), codec="libvpx", sound="libopus", tick=Fraction(1, 25),
        options={"f": "ogg"},
    )  # fmt: skip
    assert [str(file_kind(path)) for path in (sound, clip)] == ["a sound file", "an Ogg clip"]
    assert len(read(clip)) == 3
    with refused("clip-invalid", "sound.ogg"):
        read(sound)


def test_the_rate_of_dv(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "a.dv", colors(3, (720, 576)), times(3), codec="dvvideo", tick=Fraction(1, 25)
    )
    with Clip.open(path) as opened:
        assert opened.rate == 25
        assert opened.frame_count == 3
        assert [frame.time for frame in opened] == pytest.approx(times(3))


@pytest.mark.parametrize("name", ["none.mp4", "."])
def test_a_missing_file_and_a_folder(tmp_path: Path, name: str) -> None:
    with refused("file-unreadable", str(tmp_path / name)):
        Clip.open(tmp_path / name)


def test_a_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "plain.mp4", colors(2), times(2)).rename("http:a.mp4")
    assert len(read(Path("http:a.mp4"))) == 2


def test_the_frame_count(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv"):
        with Clip.open(write_clip(tmp_path / name, colors(10), times(10))) as opened:
            assert opened.frame_count == pytest.approx(10, abs=1)
            assert opened.rate == pytest.approx(25, rel=0.05)


# A clip stands in for the camera: FFmpeg opens both, only by other names.
@pytest.fixture
def camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    write_clip(tmp_path / "0.mkv", colors(40), [time + 5 for time in times(40)])
    monkeypatch.setattr(reading, "CAMERAS", {reading.sys.platform: (None, f"{tmp_path}/{{}}.mkv")})
    return "camera:0"


def test_a_camera_gives_the_newest_frame(camera: str) -> None:
    with Clip.open(camera) as opened:
        assert opened.live
        assert opened.frame_count is None
        found = list(opened)
    # The stand-in delivers as fast as it can be read, so frames are lost, but never the order.
    assert found[-1].time == pytest.approx(39 / 25, abs=1e-3)
    assert [frame.index for frame in found] == list(range(len(found)))
    assert np.all(np.diff([frame.time for frame in found]) > 0)


def test_a_slow_reader_still_gets_a_cameras_last_frame(camera: str) -> None:
    with Clip.open(camera) as opened:
        frames = iter(opened)
        first = next(frames)  # the last one already, where the machine is slow
        sleep(0.5)  # meanwhile the stand-in comes to its end
        last = [first, *frames][-1]
    assert last.time == pytest.approx(39 / 25, abs=1e-3)


def test_a_camera_is_released(camera: str) -> None:
    with Clip.open(camera) as opened:
        frames = iter(opened)
        next(frames)
        frames.close()
    assert not [thread for thread in reading.threading.enumerate() if "camera" in thread.name]


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("camera:", "option-invalid"),
        ("camera:front", "option-invalid"),
        ("camera:77", "camera-unavailable"),
    ],
)
def test_a_camera_that_is_not_there(source: str, code: str) -> None:
    with refused(code, source):
        Clip.open(source)


class Breaks:
    """A container whose file cannot be read on after so many packets."""

    def __init__(self, container: Any, packets: int) -> None:
        self.container, self.packets = container, packets

    def __getattr__(self, name: str) -> Any:
        return getattr(self.container, name)

    def demux(self, stream: Any) -> Iterator[Any]:
        yield from islice(self.container.demux(stream), self.packets)
        raise av.FFmpegError(5, "Input/output error")


def test_all_frames_before_a_read_error_are_returned(tmp_path: Path) -> None:
    """A decoder holds some back, to bring them into their order."""
    path = write_clip(tmp_path / "a.mkv", colors(20), times(20))
    with Clip.open(path) as opened:
        opened._frames._container = Breaks(opened._frames._container, 12)  # type: ignore
        assert len(list(opened)) == 12
        assert "1 frame could not be read" in (opened.damage or "")


def test_a_camera_without_images_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container = av.open(str(write_clip(tmp_path / "a.mkv", colors(1), times(1))))
    monkeypatch.setattr(reading, "_open_camera", lambda _: container)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 10)
    with refused("image-too-large", "64 x 48"):
        Clip.open("camera:0")
    with pytest.raises(AssertionError, match="not open"):
        next(container.demux())
