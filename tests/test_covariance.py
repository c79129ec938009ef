"""Covariances: from heatmaps, through the crop, over gaps, and into every result."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import hrpose
from hrpose.cli.main import app
from hrpose.covariance import RADIUS, ellipses_around, interpolated, moments, transformed
from hrpose.poses import Poses
from hrpose.skeleton import Skeleton
from hrpose.viz import draw
from refusals import refused

PHOTO = Path(__file__).parents[1] / "examples" / "astronaut.jpg"
PAIR = Skeleton("pair", ("a", "b"))


def gaussian(center: tuple[float, float], covariance: np.ndarray) -> np.ndarray:
    """A heatmap (64, 48) with a Gaussian, in pixels of its own."""
    y, x = np.mgrid[:64, :48]
    offsets = np.stack([x - center[0], y - center[1]], axis=-1)
    squared = np.einsum("yxi,ij,yxj->yx", offsets, np.linalg.inv(covariance), offsets)
    return np.exp(-squared / 2).astype(np.float32)


@given(st.floats(0, np.pi), st.floats(2, 12), st.floats(2, 12))
def test_moments_follow_the_shape_of_the_heatmap(angle: float, long: float, short: float) -> None:
    """They are those of a Gaussian above a tenth of its peak, and turn and stretch with it."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    covariance = turn @ np.diag([long, short]) @ turn.T
    heatmap = gaussian((23, 31), covariance)
    (found,) = moments(heatmap[None, None], np.array([[[46.0, 93]]]), (2, 3))[0]
    scale = np.diag([2, 3])
    # The second moment of a Gaussian less a tenth of its peak, per variance.
    part = 0.563
    np.testing.assert_allclose(found, part * scale @ covariance @ scale, rtol=0.08, atol=1.5)


def test_the_distance_to_the_point_and_a_second_peak_add() -> None:
    heatmap = gaussian((12, 20), np.eye(2)) + gaussian((32, 20), np.eye(2))
    (near,) = moments(heatmap[None, None], np.array([[[12.0, 20]]]), (1, 1))[0]
    assert near[0, 0] == pytest.approx(200, rel=0.02)
    assert near[1, 1] < 1.5
    blank = np.zeros((1, 1, 64, 48), np.float32)
    assert np.isfinite(moments(blank, np.zeros((1, 1, 2)), (1, 1))).all()


def test_covariances_turn_and_scale_with_the_crop() -> None:
    quarter = np.array([[[0, -2.0, 5], [2, 0, 7]]])  # twice as large, a quarter turn
    found = transformed(np.array([[[[4.0, 1], [1, 9]]]]), quarter)
    np.testing.assert_allclose(found[0, 0], [[36, -4], [-4, 16]])


def test_a_gap_is_as_uncertain_as_its_ends_and_the_motion() -> None:
    times = np.arange(7) / 10
    spread = np.zeros((7, 1, 2, 2), np.float32)
    spread[:] = np.eye(2)
    spread[5:] *= 3
    known = np.array([[False, True, False, False, False, True, False]]).T
    found = interpolated(spread, known, ~known, times, np.full(7, 100.0))
    # q s³ (T - s)³ / 3 T³ in the middle of 0.4 s, and q s³ / 3 at the ends.
    expected = [1 + 0.1 / 3, 1, None, 2 + 100 * 0.1**3 / 3, None, 3, 3 + 0.1 / 3]
    for row, value in enumerate(expected):
        if value is not None:
            np.testing.assert_allclose(found[row, 0], value * np.eye(2), rtol=1e-5)
    never = interpolated(spread, known & False, ~known, times, np.full(7, 100.0))
    np.testing.assert_array_equal(never, spread)


def test_ellipses_hold_95_percent_of_a_gaussian() -> None:
    covariance = np.array([[9, 4], [4, 3]])
    poses = Poses(
        np.full((1, 2, 3), 50, np.float32), np.ones((1, 4), np.float32), np.ones(1, np.float32),
        PAIR, covariance=np.broadcast_to(covariance, (1, 2, 2, 2)).astype(np.float32),
    )  # fmt: skip
    (corners, _) = ellipses_around(poses, 200)[0].astype(np.float32)
    samples = np.random.default_rng(0).multivariate_normal([50, 50], covariance, 4000)
    inside = [cv2.pointPolygonTest(corners, point, False) > 0 for point in samples.tolist()]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.01)
    assert pytest.approx(2.4477, abs=1e-4) == RADIUS
    with refused("covariance-missing", "covariance=True"):
        draw(np.zeros((99, 99, 3), np.uint8), replace(poses, covariance=None), ellipses=True)
    plain = np.zeros((99, 99, 3), np.uint8)
    assert (draw(plain, poses, ellipses=True) != draw(plain, poses)).any()


def test_absent_keypoints_are_not_drawn_where_presence_is_known() -> None:
    poses = Poses(
        np.array([[[20, 50, 0.9], [80, 50, 0.9]]], np.float32), np.ones((1, 4), np.float32),
        np.ones(1, np.float32), PAIR,
        presence=np.array([[[0.2, 0.2, 0.6], [0.3, 0.3, 0.4]]], np.float32),
    )  # fmt: skip
    black = np.zeros((99, 99, 3), np.uint8)
    assert draw(black, poses)[:, :40].any()
    drawn = draw(black, poses, present=True)
    assert not drawn[:, :40].any()
    assert drawn[:, 60:].any()
    assert poses.keypoints[0, 0, 2] == np.float32(0.9)
    with refused("presence-missing", "covariance=True"):
        draw(black, replace(poses, presence=None), present=True)


def test_poses_have_a_covariance_only_where_it_is_asked_for() -> None:
    without = hrpose.load("w16-small")(PHOTO)
    estimator = hrpose.load("w16-small", covariance=True)
    poses = estimator(PHOTO)
    assert without.covariance is None
    np.testing.assert_array_equal(poses.keypoints, without.keypoints)
    assert poses.covariance is not None
    assert (np.linalg.eigvalsh(poses.covariance) > 0).all()
    np.testing.assert_array_equal(poses.covariance, poses.covariance.swapaxes(2, 3))
    nobody = estimator(np.zeros((64, 64, 3), np.uint8), boxes=np.zeros((0, 4)))
    assert len(nobody) == 0


def test_the_command_saves_covariances(tmp_path: Path) -> None:
    def predict(*more: str) -> Any:
        words = ["predict", str(PHOTO), "--weights", "w16-small", "--overwrite", *more]
        ran = CliRunner().invoke(app, [*words, "--out", str(tmp_path), "--save", "coco,csv,images"])
        assert ran.exit_code == 0, ran.output
        with (tmp_path / "poses.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        return json.loads((tmp_path / "poses.json").read_text())[0], rows

    person, rows = predict("--covariance")
    assert len(person["covariance"]) == 3 * 17
    assert [float(rows[1][name]) for name in ("var_x", "cov_xy", "var_y")] == pytest.approx(
        person["covariance"][3:6]
    )
    marked, _ = predict("--mark", "ellipses")
    assert marked["covariance"] == person["covariance"]
    person, rows = predict()
    assert "covariance" not in person
    assert "var_x" not in rows[0]
