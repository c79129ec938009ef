import copy
import json
import subprocess
import sys

import numpy as np
import pytest

from golden_rules import GOLDEN
from hrpose.data.coco import CocoResults, read_annotations, read_results
from hrpose.errors import UserError
from hrpose.metrics.coco import evaluate_keypoints, select_results, to_results, write_results
from hrpose.skeleton import DEFAULT_SIGMA

TRUTH = GOLDEN / "fakekeypoints100_ground_truth.json"
RESULTS = GOLDEN / "fakekeypoints100_results.json"
FIGURES = {
    "AP": 0.372,
    "AP50": 0.636,
    "AP75": 0.348,
    "APM": 0.384,
    "APL": 0.386,
    "AR": 0.514,
    "AR50": 0.734,
    "AR75": 0.504,
    "ARM": 0.508,
    "ARL": 0.522,
}


def pycocotools(truth, results, sigmas=None):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    index = COCO()
    index.dataset = copy.deepcopy(truth)
    index.createIndex()
    evaluation = COCOeval(index, index.loadRes(copy.deepcopy(results)), "keypoints")
    if sigmas is not None:
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats


def test_coco_example_gives_its_ten_figures(capfd):
    scores = evaluate_keypoints(TRUTH, RESULTS).as_dict()
    assert list(scores) == list(FIGURES)
    assert {name: round(value, 3) for name, value in scores.items()} == FIGURES
    assert capfd.readouterr() == ("", "")


def test_pycocotools_agrees_on_the_example():
    truth, results = (json.loads(path.read_text()) for path in (TRUTH, RESULTS))
    ours = list(evaluate_keypoints(truth, results).as_dict().values())
    assert ours == pytest.approx(pycocotools(truth, results), abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_pycocotools_agrees_on_made_up_results(random_coco, seed):
    truth, results = random_coco(seed)
    ours = list(evaluate_keypoints(truth, results).as_dict().values())
    assert ours == pytest.approx(pycocotools(truth, results), abs=1e-9)
    assert 0 < ours[0] < 1


def test_other_skeletons_bring_their_sigmas(random_coco):
    truth, results = random_coco(7, keypoints=5)
    ours = list(evaluate_keypoints(truth, results).as_dict().values())
    assert ours == pytest.approx(pycocotools(truth, results, [DEFAULT_SIGMA] * 5), abs=1e-9)
    wide = evaluate_keypoints(truth, results, sigmas=[0.2] * 5)
    expected = pycocotools(truth, results, [0.2] * 5)
    assert list(wide.as_dict().values()) == pytest.approx(expected, abs=1e-9)


def test_arguments_stay_as_they_are(random_coco):
    truth, results = random_coco(0)
    truth["annotations"][0]["id"] = 0  # an id that the evaluator would take for "nobody"
    before = copy.deepcopy((truth, results))
    evaluate_keypoints(truth, results)
    assert (truth, results) == before


def test_no_results_score_zero(random_coco):
    truth, _ = random_coco(0)
    assert set(evaluate_keypoints(truth, []).as_dict().values()) == {0.0}


def test_no_persons_is_minus_one_as_in_coco(random_coco):
    truth, results = random_coco(0)
    scores = evaluate_keypoints({**truth, "annotations": []}, results)
    assert set(scores.as_dict().values()) == {-1.0}


def test_only_the_given_images_count(random_coco):
    truth, results = random_coco(3)
    chosen = {2, 3, 5}
    part = {
        "images": [entry for entry in truth["images"] if entry["id"] in chosen],
        "annotations": [entry for entry in truth["annotations"] if entry["image_id"] in chosen],
        "categories": truth["categories"],
    }
    own = [entry for entry in results if entry["image_id"] in chosen]
    assert evaluate_keypoints(truth, results, image_ids=chosen) == evaluate_keypoints(part, own)


def test_a_box_in_the_results_changes_nothing(random_coco):
    truth, results = random_coco(1)
    boxed = [{**entry, "bbox": [0, 0, 1, 1]} for entry in results]
    assert evaluate_keypoints(truth, boxed) == evaluate_keypoints(truth, results)


def test_select_results_drops_repeats_per_image():
    poses = np.zeros((4, 17, 3), np.float32)
    poses[..., 0] = np.arange(17) * 10
    poses[..., 2] = [[0.9], [0.8], [0.7], [0.6]]
    results = select_results([7, 7, 5, 7], poses, [0.5, 1, 1, 0.1], [1e4] * 4)
    assert [(entry["image_id"], round(entry["score"], 4)) for entry in results] == [
        (5, 0.7),
        (7, 0.8),
    ]
    soft = select_results([7, 7, 5, 7], poses, [0.5, 1, 1, 0.1], [1e4] * 4, soft=True)
    assert len(soft) == 4


def test_results_file_round_trip(tmp_path):
    poses = np.random.default_rng(0).uniform(0, 500, (3, 17, 3))
    results = to_results(np.array([1, 1, 2]), poses, [0.3, 0.2, 0.1])
    write_results(tmp_path / "results.json", results)
    read = json.loads((tmp_path / "results.json").read_text())
    assert read == results
    assert list(read[0]) == ["image_id", "category_id", "keypoints", "score"]
    assert np.reshape(read[2]["keypoints"], (17, 3)) == pytest.approx(poses[2], abs=6e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"score": float("nan")},
        {"score": float("-inf")},
        {"keypoints": [1.0, float("nan"), 0.5]},
        {"keypoints": [[1.0, 2.0, float("inf")]]},
    ],
)
def test_results_that_are_not_finite_are_not_written(tmp_path, changes):
    results = to_results([1, 2], np.zeros((2, 17, 3)), [0.3, 0.2])
    results[1].update(changes)
    with pytest.raises(ValueError, match="result 1: expected finite numbers"):
        write_results(tmp_path / "results.json", results)
    assert list(tmp_path.iterdir()) == []


def test_what_only_looks_like_nan_is_written(tmp_path):
    (entry,) = to_results([1], np.zeros((1, 17, 3)), [0.3])
    results = [{**entry, "file_name": "null.jpg", "track_id": None}]
    write_results(tmp_path / "results.json", results)
    assert json.loads((tmp_path / "results.json").read_text()) == results


def test_a_parsed_file_is_as_good_as_its_path():
    parsed, poses = read_annotations(TRUTH), read_results(RESULTS)
    assert evaluate_keypoints(parsed, poses) == evaluate_keypoints(TRUTH, RESULTS)
    wrong = CocoResults(RESULTS, [3])
    with pytest.raises(UserError, match="fakekeypoints100_results"):
        evaluate_keypoints(parsed, wrong)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t, r: r[0].update(image_id=99), "results: image_id 99 is not in ground truth"),
        (lambda t, r: r[0].update(keypoints=[1, 2, 3]), "expected 51 keypoint numbers.*found 3"),
        (lambda t, r: r[0].update(keypoints=None), "expected 51 keypoint numbers.*found 0"),
        (lambda t, r: r[0].update(keypoints=["a"] * 51), "must be numbers"),
        (lambda t, r: r[0].update(score=float("nan")), "image 1: expected finite"),
        (lambda t, r: r[0].pop("score"), r"result 0: expected .*missing \['score'\]"),
        (lambda t, r: r.append(3), "missing a JSON object"),
        (lambda t, r: t["annotations"][0].pop("area"), r"ground truth: person 0.*\['area'\]"),
        (lambda t, r: t["images"][0].update(id="a"), "image 0: expected a whole number as id"),
        (lambda t, r: r[0].update(image_id=[1]), "result 0: expected a whole number as image_id"),
        (lambda t, r: r[0].update(keypoints=5), "expected 51 keypoint numbers.*found 0"),
        (lambda t, r: t["annotations"][0].update(image_id={}), "annotation 0: expected a whole"),
        (lambda t, r: t["annotations"][0].update(area="big"), "expected numbers as area"),
        (lambda t, r: t["annotations"][0].update(iscrowd=[1]), "expected numbers as area"),
        (lambda t, r: t["categories"][0].pop("id"), r"category 0: expected id, missing \['id'\]"),
        (lambda t, r: t["categories"].append(5), "category 1: .*missing a JSON object"),
        (lambda t, r: t["categories"][0].update(keypoints=["a", "a"]), "no name twice"),
        (lambda t, r: t["categories"][0].update(keypoints=5), "'categories': "),
        (lambda t, r: t.update(images=5), "expected a list of each image, found int"),
        (lambda t, r: t.update(annotations={}), "expected a list of each annotation, found dict"),
        (lambda t, r: t["categories"][0].pop("keypoints"), "expected a category with keypoints"),
        (lambda t, r: t.pop("images"), r"missing \['images'\]"),
    ],
)
def test_what_does_not_fit_is_named(random_coco, edit, message):
    truth, results = random_coco(0)
    edit(truth, results)
    with pytest.raises(UserError, match=message):
        evaluate_keypoints(truth, results)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match=r"none\.json: cannot be read"):
        evaluate_keypoints(tmp_path / "none.json", [])
    with pytest.raises(UserError, match=r"bad\.json: expected JSON, found"):
        evaluate_keypoints(TRUTH, tmp_path / "bad.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"deep\.json: expected JSON, found"):
        evaluate_keypoints(TRUTH, tmp_path / "deep.json")
    with pytest.raises(UserError, match="other way round"):
        evaluate_keypoints(RESULTS, TRUTH)


def test_the_room_opens_without_the_evaluator():
    code = (
        "import sys, hrpose.metrics, hrpose.metrics.coco, hrpose.metrics.pckh\n"
        "assert not {'torch', 'faster_coco_eval'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
