"""Which metric predictions are compared by, and what is measured with it."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from data.mpii_files import entries, write_mpii
from hrpose.data.coco import read_annotations
from hrpose.data.formats.mpii import convert
from hrpose.evaluation.evaluate import Evaluator
from hrpose.evaluation.predictions import Predictions, ground_truth
from hrpose.metadata import Metadata
from hrpose.skeletons import COCO_17, MPII_16
from hrpose.synthetic import ANIMAL, write_dataset
from refusals import refused


def evaluator(annotations: Path, metric: str = "auto") -> Evaluator:
    parsed = read_annotations(annotations)
    return Evaluator.choose(parsed, parsed.persons(), metric)


def measured(chosen: Evaluator, moved: float = 0.0) -> dict[str, float]:
    """The metrics of the labels themselves, `moved` pixels to the right."""
    keypoints = chosen.table.keypoints.astype(float)
    keypoints[..., 0] += moved
    keypoints[..., 2] = 0.9
    return chosen.metrics(predicted(chosen, keypoints))


def predicted(chosen: Evaluator, keypoints: NDArray[np.float64]) -> Predictions:
    metadata = Metadata("w16-small", (64, 64), chosen.table.skeleton)
    return Predictions.of(metadata, ground_truth(chosen.table), keypoints)


def test_head_boxes_mean_pckh(tmp_path: Path) -> None:
    convert(write_mpii(tmp_path), tmp_path / "ours")
    chosen = evaluator(tmp_path / "ours" / "valid.json")
    assert chosen.table.skeleton is MPII_16
    assert chosen.primary == "PCKh"
    found = measured(chosen)
    assert list(found)[:3] == ["PCKh", "PCKh@0.1", "Head"]
    assert found["PCKh"] == found["PCKh@0.1"] == 100
    # Heads are 10 to 60 pixels wide and high: 4 pixels are near for all of them at half a head.
    assert measured(chosen, 4)["PCKh"] == 100 > measured(chosen, 4)["PCKh@0.1"]


def test_persons_without_a_head_box_are_left_out(tmp_path: Path) -> None:
    convert(write_mpii(tmp_path), tmp_path / "ours")
    path = tmp_path / "ours" / "valid.json"
    document = json.loads(path.read_text())
    del document["annotations"][2]["head_box"]
    path.write_text(json.dumps(document))
    chosen = evaluator(path)
    keypoints = chosen.table.keypoints.astype(float)
    keypoints[2] += 1000
    assert chosen.metrics(predicted(chosen, keypoints))["PCKh"] == 100


def test_everybody_else_has_ap(tmp_path: Path) -> None:
    chosen = evaluator(write_dataset(tmp_path, 3, seed=0))
    assert chosen.table.skeleton is COCO_17
    assert chosen.primary == "AP"
    assert measured(chosen)["AP"] == pytest.approx(1)
    # MPII without heads says nothing about their size.
    (tmp_path / "annot").mkdir()
    (tmp_path / "annot" / "train.json").write_text(json.dumps(entries(3)))
    (mpii,) = convert(tmp_path / "annot", tmp_path / "ours")
    assert evaluator(mpii.path).primary == "AP"


def test_without_oks_constants_it_is_pck(tmp_path: Path) -> None:
    annotations = write_dataset(tmp_path, 3, seed=0, figure=ANIMAL)
    chosen = evaluator(annotations)
    assert (chosen.primary, chosen.more_is_better) == ("PCK@0.1", True)
    assert measured(chosen) == {"PCK@0.2": 100, "PCK@0.1": 100, "NME": 0, "EPE": 0}
    assert measured(chosen, 3)["EPE"] == pytest.approx(3)
    # Asked for, there is an AP by the default constants.
    assert measured(evaluator(annotations, "AP"))["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("metric", "figure", "more"),
    [("AP", "AP", True), ("PCK", "PCK@0.1", True), ("NME", "NME", False), ("EPE", "EPE", False)],
)
def test_a_recipe_may_choose(tmp_path: Path, metric: str, figure: str, more: bool) -> None:
    chosen = evaluator(write_dataset(tmp_path, 2, seed=0), metric)
    assert (chosen.primary, chosen.more_is_better) == (figure, more)
    assert figure in measured(chosen)


@pytest.mark.parametrize("metric", ["auto", "AP", "PCKh", "PCK", "NME", "EPE"])
def test_mpii_may_be_scored_by_any_of_them(tmp_path: Path, metric: str) -> None:
    convert(write_mpii(tmp_path), tmp_path / "ours")
    chosen = evaluator(tmp_path / "ours" / "valid.json", metric)
    assert chosen.primary == {"auto": "PCKh", "PCK": "PCK@0.1"}.get(metric, metric)
    assert chosen.primary in measured(chosen)


def test_pckh_needs_heads(tmp_path: Path) -> None:
    with refused("metric-unavailable", "PCKh"):
        evaluator(write_dataset(tmp_path, 2, seed=0), "PCKh")


def test_pairs_need_the_labeled_boxes(tmp_path: Path) -> None:
    annotations = write_dataset(tmp_path, 3, seed=0, figure=ANIMAL)
    parsed = read_annotations(annotations)
    for metric in ("PCK", "NME", "EPE"):
        with refused("options-conflict", metric):
            Evaluator.choose(parsed, parsed.persons(), metric, paired=False)
    # A detector's boxes are compared by AP, whatever the constants.
    chosen = Evaluator.choose(parsed, parsed.persons(), paired=False)
    assert chosen.primary == "AP"
    assert set(measured(chosen)) == {"AP", "AP50", "AP75", "APM", "APL"} | {
        f"AR{part}" for part in ("", "50", "75", "M", "L")
    }


def test_predictions_of_somebody_else(tmp_path: Path) -> None:
    chosen = evaluator(write_dataset(tmp_path, 3, seed=0))
    metadata = Metadata("w16-small", (64, 64), chosen.table.skeleton)
    some = chosen.table.select(slice(1, None))
    with pytest.raises(ValueError, match="expected one for each of"):
        chosen.metrics(Predictions.of(metadata, ground_truth(some), some.keypoints))
    with pytest.raises(ValueError, match="rows of keypoints"):
        Predictions.of(metadata, ground_truth(some), chosen.table.keypoints)
