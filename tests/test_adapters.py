"""Poses for other libraries: with a stand-in of the same form, and the real one if it is there."""

import importlib.util
import sys
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hrpose.poses import Poses
from hrpose.skeleton import Skeleton
from hrpose.skeletons import AP_10K, COCO_17
from refusals import refused


@dataclass
class KeyPoints:
    """The fields of supervision's class of this name, 0.29 to 0.31."""

    xy: Any
    class_id: Any = None
    keypoint_confidence: Any = None
    detection_confidence: Any = None
    visible: Any = None
    data: Any = None


@dataclass
class OldKeyPoints:
    """The same before 0.29."""

    xy: Any
    class_id: Any = None
    confidence: Any = None
    data: Any = None


def stand_in(monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    module = ModuleType("supervision")
    module.KeyPoints = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "supervision", module)


def poses(n: int = 2, ids: bool = True, skeleton: Skeleton = COCO_17) -> Poses:
    rng = np.random.default_rng(0)
    return Poses(
        rng.random((n, 17, 3), np.float32),
        np.tile(np.array([10, 20, 30, 40], np.float32), (n, 1)),
        rng.random(n, np.float32),
        skeleton,
        np.arange(n) + 7 if ids else None,
    )


def check(found: Any, given: Poses, threshold: float) -> None:
    n = len(given)
    np.testing.assert_array_equal(found.xy, given.keypoints[..., :2])
    np.testing.assert_array_equal(found.keypoint_confidence, given.keypoints[..., 2])
    np.testing.assert_array_equal(found.detection_confidence, given.scores)
    np.testing.assert_array_equal(found.visible, given.keypoints[..., 2] >= threshold)
    assert found.class_id.tolist() == [0] * n
    assert found.data["xyxy"].tolist() == [[10, 20, 40, 60]] * n
    assert list(found.data["class_name"]) == ["person"] * n
    assert ("tracker_id" in found.data) == (given.track_ids is not None)


@pytest.mark.parametrize("given", [poses(), poses(ids=False), poses(0)], ids=["2", "no ids", "0"])
def test_supervision_gets_every_field(monkeypatch: pytest.MonkeyPatch, given: Poses) -> None:
    stand_in(monkeypatch, KeyPoints)
    check(given.to_supervision(0.5), given, 0.5)


@pytest.mark.parametrize(
    ("skeleton", "name"),
    [(AP_10K, "animal"), (replace(COCO_17, name="robot", category=""), "robot")],
)
def test_bodies_are_called_what_their_skeleton_says(
    monkeypatch: pytest.MonkeyPatch, skeleton: Skeleton, name: str
) -> None:
    stand_in(monkeypatch, KeyPoints)
    assert list(poses(skeleton=skeleton).to_supervision().data["class_name"]) == [name] * 2


@pytest.mark.skipif(
    importlib.util.find_spec("supervision") is None, reason="supervision is not installed"
)
def test_the_real_supervision_takes_it() -> None:
    given = poses()
    check(given.to_supervision(0.5), given, 0.5)


def test_an_old_supervision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, OldKeyPoints)
    with refused("package-outdated", "supervision"):
        poses().to_supervision()
