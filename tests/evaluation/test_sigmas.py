"""OKS sigmas: from repeats of known sigmas, against the truth, and guessed from limbs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from hrpose.cli.main import app
from hrpose.data.coco import load_persons
from hrpose.data.persons import PersonTable
from hrpose.evaluation.sigmas import from_limbs, from_repeats
from hrpose.skeletons import COCO_17
from refusals import refused

pytestmark = pytest.mark.slow

PERSONS = 400
SIGMAS = np.asarray(COCO_17.sigmas)


def truth(seed: int = 0, persons: int = PERSONS) -> dict[str, Any]:
    """Persons of many sizes, two in each image, well apart."""
    rng = np.random.default_rng(seed)
    annotations = []
    for index in range(persons):
        size = rng.uniform(60, 240)
        corner = np.array([300.0 * (index % 2), 0.0]) + rng.uniform(0, 20, 2)
        points = corner + rng.uniform(0.2, 0.8, (17, 2)) * size
        keypoints = np.concatenate([points, np.full((17, 1), 2)], axis=1)
        annotations.append(
            {
                "id": index + 1,
                "image_id": index // 2 + 1,
                "category_id": 1,
                "bbox": [*corner, size, size],
                "area": 0.6 * size * size,
                "keypoints": keypoints.ravel().tolist(),
                "num_keypoints": 17,
                "iscrowd": 0,
            }
        )
    images = [
        {"id": i + 1, "file_name": f"{i}.jpg", "width": 640, "height": 480}
        for i in range((persons + 1) // 2)
    ]
    categories = [COCO_17.to_coco_category()]
    return {"images": images, "annotations": annotations, "categories": categories}


def annotated(document: dict[str, Any], seed: int, sigmas: Any = SIGMAS) -> dict[str, Any]:
    """The labels of an annotator with errors d of E[d^2] = sigma^2 area, in the plane."""
    rng = np.random.default_rng(seed)
    copy: dict[str, Any] = json.loads(json.dumps(document))
    for person in copy["annotations"]:
        points = np.reshape(person["keypoints"], (17, 3))
        spread = np.asarray(sigmas)[:, None] * np.sqrt(person["area"] / 2)
        points[:, :2] += spread * rng.normal(size=(17, 2))
        person["keypoints"] = points.ravel().tolist()
        person["bbox"] = (np.asarray(person["bbox"]) + rng.uniform(0, 5, 4)).tolist()
    rng.shuffle(copy["annotations"])
    return copy


def write(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def tables(folder: Path, *documents: dict[str, Any]) -> list[PersonTable]:
    return [
        load_persons(write(folder / f"{i}.json", document)) for i, document in enumerate(documents)
    ]


@pytest.mark.parametrize("annotators", [2, 3])
def test_coco_constants_come_back_from_annotators(tmp_path: Path, annotators: int) -> None:
    document = truth(persons=1200)
    repeats = [annotated(document, seed) for seed in range(annotators)]
    estimate = from_repeats(tables(tmp_path, *repeats))
    np.testing.assert_allclose(estimate.sigmas, SIGMAS, rtol=0.05)
    assert (estimate.persons == 1200).all()
    # Of 17 intervals of 95 percent, one or two may miss.
    assert ((estimate.low <= SIGMAS) & (estimate.high >= SIGMAS)).sum() >= 14
    # All the keypoints together are known far better.
    assert np.mean(estimate.sigmas / SIGMAS) == pytest.approx(1, abs=0.015)


def test_coco_constants_come_back_against_the_truth(tmp_path: Path) -> None:
    document = truth(persons=1200)
    known, *repeats = tables(tmp_path, document, annotated(document, 1))
    estimate = from_repeats(repeats, known)
    np.testing.assert_allclose(estimate.sigmas, SIGMAS, rtol=0.05)
    assert np.mean(estimate.sigmas / SIGMAS) == pytest.approx(1, abs=0.015)


def test_the_definition_on_data_built_to_have_it(tmp_path: Path) -> None:
    # Every keypoint is at exactly sigma * sqrt(area) from its true place, in any direction.
    document = truth()
    exact = json.loads(json.dumps(document))
    rng = np.random.default_rng(1)
    for person in exact["annotations"]:
        points = np.reshape(person["keypoints"], (17, 3))
        angle = rng.uniform(0, 2 * np.pi, 17)
        step = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        points[:, :2] += SIGMAS[:, None] * np.sqrt(person["area"]) * step
        person["keypoints"] = points.ravel().tolist()
    known, repeat = tables(tmp_path, document, exact)
    np.testing.assert_allclose(from_repeats([repeat], known).sigmas, SIGMAS, rtol=1e-4)
    # Taken as a second annotator, the distance is that of two errors of 1 / sqrt(2) each.
    halved = from_repeats([known, repeat]).sigmas
    np.testing.assert_allclose(halved, SIGMAS / np.sqrt(2), rtol=1e-4)


def test_what_is_labeled_once_counts_for_nothing(tmp_path: Path) -> None:
    document = truth()
    first, second = annotated(document, 1), annotated(document, 2)
    for person in first["annotations"]:
        person["keypoints"][2] = 0  # the nose
    second["annotations"] = second["annotations"][:100]
    estimate = from_repeats(tables(tmp_path, first, second))
    assert estimate.persons[0] == 0
    assert np.isnan(estimate.sigmas[0])
    assert (estimate.persons[1:] == 100).all()
    assert "nose" not in estimate.known()
    assert estimate.filled()[0] == SIGMAS[0]


def test_the_guess_follows_the_limbs(tmp_path: Path) -> None:
    (table,) = tables(tmp_path, truth())
    skeleton = replace(COCO_17, limbs=((5, 7), (7, 9)))
    estimate = from_limbs(replace(table, skeleton=skeleton), share=0.1)
    points = table.keypoints[..., :2].astype(float)
    upper, lower = (np.linalg.norm(points[:, 7] - points[:, j], axis=1) for j in (5, 9))
    expected = np.sqrt(np.mean(np.square(0.1 * (upper + lower) / 2) / table.areas))
    assert estimate.sigmas[7] == pytest.approx(expected)
    assert set(estimate.known()) == {"left_shoulder", "left_elbow", "left_wrist"}
    assert estimate.low[7] < expected < estimate.high[7]
    with refused("skeleton-incomplete", "--skeleton"):
        from_limbs(replace(table, skeleton=replace(COCO_17, limbs=())))


def test_the_command(tmp_path: Path) -> None:
    document = truth()
    files = [write(tmp_path / f"{i}.json", annotated(document, i)) for i in range(2)]
    results = [
        {**{key: person[key] for key in ("image_id", "category_id", "keypoints")}, "score": 1.0}
        for person in annotated(document, 7)["annotations"]
    ]
    found = tmp_path / "[bold].json"
    found.write_text(json.dumps(results), encoding="utf-8")
    out = tmp_path / "sigmas.yaml"
    arguments = ["data", "sigmas", *map(str, files), "--results", str(found), "--out", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "AP of [bold].json" in done.output
    known = yaml.safe_load(out.read_text(encoding="utf-8"))["sigmas"]
    assert list(known) == list(COCO_17.keypoints)
    np.testing.assert_allclose(list(known.values()), SIGMAS, rtol=0.1)
    rows = {line.split()[1]: line for line in done.output.splitlines() if line.startswith("│")}
    ap = [float(rows[factor].split()[3]) for factor in ("0.5", "1", "2")]
    assert ap[0] < ap[1] < ap[2]
    # A file that may have been edited by hand is kept.
    with refused("overwrite-refused", "sigmas.yaml"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_bad_input(tmp_path: Path) -> None:
    document = truth(persons=4)
    other = json.loads(json.dumps(document))
    other["categories"][0]["keypoints"][0] = "snout"
    with refused("keypoints-differ", "snout"):
        from_repeats(tables(tmp_path, document, other))
    elsewhere = json.loads(json.dumps(document))
    for image in elsewhere["images"]:
        image["file_name"] = f"other-{image['file_name']}"
    with refused("labels-missing"):
        from_repeats(tables(tmp_path, document, elsewhere))
    file = write(tmp_path / "one.json", document)
    empty = write(tmp_path / "empty.json", {**document, "annotations": []})
    for code, mention, arguments in (
        ("labels-missing", "empty.json", [str(empty)]),
        ("option-conflict", "--limb-share", [str(file), "--limb-share", "0.2"]),
    ):
        with refused(code, mention):
            CliRunner().invoke(
                app, ["data", "sigmas", str(file), *arguments], catch_exceptions=False
            )
