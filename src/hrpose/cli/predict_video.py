"""`hrpose predict clip.mp4` and `hrpose predict camera:0`: a drawn clip and poses.json out."""

import sys
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
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

from hrpose.cli.console import STOPPED, asked_to_stop
from hrpose.errors import UserError, missing

if TYPE_CHECKING:
    from hrpose.cli.outputs import Outputs
    from hrpose.poses import Poses
    from hrpose.runtime.estimator import PoseEstimator
    from hrpose.video import Clip, Recorder

CLIPS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")


def is_clip(source: str | Path) -> bool:
    """Whether `hrpose predict` treats this argument as a clip or a camera, not as a picture."""
    return _is_camera(source) or Path(source).suffix.lower() in CLIPS


def predict_clip(
    source: str | Path,
    estimator: "PoseEstimator",
    outputs: "Outputs",
    *,
    marks: Collection[str] = (),
    every: int = 5,
    smooth: bool = True,
    show: bool = False,
) -> None:
    """Follow the people of a clip or of `camera:N`; writes what `outputs` asks for.

    The estimator's detector looks at every `every`-th frame. `smooth` steadies the keypoints. The
    drawn clip shows the people's ids, and `marks` as `hrpose.draw` has them. `show` opens a window
    with what is drawn; closing it ends the work. So do Ctrl-C and SIGTERM: what was done until then
    is saved, and the exit code is 130 or 143.
    """
    try:
        from hrpose.video import Clip, Recorder, follow
    except ModuleNotFoundError as error:
        raise missing(str(source), error, "hrpose[video]") from error
    from hrpose.drawing import draw
    from hrpose.video.window import Window

    name, target = Path(source), _target(source, outputs.folder)
    shown: dict[str, Any] = dict.fromkeys({"ids", *marks}, True)
    count, people, start = 0, set[int](), time.perf_counter()
    with Clip.open(source) as clip, asked_to_stop() as asked, ExitStack() as stack:
        window = stack.enter_context(Window(clip.name)) if show else None
        recorder = None
        if "pictures" in outputs.kinds:
            sound_of = None if clip.live else name
            recorder = stack.enter_context(Recorder(target, clip.rate, sound_of))
        progress = stack.enter_context(_progress())
        bar = progress.add_task(target.name, total=clip.frame_count)
        try:
            for frame, poses in follow(estimator, clip, every=every, smooth=smooth):
                canvas = draw(frame.image, poses, outputs.threshold, **shown)
                if recorder is not None:
                    recorder.write(canvas, frame.time, frame.duration)
                outputs.add(name, frame.index + 1, frame.image, poses, frame.index, frame.time)
                count, people = frame.index + 1, people | set(_ids(poses))
                progress.update(bar, completed=count)
                if asked() or (window is not None and not window.show(canvas)):
                    break
            else:
                progress.update(bar, total=count)
                if recorder is not None:
                    recorder.close(rest_of_sound=True)
        finally:
            written = outputs.finish() if count else []
    if recorder is not None:
        written.insert(0, target)
    speed = count / (time.perf_counter() - start)
    typer.echo(
        f"{count} frames at {speed:.1f} frames/s, {len(people)} people followed: "
        + (", ".join(map(str, written)) or "nothing saved")
    )
    for note in _notes(clip, recorder):
        print(f"hrpose: {note}", file=sys.stderr)
    if (number := asked()) is not None:
        raise typer.Exit(STOPPED + number)


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


def _notes(clip: "Clip", recorder: "Recorder | None") -> Iterator[str]:
    if clip.damage is not None:
        yield clip.damage
    if recorder is not None and recorder.left_out:
        kinds = ", ".join(recorder.left_out)
        yield f"{recorder.path}: an MP4 cannot hold sound of the kind {kinds}; it was left out"
    if recorder is not None and recorder.encoder == "mpeg4":
        yield f"{recorder.path}: this FFmpeg has no H.264 encoder; MPEG-4 part 2 was written"


class _FramesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.1f} frames/s")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _FramesPerSecond(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
