"""Real data through the commands: LSPET comes in, sources are kept apart, sets are merged."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hrpose.cli.main import app
from hrpose.data.coco import load_persons
from hrpose.skeletons import LSP_14


def run(*arguments: object) -> None:
    done = CliRunner().invoke(app, ["data", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.mark.shared
def test_lspet_is_converted_and_merged(shared: Path, tmp_path: Path) -> None:
    data, lspet, both = shared / "data", tmp_path / "lspet", tmp_path / "both"
    run("convert", "lsp", data / "lspet-sample" / "joints.mat", lspet)
    table = load_persons(lspet / "annotations.json")
    assert (len(table), table.skeleton) == (240, LSP_14)
    labeled = table.keypoints[table.keypoints[..., 2] > 0]
    # Most of the keypoints are in the images.
    assert (labeled[:, :2] >= 0).mean() > 0.99
    first = (data / "coco-mini" / "val.json", lspet / "annotations.json")
    run("merge", *first, both, "--keypoints", "common")
    merged = load_persons(both / "annotations.json", unlabeled=True)
    assert (len(merged), len(merged.skeleton)) == (531, 12)
    assert set(merged.sources.tolist()) == {b"coco-mini", b"lspet-sample"}


@pytest.mark.shared
def test_sources_stay_on_one_side(shared: Path, tmp_path: Path) -> None:
    path = shared / "data" / "people" / "train.json"
    run("split", path, tmp_path / "parts", "--group", "source", "--put", "badminton=val")
    sources = []
    for name in ("train", "val"):
        images = json.loads((tmp_path / "parts" / f"{name}.json").read_text())["images"]
        sources.append({image["source"] for image in images})
    assert "badminton" in sources[1]
    assert not sources[0] & sources[1]
