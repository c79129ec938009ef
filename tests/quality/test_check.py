"""`hrpose data check`: planted problems, clean sets of several skeletons, and the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.planted import Planted, plant, score
from PIL import Image
from typer.testing import CliRunner

from hrpose.api import load
from hrpose.cli.main import app
from hrpose.errors import UserError
from hrpose.quality.check import check
from hrpose.quality.labels import KINDS, read_labels
from hrpose.skeletons import COCO_17
from hrpose.synthetic import ANIMAL, write_dataset
from tiny_weights import write_tiny_weights

EACH = 4
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    return write_dataset(folder, images=130, seed=11, size_wh=(224, 168))


@pytest.fixture(scope="module")
def planted(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    out = tmp_path_factory.mktemp("planted")
    return plant(clean, clean.parent / "images", out, EACH, np.random.default_rng(3))


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["data", "check", *map(str, arguments)])


def test_planted_faults_are_found(planted: Planted, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    done = run(
        *(planted.annotations, "--images", planted.images, "--out", out),
        *("--against", planted.others, "--against-images", planted.others.with_suffix("")),
    )
    assert done.exit_code == 1, done.output
    report = json.loads(out.read_bytes())
    assert set(report["counts"]) == set(KINDS) - {"no-persons", "swapped-sides"}
    for kind, count in report["counts"].items():
        assert f"{kind} ({count}): " in done.output
    rows = score(
        planted,
        check(
            planted.annotations,
            str(planted.images),
            against=planted.others,
            against_images=str(planted.others.with_suffix("")),
        ),
    )
    assert {row.kind for row in rows} == set(KINDS) - {"no-persons"}
    for row in rows:
        assert row.planted == EACH
        assert row.right == (EACH if row.kind != "swapped-sides" else 0), row
        assert row.reported <= row.right + 2, row


def test_a_clean_set_is_clean(clean: Path) -> None:
    done = run(clean, "--images", clean.parent / "images")
    assert done.exit_code == 0, done.output
    assert "no problems found" in done.output


def test_kinds_can_be_ignored(planted: Planted) -> None:
    done = run(
        planted.annotations, "--ignore", ",".join(kind for kind in KINDS if kind != "no-keypoints")
    )
    assert done.exit_code == 1
    assert "no-keypoints (4): " in done.output
    assert "malformed" not in done.output
    assert "images were not checked" in done.output


def test_other_skeletons_and_boxes_alone(tmp_path: Path) -> None:
    animals = write_dataset(tmp_path, images=3, seed=1, figure=ANIMAL)
    images = tmp_path / "images"
    assert "add --weights" in check(animals, str(images)).notes[0]
    document = json.loads(animals.read_bytes())
    for category in document["categories"]:
        del category["keypoints"], category["skeleton"]
    for person in document["annotations"]:
        del person["keypoints"]
    document["annotations"].append({**document["annotations"][0], "id": 999})
    (tmp_path / "boxes.json").write_text(json.dumps(document), encoding="utf-8")
    report = check(tmp_path / "boxes.json", str(images))
    assert report.counts == {"duplicate-person": 1}
    assert report.findings[0].annotation == 999


def test_a_model_finds_swapped_sides(tmp_path: Path) -> None:
    image = EXAMPLES / "astronaut.jpg"
    estimator = load("w16-small", detector="none")
    found = estimator(image)
    points = found.keypoints[0].copy()
    points[:, 2] = np.where(points[:, 2] > 0.3, 2, 0)
    swapped = points[estimator.metadata.skeleton.flip_permutation]
    with Image.open(image) as pixels:
        width, height = pixels.size
    document = {
        "images": [{"id": 1, "file_name": image.name, "width": width, "height": height}],
        "categories": [COCO_17.to_coco_category()],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, width, height],
             "area": width * height, "keypoints": swapped.ravel().tolist()}
        ],
    }  # fmt: skip
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    report = check(path, str(EXAMPLES), estimator=estimator)
    assert [finding.detail for finding in report.of("swapped-sides")] == [
        "all pairs swapped, by the model"
    ]
    document["annotations"][0]["keypoints"] = points.ravel().tolist()
    path.write_text(json.dumps(document), encoding="utf-8")
    assert not check(path, str(EXAMPLES), estimator=estimator).of("swapped-sides")


@pytest.mark.parametrize(
    ("options", "code", "mention"),
    [
        (("--images", "nowhere"), "images-missing", "nowhere"),
        (("--ignore", "typos"), "option-invalid", "--ignore"),
        (("--weights", "w16-small"), "option-conflict", "--images"),
        (("--against", "SELF"), "option-conflict", "--images"),
        (("--images", "IMAGES", "--against-images", "x"), "option-conflict", "--against FILE"),
        (("--images", "IMAGES", "--against", "no.json"), "file-unreadable", "no.json"),
    ],
)
def test_invalid_input(
    clean: Path, tmp_path: Path, options: tuple[str, ...], code: str, mention: str
) -> None:
    named = {"SELF": clean, "IMAGES": clean.parent / "images"}
    out = tmp_path / "report.json"
    done = run(clean, *(named.get(option, option) for option in options), "--out", out)
    assert isinstance(done.exception, UserError)
    assert done.exception.code == code
    assert mention in str(done.exception)
    assert not out.exists()


def test_weights_of_other_keypoints_are_refused(tmp_path: Path) -> None:
    animals = write_dataset(tmp_path, images=2, seed=1, figure=ANIMAL)
    tiny = write_tiny_weights(tmp_path / "tiny.onnx")
    done = run(animals, "--images", tmp_path / "images", "--weights", tiny)
    assert getattr(done.exception, "code", None) == "keypoints-differ"


@pytest.mark.parametrize("strange", [[1], {"id": 1}])
def test_a_category_that_is_no_number_is_malformed(tmp_path: Path, strange: Any) -> None:
    path = write_dataset(tmp_path, images=2, seed=1)
    document = json.loads(path.read_bytes())
    document["annotations"][0]["category_id"] = strange
    path.write_text(json.dumps(document), encoding="utf-8")
    labels, (finding,) = read_labels(path)
    assert len(labels) == len(document["annotations"]) - 1
    assert (finding.kind, finding.file) == ("malformed", "000001.jpg")
    assert "with a 'category_id' that is not in 'categories' (1), but" in finding.detail


def boxed(root: Path, boxes: list[list[float]], **more: Any) -> Path:
    """A person of COCO with a box for each of the boxes, in an image of 640 x 480."""
    keypoints = [v for i in range(17) for v in (100 + 5 * (i % 4), 200 + 6 * i, 2)]
    document = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480}
            for i in range(len(boxes))
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "iscrowd": 0, "area": 9, "bbox": box,
             "keypoints": keypoints, "num_keypoints": 17, **more}
            for i, box in enumerate(boxes)
        ],
        "categories": [COCO_17.to_coco_category()],
    }  # fmt: skip
    source = root / "boxes.json"
    source.write_text(json.dumps(document))
    return source


def test_boxes_that_are_corners_leave_the_image_or_are_too_large(tmp_path: Path) -> None:
    good = [90, 190, 40, 120]
    boxes = [
        *(good, [0, 190, 250, 120], [90.4, 190, 550, 290.6]),
        *([90, 190, 130, 310], [-9, 180, 140, 140], [0, 0, 640, 480]),
    ]
    report = check(boxed(tmp_path, boxes), None)
    kinds = {finding.annotation: finding.kind for finding in report.findings}
    assert kinds == {
        2: "box-too-large",
        3: "box-corners",
        4: "box-outside-image",
        5: "box-too-large",
    }
    assert report.of("box-corners")[0].badness == 20
    # MPII's boxes may leave the image.
    assert check(boxed(tmp_path, [boxes[4]], bbox_exact=True), None).counts == {}


def test_all_findings_are_printed(tmp_path: Path) -> None:
    source = boxed(tmp_path, [[0, 0, 640, 480]] * 5)
    assert run(source).stdout.count(".jpg, annotation") == 3
    assert run(source, "--all").stdout.count(".jpg, annotation") == 5
