"""`make bench`: run the rows and write RESULTS.md beside this file.

`python -m benchmarks arrays samples` runs some modules only and prints, without writing.
"""

import os
import platform
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

from benchmarks.rows import Table

MODULES = (
    "arrays",
    "samples",
    "val2017",
    "prediction",
    "engines",
    "training_step",
    "offline",
    "recording",
)
LIBRARIES = ("hrpose", "onnxruntime", "torch", "faster-coco-eval", "pycocotools")


def processor() -> str:
    """The name of the processor, as far as Linux knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    found = dict(line.partition(":")[::2] for line in lines)
    names = {key.strip(): value.strip() for key, value in found.items()}
    kinds = [
        kind
        for kind in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")
        if kind in names.get("flags", "").split()
    ]
    return f"{names.get('model name', platform.machine())} ({', '.join(kinds)})"


def main() -> None:
    """Run, print and write."""
    chosen = sys.argv[1:] or list(MODULES)
    table = Table()
    for name in chosen:
        if name not in MODULES:
            sys.exit(f"{name}: expected some of {', '.join(MODULES)}")
        for row in import_module(f"benchmarks.{name}").rows():
            table.run(row)
    if chosen != list(MODULES):
        return
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    lines = [
        "# Benchmarks",
        "",
        "Made by `make bench`. Each row runs ours and its baseline alternately in one process.",
        "Times are medians in CPU milliseconds (per sample, per person or in all), wall time for",
        "whole networks. The ratio is the median of the rounds, with the least and the greatest.",
        "The baselines are in `plain.py`: the method of the official code, written simply.",
        "",
        f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, OpenCV {cv2.__version__}, {versions}",
        "",
        "| what | baseline | baseline ms | ours ms | ratio | target | remark |",
        "|---|---|---|---|---|---|---|",
        *table.rows,
        "",
        "| what | measured | target |",
        "|---|---|---|",
        *table.facts,
    ]
    (Path(__file__).parent / "RESULTS.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
