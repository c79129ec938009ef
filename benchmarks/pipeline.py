"""`python -m benchmarks.pipeline`: all of `predict` and `evaluate`, beside another commit.

    git worktree add --detach ../before de12ae6
    python -m benchmarks.pipeline images clip evaluate --before ../before --pairs 5
    python -m benchmarks.pipeline stages

`images` is 500 JPEG files of 640x480 with one to three synthetic persons, drawn; `clip` 1,000
frames of 1280x720 with three who walk, drawn; `evaluate` 5,000 synthetic persons with their
ground-truth boxes. Commands of both commits run alternately (A B A B) in processes of their own;
the ratio is the median of those of the pairs, by wall time and by CPU time (user and system).
Results of both are compared byte by byte, but for times and names of versions. `stages` takes the
images one by one on one thread, and prints what each step takes.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

IMAGES, FRAMES, PERSONS = 500, 1000, 5000
HERE = Path(__file__).parents[1]


def make_images(folder: Path) -> None:
    """The images, with their annotations."""
    from hrpose.synthetic import write_dataset

    if not (folder / "annotations.json").exists():
        write_dataset(folder, IMAGES, 0, (640, 480), (1, 3))


def make_persons(folder: Path) -> None:
    """Images with 5,000 persons."""
    from hrpose.synthetic import write_dataset

    if not (folder / "annotations.json").exists():
        write_dataset(folder, PERSONS // 2, 1, (320, 240), (2, 2))


def make_clip(path: Path) -> None:
    """Three persons who walk to and fro."""
    import hrpose
    from benchmarks.moving_persons import Scene, synthetic_actors
    from hrpose.video import Recorder

    if path.exists():
        return
    actors = synthetic_actors(hrpose.load("w16-small", detector="builtin"), 3)

    def walking(number: int) -> Callable[[float], tuple[float, float]]:
        return lambda time: (
            640 + (number - 1) * 380 + 120 * np.sin(time * 0.8 + number),
            360 + 20 * np.cos(time + 2 * number),
        )

    placed = [(actor.scaled(420), walking(number)) for number, actor in enumerate(actors)]
    scene = Scene("", placed, 25, FRAMES / 25, size_wh=(1280, 720))
    with Recorder(path, 25) as recorder:
        for frame in scene:
            recorder.write(frame.image, frame.time, frame.duration)


@dataclass(frozen=True)
class Run:
    """What a process took: seconds of wall time and of CPU time, and MB at its peak."""

    wall: float
    cpu: float
    memory: float


def run(tree: Path, arguments: list[str]) -> Run:
    """`hrpose` of the source in `tree`, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "hrpose", *arguments],
        env=environment,
        cwd=tree,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        sys.exit(f"{tree}: {errors.decode()}")
    return Run(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def differing(old: Path, new: Path) -> list[str]:
    """The files of results that are not the same in both folders."""
    names = sorted({str(p.relative_to(folder)) for folder in (old, new) for p in folder.rglob("*")})
    return [name for name in names if _content(old / name) != _content(new / name)]


def _content(path: Path) -> object:
    if path.is_dir():
        return "folder"
    if not path.exists():
        return None
    if path.suffix == ".jsonl":  # its header names the version
        return [json.loads(line) for line in path.read_text().splitlines()][1:]
    if path.name == "metrics.json":
        report = json.loads(path.read_text())
        return {key: value for key, value in report.items() if key not in ("hrpose", "seconds")}
    return path.read_bytes()


def compare(what: str, arguments: list[str], before: Path, pairs: int, folder: Path) -> None:
    """Print the ratios of pairs of runs, the commit before divided by this one."""
    runs: dict[Path, list[Run]] = defaultdict(list)
    outs = {before: folder / "out-before", HERE: folder / "out-after"}
    for _ in range(pairs):
        for tree, out in outs.items():
            shutil.rmtree(out, ignore_errors=True)
            runs[tree].append(run(tree, [*arguments, "--out", str(out)]))
    ratios = [(a.wall / b.wall, a.cpu / b.cpu) for a, b in zip(*runs.values(), strict=True)]
    for name, column in zip(("wall", "CPU"), zip(*ratios, strict=True), strict=True):
        seconds = [
            statistics.median(r.wall if name == "wall" else r.cpu for r in runs[tree])
            for tree in outs
        ]
        print(
            f"{what}: {name} {seconds[0]:.2f} s before, {seconds[1]:.2f} s after, "
            f"{statistics.median(column):.2f}x ({min(column):.2f} to {max(column):.2f})"
        )
    memory = [max(r.memory for r in runs[tree]) for tree in outs]
    print(f"{what}: memory {memory[0]:.0f} MB before, {memory[1]:.0f} MB after")
    found = differing(*outs.values())
    print(f"{what}: results {'are equal' if not found else f'differ: {found[:5]}'}", flush=True)


def stages(folder: Path, device: str, weights: str) -> None:
    """Print the time of each step for an image, alone and on one thread."""
    import cv2

    from hrpose.api import load
    from hrpose.detection import person_detector
    from hrpose.image import encode, read_image
    from hrpose.io import write_atomically
    from hrpose.predict.record import Entry
    from hrpose.viz import draw

    cv2.setNumThreads(1)
    seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def step(name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        seconds[name].append(time.process_time() - start)

    estimator = load(weights, detector="builtin", threads=1, device=device)
    detector: Any = estimator.detector
    files = sorted((folder / "images").glob("*.jpg"))[:100]
    batch: list[Any] = []
    for file in files:
        with step("read: JPEG to pixels"):
            pixels = read_image(file)
        with step("detect: image to the input"):
            image, _ = person_detector.resize(pixels, detector.metadata.side)
        with step("detect: network"):
            detector._network({detector._input: image[None]}, ["heat", "distances"])
        with step("detect: all"):
            read = estimator.image(pixels)
        crops = [estimator.metadata.crop(box) for box in read.boxes]
        with step("crop"):
            batch += [read.cut(crop) for crop in crops]
        if len(batch) >= estimator.batch_size:
            ready = np.stack(batch[: estimator.batch_size])
            del batch[: estimator.batch_size]
            with step("pose: network, 16 crops"):
                heatmaps = estimator.heatmaps(ready)
            with step("pose: heatmaps to keypoints, 16 crops"):
                estimator.decode(heatmaps)
        ((_, poses),) = estimator.stream([read])
        with step("draw"):
            drawn = draw(pixels, poses)
        with step("encode JPEG"):
            content = encode(drawn, ".jpg")
        with step("write"):
            write_atomically(folder / "drawn.jpg", content)
        with step("record"):
            json.dumps(Entry.of(file.name, 1, (640, 480), poses).to_dict())
    print(f"{estimator.engine}, one thread; median CPU milliseconds of {len(files)} images")
    for name, values in seconds.items():
        print(f"{name:40} {statistics.median(values) * 1000:6.2f}")


def main() -> None:
    """Run what was named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="+", choices=("images", "clip", "evaluate", "stages"))
    parser.add_argument("--before", type=Path, help="a checkout of the commit to compare with")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--weights", default="w16-small")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "pipeline")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    images, clip, persons = (given.folder / name for name in ("images", "walk.mp4", "persons"))
    options = ["--weights", given.weights]
    if given.device != "auto":  # which older commits do not know
        options += ["--device", given.device]
    for what in given.what:
        if what in ("images", "stages"):
            make_images(images)
        if what == "stages":
            stages(images, given.device, given.weights)
            continue
        if given.before is None:
            parser.error(f"{what}: needs --before, a checkout to compare with")
        if what == "images":
            arguments = ["predict", str(images / "images"), *options]
        elif what == "clip":
            make_clip(clip)
            arguments = ["predict", str(clip), *options]
        else:
            make_persons(persons)
            arguments = ["evaluate", "--annotations", str(persons / "annotations.json")]
            arguments += ["--images", str(persons / "images"), *options]
        compare(what, arguments, given.before.resolve(), given.pairs, given.folder)


if __name__ == "__main__":
    main()
