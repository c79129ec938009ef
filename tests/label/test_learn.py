"""Learning from labels: who is held out, a real training, and the model that is used afterwards."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hrpose.api import load
from hrpose.label.learn import Learner
from hrpose.label.project import Project
from hrpose.label.suggestions import Assistant
from hrpose.synthetic import ANIMAL, write_dataset
from refusals import refused

from .conftest import Labels


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Ten images of animals, all labeled, in `images` beside their annotations."""
    write_dataset(tmp_path, 10, seed=3, figure=ANIMAL)
    return tmp_path


def test_too_few_labels_and_unknown_models_are_refused(labels: Labels) -> None:
    with refused("labels-missing"):
        labels.learner.start()
    with refused("weights-unknown"):
        labels.learner.open("001")
    answer = labels("POST", "/v1/label/models/learn", json={})
    assert (answer.status_code, answer.json()["cause"]) == (409, "labels-missing")
    answer = labels("POST", "/v1/label/models/use", json={"name": "../.."})
    assert answer.status_code == 422
    assert labels.get("models") == {"models": [], "used": None}


def test_the_same_images_are_held_out_as_labels_grow(animals: Path) -> None:
    project = Project(animals / "images", None, animals / "annotations.json")
    learner = Learner(project, load, lambda: None)
    train, held = learner.parts()
    names = [{image["file_name"] for image in part["images"]} for part in (train, held)]
    assert names[0] | names[1] == {f"{number:06}.jpg" for number in range(1, 11)}
    assert not names[0] & names[1]
    assert all(names)
    # An image that is not done is in neither part; the others stay where they were.
    (first, *_) = sorted(names[0])
    with project.store._writing() as db:
        db.execute("UPDATE images SET done = 0 WHERE name = ?", (first,))
    fewer = [{image["file_name"] for image in part["images"]} for part in learner.parts()]
    assert fewer == [names[0] - {first}, names[1]]
    project.close()


@pytest.mark.slow
def test_a_model_is_trained_stopped_resumed_measured_and_used(animals: Path) -> None:
    project = Project(animals / "images", None, animals / "annotations.json")
    assistant = Assistant(project, None, "")

    def opened(weights: str) -> Any:
        return load(weights, detector="full-image", threads=1)

    overrides = ["training.epochs=2", "training.samples_per_epoch=16"]
    learner = Learner(project, opened, lambda: assistant.estimator, overrides)
    labels = Labels(project, assistant, learner=learner)
    assert labels("POST", "/v1/label/models/learn", json={}).status_code == 200
    assert labels("POST", "/v1/label/models/learn", json={}).status_code == 409
    labels("POST", "/v1/label/models/stop", json={})
    (model,) = wait(labels, lambda model: model["state"] != "training")
    assert model["state"] == "stopped"
    assert labels("POST", "/v1/label/models/resume", json={"name": "001"}).status_code == 200
    (model,) = wait(labels, lambda model: model["state"] != "training")
    assert model["state"] == "ready", model["reason"]
    assert model["held_out"] > 0
    assert 0 <= model["score"]["low"] <= model["score"]["mean"] <= model["score"]["high"] <= 1
    answer = labels("POST", "/v1/label/models/use", json={"name": "001"})
    assert answer.status_code == 200, answer.text
    assert labels.get("project")["model"].startswith("model 001")
    assert labels.get("models")["used"] == "001"
    image = next(image["id"] for image in labels.get("images")["images"])
    end = time.monotonic() + 60
    while labels.get(f"images/{image}")["suggestions"] is None:
        assert time.monotonic() < end
        time.sleep(0.1)
    labels.close()


def wait(labels: Labels, condition: Callable[[Any], bool]) -> list[Any]:
    end = time.monotonic() + 600
    while True:
        models: list[Any] = labels.get("models")["models"]
        if condition(models[0]):
            return models
        assert time.monotonic() < end
        time.sleep(0.2)
