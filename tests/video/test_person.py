import numpy as np
import pytest

from hrpose.poses import Poses
from hrpose.skeletons import COCO_17
from hrpose.synthetic import render_image
from hrpose.video.person import color_distance, likeness, limb_colors, mixed


def seen(seed: int, shift: int = 0) -> np.ndarray:
    """The colors of a synthetic person who is somewhere in an image."""
    drawn = render_image(np.random.default_rng(seed), (200, 260), 1)
    image = np.full((300, 400, 3), 90, np.uint8)
    image[20 : 20 + 260, shift : shift + 200][drawn.masks[0]] = drawn.image[drawn.masks[0]]
    keypoints = drawn.keypoints + np.array([shift, 20, 0])
    keypoints[..., 2] = 0.9
    boxes = drawn.boxes + np.array([shift, 20, 0, 0])
    poses = Poses(
        keypoints.astype(np.float32), boxes.astype(np.float32), np.ones(1, np.float32), COCO_17
    )
    return limb_colors(image, poses)


def test_a_person_who_moves_keeps_the_colors_and_another_has_others() -> None:
    persons = [seen(seed) for seed in range(4)]
    moved = [seen(seed, shift=110) for seed in range(4)]
    for index, person in enumerate(persons):
        apart = [float(color_distance(person, other[0])[0]) for other in moved]
        assert apart[index] < 0.05
        assert min(apart[:index] + apart[index + 1 :]) > 0.1


def test_limbs_outside_the_image_are_not_known() -> None:
    image = np.zeros((50, 50, 3), np.uint8)
    keypoints = np.full((1, 17, 3), 60, np.float32)
    keypoints[..., 2] = 0.9
    poses = Poses(
        keypoints, np.array([[0, 0, 50, 50]], np.float32), np.ones(1, np.float32), COCO_17
    )
    colors = limb_colors(image, poses)
    assert not colors[..., 3].any()
    assert color_distance(colors, colors[0]) == 0
    assert limb_colors(image, poses[:0]).shape == (0, *colors.shape[1:])


def test_colors_count_only_where_somebody_else_has_them() -> None:
    red, blue = (np.array([[[*color, 1.0]]]) for color in ((200, 0, 0), (0, 0, 200)))
    both = [red[0], blue[0]]
    np.testing.assert_array_less(likeness(red, both, np.array([[True, True]]))[0, 1], 0.01)
    assert likeness(red, both, np.array([[False, True]])).tolist() == [[1, 1]]
    assert likeness(red, [None, blue[0]], np.array([[False, True]])).tolist() == [[1, 1]]
    assert likeness(red, [], np.zeros((1, 0), np.bool_)).shape == (1, 0)


def test_mixed_colors_are_those_that_are_known() -> None:
    old = np.array([[100.0, 0, 0, 1], [100, 0, 0, 0], [100, 0, 0, 1]])
    new = np.array([[200.0, 0, 0, 1], [200, 0, 0, 1], [200, 0, 0, 0]])
    assert mixed(old, new, 0.25)[:, 0].tolist() == pytest.approx([125, 200, 100])
