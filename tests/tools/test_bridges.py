"""The readers of `tools.bridges`, for the packages that are installed here; it runs all of them."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tools.bridge_readers import said
from tools.bridges import READERS, TOOLS, cameras

from hrpose.predict import FORMATS
from hrpose.predict.record import Entry, Header, Record, RecordWriter, write_files

pytestmark = pytest.mark.slow
# What readers import. DeepLabCut is more than a test may start, Sports2D needs the clip, and NWB is
# read in tests/predict/test_motion.py.
PACKAGES = {
    "pandas": "tables",
    "movement": "movement",
    "sleap-io": "sleap_io",
    "opensim": "opensim",
    "pose2sim": "Pose2Sim",
}
WRITTEN = ("dlc", "dlc-csv", "sleap", "mot")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `tools.bridges.results` makes, of the cameras' record with a second person."""
    folder = tmp_path_factory.mktemp("bridges")
    cameras(folder / "cameras")
    source = Record(folder / "cameras" / "pose" / "cam1.jsonl")
    writer = RecordWriter(folder / "walk.jsonl", Header.from_dict(source.header.to_dict()))
    for entry in source:
        (first,) = entry.persons
        unsure = [round(v / 7, 4) if i % 6 == 2 else v for i, v in enumerate(first["keypoints"])]
        both = [first, {**first, "track_id": 2, "keypoints": unsure}]
        persons = tuple(both[: 1 + (entry.frame or 0) % 2])
        about = {**entry.to_dict(), "persons": persons, "time": round((entry.frame or 0) / 30, 6)}
        writer.add(Entry.from_dict(about))
    writer.close()
    kinds = (*WRITTEN, *["nwb"] * (find_spec("movement") is not None))
    write_files(writer.path, {kind: folder / f"walk{FORMATS[kind].suffix}" for kind in kinds})
    write_files(writer.path, {"trc": folder / "walk_trc"})
    (folder / "walk_trc").rename(folder / "walk_trc_px")
    write_files(writer.path, {"trc": folder / "walk_trc"}, known="0,0,1000,0=5")
    (folder / "walk_trc").rename(folder / "walk_trc_m")
    (folder / "scale.json").write_text("0.005")
    return folder


@pytest.mark.parametrize("tool", PACKAGES)
def test_tools_read_what_is_written(tool: str, folder: Path) -> None:
    if find_spec(PACKAGES[tool]) is None:
        pytest.skip(f"needs {tool}; `python -m tools.bridges {tool}` installs and runs it")
    command = [sys.executable, str(READERS), TOOLS[tool].reader, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(done.stdout)
    assert rows
    assert all(0 <= row["difference"] <= TOOLS[tool].most and row["values"] for row in rows), rows


def test_a_shifted_or_missing_value_is_seen() -> None:
    """The comparison can fail."""
    values = np.array([[1.0, np.nan], [2.0, 3.0]])
    shifted = values + np.array([[0, 0], [0, 1]])
    assert said("", shifted, values, "px")["difference"] == 1
    assert said("", values, values, "px")["values"] == 3
    with pytest.raises(AssertionError, match="missing elsewhere"):
        said("", np.nan_to_num(values), values, "px")
