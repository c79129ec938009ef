"""Which figure validation people are scored by."""

import json
from pathlib import Path

import numpy as np
import pytest

from data.mpii_files import entries, write_mpii
from hrpose.data.coco import load_persons
from hrpose.data.formats.mpii import convert
from hrpose.errors import UserError
from hrpose.passport import Passport
from hrpose.skeleton import COCO_17, MPII_16
from hrpose.synthetic import ANIMAL, write_dataset
from hrpose.training.validation import Validation


def validation(annotations: Path, metric: str = "auto") -> Validation:
    return Validation(annotations, load_persons(annotations), metric)


def scores(chosen: Validation, moved: float = 0.0) -> dict[str, float]:
    """The scores of the labels themselves, `moved` pixels to the right, in another order."""
    people = np.random.default_rng(0).permutation(len(chosen.table))
    keypoints = chosen.table.keypoints[people].astype(float)
    keypoints[..., 0] += moved
    keypoints[..., 2] = 0.9
    skeleton = chosen.table.skeleton
    return chosen.scores(people, keypoints, Passport("w16-small", (64, 64), skeleton))


def test_head_boxes_mean_pckh(tmp_path: Path) -> None:
    convert(write_mpii(tmp_path), tmp_path / "ours")
    chosen = validation(tmp_path / "ours" / "valid.json")
    assert chosen.table.skeleton is MPII_16
    assert chosen.figure == "PCKh"
    found = scores(chosen)
    assert list(found)[:3] == ["PCKh", "PCKh@0.1", "Head"]
    assert found["PCKh"] == found["PCKh@0.1"] == 100
    # Heads are 10 to 60 pixels wide and high: 4 pixels are near for all of them at half a head.
    assert scores(chosen, 4)["PCKh"] == 100 > scores(chosen, 4)["PCKh@0.1"]


def test_people_without_a_head_box_are_left_out(tmp_path: Path) -> None:
    convert(write_mpii(tmp_path), tmp_path / "ours")
    path = tmp_path / "ours" / "valid.json"
    document = json.loads(path.read_text())
    del document["annotations"][2]["head_box"]
    path.write_text(json.dumps(document))
    chosen = validation(path)
    people = np.arange(len(chosen.table))
    keypoints = chosen.table.keypoints.astype(float)
    keypoints[2] += 1000
    assert chosen.scores(people, keypoints, Passport("w", (64, 64), MPII_16))["PCKh"] == 100


def test_everybody_else_has_ap(tmp_path: Path) -> None:
    chosen = validation(write_dataset(tmp_path, 3, seed=0))
    assert chosen.table.skeleton is COCO_17
    assert chosen.figure == "AP"
    assert scores(chosen)["AP"] == pytest.approx(1)
    # MPII without heads says nothing about their size.
    (tmp_path / "annot").mkdir()
    (tmp_path / "annot" / "train.json").write_text(json.dumps(entries(3)))
    (mpii,) = convert(tmp_path / "annot", tmp_path / "ours")
    assert validation(mpii.path).figure == "AP"


def test_without_oks_constants_it_is_pck(tmp_path: Path) -> None:
    annotations = write_dataset(tmp_path, 3, seed=0, figure=ANIMAL)
    chosen = validation(annotations)
    assert (chosen.figure, chosen.more_is_better) == ("PCK@0.1", True)
    assert scores(chosen) == {"PCK@0.2": 100, "PCK@0.1": 100, "NME": 0, "EPE": 0}
    assert scores(chosen, 3)["EPE"] == pytest.approx(3)
    # Asked for, there is an AP by the default constants.
    assert scores(validation(annotations, "AP"))["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("metric", "figure", "more"),
    [("AP", "AP", True), ("PCK", "PCK@0.1", True), ("NME", "NME", False), ("EPE", "EPE", False)],
)
def test_a_recipe_may_choose(tmp_path: Path, metric: str, figure: str, more: bool) -> None:
    chosen = validation(write_dataset(tmp_path, 2, seed=0), metric)
    assert (chosen.figure, chosen.more_is_better) == (figure, more)
    assert figure in scores(chosen)


@pytest.mark.parametrize("metric", ["auto", "AP", "PCKh", "PCK", "NME", "EPE"])
def test_mpii_may_be_scored_by_any_of_them(tmp_path: Path, metric: str) -> None:
    convert(write_mpii(tmp_path), tmp_path / "ours")
    chosen = validation(tmp_path / "ours" / "valid.json", metric)
    assert chosen.figure == {"auto": "PCKh", "PCK": "PCK@0.1"}.get(metric, metric)
    assert chosen.figure in scores(chosen)


def test_pckh_needs_heads(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="PCKh needs MPII's keypoints and head boxes"):
        validation(write_dataset(tmp_path, 2, seed=0), "PCKh")
