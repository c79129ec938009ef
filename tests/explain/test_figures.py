"""The figures: keypoints at their pixels, and no detail lost where the image is reduced."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hrpose.explain import PersonBox, figures, trace
from hrpose.explain.trace import Trace
from hrpose.session import open_session
from tiny_weights import write_tiny_weights


def traced(folder: Path, image: NDArray[np.uint8]) -> Trace:
    session = open_session(write_tiny_weights(folder / "tiny.onnx"), threads=1)
    height, width = image.shape[:2]
    return trace(session, image, PersonBox(np.array([0.0, 0, width, height])))


def test_a_keypoint_is_shown_on_its_own_pixel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.zeros((8, 6, 3), np.uint8)
    image[3, 2] = 255
    shown = traced(tmp_path, image)
    shown.poses.keypoints[0, :, :2] = (2, 3)
    seen = []
    monkeypatch.setattr(figures, "label_point", lambda canvas, at, _: seen.append((canvas, at)))
    figures.keypoint_on_image(shown)
    ((canvas, at),) = seen
    light = canvas[..., 0].astype(float)
    rows, columns = np.indices(light.shape)
    center = [(light * columns).sum() / light.sum(), (light * rows).sum() / light.sum()]
    np.testing.assert_allclose(at, center, atol=1)


def test_thin_lines_do_not_vanish_in_a_smaller_image(tmp_path: Path) -> None:
    image = np.zeros((4000, 3000, 3), np.uint8)
    image[::4] = image[1::4] = 255
    canvas = figures.crop_on_image(traced(tmp_path, image))
    middle = canvas[300:500, 300:500]
    # Lines of two pixels, far thinner than a pixel of the page, become their mean.
    assert np.abs(middle.astype(int) - 127).max() < 40
