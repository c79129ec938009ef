import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from clips import colors, duration, frames, sound_packets, times, write_clip
from hrpose.video import Clip, Recorder, writing
from refusals import refused


def copy(source: Path, target: Path, most: int = 1000) -> Recorder:
    """Write a clip again, at most so many frames, as predict does."""
    with Clip.open(source) as clip, Recorder(target, clip.rate, source) as writing:
        for frame in clip:
            writing.write(frame.image, frame.time, frame.duration)
            if frame.index + 1 == most:
                break
        else:
            writing.close(rest_of_sound=True)
    return writing


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [
        ("a.mp4", "libx264", "aac"),
        ("a.mov", "libx264", "aac"),
        ("a.avi", "mpeg4", "libmp3lame"),
        ("a.mkv", "libx264", "ac3"),
        ("a.webm", "libvpx", "libopus"),
        ("a.mov", "libx264", "pcm_s16le"),
    ],
)
def test_sound_and_duration_are_kept(tmp_path: Path, name: str, codec: str, sound: str) -> None:
    tick = Fraction(1, 25)  # the finest that AVI can have
    source = write_clip(tmp_path / name, colors(50), times(50), codec=codec, sound=sound, tick=tick)
    target = tmp_path / "out.mp4"
    assert copy(source, target).left_out == ()
    before, after = sound_packets(source), sound_packets(target)
    assert len(before) > 20
    assert b"".join(data for _, data in after) == b"".join(data for _, data in before)
    if not sound.startswith("pcm"):  # which has packets of any size
        shift = np.array([time for time, _ in after]) - [time for time, _ in before]
        assert np.abs(shift).max() < 0.03
        assert np.ptp(shift) < 2e-3
    shown = [frame.time for frame in frames(source)]
    assert [frame.time for frame in frames(target)] == pytest.approx(shown, abs=2e-3)
    assert duration(target) == pytest.approx(shown[-1] + 0.04, abs=0.01)


def test_sound_starts_with_the_images(tmp_path: Path) -> None:
    """Where a clip begins late, both move alike."""
    at = [time + 3 for time in times(10)]
    source = write_clip(tmp_path / "a.mkv", colors(10), at, sound="aac", sound_seconds=3.5)
    copy(source, tmp_path / "out.mp4")
    assert frames(tmp_path / "out.mp4")[0].time == pytest.approx(3.0, abs=0.03)
    assert sound_packets(tmp_path / "out.mp4")[0][0] == pytest.approx(0, abs=0.03)


def test_the_sound_of_a_stopped_clip_ends_with_its_frames(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", colors(50), times(50), sound="aac")
    copy(source, tmp_path / "out.mp4", most=20)
    assert len(frames(tmp_path / "out.mp4")) == 20
    assert sound_packets(tmp_path / "out.mp4")[-1][0] == pytest.approx(0.8, abs=0.03)


def test_sound_that_an_mp4_cannot_hold_is_named(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.avi", colors(5), times(5), sound="adpcm_ms")
    assert copy(source, tmp_path / "out.mp4").left_out == ("adpcm_ms",)
    assert len(frames(tmp_path / "out.mp4")) == 5


def test_a_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    at = [0, 0.04, 0.2, 0.21, 0.5, 1.0]
    with Recorder(tmp_path / "out.mp4", 25) as writing:
        for image, time, until in zip(colors(6), at, [*at[1:], 1.5], strict=True):
            writing.write(image, time, until - time)
    assert [frame.time for frame in frames(tmp_path / "out.mp4")] == pytest.approx(at, abs=1e-4)
    assert duration(tmp_path / "out.mp4") == pytest.approx(1.5, abs=1e-3)


@pytest.mark.parametrize("size", [(64, 48), (63, 48), (64, 47), (61, 45)])
def test_odd_sizes_are_padded(tmp_path: Path, size: tuple[int, int]) -> None:
    decoded = colors(1, size)[0]
    with Recorder(tmp_path / "out.mp4", 25) as writing:
        writing.write(decoded, 0, 0.04)
    (frame,) = frames(tmp_path / "out.mp4")
    image = frame.to_ndarray(format="rgb24")
    width, height = size
    assert image.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(image[:height, :width].astype(int) - decoded).mean() < 3
    assert np.abs(image[height - 1].astype(int) - image[-1]).mean() < 3


@pytest.mark.parametrize("rgb", [(200, 20, 20), (20, 200, 20), (20, 20, 200), (255, 255, 255),
                                 (0, 0, 0), (230, 180, 150)])  # fmt: skip
def test_colors_are_kept(tmp_path: Path, rgb: tuple[int, int, int]) -> None:
    with Recorder(tmp_path / "out.mp4", 25) as writing:
        writing.write(np.full((48, 64, 3), rgb, np.uint8), 0, 0.04)
    with Clip.open(tmp_path / "out.mp4") as clip:
        (frame,) = clip
    assert np.abs(frame.image.astype(int) - rgb).max() <= 4


def test_repeated_and_decreasing_times(tmp_path: Path) -> None:
    with Recorder(tmp_path / "out.mp4", 25) as writing:
        for image, time in zip(colors(4), [0, 0.1, 0.1, 0.05], strict=True):
            writing.write(image, time, 0.04)
    assert len(frames(tmp_path / "out.mp4")) == 4


def test_another_encoder_where_the_best_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "ENCODERS", ("h264_of_nobody", "mpeg4"))
    source = write_clip(tmp_path / "a.mp4", colors(10), times(10), sound="aac")
    assert copy(source, tmp_path / "out.mp4").encoder == "mpeg4"
    found = frames(tmp_path / "out.mp4")
    assert [frame.time for frame in found] == pytest.approx(times(10), abs=1e-4)


def test_the_file_can_be_read_at_any_time(tmp_path: Path) -> None:
    target = tmp_path / "new" / "out.mp4"
    with Recorder(target, 25) as writing:
        for index, image in enumerate(colors(50)):
            writing.write(image, index / 25, 0.04)
        shown = frames(target)
        assert len(shown) >= 50 - 5 - 1  # a fragment, and the frame that is still in the container
        assert shown[-1].time == pytest.approx((len(shown) - 1) / 25)
    assert [frame.time for frame in frames(target)] == pytest.approx(times(50))
    assert [path.name for path in target.parent.iterdir()] == ["out.mp4"]


def test_no_file_without_frames(tmp_path: Path) -> None:
    target = tmp_path / "none" / "out.mp4"
    with Recorder(target, 25):
        pass
    assert list(target.parent.iterdir()) == []


def test_a_finished_file_has_one_index(tmp_path: Path) -> None:
    """No fragments, which editors and old players do not read."""
    source = write_clip(tmp_path / "a.mp4", colors(50), times(50), sound="aac")
    copy(source, tmp_path / "out.mp4")
    content, boxes, at = (tmp_path / "out.mp4").read_bytes(), [], 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        boxes.append(content[at + 4 : at + 8])
        assert size >= 8
        at += size
    assert b"moof" not in boxes
    assert boxes.count(b"moov") == 1


def test_images_do_not_wait_for_a_sound_that_has_ended(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mkv", colors(100), times(100), sound="aac", sound_seconds=0.5)
    with Clip.open(source) as clip, Recorder(tmp_path / "out.mp4", 25, source) as writing:
        for frame in clip:
            writing.write(frame.image, frame.time, frame.duration)
        assert len(frames(tmp_path / "out.mp4")) > 100 - 25


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with refused("write-failed", "out.mp4"):
        Recorder(tmp_path / "file" / "out.mp4", 25)


FILL = """
import resource, sys
import numpy as np
from pathlib import Path
from hrpose.errors import UserError
from hrpose.video import Recorder

resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
rng = np.random.default_rng(0)
try:
    with Recorder(Path(sys.argv[1]), 25) as recorder:
        for index in range(300):
            recorder.write(rng.integers(0, 255, (48, 64, 3), np.uint8), index / 25, 0.04)
except UserError as error:
    print(error.code, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on file sizes")
def test_a_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files stands in for it."""
    target = tmp_path / "new" / "out.mp4"
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(target)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("write-failed"), done.stderr
    assert done.stdout.count("\n") == 1
    with Clip.open(target) as clip:  # what was written before
        assert sum(1 for _ in clip) > 5


def test_sound_with_decreasing_times_is_left_out(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.ts", colors(10), times(10), sound="libmp3lame")
    path.write_bytes(path.read_bytes() * 2)  # as joined clips are
    copy(path, tmp_path / "out.mp4")
    at = [time for time, _ in sound_packets(tmp_path / "out.mp4")]
    assert len(at) > 10
    assert (np.diff(at) > 0).all()


def test_a_file_is_closed_where_its_end_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Recorder(tmp_path / "out.mp4", 25)
    writer.write(colors(1)[0], 0, 0.04)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "_mux", full)
    closed = []
    assert writer._writing is not None
    video = writer._writing[1]
    container = SimpleNamespace(close=lambda: closed.append(True))
    monkeypatch.setattr(writer, "_writing", (container, video))
    with refused("write-failed", "out.mp4"):
        writer.close()
    assert closed == [True]
