"""The page in a real browser, from a plain host, with Python's answers beside."""

import base64
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import hrpose
from hrpose.site.runtime import DEVICES

from .conftest import hosted

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "src" / "hrpose" / "serve" / "page" / "examples"
CLIP = ROOT / "examples" / "walking.mp4"
pytestmark = [pytest.mark.browser, pytest.mark.slow]

POSES = """async ([data, options]) => {
    const { fetchPoses } = await import("./page/server.js");
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    return await fetchPoses(new Blob([bytes]), options);
}"""


@dataclass
class Visit:
    """A tab with the page, and every fault it reports."""

    page: Any
    address: str
    faults: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.context.on("request", self._request)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning") and "blocked by Playwright" not in message.text:
            self.faults.append(f"console: {message.text}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.address, "blob:", "data:")):
            self.faults.append(f"leaves the host: {request.url}")

    def open(self, query: str = "") -> None:
        self.page.goto(self.address + query, timeout=120_000)

    def ready(self) -> None:
        """Wait until the model runs."""
        self.page.wait_for_selector(
            "#keypoint option:nth-child(3)", state="attached", timeout=180_000
        )

    def done(self, count: int) -> None:
        """Wait until the strip has this many images, and the one that is shown its poses."""
        self.page.wait_for_selector(f"#strip li:nth-child({count})", state="attached")
        self.page.wait_for_selector("#summary small", state="attached", timeout=120_000)
        self.page.wait_for_selector("#stage[aria-busy=false]", state="attached", timeout=120_000)

    def notice(self) -> str:
        self.page.wait_for_selector("#notice:not([hidden])", timeout=120_000)
        return str(self.page.inner_text("#notice ul"))

    def poses(self, content: bytes, **options: Any) -> dict[str, Any]:
        """What the page's own module answers for a file."""
        data = base64.b64encode(content).decode()
        answer: dict[str, Any] = self.page.evaluate(POSES, [data, options])
        return answer

    def saved(self, button: str) -> bytes:
        """The content of the file that a button saves."""
        with self.page.expect_download() as download:
            self.page.click(f"[data-do={button}]")
        return Path(download.value.path()).read_bytes()


@pytest.fixture(scope="module")
def visit(browser: Any, host: tuple[str, Path]) -> Iterator[Visit]:
    """One tab for all tests that only look, which reports no fault in the end."""
    context = browser.new_context(viewport={"width": 1200, "height": 850})
    visit = Visit(context.new_page(), f"{host[0]}/demo/")
    visit.watch()
    visit.open()
    visit.ready()
    yield visit
    context.close()
    assert visit.faults == []


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def ten_images() -> dict[str, bytes]:
    """Photographs, and what files may be: turned by EXIF, transparent, gray, of other formats."""
    files = {file.stem: file.read_bytes() for file in sorted(EXAMPLES.glob("*.jpg"))}
    files["grace"] = (ROOT / "examples" / "grace_hopper.jpg").read_bytes()
    walking = Image.open(EXAMPLES / "walking.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = walking.transpose(Image.Transpose.ROTATE_90)
    files["turned"] = encoded(turned, "JPEG", quality=95, exif=exif)
    clear = walking.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(walking.size).point(lambda a: 255 - a // 3))
    files["transparent"] = encoded(clear, "PNG")
    files["gray"] = encoded(walking.convert("L").crop((200, 20, 600, 520)), "PNG")
    large = Image.open(EXAMPLES / "balancing.jpg").resize((1920, 2520), Image.Resampling.LANCZOS)
    files["large"] = encoded(large, "WEBP", lossless=True)
    assert len(files) == 10
    return files


def test_keypoints_are_those_of_python(visit: Visit) -> None:
    estimator = hrpose.load(device="cpu", precision="fp32", exact=True)
    persons = 0
    for name, content in ten_images().items():
        flip_test = name in ("turned", "walking")
        estimator.flip_test = flip_test
        detected = estimator(content)
        answer = visit.poses(content, flipTest=flip_test)
        assert (answer["width"], answer["height"]) == detected.image_wh, name
        boxes = np.array([one["box"] for one in answer["persons"]])
        assert boxes.shape == detected.boxes.shape, name
        # OpenCV rounds by one gray level on some processors, where the detector's input is warped.
        assert np.abs(boxes - detected.boxes).max() < 0.25, name
        scores = [one["score"] for one in answer["persons"]]
        assert np.allclose(scores, detected.scores, atol=0.01), name
        # In the same boxes: one elbow with two peaks of one height jumps with a tenth of a pixel.
        expected = estimator(content, boxes)
        found = np.array(
            [[[p["x"], p["y"], p["score"]] for p in one["keypoints"]] for one in answer["persons"]]
        )
        assert found.shape == expected.keypoints.shape, name
        # Where the network saw a keypoint: elsewhere the highest of many low pixels is chance.
        seen = expected.conf >= 0.1
        distances = np.linalg.norm(found[..., :2] - expected.xy, axis=-1)[seen]
        assert distances.max() < 1, f"{name}: {distances.max():.2f} pixels"
        assert np.abs(found[..., 2] - expected.conf).max() < 0.02, name
        persons += len(found)
    assert persons >= 12


def test_boxes_of_ones_own(visit: Visit) -> None:
    content = (EXAMPLES / "walking.jpg").read_bytes()
    box = [262, 60, 200, 423]
    estimator = hrpose.load(detector="none", device="cpu", precision="fp32", exact=True)
    expected = estimator(content, [box])
    answer = visit.poses(content, boxes=[box])
    assert answer["boxes_from"] == "request"
    (person,) = answer["persons"]
    points = np.array([[p["x"], p["y"]] for p in person["keypoints"]])
    assert np.abs(points - expected.xy[0]).max() < 0.5


def test_it_says_where_it_runs_and_has_threads_on_any_host(visit: Visit) -> None:
    # A plain host sends no headers for it: the service worker does.
    assert visit.page.evaluate("crossOriginIsolated")
    assert visit.page.evaluate("document.querySelector('.engine').textContent").startswith(
        "Runs on: ONNX Runtime"
    )
    cores = min(visit.page.evaluate("navigator.hardwareConcurrency"), 8)
    threads = "1 thread" if cores == 1 else f"{cores} threads"
    assert f"WebAssembly, {threads}" in visit.page.inner_text(".engine.in-browser")


def test_an_image_is_shown_and_saved(visit: Visit) -> None:
    visit.page.click("#examples button >> nth=0")
    visit.done(1)
    assert "1 person" in visit.page.inner_text("#summary")
    result = json.loads(visit.saved("json"))
    assert result["image"] == "walking.jpg"
    assert len(result["persons"][0]["keypoints"]) == 17
    drawn = Image.open(io.BytesIO(visit.saved("png")))
    plain = Image.open(EXAMPLES / "walking.jpg")
    assert drawn.size == plain.size
    nose = result["persons"][0]["keypoints"][0]
    place = (round(nose["x"]), round(nose["y"]))
    changed = np.abs(np.subtract(drawn.convert("RGB").getpixel(place), plain.getpixel(place)))
    assert changed.max() > 40
    # Heatmaps come without a server too.
    before = visit.page.evaluate("document.getElementById('canvas').toDataURL()")
    visit.page.select_option("#keypoint", "all")
    visit.page.wait_for_selector("#stage[aria-busy=false]", state="attached")
    visit.page.wait_for_timeout(500)
    assert visit.page.evaluate("document.getElementById('canvas').toDataURL()") != before
    visit.page.select_option("#keypoint", "")
    visit.page.click("[data-language=zh]")
    assert "运行于" in visit.page.evaluate("document.querySelector('.engine').textContent")
    visit.page.click("[data-language=en]")


def test_clips_and_the_camera(visit: Visit) -> None:
    before = visit.page.locator("#strip li").count()
    visit.page.set_input_files("#file", str(CLIP))
    visit.done(before + 2)
    assert "keypoints" in visit.page.inner_text("#summary")
    visit.page.click("#panel [data-do=camera]")
    visit.page.wait_for_selector("#tools[inert]", state="attached", timeout=120_000)
    visit.page.wait_for_selector("#stage[aria-busy=false]", state="attached")
    visit.page.click("#panel [data-do=stop]")
    assert visit.page.locator("#notice").is_hidden()


def test_what_cannot_be_read_is_told(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "words.jpg").write_text("these are words")
    visit.page.set_input_files("#file", str(tmp_path / "words.jpg"))
    assert "not an image that this browser can read" in visit.notice()
    # A few bytes that state more pixels than any memory has.
    Image.new("1", (12_000, 9_000)).save(tmp_path / "huge.png")
    visit.page.set_input_files("#file", str(tmp_path / "huge.png"))
    visit.page.wait_for_selector("#notice li strong:text('huge.png')")
    assert "100 megapixels" in visit.notice()
    visit.page.click("#notice > button")


def test_it_works_without_a_network_once_loaded(browser: Any, host: tuple[str, Path]) -> None:
    context = browser.new_context()
    with hosted(host[1].parent) as address:
        visit = Visit(context.new_page(), f"{address}/demo/")
        visit.open()
        visit.ready()
    # The host is gone.
    again = Visit(context.new_page(), visit.address)
    again.watch()
    again.open("?device=wasm")
    again.ready()
    again.page.click("#examples button >> nth=1")
    again.done(1)
    assert "2 people" in again.page.inner_text("#summary")
    context.close()
    assert again.faults == []


def alone(browser: Any, address: str, before: str = "") -> Visit:
    """A tab without service worker, whose worker runs this code first."""
    context = browser.new_context(service_workers="block")
    visit = Visit(context.new_page(), address)
    if before:

        def prefixed(route: Any) -> None:
            answer = route.fetch()
            route.fulfill(response=answer, body=before + answer.text())

        context.route("**/worker.js", prefixed)
    return visit


def test_browsers_without_simd_are_told(browser: Any, host: tuple[str, Path]) -> None:
    visit = alone(browser, f"{host[0]}/demo/", "WebAssembly.validate = () => false;\n")
    visit.open()
    assert "lacks WebAssembly with SIMD" in visit.notice()
    visit.page.context.close()


def test_missing_files_are_told(browser: Any, host: tuple[str, Path], tmp_path: Path) -> None:
    shutil.copytree(host[1], tmp_path / "demo")
    (tmp_path / "demo" / "models" / "pose.onnx").unlink()
    with hosted(tmp_path) as address:
        visit = alone(browser, f"{address}/demo/")
        visit.open()
        text = visit.notice()
        assert "models/pose.onnx: 404" in text
        assert "folder is complete" in text
        visit.page.context.close()


GPU = """Object.defineProperty(navigator, "gpu", { value: {
    requestAdapter: async () => ({ info: { architecture: "ampere" } }),
} });
"""
# ONNX Runtime whose results on a graphics card are wrong.
WRONG = """export * from "./real.js";
import { InferenceSession as Session } from "./real.js";
export const InferenceSession = {
    async create(bytes, options) {
        const wrong = options.executionProviders[0] === "webgpu";
        const session = await Session.create(bytes, { ...options, executionProviders: ["wasm"] });
        if (!wrong) return session;
        const run = session.run.bind(session);
        session.run = async (feeds) => {
            const outputs = await run(feeds);
            for (const tensor of Object.values(outputs)) tensor.data.fill(0.3);
            return outputs;
        };
        return session;
    },
};
"""


def test_a_graphics_card_that_computes_wrong_is_not_used(
    browser: Any, host: tuple[str, Path]
) -> None:
    visit = alone(browser, f"{host[0]}/demo/", GPU)
    module = f"{Path(DEVICES['webgpu'][0]).stem}.js"
    real = (host[1] / "runtime" / module).read_bytes()
    script = {"content_type": "text/javascript"}
    route = visit.page.context.route
    route(f"**/{module}", lambda request: request.fulfill(body=WRONG, **script))
    route("**/real.js", lambda request: request.fulfill(body=real, **script))
    visit.watch()
    visit.open()
    visit.ready()
    # Neither does it need a service worker, without which there are no threads.
    assert "WebAssembly, 1 thread" in visit.page.inner_text(".engine.in-browser")
    content = (EXAMPLES / "walking.jpg").read_bytes()
    assert len(visit.poses(content)["persons"]) == 1
    visit.page.context.close()
    assert visit.faults == []


def test_the_folder_is_small(host: tuple[str, Path]) -> None:
    size = sum(file.stat().st_size for file in host[1].rglob("*") if file.is_file())
    assert 15e6 < size < 30e6
