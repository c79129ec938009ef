"""What a user names, sorted; ids and names that are unique; and boxes that find their image."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clips import colors, times, write_clip
from hrpose.batch import source
from hrpose.errors import UserError
from hrpose.io import natural_key
from hrpose.predict.inputs import ClipInput, ImageInput, boxes_by_image, find_inputs
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
    clip, image = touched(tmp_path, "d.mp4", "e")
    Path(image).write_bytes(png())
    found = find_inputs([image, str(tmp_path / "in"), "camera:0", clip, image])
    assert [image.name for image in found.images] == ["e", "a.jpg", "b.png"]
    assert [clip.stem for clip in found.clips] == ["c", "camera-0", "d"]
    assert found.clips[1].file is None
    assert found.problems == ()
    assert found.skipped == {"empty file": 1}


def png(size: tuple[int, int] = (4, 3), kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (9, 8, 7)).save(file, kind, **options)
    return file.getvalue()


def animated(kind: str) -> bytes:
    return png(kind=kind, save_all=True, append_images=[Image.new("RGB", (4, 3), "red")])


def test_content_decides_and_the_rest_is_counted_by_kind(tmp_path: Path) -> None:
    """An ending says what a file should be only where its content is nothing at all."""
    contents = {
        "clip": write_clip(tmp_path / "whole.mp4", colors(2), times(2)).read_bytes(),
        "clip.jpg": (tmp_path / "whole.mp4").read_bytes(),
        "image": png(),
        "image.mp4": png(kind="JPEG"),
        "moving.webp": animated("WEBP"),
        "moving.gif": animated("GIF"),
        "moving.png": animated("PNG"),
        "still.gif": png(kind="GIF"),
        "page.jpg": b"<html>404</html>",  # should be an image, so it is reported
        "empty.png": b"",
        "notes": b"words\n",
        "labels.json": b"{}",
        "program.ts": b"export const a = 1\n",
        "report.dat": b"%PDF-1.7\n\x80",
        "noise.bin": bytes([200, 1, 0, 255] * 9),
        "photo.nef": png(kind="TIFF"),
        ".hidden.jpg": png(),
    }
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "sub").mkdir()
    (folder / "gone").symlink_to(tmp_path / "nothing")
    (folder / "circle").symlink_to(folder / "circle")
    os.mkfifo(folder / "pipe.jpg")
    found = find_inputs([str(folder)])
    assert [image.name for image in found.images] == [
        "empty.png", "image", "image.mp4", "page.jpg", "still.gif",
    ]  # fmt: skip
    assert [clip.file.name for clip in found.clips if clip.file] == [
        "clip", "clip.jpg", "moving.gif", "moving.png", "moving.webp",
    ]  # fmt: skip
    assert found.skipped == {
        "text file": 3, "PDF": 1, "file of an unknown kind": 1, "raw photo": 1, "folder": 1,
        "hidden file or folder": 1, "broken link": 2, "pipe or device": 1,
    }  # fmt: skip
    assert found.skipped_line.startswith("3 text files, 2 broken links, 1 PDF, ")
    assert "1 folder (--recursive)" in found.skipped_line


def test_folders_in_folders(tmp_path: Path) -> None:
    """Each folder once, whatever links to it; hidden ones and that of the results are left out."""
    for name in ("b/2.jpg", "b/c/x.jpg", "a/1.jpg", "z.jpg", ".git/o.jpg", "out/z.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png())
    (tmp_path / "b" / "up").symlink_to(tmp_path, target_is_directory=True)
    found = find_inputs([str(tmp_path)], recursive=True, results=tmp_path / "out")
    assert [image.name for image in found.images] == ["z.jpg", "a/1.jpg", "b/2.jpg", "b/c/x.jpg"]
    assert found.skipped == {"hidden file or folder": 1, "link to a folder already read": 1}
    assert [image.name for image in find_inputs([str(tmp_path)]).images] == ["z.jpg"]


@given(st.lists(st.integers(0, 10**6), min_size=1, unique=True))
def test_numbers_in_names_are_in_order(numbers: list[int]) -> None:
    names = sorted((f"frame{number}.jpg" for number in numbers), key=natural_key)
    assert names == [f"frame{number}.jpg" for number in sorted(numbers)]


@given(st.lists(st.text(max_size=9)))
def test_every_name_has_a_place_in_the_order(names: list[str]) -> None:
    ordered = sorted(names, key=natural_key)
    assert sorted(ordered) == sorted(names)
    names.reverse()
    assert ordered == sorted(names, key=natural_key)


@pytest.mark.parametrize(
    ("content", "mention"),
    [(b"%PDF-1.4\n\x80", "a PDF"), (b"words", "a text file"), (b"PK\3\4aa", "zip"),
     (bytes([200, 1, 0, 255] * 9), "unknown")],
)  # fmt: skip
def test_a_named_file_of_another_kind(tmp_path: Path, content: bytes, mention: str) -> None:
    path = tmp_path / "thing"
    path.write_bytes(content)
    with refused("input-unsupported", str(path), mention):
        find_inputs([str(path)])


def test_an_empty_name_is_no_folder() -> None:
    with refused("file-unreadable", "empty name"):
        find_inputs([""])


def test_a_number_is_a_camera_where_it_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_inputs(["0"]).clips == (ClipInput("camera:0", "camera-0"),)
    Path("0").write_bytes(png())
    assert find_inputs(["0"]).images == (ImageInput(Path("0"), 0),)


@pytest.mark.parametrize("path", ["/dev/zero", "/proc/kmsg"])
def test_devices_are_refused(path: str) -> None:
    if not Path(path).exists():
        pytest.skip(f"no {path}")
    with pytest.raises(UserError):
        find_inputs([path])


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
    kinds = {"http://h/cam": "multipart/x-mixed-replace", "http://h/i": "image/png"}
    monkeypatch.setattr(source, "content_type", kinds.__getitem__)
    found = find_inputs(
        ["https://h/a.jpg?key=1", "s3://bucket/folder/", "https://h/clip.mp4", "http://h/cam",
         "http://h/i", "rtsp://me:secret@h:554/a/b?c=d"]
    )  # fmt: skip
    assert [str(image) for image in found.images] == [
        "https://h/a.jpg",
        "s3://bucket/folder/x/1.jpg",
        "http://h/i",
    ]
    assert [image.name for image in found.images] == ["a.jpg", "x/1.jpg", "i"]
    assert found.images[0].content() == b"https://h/a.jpg?key=1"
    assert [str(clip) for clip in found.clips] == [
        "https://h/clip.mp4", "http://h/cam", "rtsp://h:554/a/b",
    ]  # fmt: skip
    assert found.clips[2].stem == "rtsp-h-554-a-b"
    assert not found.problems


def test_an_address_without_an_answer() -> None:
    """It may be a camera, whose user and password stand in its address, so that is no mistake."""
    with refused("download-failed", "http://127.0.0.1:9/video: gives no answer"):
        find_inputs(["http://me:secret@127.0.0.1:9/video?key=1"])


def test_no_address_leads_out_of_the_folder_of_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "check_address", lambda address: None)
    monkeypatch.setattr(source, "list_address", lambda address: iter(["a/../../../1.jpg"]))
    assert [image.name for image in find_inputs(["s3://bucket/folder/"]).images] == ["1.jpg"]


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
    found, _ = boxes_by_image(file, images)
    assert [found[image][0] for image in images] == [[], [[1, 2, 3, 4]]]


def test_boxes_match_by_number_beside_images_without_one(tmp_path: Path) -> None:
    images = [ImageInput(Path("a.jpg"), 1), ImageInput(Path("0785.jpg"), 785)]
    file = boxes_in(tmp_path / "boxes.json", [{"image_id": 785, "bbox": [1, 2, 3, 4]}])
    found, _ = boxes_by_image(file, images)
    assert found[images[1]] == ([[1, 2, 3, 4]], [1.0])


def test_boxes_match_names_in_every_unicode_form(tmp_path: Path) -> None:
    """MacOS stores e and its accent as two characters, most others as one."""
    images = [ImageInput(Path("cafe\u0301.jpg"), 1), ImageInput(Path("x/b.jpg"), 2, "x/b.jpg"),
              ImageInput(Path("y/b.jpg"), 3, "y/b.jpg")]  # fmt: skip
    entries = [{"file_name": name, "bbox": [1, 2, 3, 4]}
               for name in ("caf\u00e9.jpg", "x\\b.jpg", "other.jpg")]  # fmt: skip
    found, unmatched = boxes_by_image(boxes_in(tmp_path / "boxes.json", entries), images)
    assert [len(found[image][0]) for image in images] == [1, 1, 0]
    assert unmatched == 1
    file = boxes_in(tmp_path / "boxes.json", [{"file_name": "b.jpg", "bbox": [1, 2, 3, 4]}])
    with refused("boxes-invalid", "x/b.jpg", "y/b.jpg"):
        boxes_by_image(file, images)


def test_boxes_from_a_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "boxes.json")
    with refused("file-unreadable", "pipe"):
        boxes_by_image(tmp_path / "boxes.json", [ImageInput(Path("a.jpg"), 1)])
