"""COCO files: what is read, and the errors for invalid ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrpose import io
from hrpose.data import rules
from hrpose.data.coco import load_persons, read_annotations
from hrpose.errors import UserError
from hrpose.skeletons import COCO_17
from refusals import refused


def document() -> dict[str, Any]:
    keypoints = [float(v) for i in range(17) for v in (10 + i, 20 + i, 2)]
    person = {"image_id": 7, "category_id": 1, "iscrowd": 0, "area": 600.0, "keypoints": keypoints}
    return {
        "images": [{"id": 7, "file_name": "a/b.jpg", "width": 64, "height": 48}],
        "annotations": [
            {"id": 1, "bbox": [5, 6, 30.5, 40], **person},
            {"id": 2, "bbox": [-5, 40, 100, 100], **person},
        ],
        "categories": [COCO_17.to_coco_category()],
    }


def write(folder: Path, content: Any) -> Path:
    path = folder / "persons.json"
    path.write_text(json.dumps(content))
    return path


def test_persons_are_read_as_columns(tmp_path: Path) -> None:
    table = load_persons(write(tmp_path, document()))
    assert table.skeleton.keypoints == COCO_17.keypoints
    assert len(table) == 2
    assert table.annotation_ids.tolist() == [1, 2]
    assert table.keypoints[0, :2].tolist() == [[10, 20, 2], [11, 21, 2]]
    assert table.image_name(1) == "a/b.jpg"
    assert table.trust.tolist() == [1, 1]
    # By the rule of the official code: the last pixel of a box is at x + w - 1, within the image.
    np.testing.assert_allclose(table.boxes, [[5, 6, 29.5, 39], [0, 40, 63, 7]])


@pytest.mark.parametrize(
    "changes",
    [
        {"iscrowd": 1},
        {"iscrowd": "1"},
        {"category_id": 2},
        {"keypoints": [0] * 51},
        {"keypoints": [5, 5, 0] * 17},
        {"keypoints": []},
        {"bbox": [70, 5, 10, 10]},
        {"bbox": [5, 5, 0, 10], "keypoints": [0] * 51},
        {"bbox": None, "keypoints": None},
        {"bbox": [5, 5, 1, 10]},
    ],
)
def test_persons_that_are_left_out(tmp_path: Path, changes: dict[str, Any]) -> None:
    content = document()
    content["annotations"][0].update(changes)
    assert load_persons(write(tmp_path, content)).annotation_ids.tolist() == [2]


def test_an_empty_data_set_is_read(tmp_path: Path) -> None:
    content = {**document(), "images": [], "annotations": []}
    assert len(load_persons(write(tmp_path, content))) == 0


def on_person(**changes: Any) -> Callable[[Any], None]:
    return lambda content: content["annotations"][1].update(changes)


def on_image(**changes: Any) -> Callable[[Any], None]:
    return lambda content: content["images"][0].update(changes)


def without(*path: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        *parents, last = path
        for key in parents:
            content = content[key]
        del content[last]

    return change


BAD = [
    (without("images"), "'images'"),
    (without("annotations"), "'annotations'"),
    (without("categories"), "'categories'"),
    (lambda c: c.update(images={}), "'images'"),
    (lambda c: c.update(annotations=[3]), "'annotations'"),
    (lambda c: c.update(categories=[{"id": 1}]), "'categories'"),
    (without("categories", 0, "id"), "'categories'"),
    (lambda c: c["categories"][0].update(id=float("inf")), "'categories'"),
    (lambda c: c["categories"][0].update(id="one"), "'categories'"),
    (lambda c: c["categories"][0].update(id=1.5), "'categories'"),
    (lambda c: c["categories"][0].update(keypoints=["a", "a"]), "'categories'"),
    (lambda c: c["categories"][0].update(keypoints=3), "'categories'"),
    (on_image(width="wide"), "image 7"),
    (lambda c: c["images"].append({**c["images"][0], "file_name": "c.jpg"}), "image 7: 'id'"),
    (without("images", 0, "file_name"), "image 7: 'file_name'"),
    (on_image(file_name=""), "image 7: 'file_name'"),
    (on_image(file_name=3), "image 7: 'file_name'"),
    (on_image(file_name="/etc/passwd"), "image 7: 'file_name'"),
    (on_image(file_name="../a.jpg"), "image 7: 'file_name'"),
    (on_image(file_name="a\\..\\..\\b.jpg"), "image 7: 'file_name'"),
    (on_image(file_name="C:\\a.jpg"), "image 7: 'file_name'"),
    (on_image(file_name="a\0"), "image 7: 'file_name'"),
    (on_image(file_name="\ud800"), "image 7: 'file_name'"),
    (without("images", 0, "width"), "image 7"),
    (on_image(height="tall"), "image 7"),
    (on_image(height=0), "image 7"),
    (on_image(width=2**40), "image 7"),
    (on_image(width=float("nan")), "image 7"),
    (on_person(image_id=8), "annotation 2"),
    (on_person(image_id=[]), "annotation 2"),
    (without("annotations", 1, "image_id"), "annotation 2"),
    (on_person(iscrowd="perhaps"), "annotation 2: 'iscrowd'"),
    (on_person(keypoints=[1, 2, 2] * 16), "annotation 2: 'keypoints'"),
    (on_person(keypoints=[[1, 2]] * 17), "annotation 2: 'keypoints'"),
    (on_person(keypoints=[None, 2, 2] * 17), "annotation 2: 'keypoints'"),
    (on_person(keypoints=[1, float("nan"), 2] * 17), "annotation 2: 'keypoints'"),
    (on_person(keypoints=5), "annotation 2: 'keypoints'"),
    (on_person(keypoints=[1, 2, "seen"] * 17), "annotation 2: 'keypoints'"),
    (on_person(keypoints=[10**400, 2, 2] * 17), "annotation 2: 'keypoints'"),
    (on_person(trust="much"), "annotation 2"),
    (on_person(trust=-1), "annotation 2: 'trust'"),
    (on_person(trust=float("nan")), "annotation 2: 'trust'"),
]


@pytest.mark.parametrize(("change", "entry"), BAD, ids=range(len(BAD)))
def test_a_bad_file_is_refused_with_its_name_and_the_entry(
    tmp_path: Path, change: Callable[[Any], None], entry: str
) -> None:
    content = document()
    change(content)
    path = write(tmp_path, content)
    with refused("annotations-invalid", f"{path}: {entry}"):
        load_persons(path)


# Lenient reading refuses files without these, too.
NEEDED = ("'images'", "'annotations'", "'categories'")


@pytest.mark.parametrize(("change", "entry"), BAD, ids=range(len(BAD)))
def test_lenient_reading_reports_what_strict_reading_refuses(
    tmp_path: Path, change: Callable[[Any], None], entry: str
) -> None:
    content = document()
    change(content)
    path = write(tmp_path, content)
    lenient = read_annotations(path, lenient=True)
    with pytest.raises(UserError) as caught:
        load_persons(path)
    assert caught.value.code == "annotations-invalid"
    if entry.startswith(NEEDED):
        with refused("annotations-invalid", str(caught.value)):
            lenient.persons()
        return
    first = lenient.problems[0]
    assert str(caught.value) == f"{path}: {first.message}"
    kept = [1] if first.of == "annotation" else []
    assert lenient.persons().annotation_ids.tolist() == kept


def test_lenient_reading_keeps_the_sound_entries_of_every_kind(tmp_path: Path) -> None:
    content = document()
    content["images"].append({"id": 8, "file_name": "../b.jpg", "width": 64, "height": 48})
    one = content["annotations"][0]
    content["annotations"] += [
        {**one, "id": 3, "image_id": 8},
        {**one, "id": 4, "keypoints": "none"},
        {**one, "id": 5, "iscrowd": "no", "area": "large"},
        {**one, "id": 7, "category_id": [1]},
    ]
    lenient = read_annotations(write(tmp_path, content), lenient=True)
    reported = [(p.of, p.entry["id"], p.field) for p in lenient.problems]
    assert reported == [
        ("image", 8, "file_name"),
        ("annotation", 3, "image_id"),
        ("annotation", 4, "keypoints"),
        ("annotation", 5, "iscrowd"),
        ("annotation", 7, "category-unknown"),
    ]
    assert [note.kind for note in lenient.notes] == [rules.CATEGORY_UNKNOWN]
    assert lenient.persons().annotation_ids.tolist() == [1, 2]
    assert [entry["id"] for entry in lenient.instances(crowds=False).entries] == [1, 2]
    assert [image["id"] for image in lenient.images] == [7]


# What is odd about the second of two persons, the kind of note, and the box it has then.
POINTS = [float(v) for i in range(17) for v in (10 + i, 20 + i, 2)]
GIVEN = [0, 40, 63, 7]
MADE = [8.4, 18.4, 18.2, 18.2]  # 16 pixels and a tenth on each side, less one pixel
ODD = [
    ({"area": None}, [rules.AREA_OF_BOX], GIVEN),
    ({"area": 0}, [rules.AREA_OF_BOX], GIVEN),
    ({"area": -1}, [rules.AREA_OF_BOX], GIVEN),
    ({"area": float("nan")}, [rules.AREA_OF_BOX], GIVEN),
    ({"area": 10**400}, [rules.AREA_OF_BOX], GIVEN),
    ({"area": "large"}, [rules.AREA_OF_BOX], GIVEN),
    ({"area": "700"}, [rules.NUMBER_AS_TEXT], GIVEN),
    ({"bbox": None}, [rules.BOX_MADE], MADE),
    ({"bbox": [5, 5, 0, 10]}, [rules.BOX_MADE], MADE),
    ({"bbox": [5, 5, 10, -1]}, [rules.BOX_MADE], MADE),
    ({"bbox": [1, 2, 3]}, [rules.BOX_MADE], MADE),
    ({"bbox": [1, 2, 3, float("inf")]}, [rules.BOX_MADE], MADE),
    ({"bbox": [1, 2, 3, [4]]}, [rules.BOX_MADE], MADE),
    ({"bbox": ["-5", "40", "100", "1e2"]}, [rules.NUMBER_AS_TEXT], GIVEN),
    ({"id": None}, [rules.ID_NEW], GIVEN),
    ({"id": 1}, [rules.ID_NEW], GIVEN),
    ({"id": "b"}, [rules.ID_NEW], GIVEN),
    ({"id": 2.5}, [rules.ID_NEW], GIVEN),
    ({"id": "2"}, [rules.NUMBER_AS_TEXT], GIVEN),
    ({"id": 2.0}, [], GIVEN),
    ({"image_id": "7"}, [rules.NUMBER_AS_TEXT], GIVEN),
    ({"image_id": 7.0}, [], GIVEN),
    ({"category_id": "1"}, [rules.NUMBER_AS_TEXT], GIVEN),
    ({"category_id": 1.0}, [], GIVEN),
    ({"iscrowd": "0"}, [rules.NUMBER_AS_TEXT], GIVEN),
    ({"iscrowd": None}, [], GIVEN),
    ({"iscrowd": False}, [], GIVEN),
    ({"keypoints": np.reshape(POINTS, (17, 3)).tolist()}, [rules.KEYPOINTS_NESTED], GIVEN),
    ({"keypoints": [*POINTS[:48], None, None, 0]}, [rules.KEYPOINT_EMPTY], GIVEN),
    ({"keypoints": [*POINTS[:48], float("nan"), 3, 0]}, [rules.KEYPOINT_EMPTY], GIVEN),
    ({"keypoints": [*POINTS[:48], None, None, None]}, [rules.KEYPOINT_EMPTY], GIVEN),
    ({"keypoints": [*map(str, POINTS)]}, [rules.NUMBER_AS_TEXT], GIVEN),
    ({"keypoints": [*POINTS[:50], 0.9]}, [rules.VISIBILITY], GIVEN),
    ({"keypoints": [*POINTS[:50], -1]}, [rules.VISIBILITY], GIVEN),
    ({"num_keypoints": 0}, [rules.NUM_KEYPOINTS], GIVEN),
    ({"num_keypoints": 17}, [], GIVEN),
    ({"keypoints": [0.5, 0.25, 2] * 17}, [rules.SHARES], GIVEN),
    ({"bbox": [20, 10, 60, 45]}, [rules.CORNERS], [20, 10, 43, 37]),
    ({"bbox": [20, 10, 43, 37]}, [], [20, 10, 42, 36]),
]


@pytest.mark.parametrize(("changes", "kinds", "box"), ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("lenient", [False, True])
def test_odd_entries_are_repaired_and_counted(
    tmp_path: Path,
    changes: dict[str, Any],
    kinds: list[rules.Kind],
    box: list[float],
    lenient: bool,
) -> None:
    content = document()
    content["annotations"][1].update(changes)
    path = write(tmp_path, content)
    annotations = read_annotations(path, lenient=lenient)
    table = annotations.persons()
    assert [note.kind for note in table.notes] == kinds
    assert all(note.count == 1 and str(note).startswith("1 annotation ") for note in table.notes)
    assert [problem.odd for problem in annotations.problems] == (kinds if lenient else [])
    assert table.annotation_ids.tolist() == [1, 2]
    np.testing.assert_allclose(table.boxes[1], box, atol=1e-3)
    assert (table.areas > 0).all()
    # What the editing commands write is whole, and reading it again finds nothing odd but the rest.
    again = {**content, **annotations.part(annotations.images, annotations.annotations)}
    (tmp_path / "again").mkdir()
    repaired = read_annotations(write(tmp_path / "again", again)).persons()
    assert [n.kind for n in repaired.notes] == [
        kind for kind in kinds if kind.outcome is rules.Outcome.accepted
    ]
    np.testing.assert_array_equal(repaired.keypoints, table.keypoints)
    np.testing.assert_allclose(repaired.boxes, table.boxes, atol=1e-3)


IMAGES = [
    (on_image(id="7"), [rules.NUMBER_AS_TEXT], 7),
    (on_image(id="seven"), [rules.ID_NEW], 1),
    (on_image(id=7.5), [rules.ID_NEW], 1),
    (on_image(id=-7), [rules.ID_NEW], 1),
    (on_image(id=2**70), [rules.ID_NEW], 1),
    (on_image(width="64"), [rules.NUMBER_AS_TEXT], 7),
    (on_image(file_name="a\\b.jpg"), [rules.BACKSLASH], 7),
    (lambda c: c.update(images=c["images"] * 2), [rules.IMAGE_REPEATED], 7),
    (lambda c: c["images"].append({"file_name": "c.jpg", "width": 9, "height": 9}),
     [rules.IMAGE_WITHOUT_ID], 7),
]  # fmt: skip


@pytest.mark.parametrize(("change", "kinds", "number"), IMAGES, ids=range(len(IMAGES)))
def test_odd_images_are_repaired_and_counted(
    tmp_path: Path, change: Callable[[Any], None], kinds: list[rules.Kind], number: int
) -> None:
    content = document()
    change(content)
    for annotation in content["annotations"]:
        annotation["image_id"] = content["images"][0]["id"]
    annotations = read_annotations(write(tmp_path, content))
    table = annotations.persons()
    notes = [note for note in table.notes if note.of == "image"]
    assert [(note.kind, note.count) for note in notes] == [(kind, 1) for kind in kinds]
    assert table.image_ids.tolist() == [number] == [image["id"] for image in annotations.images]
    assert table.image_name(1) == "a/b.jpg" == annotations.images[0]["file_name"]
    assert {entry["image_id"] for entry in annotations.annotations} == {number}


def test_images_without_a_size_are_read_where_it_is_not_needed(tmp_path: Path) -> None:
    content = document()
    del content["images"][0]["width"]
    content["annotations"][0]["bbox"] = None
    annotations = read_annotations(write(tmp_path, content), sized=False)
    assert annotations.image_columns["image_wh"].tolist() == [[0, 0]]
    assert annotations.annotations[0]["bbox"] == [8.4, 18.4, 19.2, 19.2]


def test_objects_that_are_nobody_are_left_out(tmp_path: Path) -> None:
    content = document()
    nobody = {"image_id": 7, "category_id": 1, "area": 0, "num_keypoints": 4}
    content["annotations"] += [
        {**nobody, "id": 3, "bbox": [0, 0, 0, 0], "keypoints": []},
        {**nobody, "id": 4, "bbox": None, "keypoints": [5, 5, 0] * 17},
        {**nobody, "id": 5},
    ]
    annotations = read_annotations(write(tmp_path, content))
    assert [entry["id"] for entry in annotations.annotations] == [1, 2]
    (note,) = annotations.notes
    assert (note.kind, note.count, note.examples) == (rules.NOBODY, 3, ("3", "4", "5"))


def test_a_file_of_which_all_falls_out_is_refused(tmp_path: Path) -> None:
    content = document()
    for annotation, category in zip(content["annotations"], (2, None), strict=True):
        annotation["category_id"] = category
    path = write(tmp_path, content)
    with refused("labels-missing", str(path), "2 (1)", "nothing (1)", "'categories' have 1"):
        load_persons(path)
    lenient = read_annotations(path, lenient=True)
    assert [problem.odd for problem in lenient.problems] == [rules.CATEGORY_UNKNOWN] * 2
    with refused("labels-missing", "category_id"):
        lenient.refuse_nothing()
    # Those of another category that the file has are not odd.
    content["categories"].append({"id": 2, "name": "dog"})
    content["annotations"][1]["category_id"] = 2
    assert len(load_persons(write(tmp_path, content))) == 0


CATEGORIES = [
    ([[0, 1], [1, 2]], ((0, 1), (1, 2)), [rules.LIMBS_FROM_0]),
    ([[1, 2], [2, 3]], ((0, 1), (1, 2)), []),
    ([[1, 2], [2, 9], [3, 3], [0, 3], "ab", None], ((0, 1),), [rules.LIMBS_DROPPED]),
    ([[0, 1], [2, 2]], ((0, 1),), [rules.LIMBS_FROM_0, rules.LIMBS_DROPPED]),
    (None, (), []),
]


@pytest.mark.parametrize(("limbs", "read", "kinds"), CATEGORIES, ids=range(len(CATEGORIES)))
def test_limbs_that_do_not_fit(tmp_path: Path, limbs: Any, read: Any, kinds: Any) -> None:
    content = document()
    content["categories"] = [
        {"id": 1, "name": "x", "keypoints": ["a", "b", "c"], "skeleton": limbs}
    ]
    content["annotations"] = []
    annotations = read_annotations(write(tmp_path, content))
    assert annotations.skeleton.limbs == read
    assert [note.kind for note in annotations.notes] == kinds


def test_names_in_another_spelling_are_the_shipped_skeleton(tmp_path: Path) -> None:
    content = document()
    names = [name.replace("left_", "L").replace("right_", "R ").title() for name in
             COCO_17.keypoints]  # fmt: skip
    content["categories"][0]["keypoints"] = names
    annotations = read_annotations(write(tmp_path, content))
    assert annotations.skeleton is COCO_17
    (note,) = annotations.notes
    assert note.kind is rules.NAMES_SPELLED
    assert "coco-17" in str(note)
    written = annotations.part([], [])["categories"]
    assert written[0]["keypoints"] == list(COCO_17.keypoints)


def test_views_are_of_one_document(tmp_path: Path) -> None:
    content = {**document(), "info": {"a": 1}}
    content["images"].append({"id": 8, "file_name": "b.jpg", "width": 64, "height": 48})
    content["annotations"].append({"id": 9, "image_id": 8, "category_id": 1, "bbox": [1, 2, 9, 9]})
    content["categories"].append({"id": 2, "name": "dog"})
    annotations = read_annotations(write(tmp_path, content))
    assert read_annotations(annotations) is annotations
    assert annotations.problems == []
    assert annotations.images == content["images"]
    ids = [[entry["id"] for entry in own] for own in annotations.annotations_by_image()]
    assert ids == [[1, 2], [9]]
    assert [len(boxes) for boxes in annotations.boxes().boxes] == [2, 1]
    assert annotations.persons(unlabeled=True).annotation_ids.tolist() == [1, 2, 9]
    assert annotations.part(annotations.images[1:], []) == {
        "info": {"a": 1},
        "categories": content["categories"][:1],
        "images": content["images"][1:],
        "annotations": [],
    }


def animals() -> dict[str, Any]:
    """Two persons as a dog and a cat, and a horse with keypoints of its own."""
    content = document()
    (person,) = content["categories"]
    kinds = ((1, "dog"), (5, "cat"))
    content["categories"] = [
        {**person, "id": number, "name": name, "supercategory": "animal"} for number, name in kinds
    ]
    content["annotations"][1]["category_id"] = 5
    return content


def test_one_of_several_categories(tmp_path: Path) -> None:
    path = write(tmp_path, animals())
    with refused("category-unknown", "'dog', 'cat'", "--category", "--merge-categories"):
        load_persons(path)
    for chosen, ids in (("dog", [1]), ("cat", [2]), ("5", [2])):
        table = read_annotations(path, category=chosen).persons()
        assert table.annotation_ids.tolist() == ids
    with refused("category-unknown", "horse", "'dog', 'cat'"):
        read_annotations(path, category="horse").persons()


def test_two_categories_of_one_name_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    content = animals()
    content["categories"][1]["name"] = "dog"
    path = write(tmp_path, content)
    with refused("category-unknown", "'dog' (id 1), 'dog' (id 5)"):
        read_annotations(path, category="dog").persons()
    assert read_annotations(path, category="5").persons().annotation_ids.tolist() == [2]


def test_categories_with_the_same_keypoints_are_read_as_one(tmp_path: Path) -> None:
    path = write(tmp_path, animals())
    merged = read_annotations(path, merge_categories=True)
    assert merged.persons().annotation_ids.tolist() == [1, 2]
    assert merged.category_id == 1
    (category,) = merged.part([], [])["categories"]
    assert category["name"] == "animal"
    with refused("option-conflict", "--merge-categories", "dog"):
        read_annotations(path, category="dog", merge_categories=True)
    content = animals()
    del content["categories"][0]["supercategory"]
    merged = read_annotations(write(tmp_path, content), merge_categories=True)
    assert merged.part([], [])["categories"][0]["name"] == "dog+cat"
    content["categories"][1]["keypoints"] = ["nose"]
    with refused("keypoints-differ", "cat", "--category"):
        read_annotations(write(tmp_path, content), merge_categories=True)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"3", b"[]", b"null"])
def test_what_is_no_coco_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "persons.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_persons(path)
    assert caught.value.code in ("json-invalid", "annotations-invalid")
    assert str(path) in str(caught.value)


def test_numbers_beyond_64_bits_are_no_place(tmp_path: Path) -> None:
    content = document()
    content["annotations"][1]["bbox"] = [1, 2, 2**70, 30]
    table = load_persons(write(tmp_path, content))
    assert table.boxes.max() < 100
    assert rules.BOX_MADE in [note.kind for note in table.notes]


def test_a_file_beyond_the_bound_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, document())
    monkeypatch.setattr(io, "MAX_JSON_BYTES", 10)
    with refused("file-too-large", "persons.json", "10"):
        load_persons(path)


@pytest.mark.parametrize("category_id", [float("inf"), "one", [], 1.5])
def test_the_category_of_images_without_persons(tmp_path: Path, category_id: Any) -> None:
    content = document()
    del content["annotations"]
    content["categories"] = [{"id": category_id, "name": "person"}]
    path = write(tmp_path, content)
    with refused("annotations-invalid", f"{path}: 'categories'", "'id'"):
        read_annotations(path).test_images(COCO_17)


def test_a_missing_file(tmp_path: Path) -> None:
    with refused("file-unreadable", "none.json"):
        load_persons(tmp_path / "none.json")
