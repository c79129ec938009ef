"""A training on MPII, from the official files to weights: PCKh chooses, images show."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from data.mpii_files import write_mpii
from hrpose.data.formats.mpii import convert
from hrpose.models import checkpoint
from hrpose.skeletons import MPII_16

CHANGES = {
    "network": "w16-small",
    "weights": "null",
    "input_wh": "[64, 64]",
    "training.epochs": "1",
    "training.batch_size": "2",
    "training.workers": "0",
    "training.debug_pictures_every": "1",
    "evaluation.flip_test": "false",
}


@pytest.mark.slow
def test_mpii_is_validated_by_pckh(tmp_path: Path) -> None:
    data, out = tmp_path / "mpii", tmp_path / "out"
    convert(write_mpii(data, persons=4), data / "annotations")
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from hrpose.cli.main import main; main()", "train"),
            *(ROOT / "recipes" / "w32-mpii-256x256.yaml", "--data", tmp_path, "--out", out),
            *(part for key, value in CHANGES.items() for part in ("--set", f"{key}={value}")),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr

    _, metadata = checkpoint.load(out / "w32-mpii-256x256.safetensors")
    assert metadata.skeleton == MPII_16
    with (out / "csv" / "version_0" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"val/PCKh", "val/PCKh@0.1", "val/Head", "val/Ankle"} <= rows[0].keys()
    assert "val/AP" not in rows[0]
    for name, most in (("val/PCKh", 100), ("train/accuracy_epoch", 1)):
        (value,) = (float(row[name]) for row in rows if row[name])
        assert 0 <= value <= most
    assert (out / "checkpoints" / "best.ckpt").is_file()
    sheets = sorted(path.name for path in (out / "images").iterdir())
    assert len(sheets) == 8  # four for each of two steps
    assert sheets[0] == "00000000_found.jpg"
