"""`hrpose predict clip.mp4` and `hrpose predict camera:0`: a drawn clip and poses.json out."""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from hrpose.errors import UserError

if TYPE_CHECKING:
    from hrpose.detection.detector import Detector
    from hrpose.poses import Poses
    from hrpose.runtime.estimator import PoseEstimator
    from hrpose.video import Recorder

CLIPS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")
# What a shell expects of a program that ended by Ctrl-C.
STOPPED = 130


def is_clip(source: str | Path) -> bool:
    """Whether `hrpose predict` treats this argument as a clip or a camera, not as a picture."""
    return _is_camera(source) or Path(source).suffix.lower() in CLIPS


def predict_clip(
    source: str | Path,
    estimator: "PoseEstimator",
    detector: "Detector | None",
    out: Path,
    *,
    every: int = 5,
    smooth: bool = True,
    threshold: float = 0.3,
    show: bool = False,
) -> None:
    """Follow the people of a clip or of `camera:N`; writes a drawn clip and poses.json to `out`.

    `detector` finds people on every `every`-th frame; None takes the whole picture while nobody is
    followed. `smooth` steadies the keypoints. Keypoints below `threshold` are not drawn. `show`
    opens a window with what is drawn; closing it ends the work. So does Ctrl-C: what was done until
    then is saved, and the exit code is 130.
    """
    try:
        from hrpose.video import Clip, Recorder, follow
    except ModuleNotFoundError as error:
        raise UserError(
            f"{source}: clips need the package '{error.name}'; pip install 'hrpose[video]'"
        ) from error
    from hrpose.cli.window import Window
    from hrpose.drawing import draw
    from hrpose.files import write_atomically

    target, results_file = _target(source, out), out / "poses.json"
    results: list[tuple[int, float, Poses]] = []
    start = time.perf_counter()
    with Clip.open(source) as clip:
        try:
            with (
                _ctrl_c() as interrupted,
                Window(clip.name) if show else nullcontext() as window,
                Recorder(target, clip.rate, None if clip.live else Path(source)) as recorder,
                _progress() as progress,
            ):
                bar = progress.add_task(Path(clip.name).name, total=clip.frame_count)
                people = follow(estimator, clip, detector=detector, every=every, smooth=smooth)
                for frame, poses in people:
                    canvas = draw(frame.image, poses, threshold)
                    recorder.write(canvas, frame.time, frame.duration)
                    results.append((frame.index, frame.time, poses))
                    progress.advance(bar)
                    if interrupted() or (window is not None and not window.show(canvas)):
                        break
                else:
                    progress.update(bar, total=len(results))
                    recorder.close(rest_of_sound=True)
        finally:
            if results:
                write_atomically(results_file, json.dumps(list(_entries(target.name, results))))
    count = len({int(id) for *_, poses in results for id in _ids(poses)})
    speed = len(results) / (time.perf_counter() - start)
    typer.echo(
        f"{len(results)} frames at {speed:.1f} frames/s, {count} people followed: "
        f"{target} and {results_file}"
    )
    for note in _notes(clip.damage, recorder):
        print(f"hrpose: {note}", file=sys.stderr)
    if interrupted():
        raise typer.Exit(STOPPED)


def _target(source: str | Path, out: Path) -> Path:
    """Where the drawn clip goes: an MP4 with the source's name. No input is ever written over."""
    name = str(source).replace(":", "-") if _is_camera(source) else Path(source).name
    target = out / (name if name.lower().endswith(".mp4") else f"{name}.mp4")
    if not _is_camera(source) and target.resolve() == Path(source).resolve():
        raise UserError(f"{target}: would be written over; choose another --out")
    return target


def _is_camera(source: str | Path) -> bool:
    return str(source).startswith("camera:")


def _ids(poses: "Poses") -> list[int]:
    return [] if poses.track_ids is None else [int(id) for id in poses.track_ids]


def _entries(name: str, results: list[tuple[int, float, "Poses"]]) -> Iterator[dict[str, Any]]:
    """COCO results, with the frame (from 0), its time in seconds and the person's id."""
    for index, seconds, poses in results:
        for id, entry in zip(_ids(poses), poses.to_coco(index), strict=True):
            yield {
                "file_name": name,
                "frame": index,
                "time": round(seconds, 6),
                "track_id": id,
                **entry,
            }


def _notes(damage: str | None, recorder: "Recorder") -> Iterator[str]:
    if damage is not None:
        yield damage
    if recorder.left_out:
        kinds = ", ".join(recorder.left_out)
        yield f"{recorder.path}: an MP4 cannot hold sound of the kind {kinds}; it was left out"
    if recorder.encoder == "mpeg4":
        yield f"{recorder.path}: this FFmpeg has no H.264 encoder; MPEG-4 part 2 was written"


@contextmanager
def _ctrl_c() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed; the first press only notes it, a second one interrupts.

    An interruption anywhere could leave the clip without its end.
    """
    pressed = False

    def note(*_: object) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


class _FramesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.1f} frames/s")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _FramesPerSecond(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
