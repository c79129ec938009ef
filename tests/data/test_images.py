"""Images from folders and zip files: the same pixels, and the errors for invalid ones."""

import stat
import struct
import sys
import tracemalloc
import warnings
import zipfile
import zlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest

from hrpose.data.images import ImageFiles, check_size, compare_sizes, stays_inside
from refusals import refused

NAMES = [f"{number:06}.png" for number in range(12)]


def image(name: str) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(int(name[:6])).integers(0, 256, (9, 7, 3), np.uint8)


def encoded(name: str) -> bytes:
    return bytes(cv2.imencode(".png", image(name)[..., ::-1])[1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / "val2017").mkdir(exist_ok=True)
        (tmp_path / "val2017" / name).write_bytes(encoded(name))
    return tmp_path / "val2017"


def packed(path: Path, prefix: str = "", method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in NAMES:
            archive.writestr(prefix + name, encoded(name))
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    ("prefix", "at"),
    [
        ("", ""),
        ("val2017/", ""),
        ("val2017/", "@/val2017"),
        ("val2017/", "@val2017"),
        ("data/coco/val2017/", ""),
        ("data/coco/val2017/", "@/data/coco/val2017/"),
        ("", "@"),
        ("", "@/"),
    ],
)
def test_a_zip_file_is_as_good_as_a_folder(
    tmp_path: Path, folder: Path, prefix: str, at: str, method: int
) -> None:
    path = packed(tmp_path / "val2017.zip", prefix, method)
    for source in (ImageFiles(folder), ImageFiles(f"{path}{at}")):
        for name in NAMES:
            assert name in source
            np.testing.assert_array_equal(source.read(name), image(name))
            assert source.size(name) == (7, 9)
        assert "999999.png" not in source


def test_names_with_the_folder_in_them(tmp_path: Path) -> None:
    source = ImageFiles(packed(tmp_path / "a.zip", "val2017/"))
    np.testing.assert_array_equal(source.read("val2017/000003.png"), image("000003.png"))


def test_links_that_lead_nowhere(folder: Path) -> None:
    (folder / "gone.jpg").symlink_to(folder / "nothing.jpg")
    (folder / "circle.jpg").symlink_to(folder / "circle.jpg")
    assert list(ImageFiles(folder).names()) == NAMES


def test_folders_beside_each_other_are_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train/000001.png", encoded("000001.png"))
        archive.writestr("val/000002.png", encoded("000002.png"))
        archive.writestr("__MACOSX/val/._000002.png", b"junk")
    assert "000002.png" not in ImageFiles(path)
    assert "val/000002.png" in ImageFiles(path)
    assert "000002.png" in ImageFiles(f"{path}@/val")
    with refused("images-missing", "'test'", "train/000001.png"):
        ImageFiles(f"{path}@/test")


def test_what_macos_adds_does_not_hide_the_folder(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", "val2017/")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/val2017/._000001.png", b"junk")
    assert "000001.png" in ImageFiles(path)


def test_a_member_without_a_name_is_passed_over(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(""), b"junk")
    assert "000001.png" in ImageFiles(path)


def test_processes_and_threads_share_a_source(tmp_path: Path) -> None:
    source = ImageFiles(packed(tmp_path / "a.zip", "val2017/", zipfile.ZIP_DEFLATED))
    expected = [image(name) for name in NAMES]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(source.read, NAMES * 20))
    np.testing.assert_array_equal(found, expected * 20)
    for method in ("spawn", "fork"):
        with warnings.catch_warnings():  # of forking where threads were
            warnings.simplefilter("ignore", DeprecationWarning)
            with ProcessPoolExecutor(2, mp_context=get_context(method)) as workers:
                np.testing.assert_array_equal(list(workers.map(source.read, NAMES)), expected)


def test_a_zip_file_is_opened_once_in_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path / "a.zip")
    opened = []
    start = zipfile.ZipFile.__init__
    monkeypatch.setattr(
        zipfile.ZipFile,
        "__init__",
        lambda self, *args, **options: (opened.append(args), start(self, *args, **options))[1],
    )
    source = ImageFiles(path)
    for name in NAMES:
        source.read(name)
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("a.jpg", True),
        ("a/b.jpg", True),
        ("a/..b.jpg", True),
        ("", False),
        ("/etc/passwd", False),
        ("../a.jpg", False),
        ("a/../../b.jpg", False),
        ("..\\a.jpg", False),
        ("C:\\a.jpg", False),
        ("a\0.jpg", False),
        ("\ud800.jpg", False),
        (r"\xff/../../a.jpg", False),
        (r"\x2f.jpg", False),
    ],
)
def test_names_that_lead_outside(folder: Path, name: str, inside: bool) -> None:
    assert stays_inside(name) is inside
    (folder.parent / "a.jpg").write_bytes(encoded("000001.png"))
    assert name not in ImageFiles(folder)
    if not inside:
        with refused("annotations-invalid", str(folder)):
            ImageFiles(folder).read(name)


def test_paths_without_images(tmp_path: Path) -> None:
    with refused("images-missing", "nowhere"):
        ImageFiles(tmp_path / "nowhere")
    with refused("file-unreadable", "none.zip"):
        ImageFiles(tmp_path / "none.zip@/val2017")
    text = tmp_path / "text.zip"
    text.write_text("no zip")
    with refused("archive-invalid", "text.zip"):
        ImageFiles(text)
    half = packed(tmp_path / "half.zip")
    half.write_bytes(half.read_bytes()[:300])
    with refused("archive-invalid", "half.zip"):
        ImageFiles(half)


def with_header(content: bytes, size: int, method: int, flags: int = 0) -> bytes:
    """A zip file of one member `a.png` with any values in its header."""
    name = b"a.png"
    fields = (20, flags, method, 0, 0, zlib.crc32(content), len(content), size, len(name), 0)
    local = struct.pack("<4s5H3I2H", b"PK\x03\x04", *fields) + name
    index = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, *fields, 0, 0, 0, 0, 0) + name
    start = len(local) + len(content)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(index), start, 0)
    return local + content + index + end


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        # Wrong sizes: too large, too small, and a member that unpacks to much more.
        (with_header(b"x" * 10, 3_000_000_000, 0), "file-too-large"),
        (with_header(b"x" * 10, 20, 0), "archive-invalid"),
        (with_header(deflated(bytes(10_000_000)), 50, 8), "archive-invalid"),
        # A password, another compression, and damage.
        (with_header(b"x" * 10, 10, 0, flags=1), "archive-invalid"),
        (with_header(b"x" * 10, 10, 12), "archive-invalid"),
        (with_header(b"\xff" * 10, 10, 8), "archive-invalid"),
        (with_header(b"x" * 10, 10, 0), "image-unsupported"),
        (with_header(b"x" * 10, 10, 0).replace(b"xxxx", b"xxyx", 1), "archive-invalid"),
        (with_header(b"x" * 10, 10, 0).replace(b"PK\x03\x04", b"PKxx"), "archive-invalid"),
    ],
)
def test_invalid_members(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "bad.zip"
    path.write_bytes(content)
    with refused(code, f"{path}@/a.png"):
        ImageFiles(path).read("a.png")


def test_a_member_is_not_unpacked_beyond_its_size(tmp_path: Path) -> None:
    """Of 100 bytes, as its header says, that would be 200 MB."""
    path = tmp_path / "bomb.zip"
    path.write_bytes(with_header(deflated(bytes(200_000_000)), 100, zipfile.ZIP_DEFLATED))
    source = ImageFiles(path)
    tracemalloc.start()
    try:
        with refused("archive-invalid", "a.png"):
            source.read("a.png")
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_members_are_names_and_never_paths(tmp_path: Path) -> None:
    """Links, absolute names and parents: nothing outside the file is read, nothing is written."""
    (tmp_path / "secret.png").write_bytes(encoded(NAMES[0]))
    path = tmp_path / "zips" / "odd.zip"
    path.parent.mkdir()
    link = zipfile.ZipInfo("link.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # of zipfile, about the name that comes twice
        archive.writestr(link, "../secret.png")
        for name in ("/etc/a.png", "../secret.png", "twice.png", "twice.png", "a/../../b.png"):
            archive.writestr(name, encoded(NAMES[1 + len(archive.infolist())]))
    source = ImageFiles(path)
    with refused("image-unsupported", "link.png"):
        source.read("link.png")
    for number, name in ((2, "/etc/a.png"), (3, "../secret.png"), (5, "twice.png")):
        np.testing.assert_array_equal(source.read(name), image(NAMES[number]))
    names = list(source.names())
    assert len(names) == len(set(names)) == 5
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["odd.zip", "secret.png", "zips"]


def test_a_zip_file_that_is_emptied_after_opening(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip")
    source = ImageFiles(path)
    path.write_bytes(b"")
    with refused("archive-invalid", NAMES[0]):
        source.read(NAMES[0])
    with refused("images-missing", "other.png"):
        source.read("other.png")


@pytest.mark.parametrize(
    ("size_wh", "remedy"),
    [
        ((20, 16), "--scale-to-images"),
        ((5, 4), "--scale-to-images"),
        ((8, 10), "EXIF"),
        ((20, 9), "correct the annotations"),
    ],
)
def test_sizes_are_compared(tmp_path: Path, size_wh: tuple[int, int], remedy: str) -> None:
    pixels = np.zeros((8, 10, 3), np.uint8)
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    files, names = ImageFiles(tmp_path), np.asarray([b"a.png", b"b.png", b"absent.png"])
    sizes = np.asarray([(10, 8), (10, 8), (1, 1)], np.int32)
    compare_sizes(files, names, sizes, "a.json")
    check_size(pixels, sizes[0], "a.png")
    compare_sizes(files, names[:0], sizes[:0], "a.json")
    sizes[1] = size_wh
    width, height = size_wh
    found = (f"{width} x {height}", "10 x 8", remedy)
    with refused("size-differs", "a.json: 1 of 2 images", "b.png", *found):
        compare_sizes(files, names, sizes, "a.json")
    with refused("size-differs", "b.png", *found):
        check_size(pixels, sizes[1], "b.png")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_text(folder: Path) -> None:
    names = {"\udcc9t\udce9.jpg": r"\xc9t\xe9.jpg", r"back\slash.jpg": r"back\slash.jpg"}
    for name in names:
        (folder / name).write_bytes(encoded("000001.png"))
    files = ImageFiles(folder)
    assert set(names.values()) < set(files.names())
    for text in names.values():
        assert text in files
        assert files.content(text) == encoded("000001.png")
    for absent in (r"\xff.jpg", r"a\ud800.jpg", r"a\x2f.jpg"):
        assert absent not in files
        with refused("file-unreadable"):
            files.content(absent)
