"""Evaluation on MPII, on test sets, from zip files, and with a detector's boxes: by command."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat
from typer.testing import CliRunner

from data.mpii_files import write_mpii
from evaluation.oracle import DataSet, Oracle, detections
from hrpose import api
from hrpose.cli.main import app
from hrpose.data.formats.mpii import convert
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.evaluate import Report, evaluate
from hrpose.metadata import Metadata
from hrpose.metrics.pck import pckh
from hrpose.skeletons import MPII_16
from hrpose.synthetic import write_dataset
from refusals import refused
from tiny_weights import write_tiny_weights

MPII_METADATA = Metadata(network="oracle", input_wh=(256, 256), skeleton=MPII_16)


@pytest.fixture(scope="module")
def mpii(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted set: `ours`/valid.json and so on, `images`, `annot` with the official files."""
    folder = tmp_path_factory.mktemp("mpii")
    convert(write_mpii(folder), folder / "ours")
    return folder


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("synthetic")
    return DataSet(write_dataset(folder, images=6, seed=3), folder / "images")


def run(mpii: Path, name: str = "valid", **options: Any) -> Report:
    annotations = mpii / "ours" / f"{name}.json"
    session = Oracle(annotations, MPII_METADATA, unlabeled=True)
    return evaluate(PoseEstimator(session), annotations, mpii / "images", **options)


def test_mpii_is_measured_by_pckh(mpii: Path, tmp_path: Path) -> None:
    report = run(mpii, out=tmp_path)
    assert report.primary == "PCKh"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "pred.mat"]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics)[:9] == [
        *("PCKh", "PCKh@0.1", "Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")
    ]
    assert metrics["persons"] == 9

    # With MPII's own files, pred.mat has the same metrics.
    preds = loadmat(tmp_path / "pred.mat")["preds"]
    truth = loadmat(mpii / "annot" / "gt_valid.mat")
    official = pckh(
        preds - 1,
        truth["pos_gt_src"].transpose(2, 0, 1),
        truth["jnt_missing"].T,
        truth["headboxes_src"].transpose(2, 0, 1),
    )
    assert metrics["PCKh"] == pytest.approx(official.mean)
    assert 0 < official.mean_at_01 < official.mean
    assert official.as_dict().items() <= report.metrics.items()


def test_predictions_are_in_the_order_of_the_official_file(mpii: Path, tmp_path: Path) -> None:
    run(mpii, out=tmp_path)
    preds = loadmat(tmp_path / "pred.mat")["preds"]
    persons = json.loads((mpii / "annot" / "valid.json").read_text())
    assert preds.shape == (len(persons), 16, 2)
    for found, person in zip(preds, persons, strict=True):
        side = person["scale"] * 250
        x, y = person["center"]
        start = np.array([x, y + 15 * person["scale"]]) - side / 2
        keypoints = np.array(person["joints"])
        inside = ((keypoints > start + 1) & (keypoints < start + side - 1)).all(axis=1)
        inside &= np.array(person["joints_vis"]) > 0
        # Half a heatmap pixel, of which a crop has 64.
        np.testing.assert_allclose(found[inside], keypoints[inside], atol=0.6 * side / 64)


def test_the_test_set_of_mpii_gives_predictions_alone(mpii: Path, tmp_path: Path) -> None:
    report = run(mpii, "test", out=tmp_path)
    assert (report.primary, report.metrics) == (None, {})
    assert loadmat(tmp_path / "pred.mat")["preds"].shape == (3, 16, 2)


def test_a_person_without_labels_has_a_prediction_too(mpii: Path, tmp_path: Path) -> None:
    document = json.loads((mpii / "ours" / "valid.json").read_text())
    document["annotations"][4]["keypoints"] = [0] * 48
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "valid.json").write_text(json.dumps(document))
    (tmp_path / "images").symlink_to(mpii / "images")
    assert run(tmp_path, out=tmp_path).persons == 9
    assert loadmat(tmp_path / "pred.mat")["preds"].shape == (9, 16, 2)


def test_the_metric_may_be_chosen(mpii: Path, tmp_path: Path) -> None:
    report = run(mpii, metric="AP", out=tmp_path)
    assert report.primary == "AP"
    assert (tmp_path / "results.json").is_file()
    # There are no head boxes.
    assert run(mpii, "train").primary == "AP"
    with refused("metric-unavailable", "train.json", "'head_box'"):
        run(mpii, "train", metric="PCKh")


def test_options_in_conflict_with_pckh(mpii: Path, coco: DataSet) -> None:
    with refused("option-conflict", "PCKh"):
        run(mpii, boxes="detector")
    with refused("metric-unavailable", "PCKh"):
        run_oracle(coco, metric="PCKh")
    for option in ("metric", "nms"):
        with refused("option-invalid", option, "'best'"):
            run(mpii, **{option: "best"})


def run_oracle(coco: DataSet, **options: Any) -> Report:
    return evaluate(
        PoseEstimator(Oracle(coco.annotations)),
        coco.annotations,
        **{"images": coco.images, **options},
    )


def zipped(coco: DataSet, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for image in sorted(coco.images.iterdir()):
            archive.write(image, f"val2017/{image.name}")
    return path


def test_images_in_a_zip_file_give_the_same_metrics(coco: DataSet, tmp_path: Path) -> None:
    path = zipped(coco, tmp_path / "val2017.zip")
    for place in (path, f"{path}@/val2017"):
        assert run_oracle(coco, images=place) == run_oracle(coco)
    with refused("images-missing", "train2017"):
        run_oracle(coco, images=f"{path}@/train2017")


def test_soft_nms_keeps_repeated_poses(coco: DataSet, tmp_path: Path) -> None:
    once = json.loads(detections(coco, tmp_path).read_text())
    twice = [{**box, "score": score} for box in once for score in (0.9, 0.5)]
    boxes = tmp_path / "twice.json"
    boxes.write_text(json.dumps(twice))

    class Twice(Oracle):
        def __call__(self, crops: Any) -> Any:
            return np.repeat(self.targets, 2, axis=0)[: len(crops)]

    counts = {}
    for nms in ("hard", "soft"):
        session = Twice(coco.annotations)
        estimator = PoseEstimator(session, batch_size=1000)
        report = evaluate(estimator, coco.annotations, coco.images, boxes, tmp_path / nms, nms=nms)
        assert report.as_dict()["nms"] == nms
        counts[nms] = len(json.loads((tmp_path / nms / "results.json").read_text()))
    assert counts == {"hard": len(once), "soft": len(twice)}


def test_boxes_below_a_score_are_left_out(coco: DataSet, tmp_path: Path) -> None:
    entries = json.loads(detections(coco, tmp_path).read_text())
    for position, entry in enumerate(entries):
        entry["score"] = position / len(entries)
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps(entries))
    report = run_oracle(coco, boxes=boxes, box_threshold=entries[3]["score"])
    assert report.persons == len(entries) - 3
    assert report.boxes == f"detections: {boxes}, scored {entries[3]['score']:g} or more"
    assert run_oracle(coco, boxes=boxes).persons == len(entries)


def image_info(coco: DataSet, path: Path) -> Path:
    """As COCO publishes a test set: images and all the categories, without keypoints."""
    document = {
        "info": {"description": "COCO 2017 Dataset"},
        "images": coco.document()["images"],
        "licenses": [],
        "categories": [
            {"supercategory": "person", "id": 1, "name": "person"},
            {"supercategory": "vehicle", "id": 2, "name": "bicycle"},
        ],
    }
    path.write_text(json.dumps(document))
    return path


def hrpose(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_a_test_set_gives_the_file_for_cocos_server(coco: DataSet, tmp_path: Path) -> None:
    info = image_info(coco, tmp_path / "image_info_test-dev2017.json")
    boxes = detections(coco, tmp_path)
    weights = write_tiny_weights(tmp_path / "tiny.onnx")
    out = tmp_path / "out"
    done = hrpose(
        *("--annotations", info, "--images", coco.images, "--weights", weights),
        *("--boxes", boxes, "--out", out, "--no-flip-test"),
    )
    assert done.exit_code == 0, done.output
    assert "no metrics: the annotations have no labels" in done.stdout
    (path,) = out.iterdir()
    assert path.name == "person_keypoints_test-dev2017_hrpose_results.json"
    entries = json.loads(path.read_text())
    assert 0 < len(entries) <= len(coco.document()["annotations"])
    for entry in entries:
        assert set(entry) == {"image_id", "category_id", "keypoints", "score"}
        assert entry["category_id"] == 1
        assert len(entry["keypoints"]) == 51


def test_a_test_set_needs_boxes_and_a_folder(coco: DataSet, tmp_path: Path) -> None:
    info = image_info(coco, tmp_path / "image_info_test-dev2017.json")
    estimator = PoseEstimator(Oracle(coco.annotations))
    with refused("option-missing", "--boxes"):
        evaluate(estimator, info, coco.images, out=tmp_path / "out")
    with refused("option-missing", "--out"):
        evaluate(estimator, info, coco.images, detections(coco, tmp_path))
    assert not (tmp_path / "out").exists()


def test_the_command_shows_pckh(mpii: Path, tmp_path: Path) -> None:
    done = hrpose(
        *("--annotations", mpii / "ours" / "valid.json", "--images", mpii / "images"),
        *("--weights", write_mpii_weights(tmp_path / "tiny.onnx"), "--out", tmp_path / "out"),
    )
    assert done.exit_code == 0, done.output
    for column in ("Head", "Wrist", "PCKh@0.1"):
        assert column in done.stdout
    assert (tmp_path / "out" / "pred.mat").is_file()


def write_mpii_weights(path: Path) -> Path:
    metadata = Metadata(network="tiny", input_wh=(48, 64), name="tiny", skeleton=MPII_16)
    return write_tiny_weights(path, metadata)


@pytest.mark.parametrize(
    ("options", "code", "mention"),
    [
        ({"detector": "none"}, "option-conflict", "--detector"),
        ({"box_threshold": 0.5}, "option-conflict", "--box-threshold"),
        ({"boxes": "a.json", "box_threshold": 1.5}, "option-invalid", "--box-threshold"),
        ({"boxes": "a.json", "detector": lambda _: []}, "option-conflict", "--detector"),
    ],
)
def test_options_without_their_boxes(
    coco: DataSet, options: dict[str, Any], code: str, mention: str
) -> None:
    with refused(code, mention):
        api.evaluate("w16-small", coco.annotations, coco.images, **options)


def test_python_takes_a_batch_size(coco: DataSet, tmp_path: Path, batch_sizes: list[int]) -> None:
    weights = write_tiny_weights(tmp_path / "tiny.onnx")
    for options in ({}, {"batch_size": 3}):
        report = api.evaluate(weights, coco.annotations, coco.images, **options)
        assert report.metrics.keys() > {"AP", "AR"}
        assert (report.boxes, report.flip_test, report.images) == ("ground-truth", True, 6)
    assert batch_sizes == [64, 3]


@pytest.mark.parametrize("options", [["--nms", "none"], ["--metric", "iou"]])
def test_invalid_choices(coco: DataSet, options: list[str]) -> None:
    done = hrpose("--annotations", coco.annotations, "--images", coco.images, *options)
    assert done.exit_code == 2
