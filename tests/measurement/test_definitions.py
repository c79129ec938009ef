"""What is measured: YAML files, the shipped definitions, and their mistakes."""

from pathlib import Path

import numpy as np
import pytest

from hrpose.measurement.definitions import choose, default_measures, read_definitions
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17, SHIPPED
from refusals import refused

KNEE = "measures:\n  knee: {angle: [left_hip, left_knee, left_ankle]}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "my.yaml"
    path.write_text(text)
    return path


def test_a_file_becomes_measures(tmp_path: Path) -> None:
    text = """
points: {hips: [left_hip, right_hip]}
measures:
  knee: {angle: [left_hip, left_knee, left_ankle], kind: flexion}
  trunk: {tilt: [hips, left_shoulder], to: vertical, positive: forward}
  step: {distance: [left_ankle, right_ankle], along: horizontal, unit: m}
  hips: {speed: [hips]}
"""
    knee, trunk, step, hips = read_definitions(write(tmp_path, text), COCO_17)
    names = COCO_17.keypoints
    assert [m.name for m in (knee, trunk, step, hips)] == ["knee", "trunk", "step", "hips"]
    assert (knee.kind, knee.form, knee.positive) == ("angle", "flexion", None)
    assert {names[i] for i in np.flatnonzero(trunk.keypoints)} == {
        "left_hip", "right_hip", "left_shoulder",
    }  # fmt: skip
    assert trunk.segments[0, names.index("left_hip")] == -0.5
    assert (step.axis, step.unit(True), step.unit(False)) == ("horizontal", "m", "px")
    assert (hips.unit(False), hips.unit(True)) == ("px/s", "m/s")


@pytest.mark.parametrize("skeleton", ["coco-17", "coco-wholebody-133", "halpe-26", "mpii-16"])
def test_persons_get_the_shipped_measures(skeleton: str) -> None:
    names = {measure.name for measure in default_measures(SHIPPED[skeleton])}
    assert {"knee_left", "elbow_right", "thigh_left"} <= names
    # Only feet have an angle at the ankle, and only some have ears.
    assert ("ankle_left" in names) == (skeleton in ("coco-wholebody-133", "halpe-26"))
    assert ("head" in names) == (skeleton != "mpii-16")


def test_other_skeletons_get_angles_and_lengths_of_their_limbs() -> None:
    found = default_measures(SHIPPED["ap-10k"])
    names = [measure.name for measure in found]
    assert {"left_elbow", "right_knee", "left_shoulder-left_elbow"} <= set(names)
    assert "neck" not in names  # four limbs meet there, so that no angle is the one
    elbow = found[names.index("left_elbow")]
    assert (elbow.kind, elbow.form) == ("angle", "flexion")
    chain = Skeleton("chain", ("a", "b", "c"), limbs=((1, 0), (2, 1)))
    assert [measure.name for measure in default_measures(chain)] == ["b", "b-a", "c-b"]
    with refused("measure-invalid", "dots"):
        default_measures(Skeleton("dots", ("a", "b")))


@pytest.mark.parametrize(
    ("text", "code", "mentions"),
    [
        (KNEE.replace("left_knee", "left_kne"), "keypoint-unknown",
         ("measures.knee", "'left_kne'", "did you mean 'left_knee'?")),
        ("points: {a: [left_hip, nosee]}\n" + KNEE, "keypoint-unknown",
         ("points.a", "'nosee'", "did you mean 'nose'?")),
        ("points: {nose: [left_hip, nose]}\n" + KNEE, "measure-invalid", ("points.nose",)),
        ("points: {a: [nose, nose]}\n" + KNEE, "measure-invalid", ("points.a", "nose, nose")),
        (KNEE.replace("left_knee", "left_hip"), "measure-invalid",
         ("measures.knee", "zero-length", "left_hip")),
        ("points: {a: [nose, left_hip], b: [left_hip, nose]}\nmeasures: {x: {length: [a, b]}}",
         "measure-invalid", ("measures.x", "zero-length")),
        (KNEE.replace("angle", "angel"), "recipe-invalid",
         ("measures.knee.angel", "did you mean 'angle'?")),
        (KNEE.replace("}", ", length: [nose, left_hip]}"), "measure-invalid",
         ("angle and length",)),
        ("measures: {a: {kind: flexion}}", "measure-invalid", ("found none",)),
        ("measures: {a: {angle: [nose, left_hip]}}", "measure-invalid", ("3 or 4", "left_hip")),
        ("measures: {a: {tilt: [nose, left_hip]}}", "measure-invalid", ("'to'",)),
        ("measures: {a: {length: [nose, left_hip], to: vertical}}", "measure-invalid", ("'to'",)),
        ("measures: {a: {tilt: [nose, left_hip], to: horizontal, positive: forward}}",
         "measure-invalid", ("forward",)),
        ("measures: {}", "recipe-invalid", ("measures",)),
    ],
)  # fmt: skip
def test_mistakes_name_the_file_and_the_entry(
    tmp_path: Path, text: str, code: str, mentions: tuple[str, ...]
) -> None:
    with refused(code, str(tmp_path / "my.yaml"), *mentions):
        read_definitions(write(tmp_path, text), COCO_17)


def test_choose_names_what_there_is() -> None:
    found = default_measures(COCO_17)
    assert [m.name for m in choose(found, ["trunk", "knee_left"], "--only")] == [
        "trunk", "knee_left",
    ]  # fmt: skip
    with refused("measure-unknown", "'knee'", "did you mean"):
        choose(found, ["knee"], "--only")
