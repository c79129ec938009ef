"""The primary metric of a model, for skeletons with and without OKS sigmas."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hrpose.api import load
from hrpose.data.coco import load_persons
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.evaluate import evaluate
from hrpose.evaluation.parity.comparisons import persons_of, primary_metric
from hrpose.skeletons import COCO_17
from hrpose.synthetic import ANIMAL, PERSON, Figure, write_dataset
from refusals import refused
from tiny_weights import METADATA, write_tiny_weights


def drawn(folder: Path, form: Figure) -> tuple[PoseEstimator, Path, str]:
    annotations = write_dataset(folder / "set", 6, seed=0, figure=form)
    metadata = replace(METADATA, skeleton=load_persons(annotations).skeleton)
    weights = write_tiny_weights(folder / "tiny.onnx", metadata)
    return load(weights, detector="none"), annotations, str(annotations.parent / "images")


def test_without_oks_sigmas_it_is_pck(tmp_path: Path) -> None:
    estimator, *data = drawn(tmp_path, ANIMAL)
    assert not estimator.metadata.skeleton.has_sigmas
    name, value = primary_metric(estimator, *data)
    assert name == "PCK@0.1"
    # A share, not percent, as `hrpose verify` compares it.
    assert value == pytest.approx(evaluate(estimator, *data).as_dict()["PCK@0.1"] / 100)
    assert 0 < value < 1


def test_with_oks_sigmas_it_is_ap_and_names_the_boxes(tmp_path: Path) -> None:
    estimator, *data = drawn(tmp_path, PERSON)
    assert estimator.metadata.skeleton == COCO_17
    name, value = primary_metric(estimator, *data)
    assert name == "AP, boxes: ground-truth"
    assert value == evaluate(estimator, *data).as_dict()["AP"]


def test_a_data_set_without_persons_is_refused(tmp_path: Path) -> None:
    annotations = write_dataset(tmp_path, 1, seed=0)
    document = json.loads(annotations.read_bytes())
    annotations.write_text(json.dumps({**document, "annotations": []}))
    with refused("labels-missing", "annotations.json"):
        persons_of(annotations, str(tmp_path / "images"))
