"""Shared by the benchmarks of the server: options, starting the server, the report."""

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import hrpose

# Measurements by their names.
Measurements = dict[str, str]


def options(doc: str | None, seconds: float, out: str, several: bool = False) -> argparse.Namespace:
    """`--weights`, `--seconds`, `--clients` and `--out`, by default the file `out` in this folder.

    With `several`, the weights are a list, and `--device` too.
    """
    parser = argparse.ArgumentParser(description=doc)
    if several:
        parser.add_argument("--weights", nargs="+", default=["w32-small", "w16-small"])
        parser.add_argument("--device", nargs="+", default=["auto"])
    else:
        parser.add_argument("--weights", default="w16-small")
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / out)
    return parser.parse_args()


def begin(
    code: str, weights: str, *more: str, quiet: bool = False
) -> tuple["subprocess.Popen[str]", str]:
    """Start a server by Python code that takes a command line; the process and its address.

    `quiet` drops its error output.
    """
    command = [sys.executable, "-c", code, "serve", "--port", "0", "--weights", weights]
    command += ["--detector", "none", *more]
    errors = subprocess.DEVNULL if quiet else None
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert server.stdout is not None
    return server, server.stdout.readline().split(" at ")[1].split(";")[0]


def resident(pid: int) -> float:
    """Megabytes of memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) / 1000


def report(
    title: str, doc: str | None, module: str, columns: Mapping[str, Measurements], out: Path
) -> None:
    """Print and write how and where it was measured, and a column of measurements for each."""
    first, *_ = columns.values()
    lines = [
        f"# {title}",
        "",
        f"Made by `python -m benchmarks.{module}`. "
        + " ".join((doc or "").split("\n\n")[1].split()),
        "",
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores shared by server and clients, "
        f"load average {os.getloadavg()[1]:.1f}, hrpose {hrpose.__version__}",
        "",
        f"| what | {' | '.join(columns)} |",
        "|" + "---|" * (len(columns) + 1),
        *(f"| {what} | {' | '.join(c[what] for c in columns.values())} |" for what in first),
    ]
    text = "\n".join(lines)
    print(text)
    out.write_text(f"{text}\n", encoding="utf-8")


def quantiles(seconds: Sequence[float]) -> str:
    """The median and the 99th percentile."""
    ordered = sorted(seconds)
    return f"{ordered[len(ordered) // 2]:.3f}, {ordered[len(ordered) * 99 // 100]:.3f}"


def memory_row(memory: Sequence[float]) -> Measurements:
    """The memory once caches are full, its maximum, and at the end."""
    settled = memory[len(memory) // 6 :]
    values = f"{settled[0]:.0f}, {max(settled):.0f}, {settled[-1]:.0f}"
    return {"memory in MB, after a sixth of the time, maximum, at the end": values}
