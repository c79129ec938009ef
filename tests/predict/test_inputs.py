"""What a user names, sorted; ids and names that are unique; and boxes that find their image."""

import json
from pathlib import Path
from typing import Any

import pytest

from hrpose.batch import source
from hrpose.predict.inputs import ImageInput, boxes_by_image, find_inputs
from refusals import refused


def touched(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [str(folder / name) for name in names]


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["000785.jpg", "12.png"], [785, 12]),
        (["a.jpg", "b.jpg"], [1, 2]),
        # The number of one image is not counted out to another.
        (["b.jpg", "1.jpg", "c.jpg"], [2, 1, 3]),
        # Two images of one number: neither has it.
        (["1.jpg", "01.jpg", "2.jpg"], [3, 4, 2]),
        (["7.jpg", "7.png"], [1, 2]),
        (["²³.jpg", "-4.jpg"], [1, 2]),
    ],
)
def test_ids_of_images(tmp_path: Path, names: list[str], ids: list[int]) -> None:
    images = find_inputs(touched(tmp_path, *names)).images
    assert [(image.name, image.image_id) for image in images] == list(zip(names, ids, strict=True))


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["a.mp4", "b.MOV"], ["a", "b"]),
        (["a.mp4", "a.mov"], ["a.mp4", "a.mov"]),
        (["a.mp4", "A.mov"], ["a.mp4", "A.mov"]),
        (["x/a.mp4", "y/a.mp4", "b.mp4"], ["a.mp4", "a.mp4-2", "b"]),
        (["poses.mp4"], ["poses.mp4"]),
    ],
)
def test_names_of_the_results_of_clips(tmp_path: Path, names: list[str], stems: list[str]) -> None:
    clips = find_inputs(touched(tmp_path, *names)).clips
    assert [clip.stem for clip in clips] == stems


def test_inputs_keep_their_order(tmp_path: Path) -> None:
    touched(tmp_path, "in/b.png", "in/a.jpg", "in/c.webm", "in/notes.txt")
    clip, image = touched(tmp_path, "d.mp4", "e.dat")
    found = find_inputs([image, str(tmp_path / "in"), "camera:0", clip, image])
    assert [image.name for image in found.images] == ["e.dat", "a.jpg", "b.png"]
    assert [clip.stem for clip in found.clips] == ["c", "camera-0", "d"]
    assert found.clips[1].file is None
    assert found.problems == ()


def test_missing_inputs_are_problems_and_no_input_is_an_error(tmp_path: Path) -> None:
    (good,) = touched(tmp_path, "good.jpg")
    touched(tmp_path, "in/notes.txt")
    bad = [str(tmp_path / "none.jpg"), str(tmp_path / "in"), "ftp://host/a.jpg"]
    found = find_inputs([good, *bad])
    assert len(found.images) == 1
    assert [str(problem).split(": ")[0] for problem in found.problems] == bad
    assert [problem.code for problem in found.problems][:2] == ["file-unreadable", "images-missing"]
    with refused("file-unreadable", *bad):
        find_inputs(bad)


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """One image, a folder of images, and what is no image."""
    monkeypatch.setattr(source, "check_address", lambda address: None)
    monkeypatch.setattr(source, "list_address", lambda address: iter(["x/1.jpg", "notes.txt"]))
    monkeypatch.setattr(source, "read_address", str.encode)
    found = find_inputs(["https://h/a.jpg?key=1", "s3://bucket/folder/", "https://h/clip.mp4"])
    assert [str(image) for image in found.images] == [
        "https://h/a.jpg",
        "s3://bucket/folder/x/1.jpg",
    ]
    assert [image.name for image in found.images] == ["a.jpg", "1.jpg"]
    assert found.images[0].content() == b"https://h/a.jpg?key=1"
    (problem,) = found.problems
    assert problem.code == "address-invalid"
    assert "https://h/clip.mp4" in str(problem)


def boxes_in(path: Path, entries: Any) -> Path:
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def test_a_number_that_two_images_share_is_refused(tmp_path: Path) -> None:
    images = find_inputs(touched(tmp_path, "1.jpg", "01.jpg")).images
    file = tmp_path / "boxes.json"
    boxes_in(file, [{"image_id": 1, "bbox": [1, 2, 3, 4]}])
    with refused("boxes-invalid", "entry 0", "1.jpg", "01.jpg"):
        boxes_by_image(file, images)
    boxes_in(file, [{"file_name": "01.jpg", "image_id": 1, "bbox": [1, 2, 3, 4]}])
    found = boxes_by_image(file, images)
    assert [found[image][0] for image in images] == [[], [[1, 2, 3, 4]]]


def test_boxes_match_by_number_beside_images_without_one(tmp_path: Path) -> None:
    images = [ImageInput(Path("a.jpg"), 1), ImageInput(Path("0785.jpg"), 785)]
    file = boxes_in(tmp_path / "boxes.json", [{"image_id": 785, "bbox": [1, 2, 3, 4]}])
    assert boxes_by_image(file, images)[images[1]] == ([[1, 2, 3, 4]], [1.0])
