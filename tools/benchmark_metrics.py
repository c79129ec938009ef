"""The metrics of four benchmarks, ours and those of the benchmarks' own tools: a table.

    python -m tools.benchmark_metrics                 # environments are made below build/benchmarks
    python -m tools.benchmark_metrics crowdpose --seeds 20 --environments FOLDER
    python -m tools.benchmark_metrics --golden tests/golden/benchmarks.json

Annotations and results are made up (`tools.benchmark_files`). The tools are installed from PyPI
into environments of their own; `tools/benchmark_readers.py` runs there, and says what is not on
PyPI. Exit code 1 where a value differs in the ninth digit. `--golden` writes the tools' values.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrpose.data.coco import CocoAnnotations, CocoResults, read_annotations
from hrpose.metrics import benchmarks, posetrack
from hrpose.skeletons import CROWDPOSE_14, WHOLEBODY_133
from tools import benchmark_files

ROOT = Path(__file__).resolve().parents[1]
READERS = Path(__file__).with_name("benchmark_readers.py")
MOST = 1e-9
Values = dict[str, float]

# What pip installs. xtcocotools is built on the spot, with a NumPy that it runs with.
XTCOCOTOOLS = (("numpy==1.26.4", "setuptools<80", "cython", "wheel"), ("xtcocotools==1.14.3",))
MOTMETRICS = (("motmetrics==1.4.0", "shapely"),)


def crowdpose(folder: Path) -> Values:
    """CrowdPose by ours; the levels are rounded as the tool does."""
    truth = read_annotations(folder / "truth.json")
    found = benchmarks.crowdpose(truth, folder / "results.json")
    return {n: round(v, 4) if n.split()[-1] in benchmarks.CROWD_LEVELS else v
            for n, v in found.items()}  # fmt: skip


def ochuman(folder: Path) -> Values:
    """OCHuman's val by ours, converted."""
    document = benchmarks.read_ochuman(folder / "truth.json")["val"]
    return benchmarks.ochuman(CocoAnnotations(folder, document), folder / "results.json")


def coco_wholebody(folder: Path) -> Values:
    """COCO-WholeBody by ours, converted."""
    path = folder / "results.json"
    document = benchmarks.read_wholebody(folder / "truth.json")["truth"]
    truth = CocoAnnotations(folder, document)
    truth, results = benchmarks.joined_results(truth, path, json.loads(path.read_text()))
    parts = benchmarks.whole_body_parts(truth, CocoResults(path, results))
    return {f"{p} {n}": v for p, scores in parts.items() for n, v in scores.as_dict().items()}


def posetrack18(folder: Path) -> Values:
    """PoseTrack18 by ours, all clips as one file."""
    (folder / "clips").mkdir()
    for clip, document in enumerate(json.loads((folder / "truth.json").read_text())):
        (folder / "clips" / f"{clip:06d}.json").write_text(json.dumps(document))
    document = benchmarks.read_posetrack18(folder / "clips")["clips"]
    truth = CocoAnnotations(folder, document, sized=False)
    clips = json.loads((folder / "results.json").read_text())
    found = [pose for clip in clips for pose in clip["annotations"]]
    scores = posetrack.posetrack18(truth, found)
    keypoints = {name: each.keypoints.tolist() for name, each in scores.items()}
    return {f"{n} {j}": v for n, own in keypoints.items()
            for j, v in zip(posetrack.KEYPOINTS, own, strict=True)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compared:
    """A benchmark: its files, our function, the environment, and OKS sigmas for the tool."""

    files: Callable[[int], Any]
    ours: Callable[[Path], Values]
    environment: str
    sigmas: tuple[float, ...] = ()


BENCHMARKS = {
    "crowdpose": Compared(benchmark_files.crowdpose, crowdpose, "xtcocotools", CROWDPOSE_14.sigmas),
    "ochuman": Compared(benchmark_files.ochuman, ochuman, "pycocotools"),
    "coco_wholebody": Compared(
        benchmark_files.coco_wholebody, coco_wholebody, "xtcocotools", WHOLEBODY_133.sigmas
    ),
    "posetrack18": Compared(benchmark_files.posetrack18, posetrack18, "motmetrics"),
}
PACKAGES = {
    "xtcocotools": XTCOCOTOOLS,
    "pycocotools": (("pycocotools",),),
    "motmetrics": MOTMETRICS,
}


def write(name: str, seed: int, folder: Path) -> None:
    """The files of a benchmark."""
    truth, results = BENCHMARKS[name].files(seed)
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "sigmas.json").write_text(json.dumps(BENCHMARKS[name].sigmas))


def environment(folder: Path, name: str) -> Path:
    """The Python of an environment, which is made where it is missing."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        venv.create(folder / name, with_pip=True)
        for packages in PACKAGES[name]:
            install = ["install", "-q", "--no-build-isolation", *packages]
            subprocess.run([python, "-m", "pip", *install], check=True)
    return python


def flat(values: dict[str, Any]) -> Values:
    """Values of keypoints by name."""
    keypoints = {
        f"{name} {keypoint}": value
        for name, own in values.items()
        if isinstance(own, list)
        for keypoint, value in zip(posetrack.KEYPOINTS, own, strict=True)
    }
    return keypoints or values


def main() -> None:
    """Make the files, measure them with both, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("benchmarks", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--seeds", type=int, default=5, help="how many made-up data sets")
    parser.add_argument("--environments", type=Path, default=ROOT / "build" / "benchmarks")
    parser.add_argument("--golden", type=Path, help="write the tools' values of the first seed")
    given = parser.parse_args()
    wrong, golden = 0, {}
    print("| benchmark | measured by | values | largest difference |\n|---|---|---|---|")
    for name in given.benchmarks or BENCHMARKS:
        if name not in BENCHMARKS:
            parser.error(f"expected one of {', '.join(BENCHMARKS)}, found {name}")
        each = BENCHMARKS[name]
        python = environment(given.environments.resolve(), each.environment)
        count, most = 0, 0.0
        for seed in range(given.seeds):
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                write(name, seed, folder)
                command = [python, READERS, name, folder]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    sys.exit(f"{name}, seed {seed}: {done.stderr[-3000:]}")
                theirs, ours = flat(json.loads(done.stdout)), each.ours(folder)
            if seed == 0:
                golden[name] = theirs
            if theirs.keys() != ours.keys():
                sys.exit(f"{name}: other metrics: {sorted(theirs.keys() ^ ours.keys())}")
            for key, value in theirs.items():
                both_nan = math.isnan(value) and math.isnan(ours[key])
                away = 0.0 if both_nan else abs(value - ours[key])
                # Written so that NaN counts.
                if not away <= MOST:
                    print(f"{name}, seed {seed}, {key}: {value} {ours[key]}", file=sys.stderr)
                    wrong += 1
                most, count = max(most, away), count + 1
        print(f"| {name} | {each.environment} | {count:,} | {most:.2g} |", flush=True)
    if given.golden is not None:
        given.golden.write_text(json.dumps(golden, indent=1) + "\n")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
