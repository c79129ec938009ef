"""Series of persons: coverage on walkers, the way they face, and repetitions."""

import numpy as np
import pytest
from benchmarks.walkers import walk
from numpy.typing import NDArray

from hrpose.measurement.definitions import choose, default_measures
from hrpose.measurement.propagation import FITTED, NORMAL
from hrpose.measurement.series import (
    FILLED,
    MISSING,
    OK,
    Repetitions,
    Track,
    find_repetitions,
    measure_track,
    tracks_of,
)
from hrpose.poses import Poses
from hrpose.skeletons import COCO_17

MEASURES = default_measures(COCO_17)
Floats = NDArray[np.float64]


def track(xy: Floats, times: Floats, covariance: Floats | None = None) -> Track:
    """A person with keypoints `xy` (t, 17, 2)."""
    scores = np.ones((*xy.shape[:2], 1))
    return Track("walk.mp4", 1, True, COCO_17, np.arange(len(xy)), times,
                 np.concatenate([xy, scores], axis=-1), covariance,
                 np.zeros(xy.shape[:2], np.bool_))  # fmt: skip


def test_intervals_hold_95_percent_on_walkers() -> None:
    """Walkers from all sides, with noise of known covariances that differ by keypoint."""
    rng, times = np.random.default_rng(0), np.arange(150) / 30
    inside: dict[str, list[NDArray[np.bool_]]] = {}
    for _ in range(8):
        truth = walk(rng, times, height=float(rng.uniform(150, 400)))
        size = float(np.ptp(truth[0, :, 1]))
        roots = rng.normal(size=(len(times), 17, 2, 2)) * 0.008 * size
        noisy = truth + np.einsum("tkij,tkj->tki", roots, rng.normal(size=truth.shape))
        exact = measure_track(track(truth, times), MEASURES, facing="right")
        found = measure_track(
            track(noisy, times, roots @ roots.swapaxes(-1, -2)),
            MEASURES,
            facing="right",
            errors=NORMAL,
        )
        for m, measure in enumerate(MEASURES):
            sure = found.flags[:, m] == OK
            apart = np.abs(found.values[:, m] - exact.values[:, m])[sure]
            turn = {True: 180.0, False: 360.0}[measure.axis == "horizontal"]
            apart = np.minimum(apart, turn - apart) if measure.is_angle else apart
            half = (found.high[:, m] - found.low[:, m])[sure] / 2
            bounded = (found.low[:, m] <= exact.values[:, m]) & (
                exact.values[:, m] <= found.high[:, m]
            )
            signed = measure.is_angle and measure.positive is not None
            inside.setdefault(measure.name, []).append(apart <= half if signed else bounded[sure])
    shares = {name: float(np.concatenate(parts).mean()) for name, parts in inside.items()}
    assert 0.93 <= np.mean(np.concatenate([p for ps in inside.values() for p in ps])) <= 0.97
    # Straight knees and points beside each other are at the end of what is possible, 0, where an
    # interval holds more.
    folded = ("knee", "elbow", "shoulder_left", "shoulder_right", "between", "speed")
    for name, share in shares.items():
        assert 0.93 <= share <= (0.99 if name.startswith(folded) else 0.97), (name, share)


def test_the_whole_width_of_an_interval_is_that_of_the_covariance() -> None:
    xy = walk(np.random.default_rng(0), np.arange(10) / 30)
    covariance = np.tile(4 * np.eye(2), (10, 17, 1, 1))
    found = measure_track(track(xy, np.arange(10) / 30, covariance), MEASURES)
    thigh = found.names.index("thigh_left")
    width = found.high[:, thigh] - found.low[:, thigh]
    assert width == pytest.approx(2 * FITTED.z95["length"] * np.sqrt(8))


def test_facing_follows_the_head_and_is_unclear_from_the_front() -> None:
    rng, times = np.random.default_rng(0), np.arange(90) / 30
    side = walk(rng, times, yaw=np.pi / 2)
    assert (measure_track(track(side, times), MEASURES).facing == 1).all()
    assert (measure_track(track(side * (-1, 1), times), MEASURES).facing == -1).all()
    front = walk(rng, times, yaw=0.0)
    assert (measure_track(track(front, times), MEASURES).facing == 0).all()
    # A few wrong noses turn nothing around; walking back does.
    wrong = side.copy()
    wrong[40:44, 0, 0] -= 60
    assert (measure_track(track(wrong, times), MEASURES).facing == 1).all()
    there_and_back = np.concatenate([side, side * (-1, 1)])
    faces = measure_track(track(there_and_back, np.arange(180) / 30), MEASURES).facing
    assert (faces[:80] == 1).all()
    assert (faces[100:] == -1).all()


def test_flags_say_what_is_missing_or_filled() -> None:
    times = np.arange(5) / 30
    own = track(walk(np.random.default_rng(0), times), times)
    own.keypoints[1, COCO_17.keypoints.index("left_knee"), 2] = 0.1
    own.filled[2, COCO_17.keypoints.index("left_ankle")] = True
    (knee,) = choose(MEASURES, ["knee_left"], "test")
    found = measure_track(own, [knee])
    assert found.flags[:, 0].tolist() == [OK, MISSING, FILLED, OK, OK]
    row = found.rows()[1]
    assert row[:5] == ("walk.mp4", 1, round(1 / 30, 6), 1, "knee_left")
    assert row[5:] == (None, None, None, "deg", "missing")


def wave(times: Floats, rate: float, amplitude: float = 40.0) -> Floats:
    """Repetitions at `rate` Hz, from 0 and back."""
    return np.asarray(amplitude * (1 - np.cos(2 * np.pi * rate * times)))


@pytest.mark.parametrize("rate", [0.2, 0.5, 1.0, 1.9, 3.0])
@pytest.mark.parametrize("frames", [25.0, 29.97, 60.0])
def test_clean_series_have_exact_repetitions_and_cadence(rate: float, frames: float) -> None:
    times = np.arange(0, 8 / rate, 1 / frames)
    found = find_repetitions(times, wave(times, rate), name="knee")
    assert len(found) == 8
    assert found.cadence == pytest.approx(60 * rate, rel=2e-3)
    middle = found.repetitions[1:-1]
    assert [each.rise for each in middle] == pytest.approx([0.5 / rate] * 6, abs=1.01 / frames)
    assert [each.end - each.start for each in middle] == pytest.approx([1 / rate] * 6, abs=0.05)


@pytest.mark.parametrize("seed", range(8))
def test_noise_changes_cadence_by_less_than_two_percent(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rate, count = rng.uniform(0.4, 1.5), int(rng.integers(6, 15))
    times = np.arange(0, count / rate, 1 / 30) + rng.uniform(0, 0.005)
    noise = 0.1 * 80 * rng.normal(size=len(times))  # a tenth of the range
    found = find_repetitions(times, wave(times, rate) + noise, sigma=8.0)
    assert len(found) == count
    assert found.cadence == pytest.approx(60 * rate, rel=0.02)


def test_repetitions_of_walkers_are_counted() -> None:
    rng, times = np.random.default_rng(3), np.arange(300) / 30
    for _ in range(5):
        truth = walk(rng, times, height=300.0, yaw=np.pi / 2)
        noisy = truth + rng.normal(size=truth.shape) * 2.5
        (knee,) = choose(MEASURES, ["knee_left"], "test")
        exact = measure_track(track(truth, times), [knee]).values[:, 0]
        found = measure_track(track(noisy, times), [knee]).values[:, 0]
        clean, measured = find_repetitions(times, exact), find_repetitions(times, found)
        assert len(measured) == len(clean) >= 7
        assert measured.cadence == pytest.approx(clean.cadence, rel=0.02)
        assert 48 <= (clean.cadence or 0) <= 66  # walkers make 0.8 to 1.1 strides a second


def test_variable_frame_rates_and_gaps_are_respected() -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.choice([0.02, 0.03, 0.06], 400))
    found = find_repetitions(times, wave(times, 0.7))
    assert found.cadence == pytest.approx(42, rel=0.01)
    values = wave(times, 0.7)
    values[50:56] = np.nan  # a short gap is filled
    assert len(find_repetitions(times, values)) == len(found)
    values[200:260] = np.nan  # about two seconds: nothing is invented there
    parted = find_repetitions(times, values)
    assert len(found) - 3 <= len(parted) < len(found)
    assert parted.cadence == pytest.approx(42, rel=0.02)


def test_rests_between_repetitions_belong_to_none() -> None:
    times = np.arange(0, 12, 1 / 30)
    values = np.where(times % 4 < 2, wave(times % 4, 0.5), 0.0)
    found = find_repetitions(times, values)
    assert len(found) == 3
    for number, each in enumerate(found.repetitions):
        assert each.start == pytest.approx(4 * number, abs=0.25)
        assert each.end == pytest.approx(4 * number + 2, abs=0.25)
    phase = found.phase(times)
    assert np.isnan(phase[(times > 2.3) & (times < 3.7)]).all()
    assert phase[np.searchsorted(times, 5.0)] == pytest.approx(50, abs=5)


def test_series_without_repetitions_have_none() -> None:
    times = np.arange(100) / 30
    assert find_repetitions(times, np.full(100, 20.0)) == Repetitions("", (), None)
    assert len(find_repetitions(times, np.linspace(0, 50, 100))) == 0
    assert len(find_repetitions(times[:2], times[:2])) == 0
    assert len(find_repetitions(times, np.full(100, np.nan))) == 0
    noise = np.random.default_rng(0).normal(size=100)
    assert len(find_repetitions(times, noise, sigma=1.0)) == 0


def test_angles_that_pass_180_degrees_are_one_movement() -> None:
    times = np.arange(0, 4, 1 / 30)
    values = 150 + wave(times, 1.0, 30)
    jumps = np.where(values > 180, values - 360, values)
    found = find_repetitions(times, jumps, circular=True)
    assert len(found) == 4
    assert len(find_repetitions(times, values)) == 4


def test_persons_without_ids_are_their_own_in_each_image() -> None:
    keypoints = np.ones((2, 17, 3), np.float32)
    poses = Poses(keypoints, np.zeros((2, 4), np.float32), np.ones(2, np.float32), COCO_17)
    found = tracks_of("a.jpg", [(0, 0.0, poses)], COCO_17, is_clip=False)
    assert [each.person for each in found] == [0, 1]
    assert found[0].covariance is None
