"""CrowdPose, OCHuman, COCO-WholeBody and PoseTrack18 by the values of their own tools, which
`python -m tools.benchmark_metrics --golden tests/golden/benchmarks.json` records; the commands.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tools.benchmark_files import OCHUMAN_19
from tools.benchmark_metrics import BENCHMARKS, write
from typer.testing import CliRunner, Result

from evaluation.oracle import Oracle
from golden_rules import GOLDEN
from hrpose.cli.main import app
from hrpose.data.coco import CocoAnnotations, load_persons, read_annotations
from hrpose.data.rules import NUM_KEYPOINTS
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.evaluate import Evaluator, evaluate
from hrpose.evaluation.predictions import Predictions, ground_truth
from hrpose.metrics.benchmarks import PARTS, read_wholebody
from hrpose.metrics.posetrack import average_precision, inside, track
from hrpose.skeletons import POSETRACK18_17, WHOLEBODY_133
from refusals import check_refusal, refused
from tiny_weights import METADATA

Files = dict[str, Path]
NAMES = {
    "crowdpose": "CrowdPose",
    "ochuman": "OCHuman",
    "coco_wholebody": "COCO-WholeBody",
    "posetrack18": "PoseTrack18",
}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def facts(*arguments: object) -> Any:
    done = run(*arguments, "--json", "--quiet")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_values_are_those_of_the_benchmarks_own_tool(name: str, tmp_path: Path) -> None:
    write(name, 0, tmp_path)
    theirs = json.loads((GOLDEN / "benchmarks.json").read_text())[name]
    assert BENCHMARKS[name].ours(tmp_path) == pytest.approx(theirs, abs=1e-9, nan_ok=True)
    assert len(set(theirs.values())) > len(theirs) / 2


@pytest.fixture
def files(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """The annotations of a benchmark as the user converts them, and results."""

    def made(name: str) -> tuple[Path, Path]:
        write(name, 0, tmp_path)
        source, results = tmp_path / "truth.json", tmp_path / "results.json"
        if name == "posetrack18":
            source = tmp_path / "clips"
            source.mkdir()
            for row, clip in enumerate(json.loads((tmp_path / "truth.json").read_text())):
                (source / f"{row:06d}.json").write_text(json.dumps(clip))
            found = json.loads(results.read_text())
            results.write_text(json.dumps([e for clip in found for e in clip["annotations"]]))
        out = tmp_path / "converted"
        facts("data", "convert", name.replace("_", "-"), source, "--out", out)
        (path,) = out.iterdir()
        return path, results

    return made


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_command_converts_recognizes_and_measures(
    name: str, files: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    truth, results = files(name)
    out = tmp_path / "measured"
    command = ("evaluate", "--annotations", truth, "--results", results)
    found = facts(*command, "--out", out)
    written = json.loads((out / "metrics.json").read_text())
    assert written["benchmark"] == NAMES[name]
    assert found["primary"] == "AP"
    theirs = json.loads((GOLDEN / "benchmarks.json").read_text())[name]
    if name == "posetrack18":
        keypoints = [value for key, value in theirs.items() if key.startswith("MOTA ")]
        assert found["metrics"]["MOTA"] == pytest.approx(np.mean(keypoints))
        ankles = (theirs["AP right_ankle"] + theirs["AP left_ankle"]) / 2
        assert found["metrics"]["AP ankle"] == pytest.approx(ankles)
    elif name == "coco_wholebody":
        assert found["metrics"]["AP"] == pytest.approx(theirs["whole AP"])
        assert found["metrics"]["face AR"] == pytest.approx(theirs["face AR"])
    else:
        level = "AP hard"
        assert found["metrics"]["AP"] == pytest.approx(theirs["AP"])
        assert found["metrics"][level] == pytest.approx(theirs[level], abs=1e-4)
    # The same file by COCO's rules.
    plain = facts(*command, "--metric", "AP")["metrics"]
    assert "APM" in plain
    assert plain["AP"] != found["metrics"]["AP"] or name in ("ochuman", "coco_wholebody")


def test_a_benchmark_needs_its_own_annotations(files: Callable[[str], tuple[Path, Path]]) -> None:
    truth, results = files("crowdpose")
    command = ("evaluate", "--annotations", truth, "--results", results)
    for name in ("OCHuman", "COCO-WholeBody", "PoseTrack18"):
        check_refusal(run(*command, "--metric", name), "metric-unavailable", str(truth), name)
    check_refusal(run(*command, "--metric", "PCKh"), "option-invalid", "PCKh")
    check_refusal(run(*command, "--images", "images"), "option-conflict", "--images")
    check_refusal(run(*command[:3]), "option-conflict", "--images")
    check_refusal(run(*command, "--weights", "w32-small"), "option-conflict", "--weights")


def test_validation_measures_the_benchmark_too(files: Callable[[str], tuple[Path, Path]]) -> None:
    truth, _ = files("crowdpose")
    parsed, table = read_annotations(truth), load_persons(truth)
    evaluator = Evaluator.choose(parsed, table)
    assert evaluator.metric == "CrowdPose"
    labels = Predictions(ground_truth(table), table.keypoints, np.ones(len(table)))
    measured = evaluator.metrics(labels)
    assert measured["AP easy"] == pytest.approx(1)
    # CrowdPose counts visible keypoints, which is no fault of its files.
    assert any(note.kind is NUM_KEYPOINTS for note in table.notes)
    assert not any(note.kind is NUM_KEYPOINTS for note in evaluator.notes)


def test_sizes_of_crowdpose_are_corrected(tmp_path: Path) -> None:
    write("crowdpose", 1, tmp_path)
    (tmp_path / "images").mkdir()
    document = json.loads((tmp_path / "truth.json").read_text())
    for image in document["images"]:
        image["width"], image["height"] = 30, 50
        Image.new("RGB", (50, 30)).save(tmp_path / "images" / image["file_name"])
    (tmp_path / "truth.json").write_text(json.dumps(document))
    options = ("--out", tmp_path / "out", "--images", tmp_path / "images")
    (done,) = facts("data", "convert", "crowdpose", tmp_path / "truth.json", *options)["sets"]
    assert done["resized"] == done["images"] == len(document["images"])
    # Another folder holds none of them.
    (tmp_path / "others").mkdir()
    wrong = ("--out", tmp_path / "again", "--images", tmp_path / "others")
    done = run("data", "convert", "crowdpose", tmp_path / "truth.json", *wrong)
    check_refusal(done, "images-missing", "others")
    converted = json.loads((tmp_path / "out" / "truth.json").read_text())
    assert {(i["width"], i["height"]) for i in converted["images"]} == {(50, 30)}
    assert converted["images"][0]["crowdIndex"] == document["images"][0]["crowdIndex"]


def test_ochuman_is_divided_after_2500_images(tmp_path: Path) -> None:
    person = {
        "bbox": [1, 2, 11, 22],
        "keypoints": [5.0, 6.0, 3.0] * len(OCHUMAN_19),
        "segms": {"outer": []},
        "max_iou": 0.6,
    }
    size = {"width": 20, "height": 30}
    images = [
        {"image_id": 3000 - i, "file_name": f"{i}.jpg", **size, "annotations": [person]}
        for i in range(2502)
    ]
    path = tmp_path / "ochuman.json"
    path.write_text(json.dumps({"keypoint_names": OCHUMAN_19, "images": images}))
    sets = facts("data", "convert", "ochuman", path, "--out", tmp_path / "out")["sets"]
    assert [(Path(s["file"]).name, s["persons"]) for s in sets] == [
        ("val.json", 2500),
        ("test.json", 2),
    ]
    test = json.loads((tmp_path / "out" / "test.json").read_text())
    # By image id, numbered anew; hidden by others is COCO's hidden.
    assert [image["file_name"] for image in test["images"]] == ["1.jpg", "0.jpg"]
    (first, _) = test["annotations"]
    assert first["keypoints"][:3] == [5, 6, 1]
    assert first["bbox"] == [1, 2, 10, 20]


@pytest.mark.parametrize(
    ("name", "edit", "mention"),
    [
        ("crowdpose", lambda d: d["images"][2].update(crowdIndex="much"), "crowdIndex"),
        ("ochuman", lambda d: d.pop("keypoint_names"), "keypoint_names"),
        ("ochuman", lambda d: d["images"][0].update(annotations=[{}]), "annotations"),
        ("ochuman", lambda d: d.update(images=[]), "'images'"),
        ("coco_wholebody", lambda d: d["annotations"][1].pop("face_kpts"), "face_kpts"),
        ("posetrack18", lambda d: d[0]["images"][1].update(id=10000), "10000"),
        ("posetrack18", lambda d: [p.pop("bbox_head") for p in d[0]["annotations"]], "bbox_head"),
    ],
)  # fmt: skip
def test_entries_that_do_not_fit_are_named(
    name: str, edit: Callable[[Any], object], mention: str, tmp_path: Path
) -> None:
    write(name, 0, tmp_path)
    source = tmp_path / "truth.json"
    document = json.loads(source.read_text())
    edit(document)
    source.write_text(json.dumps(document[0] if name == "posetrack18" else document))
    done = run("data", "convert", name.replace("_", "-"), source, "--out", tmp_path / "out")
    check_refusal(done, "annotations-invalid", str(source), mention)
    assert not (tmp_path / "out").exists()


def test_posetrack_needs_heads_and_its_keypoints(files: Callable[[str], tuple[Path, Path]]) -> None:
    truth, results = files("posetrack18")
    document = json.loads(truth.read_text())
    without = dict(document["annotations"][5])
    del without["bbox_head"]
    broken = {**document, "annotations": [*document["annotations"][:5], without]}
    from hrpose.metrics.posetrack import posetrack18

    with refused("annotations-invalid", "bbox_head"):
        posetrack18(CocoAnnotations(truth, broken, sized=False), [])
    region = {**document["images"][0], "ignore_regions_x": [[1, 2, 3]]}
    for y in ([], [[1, 2]], [[1, 2, float("nan")]], 7):
        images = [{**region, "ignore_regions_y": y}, *document["images"][1:]]
        with refused("annotations-invalid", "10000"):
            posetrack18(CocoAnnotations(truth, {**document, "images": images}, sized=False), [])
    wild = {**json.loads(results.read_text())[0], "scores": [1]}
    with refused("annotations-invalid", "scores"):
        posetrack18(CocoAnnotations(truth, document, sized=False), [wild])
    names = [*document["categories"][0]["keypoints"][:-1], "tail"]
    other = {**document, "categories": [{**document["categories"][0], "keypoints": names}]}
    with refused("annotations-invalid", "right_ankle"):
        posetrack18(CocoAnnotations(truth, other, sized=False), [])
    # Ids of tracks may be texts of numbers, but no names, and all poses have one or none.
    poses = json.loads(results.read_text())
    given = posetrack18(CocoAnnotations(truth, document, sized=False), poses)
    texts = [{**pose, "track_id": str(pose["track_id"])} for pose in poses]
    measured = posetrack18(CocoAnnotations(truth, document, sized=False), texts)
    assert measured["MOTA"].total == given["MOTA"].total
    for track_id, mention in (("anna", "anna"), (None, "1 poses without")):
        with refused("annotations-invalid", "track_id", mention):
            wrong = [{**poses[0], "track_id": track_id}, *poses[1:]]
            posetrack18(CocoAnnotations(truth, document, sized=False), wrong)
    # Without any there is AP alone.
    poses = [{k: v for k, v in pose.items() if k != "track_id"} for pose in poses]
    results.write_text(json.dumps(poses))
    measured = facts("evaluate", "--annotations", truth, "--results", results)["metrics"]
    assert "AP" in measured
    assert "MOTA" not in measured


def test_weights_are_measured_on_clips_with_tracks(tmp_path: Path) -> None:
    # Two persons who walk past each other, the labels as predictions.
    rest = np.array([[40.0 * (i % 3), 20.0 * (i // 3)] for i in range(len(POSETRACK18_17))])
    images, labels = [], []
    for clip, frame in np.ndindex(2, 8):
        image_id = 100 * clip + frame
        name = f"{clip}/{frame}.jpg"
        image = {"id": image_id, "vid_id": str(clip), "file_name": name}
        images.append({**image, "width": 900, "height": 400})
        for person in (0, 1):
            start = np.array([10 + 600 * person + 4 * frame * (1 - 2 * person), 50 + 100 * person])
            points = rest + start
            values = np.column_stack([points, np.full(len(points), 2)])
            values[3:5] = 0
            label = {"id": len(labels) + 1, "image_id": image_id, "category_id": 1, "area": 9000}
            box = [*points.min(axis=0).tolist(), 80.0, 100.0]
            labels.append(
                {
                    **label,
                    "bbox": box,
                    "bbox_head": [0, 0, 24, 32],
                    "track_id": person + 1,
                    "keypoints": values.ravel().tolist(),
                }
            )
    category = POSETRACK18_17.to_coco_category()
    document = {"images": images, "annotations": labels, "categories": [category]}
    path = tmp_path / "posetrack.json"
    path.write_text(json.dumps(document))
    parsed, table = read_annotations(path), load_persons(path)
    evaluator = Evaluator.choose(parsed, table)
    assert evaluator.metric == "PoseTrack18"
    labeled = table.keypoints.copy()
    labeled[..., 2] = labeled[..., 2] > 0
    predictions = Predictions(ground_truth(table), labeled, np.full(len(table), 9000.0))
    results = evaluator.results(predictions)
    assert len({result["track_id"] for result in results}) == 2
    measured = evaluator.metrics(predictions, results)
    assert measured["MOTA"] == measured["IDF1"] == measured["AP"] == 100
    # Another person's track from the fourth image on.
    for result in results:
        if result["image_id"] % 100 > 3:
            result["track_id"] = 3 - result["track_id"]
    assert evaluator.ranked(results)["MOTA"] < 90


def test_whole_body_weights_need_no_conversion(tmp_path: Path) -> None:
    write("coco_wholebody", 0, tmp_path)
    source = tmp_path / "truth.json"
    document = json.loads(source.read_text())
    document["images"] = document["images"][:4]
    document["annotations"] = [p for p in document["annotations"] if p["image_id"] <= 4]
    source.write_text(json.dumps(document))
    (tmp_path / "images").mkdir()
    for image in document["images"]:
        Image.new("RGB", (640, 640)).save(tmp_path / "images" / image["file_name"])
    joined = tmp_path / "joined.json"
    joined.write_text(json.dumps(read_wholebody(source)["truth"]))
    oracle = Oracle(joined, replace(METADATA, skeleton=WHOLEBODY_133))
    report = evaluate(PoseEstimator(oracle), source, tmp_path / "images")
    assert report.metric == "COCO-WholeBody"
    assert set(PARTS) == {n.removesuffix(" AR") for n in report.metrics if n.endswith(" AR")}
    assert report.metrics["body AR"] > 0.5


points = st.integers(0, 6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(points, points), min_size=3, max_size=7, unique=True))
def test_inside_is_that_of_opencv(polygon: list[tuple[int, int]]) -> None:
    grid = np.stack(np.meshgrid(np.arange(7), np.arange(7), indexing="ij"), axis=-1)
    ours = inside(grid.astype(float), np.array(polygon, float))
    contour = np.array(polygon, np.float32)[:, None]
    for x, y in np.ndindex(7, 7):
        expected = cv2.pointPolygonTest(contour, (float(x), float(y)), False) > 0
        assert ours[x, y] == expected, (x, y)


def test_tracks_by_hand() -> None:
    far, near = np.nan, 0.1
    frames = [
        ([1, 2], [7, 8], np.array([[near, far], [far, near]])),
        # Persons change their ids: two switches.
        ([1, 2], [7, 8], np.array([[far, near], [near, far]])),
        # Both are within reach of both: the pairs of the image before stay, though farther apart.
        ([1, 2], [7, 8], np.array([[near, 0.4], [0.4, near]])),
        ([1, 2], [9], np.array([[far], [far]])),
    ]
    counts = track(frames)
    assert (counts.objects, counts.predictions) == (8, 7)
    assert (counts.matches, counts.switches) == (6, 2)
    assert (counts.misses, counts.false_positives) == (2, 1)
    assert counts.matched_distance == pytest.approx(4 * near + 2 * 0.4)
    assert counts.idtp == 4


def test_average_precision_by_hand() -> None:
    scores, right = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, True])
    area, precision, recall = average_precision(scores, right, 4)
    assert area == pytest.approx(0.25 * 1 + 0.5 * 0.75)
    assert (precision, recall) == (0.75, 0.75)
    assert average_precision(np.zeros(0), np.zeros(0, bool), 4) == (0, 0, 0)


def test_results_of_the_whole_body_need_no_conversion(
    files: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    truth, results = files("coco_wholebody")
    command = ("--results", results, "--metric", "COCO-WholeBody")
    converted = facts("evaluate", "--annotations", truth, *command)
    raw = facts("evaluate", "--annotations", tmp_path / "truth.json", *command)
    assert raw["metrics"] == converted["metrics"]


def test_results_without_poses_or_of_other_categories_are_told(
    files: Callable[[str], tuple[Path, Path]],
) -> None:
    truth, results = files("crowdpose")
    poses = json.loads(results.read_text())
    for some, words in (
        ([], "no poses"),
        ([{**poses[0], "category_id": 7}, *poses[1:]], f"1 of {len(poses)} poses are not of"),
    ):
        results.write_text(json.dumps(some))
        done = run("evaluate", "--annotations", truth, "--results", results)
        assert done.exit_code == 0
        assert words in " ".join(done.output.split())
