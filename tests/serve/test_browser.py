"""The page in a real browser: what a user does, and what the page then shows."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrpose.image import read_image
from hrpose.metadata import Metadata
from hrpose.poses import Poses
from hrpose.site.build import about
from hrpose.skeletons import COCO_17, WHOLEBODY_133
from hrpose.viz.drawing import FINGERS
from whole_bodies import whole_body

from .conftest import Process
from .tab import Tab, keypoints

ROOT = Path(__file__).resolve().parents[2]
ASTRONAUT = ROOT / "examples" / "astronaut.jpg"
GRACE = ROOT / "examples" / "grace_hopper.jpg"
pytestmark = pytest.mark.browser

# The first image is decoded only after finish().
SLOW_DECODING = """() => {
    const decode = createImageBitmap;
    let calls = 0;
    window.createImageBitmap = async (file) => {
        calls += 1;
        if (calls === 1) await new Promise((done) => { window.finish = done; });
        const bitmap = await decode(file);
        window.decoded = calls;
        return bitmap;
    };
}"""

LEFT, RIGHT, MIDDLE = (0, 158, 255), (255, 140, 0), (90, 220, 120)


def colored(tab: Tab, answer: dict[str, Any], least: float = 0.3) -> dict[str, bool]:
    """Whether the canvas shows each keypoint's color at its place; unsure ones are faint."""
    places = keypoints(answer, 0)
    colors = tab.pixels(list(places.values()), answer["width"])
    checked = tab.page.is_checked("#show-skeletons")
    tab.page.uncheck("#show-skeletons")
    plain = tab.pixels(list(places.values()), answer["width"])
    tab.page.set_checked("#show-skeletons", checked)
    sides = {
        name: LEFT if "left" in name else RIGHT if "right" in name else MIDDLE for name in places
    }

    def far(color: Any, name: str) -> int:
        return max(abs(int(a) - int(b)) for a, b in zip(color, sides[name], strict=True))

    return {
        name: far(color, name) < max(12, 0.8 * far(before, name))
        for name, color, before in zip(places, colors, plain, strict=True)
    }


def test_a_dropped_image_shows_its_skeleton(tab: Tab) -> None:
    answer = tab.drop(ASTRONAUT)
    shown = colored(tab, answer)
    width, height = answer["width"], answer["height"]
    # Of a person who is cut off, keypoints may be found beyond the image, where nothing is drawn.
    present = [n for n, (x, y) in keypoints(answer).items() if 0 <= x < width and 0 <= y < height]
    assert len(present) >= 8
    # One may lie under another, or at the very edge of the image.
    assert len([name for name in present if not shown[name]]) <= 1
    assert "1 person" in tab.summary()
    # Without the skeleton the image alone is there.
    tab.page.uncheck("#show-skeletons")
    assert sum(colored(tab, answer).values()) <= 1


def test_a_pasted_image_shows_its_skeleton(tab: Tab) -> None:
    clipboard = tab.transfer(ASTRONAUT, name="image.jpg")
    answer = tab.request(
        lambda: tab.page.evaluate(
            """(clipboardData) => document.dispatchEvent(
                new ClipboardEvent("paste", { clipboardData, bubbles: true }))""",
            clipboard,
        )
    )
    shown = colored(tab, answer)
    assert sum(shown[name] for name in keypoints(answer)) >= 8
    assert "1 person" in tab.summary()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colors_follow_the_system(browser: Any, url: str, scheme: str) -> None:
    tab = Tab(browser, url, color_scheme=scheme)
    # Words on their ground, as the canvas reads colors: (red, green, blue).
    ground, words = tab.page.evaluate(
        """() => ["backgroundColor", "color"].map((part) => {
            const context = document.createElement("canvas").getContext("2d");
            context.fillStyle = getComputedStyle(document.body)[part];
            context.fillRect(0, 0, 1, 1);
            return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
        })"""
    )
    darker, lighter = (words, ground) if scheme == "light" else (ground, words)
    assert max(darker) < 90
    assert min(lighter) > 180
    tab.context.close()
    assert tab.faults == []


def test_the_threshold_takes_keypoints_away(tab: Tab) -> None:
    answer = tab.drop(ASTRONAUT)
    scores = sorted(p["score"] for p in answer["persons"][0]["keypoints"])
    least = round(scores[-3] - 0.01, 2)
    tab.page.fill("#threshold", str(least))
    shown = colored(tab, answer)
    assert [name for name in keypoints(answer, least) if not shown[name]] == []
    hidden = set(keypoints(answer, 0.3)) - set(keypoints(answer, least))
    assert sum(shown[name] for name in hidden) <= 1  # one may lie under another
    assert f"{len(keypoints(answer, least))} keypoints" in tab.summary()


def test_a_dragged_box_is_estimated_again(tab: Tab) -> None:
    before = tab.drop(ASTRONAUT)
    place = tab.select()
    mouse = tab.page.mouse

    def drag() -> None:
        mouse.move(place["x"] + place["width"], place["y"] + place["height"])
        mouse.down()
        mouse.move(place["x"] + place["width"] * 0.7, place["y"] + place["height"] * 0.6, steps=4)
        mouse.up()

    after = tab.request(drag)
    assert after["boxes_from"] == "request"
    (x, y, w, h), old = after["persons"][0]["box"], before["persons"][0]["box"]
    assert (x, y) == pytest.approx(old[:2], abs=3)
    assert (w, h) == pytest.approx((0.7 * old[2], 0.6 * old[3]), rel=0.03)
    assert keypoints(after) != keypoints(before)
    shown = colored(tab, after)
    assert [name for name in keypoints(after) if not shown[name]] == []
    # Moved as a whole, its size stays.
    place = tab.box()

    def move() -> None:
        mouse.move(place["x"] + 40, place["y"] + place["height"] / 2)
        mouse.down()
        mouse.move(place["x"] + 100, place["y"] + place["height"] / 2 + 30, steps=4)
        mouse.up()

    moved = tab.request(move)["persons"][0]["box"]
    assert moved[2:] == pytest.approx([w, h])
    assert moved[0] > x
    assert moved[1] > y


@pytest.mark.parametrize("choice", ["flip test", "heatmap"])
def test_an_option_during_the_request_of_an_edit_keeps_the_edit(tab: Tab, choice: str) -> None:
    before = tab.drop(ASTRONAUT)
    place = tab.select()
    held = tab.hold()
    with tab.page.expect_request("**/v1/poses"):
        tab.drag((place["x"] + place["width"], place["y"] + place["height"]), (-150, -200))
    edited = tab.box()
    assert edited["height"] == pytest.approx(place["height"] - 200, abs=2)
    # Redrawing keeps the edit.
    tab.page.fill("#threshold", "0.5")
    tab.page.click("[data-language=zh]")
    assert tab.box() == edited
    if choice == "flip test":
        answer = tab.request(lambda: tab.page.check("#flip-test"))
    else:
        answer = tab.request(lambda: tab.page.select_option("#keypoint", "0"))
    assert len(held) == 1
    assert answer["boxes_from"] == "request"
    assert answer["persons"][0]["box"][3] < 0.8 * before["persons"][0]["box"][3]
    assert tab.box() == pytest.approx(edited, abs=0.1)


@pytest.mark.parametrize("end", ["canceled", "a click"])
def test_a_click_that_changes_no_box_loses_no_answer(tab: Tab, end: str) -> None:
    tab.drop(ASTRONAUT)
    tab.select()
    tab.request(lambda: tab.page.click(".box .remove"))
    place = tab.page.locator("#boxes").bounding_box()
    tab.hold()
    with tab.page.expect_request("**/v1/poses"):
        tab.page.check("#flip-test")
    mouse = tab.page.mouse

    def draw() -> None:
        mouse.move(place["x"] + 100, place["y"] + 50)
        mouse.down()
        if end == "canceled":
            mouse.move(place["x"] + 400, place["y"] + 600, steps=4)
            tab.page.dispatch_event("#boxes", "pointercancel", {"pointerId": 1})
        mouse.up()

    assert tab.request(draw)["persons"] == []
    assert tab.page.locator(".box, .ghost").count() == 0


def test_an_answer_that_is_read_during_a_drag_does_not_end_it(tab: Tab) -> None:
    tab.drop(ASTRONAUT)
    tab.page.evaluate(SLOW_DECODING)
    with tab.page.expect_response("**/v1/poses"):
        tab.page.select_option("#keypoint", "0")
    tab.until("'finish' in window")
    place, mouse = tab.grab()
    tab.page.evaluate("decoded = 0, finish()")
    tab.until("decoded")
    tab.page.wait_for_timeout(100)
    mouse.move(place["x"] + 400, place["y"] + 400)
    assert tab.request(mouse.up)["boxes_from"] == "request"
    assert tab.box()["height"] == pytest.approx(400, abs=4)


def test_a_second_pointer_neither_drags_nor_disturbs_the_first(tab: Tab) -> None:
    tab.drop(ASTRONAUT)
    place, mouse = tab.grab()
    second = {"pointerId": 2, "button": 0, "clientX": place["x"], "clientY": place["y"]}
    for kind in ("pointerdown", "pointermove", "pointerup"):
        tab.page.dispatch_event(".box .nw", kind, second)
    mouse.move(place["x"] + 400, place["y"] + 400)
    assert tab.request(mouse.up)["boxes_from"] == "request"
    assert tab.box()["x"] == pytest.approx(place["x"], abs=1)
    assert tab.box()["height"] == pytest.approx(400, abs=4)


def test_a_box_that_a_second_pointer_removes_is_released(tab: Tab) -> None:
    tab.drop(ASTRONAUT)
    place, mouse = tab.grab()
    answer = tab.request(lambda: tab.page.evaluate("document.querySelector('.remove').click()"))
    assert answer["persons"] == []
    mouse.move(place["x"] + 300, place["y"] + 300)
    mouse.up()
    assert tab.page.locator(".box").count() == 0
    # The next drag works again.
    tab.request(lambda: tab.drag((place["x"] + 20, place["y"] + 20), (200, 300)))
    assert tab.box()["height"] == pytest.approx(300, abs=2)


def test_an_edit_by_keys_ends_with_its_image(tab: Tab) -> None:
    tab.drop(ASTRONAUT)
    tab.page.focus(".box")
    tab.page.keyboard.press("ArrowRight")
    assert tab.drop(GRACE)["boxes_from"] == "the full image"
    tab.page.wait_for_timeout(500)  # by then the pause for more keys is over
    tab.page.wait_for_selector("#stage[aria-busy=false]", state="attached")
    assert "the full image" in tab.summary()


def test_a_box_is_drawn_beside_others_added_and_removed(tab: Tab) -> None:
    tab.drop(ASTRONAUT)
    tab.select()
    answer = tab.request(lambda: tab.page.click(".box .remove"))
    assert answer["persons"] == []
    assert "No person" in tab.summary()
    place = tab.page.locator("#boxes").bounding_box()
    mouse = tab.page.mouse

    def draw() -> None:
        mouse.move(place["x"] + 100, place["y"] + 50)
        mouse.down()
        mouse.move(place["x"] + 400, place["y"] + 600, steps=4)
        mouse.up()

    assert len(tab.request(draw)["persons"]) == 1
    assert len(tab.request(lambda: tab.page.click("[data-do=add]"))["persons"]) == 2
    assert tab.page.locator(".box").count() == 2


def test_only_the_selected_box_has_handles(tab: Tab) -> None:
    tab.drop(ASTRONAUT)
    handle = tab.page.locator(".box .handle").first
    assert not handle.is_visible()
    place = tab.box()
    tab.page.mouse.click(place["x"] + 30, place["y"] + place["height"] / 2)
    assert handle.is_visible()
    tab.page.keyboard.press("Escape")
    assert not handle.is_visible()


def test_edits_are_undone_and_redone(tab: Tab) -> None:
    detected = tab.drop(ASTRONAUT)["persons"][0]["box"]
    page = tab.page
    assert page.is_disabled("[data-do=undo]")
    assert page.is_disabled("[data-do=detect]")
    tab.select()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    with page.expect_response("**/v1/poses"):
        pass  # presses in a row are one step
    moved = tab.request(lambda: page.click("[data-do=add]"))["persons"]
    assert len(moved) == 2
    assert moved[0]["box"][0] > detected[0]
    undone = tab.request(lambda: page.keyboard.press("Control+z"))
    assert [person["box"] for person in undone["persons"]] == [moved[0]["box"]]
    again = tab.request(lambda: page.click("[data-do=undo]"))
    assert again["boxes_from"] == "the full image"
    assert again["persons"][0]["box"] == detected
    assert page.is_disabled("[data-do=undo]")
    tab.request(lambda: page.click("[data-do=redo]"))
    assert len(tab.request(lambda: page.keyboard.press("Control+Shift+z"))["persons"]) == 2
    assert page.is_disabled("[data-do=redo]")
    # The detector's boxes are one click away, and that is a step of its own.
    assert tab.request(lambda: page.click("[data-do=detect]"))["boxes_from"] == "the full image"
    assert len(tab.request(lambda: page.click("[data-do=undo]"))["persons"]) == 2


def test_names_are_those_of_the_selected_person(tab: Tab) -> None:
    tab.drop(ASTRONAUT)
    tab.request(lambda: tab.page.click("[data-do=add]"))
    tab.page.fill("#threshold", "0")
    count = """async () => {
        const write = CanvasRenderingContext2D.prototype.fillText;
        let count = 0;
        CanvasRenderingContext2D.prototype.fillText = () => { count += 1; };
        const names = document.getElementById("show-names");
        names.checked = true;
        names.dispatchEvent(new Event("change"));
        CanvasRenderingContext2D.prototype.fillText = write;
        return count;
    }"""
    every = tab.page.evaluate(count)
    tab.select()
    assert 8 <= tab.page.evaluate(count) <= 17 < every


def test_names_cover_neither_each_other_nor_the_border(tab: Tab) -> None:
    """Of crowded keypoints, some names are left out; those of the surest stay."""
    placed = tab.page.evaluate(
        """async () => {
            const { placeLabels } = await import("/page/labels.js");
            const labels = Array.from({ length: 51 }, (_, index) => ({
                x: 200 + 90 * Math.sin(index * 1.7), y: 150 + 70 * Math.cos(index * 2.9),
                width: 40 + index % 30, score: (index * 37 % 51) / 51,
            }));
            const places = placeLabels(labels, 16, [400, 300]);
            return labels.map((label, index) => [label.score, label.width, places[index]]);
        }"""
    )
    boxes = [(left, top, left + width, top + 16) for _, width, (left, top) in
             (row for row in placed if row[2])]  # fmt: skip
    assert len(boxes) > 25
    assert max(placed)[2] is not None
    for index, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 0
        assert top >= 0
        assert right <= 400
        assert bottom <= 300
        for other in boxes[:index]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_everything_can_be_done_with_the_keyboard(tab: Tab) -> None:
    before = tab.drop(ASTRONAUT)
    page = tab.page
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "box":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert "person 1" in label

    def press() -> None:
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Shift+ArrowUp")

    after = tab.request(press)
    (x, _, w, h), old = after["persons"][0]["box"], before["persons"][0]["box"]
    assert x > old[0]
    assert w == old[2]
    assert h < old[3]
    assert page.evaluate("document.activeElement.className") == "box"
    answer = tab.request(lambda: page.keyboard.press("Delete"))
    assert answer["persons"] == []


def test_the_name_and_score_of_a_keypoint_on_hover(tab: Tab) -> None:
    answer = tab.drop(ASTRONAUT)
    nose = answer["persons"][0]["keypoints"][0]
    canvas = tab.page.locator("#canvas").bounding_box()
    scale = canvas["width"] / answer["width"]
    tab.page.mouse.move(canvas["x"] + nose["x"] * scale + 1, canvas["y"] + nose["y"] * scale + 1)
    assert tab.page.inner_text("#tip") == f"nose {nose['score']:.2f}"
    tab.page.click("[data-language=zh]")
    tab.page.mouse.move(canvas["x"] + nose["x"] * scale, canvas["y"] + nose["y"] * scale)
    assert tab.page.inner_text("#tip") == f"鼻子 {nose['score']:.2f}"


def test_the_language_is_switched_and_kept(tab: Tab) -> None:
    tab.drop(ASTRONAUT)
    page = tab.page
    page.click("[data-language=zh]")
    assert page.get_attribute("html", "lang") == "zh"
    assert "1 个人" in tab.summary()
    assert page.inner_text("[data-t=threshold]") == "关键点置信度下限"
    assert page.get_attribute("[data-language=zh]", "aria-pressed") == "true"
    page.reload()
    page.wait_for_selector("text=将含有人物的图片或视频拖到这里")
    page.click("[data-language=en]")
    page.wait_for_selector("text=Drop images or clips of people here")


def test_a_heatmap_is_a_color_over_the_unchanged_image(tab: Tab) -> None:
    answer = tab.drop(ASTRONAUT)
    tab.page.uncheck("#show-skeletons")
    places = [keypoints(answer)["nose"], (500, 500)]
    before = tab.pixels(places, answer["width"])
    asked = tab.request(lambda: tab.page.select_option("#keypoint", "0"))
    assert "heatmaps" in asked["persons"][0]
    assert asked["boxes_from"] == "the full image"  # none was edited
    hot, cold = tab.pixels(places, answer["width"])
    assert max(abs(a - b) for a, b in zip(hot, before[0], strict=True)) > 40
    assert hot[0] > 200
    assert cold == before[1]
    tab.page.select_option("#keypoint", "")
    assert tab.pixels(places, answer["width"]) == before


def test_results_are_saved(tab: Tab, tmp_path: Path) -> None:
    answer = tab.drop(ASTRONAUT, "she.jpg")
    with tab.page.expect_download() as waited:
        tab.page.click("[data-do=json]")
    waited.value.save_as(tmp_path / "a.json")
    assert waited.value.suggested_filename == "she.jpg.poses.json"
    assert json.loads((tmp_path / "a.json").read_text())["persons"] == answer["persons"]
    with tab.page.expect_download() as waited:
        tab.page.click("[data-do=png]")
    waited.value.save_as(tmp_path / "a.png")
    from hrpose.image import read_image

    saved = read_image(tmp_path / "a.png")
    assert saved.shape[1::-1] == (answer["width"], answer["height"])
    x, y = keypoints(answer)["left_shoulder"]
    assert max(abs(saved[round(y), round(x)].astype(int) - LEFT)) < 12


def test_the_camera(tab: Tab) -> None:
    # Chromium's own moving image stands in for a camera.
    tab.request(lambda: tab.page.click("#empty [data-do=camera]"))
    tab.page.wait_for_selector("#view", state="visible")
    tab.page.wait_for_selector("[data-do=stop]", state="visible")
    tab.page.click("[data-do=stop]")
    tab.page.wait_for_selector(".source [data-do=camera]", state="visible")


WATCHED = """() => {
    window.tracks = [];
    window.bitmaps = [];
    const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wish) => {
        await new Promise((done) => { window.permit = done; });
        const stream = await ask(wish);
        window.tracks.push(...stream.getTracks());
        return stream;
    };
    const decode = createImageBitmap;
    window.createImageBitmap = async (file) => {
        window.bitmaps.push(await decode(file));
        return window.bitmaps.at(-1);
    };
}"""


def test_the_camera_is_started_once_and_frees_its_images(tab: Tab) -> None:
    page = tab.page
    page.evaluate(WATCHED)
    for _ in range(2):
        page.click("#empty [data-do=camera]")
    page.evaluate("permit()")
    tab.until("bitmaps.length > 2")
    page.click("[data-do=stop]")
    assert page.evaluate("tracks.map((track) => track.readyState)") == ["ended"]
    tab.until("bitmaps.filter((bitmap) => bitmap.width).length === 1")


def test_an_opened_image_withdraws_the_request_for_the_camera(tab: Tab) -> None:
    tab.page.evaluate(WATCHED)
    tab.page.click("#empty [data-do=camera]")
    tab.drop(ASTRONAUT)
    tab.page.evaluate("permit()")
    tab.until("tracks.length === 1 && tracks[0].readyState === 'ended'")
    assert tab.page.is_visible(".source [data-do=camera]")


def test_a_frame_that_fails_ends_the_camera(tab: Tab) -> None:
    page = tab.page
    page.evaluate(WATCHED)
    page.evaluate(
        """() => {
            OffscreenCanvas.prototype.convertToBlob = () => Promise.reject(new Error("lost"));
        }"""
    )
    page.click("#empty [data-do=camera]")
    page.evaluate("permit()")
    page.wait_for_selector("#notice:has-text('lost')")
    assert page.evaluate("tracks.map((track) => track.readyState)") == ["ended"]
    assert page.is_visible("#empty [data-do=camera]")
    assert "lost" in tab.faults.pop()  # in the console, for debugging


def test_an_unplugged_camera_is_noticed(tab: Tab) -> None:
    page = tab.page
    page.evaluate(WATCHED)
    page.click("#empty [data-do=camera]")
    page.evaluate("permit()")
    tab.until("bitmaps.length > 1")
    page.evaluate("tracks[0].dispatchEvent(new Event('ended'))")
    page.wait_for_selector("#notice:has-text('plugged in')")
    assert page.is_visible(".source [data-do=camera]")
    assert page.is_visible("#view")  # the last image stays


def test_a_refused_camera_says_why_in_both_languages(tab: Tab) -> None:
    page = tab.page
    page.evaluate(
        """() => {
            navigator.mediaDevices.getUserMedia = () => Promise.reject(new Error("Not allowed"));
        }"""
    )
    page.click("#empty [data-do=camera]")
    page.wait_for_selector("#notice", state="visible")
    assert page.inner_text("#notice li").split("\n") == [
        "The camera cannot be used.",
        "Not allowed",
    ]
    page.click("[data-language=zh]")
    assert page.inner_text("#notice li").split("\n") == ["无法使用摄像头。", "Not allowed"]


def test_a_refused_image_shows_nothing_of_the_one_before(tab: Tab) -> None:
    tab.drop(ASTRONAUT)
    problem = json.dumps({"error": "too_large", "reason": "too many bytes"})
    tab.page.route("**/v1/poses", lambda route: route.fulfill(status=413, body=problem))
    tab.drop(GRACE)
    assert "too many bytes" in tab.page.inner_text("#notice")
    assert tab.summary() == ""
    assert tab.page.locator("#persons > *, .box").count() == 0
    assert tab.page.get_attribute("#canvas", "aria-label") == "Image"
    assert "413" in tab.faults.pop()  # Chromium reports every status but 200


def test_of_two_images_the_last_is_shown(tab: Tab) -> None:
    tab.page.evaluate(SLOW_DECODING)
    slow = tab.transfer(ASTRONAUT)
    tab.page.dispatch_event("#stage", "drop", {"dataTransfer": slow})
    answer = tab.drop(GRACE)
    # The first one is estimated when it is decoded, and stays in the strip.
    with tab.page.expect_response("**/v1/poses"):
        tab.page.evaluate("decoded = 0, finish()")
    tab.until("document.querySelectorAll('#strip .count').length === 2")
    width, height = tab.page.evaluate("[canvas.width, canvas.height]")
    assert width / height == pytest.approx(answer["width"] / answer["height"], abs=0.01)


def test_a_server_that_was_down_at_the_start_is_asked_again(tab: Tab) -> None:
    failed: list[Any] = []

    def once(route: Any) -> None:
        if failed:
            route.continue_()
        else:
            failed.append(route)
            route.abort()

    tab.page.route("**/v1/models", once)
    tab.page.reload()
    tab.page.wait_for_selector("#notice:has-text('cannot be reached')")
    answer = tab.drop(ASTRONAUT)
    assert sum(colored(tab, answer).values()) >= 8
    assert "w16-small" in tab.page.inner_text("#model")
    assert tab.page.is_hidden("#notice")
    assert "ERR_FAILED" in tab.faults.pop()


def test_a_file_that_is_no_image_shows_the_servers_reason(
    browser: Any, url: str, tmp_path: Path
) -> None:
    tab = Tab(browser, url)
    html = tmp_path / "a.html"
    html.write_text("<script>alert(1)</script>")
    problem = tab.drop(html, "photo.jpg")
    assert problem["error"] == "bad_image"
    assert "expected an image, found a text file" in tab.page.inner_text("#notice")
    # Chromium reports every status but 200 on its console.
    assert [fault for fault in tab.faults if "status of 422" not in fault] == []
    tab.context.close()


def test_a_token_is_requested_and_used(browser: Any, start: Callable[..., Process]) -> None:
    server = start("--token", "s3cret")
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.url)
    page.wait_for_selector("#ask[open]")
    page.fill("#token", "s3cret")
    page.click("#ask button[type=submit]")
    page.wait_for_selector("#keypoint option:nth-child(3)", state="attached")
    assert page.is_hidden("#notice")
    with page.expect_response("**/v1/poses") as waited:
        page.set_input_files("#file", str(ASTRONAUT))
    assert waited.value.status == 200
    context.close()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_it_fits_a_phone(browser: Any, url: str, language: str) -> None:
    viewport = {"width": 390, "height": 844}
    tab = Tab(browser, url, viewport=viewport, has_touch=True, color_scheme="dark")
    tab.page.click(f"[data-language={language}]")
    for _ in range(2):
        width = tab.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390
        tab.request(lambda: tab.page.set_input_files("#file", str(ASTRONAUT)))
    ground = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(v) for v in ground.removeprefix("rgb(").removesuffix(")").split(",")) < 60
    assert tab.faults == []
    tab.context.close()


def test_unsure_persons_are_left_out(tab: Tab) -> None:
    assert len(tab.drop(ASTRONAUT)["persons"]) == 1

    def choose(score: float) -> dict[str, Any]:
        move = f"(input) => {{ input.value = {score}; input.dispatchEvent(new Event('input')); "
        move += "input.dispatchEvent(new Event('change')); }"
        return tab.request(lambda: tab.page.eval_on_selector("#min-score", move))

    assert choose(0.9)["persons"] == []
    assert "No person" in tab.summary()
    assert tab.page.inner_text("#min-score-value") == "0.90"
    assert len(choose(0.1)["persons"]) >= 1


def test_whole_bodies_are_drawn_finely(tab: Tab) -> None:
    """Hands and faces by their own size, with colors of fingers: as in `hrpose.draw`."""
    height = 600
    parts = np.array([
        (0, 8), (2, 6), (-2, 6), (4, 7), (-4, 7), (10, 20), (-10, 20), (25, 26), (-25, 26),
        (38, 22), (-38, 22), (6, 50), (-6, 50), (8, 72), (-8, 72), (9, 94), (-9, 94),
    ]) * height / 100 + (height / 2, 0)  # fmt: skip
    body = np.concatenate([parts, np.ones((17, 1))], axis=1)[None].astype(np.float32)
    box = np.array([[0, 0, height, height]], np.float32)
    (points,) = whole_body(Poses(body, box, np.ones(1, np.float32), COCO_17)).keypoints.tolist()
    person = {"box": box[0].tolist(), "score": 1.0}
    person["keypoints"] = [{"name": "", "x": x, "y": y, "score": 1.0} for x, y, _ in points]
    model = about(Metadata("w32", (288, 384), WHOLEBODY_133))
    png = tab.page.evaluate(
        """async ([person, model, size]) => {
            const { render } = await import("./page/draw.js");
            const image = new OffscreenCanvas(size, size);
            image.getContext("2d").fillRect(0, 0, size, size);
            const context = new OffscreenCanvas(size, size).getContext("2d");
            const view = { image, persons: [person], model, threshold: 0.3, keypoint: null };
            view.skeletons = true;
            render(context, view, 1);
            const png = await context.canvas.convertToBlob();
            return btoa(String.fromCharCode(...new Uint8Array(await png.arrayBuffer())));
        }""",
        [person, model, height],
    )
    drawn = read_image(base64.b64decode(png)).astype(int)
    for at, size, most in ((23, 68, 0.6), (91, 21, 0.5), (112, 21, 0.5)):
        own = np.array(points)[at : at + size, :2].astype(int)
        (left, top), (right, bottom) = own.min(axis=0), own.max(axis=0)
        assert (drawn[top:bottom, left:right] > 60).any(axis=-1).mean() < most
    for finger, color in enumerate(FINGERS):
        x, y = (round(value) for value in points[91 + 4 * finger + 4][:2])
        near = drawn[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3)
        assert np.abs(near - color).sum(axis=1).min() < 60
