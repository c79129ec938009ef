"""`hrpose data rank`: with a model that detects colored dots, and as a command."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from hrpose.cli.main import app
from hrpose.data.images import ImageFiles
from hrpose.errors import UserError
from hrpose.estimator import PoseEstimator
from hrpose.metadata import Metadata
from hrpose.quality.labels import read_labels
from hrpose.quality.ranking import gains, rank
from hrpose.skeleton import Skeleton
from hrpose.synthetic import write_dataset
from tiny_weights import write_tiny_weights

DOTS = Skeleton("dots", ("left_dot", "right_dot"), flip_pairs=((0, 1),))


class Dots:
    """Predicts the left dot where it is red and the right one where it is blue; in mirrored images
    the other way round, like a network that distinguishes left from right.
    """

    metadata = Metadata("dots", (64, 64), skeleton=DOTS)

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        small = [cv2.resize(crop, (16, 16), interpolation=cv2.INTER_AREA) for crop in crops]
        maps = np.stack(small).astype(np.float32)[..., [0, 2]].transpose(0, 3, 1, 2) / 255
        # A mark at the left edge of the image tells whether it is mirrored.
        mirrored = np.array([crop[:, 40:, 1].sum() > crop[:, :24, 1].sum() for crop in crops])
        maps[mirrored] = maps[mirrored][:, ::-1]
        return maps


def write_set(folder: Path) -> Path:
    """Right labels, one label moved; without labels, a clear image and one of noise."""
    images, persons = [], []
    for number, name in enumerate(("right", "moved", "clear", "noise"), start=1):
        image = np.zeros((128, 128, 3), np.uint8)
        if name == "noise":
            image[..., [0, 2]] = np.random.default_rng(0).integers(0, 256, (128, 128, 2))
        else:
            cv2.circle(image, (50, 60), 8, (255, 0, 0), -1)
            cv2.circle(image, (90, 60), 8, (0, 0, 255), -1)
        image[:, 10:14, 1] = 255
        cv2.imwrite(str(folder / f"{name}.png"), image[..., ::-1])
        images.append({"id": number, "file_name": f"{name}.png", "width": 128, "height": 128})
        x = 70 if name == "moved" else 50
        keypoints = [x, 60, 2, 90, 60, 2] if number < 3 else [0] * 6
        persons.append({"id": number, "image_id": number, "category_id": 1, "iscrowd": 0,
                       "bbox": [20, 14, 96, 96], "area": 9216, "keypoints": keypoints})  # fmt: skip
    path = folder / "set.json"
    document = {"images": images, "annotations": persons, "categories": [DOTS.to_coco_category()]}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_unclear_images_come_first_and_moved_labels_are_found(tmp_path: Path) -> None:
    labels, _ = read_labels(write_set(tmp_path))
    estimator = PoseEstimator(Dots(), batch_size=4)
    ranking = rank(estimator, ImageFiles(tmp_path), [], labels)
    assert [row.file for row in ranking.unlabeled] == ["noise.png", "clear.png"]
    assert ranking.unlabeled[0].entropy > ranking.unlabeled[1].entropy
    (doubt,) = ranking.doubtful
    assert (doubt.file, doubt.annotation, doubt.keypoint) == ("moved.png", 2, "left_dot")
    assert doubt.off == pytest.approx(20 / 96, abs=0.05)
    assert not doubt.nearer_twin


def test_swapped_labels_are_nearer_to_the_twin(tmp_path: Path) -> None:
    path = write_set(tmp_path)
    document = json.loads(path.read_bytes())
    document["annotations"][0]["keypoints"] = [90, 60, 2, 50, 60, 2]
    path.write_text(json.dumps(document), encoding="utf-8")
    labels, _ = read_labels(path)
    ranking = rank(PoseEstimator(Dots()), ImageFiles(tmp_path), [], labels)
    swapped = [row for row in ranking.doubtful if row.file == "right.png"]
    assert [row.nearer_twin for row in swapped] == [True, True]


def test_gains_are_mean_ranks() -> None:
    assert gains([1, 2, 3], [5, 7, 6]).tolist() == [0, 0.75, 0.75]
    assert gains([1, 1], [2, 2]).tolist() == [0.5, 0.5]
    assert gains([4], [1]).tolist() == [0.5]
    assert gains([], []).tolist() == []


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["data", "rank", *map(str, arguments)])


def test_the_command_writes_both_lists(tmp_path: Path) -> None:
    path = write_dataset(tmp_path, images=3, seed=1)
    document = json.loads(path.read_bytes())
    gone = document["images"].pop()["id"]
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] != gone]
    path.write_text(json.dumps(document), encoding="utf-8")
    (tmp_path / "images/000003.jpg").rename(tmp_path / "images/[new].mpo")
    (tmp_path / "images/broken.jpg").write_bytes(b"no image")
    tiny = write_tiny_weights(tmp_path / "tiny.onnx")
    options = ("--annotations", path, "--weights", tiny, "--detector", "none")
    done = run(tmp_path / "images", *options, "--out", tmp_path / "rank.csv")
    assert done.exit_code == 0, done.output
    assert "to label next, of 1 image" in done.output
    assert "[new].mpo" in done.output
    assert "broken.jpg" in done.output
    with (tmp_path / "rank.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows if row["list"] == "unlabeled"] == ["[new].mpo"]
    assert {row["list"] for row in rows} == {"unlabeled", "doubtful"}
    done = run(tmp_path / "images", *options, "--out", tmp_path / "rank.json")
    lists = json.loads((tmp_path / "rank.json").read_bytes())
    assert len(lists["unlabeled"]) + len(lists["doubtful"]) == len(rows)
    assert len(lists["unread"]) == 1


@pytest.mark.parametrize(
    ("options", "mention"),
    [
        (("--out", "rank.txt"), "rank.txt"),
        (("--annotations", "no.json"), "no.json"),
        (("--weights", "no.onnx"), "no.onnx"),
    ],
)
def test_invalid_input(tmp_path: Path, options: tuple[str, ...], mention: str) -> None:
    done = run(tmp_path, *options)
    assert isinstance(done.exception, UserError)
    assert mention in str(done.exception)


def test_weights_of_other_keypoints_are_refused(tmp_path: Path) -> None:
    path = write_set(tmp_path)
    tiny = write_tiny_weights(tmp_path / "tiny.onnx")
    done = run(tmp_path, "--annotations", path, "--weights", tiny)
    assert getattr(done.exception, "code", None) == "keypoints-differ"
