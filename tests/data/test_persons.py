"""Boxes of persons: read, split, and refused by name where broken; rows grouped by image."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrpose.data.coco import read_annotations
from hrpose.data.persons import BoxTable, group_by_image
from hrpose.data.rules import AREA_OF_BOX, NOBODY
from refusals import refused


def document(**changes: Any) -> dict[str, Any]:
    return {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in range(1, 6)
        ],
        "annotations": [
            {"id": 1, "image_id": 2, "category_id": 7, "bbox": [1, 2, 10, 20]},
            {"id": 2, "image_id": 2, "category_id": 7, "bbox": [30, 2, 10, 20]},
            {"id": 3, "image_id": 5, "category_id": 7, "bbox": [0, 0, 64, 48], "iscrowd": 1},
            {"id": 4, "image_id": 5, "category_id": 8, "bbox": [0, 0, 9, 9]},
        ],
        "categories": [{"id": 7, "name": "person"}, {"id": 8, "name": "dog"}],
        **changes,
    }


def write(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    return path


def load_boxes(path: Path) -> BoxTable:
    return read_annotations(path).boxes()


def test_persons_are_read_crowds_and_dogs_are_not(tmp_path: Path) -> None:
    table = load_boxes(write(tmp_path, document()))
    assert len(table) == 5
    assert [len(boxes) for boxes in table.boxes] == [0, 2, 0, 0, 0]
    np.testing.assert_array_equal(table.boxes[1], [[1, 2, 10, 20], [30, 2, 10, 20]])


def test_the_held_out_images_are_not_among_the_others(tmp_path: Path) -> None:
    rest, held_out = load_boxes(write(tmp_path, document())).held_out(2)
    assert held_out.file_names == ("1.jpg", "3.jpg", "5.jpg")
    assert rest.file_names == ("2.jpg", "4.jpg")
    assert len(rest.boxes[0]) == 2


@pytest.mark.parametrize(
    ("changes", "mention"),
    [
        ({"categories": [{"id": 1, "name": "dog"}]}, "dog"),
        ({"images": None}, "'images'"),
        (
            {"annotations": [{"id": 1, "image_id": 9, "category_id": 7, "bbox": [1, 2, 3, 4]}]},
            "annotation 1: 'image_id'",
        ),
    ],
)
def test_invalid_files(tmp_path: Path, changes: dict[str, Any], mention: str) -> None:
    with refused("annotations-invalid", "boxes.json", mention):
        load_boxes(write(tmp_path, document(**changes)))


def test_boxes_of_nobody_are_left_out_and_all_of_them_are_an_error(tmp_path: Path) -> None:
    box = {"id": 1, "image_id": 2, "category_id": 7}
    odd = [{**box, "bbox": [1, 2, 3]}, {**box, "id": 2, "bbox": [1, 2, 3, 0]}]
    good = {**box, "id": 3, "bbox": [1, 2, 3, 4]}
    table = load_boxes(write(tmp_path, document(annotations=[*odd, good])))
    assert sum(map(len, table.boxes)) == 1
    assert [(note.kind, note.count) for note in table.notes] == [(NOBODY, 2), (AREA_OF_BOX, 1)]
    with refused("labels-missing", "boxes.json", "id 1, 2"):
        load_boxes(write(tmp_path, document(annotations=odd)))


def test_images_of_some_sources_are_left_out(tmp_path: Path) -> None:
    images = [
        {**image, "source": "web" if image["id"] % 2 else "street"}
        for image in document()["images"]
    ]
    table = load_boxes(write(tmp_path, document(images=images)))
    assert table.without([]).file_names == table.file_names
    rest = table.without(["web"])
    assert rest.file_names == ("2.jpg", "4.jpg")
    assert [len(boxes) for boxes in rest.boxes] == [2, 0]
    with pytest.raises(ValueError, match="town"):
        table.without(["web", "town"])


@pytest.mark.parametrize(
    ("index", "groups"),
    [([], {}), ([4], {4: [0]}), ([2, 0, 2, 7, 0], {0: [1, 4], 2: [0, 2], 7: [3]})],
)
def test_rows_are_grouped_by_image(index: list[int], groups: dict[int, list[int]]) -> None:
    found = group_by_image(np.asarray(index, np.int32))
    assert list(found) == list(groups)
    assert {image: rows.tolist() for image, rows in found.items()} == groups
