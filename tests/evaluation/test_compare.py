"""Two results compared: metrics of draws are COCO's, intervals hold the truth, and the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.differences import Population, held, population
from typer.testing import CliRunner

from hrpose.cli.main import app
from hrpose.data.coco import CocoAnnotations, CocoResults
from hrpose.evaluation.compare import compare, outcomes
from hrpose.evaluation.error_analysis import read_predicted, read_truth
from hrpose.metrics.coco import evaluate_keypoints
from hrpose.synthetic import write_dataset
from offline_page import opened
from refusals import check_refusal, refused


@pytest.fixture(scope="module")
def whole() -> Population:
    return population(np.random.default_rng(5), 150)


def parsed(files: tuple[Any, Any, Any]) -> tuple[CocoAnnotations, CocoResults]:
    return CocoAnnotations(Path("truth"), files[0]), CocoResults(Path("results"), files[1])


def with_odd_persons(whole: Population, rng: np.random.Generator) -> Population:
    """Some persons are crowds, some have no labels; some poses are on nobody or on these."""
    persons = {
        image: [
            {**each, "iscrowd": int(draw < 0.1), "keypoints": [0] * 51 if draw < 0.2
             else each["keypoints"]}
            for each, draw in zip(own, rng.uniform(size=len(own)), strict=True)
        ]
        for image, own in whole.persons.items()
    }  # fmt: skip
    results = {}
    for image in persons:
        own = whole.results[0][image]
        # No equal scores: whose pose comes first would depend on the draw.
        results[image] = own + [{**each, "score": 0.99 * each["score"]} for each in own[:1]]
    return Population(persons, (results, whole.results[1]))


def test_a_draw_has_the_metrics_that_coco_computes_of_its_images(whole: Population) -> None:
    rng = np.random.default_rng(1)
    odd = with_odd_persons(whole, rng)
    images = list(odd.persons)
    annotations, results = parsed(odd.files(images))
    truth = read_truth(annotations)
    evaluate_keypoints(annotations, results)
    table = outcomes(truth, read_predicted(results, truth))
    assert (table.right == -1).any()
    assert (table.right == 1).any()
    for draw in range(6):
        size = len(images) if draw < 4 else 3
        chosen = rng.integers(len(images), size=size) if draw else np.arange(size)
        weights = np.bincount(chosen, minlength=len(images))
        expected = evaluate_keypoints(*parsed(odd.files([images[i] for i in chosen]))).as_dict()
        found = np.nan_to_num(table.metrics(weights), nan=-1)
        np.testing.assert_allclose(found, list(expected.values()), atol=1e-12)


def test_results_without_poses_and_images_without_persons() -> None:
    document = population(np.random.default_rng(0), 3).files([1, 2])[0]
    truth = read_truth(CocoAnnotations(Path("truth"), document))
    table = outcomes(truth, read_predicted(CocoResults(Path("results"), []), truth))
    np.testing.assert_array_equal(np.nan_to_num(table.metrics(np.ones(2, int))), np.zeros(10))
    assert np.isnan(table.metrics(np.zeros(2, int))).all()


def test_intervals_hold_the_planted_difference() -> None:
    """`python -m benchmarks.differences` counts 100 of larger samples."""
    large = population(np.random.default_rng(7), 400)
    holds = held(large, np.random.default_rng(0), count=12, images=60, draws=100)
    # 95 of 100 are expected; of 12, fewer than 9 are two cases in a thousand.
    assert all(count >= 9 for count in holds.values()), holds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, and two results: in b all keypoints are closer, but one person is missed."""
    folder = tmp_path_factory.mktemp("compare")
    write_dataset(folder, images=10, seed=3)
    document = json.loads((folder / "annotations.json").read_bytes())
    rng = np.random.default_rng(0)
    for name, spread in (("a", 6), ("b", 3)):
        results = []
        for person in document["annotations"][name == "b" :]:
            keypoints = np.reshape(person["keypoints"], (17, 3)) + rng.normal(0, spread, (17, 3))
            keypoints[:, 2] = 0.5
            entry = {"image_id": person["image_id"], "category_id": 1, "score": 0.5}
            results.append({**entry, "keypoints": keypoints.ravel().tolist()})
        (folder / f"{name}.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


def run(folder: Path, *arguments: Any) -> Any:
    given = ("--annotations", folder / "annotations.json", "--out", folder / "page.html")
    return CliRunner().invoke(app, ["analyze", *map(str, (*arguments, *given))])


def test_the_command_its_page_and_its_numbers(folder: Path) -> None:
    files = (folder / "a.json", folder / "b.json")
    done = run(folder, *files, "--images", folder / "images", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["analysis"] is None
    comparison = found["comparison"]
    ap = comparison["metrics"]["AP"]
    for name, path in zip("ab", files, strict=True):
        assert ap[name] == evaluate_keypoints(folder / "annotations.json", path).AP
    assert ap["low"] < ap["difference"] == ap["b"] - ap["a"] < ap["high"]
    assert ap["low"] > 0
    assert ap["ahead"] == 1
    assert len(comparison["keypoints"]) == 17
    assert comparison["worse"][0]["oks_b"] == 0
    assert comparison["lost"] == len(comparison["worse"]) == 1
    assert comparison["gained"] >= len(comparison["better"]) > 3
    changes = [each["oks_b"] - each["oks_a"] for each in comparison["better"]]
    assert changes == sorted(changes, reverse=True)
    page = (folder / "page.html").read_text(encoding="utf-8")
    shown = len(comparison["better"]) + len(comparison["worse"])
    assert page.count("data:image/jpeg") == 3 * shown
    again = compare(*files, folder / "annotations.json")
    assert again.as_dict()["metrics"] == comparison["metrics"]


@pytest.mark.parametrize(("bound", "code"), [("-0.01", 0), ("nan", 1)])
def test_fail_below_is_the_exit_code(folder: Path, bound: str, code: int) -> None:
    done = run(folder, folder / "a.json", folder / "b.json", "--fail-below", bound)
    assert done.exit_code == code, done.output
    assert (folder / "page.html").exists()


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (360, "dark")])
def test_the_page_in_a_browser(browser: Any, folder: Path, width: int, scheme: str) -> None:
    run(folder, folder / "a.json", folder / "b.json", "--images", folder / "images")
    with opened(browser, folder / "page.html", width, scheme) as view:
        assert view.locator("h1").inner_text().startswith("AP +")
        assert view.locator(".interval").count() > 25


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_what_cannot_be_compared_is_refused(folder: Path, tmp_path: Path) -> None:
    a, b = folder / "a.json", folder / "b.json"
    entries = json.loads(b.read_bytes())
    hands = write(tmp_path / "hands.json", [{**e, "keypoints": [1] * 63} for e in entries])
    others = write(tmp_path / "others.json", [{**e, "image_id": 999} for e in entries])
    kind, where = "annotations-invalid", "b.json"
    check_refusal(run(folder, a, hands), kind, "hands.json", "51 finite numbers", "63")
    check_refusal(run(folder, a, others), kind, "others.json", "999")
    first = entries[0]["image_id"]
    parts = [[e for e in entries if (e["image_id"] == first) is part] for part in (False, True)]
    half = [write(tmp_path / f"{i}.json", part) for i, part in enumerate(parts)]
    check_refusal(run(folder, *half), kind, "1.json", "none")
    check_refusal(run(folder, a, folder / "annotations.json"), kind, "annotations.json", "swapped")
    (tmp_path / "image.json").write_bytes(b"\x89PNG")
    check_refusal(run(folder, a, tmp_path / "image.json"), "json-invalid", "image.json")
    check_refusal(run(folder, a, a), "option-conflict", "a.json", "twice")
    check_refusal(run(folder, a, b, a), "option-conflict", "found 3")
    check_refusal(run(folder, a, "--fail-below", "0"), "option-conflict", "--fail-below")
    check_refusal(run(folder, a, b, "--weights", "w16-small"), "option-conflict", "--weights")
    with refused("file-unreadable", where):
        compare(a, tmp_path / where, folder / "annotations.json")


def test_images_in_one_alone_and_repeated_poses_are_noted(folder: Path, tmp_path: Path) -> None:
    entries = json.loads((folder / "b.json").read_bytes())
    last = entries[-1]["image_id"]
    part = write(tmp_path / "c.json", [e for e in entries if e["image_id"] != last] + entries[:2])
    notes: list[str] = []
    compare(folder / "b.json", part, folder / "annotations.json", draws=2, notify=notes.append)
    assert any("1 of its images have no poses in" in note for note in notes)
    assert any("2 poses are in it twice" in note for note in notes)
    assert any("10 images with persons" in note for note in notes)
