"""The notebooks: kept without outputs, and run from top to bottom on small inputs."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))

# What stands for the cell with the tag `parameters`, and what must be true at the end.
SMALL = {
    "1-predict-and-draw": ("", "assert poses.keypoints.shape == (1, 17, 3) and len(tight) == 1"),
    "2-read-the-heatmaps": ("", "assert np.abs(in_image - poses.keypoints[0, :, :2]).max() < 0.01"),
    "3-train-on-synthetic-people": (
        "TRAIN_IMAGES, VAL_IMAGES, SAMPLES, EPOCHS = 16, 6, 32, 1",
        "assert metadata.input_wh == (96, 128) and 'val/AP' in metrics",
    ),
    "4-keypoints-of-your-own": (
        "TRAIN_IMAGES, VAL_IMAGES = 12, 6\n"
        "SETTINGS = ['training.epochs=1', 'training.samples_per_epoch=32']",
        "assert len(estimator.metadata.skeleton) == 9 and 'PCK@0.1' in report.metrics",
    ),
    "5-evaluate-and-analyze": (
        "NUM_IMAGES = 4",
        "assert report.value > 0.3 and analysis.counts.persons > 3 and page.stat().st_size > 9999",
    ),
}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_notebook_is_run() -> None:
    assert {path.stem for path in NOTEBOOKS} == SMALL.keys()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs_and_its_links_lead_somewhere(path: Path) -> None:
    notebook = read(path)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            compile(text, path.name, "exec")
        else:
            for link in re.findall(r"\]\(([^)#]+)", text):
                assert (path.parent / link).is_file(), link
    tagged = [c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == bool(SMALL[path.stem][0])


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    # The kernel's own folders, and those that notebooks write, go away with the test.
    for name in ("TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    small, proof = SMALL[path.stem]
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = small
    notebook.cells.append(nbformat.v4.new_code_cell(proof))
    client.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}
    ).execute()
