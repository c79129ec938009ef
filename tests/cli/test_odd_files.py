"""Odd COCO files through every command: each row of the table is a file as some tool writes it,
what is said about it, and what training, evaluation, editing and conversion make of it.
"""

import contextlib
import copy
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from conftest import ROOT
from evaluation.oracle import Oracle
from hrpose.cli.main import app
from hrpose.data import rules
from hrpose.data.coco import load_persons, read_annotations
from hrpose.data.rules import Kind
from hrpose.errors import UserError
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.evaluate import evaluate
from hrpose.synthetic import write_dataset
from hrpose.training.recipe import load_recipe
from hrpose.training.train import check

Document = dict[str, Any]
Change = Callable[[Document], object]
NAN, INFINITE = float("nan"), float("inf")


def first(**fields: Any) -> Change:
    """The first annotation with other fields."""
    return lambda document: document["annotations"][0].update(fields)


def each(**fields: Any) -> Change:
    """All annotations with other fields."""
    return lambda document: [entry.update(fields) for entry in document["annotations"]]


def without(key: str, of: str = "annotations", count: int = 10**6) -> Change:
    """The first few entries without a field."""
    return lambda document: [entry.pop(key) for entry in document[of][:count]]


def image(**fields: Any) -> Change:
    """The first image with other fields."""
    return lambda document: document["images"][0].update(fields)


def every(of: str, key: str, change: Callable[[Any], Any]) -> Change:
    """A field of all entries, changed."""
    return lambda document: [entry.update({key: change(entry[key])}) for entry in document[of]]


def category(**fields: Any) -> Change:
    """The category with other fields."""
    return lambda document: document["categories"][0].update(fields)


def renamed(change: Callable[[str], str]) -> Change:
    """Keypoints with other names."""
    return every("categories", "keypoints", lambda names: [change(name) for name in names])


def more(count: int = 2, **fields: Any) -> Change:
    """More annotations, copies of the first with other fields."""

    def change(document: Document) -> None:
        one = document["annotations"][0]
        document["annotations"] += [{**one, "id": 900 + n, **fields} for n in range(count)]

    return change


def keypoint(*values: Any) -> Change:
    """The first keypoint of all annotations, which count what is labeled then."""

    def change(document: Document) -> None:
        for entry in document["annotations"]:
            entry["keypoints"][:3] = values
            entry["num_keypoints"] = sum((v or 0) > 0 for v in entry["keypoints"][2::3])

    return change


def several(*changes: Change) -> Change:
    return lambda document: [change(document) for change in changes]


def ids(change: Callable[[int], Any]) -> Change:
    """Images with other ids, which their annotations name too."""
    return several(every("images", "id", change), every("annotations", "image_id", change))


def twin(**fields: Any) -> Change:
    """The first image listed again, with other fields."""
    return lambda document: document["images"].append({**document["images"][0], **fields})


def corners(box: list[float]) -> list[float]:
    x, y, w, h = box
    return [x, y, x + w, y + h]


@dataclass(frozen=True)
class Row:
    """A file, the kinds of odd entries that are said, and what comes of it.

    `lost` persons are not used; `converted` is how many more the conversion loses, as it leaves
    out what is `refused`, by its code, elsewhere; None where it ends with that code too. `alike`
    where all numbers are those of the file without the oddity.
    """

    name: str
    change: Change
    kinds: tuple[Kind, ...] = ()
    lost: int = 0
    refused: str = ""
    converted: int | None = None
    alike: bool = True


TEXT, NEW, CATEGORY = rules.NUMBER_AS_TEXT, rules.ID_NEW, rules.CATEGORY_UNKNOWN
AREA, MADE, NOBODY = rules.AREA_OF_BOX, rules.BOX_MADE, rules.NOBODY
EMPTY, COUNT = rules.KEYPOINT_EMPTY, rules.NUM_KEYPOINTS
INVALID, MISSING = "annotations-invalid", "labels-missing"
ALL = 99

TABLE = [
    Row("nothing odd", lambda document: None),
    # Areas.
    Row("no area", without("area"), (AREA,), alike=False),
    Row("one area absent", without("area", count=1), (AREA,), alike=False),
    Row("area null", each(area=None), (AREA,), alike=False),
    Row("area 0", each(area=0), (AREA,), alike=False),
    Row("area 0 for one", first(area=0), (AREA,), alike=False),
    Row("area negative", first(area=-5), (AREA,), alike=False),
    Row("area NaN", first(area=NAN), (AREA,), alike=False),
    Row("area infinite", first(area=INFINITE), (AREA,), alike=False),
    Row("area in words", first(area="large"), (AREA,), alike=False),
    Row("area as text", every("annotations", "area", str), (TEXT,)),
    # Boxes.
    Row("no box", without("bbox"), (MADE,), alike=False),
    Row("box null", first(bbox=None), (MADE,), alike=False),
    Row("box empty", first(bbox=[]), (MADE,), alike=False),
    Row("box of zeros", first(bbox=[0, 0, 0, 0]), (MADE,), alike=False),
    Row("box without height", first(bbox=[40, 40, 60, 0]), (MADE,), alike=False),
    Row("box negative", first(bbox=[40, 40, -60, 20]), (MADE,), alike=False),
    Row("box of three numbers", first(bbox=[40, 40, 60]), (MADE,), alike=False),
    Row("box with NaN", first(bbox=[40, 40, NAN, 20]), (MADE,), alike=False),
    Row("box with null", first(bbox=[40, 40, None, 20]), (MADE,), alike=False),
    Row("box nested", first(bbox=[[40, 40], [60, 20]]), (MADE,), alike=False),
    Row("box as object", first(bbox={"x": 1}), (MADE,), alike=False),
    Row("box as text", every("annotations", "bbox", lambda box: [*map(str, box)]), (TEXT,)),
    Row("box outside", first(bbox=[900, 900, 10, 10]), (rules.BOX_OUTSIDE,), 1, alike=False),
    Row("box of 1e12 pixels", first(bbox=[0, 0, 1e12, 1e12]), (MADE,), alike=False),
    Row("box and area without size", first(bbox=[9, 9, 0, 0], area=0), (MADE, AREA), alike=False),
    # Nobody.
    Row("tracks of CVAT", more(bbox=[0, 0, 0, 0], area=0, keypoints=[]), (NOBODY,)),
    Row("tracks, keypoints 0", more(bbox=[0, 0, 0, 0], keypoints=[0] * 51), (NOBODY,)),
    Row("tracks, nothing", more(bbox=None, keypoints=None, area=None), (NOBODY,)),
    Row("tracks, outside", more(bbox=[], keypoints=[5, 5, 0] * 17), (NOBODY,)),
    Row("crowd without box", more(bbox=None, keypoints=[], iscrowd=1), (NOBODY,)),
    Row("nobody at all", each(bbox=[0, 0, 0, 0], keypoints=[]), (NOBODY,), ALL, MISSING),
    # Persons without keypoints.
    Row("one without keypoints", first(keypoints=[], num_keypoints=0), (), 1, alike=False),
    Row("keypoints null", first(keypoints=None, num_keypoints=0), (), 1, alike=False),
    Row("keypoints absent", several(without("keypoints", count=1), first(num_keypoints=0)), (), 1,
        alike=False),
    Row("empty keypoints, counted", first(keypoints=[]), (COUNT,), 1, alike=False),
    Row("v = 0 with places", first(keypoints=[5, 5, 0] * 17, num_keypoints=0), (), 1, alike=False),
    # Keypoints.
    Row("nested", every("annotations", "keypoints", lambda k: np.reshape(k, (-1, 3)).tolist()),
        (rules.KEYPOINTS_NESTED,)),
    Row("null where v = 0", keypoint(None, None, 0), (EMPTY,), alike=False),
    Row("all three null", keypoint(None, None, None), (EMPTY,), alike=False),
    Row("NaN where v = 0", keypoint(NAN, NAN, 0), (EMPTY,), alike=False),
    Row("one coordinate null", keypoint(5, None, 0), (EMPTY,), alike=False),
    Row("keypoints as text", every("annotations", "keypoints", lambda k: [*map(str, k)]), (TEXT,)),
    Row("visibility 3", keypoint(9, 9, 3), (rules.VISIBILITY,), alike=False),
    Row("visibility as score", keypoint(9, 9, 0.7), (rules.VISIBILITY,), alike=False),
    Row("visibility -1", keypoint(9, 9, -1), (rules.VISIBILITY,), alike=False),
    Row("in shares", first(keypoints=[0.5, 0.4, 2] * 17, num_keypoints=17), (rules.SHARES,),
        alike=False),
    Row("null where v = 2", first(keypoints=[None, 5, 2] * 17), (), 0, INVALID, 1),
    Row("NaN where v = 1", first(keypoints=[5, NAN, 1] * 17), (), 0, INVALID, 1),
    Row("16 keypoints", first(keypoints=[5, 5, 2] * 16), (), 0, INVALID, 1),
    Row("pairs", first(keypoints=[[5, 5]] * 17), (), 0, INVALID, 1),
    Row("keypoints in words", first(keypoints="all"), (), 0, INVALID, 1),
    Row("16 keypoints everywhere", each(keypoints=[5, 5, 2] * 16), (), ALL, INVALID),
    Row("a keypoint at 1e300", first(keypoints=[1e300, 5, 2] * 17), (), 0, INVALID, 1),
    # Counts.
    Row("num_keypoints 0", each(num_keypoints=0), (COUNT,)),
    Row("num_keypoints wrong", first(num_keypoints=99), (COUNT,)),
    Row("num_keypoints as text", first(num_keypoints="17"), (COUNT,)),
    Row("num_keypoints absent", without("num_keypoints")),
    # Crowds.
    Row("iscrowd absent", without("iscrowd")),
    Row("iscrowd null", each(iscrowd=None)),
    Row("iscrowd false", each(iscrowd=False)),
    Row("iscrowd 0.0", each(iscrowd=0.0)),
    Row("iscrowd text 0", each(iscrowd="0"), (TEXT,)),
    Row("iscrowd text 1", first(iscrowd="1"), (TEXT,), 1, alike=False),
    Row("iscrowd in words", first(iscrowd="no"), (), 0, INVALID, 1),
    # Ids of annotations.
    Row("id absent", without("id"), (NEW,)),
    Row("id null for one", first(id=None), (NEW,)),
    Row("ids as text", every("annotations", "id", str), (TEXT,)),
    Row("ids in words", every("annotations", "id", lambda number: f"p{number}"), (NEW,)),
    Row("ids as floats", every("annotations", "id", float)),
    Row("ids in halves", every("annotations", "id", lambda number: number + 0.5), (NEW,)),
    Row("ids all alike", each(id=7), (NEW,)),
    Row("id negative", first(id=-1), (NEW,)),
    Row("id too large", first(id=10**30), (NEW,)),
    # Ids of images.
    Row("image ids as text", ids(str), (TEXT, TEXT)),
    Row("image ids as text there", every("images", "id", str), (TEXT,)),
    Row("image ids as text here", every("annotations", "image_id", str), (TEXT,)),
    Row("image ids as floats", ids(float)),
    Row("image ids in words", ids(lambda number: f"image-{number}"), (NEW,)),
    Row("image ids in halves", ids(lambda number: number + 0.5), (NEW,)),
    Row("image listed twice", twin(), (rules.IMAGE_REPEATED,)),
    Row("one file, two images", twin(id=77), (rules.FILE_REPEATED,)),
    Row("image without id", twin(id=None, file_name="b.jpg"), (rules.IMAGE_WITHOUT_ID,)),
    Row("two images of one id", twin(file_name="b.jpg"), (), 0, INVALID, 1),
    Row("image_id unknown", first(image_id=12345), (), 0, INVALID, 1),
    Row("image_id absent", without("image_id", count=1), (), 0, INVALID, 1),
    Row("image_id null", first(image_id=None), (), 0, INVALID, 1),
    # Categories.
    Row("category of nobody", each(category_id=2), (CATEGORY,), ALL, MISSING),
    Row("category absent", without("category_id"), (CATEGORY,), ALL, MISSING),
    Row("category unknown for one", first(category_id=5), (CATEGORY,), 1, alike=False),
    Row("category null for one", first(category_id=None), (CATEGORY,), 1, alike=False),
    Row("category as list", first(category_id=[1]), (CATEGORY,), 1, alike=False),
    Row("category as text", each(category_id="1"), (TEXT,)),
    Row("category as float", each(category_id=1.0)),
    Row("category id as text there", category(id="1")),
    Row("category id 0", several(category(id=0), each(category_id=0))),
    Row("limbs from 0", category(skeleton=[[0, 1], [1, 2]]), (rules.LIMBS_FROM_0,)),
    Row("limbs to nowhere", category(skeleton=[[1, 2], [3, 3], [4, 99]]), (rules.LIMBS_DROPPED,)),
    Row("names with capitals", renamed(lambda name: name.replace("_", " ").title()),
        (rules.NAMES_SPELLED,)),
    Row("names with L and R", renamed(
        lambda name: name.replace("left_", "L").replace("right_", "R").title().replace("L", "L-")
        if "_" in name else name), (rules.NAMES_SPELLED,)),
    Row("no keypoints there", category(keypoints=[]), (), ALL, INVALID),
    Row("one name as keypoints", category(keypoints="nose"), (), ALL, INVALID),
    Row("a name is null", category(keypoints=[None] + 16 * ["a"]), (), ALL, INVALID),
    Row("a name is empty", category(keypoints=[" "] + 16 * ["a"]), (), ALL, INVALID),
    # Images.
    Row("back slashes", every("images", "file_name", lambda name: name.replace("/", "\\")),
        (rules.BACKSLASH,)),
    Row("sizes as text", every("images", "width", str), (TEXT,)),
    Row("sizes as floats", every("images", "width", float)),
    Row("width absent", without("width", "images"), (), 0, INVALID, 0),
    Row("sizes null", image(width=None, height=None), (), 0, INVALID, 0),
    Row("sizes 0", image(width=0, height=0), (), 0, INVALID, 0),
    Row("a width in halves", image(width=320.5), (), 0, INVALID, 0),
    Row("absolute name", image(file_name="/data/a.jpg"), (), 0, INVALID, 1),
    Row("name outside", image(file_name="../a.jpg"), (), 0, INVALID, 1),
    Row("name absent", without("file_name", "images", 1), (), 0, INVALID, 1),
    # Sizes and boxes that do not fit the images: other commands go by the file alone.
    Row("resized", several(every("images", "width", lambda w: 2 * w),
                           every("images", "height", lambda h: 2 * h)), (), 0, "size-differs"),
    Row("width and height swapped",
        several(each(bbox=[99, 9, 99, 200]), image(width=240, height=320)), (), 0, "size-differs"),
    Row("one of another shape", image(width=500), (), 0, "size-differs"),
    Row("boxes as corners", every("annotations", "bbox", corners), (rules.CORNERS,), alike=False),
]  # fmt: skip


@dataclass(frozen=True)
class Base:
    folder: Path
    document: Document
    metrics: dict[str, float]

    @property
    def persons(self) -> int:
        return len(self.document["annotations"])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """One person in each of four images, and the metrics of what `predicted` finds."""
    folder = tmp_path_factory.mktemp("odd")
    path = write_dataset(folder / "drawn", images=4, seed=3, persons_per_image=(1, 1))
    (folder / "images").mkdir()
    (folder / "drawn" / "images").rename(folder / "images" / "sub")
    document: Document = json.loads(path.read_bytes())
    every("images", "file_name", lambda name: f"sub/{name}")(document)
    path.write_text(json.dumps(document))
    report = evaluate(predicted(path), path, folder / "images")
    assert 0.1 < report.metrics["AP"] < 0.9
    return Base(folder, document, dict(report.metrics))


def predicted(path: Path) -> PoseEstimator:
    """An estimator that finds the labeled keypoints of a file, a little to the left."""
    oracle = Oracle(path)
    oracle.targets = np.roll(oracle.targets, -1, axis=-1)
    return PoseEstimator(oracle)


def run(*arguments: object) -> tuple[str, str]:
    """The code of the error of a command, empty where there is none, and its output."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(done.exception, UserError):
        return done.exception.code, str(done.exception)
    assert done.exit_code in (0, 1), done.output
    return "" if done.exit_code == 0 else "found", done.output


def pycocotools(truth: Document, results: list[Document]) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        index = COCO()
        index.dataset = copy.deepcopy(truth)
        index.createIndex()
        evaluation = COCOeval(index, index.loadRes(copy.deepcopy(results)), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats: list[float] = evaluation.stats.tolist()
    return stats


@pytest.mark.slow
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_command_treats_an_odd_file_alike(base: Base, tmp_path: Path, row: Row) -> None:
    document = copy.deepcopy(base.document)
    row.change(document)
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    (tmp_path / "images").symlink_to(base.folder / "images")
    used = max(base.persons - row.lost, 0)
    said = [kind.found for kind in row.kinds]
    of_file = "" if row.refused == "size-differs" else row.refused

    # The check finds it, with what is done about it.
    code, output = run("data", "check", path, "--out", tmp_path / "check.json")
    if row.name == "no keypoints there" or code == row.refused == INVALID:
        return  # The category is invalid, so that nothing can be read.
    unlabeled = row.lost and not row.kinds and not row.refused
    findings = json.loads((tmp_path / "check.json").read_bytes())["findings"]
    malformed = [each["detail"] for each in findings if each["kind"] == "malformed"]
    by_row = [kind for kind in row.kinds if kind is not rules.BOX_OUTSIDE]
    # Boxes have kinds of their own.
    entries = [kind for kind in by_row if kind is not rules.CORNERS]
    assert bool(malformed) == bool(entries or of_file), output
    assert all(any(kind.found in detail for detail in malformed) for kind in entries), malformed
    if rules.CORNERS in row.kinds:
        assert "box-corners" in output
    assert code == ("found" if findings else "")
    assert bool(findings) or not (unlabeled or said or of_file)

    # The statistics and the split count the same persons, and say what they left out.
    code, output = run("data", "stats", path, "--json")
    assert code == of_file, output
    code, output = run(
        "data", "split", path, "--out", tmp_path / "parts", "--parts", "train=1,val=1"
    )
    assert code == of_file, output
    if not of_file:
        assert all(kind.found in output for kind in by_row)
        halves = [load_persons(tmp_path / "parts" / f"{part}.json") for part in ("train", "val")]
        assert sum(map(len, halves)) == used
        left = {note.kind for half in halves for note in half.notes}
        assert left <= {kind for kind in row.kinds if kind.outcome is not rules.Outcome.repaired}

    # The conversion leaves out what is refused elsewhere, and writes nothing odd.
    code, output = run("data", "convert", "coco", path, "--out", tmp_path / "new")
    if of_file and row.converted is None:
        assert code in (of_file, MISSING), output
    else:
        assert code == "", output
        assert all(kind.found in output for kind in by_row)
        assert ("left out for" in output) == bool(row.converted)
        table = load_persons(tmp_path / "new" / "annotations.json")
        assert len(table) == used - (row.converted or 0)
        assert all(note.kind.outcome is not rules.Outcome.repaired for note in table.notes)

    # The recipe checks of a training and an evaluation: the same persons, or the same refusal.
    images = tmp_path / "images"
    recipe = load_recipe(ROOT / "recipes" / "synthetic.yaml", [
        f"data.{part}.{key}={value}" for part in ("train", "val")
        for key, value in (("annotations", path.name), ("images", "images"))
    ])  # fmt: skip
    if row.refused:
        for command in (
            lambda: check(recipe, tmp_path, lambda finding: None),
            lambda: evaluate(predicted(base.folder / "drawn" / "annotations.json"), path, images),
        ):
            with pytest.raises(UserError) as caught:
                command()
            assert caught.value.code == row.refused, str(caught.value)
            assert "odd.json" in str(caught.value)
        return
    data, _ = check(recipe, tmp_path, lambda finding: None)
    report = evaluate(predicted(path), path, images, out=tmp_path / "out")
    assert len(data.train_table) == len(data.val_table) == report.persons == used
    assert len(report.notes) == len(row.kinds)
    assert all(any(kind.found in note for note in report.notes) for kind in row.kinds)
    if row.alike:
        assert report.metrics == base.metrics
    # The numbers are those of pycocotools for the repaired annotations.
    parsed = read_annotations(path)
    repaired = parsed.part(parsed.images, parsed.annotations)
    for annotation in repaired["annotations"]:
        annotation.setdefault("iscrowd", 0)
        annotation["iscrowd"] = int(annotation["iscrowd"] or 0)
        annotation.setdefault("num_keypoints", 0)
        points = annotation["keypoints"] = annotation.get("keypoints") or [0] * 51
        annotation["num_keypoints"] = sum(v > 0 for v in points[2::3])
    results = json.loads((tmp_path / "out" / "results.json").read_bytes())
    ours = list(report.metrics.values())[:10]
    assert ours == pytest.approx(pycocotools(repaired, results), abs=1e-9)


def test_labels_are_scaled_to_resized_images(base: Base, tmp_path: Path) -> None:
    def doubled(document: Document) -> None:
        document["images"][0] |= {"width": 640, "height": 480}
        (person,) = (a for a in document["annotations"] if a["image_id"] == 1)
        person["bbox"] = [2 * value for value in person["bbox"]]
        person["keypoints"] = (
            (np.reshape(person["keypoints"], (-1, 3)) * [2, 2, 1]).ravel().tolist()
        )
        person["area"] *= 4

    document = copy.deepcopy(base.document)
    doubled(document)
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    command = ("data", "convert", "coco", path, "--out", tmp_path / "new", "--scale-to-images")
    code, output = run(*command, "--images", base.folder / "images")
    assert code == ""
    assert "labels of 1 of 4 images were scaled" in output
    scaled = json.loads((tmp_path / "new" / "annotations.json").read_bytes())
    assert [image["width"] for image in scaled["images"]] == [320] * 4
    for new, old in zip(scaled["annotations"], base.document["annotations"], strict=True):
        for key in ("bbox", "keypoints", "area"):
            np.testing.assert_allclose(new[key], old[key], atol=1e-3)
    document["images"][0]["height"] = 481 * 2
    path.write_text(json.dumps(document), encoding="utf-8")
    command = (*command[:5], tmp_path / "other", "--scale-to-images")
    assert run(*command, "--images", base.folder / "images")[0] == "size-differs"


def test_there_are_as_many_files_as_tools_have_habits() -> None:
    assert len({row.name for row in TABLE}) == len(TABLE) >= 100
    seen = {kind for row in TABLE for kind in row.kinds}
    assert seen == set(rules.KINDS)


def test_the_page_lists_every_kind() -> None:
    page = (ROOT / "docs" / "reference" / "annotation-files.md").read_text(encoding="utf-8")
    assert all(f"| `{kind.name}` |" in page for kind in rules.KINDS)
