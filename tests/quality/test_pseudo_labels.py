"""Labels by a model: what its views agree on, images and clips, resumed, and what is left out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import clips
from foreign_pose import dot, write_foreign_pose
from hrpose.cli.main import app
from hrpose.data.coco import load_persons
from hrpose.geometry import Crop, warp
from hrpose.image import encode
from hrpose.metadata import Metadata
from hrpose.quality.pseudo_labels import VIEWS, consensus
from refusals import check_refusal

PLACE, SIZE = (130, 90), (240, 200)
BOX = np.array([[80.0, 30.0, 90.0, 120.0]])


class Knows:
    """Finds a point of the image in every crop; left ones are a bit left of it in the image, so
    that a mirrored crop must be seen the other way round.
    """

    metadata = Metadata("knows", (48, 64))

    def __init__(self) -> None:
        self.crops: list[Crop] = []

    def cut(self, _row: int, crop: Crop) -> NDArray[np.uint8]:
        self.crops.append(crop)
        return np.zeros((64, 48, 3), np.uint8)

    def keypoints(
        self, crops: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        order = self.metadata.skeleton.flip_permutation
        places = np.tile(np.array(PLACE, float), (17, 1))
        places[1::2, 0] -= 20
        found = []
        for crop in self.crops[-len(crops) :]:
            own = places @ crop.matrix[:, :2].T + crop.matrix[:, 2]
            found.append(own[order] if crop.mirrored else own)
        return np.stack(found), np.ones((len(crops), 17), np.float32)


class Guesses(Knows):
    """Finds everything in one place of the crop, whatever the crop shows."""

    def keypoints(
        self, crops: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        return np.full((len(crops), 17, 2), (10.0, 50.0)), np.ones((len(crops), 17), np.float32)


def test_views_that_agree_are_trusted_and_guesses_are_not() -> None:
    knows, guesses = Knows(), Guesses()
    sure, unsure = (consensus(model, BOX, model.cut) for model in (knows, guesses))
    np.testing.assert_allclose(sure.points[0, 0], PLACE, atol=1e-6)
    np.testing.assert_allclose(sure.points[0, 1], (PLACE[0] - 20, PLACE[1]), atol=1e-6)
    np.testing.assert_allclose(sure.trust, 1, atol=1e-6)
    assert unsure.trust.max() < 0.5
    assert {crop.mirrored for crop in knows.crops} == {True, False}
    assert len(knows.crops) == len(VIEWS) >= 6


def test_nobody_is_no_persons() -> None:
    model = Knows()
    assert len(consensus(model, np.zeros((0, 4)), model.cut)) == 0


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two images with a bright dot, and one that is damaged; the boxes of the persons in them."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.png").write_bytes(encode(dot(*PLACE, SIZE), ".png"))
    (folder / "damaged.png").write_bytes((folder / "a.png").read_bytes()[:200])
    # The second box of a.png is the same person again, that of b.png does not have the dot.
    boxes = [
        {"file_name": "a.png", "bbox": BOX[0].tolist(), "score": 0.9},
        {"file_name": "a.png", "bbox": (BOX[0] + 0.5).tolist(), "score": 0.8},
        {"file_name": "b.png", "bbox": [0, 150, 30, 40], "score": 0.9},
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    write_foreign_pose(tmp_path / "other.onnx", "simcc")
    return folder


def labels(images: Path, *options: object) -> Any:
    root = images.parent
    return CliRunner().invoke(
        app,
        [
            *("data", "predict-labels", str(images), "--out", str(root / "out"), "--json"),
            *("--weights", str(root / "other.onnx"), "--boxes", str(root / "boxes.json")),
            *map(str, options),
        ],
    )


def test_the_command_labels_images_and_counts_what_it_leaves_out(images: Path) -> None:
    result = labels(images)
    assert result.exit_code == 1  # one image is damaged
    summary = json.loads(result.stdout)
    assert (summary["images"], summary["persons"], summary["resumed"]) == (1, 1, 0)
    assert summary["left_out"]["images that cannot be read"] == 1
    assert summary["left_out"]["persons labeled twice"] == 1
    assert summary["left_out"]["images without a person"] == 1
    assert summary["left_out"]["persons with too few trusted keypoints"] == 1
    out = images.parent / "out"
    document = json.loads((out / "annotations.json").read_text())
    (person,) = document["annotations"]
    assert len(person["keypoint_trust"]) == 17
    assert 0.8 <= person["trust"] <= 1
    assert document["info"]["made_with"]["model"]["name"] == "other"
    table = load_persons(out / "annotations.json")
    assert np.abs(table.keypoints[0, :, :2] - PLACE).max() < 4
    assert table.trust[0] == pytest.approx(person["trust"])
    assert (out / "images" / table.image_name(0)).resolve() == (images / "a.png").resolve()


def test_a_run_that_was_cut_off_goes_on(images: Path) -> None:
    labels(images)
    file = images.parent / "out" / "labels.jsonl"
    first, one, two = file.read_text().splitlines()
    file.write_text(f"{first}\n{one}\n{two[:20]}")
    summary = json.loads(labels(images).stdout)
    assert (summary["resumed"], summary["persons"]) == (1, 1)
    assert len(file.read_text().splitlines()) == 3


def test_an_image_of_another_folder_does_not_take_the_place_of_one_with_its_name(
    images: Path,
) -> None:
    labels(images)
    root = images.parent
    (root / "others").mkdir()
    (root / "others" / "a.png").write_bytes(encode(dot(100, 70, SIZE), ".png"))
    summary = json.loads(labels(root / "others").stdout)
    assert (summary["resumed"], summary["images"], summary["persons"]) == (2, 2, 2)
    table = load_persons(root / "out" / "annotations.json")
    linked = [(root / "out" / "images" / table.image_name(i)).resolve() for i in range(2)]
    assert linked == [images / "a.png", root / "others" / "a.png"]
    assert np.abs(table.keypoints[1, :, :2] - (100, 70)).max() < 4


def test_other_settings_are_refused(images: Path) -> None:
    labels(images)
    check_refusal(labels(images, "--min-trust", 0.9), "resume-mismatch", "thresholds")


def test_frames_of_clips_are_labeled(images: Path) -> None:
    root = images.parent
    frames = [warp(dot(*PLACE, SIZE), Crop((120, 100), (240, 200), (240, 200)))] * 6
    clip = clips.write_clip(root / "clip.mp4", frames, clips.times(6))
    result = CliRunner().invoke(
        app,
        [
            *("data", "predict-labels", str(clip), "--out", str(root / "out"), "--json"),
            *("--weights", str(root / "other.onnx"), "--detector", "full-image", "--every", "3"),
            *("--min-keypoints", "17"),
        ],
    )
    assert result.exit_code == 0, result.output
    document = json.loads((root / "out" / "annotations.json").read_text())
    names = [image["file_name"] for image in document["images"]]
    assert names == ["clip_000000.jpg", "clip_000003.jpg"]
    assert all((root / "out" / "images" / name).is_file() for name in names)
