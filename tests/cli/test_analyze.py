"""`hrpose analyze` end to end, its page in a browser, and bad input."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hrpose.cli.main import app
from hrpose.covariance import CovarianceFit
from hrpose.errors import UserError
from hrpose.metadata import Metadata
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17
from hrpose.synthetic import write_dataset
from offline_page import opened
from tiny_weights import METADATA, write_tiny_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, weights, their results, and the analysis of these."""
    folder = tmp_path_factory.mktemp("analysis")
    write_dataset(folder / "data", images=12, seed=3)
    write_tiny_weights(folder / "tiny.onnx")
    # Bad weights find poses that no one is near: the results are labels, moved.
    document = json.loads((folder / "data/annotations.json").read_bytes())
    results = []
    for person in document["annotations"]:
        moved = [
            value + 2 if i % 3 < 2 else 0.4 + 0.01 * i
            for i, value in enumerate(person["keypoints"])
        ]
        entry = {"image_id": person["image_id"], "category_id": 1, "score": 0.5}
        results.append({**entry, "keypoints": moved})
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    done = run(
        folder,
        *("--images", folder / "data/images", "--weights", folder / "tiny.onnx"),
        *("--out", folder / "page.html", "--json"),
    )
    assert done.exit_code == 0, done.output
    assert "largest gains if fixed" in done.stderr
    (folder / "page.json").write_text(json.dumps(json.loads(done.stdout)["analysis"]))
    return folder


def run(folder: Path, *options: Any) -> Any:
    files = (folder / "results.json", "--annotations", folder / "data/annotations.json")
    return CliRunner().invoke(app, ["analyze", *map(str, (*files, *options))])


def test_it_writes_a_page_metrics_and_weights(folder: Path) -> None:
    figures = json.loads((folder / "page.json").read_bytes())
    assert 0 < figures["AP"] < 1
    assert len(figures["box_noise"]) == 6
    assert len(figures["keypoints"]) == 17
    assert set(figures["examples"]) == {"worst", "overrated", "underrated"}
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert f"Why the AP is {figures['AP']:.3f}" in page
    persons = sum(len(each) for each in figures["examples"].values())
    # Two drawings and three heatmaps for each.
    assert page.count("data:image/jpeg") == 5 * persons > 0
    assert figures["coverage"] == {}


def test_it_shows_how_many_labels_are_inside_their_ellipses(folder: Path, tmp_path: Path) -> None:
    radii = ((0.8,) * 17, (1.4,) * 17, (2.4477,) * 17)
    fit = CovarianceFit((0.5,), (4.0,), 0.0, (1.0,) * 17, (0.5, 0.8, 0.95), radii)
    fitted = write_tiny_weights(tmp_path / "fitted.onnx", replace(METADATA, covariance=fit))
    images = ("--images", folder / "data/images", "--weights", fitted)
    done = run(folder, *images, "--out", tmp_path / "page.html", "--json")
    assert done.exit_code == 0, done.output
    parts = json.loads(done.stdout)["analysis"]["coverage"]
    assert {"all", "left_wrist", "large"} <= parts.keys()
    every = parts["all"]
    assert every["levels"] == [0.5, 0.8, 0.95]
    assert 0 < every["found"][0] < every["found"][2] < 1
    assert sum(parts[name]["keypoints"] for name in COCO_17.keypoints) == every["keypoints"]
    assert "Coverage of ellipses" in (tmp_path / "page.html").read_text("utf-8")
    assert f"ellipses: {every['found'][2]:.1%}" in done.stderr


def test_the_page_without_images(folder: Path, tmp_path: Path) -> None:
    done = run(folder, "--out", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "data:image" not in page
    assert "How much the boxes matter" not in page


@pytest.mark.parametrize(
    ("options", "mention"),
    [
        (("--weights", "TINY"), "--images"),
        (("--images", "nowhere"), "nowhere"),
        (("--weights", "HAND", "--images", "IMAGES"), "keypoints"),
        (("--skeleton", "nowhere.yaml"), "nowhere.yaml"),
    ],
)
def test_bad_input_is_reported_and_nothing_written(
    folder: Path, tmp_path: Path, options: tuple[str, ...], mention: str
) -> None:
    hand = Metadata("tiny", (48, 64), skeleton=Skeleton("hand", ("thumb", "finger")))
    named = {
        "TINY": folder / "tiny.onnx",
        "HAND": write_tiny_weights(tmp_path / "hand.onnx", hand),
        "IMAGES": folder / "data/images",
    }
    out = tmp_path / "page.html"
    done = run(folder, *(named.get(option, option) for option in options), "--out", out)
    assert isinstance(done.exception, UserError)
    assert mention in str(done.exception)
    assert not out.exists()


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (360, "dark")])
def test_the_page_shows(browser: Any, folder: Path, width: int, scheme: str) -> None:
    with opened(browser, folder / "page.html", width, scheme) as view:
        assert view.locator("section").count() == 9
        assert view.locator("svg").count() == 4
