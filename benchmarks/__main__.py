"""`make bench`: run every row and write RESULTS.md beside this file."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

import hrpose
from benchmarks import plain
from hrpose import heatmap
from hrpose.metrics import oks_nms
from hrpose.skeleton import COCO_17

ROUNDS = 7


@dataclass(frozen=True)
class Row:
    """Ours and its yardstick, called in turn."""

    what: str
    yardstick: str
    ours: Callable[[], object]
    theirs: Callable[[], object]


def rows() -> list[Row]:
    """The inputs are made here, outside what is timed."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, (48, 64), (32, 17, 2))
    heatmaps = rng.uniform(size=(32, 17, 64, 48)).astype(np.float32)
    visible = np.ones((32, 17))
    sigmas = np.asarray(COCO_17.sigmas)
    # A crowded picture: 40 detections around 8 people.
    people = rng.uniform(0, 600, (8, 17, 2))
    poses = np.repeat(people, 5, axis=0) + rng.normal(0, 4, (40, 17, 2))
    keypoints = np.concatenate([poses, np.ones((40, 17, 1))], axis=-1)
    areas, scores = rng.uniform(2e4, 4e4, 40), rng.uniform(size=40)
    return [
        Row(
            "targets, batch of 32 at 256x192",
            "one joint at a time",
            lambda: heatmap.encode(points * 4, visible, (48, 64), 2),
            lambda: plain.targets(points, (48, 64), 2),
        ),
        Row(
            "decoding, batch of 32 at 256x192",
            "one joint at a time",
            lambda: heatmap.decode(heatmaps),
            lambda: plain.decode(heatmaps),
        ),
        Row(
            "OKS-NMS, 40 detections in a picture",
            "one pair at a time",
            lambda: oks_nms(keypoints, areas, scores, 0.9),
            lambda: plain.oks_nms(keypoints, areas, scores, 0.9, sigmas),
        ),
    ]


def milliseconds(work: Callable[[], object]) -> float:
    """CPU time: other work on the machine counts less than on the clock."""
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1000


def main() -> None:
    """Run, print and write the rows."""
    lines = [
        "# Benchmarks",
        "",
        "Made by `make bench`. Each row runs ours and its yardstick in turn, in one process; times",
        f"are medians of {ROUNDS} rounds in CPU milliseconds. The ratio is the median of the",
        "rounds' ratios, with the least and the greatest behind it.",
        "",
        f"{platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, NumPy {np.__version__}, OpenCV {cv2.__version__}, "
        f"ONNX Runtime {onnxruntime.__version__}, hrpose {hrpose.__version__}",
        "",
        "| what | yardstick | yardstick ms | ours ms | ratio |",
        "|---|---|---|---|---|",
    ]
    for row in rows():
        row.ours(), row.theirs()
        pairs = [(milliseconds(row.theirs), milliseconds(row.ours)) for _ in range(ROUNDS)]
        ratios = sorted(theirs / ours for theirs, ours in pairs)
        theirs, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
        lines.append(
            f"| {row.what} | {row.yardstick} | {theirs:.2f} | {ours:.2f} | "
            f"{statistics.median(ratios):.1f}x ({ratios[0]:.1f} to {ratios[-1]:.1f}) |"
        )
        print(lines[-1], flush=True)
    (Path(__file__).parent / "RESULTS.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
