"""An hour of a clip: what its results hold in memory while they are written.

`python -m benchmarks recording` runs one hour at 25 frames/s with five persons, in a process of its
own. Poses and frames are ready, for neither the network nor the drawing is measured here.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.rows import Fact

FRAMES, RATE, PERSONS = 90_000, 25, 5
SIZE_WH = (128, 96)


def rows() -> Iterator[Fact]:
    """Peak memory after a tenth of the frames, after all, and after the tables were written."""
    command = [sys.executable, "-m", "benchmarks.recording", str(FRAMES)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    tenth, end, files, seconds, size = done.stdout.split()
    yield Fact(
        f"results of a clip of {FRAMES:,} frames with {PERSONS} persons: peak memory after a tenth "
        "of the frames, after all, and after JSON, CSV and Parquet were made",
        f"{tenth}, {end} and {files} MB",
        "flat",
    )
    yield Fact("the record of that clip, and the time for all", f"{size} MB, {seconds} s")


def main() -> None:
    """Write the results of so many frames, and print the peaks in MB, the seconds and the MB."""
    from hrpose.metadata import Metadata
    from hrpose.poses import Poses
    from hrpose.predict.inputs import ClipInput
    from hrpose.predict.results import ClipResults, Saving
    from hrpose.skeletons import COCO_17
    from hrpose.video import Frame

    rng = np.random.default_rng(0)
    keypoints = rng.uniform(0, 96, (PERSONS, 17, 3)).astype(np.float32)
    keypoints[..., 2] = rng.uniform(0, 1, (PERSONS, 17))
    boxes = rng.uniform(1, 90, (PERSONS, 4)).astype(np.float32)
    ids = np.arange(PERSONS) + 1
    poses = Poses(keypoints, boxes, rng.uniform(0, 1, PERSONS).astype(np.float32), COCO_17, ids)
    images = rng.integers(0, 255, (50, SIZE_WH[1] // 8, SIZE_WH[0] // 8, 3), np.uint8)
    images = images.repeat(8, axis=1).repeat(8, axis=2)
    frames = int(sys.argv[1])
    estimator: Any = SimpleNamespace(metadata=Metadata("w32", (192, 256)))
    clip: Any = SimpleNamespace(
        rate=RATE, time_base=Fraction(1, RATE), damage=None, sound_file=None, frame_count=frames
    )
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        saving = Saving(Path(folder), frozenset({"images", "coco", "csv", "parquet"}), 0.3)
        with ClipResults(saving, ClipInput("camera:0", "clip"), clip, estimator) as results:
            for index in range(frames):
                image = images[index % len(images)]
                frame = Frame(image, index, index / RATE, 1 / RATE)
                results.add(frame, poses, drawn=image)
                if index == frames // 10:
                    print(_peak())
            print(_peak())
        print(_peak())
        print(round(time.perf_counter() - began))
        print(round((Path(folder) / "clip.jsonl").stat().st_size / 1e6))


def _peak() -> int:
    """The most memory in MB that the process had so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
