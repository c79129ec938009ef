"""The notebooks: kept with small outputs, and run from top to bottom on small inputs."""

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

import hrpose
from conftest import ROOT
from without import EXTRAS, block_at_start

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))

# What stands for the cell with the tag `parameters`, and what must be true at the end.
SMALL = {
    "0-first-ten-minutes": ("", "assert len(group) == 3 and heatmaps.shape[0] == 17"),
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


def test_the_kept_outputs_are_those_of_the_default_weights() -> None:
    by_stem = {path.stem: path.read_text(encoding="utf-8") for path in NOTEBOOKS}
    estimator = hrpose.load(device="cpu")
    name, _, _ = str(estimator).partition(", ")
    assert f"{name}, " in by_stem["0-first-ten-minutes"]
    width, height = estimator.metadata.input_wh
    assert f"(17, {height // 4}, {width // 4})" in by_stem["2-read-the-heatmaps"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_can_be_read_where_it_lies(path: Path) -> None:
    """`python -m tools.notebooks` makes the outputs again."""
    assert path.stat().st_size < 400_000
    notebook = read(path)
    # Those of `python -m tools.addresses` are not run here.
    notebook["cells"] = [c for c in notebook["cells"] if not c["id"].startswith("colab-")]
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert len(outputs) >= len(code) - 1
    assert any("image/jpeg" in output.get("data", {}) for output in outputs)
    for output in outputs:
        assert output["output_type"] in ("stream", "display_data", "execute_result")
        for data in output.get("data", {}).items():
            if data[0].startswith("image/"):
                assert base64.b64decode(data[1])[:2] == b"\xff\xd8"
    assert not any("\u2501" in json.dumps(output, ensure_ascii=False) for output in outputs)
    # Nothing of the machine that ran it.
    texts = json.dumps([{k: v for k, v in o.items() if k != "data"} for o in outputs])
    texts += json.dumps([v for o in outputs for k, v in o.get("data", {}).items() if "text" in k])
    assert re.findall(r"(?<![\w.])/(?:home|root|Users|tmp|var|work|usr)\b[^\s]*", texts) == []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            if not text.startswith("!"):
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
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    from tools.notebooks import run

    # The kernel's own folders, and those that notebooks write, go away with the test.
    for name in ("TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    if path.stem.startswith("0-"):  # as README says, with a base install
        # Newer versions of Typer need pydantic themselves.
        block_at_start([name for name in EXTRAS if name != "pydantic"], tmp_path)
        paths = [str(tmp_path), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    small, proof = SMALL[path.stem]
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = small
    notebook.cells.append(nbformat.v4.new_code_cell(proof))
    run(notebook, path.parent)
