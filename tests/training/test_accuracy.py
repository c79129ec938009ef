"""PCK on heatmaps: what counts as found."""

import pytest
import torch

from hrpose.codec import encode
from hrpose.training.module import accuracy

WIDTH, HEIGHT = 40, 60


def heatmaps(*points: tuple[float, float]) -> torch.Tensor:
    """(1, k, 60, 40): one keypoint at each point (x, y); one at (-1, -1) is not there."""
    xy = torch.tensor([points], dtype=torch.float32)
    found, _ = encode(xy, (xy[..., 0] >= 0).float(), (WIDTH, HEIGHT), sigma=2.0, strides=(1, 1))
    return found


def test_found_where_it_is() -> None:
    targets = heatmaps((10, 20), (30, 40))
    assert accuracy(targets, targets) == 1


@pytest.mark.parametrize(
    ("x", "y", "near"),
    # Half of a tenth of the width is 2, of the height 3; the limit itself is too far.
    [(11, 30, 1), (12, 30, 0), (10, 32, 1), (10, 33, 0), (11, 32, 1), (8.6, 28, 1), (8, 30, 0)],
)
def test_each_axis_has_its_own_measure(x: float, y: float, near: float) -> None:
    assert accuracy(heatmaps((x, y)), heatmaps((10, 30))) == near


def test_keypoints_that_are_not_there_do_not_count() -> None:
    targets = heatmaps((10, 20), (-1, -1))
    assert accuracy(heatmaps((10, 20), (30, 30)), targets) == 1
    # Beyond the second column and row only, as in the official code.
    assert accuracy(heatmaps((10, 20), (30, 30)), heatmaps((10, 20), (1, 30))) == 1
    assert accuracy(targets, heatmaps((-1, -1), (-1, -1))) == 0


def test_the_mean_is_over_keypoints() -> None:
    targets = torch.cat([heatmaps((10, 20), (30, 40)), heatmaps((10, 20), (-1, -1))])
    found = torch.cat([heatmaps((10, 20), (5, 5)), heatmaps((30, 50), (5, 5))])
    # The first keypoint is found once of twice, the second never of once.
    assert accuracy(found, targets) == pytest.approx(0.25)


def test_a_network_that_answers_nothing() -> None:
    targets = heatmaps((10, 20), (30, 40))
    # What is below 0 is no answer, even where it is highest.
    assert accuracy(targets - 2, targets) == 0


def test_no_gradient_flows() -> None:
    found = heatmaps((10, 20)).requires_grad_()
    assert not accuracy(found, heatmaps((10, 20))).requires_grad
