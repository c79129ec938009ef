import copy
import json
import subprocess
import sys

import numpy as np
import pytest

from golden_rules import GOLDEN
from hrpose.data.coco import CocoResults, read_annotations, read_results
from hrpose.metrics.coco import evaluate_keypoints, select_results, to_results, write_results
from hrpose.skeleton import DEFAULT_SIGMA
from refusals import refused

TRUTH = GOLDEN / "fakekeypoints100_ground_truth.json"
RESULTS = GOLDEN / "fakekeypoints100_results.json"


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


def test_ten_metrics_and_nothing_printed(capfd):
    scores = evaluate_keypoints(TRUTH, RESULTS).as_dict()
    assert list(scores) == ["AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"]
    assert capfd.readouterr() == ("", "")


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
    truth["annotations"][0]["id"] = 0  # which the evaluator reserves
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
    with refused("annotations-invalid", "fakekeypoints100_results"):
        evaluate_keypoints(parsed, wrong)


INVALID = [
    (lambda t, r: r[0].update(image_id=99), "99"),
    (lambda t, r: r[0].update(keypoints=[1, 2, 3]), "result 0: 'keypoints'"),
    (lambda t, r: r[0].update(keypoints=None), "result 0: 'keypoints'"),
    (lambda t, r: r[0].update(keypoints=["a"] * 51), "result 0: 'keypoints'"),
    (lambda t, r: r[0].update(keypoints=5), "result 0: 'keypoints'"),
    (lambda t, r: r[0].update(score=float("nan")), "result 0: 'score'"),
    (lambda t, r: r[0].pop("score"), "result 0: 'score'"),
    (lambda t, r: r[0].update(image_id=[1]), "result 0: 'image_id'"),
    (lambda t, r: r.append(3), "results"),
    (lambda t, r: t["images"][0].update(id="a"), "image_id 1 is not in"),
    (lambda t, r: t["annotations"][0].update(image_id={}), "annotation 1: 'image_id'"),
    (lambda t, r: t["annotations"][0].update(keypoints="all"), "annotation 1: 'keypoints'"),
    (lambda t, r: t["categories"][0].pop("id"), "'categories'"),
    (lambda t, r: t["categories"].append(5), "'categories'"),
    (lambda t, r: t["categories"][0].update(keypoints=["a", "a"]), "'categories'"),
    (lambda t, r: t["categories"][0].update(keypoints=5), "'categories'"),
    (lambda t, r: t.update(images=5), "'images'"),
    (lambda t, r: t.update(annotations={}), "'annotations'"),
    (lambda t, r: t["categories"][0].pop("keypoints"), "'categories'"),
    (lambda t, r: t.pop("images"), "'images'"),
]


@pytest.mark.parametrize(("edit", "mention"), INVALID)
def test_entries_that_do_not_fit_are_named(random_coco, edit, mention):
    truth, results = random_coco(0)
    edit(truth, results)
    with refused("annotations-invalid", mention):
        evaluate_keypoints(truth, results)


def test_files_that_cannot_be_read(tmp_path):
    with refused("file-unreadable", "none.json"):
        evaluate_keypoints(tmp_path / "none.json", [])
    for name, content in (("bad.json", "{"), ("deep.json", "[" * 100_000)):
        (tmp_path / name).write_text(content)
        with refused("json-invalid", name):
            evaluate_keypoints(TRUTH, tmp_path / name)
    with refused("annotations-invalid", "fakekeypoints100"):
        evaluate_keypoints(RESULTS, TRUTH)


def test_importing_metrics_does_not_import_the_evaluator():
    code = (
        "import sys, hrpose.metrics, hrpose.metrics.coco, hrpose.metrics.pck\n"
        "assert not {'torch', 'faster_coco_eval'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
