"""A page of one file in a browser: no errors, no requests, nothing beyond the screen."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ALL_SHOWN = "() => [...document.images].every(image => image.complete && image.naturalWidth > 0)"
GROUND = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"


def watched(view: Any) -> tuple[list[str], list[str]]:
    """The console messages and the requests of a view, as two growing lists."""
    complaints: list[str] = []
    requests: list[str] = []
    view.on("console", lambda message: complaints.append(message.text))
    view.on("pageerror", lambda error: complaints.append(str(error)))
    view.on("request", lambda request: requests.append(request.url))
    view.set_default_timeout(120_000)  # a busy machine is slow, not wrong
    return complaints, requests


@contextmanager
def opened(browser: Any, page: Path, width: int, scheme: str) -> Iterator[Any]:
    """Playwright's view of the page; on exit, what must hold for every page is asserted."""
    view = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    complaints, requests = watched(view)
    view.goto(page.as_uri())
    yield view
    assert view.evaluate(ALL_SHOWN)
    # Nothing exceeds the width; wide tables scroll by themselves.
    assert view.evaluate("() => document.documentElement.scrollWidth") <= width
    red, green, blue = view.evaluate(GROUND)
    assert (red + green + blue < 200) == (scheme == "dark")
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [page.as_uri()]
    view.close()
