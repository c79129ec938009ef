"""The documentation's site in a browser, wide and narrow: whole, and from no other host."""

import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from hrpose.skeletons import COCO_17
from offline_page import GROUND, watched

PAGES = (
    "index.html",
    "how-it-works.html",
    "guide/training.html",
    "guide/security.html",
    "reference/network.html",
    "models/history/training-log.html",
    "zh/index.html",
)
# Material shows images when they come near the window; here all are asked for.
ALL_SHOWN = """async () => {
  for (const image of document.images) image.loading = "eager";
  await Promise.all([...document.images].map((image) => image.decode()));
}"""
# What is cut off at the side, and not within something that scrolls.
BEYOND = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"

# Options and other short words of code that are broken across lines, and tables that must be pushed
# aside to be read.
BROKEN = """() => [
  ...[...document.querySelectorAll("td code.short, .options dt code.short")]
    .filter(code => code.getClientRects().length > 1).map(code => code.textContent),
  ...[...document.querySelectorAll(".md-typeset__scrollwrap")]
    .filter(wrap => wrap.scrollWidth > wrap.clientWidth)
    .map(wrap => `table of ${wrap.innerText.slice(0, 60)}`),
]"""

MOVED_TO = """(slider, value) => {
  slider.value = value;
  slider.dispatchEvent(new Event("input", {bubbles: true}));
}"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the site, built and served on this machine."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_pages_are_whole(browser: Any, site: str, width: int, scheme: str) -> None:
    view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints, requests = watched(view)
    for page in PAGES:
        answer = view.goto(f"{site}/{page}", wait_until="networkidle")
        assert answer.status == 200, page
        view.evaluate(ALL_SHOWN)
        assert view.evaluate(BEYOND) <= 0, page
        assert (sum(view.evaluate(GROUND)) < 300) == (scheme == "dark"), page
        if folder := os.environ.get("HRPOSE_SCREENSHOTS"):  # to look at them
            name = f"{page.replace('/', '-').removesuffix('.html')}-{width}-{scheme}.png"
            view.screenshot(path=Path(folder) / name)
    assert complaints == []
    assert [url for url in requests if not url.startswith((site, "data:"))] == []
    view.close()


@pytest.mark.browser
def test_options_are_readable_on_a_phone(browser: Any, site: str) -> None:
    view = browser.new_page(viewport={"width": 390, "height": 844})
    for page in ("reference/cli", "guide/video", "guide/speed", "guide/install", "zh/command-line"):
        view.goto(f"{site}/{page}.html")
        assert view.locator("code.short").count() > 5, page
        assert view.evaluate(BROKEN) == [], page
    view.close()


@pytest.mark.browser
def test_the_sliders_show_the_similarity(browser: Any, site: str) -> None:
    view = browser.new_page()
    view.set_default_timeout(120_000)
    view.goto(f"{site}/how-it-works.html")
    view.select_option("#oks select", "left_wrist")
    for name, value in (("d", 20), ("s", 100)):
        slider = view.locator(f"#oks input[data-name={name}]")
        slider.evaluate(MOVED_TO, value)
    sigma = COCO_17.sigmas[COCO_17.keypoints.index("left_wrist")]
    expected = math.exp(-(20**2) / (2 * 100**2 * (2 * sigma) ** 2))
    assert float(view.inner_text("#oks [data-value]").split()[-1]) == pytest.approx(
        expected, abs=0.006
    )
    view.close()


# What newcomers type, and the page that answers it, which is among the first three found.
SOUGHT = {
    "webcam": "guide/video",
    "camera": "guide/inputs",
    "video": "guide/video",
    "GPU": "guide/speed",
    "CUDA": "guide/speed",
    "TensorRT": "guide/speed",
    "batch size": "guide/speed",
    "out of memory": "guide/questions",
    "slow": "guide/questions",
    "macOS": "guide/questions",
    "Windows": "guide/questions",
    "offline": "guide/questions",
    "license": "guide/questions",
    "commercial": "guide/questions",
    "privacy": "guide/questions",
    "install": "guide/install",
    "3D": "guide/which-tool",
    "YOLO": "guide/coming-from",
    "mmpose": "guide/coming-from",
    "fine-tune": "guide/own-keypoints",
    "quarter offset": "how-it-works",
    "\u70ed\u56fe": "zh/how-it-works",
}
FOUND = "[...document.querySelectorAll('.md-search-result__link')].map(link => link.href)"


@pytest.mark.browser
def test_the_search_finds(browser: Any, site: str) -> None:
    view = browser.new_page(viewport={"width": 1280, "height": 900})
    view.set_default_timeout(30_000)
    view.goto(f"{site}/index.html")
    field = view.locator(".md-search__input")
    missed = {}
    for word, page in SOUGHT.items():
        for typed, found in (("", f"() => {FOUND}.length === 0"), (word, f"() => {FOUND}.length")):
            field.fill(typed)
            field.dispatch_event("keyup")
            view.wait_for_function(found)
        links = view.evaluate(f"() => {FOUND}")
        pages = [link.removeprefix(f"{site}/").partition(".html")[0] for link in links]
        if page not in list(dict.fromkeys(pages))[:3]:
            missed[word] = pages[:6]
    assert not missed, "\n".join(f"{word}: {pages}" for word, pages in missed.items())
    view.close()
