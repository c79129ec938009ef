"""Drawing: something appears where a keypoint is sure, nothing where it is not."""

import numpy as np
import pytest
from numpy.typing import NDArray

from hrpose.drawing import LEFT, RIGHT, draw, keypoint_colours
from hrpose.poses import Poses
from hrpose.skeleton import COCO_17, Skeleton

GREY = 128


def canvas() -> NDArray[np.uint8]:
    return np.full((200, 160, 3), GREY, np.uint8)


def poses(keypoints: NDArray[np.float64], skeleton: Skeleton = COCO_17) -> Poses:
    n = len(keypoints)
    boxes = np.tile(np.array([10, 20, 120, 160], np.float32), (n, 1))
    return Poses(keypoints.astype(np.float32), boxes, np.ones(n, np.float32), skeleton)


def spread(score: float = 1.0, n: int = 1) -> NDArray[np.float64]:
    """Keypoints that are far enough apart for each to show."""
    index = np.arange(17)
    points = np.stack([20 + 28 * (index % 5), 20 + 40 * (index // 5), 0 * index + score], axis=-1)
    return np.tile(points, (n, 1, 1)).astype(np.float64)


def changed(drawn: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (drawn != GREY).any(axis=-1)


def test_every_keypoint_has_its_colour() -> None:
    drawn = draw(canvas(), poses(spread()))
    for (x, y, _), colour in zip(spread()[0], keypoint_colours(COCO_17), strict=True):
        np.testing.assert_allclose(drawn[int(y), int(x)], colour, atol=3)


def test_sides_have_their_colours() -> None:
    colours = dict(zip(COCO_17.keypoints, keypoint_colours(COCO_17), strict=True))
    assert colours["left_wrist"] == LEFT
    assert colours["right_ankle"] == RIGHT
    assert colours["nose"] not in (LEFT, RIGHT)


def test_without_sides_every_keypoint_has_its_own_colour() -> None:
    skeleton = Skeleton("fish", ("nose", "fin", "tail"), limbs=((0, 1),))
    assert len(set(keypoint_colours(skeleton))) == 3
    points = np.array([[[20, 20, 1], [60, 20, 1], [90, 90, 1]]], np.float64)
    assert changed(draw(canvas(), poses(points, skeleton)))[20, 40]


def test_the_input_stays_as_it_is() -> None:
    image = canvas()
    image.flags.writeable = False
    drawn = draw(image, poses(spread()), boxes=True)
    assert (image == GREY).all()
    assert drawn is not image
    assert (drawn.shape, drawn.dtype) == (image.shape, image.dtype)


def test_a_view_of_a_picture_can_be_drawn_on() -> None:
    wide = np.full((200, 320, 3), GREY, np.uint8)
    drawn = draw(wide[:, ::2], poses(spread()))
    np.testing.assert_array_equal(drawn, draw(canvas(), poses(spread())))


@pytest.mark.parametrize(
    ("score", "threshold", "visible"),
    [(0.29, 0.3, False), (0.5, 0.3, True), (0.0, 0.0, True), (0.99, 1.0, False), (1.0, 1.0, True)],
)
def test_the_threshold(score: float, threshold: float, visible: bool) -> None:
    assert changed(draw(canvas(), poses(spread(score)), threshold)).any() == visible


def test_a_limb_needs_both_of_its_ends() -> None:
    elbow, wrist = (COCO_17.keypoints.index(f"left_{name}") for name in ("elbow", "wrist"))
    points = np.zeros((1, 17, 3))
    points[0, elbow], points[0, wrist] = (30, 100, 1), (130, 100, 1)
    assert changed(draw(canvas(), poses(points)))[100, 80]
    points[0, wrist, 2] = 0.1
    drawn = changed(draw(canvas(), poses(points)))
    assert drawn[100, 30]
    assert not drawn[100, 80]


def test_boxes_are_drawn_where_asked() -> None:
    nobody = poses(spread(0.0))
    assert not changed(draw(canvas(), nobody)).any()
    drawn = changed(draw(canvas(), nobody, boxes=True))
    assert drawn[20, 70]
    assert drawn[100, 10]
    assert not drawn[100, 70]


def test_nobody_leaves_the_picture_as_it_is() -> None:
    assert not changed(draw(canvas(), Poses.empty(COCO_17), boxes=True)).any()


def test_points_far_outside_do_no_harm() -> None:
    points = spread()
    points[0, ::2, :2] *= [-1e6, 1e6]
    assert draw(canvas(), poses(points)).shape == (200, 160, 3)


def test_one_pixel_is_enough() -> None:
    assert draw(np.zeros((1, 1, 3), np.uint8), poses(spread(n=3))).shape == (1, 1, 3)
