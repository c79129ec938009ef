"""DeepLabCut and SLEAP: files that their own libraries wrote, and damaged ones."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.formats import exports
from data.formats.exports import EXPECTED, KEYPOINTS
from data.formats.test_left_out import convert, converted
from data.formats.test_readers import persons
from fuzz.mutate import mutate
from hrpose.data.formats import SOURCES, hdf5
from hrpose.data.formats.convert import documents
from hrpose.data.formats.pose_set import ReadOptions
from hrpose.errors import UserError
from hrpose.image import read_image
from refusals import check_refusal, refused

pytestmark = pytest.mark.slow  # each file is read in a process of its own

h5py = pytest.importorskip("h5py")

FILES = Path(__file__).parent / "files"
# Neither tool has a visibility.
VISIBLE = {
    name: [2 if v == 1 and i % 3 == 2 else v for i, v in enumerate(values[0])]
    for name, values in EXPECTED.items()
}


def placed(root: Path, name: str, images: str) -> Path:
    exports.images(root / images)
    return Path(shutil.copy(FILES / name, root / name))


def keypoints(document: dict[str, Any]) -> dict[str, list[list[float]]]:
    return {
        Path(name).name: [person["keypoints"] for person in found]
        for name, found in persons(document).items()
    }


@pytest.mark.parametrize("name", ["deeplabcut.csv", "deeplabcut.h5"])
def test_one_animal_of_deeplabcut(tmp_path: Path, name: str) -> None:
    found, output = converted("deeplabcut", placed(tmp_path / "in", name, "labeled-data/clip"))
    document = found["annotations"]
    assert keypoints(document) == {image: [values] for image, values in VISIBLE.items()}
    assert [image["file_name"] for image in document["images"]] == [
        "labeled-data/clip/a.jpg",
        "labeled-data/clip/b.jpg",
    ]
    assert {image["video"] for image in document["images"]} == {"clip"}
    assert all(person["bbox_guessed"] for person in document["annotations"])
    assert "left out: images without a labeled keypoint (1)" in output
    assert "flip pairs: left_ear/right_ear" in output


@pytest.mark.parametrize("name", ["deeplabcut-several.csv", "deeplabcut-several.h5"])
def test_several_animals_of_deeplabcut(tmp_path: Path, name: str) -> None:
    found, output = converted("deeplabcut", placed(tmp_path / "in", name, "labeled-data/clip"))
    a, b = VISIBLE["a.jpg"], VISIBLE["b.jpg"]
    assert keypoints(found["annotations"]) == {"a.jpg": [a, b], "b.jpg": [b]}
    assert "left out: points of 'single', which belong to no animal (2)" in output


def test_keypoints_of_deeplabcut_are_in_the_order_of_its_columns(tmp_path: Path) -> None:
    """Also where the first image lacks some, and those that no image has."""
    source = tmp_path / "in" / "CollectedData_me.csv"
    source.parent.mkdir()
    source.write_text(
        "scorer,me,me,me,me,me,me\nbodyparts,nose,nose,tail,tail,paw,paw\ncoords,x,y,x,y,x,y\n"
        "a.jpg,,,30,40,,\nb.jpg,10,20,,,,\n"
    )
    exports.images(source.parent)
    found, _ = converted("deeplabcut", source)
    assert found["annotations"]["categories"][0]["keypoints"] == ["nose", "tail", "paw"]


@pytest.mark.parametrize(
    ("config", "limbs"),
    [
        ("skeleton:\n- - right_ear\n  - tail\n- [tail, left_ear]\n- [tail, moon]\n- tail\n", True),
        ("skeleton: 3\n", False),
        ("skeleton: [\n", False),
        ("- 1\n", False),
    ],
)
def test_limbs_of_a_deeplabcut_project_are_in_its_config(
    tmp_path: Path, config: str, limbs: bool
) -> None:
    source = placed(tmp_path / "in", "deeplabcut.csv", "labeled-data/clip")
    (source.parent / "config.yaml").write_text(config)
    found, _ = converted("deeplabcut", source)
    names = list(KEYPOINTS)
    tail, left, right = (names.index(name) + 1 for name in ("tail", "left_ear", "right_ear"))
    pairs = [[right, tail], [tail, left]] if limbs else []
    assert found["annotations"]["categories"][0]["skeleton"] == pairs


def test_the_folder_of_a_deeplabcut_project(tmp_path: Path) -> None:
    """Both forms of one labeling are read once; the names of Windows are read."""
    folder = exports.images(tmp_path / "in" / "labeled-data" / "clip").parent
    for kind in ("csv", "h5"):
        shutil.copy(FILES / f"deeplabcut.{kind}", folder / "clip" / f"CollectedData_me.{kind}")
    table = folder / "clip" / "CollectedData_me.csv"
    table.write_text(table.read_text().replace("labeled-data,clip,", r"labeled-data\clip\,,"))
    found, _ = converted("deeplabcut", folder)
    assert keypoints(found["annotations"]) == {n: [v] for n, v in VISIBLE.items()}


@pytest.mark.parametrize(
    ("old", "new", "mentions"),
    [
        ("coords,,,x,y", "coords,,,x,likelihood", ("predictions",)),
        ("left_ear,left_ear", "left_ear,right_ear", ("bodyparts", "right_ear")),
        ("20.0,30.0", "20.0,up", ("line 4: column 5", "up")),
        ("20.0,30.0", "20.0,inf", ("line 4: column 5", "inf")),
        ("20.0,30.0", "20.0,", ("line 4: left_ear: y", "nan")),
        ("20.0,30.0", "20.0", ("line 4", "9 values", "8")),
        ("bodyparts", "parts", ("line 1", "bodyparts")),
        ("labeled-data,clip,a.jpg", "..,..,a.jpg", ("line 4: image", "../../a.jpg")),
        ("labeled-data,clip,a.jpg", "labeled-data,clip,b.jpg", ("labeled-data/clip/b.jpg twice",)),
    ],
)
def test_invalid_tables_of_deeplabcut(
    tmp_path: Path, old: str, new: str, mentions: tuple[str, ...]
) -> None:
    source = placed(tmp_path / "in", "deeplabcut.csv", "labeled-data/clip")
    text = source.read_text()
    assert old in text
    source.write_text(text.replace(old, new, 1))
    check_refusal(convert("deeplabcut", source), "annotations-invalid", *mentions)
    assert not (tmp_path / "out").exists()


def test_labels_of_sleap(tmp_path: Path) -> None:
    found, output = converted("sleap", placed(tmp_path / "in", "sleap.slp", "images"))
    document = found["annotations"]
    assert keypoints(document) == {image: [values] for image, values in VISIBLE.items()}
    assert document["categories"][0]["keypoints"] == list(KEYPOINTS)
    assert document["categories"][0]["skeleton"] == [[1, 3], [2, 3]]
    assert [person.get("track_id") for person in document["annotations"]] == [0, None]
    assert "left out: instances that a model predicted (1)" in output
    assert (tmp_path / "out" / "images").is_symlink()


def test_a_package_of_sleap_brings_its_images(tmp_path: Path) -> None:
    source = tmp_path / "in" / "sleap.pkg.slp"
    source.parent.mkdir()
    shutil.copy(FILES / source.name, source)
    found, _ = converted("sleap", source)
    assert [len(each) for each in keypoints(found["annotations"]).values()] == [1, 1]
    for image, color in zip(
        found["annotations"]["images"], [(200, 50, 10), (10, 50, 200)], strict=True
    ):
        pixels = read_image(tmp_path / "out" / "images" / image["file_name"])
        assert np.abs(pixels.astype(int) - color).max() < 8
    # Until version 1.4 red and blue were the other way round, until 1.1 pixels began at corners.
    with h5py.File(source, "r+") as file:
        del file["video0/video"].attrs["channel_order"]
        file["metadata"].attrs["format_id"] = 1.0
    shutil.rmtree(tmp_path / "out")
    found, _ = converted("sleap", source)
    first = found["annotations"]["images"][0]["file_name"]
    assert (
        np.abs(
            read_image(tmp_path / "out" / "images" / first)[5, 5].astype(int) - (10, 50, 200)
        ).max()
        < 8
    )
    assert found["annotations"]["annotations"][0]["keypoints"][:2] == [19.5, 29.5]


def test_frames_of_a_clip_that_are_not_saved_yet(tmp_path: Path) -> None:
    source = placed(tmp_path / "in", "sleap.slp", "images")
    video = {
        "filename": "C:\\clips\\one.mp4",
        "backend": {"filename": "C:\\clips\\one.mp4", "shape": [9, 100, 200, 3]},
    }
    with h5py.File(source, "r+") as file:
        file["videos_json"][0] = json.dumps(video)
    found, output = converted("sleap", source)
    assert [(i["file_name"], i["width"], i["video"]) for i in found["annotations"]["images"]] == [
        ("one/frame_000000.png", 200, "one"),
        ("one/frame_000001.png", 200, "one"),
    ]
    assert "ffmpeg" in output


def test_pickles_and_links_are_not_followed(tmp_path: Path) -> None:
    source = placed(tmp_path / "in", "deeplabcut.h5", "images")
    with h5py.File(source, "r+") as file:
        name = "df_with_missing/axis1_level2"
        del file[name]
        file.create_dataset(name, (3,), h5py.vlen_dtype(np.uint8))[0] = list(b"\x80\x04N.")
    with refused("annotations-invalid", "axis1_level2", "rows"):
        SOURCES["deeplabcut"].read(source, ReadOptions())
    with h5py.File(source, "r+") as file:
        del file[name]
        file[name] = h5py.ExternalLink(str(FILES / "deeplabcut.h5"), name)
    with refused("annotations-invalid", "axis1_level2", "a link"):
        SOURCES["deeplabcut"].read(source, ReadOptions())


@pytest.mark.parametrize("content", [b"", b"no HDF5", b"\x89HDF\r\n\x1a\n" + b"\xff" * 400])
def test_files_that_are_no_hdf5(tmp_path: Path, content: bytes) -> None:
    for name, kind in (("deeplabcut", ".h5"), ("sleap", ".slp")):
        source = tmp_path / f"a{kind}"
        source.write_bytes(content)
        with refused("hdf5-invalid", source.name):
            SOURCES[name].read(source, ReadOptions())


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        ("sum(range(10**15))", "Timeout"),  # in C, as a loop of the HDF5 library would be
        ("bytearray(3 * 10**9)", "MemoryError"),
    ],
)
def test_the_process_that_reads_bounds_itself(work: str, reason: str) -> None:
    code = f"from hrpose.data.formats.hdf5 import bound; bound(1, 2 * 10**9); {work}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30)
    assert done.returncode
    if sys.platform == "linux" or reason == "Timeout":
        assert reason in done.stderr.decode() or done.returncode < 0


def test_a_file_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "_SECONDS", 0.001)
    with refused("hdf5-invalid", "within"):
        SOURCES["sleap"].read(placed(tmp_path, "sleap.slp", "images"), ReadOptions())


def damage(rng: np.random.Generator, folder: Path, file: Path) -> None:
    """Change one of the copied arrays or texts, as damage in the HDF5 file would."""
    whole = file.read_bytes()
    if whole.startswith(b"\x93NUMPY"):
        array = np.load(file)
        raw = bytearray(array.tobytes())
        for _ in range(min(len(raw), int(rng.integers(1, 5)))):
            raw[rng.integers(len(raw))] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(256)]))
        if rng.random() < 0.2:
            raw = raw[: array.itemsize * int(rng.integers(len(array) + 1))]
            np.save(file, np.frombuffer(bytes(raw), array.dtype))
        else:
            np.save(file, np.frombuffer(bytes(raw), array.dtype).reshape(array.shape))
        return
    texts = json.loads(whole)
    if isinstance(texts, dict):  # the attributes
        entry = texts["metadata"]["attributes"]
        text = mutate(rng, [entry["json"].encode()]).decode(errors="replace")
        entry["json"] = text
    else:
        texts = [mutate(rng, [text.encode()]).decode(errors="surrogateescape") for text in texts]
    file.write_text(json.dumps(texts))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("deeplabcut", "deeplabcut.h5"),
        ("deeplabcut", "deeplabcut-several.h5"),
        ("sleap", "sleap.slp"),
        ("sleap", "sleap.pkg.slp"),
    ],
)
def test_damaged_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    hdf5.copy(FILES / file, copies)
    rng = np.random.default_rng(0)
    originals = {path: path.read_bytes() for path in sorted(copies.iterdir())}
    choices = [p for p in originals if p.name != "entries.json" or name == "sleap"]
    monkeypatch.setattr(
        f"hrpose.data.formats.{name}.read_hdf5", lambda path: hdf5.Hdf5.load(path, copies)
    )
    exports.images(tmp_path / ("images" if name == "sleap" else "labeled-data/clip"))
    read = 0
    for _ in range(40):
        path = choices[rng.integers(len(choices))]
        damage(rng, copies, path)
        try:
            found = SOURCES[name].read(tmp_path / file, ReadOptions())
            json.dumps(documents(found), allow_nan=False)
            read += 1
        except UserError:
            pass
        path.write_bytes(originals[path])
    assert 5 < read < 38


@pytest.mark.parametrize("file", ["deeplabcut.csv", "deeplabcut-several.csv"])
def test_damaged_tables_of_deeplabcut(tmp_path: Path, file: str) -> None:
    exports.images(tmp_path / "labeled-data" / "clip")
    rng, whole = np.random.default_rng(1), (FILES / file).read_bytes()
    source = tmp_path / file
    for _ in range(300):
        source.write_bytes(mutate(rng, [whole]))
        try:
            found = SOURCES["deeplabcut"].read(source, ReadOptions())
            json.dumps(documents(found), allow_nan=False)
        except UserError:
            pass
