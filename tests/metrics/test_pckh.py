import numpy as np
import pytest

from golden_rules import arrays, facts
from hrpose.metrics.pckh import pckh


def golden():
    return [arrays("pipeline")[f"pckh_{part}"] for part in ("pred", "gt", "missing", "headboxes")]


def test_golden():
    official = dict(facts("pipeline")["pckh"])
    expected = {"PCKh": official.pop("Mean"), "PCKh@0.1": official.pop("Mean@0.1"), **official}
    found = pckh(*golden()).as_dict()
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, abs=1e-6)


def one_person(distance):
    """A head box with a diagonal of 100, so a size of 60; all joints `distance` to the right."""
    truth = np.full((1, 16, 2), 50.0)
    predicted = truth - 1 + [distance, 0]
    return predicted, truth, np.zeros((1, 16), bool), np.array([[[0, 0], [60, 80.0]]])


@pytest.mark.parametrize(
    ("distance", "half", "tenth"), [(0, 100, 100), (6.5, 100, 100), (6.7, 100, 0), (30.1, 0, 0)]
)
def test_fractions_of_the_head(distance, half, tenth):
    scores = pckh(*one_person(distance))
    assert (scores.mean, scores.mean_at_01) == (half, tenth)


def test_pelvis_and_thorax_do_not_count_in_the_mean():
    predicted, truth, missing, heads = one_person(0)
    predicted[:, 6:8] += 1000
    assert pckh(predicted, truth, missing, heads).mean == 100


def test_the_mean_weighs_joints_by_their_labels():
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


def test_shapes_that_do_not_fit():
    predicted, truth, missing, heads = golden()
    with pytest.raises(ValueError, match=r"found \(59, 16, 2\)"):
        pckh(predicted[1:], truth, missing, heads)
