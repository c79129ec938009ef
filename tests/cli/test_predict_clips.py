import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from clips import colors, duration, frames, sound_packets, times, write_clip
from hrpose.cli.main import app
from hrpose.errors import UserError
from hrpose.predict.record import Record
from hrpose.video import Clip, ClipPoses, refine_clip
from hrpose.video import reading as clip_module
from hrpose.video.decoding import Decoder
from hrpose.video.writing import Recorder
from refusals import check_refusal
from tiny_weights import write_tiny_weights


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_tiny_weights(tmp_path / "tiny.onnx")


def noise(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(count)]


def predict(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["predict", "--detector", "none", *map(str, arguments)])


def test_a_clip_becomes_a_drawn_clip_and_results(tmp_path: Path, weights: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", colors(25), times(25), sound="aac")
    done = predict(source, "--weights", weights, "--out", tmp_path / "out", "--save",
                   "images,coco,csv", "--threshold", 0)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "25 frames at" in done.output
    target = tmp_path / "out" / "a.mp4"
    assert [data for _, data in sound_packets(target)] == [d for _, d in sound_packets(source)]
    assert duration(target) == pytest.approx(duration(source), abs=0.01)
    before, after = frames(source)[5], frames(target)[5]
    assert (before.to_ndarray(format="rgb24") != after.to_ndarray(format="rgb24")).any()

    entries = json.loads((tmp_path / "out" / "a.json").read_text())
    assert [entry["frame"] for entry in entries] == list(range(25))
    assert [entry["image_id"] for entry in entries] == list(range(1, 26))
    assert [entry["time"] for entry in entries] == pytest.approx(times(25), abs=1e-3)
    # The keypoints of these weights jump about, so that one may be taken for a new person.
    ids = [entry["track_id"] for entry in entries]
    assert ids[0] == 1
    assert set(ids) == set(range(1, max(ids) + 1))
    assert {entry["file_name"] for entry in entries} == {"a.mp4"}
    rows = (tmp_path / "out" / "a.csv").read_text().splitlines()
    assert rows[0].startswith("file,frame,time,track_id,person,keypoint")
    assert len(rows) == 1 + 25 * 17
    assert rows[18].startswith("a.mp4,1,0.04,1,0,nose,")


@pytest.mark.parametrize("name", ["a.mov", "a.avi", "a.mkv", "a.webm"])
def test_other_clips_become_mp4_of_their_stem(tmp_path: Path, weights: Path, name: str) -> None:
    codec = {"a.avi": "mpeg4", "a.webm": "libvpx"}.get(name, "libx264")
    source = write_clip(tmp_path / name, colors(5), times(5), codec=codec)
    done = predict(source, "--weights", weights, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert len(frames(tmp_path / "out" / "a.mp4")) == 5


def test_rotated_clips_and_odd_sizes(tmp_path: Path, weights: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", colors(3, (64, 48)), times(3), rotation=90)
    assert predict(source, "--weights", weights, "--out", tmp_path / "out").exit_code == 0
    assert frames(tmp_path / "out" / "a.mp4")[0].width == 48
    odd = write_clip(
        tmp_path / "odd.mkv", colors(3, (61, 47)), times(3), codec="ffv1", pixels="bgr0"
    )
    assert predict(odd, "--weights", weights, "--out", tmp_path / "out").exit_code == 0
    frame = frames(tmp_path / "out" / "odd.mp4")[0]
    assert (frame.width, frame.height) == (62, 48)


def test_a_truncated_clip_is_predicted_up_to_its_end(tmp_path: Path, weights: Path) -> None:
    source = write_clip(tmp_path / "a.mkv", noise(25), times(25), codec="mpeg4")
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    done = predict(source, "--weights", weights, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert 3 < len(frames(tmp_path / "out" / "a.mp4")) < 25


def test_no_clip_is_drawn_without_images_in_save(tmp_path: Path, weights: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", colors(3), times(3))
    done = predict(source, "--weights", weights, "--out", tmp_path / "out", "--save", "coco")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "a.jsonl"]


def test_smoothing_and_the_detector_stride_are_options(tmp_path: Path, weights: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", noise(10), times(10))
    found = {}
    for option in ("--smooth", "--no-smooth"):
        out = tmp_path / option
        done = predict(source, "--weights", weights, "--out", out, option, "--detect-every", 0)
        assert done.exit_code == 0, done.output
        found[option] = json.loads((out / "a.json").read_text())
    points = [np.array([e["keypoints"] for e in found[o]]) for o in ("--smooth", "--no-smooth")]
    assert np.abs(np.diff(points[0], axis=0)).mean() < np.abs(np.diff(points[1], axis=0)).mean()


@pytest.mark.parametrize("content", [b"", b"not a clip" * 100])
def test_bad_clips(tmp_path: Path, weights: Path, content: bytes) -> None:
    source = tmp_path / "a.mp4"
    source.write_bytes(content)
    done = predict(source, "--weights", weights, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"hrpose: {source}: ")
    assert done.stderr.endswith("[clip-invalid]\n")
    assert not (tmp_path / "out" / "a.json").exists()
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_any_mix_in_one_call(tmp_path: Path, weights: Path) -> None:
    """Images, clips of one stem, a folder with a clip, a broken clip: each has its own results."""
    for name, count in (("a.mp4", 2), ("more/a.mkv", 3), ("more/b.mp4", 4)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_clip(tmp_path / name, colors(count), times(count))
    (tmp_path / "bad.mp4").write_bytes(b"no clip")
    for name in ("1.png", "more/2.png"):
        Image.fromarray(noise(1)[0]).save(tmp_path / name)
    given = [tmp_path / name for name in ("1.png", "a.mp4", "bad.mp4", "more")]
    out = tmp_path / "out"
    done = predict(*given, "--weights", weights, "--out", out, "--save", "coco,dataset")
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"hrpose: {tmp_path / 'bad.mp4'}: ")
    assert line.endswith("[clip-invalid]")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["image", "1.png", "2.png"]
    assert lines[3].startswith("2 images, 2 persons (detector: the full image) -> ")
    assert [line.split(" at ")[0].split(": ")[-1] for line in lines[4:]] == [
        "2 frames", "3 frames", "4 frames"
    ]  # fmt: skip
    frames_of = {
        path.name: [entry.get("frame") for entry in json.loads(path.read_text())]
        for path in out.glob("*.json")
    }
    assert frames_of == {
        "poses.json": [None, None],
        "a.mp4.json": [0, 1],
        "a.mkv.json": [0, 1, 2],
        "b.json": [0, 1, 2, 3],
    }
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == [
        "a.mkv-dataset", "a.mp4-dataset", "b-dataset", "dataset"
    ]  # fmt: skip


def test_no_clip_is_overwritten(tmp_path: Path, weights: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", colors(3), times(3))
    before = source.read_bytes()
    done = predict(source, "--weights", weights, "--out", tmp_path)
    check_refusal(done, "overwrite-refused", str(source))
    assert source.read_bytes() == before


def test_a_camera(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip stands in for the camera, through the same interface."""
    write_clip(tmp_path / "0.mkv", colors(20), times(20))
    monkeypatch.setattr(clip_module, "CAMERAS", {sys.platform: (None, f"{tmp_path}/{{}}.mkv")})
    done = predict(
        "camera:0", "--weights", weights, "--detector", "none", "--out", tmp_path / "out"
    )
    assert done.exit_code == 0, done.output
    shown = frames(tmp_path / "out" / "camera-0.mp4")
    entries = json.loads((tmp_path / "out" / "camera-0.json").read_text())
    assert [entry["frame"] for entry in entries] == list(range(len(shown)))


def test_a_window_needs_a_display(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tkinter")
    monkeypatch.delenv("DISPLAY", raising=False)
    source = write_clip(tmp_path / "a.mp4", colors(3), times(3))
    done = predict(source, "--weights", weights, "--out", tmp_path / "out", "--show")
    assert "[display-missing]" in done.stderr


@contextmanager
def working(
    source: Path, weights: Path, out: Path, frames: int, *options: str
) -> Iterator[subprocess.Popen[str]]:
    """A process that predicts a clip, when it has done some frames."""
    command = [sys.executable, "-c", "from hrpose.cli.main import main; main()", "predict",
               source, "--weights", weights, "--out", out, "--detector", "none",
               *options]  # fmt: skip
    words = [str(part) for part in command]
    record = out / f"{source.stem}.jsonl"
    deadline = time.monotonic() + 60
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while not (record.exists() and record.read_bytes().count(b"\n") > frames):
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_a_killed_process_leaves_all_but_the_last_moment(tmp_path: Path, weights: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", noise(1000), times(1000), sound="aac")
    out = tmp_path / "out"
    with working(source, weights, out, 60) as process:
        process.kill()  # kill -9
        process.wait()
    assert sorted(path.name for path in out.iterdir()) in (
        ["a.jsonl", "a.mp4"], [".lock", "a.jsonl", "a.mp4"],
    )  # fmt: skip
    record = Record(out / "a.jsonl")
    entries = list(record)
    assert 60 <= len(entries) < 1000
    assert [entry.frame for entry in entries] == list(range(len(entries)))
    assert record.end is None
    with Clip.open(out / "a.mp4") as clip:
        shown = [frame.time for frame in clip]
    assert entries[-1].time - shown[-1] < 1
    assert shown == pytest.approx(times(len(shown)), abs=1e-3)
    convert = ["data", "convert", "results", str(out / "a.jsonl"), "--save", "coco,csv"]
    done = CliRunner().invoke(app, convert)
    assert f"{len(entries)} frames; it was cut off" in done.output
    results = json.loads((out / "a.json").read_bytes())
    assert [result["frame"] for result in results] == list(range(len(entries)))
    check_refusal(CliRunner().invoke(app, convert), "overwrite-refused", str(out / "a.json"))
    # The next run into the folder is not blocked, and replaces what is there only when asked.
    again = ["--weights", weights, "--out", out, "--save", "coco"]
    check_refusal(predict(source, *again), "overwrite-refused", "a.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_clip_so_far(
    asked: signal.Signals, tmp_path: Path, weights: Path
) -> None:
    """A real process and a real signal, while it works."""
    source = write_clip(tmp_path / "a.mp4", noise(400), times(400), sound="aac")
    out = tmp_path / "out"
    with working(source, weights, out, 20) as process:
        process.send_signal(asked)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + asked, errors
    assert "Traceback" not in errors
    shown = frames(out / "a.mp4")
    entries = json.loads((out / "a.json").read_text())
    assert 0 < len(shown) < 400
    assert f"{len(shown)} frame" in output
    assert entries[-1]["frame"] == len(shown) - 1
    assert sound_packets(out / "a.mp4")[-1][0] == pytest.approx(shown[-1].time, abs=0.07)
    assert sorted(path.name for path in out.iterdir()) == ["a.json", "a.jsonl", "a.mp4"]


@pytest.mark.slow
@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGKILL])
def test_poses_found_before_the_offline_pass_are_saved(
    asked: signal.Signals, tmp_path: Path, weights: Path
) -> None:
    source = write_clip(tmp_path / "a.mp4", noise(300), times(300))
    out = tmp_path / "out"
    with working(source, weights, out, 20, "--offline", "--save", "coco,dataset") as process:
        process.send_signal(asked)
        _, errors = process.communicate(timeout=30)
    record = Record(out / "a.jsonl")
    entries = list(record)
    assert 20 <= len(entries) < 300
    assert not record.header.offline
    if asked == signal.SIGINT:
        assert process.returncode == 130
        assert "stopped before the offline pass" in errors
        assert record.end is not None
        assert not record.end["complete"]
        found = json.loads((out / "a.json").read_text())
        assert {result["frame"] for result in found} == {e.frame for e in entries if e.persons}
        assert sorted(path.name for path in out.iterdir()) == ["a.json", "a.jsonl"]


def test_the_offline_pass(tmp_path: Path, weights: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", noise(12), times(12))
    found = {}
    for option in ("--no-smooth", "--offline"):
        out = tmp_path / option
        done = predict(source, "--weights", weights, "--out", out, option)
        assert done.exit_code == 0, done.output
        assert "12 frames at" in done.output
        assert len(frames(out / "a.mp4")) == 12
        found[option] = json.loads((out / "a.json").read_text())
    points = [np.array([e["keypoints"] for e in each if e["track_id"] == 1]) for each in
              found.values()]  # fmt: skip
    steps = [np.abs(np.diff(each, axis=0)).mean() for each in points]
    assert steps[1] < 0.7 * steps[0]


def test_a_record_can_be_refined(tmp_path: Path, weights: Path) -> None:
    """As the offline pass does without second poses."""
    source = write_clip(tmp_path / "a.mp4", noise(12), times(12))
    found = {}
    for name, options in {"raw": ["--no-smooth"], "offline": ["--offline", "--no-recrop"]}.items():
        out = tmp_path / name
        assert predict(source, "--weights", weights, "--out", out, *options).exit_code == 0
        record = Record(out / "a.jsonl")
        skeleton = record.header.skeleton
        entries = [(entry.time or 0.0, entry.poses(skeleton)) for entry in record]
        found[name] = ClipPoses.collect(entries, skeleton)
    refined = refine_clip(found["raw"])
    for ours, theirs in zip(refined, found["offline"], strict=True):
        assert ours.track_ids.tolist() == theirs.track_ids.tolist()
        np.testing.assert_allclose(ours.keypoints, theirs.keypoints, atol=0.1)


def test_one_person_of_a_clip(tmp_path: Path, weights: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", colors(5), times(5))
    options = ("--weights", weights, "--save", "coco", "--offline", "--no-recrop")
    done = predict(source, *options, "--out", tmp_path / "out", "--person", "1")
    assert done.exit_code == 0, done.output
    ids = {e["track_id"] for e in json.loads((tmp_path / "out" / "a.json").read_text())}
    assert ids == {1}
    assert Record(tmp_path / "out" / "a.jsonl").header.offline
    done = predict(source, *options, "--out", tmp_path / "none", "--person", "77")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"hrpose: {source}: ")
    assert done.stderr.endswith("[persons-missing]\n")
    assert list((tmp_path / "none").iterdir()) == []
    done = predict(source, *options, "--out", tmp_path / "none", "--person", "left")
    assert done.stderr.endswith("[option-invalid]\n")


@pytest.mark.parametrize(
    "options",
    [("--person", "1"), ("--max-gap", "1"), ("--no-recrop",), ("--offline", "--no-smooth")],
)
def test_options_that_do_not_go_with_the_offline_pass(
    tmp_path: Path, weights: Path, options: tuple[str, ...]
) -> None:
    source = write_clip(tmp_path / "a.mp4", colors(2), times(2))
    done = predict(source, "--weights", weights, "--out", tmp_path / "out", *options)
    check_refusal(done, "option-conflict", "--offline")


def test_a_camera_has_no_end(tmp_path: Path, weights: Path) -> None:
    done = predict("camera:0", "--weights", weights, "--out", tmp_path / "out", "--offline")
    check_refusal(done, "option-conflict", "camera:0", "--offline")


def test_faces_are_hidden_in_clips(tmp_path: Path, weights: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", noise(6), times(6))
    drawn = {}
    for hide in ((), ("--hide", "bodies")):
        out = tmp_path / f"out{len(hide)}"
        done = predict(source, "--weights", weights, "--out", out, "--threshold", 1, *hide)
        assert done.exit_code == 0, done.output
        drawn[hide] = frames(out / "a.mp4")[0].to_ndarray(format="rgb24").astype(int)
    plain, hidden = ((np.abs(image - 96) < 12).all(axis=2).mean() for image in drawn.values())
    assert plain < 0.1
    assert hidden > 0.5  # all but the id
    assert "--hide bodies: hidden in 6 of 6 frames" in done.stderr


def test_hiding_leaves_nothing_visible_by_another_option(tmp_path: Path, weights: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", colors(2), times(2))
    for options in (
        ("--save", "images,dataset"),
        ("--save", "coco"),
        ("--offline", "--person", "largest"),
    ):
        done = predict(
            source, "--weights", weights, "--out", tmp_path / "out", "--hide", "faces", *options
        )
        check_refusal(done, "option-conflict", "--hide")
    done = predict(source, "--weights", weights, "--out", tmp_path / "out", "--hide", "eyes")
    check_refusal(done, "option-invalid", "eyes")


def test_frames_are_drawn_and_encoded_beside_the_network(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def noting(method: Any) -> Any:
        def noted(self: Any, *arguments: Any) -> Any:
            threads.append((method.__name__, threading.current_thread().name))
            return method(self, *arguments)

        return noted

    monkeypatch.setattr(Recorder, "write", noting(Recorder.write))
    monkeypatch.setattr(Decoder, "upright", noting(Decoder.upright))
    source = write_clip(tmp_path / "a.mp4", colors(25), times(25))
    assert predict(source, "--weights", weights, "--out", tmp_path / "out").exit_code == 0
    assert set(threads) == {("write", "background_0"), ("upright", "prefetch_0")}
    assert len(frames(tmp_path / "out" / "a.mp4")) == 25


def test_a_full_disk_ends_a_clip_with_what_was_written_before(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, done = Recorder.write, []

    def full(self: Recorder, *arguments: Any) -> None:
        if len(done) == 5:
            raise UserError("a.mp4: cannot be written (disk full)", code="write-failed")
        done.append(write(self, *arguments))

    monkeypatch.setattr(Recorder, "write", full)
    source = write_clip(tmp_path / "a.mp4", colors(25), times(25))
    ran = predict(source, "--weights", weights, "--out", tmp_path / "out")
    assert ran.exit_code == 2
    assert "disk full" in ran.output
    assert "[write-failed]" in ran.output
    record = Record(tmp_path / "out" / "a.jsonl")
    assert [entry.frame for entry in record] == [0, 1, 2, 3, 4]
    assert record.end is not None
    assert record.end["complete"] is False
    assert len(frames(tmp_path / "out" / "a.mp4")) == 5
