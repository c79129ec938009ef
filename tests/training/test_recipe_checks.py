"""Recipe checks: each finding appears where it should, and nowhere else."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT
from hrpose.codec import Codec
from hrpose.data.coco import load_persons
from hrpose.data.persons import PersonTable
from hrpose.errors import UserError
from hrpose.metadata import Metadata
from hrpose.models.convert import Weights
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17, MPII_16
from hrpose.synthetic import write_dataset
from hrpose.training import train
from hrpose.training.recipe import load_recipe
from hrpose.training.recipe_checks import Case, Finding, examine, flip_findings

BACKBONE = Weights("w32", {}, None, "official", {})
COCO_MODEL = replace(BACKBONE, num_keypoints=17)


@pytest.fixture(scope="module")
def persons(tmp_path_factory: pytest.TempPathFactory) -> PersonTable:
    folder = tmp_path_factory.mktemp("persons")
    write_dataset(folder, 4, 0)
    table = load_persons(folder / "annotations.json")
    # Every keypoint is labeled somewhere, and images have a source.
    table.keypoints[0, :, 2] = 2
    table.keypoints[0, :, :2] = table.boxes[0, :2] + table.boxes[0, 2:] / 2
    return replace(table, sources=np.full(len(table.sources), b"drawn"))


def case(persons: PersonTable, *overrides: str, start: Weights | None = BACKBONE) -> Case:
    recipe = load_recipe(ROOT / "recipes" / "w32-coco-256x192.yaml", overrides)
    return Case(recipe, persons, persons, start)


def texts(case: Case) -> list[str]:
    return [str(finding) for finding in examine(case)]


def test_the_papers_recipe_has_no_warning(persons: PersonTable) -> None:
    (note,) = texts(case(persons))
    assert note.startswith("note: ")
    assert "hrpose evaluate --boxes" in note


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("w*-*-*x*.yaml")), ids=str)
def test_the_recipes_of_the_published_set_ups_have_no_warning(
    persons: PersonTable, recipe: Path
) -> None:
    loaded = load_recipe(recipe)
    start = replace(BACKBONE, network=loaded.network)
    val = replace(persons, file_names=np.char.add(b"val-", persons.file_names))
    findings = examine(Case(loaded, persons, val, start))
    assert [f.level for f in findings if f.level != "note"] == []


FINDINGS: list[tuple[list[str], Weights | None, str]] = [
    (["optimizer.weight_decay=1e-4"], BACKBONE, "optimizer.weight_decay.* 0.0001 .*adamw"),
    ([], None, "--set weights=w32-imagenet"),
    ([], COCO_MODEL, "optimizer.lr .*0.001.* 1e-4"),
    (["training.batch_size=32"], BACKBONE, "optimizer.lr .*0.001.* 32.* 0.00025"),
    (["training.batch_size=1024"], BACKBONE, "optimizer.lr .*0.001.* 1024"),
    (["input_wh=[288, 384]"], BACKBONE, "codec.sigma .* 2, .*288x384.* 3"),
    (["codec.sigma=3"], BACKBONE, "codec.sigma .* 3, .* 2"),
    (["data.sampling.cooc=2"], BACKBONE, "data.sampling .*cooc.*drawn"),
    (["data.val.images=images/train2017"], BACKBONE, "4 of 4 validation images"),
]


@pytest.mark.parametrize(("overrides", "start", "facts"), FINDINGS, ids=lambda v: str(v)[:40])
def test_a_setting_that_costs_accuracy_is_one_warning(
    persons: PersonTable, overrides: list[str], start: Weights | None, facts: str
) -> None:
    first, *others = examine(case(persons, *overrides, start=start))
    assert first.level == "warning"
    assert [other.level for other in others].count("warning") == 0
    assert "\n" not in first.text
    assert re.search(facts, first.text), first.text


FINE: list[tuple[list[str], Weights | None]] = [
    (["optimizer.name=adamw", "optimizer.weight_decay=1e-2"], BACKBONE),
    (["optimizer.lr=1e-4"], COCO_MODEL),
    (["training.batch_size=32", "optimizer.lr=2.5e-4"], BACKBONE),
    (["training.batch_size=32", "optimizer.base_batch_size=128"], BACKBONE),
    (["training.batch_size=32", "optimizer.lr=5e-4"], BACKBONE),
    (["training.batch_size=512", "optimizer.lr=2e-3"], BACKBONE),
    (["input_wh=[288, 384]", "codec.sigma=3"], BACKBONE),
    (["data.sampling.drawn=2"], BACKBONE),
    # The rules of the published networks are not for the small one.
    (["network=w16-small", "training.batch_size=8"], None),
]


@pytest.mark.parametrize(("overrides", "start"), FINE, ids=lambda v: str(v)[:40])
def test_good_settings_have_no_warning(
    persons: PersonTable, overrides: list[str], start: Weights | None
) -> None:
    findings = examine(case(persons, *overrides, start=start))
    assert {finding.level for finding in findings} == {"note"}


def test_more_hard_keypoints_than_there_are(persons: PersonTable) -> None:
    assert texts(case(persons, "loss.name=ohkm", "loss.top=18"))[0].startswith("error: loss.top: ")
    assert not any("loss.top" in text for text in texts(case(persons, "loss.name=ohkm")))


def test_weights_with_another_codec(persons: PersonTable) -> None:
    own = Metadata("w32", (192, 256), codec=Codec("udp"))
    start = replace(COCO_MODEL, metadata=own)
    (warning, _) = texts(case(persons, "optimizer.lr=1e-4", start=start))
    assert re.search("codec.name .*gaussian.*udp", warning)


@pytest.mark.parametrize(
    ("start", "fact"),
    [
        (COCO_MODEL, "coco-17"),
        (replace(BACKBONE, num_keypoints=16), "left_shoulder, right_shoulder"),
        (
            replace(COCO_MODEL, metadata=Metadata("w32", (256, 256), skeleton=MPII_16)),
            "left_shoulder, right_shoulder",
        ),
    ],
)
def test_a_note_tells_what_becomes_of_the_head(
    persons: PersonTable, start: Weights, fact: str
) -> None:
    notes = [f.text for f in examine(case(persons, start=start)) if f.level == "note"]
    assert any(fact in note for note in notes)


def with_points(persons: PersonTable, change: Any) -> PersonTable:
    keypoints = persons.keypoints.copy()
    change(keypoints)
    return replace(persons, keypoints=keypoints)


def test_a_keypoint_that_is_never_labeled(persons: PersonTable) -> None:
    def hide(keypoints: Any) -> None:
        keypoints[:, 3:5, 2] = 0

    (warning, _) = texts(case(with_points(persons, hide)))
    assert "left_ear, right_ear of 'coco-17'" in warning


def test_keypoints_that_are_not_pixels(persons: PersonTable) -> None:
    def shrink(keypoints: Any) -> None:
        keypoints[..., :2] = 0.5

    (error, _) = examine(case(with_points(persons, shrink)))
    assert error.level == "error"
    assert "expected pixels" in error.text


def test_boxes_of_other_persons(persons: PersonTable) -> None:
    def move(keypoints: Any) -> None:
        keypoints[..., 0] += 1000

    (warning, _) = texts(case(with_points(persons, move)))
    assert "100% of the labeled keypoints" in warning


def test_boxes_that_are_far_too_large(persons: PersonTable) -> None:
    boxes = persons.boxes.copy()
    boxes[:, 2:] *= 4
    (warning, *_) = texts(case(replace(persons, boxes=boxes)))
    assert "boxes are more than 3 times" in warning
    assert "two corners" in warning


def skeleton(*names: str, pairs: tuple[tuple[int, int], ...] = ()) -> Skeleton:
    return Skeleton("mine", names, flip_pairs=pairs)


SHORT_NAMES = skeleton("nose", "l_ear", "r_ear", pairs=((1, 2),))


@pytest.mark.parametrize("known", [COCO_17, MPII_16, SHORT_NAMES])
def test_pairs_that_match_their_names(known: Skeleton) -> None:
    assert list(flip_findings(known)) == []


PAIRS = [
    (
        skeleton("left_a", "right_a", "left_b", "right_b", pairs=((0, 3), (1, 2))),
        [
            "the flip pair left_a and right_b ",
            "the flip pair right_a and left_b ",
            "left_a and right_a ",
            "left_b and right_b ",
        ],
    ),
    (skeleton("nose", "left_ear"), ["left_ear "]),
    (skeleton("left_a", "right_a"), ["left_a and right_a "]),
]


@pytest.mark.parametrize(("odd", "messages"), PAIRS)
def test_pairs_that_do_not(odd: Skeleton, messages: list[str]) -> None:
    found = list(flip_findings(odd))
    assert len(found) == len(messages)
    for finding, message in zip(found, messages, strict=True):
        assert finding.level == "warning"
        assert finding.text.startswith(message)


def test_pairs_that_are_not_an_involution() -> None:
    broken = skeleton("a", "b", "c")
    # A skeleton refuses such pairs, so the check is bypassed.
    broken.__dict__["flip_permutation"] = np.array([1, 2, 0])
    (error,) = flip_findings(broken)
    assert error.level == "error"
    assert "involution" in error.text


@pytest.fixture
def horse(persons: PersonTable) -> PersonTable:
    return replace(persons, skeleton=skeleton(*(f"point {i}" for i in range(17))))


def test_a_skeleton_without_sides(horse: PersonTable) -> None:
    (warning, *_) = texts(case(horse))
    assert "'mine' has a left or right counterpart" in warning
    quiet = case(horse, "augmentation.flip_probability=0", "evaluation.flip_test=false")
    assert not any("counterpart" in finding for finding in texts(quiet))


def test_a_skeleton_without_upper_body(horse: PersonTable) -> None:
    assert any("half-body" in finding for finding in texts(case(horse)))
    quiet = case(horse, "augmentation.half_body_probability=0")
    assert not any("half-body" in finding for finding in texts(quiet))


def test_errors_prevent_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, part in enumerate(("train", "val")):
        write_dataset(tmp_path / part, 2, seed)
    reported: list[Finding] = []
    findings = [Finding("error", "one"), Finding("error", "two"), Finding("warning", "three")]
    monkeypatch.setattr(train, "examine", lambda _case: findings)
    recipe = load_recipe(ROOT / "recipes" / "synthetic.yaml")
    with pytest.raises(UserError) as caught:
        train.train(recipe, tmp_path, tmp_path / "out", report=reported.append)
    assert (caught.value.code, str(caught.value)) == ("recipe-invalid", "one\ntwo")
    assert reported == findings[2:]
    assert not (tmp_path / "out").exists()
