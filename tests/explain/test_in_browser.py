"""The page in a real browser: no error, no request, readable wide and narrow, light and dark."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrpose.explain import trace, write
from hrpose.runtime.session import open_session
from tiny_weights import write_tiny_weights

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    session = open_session(write_tiny_weights(folder / "tiny.onnx"), threads=1)
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    traced = trace(session, image, np.array([5.0, 5, 50, 80]), "Here you gave the box.")
    return write(traced, "<b>photo</b>.jpg".replace("/", ""), folder).page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"needs a browser at {CHROMIUM}")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [1200, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_shows(browser: Any, page: Path, width: int, scheme: str) -> None:
    view = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    complaints: list[str] = []
    requests: list[str] = []
    view.on("console", lambda message: complaints.append(message.text))
    view.on("pageerror", lambda error: complaints.append(str(error)))
    view.on("request", lambda request: requests.append(request.url))
    view.set_default_timeout(120_000)  # a busy machine is slow, not wrong
    view.goto(page.as_uri())
    assert view.locator("section").count() == 10
    shown = "() => [...document.images].every(image => image.complete && image.naturalWidth > 0)"
    assert view.evaluate(shown)
    # Nothing sticks out at the side.
    assert view.evaluate("() => document.documentElement.scrollWidth") <= width
    red, green, blue = view.evaluate(
        "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (red + green + blue < 200) == (scheme == "dark")
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [page.as_uri()]
    view.close()
