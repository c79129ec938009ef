"""`hrpose verify`, as a user runs it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from hrpose.cli.main import app
from hrpose.errors import UserError
from hrpose.evaluation.parity.comparisons import Certificate, Check
from hrpose.synthetic import write_dataset
from refusals import check_refusal
from tiny_weights import METADATA, write_tiny_weights

QUICK = Certificate((Check("one", "numpy", 0, 0), Check("two", "numpy", 1e-6, 1e-5, "px")))


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["verify", *map(str, arguments)])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the golden vectors, which tests/verification compares."""
    monkeypatch.setattr("hrpose.evaluation.parity.comparisons.verify", lambda _: QUICK)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, images=3, seed=0)
    return ["--annotations", f"{folder}/annotations.json", "--images", f"{folder}/images"]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_tiny_weights(tmp_path / "a.onnx")


def other_weights(path: Path) -> Path:
    """The same metadata, other numbers."""
    model = onnx.load(write_tiny_weights(path))
    (mix,) = model.graph.initializer
    turned = numpy_helper.to_array(mix)[:, ::-1].copy()
    mix.CopyFrom(numpy_helper.from_array(turned, "mix"))
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.slow
def test_without_the_extra_the_numpy_part_runs(tmp_path: Path) -> None:
    extras = ("torch", "faster_coco_eval", "lightning", "onnx", "safetensors", "scipy", "yaml")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({extras!r}))\n"
        "from hrpose.cli.main import main; sys.argv[0] = 'hrpose'; main()"
    )
    out = tmp_path / "certificate.json"
    ran = subprocess.run(
        [sys.executable, "-c", code, "verify", "--out", str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    assert "not run: COCO's ten metrics (needs hrpose[train])" in ran.stdout
    assert "13 comparisons, all equal" in ran.stdout
    written = json.loads(out.read_text())
    assert written["equal"] is True
    assert {check["on"] for check in written["checks"]} == {"numpy", "opencv"}
    assert written["libraries"]["numpy"] == np.__version__
    assert len(written["not_run"]) == 2


def test_a_difference_is_reported_and_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    worse = Certificate((*QUICK.checks, Check("three", "numpy", float("nan"), 1e-5)))
    monkeypatch.setattr("hrpose.evaluation.parity.comparisons.verify", lambda _: worse)
    ran = run("--out", tmp_path / "c.json")
    assert ran.exit_code == 1
    assert "NO" in ran.output
    assert "3 comparisons, 1 not equal" in ran.output
    written = json.loads((tmp_path / "c.json").read_text())
    assert written["equal"] is False
    assert written["checks"][2]["difference"] is None


@pytest.mark.usefixtures("quick")
def test_an_export_equals_its_original(weights: Path, data: list[str]) -> None:
    ran = run("--weights", weights, "--against", weights, *data)
    assert ran.exit_code == 0, ran.output
    assert "keypoints: moved" in ran.output
    assert "6 comparisons, all equal" in ran.output


@pytest.mark.usefixtures("quick")
def test_another_model_is_not_equal(weights: Path, tmp_path: Path) -> None:
    ran = run("--weights", other_weights(tmp_path / "b.onnx"), "--against", weights)
    assert ran.exit_code == 1, ran.output
    assert "not equal" in ran.output


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("published", "code"), [(0.0, 0), (0.9, 1)])
def test_the_published_score_is_compared(
    weights: Path, data: list[str], published: float, code: int
) -> None:
    ran = run("--weights", weights, *data, "--published", published, "--tolerance", 0.3)
    assert ran.exit_code == code, ran.output
    assert f"published {published:.4f}" in " ".join(ran.output.split())


@pytest.mark.usefixtures("quick")
def test_models_that_read_images_differently_are_not_compared(
    weights: Path, tmp_path: Path
) -> None:
    other = write_tiny_weights(tmp_path / "b.onnx", replace(METADATA, padding=1.5))
    ran = run("--weights", other, "--against", weights)
    assert isinstance(ran.exception, UserError)
    assert "found padding 1.5 instead of 1.25" in str(ran.exception)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("arguments", "mentions"),
    [
        (["--against", "x.onnx"], ("--against: ", "--weights")),
        (["--published", "0.7"], ("--published: ", "--weights")),
        (["--images", "x"], ("--images: ", "--weights")),
        (["--boxes", "x.json"], ("--boxes: ", "--weights")),
        (["--tolerance", "0.1"], ("--tolerance: ", "--weights")),
        (["--no-flip-test"], ("--flip-test: ", "--weights")),
        (
            ["--weights", "a.onnx", "--against", "b.onnx", "--boxes", "x.json"],
            ("--boxes: ", "--annotations", "--images"),
        ),
        (["--weights", "w16-small"], ("--published", "--against")),
        (["--weights", "w16-small", "--published", "0.3"], ("--annotations", "--images")),
        (["--weights", "w32-coco-256x192"], ("--annotations", "--images")),
        (["--weights", "w16-small", "--images", "x"], ("--annotations", "--images")),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], mentions: tuple[str, ...]) -> None:
    check_refusal(run(*arguments), "option-conflict", *mentions)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("arguments", "mention"),
    [
        (["--weights", "a", "--annotations", "b", "--images", "c", "--boxes", "detector"],
         "--boxes: "),
        (["--weights", "no.onnx", "--against", "w16-small"], "no.onnx: "),
        (["--golden", "nowhere"], "nowhere: "),
    ],
)  # fmt: skip
def test_wrong_values_are_one_line(arguments: list[str], mention: str) -> None:
    ran = run(*arguments)
    assert isinstance(ran.exception, UserError)
    assert mention in str(ran.exception)
