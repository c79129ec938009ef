"""Every file of `--save` for another tool, read by that tool: a table of versions and differences.

    python -m tools.bridges                       # all; environments are made below build/bridges
    python -m tools.bridges movement sports2d --environments FOLDER

Each tool is installed from PyPI into an environment of its own, where there is none yet: minutes,
and gigabytes for DeepLabCut and Pose2Sim. The clip is examples/walking.mp4; Pose2Sim triangulates a
person at known places, seen by three cameras. Exit code 1 where a difference is too large.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hrpose.data.formats.opensim import marker_names
from hrpose.poses import Poses
from hrpose.predict.record import Entry, Header, RecordWriter, write_files
from hrpose.skeletons import COCO_17

ROOT = Path(__file__).resolve().parents[1]
READERS = Path(__file__).with_name("bridge_readers.py")
SCALE = 0.005  # meters for each pixel
CAMERA_WH, FOCAL, FRAMES, RATE = (1920, 1080), 1400.0, 30, 30.0


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: the function of its reader, its environment, what pip installs, the bound."""

    reader: str
    environment: str
    packages: tuple[str, ...]
    most: float


TOOLS = {
    "pandas": Tool("pandas", "movement", ("pandas", "tables"), 1e-4),
    "deeplabcut": Tool("deeplabcut", "deeplabcut", ("deeplabcut",), 1e-4),
    "movement": Tool("movement", "movement", ("movement",), 1e-4),
    "sleap-io": Tool("sleap_io", "movement", ("sleap-io",), 1e-4),
    "pynwb": Tool("pynwb", "movement", ("pynwb", "ndx-pose"), 1e-4),
    "opensim": Tool("opensim", "pose2sim", ("opensim",), 1e-4),
    "pose2sim": Tool("pose2sim", "pose2sim", ("Pose2Sim",), 0.1),
    "sports2d": Tool("sports2d", "pose2sim", ("Sports2D",), 1e-3),
}
WHAT = {
    "movement": ("movement", "tables"),
    "pose2sim": ("Sports2D",),
    "deeplabcut": ("deeplabcut",),
}


def results(folder: Path) -> None:
    """The clip as walk.mp4, its record, and all files made from it."""
    shutil.copy(ROOT / "examples" / "walking.mp4", folder / "walk.mp4")
    predict = ["predict", "walk.mp4", "--out", ".", "--save", "openpose,dlc,dlc-csv,sleap,nwb,trc"]
    subprocess.run([sys.executable, "-m", "hrpose", *predict], cwd=folder, check=True)
    (folder / "walk_trc").rename(folder / "walk_trc_px")
    convert = ["data", "convert", "results", "walk.jsonl", "--save", "trc"]
    convert[-1] += ",mot"
    convert += ["--known", f"0,0,1000,0={1000 * SCALE}"]
    subprocess.run([sys.executable, "-m", "hrpose", *convert], cwd=folder, check=True)
    (folder / "walk_trc").rename(folder / "walk_trc_m")
    (folder / "scale.json").write_text(str(SCALE))


def cameras(folder: Path) -> None:
    """A trial of Pose2Sim: a calibration, and the same person seen by three cameras."""
    rng = np.random.default_rng(0)
    rest = rng.uniform([-0.4, -0.4, 0], [0.4, 0.4, 1.8], (17, 3))
    sway = np.sin(np.arange(FRAMES)[:, None, None] / 5 + rng.uniform(0, 6, (17, 3)))
    points = rest + 0.05 * sway
    truth = {"markers": marker_names(COCO_17.keypoints), "points": points.tolist()}
    (folder / "calibration").mkdir(parents=True)
    (folder / "truth.json").write_text(json.dumps(truth))
    matrix = np.array([[FOCAL, 0, CAMERA_WH[0] / 2], [0, FOCAL, CAMERA_WH[1] / 2], [0, 0, 1]])
    calibration = []
    for number in range(1, 4):
        name, turn = f"cam{number}", 2 * np.pi * number / 3
        place = np.array([5 * np.cos(turn), 5 * np.sin(turn), 1.5])
        forward = np.array([0, 0, 0.9]) - place
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        vector, shift = cv2.Rodrigues(rotation)[0].ravel(), -rotation @ place
        calibration += [
            f'[{name}]\nname = "{name}"\nsize = {list(map(float, CAMERA_WH))}\n'
            f"matrix = {matrix.tolist()}\ndistortions = [0.0, 0.0, 0.0, 0.0]\n"
            f"rotation = {vector.tolist()}\ntranslation = {shift.tolist()}\nfisheye = false\n"
        ]
        seen = points @ rotation.T + shift
        xy = (seen @ matrix.T)[..., :2] / seen[..., 2:]
        header = Header("clip", COCO_17, 0.3, f"{name}.mp4", None, None, *CAMERA_WH, RATE)
        path = folder / "pose" / f"{name}.jsonl"
        writer = RecordWriter(path, header)
        for frame, own in enumerate(xy):
            keypoints = np.ones((1, 17, 3), np.float32)
            keypoints[0, :, :2] = own
            box, one = np.float32([[0, 0, *CAMERA_WH]]), np.ones(1, np.float32)
            poses = Poses(keypoints, box, one, COCO_17, np.ones(1, np.int64))
            entry = Entry.of(f"{name}.mp4", frame + 1, CAMERA_WH, poses, frame=frame)
            writer.add(entry)
        writer.close()
        write_files(path, {"openpose": path.with_name(f"{name}_json")})
    (folder / "calibration" / "Calib.toml").write_text("\n".join(calibration))


def environment(folder: Path, name: str) -> Path:
    """The Python of an environment, which is made where it is missing."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        venv.create(folder / name, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *WHAT[name]], check=True)
    return python


def versions(python: Path, packages: tuple[str, ...]) -> str:
    """The packages that are read with, and their versions."""
    code = "import sys; from importlib.metadata import version as v\n"
    code += "print(', '.join(f'{name} {v(name)}' for name in sys.argv[1:]))"
    command = [python, "-c", code, *packages]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Make the files, read them with each tool, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tools", nargs="*", metavar="TOOL", help=", ".join(TOOLS))
    parser.add_argument("--environments", type=Path, default=ROOT / "build" / "bridges")
    given = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        results(folder)
        cameras(folder / "cameras")
        print("| read by | compared | values | largest difference |\n|---|---|---|---|")
        for name in given.tools or TOOLS:
            if name not in TOOLS:
                parser.error(f"expected one of {', '.join(TOOLS)}, found {name}")
            tool = TOOLS[name]
            python = environment(given.environments.resolve(), tool.environment)
            about = versions(python, tool.packages)
            command = [python, READERS, tool.reader, folder]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"| {about} | failed | | |", done.stderr[-3000:], sep="\n")
                wrong += 1
                continue
            for row in json.loads(done.stdout):
                difference = f"{row['difference']:.2g} {row['unit']}"
                print(
                    f"| {about} | {row['compared']} | {row['values']:,} | {difference} |",
                    flush=True,
                )
                wrong += row["difference"] > tool.most
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
