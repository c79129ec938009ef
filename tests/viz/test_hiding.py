import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hrpose
from hrpose.poses import Poses
from hrpose.skeleton import Skeleton
from hrpose.skeletons import AP_10K, COCO_17, CROWDPOSE_14, HAND_21, LSP_14, MPII_16, WHOLEBODY_133
from hrpose.synthetic import render_image
from hrpose.viz import HIDDEN, Hider, hide
from hrpose.viz.hiding import GRAY, fill, regions
from refusals import refused

FACE = list(range(5))


def person(rng: np.random.Generator) -> tuple[np.ndarray, Poses]:
    """A drawn figure and its exact pose."""
    drawn = render_image(rng, (240, 320), 1)
    keypoints = drawn.keypoints.astype(np.float32)
    keypoints[..., 2] = np.where(keypoints[..., 2] > 0, 0.9, 0.05)
    return drawn.image, Poses(
        keypoints, drawn.boxes.astype(np.float32), np.ones(1, np.float32), COCO_17
    )


def is_gray(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    x, y = np.rint(points).astype(int).T
    return (image[y, x] == GRAY).all(axis=1)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("what", HIDDEN)
def test_a_drawn_person_is_hidden(what: str, seed: int) -> None:
    image, poses = person(np.random.default_rng(seed))
    hidden = hide(image, poses, what)
    seen = poses.keypoints[0, :, 2] > 0.3
    face = poses.keypoints[0, FACE, :2][seen[FACE]]
    assert is_gray(hidden, face).all()
    feet = poses.keypoints[0, 15:, :2][seen[15:]]
    assert (is_gray(hidden, feet) == (what == "bodies")).all()
    x, y, w, h = poses.boxes[0].astype(int)
    covered = (hidden[y : y + h, x : x + w] == GRAY).all(axis=2).mean()
    assert covered > 0.99 if what == "bodies" else 0.01 < covered < 0.35


def test_nothing_of_a_region_stays() -> None:
    """Whatever was there, the result is the same: it cannot be undone."""
    rng = np.random.default_rng(0)
    _, poses = person(rng)
    images = [rng.integers(0, 256, (320, 240, 3), np.uint8) for _ in range(2)]
    first, second = (hide(image, poses, "heads") for image in images)
    region = (first != images[0]).any(axis=2) & (second != images[1]).any(axis=2)
    assert region.any()
    assert (first[region] == GRAY).all()
    assert (second[region] == GRAY).all()
    assert ((first == images[0]).all(axis=2) | (first == GRAY).all(axis=2)).all()


def test_a_head_without_sure_keypoints_is_above_the_shoulders() -> None:
    image, poses = person(np.random.default_rng(1))
    face = poses.keypoints[0, FACE, :2].copy()
    poses.keypoints[0, FACE] = 0, 0, 0.1
    (region,) = regions(poses, "faces")
    assert region.sure
    assert is_gray(fill(image, [region]), face).all()


def test_a_person_of_whom_nothing_is_sure_is_hidden_as_a_box() -> None:
    image, poses = person(np.random.default_rng(2))
    poses.keypoints[..., 2] = 0.1
    (region,) = regions(poses, "faces")
    assert region[:4] == pytest.approx(poses.boxes[0].tolist())
    assert not region.sure
    x, y, w, h = poses.boxes[0].astype(int)
    assert (hide(image, poses, "faces")[y : y + h, x : x + w] == GRAY).all()


@pytest.mark.parametrize(
    ("skeleton", "words"),
    [
        (COCO_17, {"faces", "heads"}),
        (WHOLEBODY_133, {"faces", "heads"}),
        (AP_10K, {"faces", "heads"}),
        (MPII_16, {"heads"}),
        (LSP_14, {"heads"}),
        (CROWDPOSE_14, {"heads"}),
        (HAND_21, set()),
        (Skeleton("camel", ("leftEye", "Nose")), {"faces", "heads"}),
        (Skeleton("parts", ("forearm", "overhead", "ahead_ankle")), set()),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_skeletons(skeleton: Skeleton, words: set[str]) -> None:
    k = len(skeleton)
    keypoints = np.random.default_rng(0).uniform(20, 80, (2, k, 3)).astype(np.float32)
    keypoints[..., 2] = 0.9
    boxes = np.tile(np.array([20, 20, 60, 60], np.float32), (2, 1))
    poses = Poses(keypoints, boxes, np.ones(2, np.float32), skeleton)
    assert len(regions(poses, "bodies")) == 2
    for what in ("faces", "heads"):
        if what in words:
            assert len(regions(poses, what)) == 2
        else:
            with refused("skeleton-incomplete", what, skeleton.name):
                regions(poses, what)


def test_a_head_reaches_from_the_neck_to_the_top() -> None:
    keypoints = np.zeros((1, 16, 3), np.float32)
    keypoints[0, 8], keypoints[0, 9] = (100, 80, 0.9), (100, 30, 0.9)  # upper neck, head top
    poses = Poses(
        keypoints, np.array([[50, 20, 100, 300]], np.float32), np.ones(1, np.float32), MPII_16
    )
    (region,) = regions(poses, "heads")
    assert region.y < 30
    assert 80 < region.y + region.h < 120


def test_other_words() -> None:
    with refused("option-invalid", "eyes"):
        hide(np.zeros((9, 9, 3), np.uint8), Poses.empty(COCO_17), "eyes")


@given(st.integers(0, 10_000))
def test_any_pose_in_any_place(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 4))
    keypoints = rng.normal(0, 10.0 ** rng.integers(0, 8), (n, 17, 3)).astype(np.float32)
    keypoints[..., 2] = rng.uniform(0, 1, (n, 17))
    boxes = rng.uniform(-100, 200, (n, 4)).astype(np.float32)
    boxes[:, 2:] = np.abs(boxes[:, 2:]) + 1
    image = rng.integers(0, 90, (40, 60, 3), np.uint8)
    poses = Poses(keypoints, boxes, np.ones(n, np.float32), COCO_17)
    for what in HIDDEN:
        hidden = hide(image, poses, what)
        assert ((hidden == image).all(axis=2) | (hidden == GRAY).all(axis=2)).all()


def test_draw_hides_before_it_draws() -> None:
    image, poses = person(np.random.default_rng(3))
    drawn = hrpose.draw(image, poses, hide="bodies")
    x, y, w, h = poses.boxes[0].astype(int)
    inside = drawn[y : y + h, x : x + w]
    assert 0.5 < (inside == GRAY).all(axis=2).mean() < 0.99
    np.testing.assert_array_equal(drawn, hrpose.draw(hide(image, poses, "bodies"), poses))


def tracked(poses: Poses, id: int = 1) -> Poses:
    return Poses(poses.keypoints, poses.boxes, poses.scores, COCO_17, np.full(len(poses), id))


@pytest.mark.parametrize(("away", "hidden"), [(0.2, True), (0.9, True), (1.2, False)])
def test_a_person_who_is_lost_is_hidden_a_little_longer(away: float, hidden: bool) -> None:
    image, poses = person(np.random.default_rng(4))
    hider = Hider("faces")
    hider(image, tracked(poses), time=0)
    after = hider(image, tracked(poses)[:0], time=away)
    face = poses.keypoints[0, :3, :2]
    assert is_gray(after, face).all() == hidden
    assert (hider.images, hider.without) == (2, 1 - hidden)


def test_a_face_that_turns_away_is_hidden_in_its_place() -> None:
    """Not the whole box, and where the person moves."""
    image, poses = person(np.random.default_rng(5))
    wide = np.concatenate([image, image], axis=1)
    unsure = tracked(poses)
    unsure.keypoints[..., 2] = 0.1
    for time, gray in ((0.3, True), (2.0, False)):
        hider = Hider("faces")
        seen = tracked(person(np.random.default_rng(5))[1])
        hider(wide, seen, time=0)
        moved = Poses(
            unsure.keypoints, unsure.boxes + np.array([30, 0, 0, 0], np.float32), unsure.scores,
            COCO_17, unsure.track_ids,
        )  # fmt: skip
        after = hider(wide, moved, time=time)
        assert is_gray(after, seen.keypoints[0, :3, :2] + (30, 0)).all()
        x, y, w, h = moved.boxes[0].astype(int)
        whole = (after[y : y + h, x : x + w] == GRAY).all()
        assert whole != gray


def test_images_without_persons_are_counted() -> None:
    image, poses = person(np.random.default_rng(6))
    hider = Hider("heads")
    for found in (poses, poses[:0], poses[:0]):
        hider(image, found)
    assert (hider.images, hider.without) == (3, 2)
