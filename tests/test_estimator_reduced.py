"""Files that are decoded at a part of their size: the poses are those of the full image."""

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from hrpose.codec import Codec
from hrpose.estimator import InputImage, PoseEstimator
from hrpose.geometry import Boxes
from hrpose.metadata import Metadata
from refusals import refused

# One bright spot on gray; where it is, is known to a part of a pixel.
SPOT = (531.0, 402.0)
SIZE = (1280, 960)


def spot(size: tuple[int, int] = SIZE, center: tuple[float, float] = SPOT) -> Image.Image:
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    far = ((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * 40.0**2)
    gray = (20 + 230 * np.exp(-far)).round().astype(np.uint8)
    return Image.fromarray(np.repeat(gray[..., None], 3, axis=2))


def jpeg(image: Image.Image, orientation: int = 1) -> bytes:
    exif, file = Image.Exif(), BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


@dataclass
class Centroid:
    """A session whose every keypoint is the middle of what is bright in the crop."""

    metadata: Metadata

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        light = np.clip(crops[..., 0].astype(np.float64) - 60, 0, None)
        h, w = light.shape[1:]
        mass = light.sum(axis=(1, 2))
        x = (light.sum(axis=1) * np.arange(w)).sum(axis=1) / mass
        y = (light.sum(axis=2) * np.arange(h)).sum(axis=1) / mass
        k = len(self.metadata.skeleton)
        points = np.repeat(np.stack([x, y], axis=-1)[:, None], k, axis=1)
        codec = self.metadata.codec
        maps: NDArray[np.float32] = codec.encode(
            points, np.ones(points.shape[:-1]), self.metadata.input_wh
        )[0]
        return maps


def estimator(codec: str = "dark", **options: Any) -> PoseEstimator:
    # DARK and UDP find a Gaussian's place to a part of a pixel, so that small errors show.
    metadata = Metadata(network="centroid", input_wh=(48, 64), codec=Codec(codec))
    return PoseEstimator(Centroid(metadata), **options)


@pytest.mark.parametrize("codec", ["dark", "udp"])
@pytest.mark.parametrize(
    ("height", "reduction"), [(100, 1), (103, 2), (206, 4), (300, 4), (410, 8), (800, 8)]
)
def test_points_are_those_of_the_whole_image(codec: str, height: int, reduction: int) -> None:
    box = [SPOT[0] - 0.4 * height, SPOT[1] - 0.45 * height, 0.75 * height, height]
    file = jpeg(spot())
    reduced, exact = estimator(codec), estimator(codec, exact=True)
    assert reduced.image(file, [box]).reduction == reduction
    assert exact.image(file, [box]).reduction == 1
    found, expected = reduced(file, [box]), exact(file, [box])
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=0.001 * max(SIZE))
    np.testing.assert_array_equal(found.boxes, expected.boxes)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [SIZE, (1283, 957)])
def test_turned_and_odd_images(size: tuple[int, int], orientation: int) -> None:
    file = jpeg(spot(size), orientation)
    found, expected = estimator()(file), estimator(exact=True)(file)
    assert estimator().image(file).reduction == (8 if size == SIZE or orientation == 1 else 1)
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=0.001 * max(SIZE))
    np.testing.assert_array_equal(found.boxes, expected.boxes)


def test_the_smallest_crop_decides() -> None:
    file = jpeg(spot())
    boxes = [[0, 0, *SIZE], [500, 350, 80, 110]]
    assert estimator().image(file, boxes).reduction == 2
    assert estimator().image(file, boxes[:1]).reduction == 8
    assert estimator().image(file, []).reduction == 8


def test_files_and_their_bytes_are_alike(tmp_path: Path) -> None:
    path = tmp_path / "spot.jpg"
    path.write_bytes(jpeg(spot()))
    from_path, from_bytes = estimator()(path), estimator()(path.read_bytes())
    np.testing.assert_array_equal(from_path.keypoints, from_bytes.keypoints)


def test_what_is_not_reduced(tmp_path: Path) -> None:
    path = tmp_path / "spot.png"
    spot().save(path)
    pixels = np.array(spot())
    assert estimator().image(path).reduction == 1
    assert estimator().image(pixels).pixels is pixels
    # Refined boxes may be smaller.
    assert estimator(refine=True).image(jpeg(spot())).reduction == 1
    assert InputImage.of(jpeg(spot())).reduction == 1
    np.testing.assert_array_equal(
        estimator()(path).keypoints, estimator(exact=True)(pixels).keypoints
    )


@dataclass
class Lit:
    """A detector that finds a box around what is bright, and remembers the sizes of what it saw."""

    input_wh: tuple[int, int] | None
    part: float
    name: str = "lit"
    saw: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        self.saw.append((image.shape[1], image.shape[0]))
        rows, columns = (image[..., 0] > 60).nonzero()
        middle = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
        size = self.part * np.array(image.shape[1::-1])
        return Boxes(np.array([[*(middle - size / 2), *size]]), np.array([0.9]))


@pytest.mark.parametrize(
    ("input_wh", "part", "saw", "reduction"),
    [
        ((80, 60), 0.6, (160, 120), 8),  # one decoding is enough
        ((80, 60), 0.2, (160, 120), 4),  # the crop needs a second, larger one
        ((81, 60), 0.6, (320, 240), 4),
        ((160, 120), 0.6, (320, 240), 4),  # the larger overview is there already
        ((640, 640), 0.6, SIZE, 1),
        (None, 0.6, SIZE, 1),
    ],
)
def test_a_detector_sees_no_more_than_it_needs(
    input_wh: tuple[int, int] | None, part: float, saw: tuple[int, int], reduction: int
) -> None:
    file, detector = jpeg(spot()), Lit(input_wh, part)
    looking = estimator(detector=detector)
    image = looking.image(file)
    assert (detector.saw, image.reduction) == ([saw], reduction)
    expected = estimator(detector=Lit(input_wh, part), exact=True)(file)
    found = looking(file)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.001 * max(SIZE))
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=0.002 * max(SIZE))


def test_a_detector_never_finds_persons_beside_an_odd_image() -> None:
    def corner(image: NDArray[np.uint8]) -> Boxes:
        height, width = image.shape[:2]
        return Boxes(np.array([[width - 2.0, height - 2.0, 2, 2]]), np.ones(1))

    class Corner:
        name, input_wh = "corner", (50, 50)
        __call__ = staticmethod(corner)

    (box,) = estimator(detector=Corner()).image(jpeg(spot((1283, 957)))).boxes
    assert box.tolist() == [1264, 936, 16, 16]


def test_bad_boxes_are_named() -> None:
    with refused("boxes-invalid", "box 0: ", "1280 x 960"):
        estimator().image(jpeg(spot()), [[1280, 0, 10, 10]])


def test_a_size_that_is_known_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    file = jpeg(spot())
    monkeypatch.delattr("hrpose.estimator.image_size")
    assert estimator(detector=Lit((80, 60), 0.6)).image(file, size=SIZE).reduction == 8
