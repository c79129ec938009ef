"""Synthetic persons: the same from the same seed, true to the pixel, valid COCO, side-neutral."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from hrpose.skeletons import COCO_17, from_coco_category
from hrpose.synthetic import ANIMAL, PERSON, Figure, SyntheticImage, render_image, write_dataset
from hrpose.synthetic.figures import Keypoints, paint
from refusals import refused

LEFT_SHOULDER, RIGHT_SHOULDER = 5, 6
NOSE = 0


def render(seed: int, persons: int | None = None) -> SyntheticImage:
    return render_image(np.random.default_rng(seed), persons=persons)


@pytest.fixture(scope="module")
def images() -> list[SyntheticImage]:
    return [render(seed) for seed in range(40)]


def test_shapes_and_types():
    image = render_image(np.random.default_rng(0), size_wh=(200, 150), persons=3)
    assert image.image.shape == (150, 200, 3)
    assert image.image.dtype == np.uint8
    assert image.keypoints.shape == (3, 17, 3)
    assert image.boxes.shape == (3, 4)
    assert image.areas.shape == (3,)
    assert image.masks.shape == (3, 150, 200)


def test_same_generator_same_image():
    first, second, other = render(7), render(7), render(8)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.keypoints, second.keypoints)
    assert not np.array_equal(first.image, other.image)


def test_one_or_two_persons_unless_told(images: list[SyntheticImage]):
    assert {len(image.keypoints) for image in images} == {1, 2}


def test_boxes_and_areas_are_those_of_the_masks(images: list[SyntheticImage]):
    for image in images:
        for box, area, mask in zip(image.boxes, image.areas, image.masks, strict=True):
            rows, columns = np.nonzero(mask)
            x, y, w, h = box
            assert area == len(rows) > 0
            assert (x, x + w - 1) == (columns.min(), columns.max())
            assert (y, y + h - 1) == (rows.min(), rows.max())


def test_labeled_keypoints_lie_on_the_figure(images: list[SyntheticImage]):
    for image in images:
        for points, mask in zip(image.keypoints, image.masks, strict=True):
            columns, rows = np.rint(points[points[:, 2] > 0, :2]).astype(int).T
            assert len(rows) > 0
            assert mask[rows, columns].all()


@pytest.mark.parametrize("size_wh", [(64, 64), (64, 400), (400, 64), (101, 97)])
def test_the_truth_holds_in_small_and_narrow_images(size_wh: tuple[int, int]):
    for seed in range(20):
        image = render_image(np.random.default_rng(seed), size_wh, persons=1)
        points = image.keypoints[0]
        columns, rows = np.rint(points[points[:, 2] > 0, :2]).astype(int).T
        assert image.areas[0] > 50
        assert image.masks[0][rows, columns].all()


def test_all_visibilities_occur_and_outside_is_zero(images: list[SyntheticImage]):
    points = np.concatenate([image.keypoints.reshape(-1, 3) for image in images])
    assert set(points[:, 2]) == {0, 1, 2}
    assert not points[points[:, 2] == 0].any()
    assert (points[:, :2] > -0.5).all()
    assert (points[:, 0] < 319.5).all()
    assert (points[:, 1] < 239.5).all()
    assert (points[:, 2] == 2).mean() > 0.6


def test_a_covered_keypoint_is_not_seen():
    """Where the other figure's silhouette covers a keypoint of the one behind, it cannot be 2."""
    covered = 0
    for seed in range(60):
        image = render(seed, persons=3)
        for back in range(3):
            points = image.keypoints[back]
            columns, rows = np.rint(points[:, :2]).astype(int).T
            hidden = image.masks[back + 1 :, rows, columns].any(0) & (points[:, 2] > 0)
            assert (points[hidden, 2] == 1).all()
            covered += hidden.sum()
    assert covered > 20


def test_who_faces_the_viewer_shows_the_nose_and_the_left_on_the_right(
    images: list[SyntheticImage],
):
    figures = np.concatenate([image.keypoints for image in images])
    labeled = (figures[:, [NOSE, LEFT_SHOULDER, RIGHT_SHOULDER], 2] > 0).all(axis=1)
    figures = figures[labeled]
    front = figures[:, LEFT_SHOULDER, 0] > figures[:, RIGHT_SHOULDER, 0]
    assert 0.6 < front.mean() < 0.95
    assert (figures[front, NOSE, 2] == 2).mean() > 0.9
    assert (figures[~front, NOSE, 2] == 1).all()


def silhouette(figure: Figure, keypoints: Keypoints) -> np.ndarray:
    """The painted figure alone, every garment plain and the light from the front."""
    image = np.full((240, 240, 3), 128, np.uint8)
    plain = {
        name: color._replace(pattern=None)
        for name, color in figure.wardrobe(np.random.default_rng(1), image).items()
    }
    for part in figure.dress(np.random.default_rng(2), keypoints, 0):
        paint(image, keypoints, part, plain[part.paint], np.zeros(2))
    return image


@pytest.mark.parametrize("figure", [PERSON, ANIMAL], ids=lambda f: f.plural)
@pytest.mark.parametrize("seed", range(8))
def test_the_mirrored_figure_with_swapped_pairs_is_the_mirrored_image(seed: int, figure: Figure):
    top = 20 if figure is PERSON else 100
    keypoints = {
        name: np.array([119.5 + 200 * point[0], top + 200 * point[1], point[2], 200.0])
        for name, point in figure.pose(np.random.default_rng(seed)).items()
    }
    other_side = {"left": "right", "right": "left"}
    mirrored = {}
    for name, (x, *rest) in keypoints.items():
        side, _, rest_of_name = name.partition("_")
        twin = f"{other_side[side]}_{rest_of_name}" if side in other_side else name
        mirrored[twin] = np.array([239 - x, *rest])
    assert set(figure.skeleton.keypoints) <= set(mirrored)
    difference = cv2.absdiff(silhouette(figure, mirrored), silhouette(figure, keypoints)[:, ::-1])
    # Only the rounding of smooth edges may differ.
    assert (difference.max(axis=2) > 40).mean() < 0.002


def test_data_set_is_valid_coco(tmp_path: Path):
    path = write_dataset(tmp_path / "set", images=4, seed=3, persons_per_image=(2, 2))
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


def test_animals_have_keypoints_of_their_own(tmp_path: Path):
    path = write_dataset(tmp_path / "set", images=3, seed=3, figure=ANIMAL)
    (category,) = json.loads(path.read_text())["categories"]
    assert category["name"] == "animal"
    assert category["keypoints"] == list(ANIMAL.skeleton.keypoints)
    # What a COCO file does not have is found by the names.
    read = from_coco_category(category)
    assert read.flip_pairs == ANIMAL.skeleton.flip_pairs
    assert read.limbs == ANIMAL.skeleton.limbs


def test_an_animals_keypoints_lie_on_it():
    seen = []
    for seed in range(30):
        image = render_image(np.random.default_rng(seed), figure=ANIMAL)
        for points, mask in zip(image.keypoints, image.masks, strict=True):
            columns, rows = np.rint(points[points[:, 2] > 0, :2]).astype(int).T
            assert mask[rows, columns].all()
            seen.append(points[:, 2] == 2)
    # Each keypoint is often seen, and those of both sides equally so.
    assert (np.mean(seen, axis=0) > 0.4).all()


def test_a_longer_data_set_begins_with_the_shorter_one(tmp_path: Path):
    short = json.loads(write_dataset(tmp_path / "short", images=2, seed=5).read_text())
    long = json.loads(write_dataset(tmp_path / "long", images=3, seed=5).read_text())
    assert long["images"][:2] == short["images"]
    assert long["annotations"][: len(short["annotations"])] == short["annotations"]
    for name in ("000001.jpg", "000002.jpg"):
        files = [tmp_path / folder / "images" / name for folder in ("short", "long")]
        assert files[0].read_bytes() == files[1].read_bytes()
    other = json.loads(write_dataset(tmp_path / "other", images=2, seed=6).read_text())
    assert other["annotations"] != short["annotations"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": 0},
        {"seed": -1},
        {"size_wh": (320, 8)},
        {"size_wh": (100, 100)},
        {"size_wh": (5000, 100)},
        {"persons_per_image": (0, 1)},
        {"persons_per_image": (2, 1)},
    ],
)
def test_invalid_numbers(tmp_path: Path, wrong: dict):
    with refused("option-invalid", "images"):
        write_dataset(tmp_path / "set", **({"images": 1, "seed": 0} | wrong))
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("wrong", [{"persons": 0}, {"size_wh": (63, 240)}, {"persons": 6}])
def test_an_image_that_is_too_small_or_without_persons(wrong: dict):
    with pytest.raises(ValueError, match="at least one figure and 64x64"):
        render_image(np.random.default_rng(0), **wrong)
