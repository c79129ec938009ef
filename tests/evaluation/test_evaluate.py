"""Evaluation of a data set's files by an oracle; the choice of the metric; a detector's boxes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from data.mpii_files import entries, write_mpii
from evaluation.oracle import DataSet, Oracle, detections
from hrpose.api import load
from hrpose.cli.main import app
from hrpose.data.coco import load_persons, read_annotations
from hrpose.data.formats.mpii import convert
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.evaluate import Evaluator, evaluate
from hrpose.evaluation.predictions import Predictions, ground_truth
from hrpose.geometry import Boxes
from hrpose.image import read_image
from hrpose.metadata import Metadata
from hrpose.metrics.coco import crowded_images, evaluate_keypoints
from hrpose.metrics.pck import DISTANCES, distances
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17, MPII_16
from hrpose.synthetic import ANIMAL, write_dataset
from refusals import check_refusal, refused
from tiny_weights import METADATA, write_tiny_weights

COCO_METRICS = ["AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("synthetic")
    return DataSet(write_dataset(folder, images=6, seed=3), folder / "images")


def estimator(data: DataSet) -> PoseEstimator:
    return PoseEstimator(Oracle(data.annotations), batch_size=4)


def test_an_oracle_is_nearly_perfect(data: DataSet, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    report = evaluate(estimator(data), data.annotations, data.images, out=out)
    assert report.metrics["AP"] > 0.95
    assert pytest.approx(1) == report.metrics["AP50"]
    assert report.boxes == "ground-truth"
    assert not report.flip_test
    assert report.images == 6
    assert report.persons == len(data.document()["annotations"])

    assert sorted(path.name for path in out.iterdir()) == ["metrics.json", "results.json"]
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics == report.as_dict()
    assert set(COCO_METRICS) <= metrics.keys()
    assert metrics["boxes"] == "ground-truth"
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert {entry["image_id"] for entry in results} == set(range(1, 7))
    assert all(len(entry["keypoints"]) == 51 for entry in results)
    # The written results are those that were scored.
    again = evaluate_keypoints(data.annotations, out / "results.json").as_dict()
    assert again.items() <= report.metrics.items()


def test_without_a_folder_nothing_is_written(data: DataSet) -> None:
    before = sorted(data.annotations.parent.rglob("*"))
    evaluate(estimator(data), data.annotations, data.images)
    assert sorted(data.annotations.parent.rglob("*")) == before


def test_empty_heatmaps_score_nothing(data: DataSet) -> None:
    oracle = Oracle(data.annotations)
    oracle.targets = np.zeros_like(oracle.targets)
    report = evaluate(PoseEstimator(oracle), data.annotations, data.images)
    assert report.metrics["AP"] < 0.05


def test_boxes_of_a_file_are_in_the_report(data: DataSet, tmp_path: Path) -> None:
    boxes = detections(data, tmp_path)
    report = evaluate(estimator(data), data.annotations, data.images, boxes, tmp_path / "out")
    assert report.boxes == f"detections: {boxes}"
    assert json.loads((tmp_path / "out" / "metrics.json").read_bytes())["boxes"] == report.boxes
    # A detector's box is one pixel larger than the data set's, so the targets are a little off.
    assert report.metrics["AP"] > 0.9
    results = json.loads((tmp_path / "out" / "results.json").read_bytes())
    assert max(entry["score"] for entry in results) <= 0.5


def test_persons_may_be_any_category(data: DataSet, tmp_path: Path) -> None:
    document = data.document()
    document["categories"] = [{"id": 1, "name": "dog"}, {**document["categories"][0], "id": 7}]
    for person in document["annotations"]:
        person["category_id"] = 7
    annotations = tmp_path / "annotations.json"
    annotations.write_text(json.dumps(document), encoding="utf-8")
    changed = DataSet(annotations, data.images)
    for boxes in ("ground-truth", detections(changed, tmp_path, category_id=7)):
        report = evaluate(estimator(changed), annotations, data.images, boxes, tmp_path / "out")
        assert report.metrics["AP"] > 0.9
        results = json.loads((tmp_path / "out" / "results.json").read_bytes())
        assert {entry["category_id"] for entry in results} == {7}
    dogs = detections(changed, tmp_path, category_id=1)
    # Nothing would be left, which no one wants to measure.
    with refused("boxes-invalid", "category 7", "category_id 1 only"):
        evaluate(estimator(changed), annotations, data.images, dogs)


def changed(data: DataSet, folder: Path, change: Callable[[dict[str, Any]], object]) -> DataSet:
    """The data set with its document changed."""
    document = data.document()
    change(document)
    (folder / "annotations.json").write_text(json.dumps(document), encoding="utf-8")
    return DataSet(folder / "annotations.json", data.images)


def test_odd_entries_are_reported_and_change_no_number(data: DataSet, tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        nobody = {**document["annotations"][0], "id": 900, "bbox": [0, 0, 0, 0], "keypoints": []}
        document["annotations"].append(nobody)
        for person in document["annotations"]:
            person |= {"iscrowd": None, "num_keypoints": 0, "id": float(person["id"])}

    odd = changed(data, tmp_path, change)
    out = tmp_path / "out"
    report = evaluate(estimator(data), odd.annotations, data.images, out=out)
    plain = evaluate(estimator(data), data.annotations, data.images)
    assert report.metrics == plain.metrics
    assert (report.persons, plain.notes) == (plain.persons, ())
    said: list[str] = []
    early = evaluate(
        *(estimator(data), odd.annotations, data.images),
        progress=lambda done, total: said.append(""),
        notify=said.append,
    )
    assert tuple(said[:2]) == early.notes == report.notes
    nobody, counts = report.notes
    assert nobody.startswith(f"{odd.annotations}: 1 annotation with neither keypoints nor a box")
    assert "num_keypoints" in counts
    assert json.loads((out / "metrics.json").read_bytes())["notes"] == list(report.notes)
    # Of a detections file, which has a box for nobody too.
    boxes = detections(data, tmp_path)
    assert (
        evaluate(estimator(data), odd.annotations, data.images, boxes).metrics
        == evaluate(estimator(data), data.annotations, data.images, boxes).metrics
    )


def test_an_area_that_is_absent_is_that_of_the_box(data: DataSet, tmp_path: Path) -> None:
    def area_of_box(document: dict[str, Any]) -> None:
        for person in document["annotations"]:
            person["area"] = person["bbox"][2] * person["bbox"][3]

    expected = evaluate(estimator(data), changed(data, tmp_path, area_of_box).annotations,
                        data.images)  # fmt: skip
    for area in ("absent", None, 0, -1):

        def change(document: dict[str, Any], area: Any = area) -> None:
            for person in document["annotations"]:
                person["area"] = area
                if area == "absent":
                    del person["area"]

        odd = changed(data, tmp_path, change)
        report = evaluate(estimator(data), odd.annotations, data.images)
        assert report.metrics == expected.metrics
        assert report.persons == expected.persons
        (note,) = report.notes
        assert "'area'" in note


@pytest.mark.parametrize("metric", ["auto", "AP", "PCK"])
def test_without_labels_there_is_no_metric(data: DataSet, tmp_path: Path, metric: str) -> None:
    def change(document: dict[str, Any]) -> None:
        for person in document["annotations"]:
            person["keypoints"] = [0] * 51

    unlabeled = changed(data, tmp_path, change)
    with refused("labels-missing", str(unlabeled.annotations), "num_keypoints"):
        evaluate(estimator(data), unlabeled.annotations, data.images, metric=metric)


def test_images_of_another_size_are_refused(data: DataSet, tmp_path: Path) -> None:
    def resized(document: dict[str, Any]) -> None:
        document["images"][2] |= {"width": 640, "height": 480}

    odd = changed(data, tmp_path, resized)
    with refused("size-differs", str(odd.annotations), "640 x 480", "320 x 240", "--scale"):
        evaluate(estimator(data), odd.annotations, data.images)


def test_more_persons_than_coco_counts(data: DataSet, tmp_path: Path) -> None:
    document = data.document()
    document["images"] = document["images"][:1]
    (person, *_) = document["annotations"]
    points, moved = np.reshape(person["keypoints"], (-1, 3)), np.array([9, 0, 0])
    document["annotations"] = [
        {**person, "id": n, "image_id": 1, "keypoints": (points + moved * n).ravel().tolist()}
        for n in range(1, 31)
    ]
    many = changed(data, tmp_path, lambda content: content.update(document))
    results = [
        {"image_id": 1, "category_id": 1, "keypoints": each["keypoints"], "score": 0.9}
        for each in document["annotations"]
    ]
    # 20 of 30 persons at most: precision is 1 up to a recall of 2/3, as in pycocotools.
    assert pytest.approx(67 / 101) == evaluate_keypoints(many.annotations, results).AP
    assert evaluate_keypoints(many.annotations, results, max_detections=30).AP == 1
    parsed = read_annotations(many.annotations)
    assert "--max-detections 30" in crowded_images(parsed)
    assert crowded_images(parsed, 30) == ""


def test_several_categories_are_chosen_from_or_read_as_one(data: DataSet, tmp_path: Path) -> None:
    document = data.document()
    (person,) = document["categories"]
    document["categories"] = [{**person, "id": n, "name": f"kind {n}"} for n in (1, 2)]
    for row, entry in enumerate(document["annotations"]):
        entry["category_id"] = 1 + row % 2
    annotations, out = tmp_path / "annotations.json", tmp_path / "out"
    annotations.write_text(json.dumps(document), encoding="utf-8")
    command = ["evaluate", "--annotations", str(annotations), "--images", str(data.images)]
    weights = write_tiny_weights(tmp_path / "tiny.onnx")
    command += ["--weights", str(weights), "--out", str(out)]
    check_refusal(CliRunner().invoke(app, command), "category-unknown", "--merge-categories")
    everyone = len(document["annotations"])
    for chosen, persons in (
        (["--merge-categories"], everyone),
        (["--category", "kind 2"], everyone // 2),
        (["--category", "1"], everyone - everyone // 2),
    ):
        done = CliRunner().invoke(app, [*command, *chosen])
        assert done.exit_code == 0, done.output
        assert json.loads((out / "metrics.json").read_bytes())["persons"] == persons
        analysis = [
            "analyze",
            str(out / "results.json"),
            "--annotations",
            str(annotations),
            *chosen,
        ]
        done = CliRunner().invoke(app, [*analysis, "--out", str(tmp_path / "analysis.html")])
        assert done.exit_code == 0, done.output


def test_no_detections(data: DataSet, tmp_path: Path) -> None:
    boxes = detections(data, tmp_path, score=0.1)
    boxes.write_text("[]")
    report = evaluate(estimator(data), data.annotations, data.images, boxes, tmp_path / "out")
    assert (report.persons, report.metrics["AP"]) == (0, 0)
    assert json.loads((tmp_path / "out" / "results.json").read_bytes()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"image_id": 99},
        {"image_id": [1]},
        {"bbox": [1, 2, 3]},
        {"bbox": [1, 2, float("nan"), 4]},
        {"bbox": [1, 2, 3, float("inf")]},
        {"score": None},
        {"score": float("nan")},
    ],
)
def test_bad_detections(data: DataSet, tmp_path: Path, changes: dict[str, Any]) -> None:
    boxes = detections(data, tmp_path, **changes)
    with refused("boxes-invalid", str(boxes), "entry 0"):
        evaluate(estimator(data), data.annotations, data.images, boxes, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "json-invalid"),
        ("{}", "boxes-invalid"),
        ("[1]", "boxes-invalid"),
        (None, "file-unreadable"),
    ],
)
def test_files_that_are_no_detections(
    data: DataSet, tmp_path: Path, content: str | None, code: str
) -> None:
    boxes = tmp_path / "boxes.json"
    if content is not None:
        boxes.write_text(content, encoding="utf-8")
    with refused(code, "boxes.json"):
        evaluate(estimator(data), data.annotations, data.images, boxes)


def test_weights_of_another_skeleton(data: DataSet) -> None:
    session = Oracle(data.annotations)
    session.metadata = Metadata(
        network="fish", input_wh=(192, 256), skeleton=Skeleton("fish", ("head", "tail"))
    )
    with refused("keypoints-differ", "head, tail"):
        evaluate(PoseEstimator(session), data.annotations, data.images)


@pytest.mark.parametrize("missing", [False, True])
def test_images_that_cannot_be_read(tmp_path: Path, missing: bool) -> None:
    data = DataSet(write_dataset(tmp_path / "set", 3, seed=0), tmp_path / "set" / "images")
    image = data.images / "000003.jpg"
    start = image.read_bytes()[:900]
    image.unlink()
    if not missing:
        image.write_bytes(start)
    with refused("file-unreadable" if missing else "image-damaged", "000003.jpg"):
        evaluate(estimator(data), data.annotations, data.images, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_oks_sigmas_the_metric_is_pck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations = write_dataset(tmp_path / "set", 2, seed=0, figure=ANIMAL)
    metadata = replace(METADATA, skeleton=ANIMAL.skeleton)
    weights = write_tiny_weights(tmp_path / "tiny.onnx", metadata)
    estimator = load(weights, detector="none")
    images = annotations.parent / "images"
    report = evaluate(estimator, annotations, images, out=tmp_path / "out")
    assert list(report.as_dict())[:4] == ["PCK@0.2", "PCK@0.1", "NME", "EPE"]
    assert "nms" not in report.as_dict()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results) == report.persons
    truth = load_persons(annotations)
    found = np.reshape([entry["keypoints"] for entry in results], (-1, 9, 3))
    by_hand = distances(found, truth.keypoints, truth.boxes)
    assert report.as_dict()["EPE"] == pytest.approx(by_hand.epe, abs=1e-2)
    assert "AP" in evaluate(estimator, annotations, images, metric="AP").as_dict()
    # Weights that carry sigmas are measured by them.
    with_sigmas = replace(metadata, skeleton=replace(ANIMAL.skeleton, sigmas=(0.08,) * 9))
    other = load(write_tiny_weights(tmp_path / "other.onnx", with_sigmas), detector="none")
    assert "AP" in evaluate(other, annotations, images).as_dict()
    # Reported before any prediction is made.
    monkeypatch.delattr("hrpose.evaluation.evaluate.predict")
    with refused("option-conflict", "PCK"):
        evaluate(estimator, annotations, images, "detector", metric="PCK")


def evaluator(annotations: Path, metric: str = "auto") -> Evaluator:
    parsed = read_annotations(annotations)
    return Evaluator.choose(parsed, parsed.persons(), metric)


def measured(chosen: Evaluator, moved: float = 0.0) -> dict[str, float]:
    """The metrics of the labels themselves, `moved` pixels to the right."""
    keypoints = chosen.table.keypoints.astype(float)
    keypoints[..., 0] += moved
    keypoints[..., 2] = 0.9
    return chosen.metrics(predicted(chosen, keypoints))


def predicted(chosen: Evaluator, keypoints: NDArray[np.float64]) -> Predictions:
    metadata = Metadata("w16-small", (64, 64), chosen.table.skeleton)
    return Predictions.of(metadata, ground_truth(chosen.table), keypoints)


def test_head_boxes_mean_pckh(tmp_path: Path) -> None:
    convert(write_mpii(tmp_path), tmp_path / "ours")
    chosen = evaluator(tmp_path / "ours" / "valid.json")
    assert chosen.table.skeleton is MPII_16
    assert chosen.primary == "PCKh"
    found = measured(chosen)
    assert list(found)[:3] == ["PCKh", "PCKh@0.1", "Head"]
    assert found["PCKh"] == found["PCKh@0.1"] == 100
    # Heads are 10 to 60 pixels wide and high: 4 pixels are within half of any.
    assert measured(chosen, 4)["PCKh"] == 100 > measured(chosen, 4)["PCKh@0.1"]


def test_persons_without_a_head_box_do_not_count(tmp_path: Path) -> None:
    convert(write_mpii(tmp_path), tmp_path / "ours")
    path = tmp_path / "ours" / "valid.json"
    document = json.loads(path.read_text())
    del document["annotations"][2]["head_box"]
    path.write_text(json.dumps(document))
    chosen = evaluator(path)
    keypoints = chosen.table.keypoints.astype(float)
    keypoints[2] += 1000
    assert chosen.metrics(predicted(chosen, keypoints))["PCKh"] == 100


def test_other_data_have_ap(tmp_path: Path) -> None:
    chosen = evaluator(write_dataset(tmp_path, 3, seed=0))
    assert chosen.table.skeleton is COCO_17
    assert chosen.primary == "AP"
    assert measured(chosen)["AP"] == pytest.approx(1)
    # MPII without head boxes.
    (tmp_path / "annot").mkdir()
    (tmp_path / "annot" / "train.json").write_text(json.dumps(entries(3)))
    (mpii,) = convert(tmp_path / "annot", tmp_path / "ours")
    assert evaluator(mpii.path).primary == "AP"


def test_auto_without_oks_sigmas_is_pck(tmp_path: Path) -> None:
    annotations = write_dataset(tmp_path, 3, seed=0, figure=ANIMAL)
    chosen = evaluator(annotations)
    assert (chosen.primary, chosen.more_is_better) == ("PCK@0.1", True)
    assert measured(chosen) == {"PCK@0.2": 100, "PCK@0.1": 100, "NME": 0, "EPE": 0}
    assert measured(chosen, 3)["EPE"] == pytest.approx(3)
    # On request there is an AP, with default sigmas.
    assert measured(evaluator(annotations, "AP"))["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("metric", "primary", "more"),
    [("AP", "AP", True), ("PCK", "PCK@0.1", True), ("NME", "NME", False), ("EPE", "EPE", False)],
)
def test_a_recipe_may_choose(tmp_path: Path, metric: str, primary: str, more: bool) -> None:
    chosen = evaluator(write_dataset(tmp_path, 2, seed=0), metric)
    assert (chosen.primary, chosen.more_is_better) == (primary, more)
    assert primary in measured(chosen)


@pytest.mark.parametrize("metric", ["auto", "AP", "PCKh", "PCK", "NME", "EPE"])
def test_mpii_may_be_scored_by_any_of_them(tmp_path: Path, metric: str) -> None:
    convert(write_mpii(tmp_path), tmp_path / "ours")
    chosen = evaluator(tmp_path / "ours" / "valid.json", metric)
    assert chosen.primary == {"auto": "PCKh", "PCK": "PCK@0.1"}.get(metric, metric)
    assert chosen.primary in measured(chosen)


def test_pckh_needs_heads(tmp_path: Path) -> None:
    with refused("metric-unavailable", "PCKh"):
        evaluator(write_dataset(tmp_path, 2, seed=0), "PCKh")


def test_pairs_need_the_labeled_boxes(tmp_path: Path) -> None:
    annotations = write_dataset(tmp_path, 3, seed=0, figure=ANIMAL)
    parsed = read_annotations(annotations)
    for metric in ("PCK", "NME", "EPE"):
        with refused("option-conflict", metric):
            Evaluator.choose(parsed, parsed.persons(), metric, paired=False)
    # A detector's boxes are compared by AP, whatever the sigmas.
    chosen = Evaluator.choose(parsed, parsed.persons(), paired=False)
    assert chosen.primary == "AP"
    assert list(measured(chosen)) == COCO_METRICS


def test_predictions_of_other_persons(tmp_path: Path) -> None:
    chosen = evaluator(write_dataset(tmp_path, 3, seed=0))
    metadata = Metadata("w16-small", (64, 64), chosen.table.skeleton)
    some = chosen.table.select(slice(1, None))
    with pytest.raises(ValueError, match="expected one for each of"):
        chosen.metrics(Predictions.of(metadata, ground_truth(some), some.keypoints))
    with pytest.raises(ValueError, match="rows of keypoints"):
        Predictions.of(metadata, ground_truth(some), chosen.table.keypoints)


class OracleDetector:
    """Returns the boxes of a data set, whose images it recognizes by their pixels."""

    name = "oracle"

    def __init__(self, data: DataSet, empty: bool = False) -> None:
        table = load_persons(data.annotations)
        self.boxes = {}
        for row, name in enumerate(table.file_names):
            pixels = read_image(data.images / name.decode()).tobytes()
            boxes = table.boxes[(table.image_index == row) & (not empty)]
            self.boxes[pixels] = Boxes(boxes, np.ones(len(boxes)))

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        return self.boxes[image.tobytes()]


def test_a_perfect_detector_equals_the_ground_truth(data: DataSet, tmp_path: Path) -> None:
    labeled = evaluate(PoseEstimator(Oracle(data.annotations)), data.annotations, data.images)
    detected = evaluate(
        PoseEstimator(Oracle(data.annotations), detector=OracleDetector(data)),
        data.annotations,
        data.images,
        "detector",
        tmp_path,
    )
    # The distances need the labeled boxes.
    assert labeled.metrics.items() - detected.metrics.items() == {
        (name, labeled.metrics[name]) for name in DISTANCES
    }
    assert detected.persons == labeled.persons
    assert detected.boxes == "detector: oracle"
    assert json.loads((tmp_path / "metrics.json").read_bytes())["boxes"] == detected.boxes


def test_a_detector_without_boxes_scores_nothing(data: DataSet) -> None:
    estimator = PoseEstimator(Oracle(data.annotations), detector=OracleDetector(data, empty=True))
    report = evaluate(estimator, data.annotations, data.images, "detector")
    assert report.persons == 0
    # Images without detections count: their persons are missed.
    assert report.images == 6
    assert report.metrics["AP"] == 0


def test_no_pose_is_left_out_of_an_evaluation(data: DataSet) -> None:
    """A minimum score, even the highest, does not change the metrics."""
    reports = [
        evaluate(
            PoseEstimator(Oracle(data.annotations), detector=OracleDetector(data), min_score=least),
            data.annotations,
            data.images,
            "detector",
        )
        for least in (None, 1.0)
    ]
    assert reports[0].metrics == reports[1].metrics
    assert reports[0].persons == reports[1].persons > 0
