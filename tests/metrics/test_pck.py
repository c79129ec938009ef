"""PCK, NME, EPE and PCKh of persons whose distances are known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose.metrics.pck import distances, pckh


def test_by_hand() -> None:
    # Two persons, three keypoints: one of them is not labeled, however wrong it is.
    truth = np.array([[[10, 10, 2], [50, 50, 1], [0, 0, 0]], [[5, 5, 2], [9, 9, 0], [20, 5, 2]]])
    predicted = truth[..., :2].astype(float)
    predicted[0, 0] += (3, 4)  # 5 of 100 pixels
    predicted[0, 1] += (0, 20.0)  # 20 of 100: just within
    predicted[0, 2] += 1000
    predicted[1, 0] += (0, 6)  # 6 of 50, beyond a tenth
    scores = distances(predicted, truth, [[0, 0, 100, 25], [0, 0, 8, 50]])
    assert scores.pck == 100
    assert scores.pck_strict == 50
    assert scores.epe == (5 + 20 + 6 + 0) / 4
    assert scores.nme == pytest.approx(100 * (5 / 50 + 20 / 50 + 6 / 20) / 4)
    assert list(scores.as_dict()) == ["PCK@0.2", "PCK@0.1", "NME", "EPE"]


@given(st.integers(1, 20), st.integers(1, 9), st.floats(0.1, 10), st.integers(0, 2**32 - 1))
def test_shares_and_nme_do_not_depend_on_the_scale(n: int, k: int, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.concatenate([rng.uniform(0, 99, (n, k, 2)), np.ones((n, k, 1))], axis=-1)
    predicted = truth[..., :2] + rng.normal(0, 8, (n, k, 2))
    boxes = rng.uniform(20, 99, (n, 4))
    larger = truth * [scale, scale, 1]
    one, other = (
        distances(predicted, truth, boxes),
        distances(predicted * scale, larger, boxes * scale),
    )
    assert other.pck == pytest.approx(one.pck)
    assert other.nme == pytest.approx(one.nme)
    assert other.epe == pytest.approx(one.epe * scale)
    assert 0 <= one.pck_strict <= one.pck <= 100


def test_no_persons_and_no_labels() -> None:
    assert math.isnan(distances(np.zeros((0, 3, 2)), np.zeros((0, 3, 3)), np.zeros((0, 4))).epe)
    assert math.isnan(distances(np.zeros((1, 3, 2)), np.zeros((1, 3, 3)), np.ones((1, 4))).pck)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"distances: expected .* found \(1, 2, 2\)"):
        distances(np.zeros((1, 2, 2)), np.zeros((1, 3, 3)), np.ones((1, 4)))


def one_person(distance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A head box with a diagonal of 100, so a size of 60; all joints `distance` to the right."""
    truth = np.full((1, 16, 2), 50.0)
    predicted = truth - 1 + [distance, 0]
    return predicted, truth, np.zeros((1, 16), bool), np.array([[[0, 0], [60, 80.0]]])


@pytest.mark.parametrize(
    ("distance", "half", "tenth"), [(0, 100, 100), (6.5, 100, 100), (6.7, 100, 0), (30.1, 0, 0)]
)
def test_fractions_of_the_head(distance: float, half: float, tenth: float) -> None:
    scores = pckh(*one_person(distance))
    assert (scores.mean, scores.mean_at_01) == (half, tenth)


def test_pelvis_and_thorax_do_not_count_in_the_mean() -> None:
    predicted, truth, missing, heads = one_person(0)
    predicted[:, 6:8] += 1000
    assert pckh(predicted, truth, missing, heads).mean == 100


def test_the_mean_weighs_joints_by_their_labels() -> None:
    parts = [np.repeat(part, 4, axis=0) for part in one_person(0)]
    predicted, truth, missing, heads = parts
    missing[:] = True
    missing[:, 9] = False  # four heads, all right
    missing[0, 0] = False  # one ankle, wrong
    predicted[0, 0] += 1000
    scores = pckh(predicted, truth, missing, heads)
    assert scores.mean == pytest.approx(80)
    assert scores.head == 100
    assert np.isnan(scores.knee)


def test_shapes_of_pckh_that_do_not_fit() -> None:
    predicted, truth, missing, heads = one_person(0)
    with pytest.raises(ValueError, match=r"found \(0, 16, 2\)"):
        pckh(predicted[1:], truth, missing, heads)
