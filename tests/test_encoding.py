"""Images as the bytes of files, and those that a kind of file cannot hold."""

import cv2
import numpy as np
import pytest

from hrpose.image import encode, read_image
from refusals import refused


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_the_pixels_come_back(suffix: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(read_image(encode(image, suffix)), image)
    gray = image[..., 0]
    assert (read_image(encode(gray, suffix)) == gray[..., None]).all()


def test_settings_are_passed_on() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    small, large = (encode(image, ".jpg", {cv2.IMWRITE_JPEG_QUALITY: q}) for q in (10, 90))
    assert len(small) < len(large)


@pytest.mark.parametrize(("suffix", "width"), [(".jpg", 65_501), (".webp", 16_384)])
def test_an_image_that_is_too_wide_is_refused(suffix: str, width: int) -> None:
    with refused("image-too-large", f"{width} x 1", suffix):
        encode(np.zeros((1, width, 3), np.uint8), suffix)
