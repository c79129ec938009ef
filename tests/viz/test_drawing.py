"""Drawing: keypoints above the threshold show, in their colors, and no others."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hrpose.poses import Poses
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17, COCO_HANDS_59, FACE_68, HAND_21, WHOLEBODY_133
from hrpose.viz import (
    LEFT,
    MIDDLE,
    RIGHT,
    draw,
    heatmap_sheet,
    keypoint_colors,
    limb_colors,
    overlay,
    side_by_side,
)
from hrpose.viz.drawing import line, line_width
from hrpose.viz.grids import chip, enlarged, extent, shortened, write
from refusals import refused
from whole_bodies import face, hand, whole_body

GRAY = 128


def canvas() -> NDArray[np.uint8]:
    return np.full((200, 160, 3), GRAY, np.uint8)


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
    return (drawn != GRAY).any(axis=-1)


def test_every_keypoint_has_its_color() -> None:
    drawn = draw(canvas(), poses(spread()))
    for (x, y, _), color in zip(spread()[0], keypoint_colors(COCO_17), strict=True):
        np.testing.assert_allclose(drawn[int(y), int(x)], color, atol=3)


def test_sides_have_their_colors() -> None:
    colors = dict(zip(COCO_17.keypoints, keypoint_colors(COCO_17), strict=True))
    assert colors["left_wrist"] == LEFT
    assert colors["right_ankle"] == RIGHT
    assert colors["nose"] not in (LEFT, RIGHT)


def test_without_sides_every_keypoint_has_its_own_color() -> None:
    skeleton = Skeleton("fish", ("nose", "fin", "tail"), limbs=((0, 1),))
    assert len(set(keypoint_colors(skeleton))) == 3
    points = np.array([[[20, 20, 1], [60, 20, 1], [90, 90, 1]]], np.float64)
    assert changed(draw(canvas(), poses(points, skeleton)))[20, 40]


def test_the_input_stays_unchanged() -> None:
    image = canvas()
    image.flags.writeable = False
    drawn = draw(image, poses(spread()), boxes=True)
    assert (image == GRAY).all()
    assert drawn is not image
    assert (drawn.shape, drawn.dtype) == (image.shape, image.dtype)


def test_a_strided_view_can_be_drawn_on() -> None:
    wide = np.full((200, 320, 3), GRAY, np.uint8)
    drawn = draw(wide[:, ::2], poses(spread()))
    np.testing.assert_array_equal(drawn, draw(canvas(), poses(spread())))


@pytest.mark.parametrize(
    ("score", "threshold", "visible"),
    [(0.29, 0.3, False), (0.5, 0.3, True), (0.0, 0.0, True), (0.99, 1.0, False), (1.0, 1.0, True)],
)
def test_the_threshold(score: float, threshold: float, visible: bool) -> None:
    assert changed(draw(canvas(), poses(spread(score)), threshold)).any() == visible


def visibility(drawn: NDArray[np.uint8]) -> float:
    """How far the drawing differs from the canvas, over all pixels."""
    return float(np.abs(drawn.astype(float) - GRAY).sum())


def test_unsure_keypoints_are_faint() -> None:
    seen = [visibility(draw(canvas(), poses(spread(score)))) for score in (0.3, 0.4, 0.5, 0.6, 0.9)]
    assert seen[0] < seen[1] < seen[2] < seen[3] == seen[4]
    assert seen[0] > seen[3] / 5  # faint, but seen
    # Only that keypoint, and the limbs that end in it.
    points = spread()
    points[0, 9, 2] = 0.3
    drawn = draw(canvas(), poses(points))
    different = (drawn != draw(canvas(), poses(spread()))).any(axis=-1)
    assert different[int(points[0, 9, 1]), int(points[0, 9, 0])]
    assert not different[int(points[0, 10, 1]), int(points[0, 10, 0])]


def test_unsure_poses_are_faint() -> None:
    def of(score: float) -> float:
        scores = np.array([score], np.float32)
        return visibility(draw(canvas(), replace(poses(spread()), scores=scores)))

    assert of(0.2) < of(0.3) < of(0.5) == of(1.0)


def test_faint_shapes_beyond_the_edge_are_harmless() -> None:
    points = spread(0.4)
    points[..., :2] -= 60
    assert changed(draw(canvas(), poses(points))).any()
    points[..., :2] -= 1e6
    draw(canvas(), poses(points))


def test_persons_may_have_colors_of_their_own() -> None:
    pair = poses(np.concatenate([spread(), spread() + np.array([1, 30, 0])]))
    alone = [draw(canvas(), pair[i], color="person") for i in (0, 1)]
    x, y = spread()[0, 0, :2].astype(int)
    # A person alone is the first one.
    np.testing.assert_array_equal(alone[0][y, x], alone[1][y + 30, x + 1])
    ids = replace(pair, track_ids=np.array([3, 4]))
    colors = [draw(canvas(), ids[i], color="person")[y + 30 * i, x + i] for i in (0, 1)]
    assert np.abs(colors[0].astype(int) - colors[1]).max() > 80
    # The same id has the same color, whoever else is there.
    again = draw(canvas(), ids[[1, 0]][:1], color="person")[y + 30, x + 1]
    np.testing.assert_array_equal(again, colors[1])
    with refused("option-invalid", "side, person", "blue"):
        draw(canvas(), pair, color="blue")


def test_a_limb_needs_both_of_its_ends() -> None:
    elbow, wrist = (COCO_17.keypoints.index(f"left_{name}") for name in ("elbow", "wrist"))
    points = np.zeros((1, 17, 3))
    points[0, elbow], points[0, wrist] = (30, 100, 1), (130, 100, 1)
    assert changed(draw(canvas(), poses(points)))[100, 80]
    points[0, wrist, 2] = 0.1
    drawn = changed(draw(canvas(), poses(points)))
    assert drawn[100, 30]
    assert not drawn[100, 80]


def test_boxes_are_drawn_on_request() -> None:
    absent = poses(spread(0.0))
    assert not changed(draw(canvas(), absent)).any()
    drawn = changed(draw(canvas(), absent, boxes=True))
    assert drawn[20, 70]
    assert drawn[100, 10]
    assert not drawn[100, 70]


def test_no_poses_leave_the_image_unchanged() -> None:
    assert not changed(draw(canvas(), Poses.empty(COCO_17), boxes=True)).any()


def test_points_far_outside_are_harmless() -> None:
    points = spread()
    points[0, ::2, :2] *= [-1e6, 1e6]
    assert draw(canvas(), poses(points)).shape == (200, 160, 3)


def test_one_pixel_is_enough() -> None:
    assert draw(np.zeros((1, 1, 3), np.uint8), poses(spread(n=3))).shape == (1, 1, 3)


def marked(mark: str, n: int = 1) -> NDArray[np.bool_]:
    return changed(draw(canvas(), poses(spread(n=n)), **{mark: True})) & ~changed(
        draw(canvas(), poses(spread(n=n)))
    )


@pytest.mark.parametrize("mark", ["ids", "scores", "names"])
def test_ids_scores_and_names_are_drawn_on_request(mark: str) -> None:
    assert marked(mark).sum() > 40
    empty = Poses.empty(COCO_17)
    assert not changed(draw(canvas(), empty, ids=True, scores=True, names=True)).any()


def test_absent_keypoints_have_no_names() -> None:
    sure, unsure = poses(spread(1.0)), poses(spread(0.1))
    assert changed(draw(canvas(), sure, names=True)).any()
    assert not changed(draw(canvas(), unsure, names=True)).any()


def test_the_label_names_the_track() -> None:
    labeled = [
        draw(canvas(), replace(poses(spread()), track_ids=np.array([track])), ids=True)
        for track in (3, 4, 3)
    ]
    np.testing.assert_array_equal(labeled[0], labeled[2])
    assert (labeled[0] != labeled[1]).any()


def test_labels_at_one_place_do_not_overlap() -> None:
    """Two persons in one place need about twice the space of one."""
    assert marked("ids", 2).sum() > 1.6 * marked("ids").sum()


def test_lines_grow_with_the_person() -> None:
    widths = [line_width(size) for size in (1, 60, 120, 240, 480, 5000)]
    assert widths == sorted(widths)
    assert widths[0] >= 1
    assert widths[-1] <= 16
    ink = []
    for factor in (3, 6):
        points = spread() * [factor, factor, 1]
        large = np.full((200 * factor, 160 * factor, 3), GRAY, np.uint8)
        ink.append(changed(draw(large, poses(points))).mean())
    assert ink[0] == pytest.approx(ink[1], rel=0.25)


@pytest.mark.parametrize("width", [2.0, 2.5, 4.0, 7.25])
def test_a_line_has_its_width(width: float) -> None:
    black = np.zeros((60, 60, 3), np.uint8)
    line(black, (10, 30.3), (50, 30.3), width, (255, 255, 255))
    assert black[:, 30, 0].sum() / 255 == pytest.approx(width, abs=0.4)


def test_a_limb_has_the_color_of_its_side() -> None:
    colors = dict(zip(COCO_17.limbs, limb_colors(COCO_17), strict=True))
    assert colors[5, 7] == LEFT
    assert colors[6, 8] == RIGHT
    assert colors[5, 6] == MIDDLE
    # The nose has no side, the eye has.
    assert colors[0, 1] == LEFT


def test_fingers_have_colors_and_faces_are_white() -> None:
    colors = dict(zip(WHOLEBODY_133.keypoints, keypoint_colors(WHOLEBODY_133), strict=True))
    assert (colors["left_wrist"], colors["right_big_toe"], colors["nose"]) == (LEFT, RIGHT, MIDDLE)
    fingers = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
    for side in ("left", "right"):
        of_fingers = [{colors[f"{side}_{finger}{i}"] for i in range(1, 5)} for finger in fingers]
        assert all(len(of_finger) == 1 for of_finger in of_fingers)
        assert len(set.union(*of_fingers)) == 5
    assert {colors[f"face-{i}"] for i in range(68)} == {colors["left_hand_root"]}
    # Two looks at hands are drawn like the hands of a whole body, and as a single hand is.
    assert keypoint_colors(COCO_HANDS_59)[17:] == keypoint_colors(WHOLEBODY_133)[91:]
    assert keypoint_colors(COCO_HANDS_59)[18:38] == keypoint_colors(HAND_21)[1:]
    limbs = dict(zip(WHOLEBODY_133.limbs, limb_colors(WHOLEBODY_133), strict=True))
    assert limbs[5, 6] == MIDDLE
    assert limbs[91, 92] == colors["left_thumb1"]


def standing(height: float) -> Poses:
    """A whole person of this height in pixels, arms spread, in an image that is as large."""
    parts = np.array([
        (0, 8), (2, 6), (-2, 6), (4, 7), (-4, 7), (10, 20), (-10, 20), (25, 26), (-25, 26),
        (38, 22), (-38, 22), (6, 50), (-6, 50), (8, 72), (-8, 72), (9, 94), (-9, 94),
    ]) * height / 100 + (height / 2, 0)  # fmt: skip
    return whole_body(poses(np.concatenate([parts, np.ones((17, 1))], axis=1)[None]), score=1.0)


@pytest.mark.parametrize(
    ("height", "of_face", "of_hand"),
    [(150, 1, 0.9), (300, 0.9, 0.7), (600, 0.7, 0.5), (1200, 0.5, 0.4)],
)
def test_faces_and_hands_stay_readable(height: int, of_face: float, of_hand: float) -> None:
    """They cover at most these parts of the boxes around them; with a body's lines it was all."""
    found = standing(height)
    drawn = draw(np.full((height, height, 3), GRAY, np.uint8), found)
    for part in ("face", "left_hand", "right_hand"):
        of_part = [index for index, name in enumerate(WHOLEBODY_133.parts) if name == part]
        low, high = (f(found.xy[0, of_part], axis=0).astype(int) for f in (np.min, np.max))
        region = changed(drawn)[low[1] : high[1], low[0] : high[0]]
        assert region.mean() <= (of_face if part == "face" else of_hand), part


@pytest.mark.parametrize("skeleton", [HAND_21, FACE_68], ids=lambda s: s.name)
def test_a_hand_or_face_alone_is_drawn_as_a_body_is(skeleton: Skeleton) -> None:
    points = (hand() if skeleton is HAND_21 else face()) * 40 + (80, 80)
    alone = poses(np.concatenate([points, np.ones((len(points), 1))], axis=1)[None], skeleton)
    drawn = changed(draw(canvas(), alone))
    # The disc of a keypoint without neighbors: the tip of the thumb, and the end of the jaw.
    x, y = np.rint(points[4 if skeleton is HAND_21 else 0]).astype(int)
    width = line_width(float(np.ptp(points, axis=0).max()))
    assert drawn[y, x - 8 : x + 9].sum() >= 2 * (width * 0.85 + 0.6)


def test_names_of_details_cover_no_other_name(monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, tuple[float, float, float, float]] = {}

    def note(
        canvas: NDArray[np.uint8], at: tuple[float, float], text: str, size: int, _: Any
    ) -> None:
        width, height = extent(text, size)
        written[text] = (*at, at[0] + width, at[1] + height)

    monkeypatch.setattr("hrpose.viz.grids.write", note)
    draw(np.full((900, 900, 3), GRAY, np.uint8), standing(900), names=True)
    assert {name.replace("_", " ") for name in COCO_17.keypoints} <= set(written)
    details = [place for name, place in written.items() if name[:4] == "face" or name[-1].isdigit()]
    assert details
    assert len(written) < 133
    for place in details:
        others = [other for other in written.values() if other is not place]
        assert not any(
            place[0] < other[2]
            and other[0] < place[2]
            and place[1] < other[3]
            and other[1] < place[3]
            for other in others
        )


def test_a_rim_is_dark_around_a_limb() -> None:
    drawn = draw(np.full((200, 160, 3), 255, np.uint8), poses(spread() * [1, 1, 1]))
    assert drawn.min() < 40


@pytest.mark.parametrize("at", [(-500, 5), (5, -500), (9999, 9999), (70, 50), (-8, 55)])
def test_text_beyond_the_canvas_is_harmless(at: tuple[int, int]) -> None:
    pixels = np.zeros((60, 80, 3), np.uint8)
    write(pixels, at, "left wrist", 20)
    chip(pixels, at, "#12 a label wider than the image", 20)
    assert pixels.any()


def test_shortened_text_fits() -> None:
    assert shortened("left wrist", 16, 400) == "left wrist"
    short = shortened("a very long name of a keypoint", 16, 100)
    assert short.startswith("a very")
    assert short.endswith("...")
    assert extent(short, 16)[0] <= 100


def test_a_heatmap_is_placed_by_its_strides() -> None:
    """The center of the overlay's peak is the pixel of the crop at the heatmap's peak."""
    crop = np.zeros((64, 48, 3), np.uint8)
    heatmap = np.zeros((16, 12), np.float32)
    heatmap[5, 7] = 1
    for strides, scale in (((4.0, 4.0), 1), ((4.0, 4.0), 3), ((47 / 11, 63 / 15), 2)):
        shown = overlay(crop, heatmap, strides, scale)
        assert shown.shape == (64 * scale, 48 * scale, 3)
        heat = shown.sum(axis=-1).astype(float)
        y, x = np.mgrid[: heat.shape[0], : heat.shape[1]]
        center = [(x * heat).sum() / heat.sum(), (y * heat).sum() / heat.sum()]
        expected = enlarged(np.array([7, 5]) * strides, scale)
        np.testing.assert_allclose(center, expected, atol=0.3 * scale)


def test_an_empty_heatmap_shows_only_the_dimmed_crop() -> None:
    crop = np.full((64, 48, 3), 200, np.uint8)
    shown = overlay(crop, np.zeros((16, 12), np.float32))
    assert len(np.unique(shown)) == 1
    assert 60 < shown[0, 0, 0] < 200


def test_the_grid_has_a_tile_for_every_keypoint() -> None:
    crop = np.zeros((64, 48, 3), np.uint8)
    sheet = heatmap_sheet(crop, np.zeros((17, 16, 12), np.float32), COCO_17, columns=6)
    one = heatmap_sheet(crop, np.zeros((1, 16, 12), np.float32), Skeleton("dot", ("dot",)))
    assert sheet.shape[0] > 2.5 * one.shape[0]
    assert sheet.shape[1] > 5 * one.shape[1] - 60


def test_images_side_by_side_have_one_height() -> None:
    first, second = np.full((100, 60, 3), 9, np.uint8), np.full((50, 40, 3), 200, np.uint8)
    both = side_by_side([first, second], ["one", "two"])
    assert (both == 9).all(axis=-1).sum() == 100 * 60
    assert (both == 200).all(axis=-1).sum() == 100 * 80
