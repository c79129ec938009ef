import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose.poses import Poses
from hrpose.skeletons import COCO_17
from hrpose.video import Smoother
from hrpose.video.smoothing import rts_smooth

HEIGHT = 200.0


def poses(points: np.ndarray, scores: float | np.ndarray = 0.9, ids: tuple[int, ...] = (1,)):
    n = len(ids)
    keypoints = np.empty((n, 17, 3), np.float32)
    keypoints[..., :2] = points
    keypoints[..., 2] = scores
    boxes = np.tile(np.array([0, 0, HEIGHT / 2, HEIGHT], np.float32), (n, 1))
    return Poses(keypoints, boxes, np.ones(n, np.float32), COCO_17, np.array(ids))


def run(path: np.ndarray, rate: float, smoother: Smoother | None = None) -> np.ndarray:
    """A path (t, ..., 2) of all keypoints of one person, steadied: (t, 17, 2)."""
    smoother = smoother or Smoother()
    return np.array(
        [smoother(poses(at), i / rate).keypoints[0, :, :2] for i, at in enumerate(path)]
    )


@pytest.mark.parametrize("rate", [30, 50, 60])
def test_the_jitter_of_a_still_person_is_reduced_to_a_third(rate: int) -> None:
    # The noise of the embedded model on an image that stands still: 0.9% of the person's height.
    rng = np.random.default_rng(rate)
    given = rng.normal(500, 0.009 * HEIGHT, (20 * rate, 17, 2))
    steadied = run(given, rate)
    given, steadied = given[rate:], steadied[rate:]
    assert given.std(axis=0).mean() / steadied.std(axis=0).mean() > 3
    jumps = [np.abs(np.diff(path, axis=0)).mean() for path in (given, steadied)]
    assert jumps[0] / jumps[1] > 3
    assert np.abs(steadied.mean(axis=0) - given.mean(axis=0)).max() < 0.001 * HEIGHT


@pytest.mark.parametrize(("speed", "lag"), [(0.1, 0.145), (1.0, 0.024), (4.0, 0.007)])
@pytest.mark.parametrize("rate", [25, 30, 60])
def test_the_delay_is_that_of_the_docstring(speed: float, lag: float, rate: int) -> None:
    path = np.arange(3 * rate)[:, None, None] / rate * speed * HEIGHT * np.ones((1, 1, 2)) / 2**0.5
    behind = np.linalg.norm(path[-1] - run(path, rate)[-1], axis=-1) / (speed * HEIGHT)
    assert behind == pytest.approx(lag, abs=0.0015)
    assert (behind * speed < 0.027).all()


@given(st.integers(5, 120), st.floats(-1e4, 1e4), st.integers(1, 40))
def test_still_points_stay(rate: int, place: float, count: int) -> None:
    steadied = run(np.full((count, 1, 2), place), rate)
    np.testing.assert_allclose(steadied, np.float32(place), rtol=1e-6, atol=1e-4)


@given(st.integers(0, 10_000), st.floats(-500, 500), st.floats(-500, 500))
def test_a_shifted_clip_gives_shifted_points(seed: int, x: float, y: float) -> None:
    path = np.random.default_rng(seed).normal(300, 20, (10, 17, 2))
    shift = np.array([x, y])
    np.testing.assert_allclose(run(path + shift, 30), run(path, 30) + shift, atol=1e-2)


@given(st.integers(0, 10_000), st.lists(st.floats(1e-3, 2.0), min_size=1, max_size=15))
def test_points_stay_between_old_and_new(seed: int, steps: list[float]) -> None:
    """However the frames are spaced, nothing overshoots."""
    rng, smoother, time = np.random.default_rng(seed), Smoother(), 0.0
    old = smoother(poses(rng.normal(300, 50, (17, 2))), time).keypoints[0, :, :2]
    for step in steps:
        time += step
        new = rng.normal(300, 50, (17, 2)).astype(np.float32)
        found = smoother(poses(new), time).keypoints[0, :, :2]
        assert (found >= np.minimum(old, new) - 1e-3).all()
        assert (found <= np.maximum(old, new) + 1e-3).all()
        old = found


def test_unconfident_keypoints_pass_and_start_again() -> None:
    smoother = Smoother()
    scores = np.full(17, 0.9)
    smoother(poses(np.full((17, 2), 100.0), scores), 0)
    scores[3] = 0.1
    found = smoother(poses(np.full((17, 2), 110.0), scores), 1 / 30).keypoints[0]
    assert found[3].tolist() == pytest.approx([110, 110, 0.1])
    assert (found[4, :2] < 105).all()
    scores[3] = 0.9
    found = smoother(poses(np.full((17, 2), 120.0), scores), 2 / 30).keypoints[0]
    assert found[3, :2].tolist() == [120, 120]


def test_persons_are_smoothed_by_id_and_forgotten() -> None:
    smoother = Smoother(keep=0.5)
    points = np.stack([np.full((17, 2), 100.0), np.full((17, 2), 300.0)])
    smoother(poses(points, ids=(4, 9)), 0)
    found = smoother(poses(points[::-1], ids=(9, 4)), 0.1)
    np.testing.assert_allclose(found.keypoints[..., :2], points[::-1])
    moved = smoother(poses(points[:1] + 50, ids=(4,)), 0.9)
    np.testing.assert_allclose(moved.keypoints[..., :2], points[:1] + 50)


def test_nothing_else_changes() -> None:
    smoother = Smoother()
    before = poses(np.full((17, 2), 1.0), np.linspace(0, 1, 17))
    smoother(before, 0)
    after = smoother(before, 0.1)
    np.testing.assert_array_equal(after.keypoints[..., 2], before.keypoints[..., 2])
    assert after.boxes is before.boxes
    assert after.scores is before.scores


def test_poses_without_ids_are_refused() -> None:
    nobody = Poses.empty(COCO_17)
    with pytest.raises(ValueError, match="track_ids"):
        Smoother()(nobody, 0)


def least_squares(
    points: np.ndarray, times: np.ndarray, noise: np.ndarray, motion: np.ndarray
) -> np.ndarray:
    """(t,) the most probable positions of one point along one axis, by one large linear system."""
    rows, right = [], []
    for i, step in enumerate(np.diff(times, prepend=times[0])):
        if np.isfinite(noise[i]):
            row = np.zeros(2 * len(times))
            row[2 * i] = 1 / noise[i]
            rows.append(row)
            right.append(points[i] / noise[i])
        if i:
            covariance = motion[i] * np.array([[step**3 / 3, step**2 / 2], [step**2 / 2, step]])
            change = np.zeros((2, 2 * len(times)))
            change[:, 2 * i : 2 * i + 2] = np.eye(2)
            change[:, 2 * i - 2 : 2 * i] = [[-1, -step], [0, -1]]
            rows += list(np.linalg.inv(np.linalg.cholesky(covariance)) @ change)
            right += [0, 0]
    return np.linalg.lstsq(np.array(rows), np.array(right))[0][::2]


def test_a_clip_is_smoothed_to_the_most_probable_path() -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.01, 0.1, 30))
    points = 100 + 5 * rng.normal(size=(30, 3, 2)).cumsum(axis=0)
    noise = rng.uniform(0.5, 3, (30, 3))
    noise[10:14, 1], noise[:3, 2], noise[-4:, 2] = np.inf, np.inf, np.inf
    motion = rng.uniform(100, 900, 30)
    smoothed = rts_smooth(points, times, noise, motion, robust_rounds=0)
    for point in range(3):
        for axis in range(2):
            expected = least_squares(points[:, point, axis], times, noise[:, point], motion)
            np.testing.assert_allclose(smoothed[:, point, axis], expected, atol=1e-3)


def test_an_outlier_hardly_bends_a_smoothed_path() -> None:
    times = np.arange(60) / 30
    line = np.stack([40 * times, 5 * times], axis=-1)[:, None]
    spoiled = line.copy()
    spoiled[30] += 60
    args = times, np.ones((60, 1)), np.full(60, 4e4)
    bent = [np.abs(rts_smooth(spoiled, *args, rounds) - line).max() for rounds in (0, 2)]
    assert bent[0] > 10
    assert bent[1] < 2


@given(st.integers(0, 10_000))
def test_smoothing_a_clip_backward_is_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    t = int(rng.integers(1, 20))
    times = np.cumsum(rng.uniform(0.01, 0.2, t))
    points, noise = rng.normal(0, 50, (t, 2, 2)), rng.uniform(0.5, 5, (t, 2))
    forward = rts_smooth(points, times, noise, np.full(t, 1e3))
    backward = rts_smooth(points[::-1], -times[::-1], noise[::-1], np.full(t, 1e3))[::-1]
    np.testing.assert_allclose(forward, backward, atol=0.05)
