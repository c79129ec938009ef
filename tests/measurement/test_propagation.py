"""Values and intervals of measures, against geometry and against Monte Carlo."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hrpose.measurement.definitions import Measure, choose, default_measures, read_definitions
from hrpose.measurement.propagation import NORMAL, Z95, interval, propagate, speed, wrapped
from hrpose.skeletons import COCO_17, SHIPPED

MEASURES = default_measures(COCO_17)
NAMES = COCO_17.keypoints


def measure(name: str) -> Measure:
    return choose(MEASURES, [name], "test")[0]


def person(**points: tuple[float, float]) -> NDArray[np.float64]:
    """(1, 17, 2) a person who faces right and stands straight, but for some keypoints."""
    xy = np.zeros((1, 17, 2))
    heights = {"nose": 0, "eye": -2, "ear": 0, "shoulder": 30, "elbow": 60, "wrist": 90,
               "hip": 90, "knee": 130, "ankle": 170}  # fmt: skip
    for at, name in enumerate(NAMES):
        xy[0, at] = 100 + 10 * (name == "nose"), heights[name.split("_")[-1]]
    for name, point in points.items():
        xy[0, NAMES.index(name)] = point
    return xy


@pytest.mark.parametrize(
    ("name", "points", "expected"),
    [
        ("knee_left", {}, 0),
        ("knee_left", {"left_ankle": (60, 130)}, 90),  # the shank is level, to the back
        ("knee_left", {"left_ankle": (140, 130)}, 90),  # without a sign
        ("elbow_left", {"left_wrist": (130, 60)}, 90),
        ("hip_left", {"left_knee": (140, 90)}, 90),  # the thigh is level, to the front
        ("hip_left", {"left_knee": (60, 90)}, -90),
        ("shoulder_left", {"left_elbow": (100, 0)}, 180),  # the arm is up
        ("trunk", {"left_shoulder": (160, 90), "right_shoulder": (160, 90)}, 90),
        ("trunk", {"left_shoulder": (40, 90), "right_shoulder": (40, 90)}, -90),
        ("shank_tilt_left", {"left_knee": (140, 130), "left_ankle": (100, 170)}, 45),
        ("pelvis_line", {"left_hip": (120, 80), "right_hip": (100, 100)}, 45),
        ("pelvis_line", {"right_hip": (120, 80), "left_hip": (100, 100)}, 45),  # a line
        ("thigh_left", {}, 40),
        ("between_ankles", {"left_ankle": (130, 160)}, 30),
    ],
)
def test_values_of_a_known_figure(
    name: str, points: dict[str, tuple[float, float]], expected: float
) -> None:
    assert propagate(measure(name), person(**points)).values == pytest.approx([expected])


def test_a_person_who_faces_left_has_the_same_angles() -> None:
    right = person(left_knee=(140, 100), left_shoulder=(110, 32), left_wrist=(130, 70))
    left = right * (-1, 1)
    for each in MEASURES:
        if each.kind == "speed" or each.positive in ("clockwise", "counterclockwise"):
            continue
        expected = propagate(each, right, facing=1.0).values
        assert propagate(each, left, facing=-1.0).values == pytest.approx(expected), each.name


def test_feet_have_an_angle_at_the_ankle() -> None:
    skeleton = SHIPPED["halpe-26"]
    ankle = choose(default_measures(skeleton), ["ankle_left"], "test")[0]
    xy = np.zeros((1, len(skeleton), 2))
    for name, point in {"left_knee": (0, 0), "left_ankle": (0, 40), "left_heel": (-5, 45),
                        "left_big_toe": (15, 45)}.items():  # fmt: skip
        xy[0, skeleton.keypoints.index(name)] = point
    assert propagate(ankle, xy).values == pytest.approx([0])
    xy[0, skeleton.keypoints.index("left_big_toe")] = (15, 45 - 20 * np.tan(np.pi / 9))
    assert propagate(ankle, xy).values == pytest.approx([20])  # the toes are up


def test_three_points_are_the_included_angle(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("measures: {knee: {angle: [left_hip, left_knee, left_ankle]}}")
    (knee,) = read_definitions(path, COCO_17)
    assert propagate(knee, person()).values == pytest.approx([180])
    bent = person(left_ankle=(60, 130))
    assert propagate(knee, bent).values == pytest.approx([90])


@pytest.mark.parametrize("name", [m.name for m in MEASURES if m.kind != "speed"])
def test_the_gradient_is_that_of_differences(name: str) -> None:
    rng = np.random.default_rng(1)
    each, xy = measure(name), rng.normal(size=(1, 17, 2)) * 50
    used = np.flatnonzero(each.keypoints)
    variance = 0.0
    for keypoint in used:
        for axis in range(2):
            shift = np.zeros((1, 17, 2))
            shift[0, keypoint, axis] = 1e-4
            up, down = (propagate(each, xy + s).values[0] for s in (shift, -shift))
            change = float(wrapped(np.array([up - down]))[0]) if each.is_angle else up - down
            variance += (change / 2e-4) ** 2
    covariance = np.tile(np.eye(2), (1, 17, 1, 1))
    assert propagate(each, xy, covariance).sigmas == pytest.approx([np.sqrt(variance)], rel=1e-4)


@settings(max_examples=8, deadline=None)
@given(
    name=st.sampled_from([m.name for m in MEASURES if m.kind != "speed"]),
    seed=st.integers(0, 2**31),
    ratio=st.floats(1.05, 8),
)
def test_intervals_hold_95_percent_of_the_truths(name: str, seed: int, ratio: float) -> None:
    """Monte Carlo, for any pose, covariances and segments that are long enough to trust."""
    rng, each, n = np.random.default_rng(seed), measure(name), 3000
    truth = np.repeat(rng.normal(size=(1, 17, 2)) * 100, n, axis=0)
    roots = np.repeat(rng.normal(size=(1, 17, 2, 2)), n, axis=0)
    # The shortest segment is `ratio` times as long as the flag asks for.
    own = np.einsum("sk,kij->sij", each.segments**2, (roots @ roots.swapaxes(-1, -2))[0])
    length = np.linalg.norm(each.segments @ truth[0], axis=-1)
    shrink = (length / np.sqrt(np.linalg.eigvalsh(own)[:, -1])).min() / (NORMAL.shortest * ratio)
    roots *= shrink
    covariance = roots @ roots.swapaxes(-1, -2)
    noisy = truth + np.einsum("tkij,tkj->tki", roots, rng.normal(size=(n, 17, 2)))
    exact, found = propagate(each, truth[:1]).values[0], propagate(each, noisy, covariance)
    low, high = interval(each, found)
    inside = (low <= exact) & (exact <= high)
    if each.is_angle and each.positive is not None:
        turn = 180.0 if each.axis == "horizontal" else 360.0
        apart = np.abs((found.values - exact + turn / 2) % turn - turn / 2)
        inside = apart <= Z95 * found.sigmas
    # At the ends of an angle without a sign, 0 and 180 degrees, intervals hold more.
    most = 1.0 if (each.positive is None and each.is_angle) or each.axis is not None else 0.972
    assert 0.928 <= inside.mean() <= most


def test_signed_angles_wrap_and_unsigned_ones_are_bounded() -> None:
    assert wrapped(np.array([190.0, -190.0, 180.0, -180.0])).tolist() == [-170, 170, 180, 180]
    back = person(left_shoulder=(99, 150), right_shoulder=(99, 150))  # upside down
    covariance = np.tile(9 * np.eye(2), (1, 17, 1, 1))
    found = propagate(measure("trunk"), back, covariance)
    low, high = interval(measure("trunk"), found)
    assert found.values[0] == pytest.approx(-179, abs=0.1)
    assert low[0] < -180 < found.values[0] < high[0]
    knee = measure("knee_left")
    low, high = interval(knee, propagate(knee, person(), covariance))
    assert low[0] == 0 < high[0] < 25


def test_short_segments_are_flagged_and_missing_ones_have_no_value() -> None:
    covariance = np.tile(np.eye(2), (1, 17, 1, 1))
    thigh = measure("thigh_left")
    assert not propagate(thigh, person(), covariance).short[0]
    # The segment's variance is that of both ends.
    limit = 40 / NORMAL.shortest / np.sqrt(2)
    assert propagate(thigh, person(), 1.01 * limit**2 * covariance).short[0]
    assert not propagate(thigh, person(), 0.99 * limit**2 * covariance).short[0]
    assert propagate(thigh, person(left_knee=(104, 90))).short[0]  # 4 pixels
    assert not propagate(measure("between_ankles"), person()).short[0]
    gone = person(left_knee=(np.nan, np.nan))
    for name in ("knee_left", "thigh_left", "hip_left"):
        found = propagate(measure(name), gone, covariance)
        assert np.isnan(found.values[0])
        assert np.isnan(found.sigmas[0])
        assert not found.short[0]
    assert np.isnan(propagate(measure("knee_left"), person(left_knee=(100, 90))).values[0])
    assert propagate(thigh, person(left_knee=(100, 90)), covariance).values[0] == 0


def test_without_a_covariance_there_are_no_intervals() -> None:
    found = propagate(measure("knee_left"), person())
    assert np.isnan(found.sigmas).all()
    assert np.isnan(interval(measure("knee_left"), found)).all()


def test_speed_is_the_central_difference() -> None:
    times = np.array([0.0, 0.1, 0.25, 0.3, 0.4])
    xy = np.repeat(person(), 5, axis=0) + np.stack([300 * times, 400 * times], axis=1)[:, None]
    covariance = np.tile(4 * np.eye(2), (5, 17, 1, 1))
    found = speed(measure("speed"), xy, times, covariance)
    assert np.isnan(found.values[[0, -1]]).all()
    assert found.values[1:-1] == pytest.approx([500, 500, 500])
    # The mean of two hips has half the variance; two frames add up, over the time between them.
    expected = np.sqrt(2 * 4 / 2) / np.array([0.25, 0.2, 0.15])
    assert found.sigmas[1:-1] == pytest.approx(expected)
    xy[2] = np.nan
    assert np.isnan(speed(measure("speed"), xy, times).values[[1, 3]]).all()


def test_points_at_one_place_have_an_interval() -> None:
    xy, covariance = np.zeros((1, 2, 2)), np.array([[[[4.0, 0.0], [0.0, 1.0]]] * 2])
    for axis, sigma in (("horizontal", 8**0.5), ("vertical", 2**0.5), (None, 5**0.5)):
        measure = Measure("gap", "distance", np.array([[-1.0, 1.0]]), axis=axis)  # type: ignore[arg-type]
        found = propagate(measure, xy, covariance)
        assert (found.values[0], found.sigmas[0]) == (0.0, pytest.approx(sigma))
