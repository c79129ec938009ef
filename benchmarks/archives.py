"""`python -m benchmarks.archives`: `hrpose batch` on thousands of images, with killed workers.

Not part of `make bench`: it takes minutes. One in twenty images is broken. The job runs once
undisturbed; then again with its worker killed twice and the whole command killed at a random
moment (both by SIGKILL), and is restarted until it ends. Both tables must be equal.
"""

import argparse
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

import hrpose
from hrpose.batch.job import parquet, read_images
from hrpose.batch.worker import Choices, Opening
from hrpose.synthetic.render import render_image

BATCH = (sys.executable, "-c", "from hrpose.cli.main import main; main()", "batch")


def make(folder: Path, count: int, drawn: int = 50) -> list[str]:
    """Write `count` images, `drawn` of them distinct; returns the names of the broken ones."""
    rng, broken = np.random.default_rng(0), []
    images = [render_image(rng, (640, 480)).image for _ in range(min(count, drawn))]
    for i in range(count):
        image = images[i % len(images)].copy()
        image[:8, :8] = rng.integers(0, 256, 3)
        data = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
        name = f"{i // 100:03d}/{i:06d}.jpg"
        if i % 20 == 7:
            broken.append(name)
            data = (data[: len(data) // 2], b"no image", b"")[len(broken) % 3]
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return broken


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """The descendants of a process, with their command lines (Linux)."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            yield int(child), Path(f"/proc/{child}/cmdline").read_text()
            yield from descendants(int(child))
        except OSError:
            continue


def workers(pid: int) -> list[int]:
    """The worker processes of the command."""
    found = []
    try:
        for child, line in descendants(pid):
            if "spawn_main" in line or line.startswith("ray::_Actor"):
                found.append(child)
    except OSError:
        pass
    return found


def disturbed(command: list[str], out: Path, partitions: int, rng: random.Random) -> list[str]:
    """Kill two workers, then the command; restart it until it ends. Returns a log."""
    log: list[str] = []

    def done() -> int:
        return len(list((out / "poses").glob("part-*.parquet")))

    moments = sorted(rng.sample(range(1, partitions - 1), 3))
    while True:
        first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        while first.poll() is None:
            time.sleep(0.01)
            if moments and done() >= moments[0]:
                if len(log) < 2:
                    if not (there := workers(first.pid)):
                        continue
                    os.kill(rng.choice(there), signal.SIGKILL)
                    log.append(f"a worker killed after {done()} of {partitions} partitions")
                else:
                    first.kill()
                    log.append(f"the command killed after {done()} of {partitions} partitions")
                moments.pop(0)
        assert first.stdout is not None
        log += first.stdout.read().splitlines()
        if first.returncode == 0:
            return log


def costs(folder: str, names: list[str], choices: Choices) -> None:
    """Print the CPU time of one worker after its start, and the size of its rows."""
    estimator = choices.open(hrpose.load, 16, 1)
    work = Opening(folder, choices, hrpose.load, choices.settings(estimator))()
    work(names[:8])
    begun = time.process_time()
    table = work(names)
    milliseconds = (time.process_time() - begun) / len(names) * 1000
    persons = sum(len(row or ()) for row in table["persons"].to_pylist())
    print(
        f"one worker, {choices.weights}, {estimator.detector.name}: {milliseconds:.1f} ms of CPU "
        f"time an image, {persons / len(names):.2f} people each"
    )
    size = sum((Path(folder) / name).stat().st_size for name in names) / len(names)
    print(
        f"an image has {size / 1000:.0f} kB, its row {len(parquet(table)) / len(names):.0f} bytes"
    )
    begun, answer = time.process_time(), pickle.dumps(table)
    for _ in range(20):
        parquet(pickle.loads(answer))
    first = (time.process_time() - begun) / 20 / len(names) * 1e6
    print(f"the main process takes {first:.0f} us of CPU time for it")


def main() -> None:
    """Make images, run undisturbed and disturbed, compare, and print measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="processes", choices=["processes", "ray"])
    parser.add_argument("--count", type=int, default=2000, help="number of images")
    parser.add_argument("--partition", type=int, default=50)
    parser.add_argument("--detector", default="none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--costs-of", type=Path, help="a folder: only the costs of its images")
    options = parser.parse_args()
    choices = Choices("w16-small", options.detector, None, None, False, False, 0.3)
    if options.costs_of is not None:
        names = sorted(path.name for path in options.costs_of.iterdir())
        costs(str(options.costs_of), names, choices)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broken = make(folder / "images", options.count)
        command = [
            *BATCH, str(folder / "images"), "--engine", options.engine, "--detector",
            options.detector, "--partition", str(options.partition), "--out",
        ]  # fmt: skip
        begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*command, str(folder / "calm")], check=True, stderr=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"undisturbed: {time.monotonic() - begun:.1f} s, {cpu:.1f} s of CPU time")
        partitions = len(list((folder / "calm" / "poses").iterdir()))
        for line in disturbed(
            [*command, str(folder / "hard")],
            folder / "hard",
            partitions,
            random.Random(options.seed),
        ):
            print(f"disturbed: {line}")
        calm, hard = (list(read_images(folder / name)) for name in ("calm", "hard"))
        names = [row["file"] for row in calm]
        assert len(set(names)) == len(names) == options.count
        assert [row["file"] for row in calm if row["reason"]] == broken
        assert calm == hard, "the tables differ"
        print(f"same table: {len(calm)} rows, {len(broken)} of them with a reason")
        for kind in ("manifest", "poses"):
            size = sum(path.stat().st_size for path in (folder / "calm" / kind).iterdir())
            print(f"{kind}: {size / options.count:.0f} bytes an image")
        shutil.rmtree(folder / "hard")


if __name__ == "__main__":
    main()
