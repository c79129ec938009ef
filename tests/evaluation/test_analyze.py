"""The analysis finds planted errors, and without them the AP is 1."""

import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.known_errors import Case, write_case
from hrpose.data.coco import read_results
from hrpose.evaluation import error_analysis
from hrpose.evaluation.analyze import Analysis, analyze
from hrpose.evaluation.error_analysis import (
    ERRORS,
    KINDS,
    keypoint_errors,
    read_predicted,
    read_truth,
)
from hrpose.metrics.coco import evaluate_keypoints
from refusals import refused


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return write_case(tmp_path_factory.mktemp("known"))


@pytest.fixture(scope="module")
def analysis(case: Case) -> Analysis:
    return analyze(case.results, case.annotations)


def test_every_keypoint_is_classified_as_it_was_made(case: Case) -> None:
    truth = read_truth(case.annotations)
    predicted = read_predicted(read_results(case.results), truth)
    matches = error_analysis.match(truth, predicted)
    kinds = keypoint_errors(truth, predicted, matches).kinds[np.argsort(matches.persons)]
    assert (kinds == case.kinds).mean() > 0.999


def test_the_shares_are_those_planted(case: Case, analysis: Analysis) -> None:
    labeled = (case.kinds >= 0).sum()
    for kind in KINDS:
        share = (case.kinds == kind).sum() / labeled
        assert share > 0.03
        assert analysis.all_keypoints.shares[kind.name.lower()] == pytest.approx(share, abs=0.02)
    for keypoint, part in enumerate(analysis.keypoints.values()):
        column = case.kinds[:, keypoint]
        assert part.keypoints == (column >= 0).sum()
        for kind in KINDS:
            share = (column == kind).sum() / part.keypoints
            assert part.shares[kind.name.lower()] == pytest.approx(share, abs=0.02)
    counts = analysis.counts
    assert (counts.missed, counts.background) == (case.missed, case.background)
    assert counts.repeats == case.repeats > 0
    assert counts.persons == 300
    assert sum(part.keypoints for part in analysis.sizes.values()) == labeled
    assert analysis.sizes["small"].keypoints == 0
    assert analysis.sizes["medium"].keypoints > 1000


def test_correcting_everything_gives_an_ap_of_1(case: Case, analysis: Analysis) -> None:
    assert analysis.scores == evaluate_keypoints(case.annotations, case.results)
    assert 0.05 < analysis.scores.AP < 0.6
    assert [gain.error for gain in analysis.gains] == list(ERRORS)
    assert list(analysis.gains[-1].so_far.as_dict().values()) == pytest.approx([1] * 10)
    for gain in analysis.gains:
        assert gain.scores.AP >= analysis.scores.AP - 1e-9, gain.error
        assert gain.so_far.AP >= gain.scores.AP - 1e-9, gain.error
    by_error = {gain.error: gain.scores.AP - analysis.scores.AP for gain in analysis.gains}
    # Twice as many misses as inversions or swaps.
    assert by_error["miss"] > max(by_error["inversion"], by_error["swap"]) > 0
    assert by_error["missed"] > 0
    for part in analysis.keypoints.values():
        assert part.AP is not None
        assert part.AP >= analysis.scores.AP - 1e-9
    assert analysis.curves.shape == (10, 101)
    assert analysis.curves.mean() == pytest.approx(analysis.scores.AP)


def test_perfect_results_have_no_errors(case: Case, tmp_path: Path) -> None:
    document = json.loads(case.annotations.read_bytes())
    keys = ("image_id", "category_id", "keypoints")
    perfect = [
        {**{key: person[key] for key in keys}, "score": 1.0} for person in document["annotations"]
    ]
    results = tmp_path / "perfect.json"
    results.write_text(json.dumps(perfect), encoding="utf-8")
    analysis = analyze(results, case.annotations)
    assert pytest.approx(1) == analysis.scores.AP
    assert analysis.all_keypoints.shares["good"] == 1
    counts = analysis.counts
    assert (counts.missed, counts.background, counts.misordered) == (0, 0, 0)
    # Visibilities are no scores.
    assert "[0, 1]" in str(analysis.calibration)


def test_as_many_poses_count_as_are_wanted(case: Case) -> None:
    analysis = analyze(case.results, case.annotations, max_detections=1)
    expected = evaluate_keypoints(case.annotations, case.results, max_detections=1)
    assert analysis.scores == expected
    assert expected.AR < evaluate_keypoints(case.annotations, case.results).AR
    assert any("--max-detections" in note for note in analysis.notes)


def test_results_of_another_category_are_refused(case: Case, tmp_path: Path) -> None:
    other = tmp_path / "results.json"
    other.write_text(case.results.read_text().replace('"category_id": 1', '"category_id": 7'))
    with refused("annotations-invalid", "category 1", "category_id 7 only"):
        analyze(other, case.annotations)


@pytest.mark.slow
def test_peaks_above_1_are_scores_too(case: Case, tmp_path: Path) -> None:
    """As in results of `hrpose evaluate` and of the official code; the estimator clips them."""
    louder, clipped = (json.loads(case.results.read_bytes()) for _ in range(2))
    for one, other in zip(louder, clipped, strict=True):
        peaks = np.reshape(one["keypoints"], (-1, 3))
        peaks[:, 2] *= 1.4
        one["keypoints"] = peaks.ravel().tolist()
        other["keypoints"] = np.minimum(peaks, [np.inf, np.inf, 1]).ravel().tolist()
    assert max(max(each["keypoints"][2::3]) for each in louder) > 1
    found = []
    for name, results in (("louder", louder), ("clipped", clipped)):
        (tmp_path / name).write_text(json.dumps(results), encoding="utf-8")
        found.append(analyze(tmp_path / name, case.annotations).calibration)
    assert not isinstance(found[0], str)
    assert not isinstance(found[1], str)
    assert found[0].calibration == found[1].calibration


def test_no_results_at_all(case: Case, tmp_path: Path) -> None:
    results = tmp_path / "none.json"
    results.write_text("[]", encoding="utf-8")
    analysis = analyze(results, case.annotations)
    assert analysis.scores.AP == 0
    assert analysis.counts.missed == 300
    assert pytest.approx(1) == analysis.gains[-1].so_far.AP
    assert analysis.gains[0].so_far.AP == 0
    json.dumps(analysis.as_dict(), allow_nan=False)


def test_poses_on_crowds_and_on_persons_without_labels_are_no_background(
    case: Case, tmp_path: Path
) -> None:
    document = json.loads(case.annotations.read_bytes())
    document["annotations"][0]["iscrowd"] = 1
    document["annotations"][2].update(keypoints=[0] * 51, num_keypoints=0, bbox=[0, 0, 999, 999])
    changed = tmp_path / "annotations.json"
    changed.write_text(json.dumps(document), encoding="utf-8")
    truth = read_truth(changed)
    predicted = read_predicted(read_results(case.results), truth)
    matches = error_analysis.match(truth, predicted)
    assert truth.counted.sum() == 298
    assert not set(matches.persons) & {0, 2}
    first = (predicted.image == 0) & (matches.person == error_analysis.IGNORED)
    assert first.any()
    assert (predicted.image[matches.person == error_analysis.IGNORED] <= 1).all()
    # COCO's evaluator ignores the same persons, so the last AP is still 1.
    assert pytest.approx(1) == analyze(case.results, changed).gains[-1].so_far.AP


def test_only_the_best_twenty_poses_of_an_image_count(case: Case, tmp_path: Path) -> None:
    entries = json.loads(case.results.read_bytes())
    many = [dict(entries[0], score=0.01 * i) for i in range(30)]
    results = tmp_path / "many.json"
    results.write_text(json.dumps(many), encoding="utf-8")
    predicted = read_predicted(read_results(results), read_truth(case.annotations))
    assert predicted.scores.tolist() == pytest.approx([0.01 * i for i in range(29, 9, -1)])


@pytest.mark.parametrize(
    ("results", "annotations", "code", "mention"),
    [
        ("{}", None, "annotations-invalid", "results.json"),
        ("[{}]", None, "annotations-invalid", "result 0"),
        (
            '[{"image_id": 1, "category_id": 1, "keypoints": [1], "score": 1}]', None,
            "annotations-invalid", "51",
        ),
        (
            '[{"image_id": 9999, "category_id": 1, "keypoints": [], "score": 1}]', None,
            "annotations-invalid", "result 0",
        ),
        ("[", None, "json-invalid", "results.json"),
        ("{}", "[]", "annotations-invalid", "annotations.json"),
        (
            "[]", '{"images": [], "annotations": [], "categories": []}',
            "annotations-invalid", "'categories'",
        ),
    ],
)  # fmt: skip
def test_bad_files(
    case: Case, tmp_path: Path, results: str, annotations: str | None, code: str, mention: str
) -> None:
    predicted, truth = tmp_path / "results.json", case.annotations
    predicted.write_text(results, encoding="utf-8")
    if annotations is not None:
        truth = tmp_path / "annotations.json"
        truth.write_text(annotations, encoding="utf-8")
    with refused(code, mention):
        analyze(predicted, truth)
