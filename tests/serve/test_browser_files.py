"""The page in a real browser: examples, several files, clips, large images, and bad files."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import hrpose.serve
from clips import write_clip

from .tab import Tab

PAGE = Path(hrpose.serve.__file__).parent / "page"
ROOT = Path(__file__).resolve().parents[2]
ASTRONAUT = ROOT / "examples" / "astronaut.jpg"
GRACE = ROOT / "examples" / "grace_hopper.jpg"
# `npm install --no-save axe-core` puts it there; it is not part of the package.
AXE = Path(os.environ.get("HRPOSE_AXE", ROOT / "node_modules" / "axe-core" / "axe.min.js"))
pytestmark = pytest.mark.browser


def names(tab: Tab) -> list[str]:
    """The names in the strip."""
    strip = tab.page.query_selector_all("#strip .thumbnail")
    return [str(button.get_attribute("title")) for button in strip]


def all_done(tab: Tab, count: int) -> None:
    tab.until(f"document.querySelectorAll('#strip .count').length === {count}")


def test_an_example_is_one_click_away(tab: Tab) -> None:
    page = tab.page
    page.wait_for_selector("#examples button")
    examples = json.loads(
        page.evaluate("fetch('/page/examples/examples.json').then((r) => r.text())")
    )
    shown = page.inner_text("#examples li:first-child")
    assert examples[0]["title"]["en"] in shown
    assert examples[0]["license"]["en"] in shown
    assert tab.request(lambda: page.click("#examples li:first-child button"))["persons"]
    assert names(tab) == [examples[0]["file"]]
    assert page.is_hidden("#examples")
    # The examples are back where no image is left.
    page.hover("#strip li")
    page.click("#strip .remove")
    assert page.is_visible("#examples")
    assert page.is_hidden("#panel")


def test_an_example_that_cannot_be_fetched_says_so(tab: Tab) -> None:
    tab.page.wait_for_selector("#examples button")
    tab.page.route("**/page/examples/*.jpg", lambda route: route.abort())
    tab.page.click("#examples button")
    tab.page.wait_for_selector("#notice:has-text('cannot be reached')")
    assert "ERR_FAILED" in tab.faults.pop()


def test_persons_are_listed_by_their_confidence(tab: Tab) -> None:
    def three(route: Any) -> None:
        response = route.fetch()
        answer = response.json()
        person = answer["persons"][0]
        answer["persons"] = [{**person, "score": score} for score in (0.4, 0.9, 0.6)]
        if answer["boxes_from"] == "request":  # then the order is that of the boxes
            answer["persons"] = answer["persons"][:2]
        route.fulfill(response=response, json=answer)

    def listed() -> list[str]:
        return [str(text) for text in tab.page.locator("#persons summary").all_inner_texts()]

    tab.page.route("**/v1/poses", three)
    tab.drop(ASTRONAUT)
    assert listed() == ["Person 1\n0.90", "Person 2\n0.60", "Person 3\n0.40"]
    # The numbers of edited boxes stay, and the list is sorted all the same.
    tab.select()
    tab.page.keyboard.press("Delete")
    tab.until("document.querySelectorAll('#persons summary').length === 2")
    assert listed() == ["Person 2\n0.90", "Person 1\n0.40"]


def test_several_files_are_chosen_between_and_removed(tab: Tab, tmp_path: Path) -> None:
    page = tab.page
    (tmp_path / "notes.txt").write_text("no image")
    handle = tab.transfer(ASTRONAUT, tmp_path / "notes.txt", GRACE)
    page.dispatch_event("#stage", "drop", {"dataTransfer": handle})
    all_done(tab, 2)
    assert names(tab) == ["astronaut.jpg", "grace_hopper.jpg"]
    # What cannot be used is named above the image, in the chosen language.
    notice = page.locator("#notice")
    assert notice.bounding_box()["y"] < page.locator("#canvas").bounding_box()["y"]
    assert page.inner_text("#notice strong") == "notes.txt"
    assert "Convert it to JPEG or PNG" in page.inner_text("#notice li")
    page.click("[data-language=zh]")
    assert "请转换为 JPEG 或 PNG" in page.inner_text("#notice li")
    page.click("#notice button")
    assert page.is_hidden("#notice")
    assert "422" in tab.faults.pop()
    # Each keeps its own boxes and answer.
    tab.request(lambda: page.click("[data-do=add]"))
    page.focus("#strip .thumbnail")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#strip li:nth-child(2) [aria-current]")
    assert page.locator(".box").count() == 1
    page.click("#strip li:first-child .thumbnail")
    page.wait_for_selector("#strip li:first-child [aria-current]")
    assert page.locator(".box").count() == 2
    with page.expect_download() as waited:
        page.click("[data-do=jsonAll]")
    saved = json.loads(Path(waited.value.path()).read_text())["images"]
    assert [(image["image"], len(image["persons"])) for image in saved] == [
        ("astronaut.jpg", 2), ("grace_hopper.jpg", 1)
    ]  # fmt: skip
    page.click("#strip li:first-child .remove")
    page.wait_for_selector("#strip li:only-child [aria-current]")
    assert names(tab) == ["grace_hopper.jpg"]


def test_a_clip_becomes_frames(tab: Tab, tmp_path: Path) -> None:
    image = np.asarray(Image.open(ASTRONAUT).resize((256, 256)))
    frames = [np.roll(image, 10 * index, axis=1) for index in range(10)]
    clip = write_clip(tmp_path / "walk.mp4", frames, [index / 10 for index in range(10)])
    sound = tmp_path / "broken.mp4"
    sound.write_bytes(clip.read_bytes()[:600])
    tab.page.set_input_files("#file", [clip, sound])
    tab.page.wait_for_selector("#notice")
    assert tab.page.inner_text("#notice strong") == "broken.mp4"
    assert "cannot play" in tab.page.inner_text("#notice li")
    found = names(tab)
    assert 3 <= len(found) <= 5
    assert found[0].startswith("walk.mp4 0:00.")
    assert len(set(found)) == len(found)
    all_done(tab, len(found))


def test_a_large_image_is_shrunk_and_shown_in_its_own_pixels(tab: Tab, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    Image.open(ASTRONAUT).resize((3200, 3200)).save(large, quality=95)
    small = tab.drop(ASTRONAUT)
    answer = tab.request(lambda: tab.page.set_input_files("#file", large))
    assert (answer["width"], answer["height"]) == (2560, 2560)
    assert "3200 by 3200" in tab.summary()
    with tab.page.expect_download() as waited:
        tab.page.click("[data-do=json]")
    saved = json.loads(Path(waited.value.path()).read_text())
    assert (saved["width"], saved["height"]) == (3200, 3200)
    # As in the small image, 6.25 times as large: pixel centers are integers.
    ours, theirs = (
        np.array([[p["x"], p["y"]] for p in result["persons"][0]["keypoints"]])
        for result in (saved, small)
    )
    sure = np.array([p["score"] > 0.5 for p in small["persons"][0]["keypoints"]])
    assert np.median(np.abs(ours - (6.25 * theirs + 2.625))[sure]) < 15
    sent_points = np.array([[p["x"], p["y"]] for p in answer["persons"][0]["keypoints"]])
    assert np.allclose(ours, 1.25 * sent_points + 0.125, atol=0.02)
    # A box that is drawn is sent in the pixels of what was sent.
    tab.select()
    box = tab.request(lambda: tab.page.keyboard.press("ArrowLeft"))["persons"][0]["box"]
    assert box[2] == pytest.approx(answer["persons"][0]["box"][2], abs=0.1)
    assert box[0] < answer["persons"][0]["box"][0]


def test_the_model_card_and_the_api_are_linked(tab: Tab) -> None:
    page = tab.page
    page.click("[data-do=card]")
    card = page.inner_text("#card")
    for part in ("w16-small", "research", "128 by 192", "Apache License 2.0"):
        assert part in card
    page.keyboard.press("Escape")
    page.click("nav a")
    page.wait_for_selector("h2:has-text('POST /v1/poses')")
    assert "flip_test" in page.inner_text("#routes")
    page.click("[data-language=zh]")
    page.wait_for_selector("th:has-text('默认值')")


def test_a_finger_selects_a_box_by_a_tap(browser: Any, url: str) -> None:
    viewport = {"width": 390, "height": 844}
    tab = Tab(browser, url, viewport=viewport, has_touch=True, is_mobile=True)
    tab.drop(ASTRONAUT)
    box = tab.page.locator(".box").first
    # A finger that moves over the box scrolls the page ...
    assert box.evaluate("(box) => getComputedStyle(box).touchAction") != "none"
    box.tap(position={"x": 30, "y": 60})
    # ... until it is selected.
    assert box.evaluate("(box) => getComputedStyle(box).touchAction") == "none"
    handle = tab.page.locator(".handle.se").first.bounding_box()
    assert min(handle["width"], handle["height"]) >= 24
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
    tab.context.close()
    assert tab.faults == []


@pytest.mark.skipif(
    not AXE.exists(), reason="axe-core is not installed (npm install --no-save axe-core)"
)
@pytest.mark.parametrize(
    ("scheme", "language", "width", "height"),
    [("light", "en", 1400, 900), ("dark", "zh", 390, 844)],
)
def test_accessibility(
    browser: Any, url: str, scheme: str, language: str, width: int, height: int
) -> None:
    """No finding of axe-core, on the start view, with results, in the dialog, and at /docs."""
    viewport = {"width": width, "height": height}
    tab = Tab(browser, url, color_scheme=scheme, viewport=viewport)
    page = tab.page

    def check(view: str) -> None:
        page.evaluate(AXE.read_text("utf-8"))
        found = page.evaluate("axe.run().then(({ violations }) => violations)")
        lines = [
            f"{view}: {one['impact']} {one['id']}: {one['nodes'][0]['html'][:120]}" for one in found
        ]
        assert lines == []

    page.click(f"[data-language={language}]")
    page.wait_for_selector("#examples img")
    check("start")
    tab.drop(ASTRONAUT)
    tab.request(lambda: page.select_option("#keypoint", "all"))
    page.click("#persons summary")
    page.set_input_files("#file", ROOT / "README.md")
    page.wait_for_selector("#notice")
    check("results")
    page.click("[data-do=card]")
    check("model card")
    page.goto(f"{url}/docs")
    page.wait_for_selector("#routes table")
    check("API")
    tab.context.close()
    assert [fault for fault in tab.faults if "422" not in fault] == []
