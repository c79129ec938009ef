"""Any number of keypoints goes the whole way: trained, measured, drawn, tabled, explained,
followed.

That it is served is among the tests of the server.
"""

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest
from typer.testing import CliRunner, Result

import hrpose
from clips import colors, times, write_clip
from hrpose.cli.main import app
from hrpose.data.coco import read_annotations
from hrpose.metadata import Metadata
from hrpose.models import HRNet, checkpoint
from hrpose.session import open_session
from hrpose.skeleton import Skeleton
from hrpose.skeletons import HALPE_26, WHOLEBODY_133
from hrpose.synthetic import ANIMAL
from tiny_weights import METADATA, marker_colors, write_marker_weights, write_tiny_weights

SKELETONS = (Skeleton("ball", ("center",)), ANIMAL.skeleton, WHOLEBODY_133)


def write_points(folder: Path, skeleton: Skeleton) -> Path:
    """Four gray images with a person of random keypoints in each."""
    rng = np.random.default_rng(len(skeleton))
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, 5):
        name = f"{number}.png"
        cv2.imwrite(str(folder / "images" / name), rng.integers(0, 256, (48, 40, 3), np.uint8))
        images.append({"id": number, "file_name": name, "width": 40, "height": 48})
        points = np.full((len(skeleton), 3), 2.0)
        points[:, :2] = rng.uniform(4, 36, (len(skeleton), 2)).round(1)
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [2, 2, 36, 44],
                "area": 900.0,
                "keypoints": points.ravel().tolist(),
            }
        )
    path = folder / "annotations.json"
    category = skeleton.to_coco_category()
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [category]})
    )
    return path


def run(*arguments: object) -> Result:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, f"{done.output}{done.exception!r}"
    return done


@pytest.mark.slow
@pytest.mark.parametrize("skeleton", SKELETONS, ids=len)
def test_from_a_data_set_to_figures(tmp_path: Path, skeleton: Skeleton) -> None:
    annotations, images = write_points(tmp_path / "set", skeleton), tmp_path / "set" / "images"
    k = len(skeleton)
    named = run("data", "skeleton", annotations, "--out", tmp_path / "bones.yaml")
    assert f"{k} keypoints of" in named.stderr
    out = tmp_path / "out"
    run("finetune", annotations, annotations, "--skeleton", tmp_path / "bones.yaml", "--out", out,
        "--input-size", "32x32", "--set", "training.samples_per_epoch=4", "--set",
        "training.epochs=1", "--set", "training.workers=0",
        "--set", "training.debug_images_every=1")  # fmt: skip
    weights = out / "out.safetensors"
    network, metadata = checkpoint.load(weights)
    assert network.num_keypoints == len(metadata.skeleton) == k
    assert list((out / "images").iterdir())
    for metric in ("auto", "ap", "pck"):
        run("evaluate", "--annotations", annotations, "--images", images, "--weights", weights,
            "--metric", metric, "--out", tmp_path / metric)  # fmt: skip
        (first, *_) = json.loads((tmp_path / metric / "results.json").read_text())
        assert len(first["keypoints"]) == 3 * k
    # The whole body has OKS constants; the others are measured without.
    assert ("AP" in json.loads((tmp_path / "auto" / "metrics.json").read_text())) == (k == 133)


@pytest.mark.slow
def test_one_keypoint_is_exported(tmp_path: Path) -> None:
    metadata = Metadata("w16-small", (32, 32), SKELETONS[0])
    checkpoint.save(tmp_path / "one.safetensors", HRNet.from_name("w16-small", 1), metadata)
    weights, out = tmp_path / "one.safetensors", tmp_path / "one.onnx"
    run("export", weights, "--out", out)
    assert [output.shape[1] for output in ort.InferenceSession(out).get_outputs()] == [1, 1]


@pytest.fixture(params=SKELETONS, ids=len)
def weights(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    metadata = replace(METADATA, skeleton=request.param)
    return write_tiny_weights(tmp_path / "tiny.onnx", metadata)


def image(folder: Path) -> Path:
    path = folder / "photo.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (96, 72, 3), np.uint8))
    return path


def test_drawn_tabled_and_explained(weights: Path, tmp_path: Path) -> None:
    k = len(open_session(weights).metadata.skeleton)
    out = tmp_path / "out"
    run("predict", image(tmp_path), "--weights", weights, "--detector", "none", "--out", out,
        "--threshold", 0, "--mark", "names,boxes,scores",
        "--save", "images,coco,csv,parquet,dataset")  # fmt: skip
    with (out / "poses.csv").open(newline="") as table:
        assert len(list(csv.DictReader(table))) == k
    ((entry),) = json.loads((out / "poses.json").read_text())
    assert len(entry["keypoints"]) == 3 * k
    drawn = cv2.imread(str(next(out.glob("photo*.png"))))
    assert (drawn != cv2.imread(str(tmp_path / "photo.png"))).any()
    run("explain", tmp_path / "photo.png", "--weights", weights, "--detector", "none", "--out",
        tmp_path / "explained")  # fmt: skip
    assert (tmp_path / "explained" / "photo-explained.html").stat().st_size > 10_000


def test_followed_through_a_clip(weights: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", colors(5), times(5))
    run("predict", clip, "--weights", weights, "--detector", "none", "--out", tmp_path / "out",
        "--threshold", 0, "--save", "images,coco")  # fmt: skip
    entries = json.loads((tmp_path / "out" / "a.json").read_text())
    k = len(open_session(weights).metadata.skeleton)
    assert {len(entry["keypoints"]) for entry in entries} == {3 * k}


def test_halpe_is_evaluated_and_converted(tmp_path: Path) -> None:
    """Known persons of 26 keypoints: an AP of 1, and the same points in other formats."""
    colors = marker_colors(26)
    metadata = Metadata("markers", (96, 128), HALPE_26, name="halpe")
    weights = write_marker_weights(tmp_path / "halpe.onnx", metadata, colors)
    places = np.stack(np.meshgrid(range(40, 300, 50), range(40, 300, 60)), axis=-1).reshape(-1, 2)
    images, annotations = [], []
    (tmp_path / "images").mkdir()
    for number in range(2):
        points = np.random.default_rng(number).permutation(places)[:26]
        pixels = np.zeros((330, 340, 3), np.uint8)
        for (x, y), color in zip(points.tolist(), colors[:, ::-1].tolist(), strict=True):
            cv2.circle(pixels, (x, y), 10, color, -1)
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), pixels)
        images.append({"id": number, "file_name": f"{number}.png", "width": 340, "height": 330})
        annotations.append({
            "id": number + 1, "image_id": number, "category_id": 1, "num_keypoints": 26,
            "keypoints": np.column_stack([points, np.full(26, 2)]).ravel().tolist(),
            "bbox": [20, 20, 300, 290], "area": 50_000, "iscrowd": 0,
        })  # fmt: skip
    halpe, folder = tmp_path / "halpe.json", tmp_path / "images"
    category = HALPE_26.to_coco_category()
    halpe.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [category]})
    )
    assert hrpose.evaluate(weights, halpe, folder, flip_test=False).metrics["AP"] == 1
    run("data", "convert", "to-yolo", halpe, "--images", folder, "--out", tmp_path / "yolo")
    run("data", "convert", "yolo", tmp_path / "yolo/data.yaml", "--out", tmp_path / "of-yolo")
    run("data", "convert", "to-cvat", halpe, "--images", folder, "--out", tmp_path / "cvat")
    run("data", "convert", "cvat", tmp_path / "cvat/annotations.xml", "--out", tmp_path / "of-cvat")
    for path in (tmp_path / "of-yolo/train.json", tmp_path / "of-cvat/annotations.json"):
        assert read_annotations(path).skeleton == HALPE_26
        again = json.loads(path.read_text())["annotations"]
        for one, other in zip(annotations, again, strict=True):
            np.testing.assert_allclose(one["keypoints"], other["keypoints"], atol=0.01)
