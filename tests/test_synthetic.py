"""Synthetic people: the same from the same seed, true to the pixel, valid COCO, side-neutral."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from hrpose.errors import UserError
from hrpose.skeletons import COCO_17, from_coco_category
from hrpose.synthetic import (
    ANIMAL,
    PERSON,
    Figure,
    SyntheticPicture,
    render_picture,
    write_dataset,
)
from hrpose.synthetic.drawing import Joints, paint

LEFT_SHOULDER, RIGHT_SHOULDER = 5, 6
NOSE = 0


def render(seed: int, people: int | None = None) -> SyntheticPicture:
    return render_picture(np.random.default_rng(seed), people=people)


@pytest.fixture(scope="module")
def pictures() -> list[SyntheticPicture]:
    return [render(seed) for seed in range(40)]


def test_shapes_and_types():
    picture = render_picture(np.random.default_rng(0), size_wh=(200, 150), people=3)
    assert picture.image.shape == (150, 200, 3)
    assert picture.image.dtype == np.uint8
    assert picture.keypoints.shape == (3, 17, 3)
    assert picture.boxes.shape == (3, 4)
    assert picture.areas.shape == (3,)
    assert picture.masks.shape == (3, 150, 200)


def test_same_generator_same_picture():
    first, second, other = render(7), render(7), render(8)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.keypoints, second.keypoints)
    assert not np.array_equal(first.image, other.image)


def test_one_or_two_people_unless_told(pictures: list[SyntheticPicture]):
    assert {len(picture.keypoints) for picture in pictures} == {1, 2}


def test_boxes_and_areas_are_those_of_the_masks(pictures: list[SyntheticPicture]):
    for picture in pictures:
        for box, area, mask in zip(picture.boxes, picture.areas, picture.masks, strict=True):
            rows, columns = np.nonzero(mask)
            x, y, w, h = box
            assert area == len(rows) > 0
            assert (x, x + w - 1) == (columns.min(), columns.max())
            assert (y, y + h - 1) == (rows.min(), rows.max())


def test_labelled_keypoints_lie_on_the_figure(pictures: list[SyntheticPicture]):
    for picture in pictures:
        for points, mask in zip(picture.keypoints, picture.masks, strict=True):
            columns, rows = np.rint(points[points[:, 2] > 0, :2]).astype(int).T
            assert len(rows) > 0
            assert mask[rows, columns].all()


@pytest.mark.parametrize("size_wh", [(64, 64), (64, 400), (400, 64), (101, 97)])
def test_the_truth_holds_in_small_and_narrow_pictures(size_wh: tuple[int, int]):
    for seed in range(20):
        picture = render_picture(np.random.default_rng(seed), size_wh, people=1)
        points = picture.keypoints[0]
        columns, rows = np.rint(points[points[:, 2] > 0, :2]).astype(int).T
        assert picture.areas[0] > 50
        assert picture.masks[0][rows, columns].all()


def test_all_visibilities_occur_and_outside_is_zero(pictures: list[SyntheticPicture]):
    points = np.concatenate([picture.keypoints.reshape(-1, 3) for picture in pictures])
    assert set(points[:, 2]) == {0, 1, 2}
    assert not points[points[:, 2] == 0].any()
    assert (points[:, :2] > -0.5).all()
    assert (points[:, 0] < 319.5).all()
    assert (points[:, 1] < 239.5).all()
    assert (points[:, 2] == 2).mean() > 0.6


def test_a_covered_joint_is_not_seen():
    """Where the other figure's silhouette covers a joint of the one behind, it cannot be 2."""
    covered = 0
    for seed in range(60):
        picture = render(seed, people=3)
        for back in range(3):
            points = picture.keypoints[back]
            columns, rows = np.rint(points[:, :2]).astype(int).T
            hidden = picture.masks[back + 1 :, rows, columns].any(0) & (points[:, 2] > 0)
            assert (points[hidden, 2] == 1).all()
            covered += hidden.sum()
    assert covered > 20


def test_who_faces_the_viewer_shows_the_nose_and_the_left_on_the_right(
    pictures: list[SyntheticPicture],
):
    figures = np.concatenate([picture.keypoints for picture in pictures])
    labelled = (figures[:, [NOSE, LEFT_SHOULDER, RIGHT_SHOULDER], 2] > 0).all(axis=1)
    figures = figures[labelled]
    front = figures[:, LEFT_SHOULDER, 0] > figures[:, RIGHT_SHOULDER, 0]
    assert 0.6 < front.mean() < 0.95
    assert (figures[front, NOSE, 2] == 2).mean() > 0.9
    assert (figures[~front, NOSE, 2] == 1).all()


def silhouette(figure: Figure, joints: Joints) -> np.ndarray:
    """The painted figure alone, every garment plain and the light from the front."""
    image = np.full((240, 240, 3), 128, np.uint8)
    plain = {
        name: colour._replace(pattern=None)
        for name, colour in figure.wardrobe(np.random.default_rng(1), image).items()
    }
    for part in figure.dress(np.random.default_rng(2), joints, 0):
        paint(image, joints, part, plain[part.paint], np.zeros(2))
    return image


@pytest.mark.parametrize("figure", [PERSON, ANIMAL], ids=lambda f: f.plural)
@pytest.mark.parametrize("seed", range(8))
def test_the_mirrored_figure_with_swapped_pairs_is_the_mirrored_picture(seed: int, figure: Figure):
    top = 20 if figure is PERSON else 100
    joints = {
        name: np.array([119.5 + 200 * point[0], top + 200 * point[1], point[2], 200.0])
        for name, point in figure.pose(np.random.default_rng(seed)).items()
    }
    other_side = {"left": "right", "right": "left"}
    mirrored = {}
    for name, (x, *rest) in joints.items():
        side, _, rest_of_name = name.partition("_")
        twin = f"{other_side[side]}_{rest_of_name}" if side in other_side else name
        mirrored[twin] = np.array([239 - x, *rest])
    assert set(figure.skeleton.keypoints) <= set(mirrored)
    difference = cv2.absdiff(silhouette(figure, mirrored), silhouette(figure, joints)[:, ::-1])
    # Only the rounding of smooth edges may differ.
    assert (difference.max(axis=2) > 40).mean() < 0.002


def test_data_set_is_valid_coco(tmp_path: Path):
    path = write_dataset(tmp_path / "set", pictures=4, seed=3, people_per_picture=(2, 2))
    assert path == tmp_path / "set" / "annotations.json"
    coco = COCO(str(path))
    assert coco.loadCats(1)[0]["keypoints"] == list(COCO_17.keypoints)
    assert len(coco.getImgIds()) == 4
    assert len(coco.getAnnIds()) == 8
    for entry in coco.loadImgs(coco.getImgIds()):
        image = cv2.imread(str(path.parent / "images" / entry["file_name"]))
        assert image.shape == (entry["height"], entry["width"], 3)
    for annotation in coco.loadAnns(coco.getAnnIds()):
        points = np.reshape(annotation["keypoints"], (17, 3))
        assert annotation["num_keypoints"] == (points[:, 2] > 0).sum()
        assert annotation["area"] <= annotation["bbox"][2] * annotation["bbox"][3]
        x, y, w, h = annotation["bbox"]
        assert (points[points[:, 2] > 0, :2] >= (x - 0.5, y - 0.5)).all()
        assert (points[points[:, 2] > 0, :2] <= (x + w - 0.5, y + h - 0.5)).all()


def test_animals_have_joints_of_their_own(tmp_path: Path):
    path = write_dataset(tmp_path / "set", pictures=3, seed=3, figure=ANIMAL)
    (category,) = json.loads(path.read_text())["categories"]
    assert category["name"] == "animal"
    assert category["keypoints"] == list(ANIMAL.skeleton.keypoints)
    # What a COCO file cannot say is found by the names.
    read = from_coco_category(category)
    assert read.flip_pairs == ANIMAL.skeleton.flip_pairs
    assert read.limbs == ANIMAL.skeleton.limbs


def test_an_animals_joints_lie_on_it():
    seen = []
    for seed in range(30):
        picture = render_picture(np.random.default_rng(seed), figure=ANIMAL)
        for points, mask in zip(picture.keypoints, picture.masks, strict=True):
            columns, rows = np.rint(points[points[:, 2] > 0, :2]).astype(int).T
            assert mask[rows, columns].all()
            seen.append(points[:, 2] == 2)
    # Each joint is often seen, and those of both sides equally so.
    assert (np.mean(seen, axis=0) > 0.4).all()


def test_a_longer_data_set_begins_with_the_shorter_one(tmp_path: Path):
    short = json.loads(write_dataset(tmp_path / "short", pictures=2, seed=5).read_text())
    long = json.loads(write_dataset(tmp_path / "long", pictures=3, seed=5).read_text())
    assert long["images"][:2] == short["images"]
    assert long["annotations"][: len(short["annotations"])] == short["annotations"]
    for name in ("000001.jpg", "000002.jpg"):
        files = [tmp_path / folder / "images" / name for folder in ("short", "long")]
        assert files[0].read_bytes() == files[1].read_bytes()
    other = json.loads(write_dataset(tmp_path / "other", pictures=2, seed=6).read_text())
    assert other["annotations"] != short["annotations"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"pictures": 0},
        {"seed": -1},
        {"size_wh": (320, 8)},
        {"size_wh": (100, 100)},
        {"size_wh": (5000, 100)},
        {"people_per_picture": (0, 1)},
        {"people_per_picture": (2, 1)},
    ],
)
def test_numbers_without_sense_are_the_users_mistake(tmp_path: Path, wrong: dict):
    with pytest.raises(UserError, match="expected pictures >= 1"):
        write_dataset(tmp_path / "set", **({"pictures": 1, "seed": 0} | wrong))
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("wrong", [{"people": 0}, {"size_wh": (63, 240)}, {"people": 6}])
def test_a_picture_without_room_or_people_is_refused(wrong: dict):
    with pytest.raises(ValueError, match="at least one figure and 64x64"):
        render_picture(np.random.default_rng(0), **wrong)
