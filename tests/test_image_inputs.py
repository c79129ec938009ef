"""What the estimator accepts for images: each kind of one image, of several, and the refusals."""

import glob
import io
import multiprocessing
import pickle
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import hrpose
from hrpose import image, image_inputs
from hrpose.image import ImageSource
from hrpose.image_inputs import sources_in
from refusals import refused
from tiny_weights import write_tiny_weights

# Its quarters have colors of their own: swapped channels and axes are seen.
PIXELS = np.zeros((48, 64, 3), np.uint8)
PIXELS[:24, :32], PIXELS[:24, 32:], PIXELS[24:, :32] = (200, 0, 0), (0, 120, 0), (0, 0, 60)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.onnx")


@pytest.fixture(scope="module")
def estimator(weights: Path) -> hrpose.PoseEstimator:
    return hrpose.load(weights, detector="full-image")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return saved(tmp_path / "photo.png")


def saved(path: Path) -> Path:
    Image.fromarray(PIXELS).save(path)
    return path


def png() -> bytes:
    data = io.BytesIO()
    Image.fromarray(PIXELS).save(data, "PNG")
    return data.getvalue()


def upright(mode: str) -> Image.Image:
    """A PIL image that its EXIF turns by 90 degrees, in a mode of its own."""
    turned = Image.fromarray(PIXELS).transpose(Image.Transpose.ROTATE_90)
    data = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.convert(mode).save(data, "PNG", exif=exif)
    return Image.open(data)


TENSOR = torch.from_numpy(PIXELS)
# Kinds of one image: the path of a file to what a user gives.
KINDS: dict[str, Callable[[Path], Any]] = {
    "str": str,
    "path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "bytesio": lambda path: io.BytesIO(path.read_bytes()),
    "file": lambda path: path.open("rb"),
    "pil_file": Image.open,
    "pil_rgb": lambda path: Image.fromarray(PIXELS),
    "pil_rgba": lambda path: Image.fromarray(PIXELS).convert("RGBA"),
    "pil_exif": lambda path: upright("RGB"),
    "array": lambda path: PIXELS,
    "array_view": lambda path: np.flipud(PIXELS[::-1]),
    "array_like": lambda path: Like(),
    "tensor_chw": lambda path: TENSOR.permute(2, 0, 1),
    "tensor_hwc": lambda path: TENSOR,
    "tensor_float": lambda path: TENSOR.permute(2, 0, 1) / 255,
    "tensor_half": lambda path: (TENSOR / 255).half(),
    "tensor_grad": lambda path: (TENSOR / 255).requires_grad_(),
}


class Like:
    """Something that NumPy knows how to read."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[np.uint8]:
        return PIXELS


@pytest.mark.parametrize("kind", KINDS)
def test_one_image(estimator: hrpose.PoseEstimator, file: Path, kind: str) -> None:
    given = KINDS[kind](file)
    poses = estimator(given)
    if kind == "file":
        given.close()
    expected = estimator(PIXELS)
    assert isinstance(poses, hrpose.Poses)
    np.testing.assert_allclose(poses.keypoints, expected.keypoints, atol=1e-3)
    assert poses.image_wh == (64, 48)
    # It draws itself on the image that was given.
    np.testing.assert_array_equal(poses.draw(), hrpose.draw(PIXELS, expected))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr", "I;16"])
def test_modes_of_pil_images(estimator: hrpose.PoseEstimator, mode: str) -> None:
    image = Image.fromarray(PIXELS).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image, np.uint16) * 257)
    assert estimator(image).image_wh == (64, 48)


@pytest.mark.parametrize("kind", ["array", "tensor_hwc"])
def test_bgr(estimator: hrpose.PoseEstimator, file: Path, kind: str) -> None:
    given = PIXELS[..., ::-1] if kind == "array" else TENSOR.flip(-1)
    poses = estimator(given, bgr=True)
    np.testing.assert_array_equal(poses.keypoints, estimator(PIXELS).keypoints)
    np.testing.assert_array_equal(poses.draw(), estimator(PIXELS).draw())
    with refused("option-conflict", "bgr", "photo.png"):
        estimator(file, bgr=True)


def folder_of(path: Path) -> Path:
    """A folder with three images and another file."""
    folder = path.parent / "several"
    folder.mkdir(exist_ok=True)
    for name in ("b10.png", "b2.png", "a.png"):
        saved(folder / name)
    (folder / "a.png").rename(folder / "a")  # the content decides
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"no image")
    (folder / "clip.jpg").write_bytes(b"FLV\x01 is no image")
    return folder


# Kinds of several images, three in each.
SEVERAL: dict[str, Callable[[Path], Any]] = {
    "list": lambda path: [path, str(path), PIXELS],
    "tuple": lambda path: (path, png(), Image.open(path)),
    "generator": lambda path: (PIXELS for _ in range(3)),
    "folder": folder_of,
    "folder_in_a_list": lambda path: [folder_of(path)],
    "pattern": lambda path: f"{folder_of(path)}/[ab]*",
    "recursive_pattern": lambda path: f"{folder_of(path).parent}/**/several/[ab]*",
    "array": lambda path: np.stack([PIXELS] * 3),
    "tensor": lambda path: torch.stack([TENSOR.permute(2, 0, 1)] * 3),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_several_images(estimator: hrpose.PoseEstimator, file: Path, kind: str) -> None:
    poses = estimator(SEVERAL[kind](file))
    assert isinstance(poses, list)
    stream = estimator(SEVERAL[kind](file), stream=True)
    assert isinstance(stream, Iterator)
    expected = estimator(PIXELS)
    for one in [*poses, *stream]:
        np.testing.assert_allclose(one.keypoints, expected.keypoints, atol=1e-3)
    assert len(poses) == 3


def test_files_come_in_natural_order(estimator: hrpose.PoseEstimator, file: Path) -> None:
    for given in (folder_of(file), f"{folder_of(file)}/*"):
        poses = estimator(given)
        names = [Path(one.source.name).name for one in poses]
        assert names == ["a", "b2.png", "b10.png"]


def test_a_stream_reads_a_few_images_ahead(estimator: hrpose.PoseEstimator) -> None:
    begun = 0

    def endless() -> Iterator[NDArray[np.uint8]]:
        nonlocal begun
        while True:
            begun += 1
            yield PIXELS

    stream = estimator(endless(), stream=True)
    for _ in range(3):
        next(stream)
    assert begun < 50
    # One image is a stream of one.
    assert len(list(estimator(PIXELS, stream=True))) == 1


REFUSALS: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "none": (None, "image-unsupported", ("a path", "NoneType", "imread")),
    "number": (3, "image-unsupported", ("a path", "int")),
    "mapping": ({"image": PIXELS}, "image-unsupported", ("dict",)),
    "in_a_list": ([PIXELS, 3], "image-unsupported", ("images[1]", "int")),
    "nested": ([[1, 2], [3]], "image-unsupported", ("images[0]", "list")),
    "no_file": ("nothing.png", "file-unreadable", ("nothing.png",)),
    "no_match": ("nothing-*.png", "images-missing", ("nothing-*.png",)),
    "no_name": ("", "file-unreadable", ("empty name",)),
    "null": ("a\0.png", "file-unreadable", ()),
    "text": (io.StringIO("photo"), "image-unsupported", ("'rb'",)),
    "at_its_end": (io.BytesIO(), "image-damaged", ("seek(0)",)),
    "bytes": (b"no image", "image-unsupported", ("expected an image",)),
    "gray": (PIXELS[..., 0], "array-invalid", ("np.stack",)),
    "rgba": (np.zeros((9, 9, 4), np.uint8), "array-invalid", ("[..., :3]",)),
    "channels_first": (PIXELS.transpose(2, 0, 1), "array-invalid", ("transpose(1, 2, 0)",)),
    "floats": (PIXELS / 255, "array-invalid", ("(image * 255)",)),
    "large_floats": (PIXELS / 1.0, "array-invalid", ("image.round()",)),
    "empty": (np.zeros((0, 9, 3), np.uint8), "array-invalid", ("(0, 9, 3)",)),
    "tensor_without_values": (TENSOR.to("meta"), "array-invalid", ("tensor", "meta")),
    "sparse_tensor": (TENSOR.to_sparse(), "array-invalid", ("tensor", "parse")),
    "tensor_shape": (TENSOR[..., 0], "array-invalid", ("(3, h, w)", "(48, 64)")),
    "tensor_range": (TENSOR.float(), "array-invalid", ("0 to 200", "255")),
    "tensor_normalized": (TENSOR / 255 - 0.5, "array-invalid", ("normalization",)),
    "tensor_nan": (torch.full((3, 9, 9), torch.nan), "array-invalid", ("nan",)),
    "tensor_type": (TENSOR.int(), "array-invalid", ("int32",)),
    "store": ("s3://bucket/a.jpg", "address-invalid", ("http",)),
}


@pytest.mark.filterwarnings("ignore:All-NaN")
@pytest.mark.parametrize("kind", REFUSALS)
def test_refusals_say_what_is_accepted(estimator: hrpose.PoseEstimator, kind: str) -> None:
    given, code, mentions = REFUSALS[kind]
    with refused(code, *mentions):
        estimator(given)


def test_a_file_opened_as_text(estimator: hrpose.PoseEstimator, file: Path) -> None:
    with file.open(encoding="utf-8") as opened, refused("image-unsupported", "'rb'"):
        estimator(opened)


def test_a_column_of_names(estimator: hrpose.PoseEstimator, file: Path) -> None:
    for names in (np.array([str(file)] * 2), pd.Series([file, file])):
        assert [len(poses) for poses in estimator(names)] == [1, 1]


def test_a_folder_without_images(estimator: hrpose.PoseEstimator, tmp_path: Path) -> None:
    with refused("images-missing", str(tmp_path)):
        estimator(tmp_path)


def test_a_clip_names_what_follows_it(estimator: hrpose.PoseEstimator, tmp_path: Path) -> None:
    (tmp_path / "clip").write_bytes(b"FLV\x01 and so on")
    with refused("image-unsupported", "Flash clip", "hrpose.track("):
        estimator(tmp_path / "clip")


def test_boxes_belong_to_one_image(estimator: hrpose.PoseEstimator) -> None:
    with refused("option-conflict", "boxes"):
        estimator([PIXELS, PIXELS], [[0, 0, 9, 9]])  # type: ignore[call-overload]


class Site(BaseHTTPRequestHandler):
    """A few addresses of a test."""

    def do_GET(self) -> None:
        if self.path.startswith("/private/"):
            told = self.headers["Authorization"] == "Basic bWU6cGFzcyB3b3Jk"
            return self._answer(200 if told else 401, png())
        if self.path.startswith("/photo"):
            return self._answer(200, png())
        hops = {"/near": "/photo.png", "/private-moved": "/private/a.png", "/round": "/round",
                "/file": "file:///etc/hostname"}  # fmt: skip
        if self.path in hops:
            return self._answer(302, b"", hops[self.path])
        if self.path == "/slow":
            self.send_response(200)
            self.send_header("Content-Length", "9")
            self.end_headers()
            self.server.done.wait(5)  # type: ignore[attr-defined]
            return None
        return self._answer(404, b"")

    def _answer(self, status: int, body: bytes, location: str | None = None) -> None:
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.done = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.done.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("path", ["/photo.png?size=1", "/near"])
def test_an_address(estimator: hrpose.PoseEstimator, site: str, path: str) -> None:
    poses = estimator(site + path)
    np.testing.assert_array_equal(poses.keypoints, estimator(PIXELS).keypoints)
    assert poses.source is not None
    assert poses.source.name == (site + path).partition("?")[0]
    assert poses.draw().shape == PIXELS.shape  # it is not fetched again
    assert len(estimator([site + path] * 2)) == 2


def test_secrets_of_an_address(estimator: hrpose.PoseEstimator, site: str) -> None:
    """Those in front of the host are sent, not shown; they are not for another address."""
    secret = site.replace("//", "//me:pass%20word@")
    poses = estimator(f"{secret}/private/a b.png?key=1")
    assert poses.source is not None
    assert poses.source.name == f"{site}/private/a b.png"
    with refused("download-failed", f"{site}/private-moved: ", "401"):
        estimator(f"{secret}/private-moved")
    with refused("download-failed", f"{site}/none: "):
        estimator(f"{secret}/none?key=1")


@pytest.mark.parametrize("path", ["/none", "/round", "/file"])
def test_an_address_without_an_image(estimator: hrpose.PoseEstimator, site: str, path: str) -> None:
    with refused("download-failed", site + path):
        estimator(site + path)


def test_an_address_is_bounded(
    estimator: hrpose.PoseEstimator, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_inputs, "PAUSE_SECONDS", 0.1)
    with refused("download-failed", "/slow"):
        estimator(f"{site}/slow")
    monkeypatch.setattr(image_inputs, "DOWNLOAD_SECONDS", -1)
    with refused("download-failed", "seconds"):
        estimator(f"{site}/photo.png")
    monkeypatch.setattr(image, "MAX_BYTES", 10)
    with refused("file-too-large", "10 bytes"):
        estimator(f"{site}/photo.png")


def test_an_estimator_can_be_pickled(weights: Path, file: Path) -> None:
    for detector in ("full-image", "builtin"):
        estimator = hrpose.load(weights, detector=detector, min_score=0.1, threads=1)
        copy = pickle.loads(pickle.dumps(estimator))
        assert repr(copy) == repr(estimator)
        assert copy.min_score == 0.1
        np.testing.assert_array_equal(copy(file).keypoints, estimator(file).keypoints)


def test_a_pool_of_processes(weights: Path, file: Path) -> None:
    estimator = hrpose.load(weights, detector="full-image", threads=1)
    expected = estimator(file).keypoints
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        of_file, of_pixels = pool.map(estimator, [file, PIXELS])
    np.testing.assert_array_equal(of_file.keypoints, expected)
    np.testing.assert_allclose(of_pixels.keypoints, expected, atol=1e-3)
    # A file's name comes back, pixels do not.
    assert of_file.draw().shape == PIXELS.shape
    with refused("image-missing", "process"):
        of_pixels.draw()


def test_sources_are_kept_not_copied(file: Path) -> None:
    assert ImageSource.of(PIXELS).given is PIXELS
    assert ImageSource.of(PIXELS).pixels() is PIXELS
    assert ImageSource.of(file).given == file
    assert repr(ImageSource.of(PIXELS)) == "ImageSource(ndarray (48, 64, 3))"
    assert repr(ImageSource.of(file)) == f"ImageSource({file})"
    assert sources_in(str(file)) is None
    assert glob.has_magic("[a].png")  # a file of such a name is a file
    odd = saved(file.parent / "[a].png")
    assert sources_in(odd) is None
