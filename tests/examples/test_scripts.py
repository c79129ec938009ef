"""The scripts of examples/, and the Space, each where what it needs is installed."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

import hrpose
from conftest import ROOT
from hrpose.image import read_image
from hrpose.weights import EMBEDDED
from refusals import refused

EXAMPLES = ROOT / "examples"
IMAGE = EXAMPLES / "astronaut.jpg"


def load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_space_answers_without_gradio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    app = load(EXAMPLES / "space" / "app.py")
    image = read_image(IMAGE)
    drawn, rows = app.find_poses(image, 0.3, False)
    assert drawn.shape == image.shape
    assert (drawn != image).any()
    assert [row[1] for row in rows if row[1] == "nose"] == ["nose"]
    assert all(row[4] >= 0.3 for row in rows)
    assert app.find_poses(None, 0.3, False) == (None, [])
    json.dumps(rows)
    with refused("image-too-large", "20"):
        app.find_poses(np.broadcast_to(np.uint8(0), (5000, 5000, 3)), 0.3, False)


def test_the_space_can_be_uploaded_as_it_is() -> None:
    card = (EXAMPLES / "space" / "README.md").read_text("utf-8").split("---\n")
    head = yaml.safe_load(card[1])
    assert head["sdk"] == "gradio"
    assert (EXAMPLES / "space" / head["app_file"]).is_file()
    needed = (EXAMPLES / "space" / "requirements.txt").read_text("utf-8").split()
    assert needed[0] == "hrpose"
    assert f"`{EMBEDDED[0]}`" in card[2]
    estimator = load(EXAMPLES / "space" / "app.py").estimator(False)
    assert str(estimator) == str(hrpose.load())


def test_angles_become_a_table() -> None:
    pytest.importorskip("pandas")
    table = load(EXAMPLES / "pandas_angles.py").angles([IMAGE], threshold=0.0)
    assert list(table["keypoint"]) == ["left_elbow", "left_knee", "right_elbow", "right_knee"]
    assert table["degrees"].between(0, 180).all()
    absent = load(EXAMPLES / "pandas_angles.py").angles([IMAGE], threshold=1.0)
    assert absent["degrees"].isna().all()


def test_supervision_draws_what_was_found() -> None:
    pytest.importorskip("supervision")
    scene, raised = load(EXAMPLES / "supervision_zones.py").annotate(IMAGE)
    assert (np.asarray(scene) != read_image(IMAGE)).any()
    assert raised == [False]


def test_fiftyone_gets_points_as_parts_of_the_image() -> None:
    estimator = hrpose.load("w16-small")
    (person,) = load(EXAMPLES / "fiftyone_poses.py").instances(IMAGE, estimator)
    points = np.array(person["points"])
    assert points.shape == (17, 2)
    width, height = 512, 512
    found = estimator(IMAGE).keypoints[0]
    np.testing.assert_allclose(points * [width, height], found[:, :2], atol=1e-3)
    assert len(person["confidence"]) == 17
