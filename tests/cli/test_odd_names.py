"""Files of any name: bytes that are not UTF-8, as long as names can be, with control characters."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clips import colors, times, write_clip
from hrpose.io import text_to_name
from tiny_weights import write_tiny_weights

pytestmark = [
    pytest.mark.slow,  # processes of their own
    pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names"),
]

BYTES, LONG, CONTROL = b"\xc9t\xe9", b"n" * 251, b"line\nbreak\x1b[31m"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with an image and a clip of each odd name, and one that is broken."""
    folder = tmp_path / "in"
    folder.mkdir()
    write_tiny_weights(tmp_path / "tiny.onnx")
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "image.jpg")
    write_clip(tmp_path / "clip.mp4", colors(2), times(2))
    for name in (BYTES, LONG, CONTROL):
        os.link(tmp_path / "image.jpg", os.fsencode(folder) + b"/" + name + b".jpg")
        os.link(tmp_path / "clip.mp4", os.fsencode(folder) + b"/" + name + b".mp4")
    (folder / "broken\udcff.jpg").write_bytes(b"no image")
    return folder


def run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A real process, whose output has to be UTF-8."""
    program = "from hrpose.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words), "--weights", "tiny.onnx",
         "--detector", "none"],
        cwd=folder, capture_output=True, encoding="utf-8", timeout=120, check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_results_of_odd_names(files: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "predict", "in", "--save", "images,coco,csv,parquet,dataset")
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if line.endswith("[image-unsupported]"))
    assert r"in/broken\xff.jpg" in line
    out = tmp_path / "out"
    expected = {os.fsdecode(name + b".jpg") for name in (BYTES, LONG, CONTROL)}
    entries = json.loads((out / "poses.json").read_bytes())
    assert {text_to_name(entry["file_name"]) for entry in entries} == expected
    assert all((out / name).is_file() for name in expected)
    with (out / "poses.csv").open(encoding="utf-8", newline="") as file:
        names = {text_to_name(row["file"]) for row in csv.DictReader(file)}
    assert names == {*expected, "broken\udcff.jpg"}
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(out / "poses.parquet")
    assert set(map(text_to_name, table["file"].to_pylist())) == names
    document = json.loads((out / "dataset/annotations/person_keypoints_default.json").read_bytes())
    copies = {image["file_name"] for image in document["images"]}
    # In a data set the copies are called as the annotations call them.
    assert copies == {path.name for path in (out / "dataset/images/default").iterdir()}
    assert r"\xc9t\xe9.jpg" in copies

    records = {path.name for path in out.glob("*.jsonl")} - {"poses.jsonl"}
    assert {os.fsdecode(name + b".jsonl") for name in (BYTES, CONTROL)} < records
    assert len(records) == 3
    assert all(out.joinpath(f"{name[:-6]}.mp4").is_file() for name in records)


def test_batches_of_odd_names(files: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    done = run(tmp_path, "batch", "in", "--workers", 1)
    assert done.returncode == 1, done.stderr
    rows = pq.read_table(tmp_path / "out/poses").to_pylist()
    assert {text_to_name(row["file"]): row["status"] for row in rows} == {
        **{os.fsdecode(name + b".jpg"): "ok" for name in (BYTES, LONG, CONTROL)},
        "broken\udcff.jpg": "failed",
    }


@pytest.mark.parametrize("name", [BYTES, LONG, CONTROL])
def test_explanations_of_odd_names(files: Path, tmp_path: Path, name: bytes) -> None:
    image = os.fsdecode(os.fsencode(files) + b"/" + name + b".jpg")
    done = run(tmp_path, "explain", image)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*-explained.html"))) == 1
