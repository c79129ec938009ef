"""Streams, from servers in this process: they break off, are silent, come back, and end."""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from clips import colors, times, write_clip
from hrpose.batch.source import content_type
from hrpose.cli.main import app
from hrpose.errors import UserError
from hrpose.predict.inputs import find_inputs
from hrpose.video import Clip, reading
from refusals import refused
from streams import MotionJpeg, rtsp_server
from tiny_weights import write_tiny_weights

# Servers and reconnections take their time.
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(reading, "TIMEOUT", 1.0)


def test_motion_jpeg() -> None:
    with MotionJpeg() as server:
        (source,) = find_inputs([server.address]).clips
        assert source.stem == f"http-127.0.0.1-{server.server_port}-cam"
        with Clip.open(str(source.source)) as clip:
            assert (clip.live, clip.frame_count) == (True, None)
            frames = [frame for frame, _ in zip(clip, range(12), strict=False)]
    assert [frame.index for frame in frames] == list(range(12))
    assert frames[0].image.shape == (48, 64, 3)
    # The stream has no times; those of arrival are near the server's 20 frames a second.
    assert np.all(np.diff([frame.time for frame in frames]) > 0)


def test_a_stream_that_breaks_off_is_opened_again(caplog: pytest.LogCaptureFixture) -> None:
    with MotionJpeg(count=15) as server, Clip.open(server.address) as clip:
        frames = [frame for frame, _ in zip(clip, range(30), strict=False)]
    assert len(frames) == 30
    assert np.all(np.diff([frame.time for frame in frames]) > 0)
    messages = [record.getMessage() for record in caplog.records]
    assert any("connection lost" in message for message in messages)
    assert any("connected again" in message for message in messages)


def test_a_server_that_is_killed_and_comes_back() -> None:
    with MotionJpeg() as first, Clip.open(first.address, reconnect=20) as clip:
        frames = iter(clip)
        before = next(frames)
        first.__exit__()
        second = None

        def start() -> None:
            nonlocal second
            second = MotionJpeg(first.server_port).__enter__()

        timer = threading.Timer(0.7, start)
        timer.start()
        late = next(frame for frame in frames if frame.time > before.time + 1)
        assert late.image.shape == before.image.shape
        frames.close()
    timer.join()
    assert second is not None
    second.__exit__()


def test_a_server_that_is_gone_for_good() -> None:
    with MotionJpeg(silent_after=3) as server, Clip.open(server.address, reconnect=0.3) as clip:
        frames = iter(clip)
        next(frames)
        server.__exit__()
        with refused("stream-lost", server.address):
            list(frames)


@pytest.mark.parametrize("opened", [True, False])
def test_a_silent_stream_can_be_stopped(opened: bool) -> None:
    began = time.monotonic()
    stop = began + 0.5 + 2 * opened

    def stopped() -> bool:
        return time.monotonic() > stop

    with MotionJpeg(silent_after=12 if opened else 0) as server:
        if opened:
            with Clip.open(server.address, stopped=stopped) as clip:
                assert list(clip)
        else:
            with refused("stream-unavailable", server.address):
                Clip.open(server.address, stopped=stopped)
    assert time.monotonic() - stop < 1.5


def test_an_address_where_nobody_listens_hides_its_password() -> None:
    with pytest.raises(UserError) as caught:
        Clip.open("rtsp://me:secret@127.0.0.1:9/a?key=secret")
    assert caught.value.code == "stream-unavailable"
    assert "rtsp://127.0.0.1:9/a" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_rtsp_breaks_off_and_goes_on() -> None:
    with rtsp_server(count=30) as address, Clip.open(address, reconnect=10) as clip:
        frames = []
        for frame in clip:
            frames.append(frame)
            if frame.time > 2.5:
                break
    assert frames[0].image.shape == (48, 64, 3)
    red = frames[-1].image[4, 4].astype(int)
    assert red[0] > red[1] + 80
    assert np.all(np.diff([frame.time for frame in frames]) > 0)


def test_a_command_saves_what_a_lost_stream_gave(tmp_path: Path) -> None:
    weights = write_tiny_weights(tmp_path / "tiny.onnx")
    with MotionJpeg(count=8) as server:
        timer = threading.Timer(2, server.__exit__)
        timer.start()
        done = CliRunner().invoke(
            app,
            ["predict", server.address, "--weights", str(weights), "--detector", "full-image",
             "--reconnect", "0.3", "--out", str(tmp_path / "out")],
        )  # fmt: skip
        timer.join()
    assert done.exit_code == 1
    assert "[stream-lost]" in done.output
    assert " frames/s, " in done.stdout  # and says where it is
    names = {path.suffix for path in (tmp_path / "out").iterdir()}
    assert {".mp4", ".json"} <= names


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_clip_at_an_address_has_all_its_frames(tmp_path: Path, web: str) -> None:
    write_clip(tmp_path / "a.mp4", colors(20), times(20))
    with Clip.open(f"{web}/a.mp4") as clip:
        assert not clip.live
        assert len(list(clip)) == 20
    assert content_type(f"{web}/a.mp4") == "video/mp4"
    assert content_type(f"{web}/none") == ""


def test_a_playlist_at_an_address_reads_no_files(tmp_path: Path, web: str) -> None:
    """HLS is for streams; what a stranger's playlist names on this disk stays there."""
    write_clip(tmp_path / "part.ts", colors(20), times(20))
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.8,\n"
    (tmp_path / "good.m3u8").write_text(f"{head}part.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "bad.m3u8").write_text(f"{head}file://{tmp_path}/part.ts\n#EXT-X-ENDLIST\n")
    with Clip.open(f"{web}/good.m3u8") as clip:
        assert len(list(clip)) == 20
    with pytest.raises(ValueError):  # noqa: PT011
        list(Clip.open(f"{web}/bad.m3u8"))


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_ffmpeg_as_the_streamer(tmp_path: Path) -> None:
    """A transport stream over HTTP; the streamer is killed, and started again."""
    with MotionJpeg() as server:
        port = server.server_port
    address = f"http://127.0.0.1:{port}/live.ts"

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["ffmpeg", "-v", "quiet", "-re", "-f", "lavfi", "-i", "testsrc=s=64x48:r=20", "-c:v",
             "mpeg2video", "-f", "mpegts", "-listen", "1", address]
        )  # fmt: skip

    streamer = start()
    try:
        time.sleep(1)
        with Clip.open(address, reconnect=30) as clip:
            frames = iter(clip)
            before = next(frames)
            streamer.kill()
            streamer.wait()
            streamer = start()
            late = next(frame for frame in frames if frame.time > before.time + 1.5)
            assert late.image.shape == (48, 64, 3)
            frames.close()
    finally:
        streamer.kill()
        streamer.wait()


def test_av_knows_the_formats_that_are_allowed() -> None:
    """A name that FFmpeg does not know would be no error."""
    known = {part for name in av.formats_available for part in name.split(",")}
    assert {name for name in reading.FORMATS if name not in known} <= {"mpjpeg", "sdp", "rtsp"}
