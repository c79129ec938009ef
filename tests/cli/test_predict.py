"""`hrpose predict` from its arguments to its files: good images, and every bad one."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hrpose.cli.main import main
from hrpose.io import locked
from hrpose.predict.record import Record
from tiny_weights import write_tiny_weights


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str


Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.onnx")


@pytest.fixture
def run(weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`hrpose predict ...` with the tiny weights, unless others are named."""

    def run(*arguments: object) -> Ran:
        words = [str(argument) for argument in arguments]
        if "--weights" not in words:
            words += ["--weights", str(weights)]
        if "--detector" not in words and "--boxes" not in words:
            words += ["--detector", "none"]
        monkeypatch.setattr(sys, "argv", ["hrpose", "predict", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        stdout, stderr = capsys.readouterr()
        return Ran(int(stopped.value.code or 0), stdout, stderr)

    return run


def image(width: int = 64, height: int = 80, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def saved(path: Path, pixels: Image.Image | None = None) -> Path:
    (pixels or image()).save(path)
    return path


def poses_in(out: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    entries: list[dict[str, Any]] = json.loads(
        (out / "poses.json").read_text(encoding="utf-8"), parse_constant=refuse
    )
    return entries


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def one_line_about(ran: Ran, *mentions: object, code: int = 2) -> None:
    """The exit code, and one line with all of `mentions`, such as the error's "[code]"."""
    assert ran.code == code
    (line,) = ran.stderr.splitlines()
    assert re.fullmatch(r"hrpose: .* \[[a-z-]+\]", line)
    for mention in mentions:
        assert str(mention) in line


def test_results_have_the_coco_form_and_file_names(run: Run, tmp_path: Path) -> None:
    image = saved(tmp_path / "photo.jpg")
    out = tmp_path / "out"
    ran = run(image, "--out", out)
    assert (ran.code, ran.stderr) == (0, "")
    head, row, summary = ran.stdout.splitlines(keepends=True)
    assert (head.split(), row.split()[:2]) == (["image", "persons", "scores"], ["photo.jpg", "1"])
    assert summary == (
        f"1 image, 1 person (detector: the full image) -> {out / 'poses.json'}, "
        f"{out / 'photo.jpg'} (ONNX Runtime on CPU, fp32)\n"
    )
    (entry,) = poses_in(out)
    assert entry.keys() == {"file_name", "image_id", "category_id", "keypoints", "score", "bbox"}
    assert entry["file_name"] == "photo.jpg"
    assert (entry["image_id"], entry["category_id"]) == (1, 1)
    assert entry["bbox"] == [0, 0, 64, 80]
    keypoints = np.array(entry["keypoints"]).reshape(17, 3)
    assert np.isfinite(keypoints).all()
    assert 0 < entry["score"] <= 1
    assert names_in(out) == ["photo.jpg", "poses.json", "poses.jsonl"]
    with Image.open(out / "photo.jpg") as drawn:
        assert (drawn.format, drawn.size) == ("JPEG", (64, 80))


def test_images_named_by_numbers_keep_them_as_ids(run: Run, tmp_path: Path) -> None:
    for number in (785, 12):
        saved(tmp_path / f"{number:012d}.png")
    assert run(tmp_path, "--out", tmp_path / "out").code == 0
    found = [(entry["file_name"], entry["image_id"]) for entry in poses_in(tmp_path / "out")]
    assert found == [("000000000012.png", 12), ("000000000785.png", 785)]


@pytest.mark.parametrize(
    ("name", "image", "drawn_name"),
    [
        ("one_pixel.png", Image.new("RGB", (1, 1), (9, 9, 9)), "one_pixel.png"),
        ("thin.png", Image.new("RGB", (1, 300), (9, 200, 9)), "thin.png"),
        ("deep.png", Image.new("I;16", (40, 50), 40000), "deep.png"),
        ("print.jpg", image().convert("CMYK"), "print.jpg"),
        ("gray.jpg", image().convert("L"), "gray.jpg"),
        ("gray.png", image().convert("L"), "gray.png"),
        ("black_and_white.png", image().convert("1"), "black_and_white.png"),
        ("alpha.png", Image.new("RGBA", (40, 50), (200, 10, 10, 90)), "alpha.png"),
        ("web.webp", image(), "web.webp"),
        ("scan.tif", image(), "scan.tif"),
        ("loud.JPG", image(), "loud.JPG"),
        ("moving.gif", image(), "moving.gif.png"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_odd_images_are_drawn(
    run: Run, tmp_path: Path, name: str, image: Image.Image, drawn_name: str
) -> None:
    ran = run(saved(tmp_path / name, image), "--out", tmp_path / "out")
    assert (ran.code, ran.stderr) == (0, "")
    assert names_in(tmp_path / "out") == sorted([drawn_name, "poses.json", "poses.jsonl"])
    assert [entry["file_name"] for entry in poses_in(tmp_path / "out")] == [name]
    with Image.open(tmp_path / "out" / drawn_name) as drawn:
        assert drawn.size == image.size


def test_an_image_on_its_side_comes_out_upright(run: Run, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image(80, 40).save(tmp_path / "phone.jpg", exif=exif)
    assert run(tmp_path / "phone.jpg", "--out", tmp_path / "out").code == 0
    assert poses_in(tmp_path / "out")[0]["bbox"] == [0, 0, 40, 80]
    with Image.open(tmp_path / "out" / "phone.jpg") as drawn:
        assert drawn.size == (40, 80)


def missing(path: Path) -> None:
    assert not path.exists()


def text(path: Path) -> None:
    path.write_text("not an image", encoding="utf-8")


def truncated(path: Path) -> None:
    file = io.BytesIO()
    image(400, 300).save(file, "JPEG")
    path.write_bytes(file.getvalue()[: len(file.getvalue()) // 2])


def empty(path: Path) -> None:
    path.touch()


def one_byte(path: Path) -> None:
    path.write_bytes(b"\xff")


BAD = pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (missing, "file-unreadable"),
        (text, "image-unsupported"),
        (truncated, "image-damaged"),
        (empty, "image-damaged"),
        (one_byte, "image-unsupported"),
    ],
)


@BAD
def test_a_bad_image_is_one_line(
    run: Run, tmp_path: Path, spoil: Callable[[Path], None], code: str
) -> None:
    image = tmp_path / "bad.jpg"
    spoil(image)
    one_line_about(run(image, "--out", tmp_path / "out"), image, f"[{code}]")
    # No empty list of poses over those of an earlier run, and no temporary file.
    assert names_in(tmp_path / "out") == []


@BAD
@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_other_images_are_still_predicted(
    run: Run, tmp_path: Path, spoil: Callable[[Path], None], code: str, batch_size: int
) -> None:
    images = [saved(tmp_path / f"{name}.jpg", image(seed=ord(name))) for name in "acde"]
    bad = tmp_path / "b.jpg"
    spoil(bad)
    given = [images[0], bad, *images[1:]]
    out = tmp_path / "out"
    one_line_about(run(*given, "--out", out, "--batch-size", batch_size), bad, f"[{code}]", code=1)
    names = [image.name for image in images]
    assert [entry["file_name"] for entry in poses_in(out)] == names
    record = Record(out / "poses.jsonl")
    failed = [] if spoil is missing else [(bad.name, code)]  # a file that is not there is no image
    statuses = [(entry.file_name, entry.code) for entry in record]
    assert statuses == [(names[0], None), *failed, *((name, None) for name in names[1:])]
    assert record.end is not None
    assert (record.end["failed"], record.end["complete"]) == (len(failed), True)
    # Neither the bad image nor any temporary file.
    assert names_in(out) == sorted([*names, "poses.json", "poses.jsonl"])


def test_every_bad_image_is_listed(run: Run, tmp_path: Path) -> None:
    saved(tmp_path / "good.png")
    text(tmp_path / "words.jpg")
    truncated(tmp_path / "half.jpg")
    ran = run(tmp_path, tmp_path / "nothing.jpg", "--out", tmp_path / "out")
    assert ran.code == 1
    lines = ran.stderr.splitlines()
    assert len(lines) == 3
    for name in ("words.jpg", "half.jpg", "nothing.jpg"):
        assert sum(name in line for line in lines) == 1
    assert "1 image, 1 person" in ran.stdout


def test_a_name_longer_than_any_file_has(run: Run, tmp_path: Path) -> None:
    good = saved(tmp_path / "good.jpg")
    ran = run(good, tmp_path / f"{'x' * 5000}.jpg", "--out", tmp_path / "out")
    one_line_about(ran, "xxx.jpg", "[file-unreadable]", code=1)
    assert names_in(tmp_path / "out") == ["good.jpg", "poses.json", "poses.jsonl"]


def test_an_empty_folder(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "notes.txt").touch()
    one_line_about(run(folder, "--out", tmp_path / "out"), folder, "[images-missing]")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["w99-huge", "nothing.onnx"])
def test_unknown_weights(run: Run, tmp_path: Path, name: str) -> None:
    image = saved(tmp_path / "photo.jpg")
    ran = run(image, "--out", tmp_path / "out", "--weights", name)
    one_line_about(ran, name, "w16-small", "[weights-unknown]")


def test_weights_of_another_kind(run: Run, tmp_path: Path) -> None:
    image = saved(tmp_path / "photo.jpg")
    plain = write_tiny_weights(tmp_path / "plain.onnx", metadata=None)
    ran = run(image, "--out", tmp_path / "out", "--weights", plain)
    one_line_about(ran, "[metadata-missing]")
    broken = tmp_path / "broken.onnx"
    broken.write_text("not a network", encoding="utf-8")
    one_line_about(run(image, "--out", tmp_path / "out", "--weights", broken), "broken.onnx")
    one_line_about(run(image, "--out", tmp_path / "out", "--weights", image), image)


@pytest.mark.parametrize("below", ["", "deeper"])
def test_an_output_folder_that_cannot_be_written(run: Run, tmp_path: Path, below: str) -> None:
    # A file in the folder's place; permissions would not stop root.
    (tmp_path / "out").touch()
    out = tmp_path / "out" / below
    one_line_about(run(saved(tmp_path / "photo.jpg"), "--out", out), out, "[write-failed]")
    assert names_in(tmp_path) == ["out", "photo.jpg"]


@pytest.mark.parametrize("name", ["photo.jpg", "poses.json"])
def test_a_result_that_cannot_be_written_leaves_no_partial_file(
    run: Run, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    (out / name / "full").mkdir(parents=True)
    ran = run(saved(tmp_path / "photo.jpg"), "--out", out, "--overwrite")
    one_line_about(ran, out / name, "[write-failed]")
    assert {path.name for path in out.iterdir()} <= {"photo.jpg", "poses.json", "poses.jsonl"}


def test_no_input_is_overwritten(run: Run, tmp_path: Path) -> None:
    image = saved(tmp_path / "photo.jpg")
    before = image.read_bytes()
    one_line_about(run(image, "--out", tmp_path), image, "[overwrite-refused]")
    boxes = tmp_path / "poses.json"
    boxes.write_text('[{"file_name": "photo.jpg", "bbox": [1, 1, 9, 9]}]', encoding="utf-8")
    moved = saved(tmp_path / "elsewhere.jpg")
    image.unlink()
    (tmp_path / "in").mkdir()
    moved.rename(tmp_path / "in" / "photo.jpg")
    ran = run(tmp_path / "in" / "photo.jpg", "--boxes", boxes, "--out", tmp_path)
    one_line_about(ran, boxes, "[overwrite-refused]")
    assert before[:2] == b"\xff\xd8"
    assert "photo.jpg" in boxes.read_text(encoding="utf-8")


def test_two_images_of_one_name(run: Run, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        saved(tmp_path / folder / "photo.jpg", image(seed=len(folder)))
    out = tmp_path / "out"
    ran = run(tmp_path / "one", tmp_path / "two", "--out", out, "--save", "images,coco,dataset")
    assert (ran.code, ran.stderr) == (0, "")
    names = [entry["file_name"] for entry in poses_in(out)]
    assert names == [str(tmp_path / "one/photo.jpg"), str(tmp_path / "two/photo.jpg")]
    assert {"photo.jpg", "photo-2.jpg"} <= {path.name for path in out.iterdir()}
    assert names_in(out / "dataset/images/default") == ["photo-2.jpg", "photo.jpg"]


def test_results_are_replaced_only_when_asked(run: Run, tmp_path: Path) -> None:
    first, second = saved(tmp_path / "1.jpg"), saved(tmp_path / "2.jpg")
    out = tmp_path / "out"
    assert run(first, "--out", out).code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    one_line_about(run(second, "--out", out), out / "poses.json", "[overwrite-refused]")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    # What reads nothing changes nothing, whatever it may replace.
    text(tmp_path / "words.jpg")
    ran = run(tmp_path / "words.jpg", "--out", out, "--overwrite")
    one_line_about(ran, "words.jpg", "[image-unsupported]")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert run(second, "--out", out, "--overwrite").code == 0
    assert [entry["file_name"] for entry in poses_in(out)] == ["2.jpg"]


def test_two_runs_into_one_folder(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locked(out):
        ran = run(saved(tmp_path / "photo.jpg"), "--out", out)
    one_line_about(ran, out, "[folder-locked]")
    assert names_in(out) == []


@pytest.mark.parametrize(
    "document",
    [
        [
            {"file_name": "000785.jpg", "bbox": [5, 6, 20, 30], "score": 0.5},
            {"file_name": "000785.jpg", "bbox": [30, 6, 20, 30], "score": 1},
        ],
        [
            {"image_id": 785, "bbox": [5, 6, 20, 30], "score": 0.5},
            {"image_id": 785, "bbox": [30, 6, 20, 30], "score": 1},
            {"image_id": 4, "bbox": [1, 1, 1, 1], "score": 1},
        ],
        {
            "images": [{"id": 9, "file_name": "val/000785.jpg"}],
            "annotations": [
                {"image_id": 9, "bbox": [5, 6, 20, 30]},
                {"image_id": 9, "bbox": [30, 6, 20, 30]},
            ],
        },
    ],
    ids=["file_name", "image_id", "annotations"],
)
def test_boxes_find_their_image(run: Run, tmp_path: Path, document: Any) -> None:
    images = [saved(tmp_path / "000785.jpg"), saved(tmp_path / "000012.jpg")]
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps(document), encoding="utf-8")
    ran = run(*images, "--boxes", boxes, "--out", tmp_path / "out")
    assert ran.code == 0
    others = len(document) == 3 and isinstance(document, list)
    assert ("1 of its entries" in ran.stderr) == others
    assert bool(ran.stderr) == others
    entries = poses_in(tmp_path / "out")
    assert [entry["bbox"] for entry in entries] == [[5, 6, 20, 30], [30, 6, 20, 30]]
    assert {(entry["file_name"], entry["image_id"]) for entry in entries} == {("000785.jpg", 785)}
    # An image without a box has no people, but it is drawn.
    assert names_in(tmp_path / "out") == ["000012.jpg", "000785.jpg", "poses.json", "poses.jsonl"]


@pytest.mark.parametrize(
    ("entry", "mention"),
    [
        ('"bbox": [100, 5, 20, 30]', "box 0"),
        ('"bbox": [-90, 5, 20, 30]', "64 x 80"),
        ('"bbox": [0, 5, 0, 30]', "box 0"),
        ('"bbox": [0, 5, 1e9, 30]', "box 0"),
        ('"bbox": [0, 5, 20, 30], "score": 7', "box_scores"),
    ],
)
def test_a_bad_box_fails_its_image_alone(
    run: Run, tmp_path: Path, entry: str, mention: str
) -> None:
    bad, good = saved(tmp_path / "bad.jpg"), saved(tmp_path / "good.jpg")
    boxes = tmp_path / "boxes.json"
    boxes.write_text(
        f'[{{"file_name": "bad.jpg", {entry}}},'
        ' {"file_name": "good.jpg", "bbox": [5, 6, 20, 30]}]',
        encoding="utf-8",
    )
    out = tmp_path / "out"
    one_line_about(run(bad, good, "--boxes", boxes, "--out", out), bad, mention, code=1)
    assert [entry["file_name"] for entry in poses_in(out)] == ["good.jpg"]
    assert names_in(out) == ["good.jpg", "poses.json", "poses.jsonl"]


@pytest.mark.parametrize(
    ("content", "mention"),
    [
        (None, "[file-unreadable]"),
        ("", "[json-invalid]"),
        ("[1, 2]", "list"),
        ("7", "int"),
        ('{"annotations": []}', "[annotations-invalid]"),
        (
            '{"images": [{"id": 1, "file_name": {}}], '
            '"annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}]}',
            "1",
        ),
        ('[{"file_name": "photo.jpg"}]', "entry 0"),
        ('[{"file_name": "photo.jpg", "bbox": [1, 2, 3]}]', "entry 0"),
        ('[{"file_name": "photo.jpg", "bbox": [1, 2, 3, "four"]}]', "entry 0"),
        ('[{"file_name": "photo.jpg", "bbox": [1, 2, 3, NaN]}]', "entry 0"),
        ('[{"file_name": "photo.jpg", "bbox": [1, 2, 3, Infinity]}]', "entry 0"),
        (f'[{{"file_name": "photo.jpg", "bbox": [1, 2, 3, 1{"0" * 400}]}}]', "entry 0"),
        ('[{"file_name": "photo.jpg", "bbox": [1, 2, 3, 4], "score": NaN}]', "'score'"),
        ('[{"file_name": "photo.jpg", "bbox": [1, 2, 3, 4], "score": null}]', "'score'"),
        ('[{"bbox": [1, 2, 3, 4]}]', "'image_id'"),
        ('[{"image_id": [1], "bbox": [1, 2, 3, 4]}]', "'image_id'"),
        ('[{"file_name": {}, "image_id": {}, "bbox": [1, 2, 3, 4]}]', "'image_id'"),
        ('[{"file_name": "other.jpg", "bbox": [1, 2, 3, 4]}]', "1"),
    ],
)
def test_a_boxes_file_of_another_form(
    run: Run, tmp_path: Path, content: str | None, mention: str
) -> None:
    image = saved(tmp_path / "photo.jpg")
    boxes = tmp_path / "boxes.json"
    if content is not None:
        boxes.write_text(content, encoding="utf-8")
    ran = run(image, "--boxes", boxes, "--out", tmp_path / "out")
    one_line_about(ran, boxes, mention, mention if mention[0] == "[" else "[boxes-invalid]")


def test_a_threshold_out_of_range(run: Run, tmp_path: Path) -> None:
    ran = run(saved(tmp_path / "photo.jpg"), "--out", tmp_path / "out", "--threshold", "2")
    assert ran.code == 2
    assert "threshold" in ran.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--show"],
        ["--detect-every", 2],
        # Given, though equal to the default.
        ["--detect-every", 0.5],
        ["--no-smooth"],
        ["--mark", "boxes", "--save", "coco"],
        ["--side-by-side", "w16-small", "--save", "csv"],
    ],
)
def test_options_without_effect(run: Run, tmp_path: Path, words: list[object]) -> None:
    ran = run(saved(tmp_path / "photo.jpg"), "--out", tmp_path / "out", *words)
    one_line_about(ran, f"{words[0]}: ", "[option-conflict]")
    assert not (tmp_path / "out").exists()


def test_marks_need_a_drawn_clip_or_a_window(run: Run, tmp_path: Path) -> None:
    clip, words = tmp_path / "empty.mp4", ["--mark", "boxes", "--save", "coco", "--out", tmp_path]
    clip.touch()
    one_line_about(run(clip, *words), "--mark: ", "[option-conflict]")
    one_line_about(run(clip, *words, "--show"), clip, "[clip-invalid]")


def test_the_batch_size_is_for_both_weights(
    run: Run, tmp_path: Path, weights: Path, batch_sizes: list[int]
) -> None:
    image = saved(tmp_path / "photo.jpg")
    ran = run(image, "--side-by-side", weights, "--batch-size", 3, "--out", tmp_path / "out")
    assert (ran.code, ran.stderr) == (0, "")
    assert batch_sizes == [3, 3]


def test_in_a_process_of_its_own(tmp_path: Path, weights: Path) -> None:
    """The way a user runs it: the installed entry point, no test double, no traceback."""
    saved(tmp_path / "good.jpg")
    truncated(tmp_path / "half.jpg")
    program = [sys.executable, "-c", "from hrpose.cli.main import main; main()", "predict"]
    words = ["good.jpg", "half.jpg", "--weights", str(weights), "--flip-test", "--detector", "none"]
    ran = subprocess.run(
        [*program, *words],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    one_line_about(Ran(ran.returncode, ran.stdout, ran.stderr), "half.jpg", code=1)
    assert names_in(tmp_path / "out") == ["good.jpg", "poses.json", "poses.jsonl"]
    assert len(poses_in(tmp_path / "out")) == 1
