"""The page in a real browser: no error, no request, readable wide and narrow, light and dark."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrpose.explain import trace, write
from hrpose.session import open_session
from offline_page import opened
from tiny_weights import write_tiny_weights

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    session = open_session(write_tiny_weights(folder / "tiny.onnx"), threads=1)
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    traced = trace(session, image, np.array([5.0, 5, 50, 80]), "Here you gave the box.")
    return write(traced, "<b>image</b>.jpg".replace("/", ""), folder).page


@pytest.mark.parametrize("width", [1200, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_shows(browser: Any, page: Path, width: int, scheme: str) -> None:
    with opened(browser, page, width, scheme) as view:
        assert view.locator("section").count() == 10
