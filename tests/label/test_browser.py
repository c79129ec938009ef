"""Labels in a real browser: by mouse and keys, in two tabs, while the server is killed."""

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.labeling import LabelPage, LabelServer, label_folder, truth_of

from hrpose.data.coco import read_annotations
from hrpose.data.skeleton_file import find_skeleton, to_yaml
from hrpose.label.learn import Model, Score
from hrpose.synthetic import ANIMAL, write_dataset

pytestmark = pytest.mark.browser

SIZE = (320, 240)
ROOT = Path(__file__).parents[2]
# `npm install --no-save axe-core` puts it there; it is not part of the package.
AXE = Path(os.environ.get("HRPOSE_AXE", ROOT / "node_modules" / "axe-core" / "axe.min.js"))


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of animals, their labels, and their skeleton."""
    drawn = tmp_path_factory.mktemp("animals")
    write_dataset(drawn, 2, seed=3, persons_per_image=(1, 1), figure=ANIMAL)
    skeleton = read_annotations(drawn / "annotations.json").skeleton
    (drawn / "animal.yaml").write_text(to_yaml(skeleton), "utf-8")
    return drawn


@pytest.fixture
def server(animals: Path, tmp_path: Path) -> Iterator[LabelServer]:
    """A server of the images, without labels."""
    folder = tmp_path / "images"
    folder.mkdir()
    for file in (animals / "images").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    server = LabelServer(folder, ["--skeleton", animals / "animal.yaml"])
    yield server
    if server.process is not None and server.process.poll() is None:
        server.end(signal.SIGTERM)


def tab(browser: Any, server: LabelServer, **options: Any) -> LabelPage:
    context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
    page = LabelPage(context.new_page(), server.url)
    page.open()
    return page


def exported(server: LabelServer) -> dict[str, Any]:
    server.end(signal.SIGTERM)
    document: dict[str, Any] = json.loads(server.annotations.read_text("utf-8"))
    return document


def test_every_label_survives_that_the_server_is_killed(
    animals: Path, server: LabelServer, browser: Any
) -> None:
    # One image by mouse, one by keys alone; it raises where a label is missing or elsewhere.
    actions, total = label_folder(server, truth_of(animals / "annotations.json"), 1, browser)
    assert total == 18
    assert actions["clicks"] > 4
    assert actions["keys"] > 20


def test_two_tabs_do_not_overwrite_each_other(server: LabelServer, browser: Any) -> None:
    server.start()
    one = tab(browser, server)
    one.page.fill("#annotator", "Ann")
    one.page.dispatch_event("#annotator", "change")
    one.click(50, 60, SIZE)
    one.saved()
    other = tab(browser, server)
    assert other.image == one.image
    other.until("document.querySelectorAll('#persons-list button').length === 1")
    # Both change the same person: the first at once, the other before it hears of that.
    other.page.route("**/news*", lambda route: route.abort())
    one.drag((50, 60), (90, 60), SIZE)
    one.saved()
    other.click(150, 160, SIZE)
    other.until("document.querySelector('#conflicts li') !== null")
    said = other.page.inner_text("#conflicts li span")
    assert "Ann" in said
    assert "nose" in said
    # Nothing is lost: theirs is shown, and one's own can be taken.
    other.page.click("#conflicts li button:nth-of-type(2)")
    other.saved()
    # The first tab sees it without being loaded anew.
    one.until("document.querySelector('#keypoints button').innerText.includes('visible')")
    one.until("document.querySelectorAll('#keypoints .visible').length === 2")
    assert one.faults == []
    (person,) = exported(server)["annotations"]
    assert person["keypoints"][:6] == pytest.approx([50, 60, 2, 150, 160, 2], abs=1)


def test_editing_with_undo_swap_states_boxes_and_copies(server: LabelServer, browser: Any) -> None:
    server.start()
    page = tab(browser, server)
    first = page.image
    for number in range(3):
        page.click(40 + 30 * number, 80, SIZE)
    page.key("Shift+N")
    page.key("h")
    page.key("s")
    page.key("z")
    page.key("s")
    page.key("]")
    page.key("b")
    page.page.focus(".box")
    page.key("Shift+ArrowRight")
    page.key("b")
    # Zoomed in, a drag still moves what it grabs.
    page.page.mouse.move(*page.place(40, 80, SIZE))
    page.page.mouse.wheel(0, -300)
    page.page.mouse.down()
    x, y = page.place(40, 80, SIZE)
    page.page.mouse.move(x + 60, y, steps=3)
    page.page.mouse.up()
    page.saved()
    page.next()
    assert page.image != first
    page.key("c")
    page.saved()
    assert page.faults == []
    document = exported(server)
    images = {image["id"]: image["file_name"] for image in document["images"]}
    by_image = {images[each["image_id"]]: each for each in document["annotations"]}
    nose, left, right = (by_image[first]["keypoints"][3 * i : 3 * i + 3] for i in range(3))
    assert 45 < nose[0] < 66
    # The right ear is hidden; swapped, undone and swapped again, it is the left one.
    assert left == pytest.approx([100, 80, 1], abs=1)
    assert right == pytest.approx([70, 80, 2], abs=1)
    assert "bbox_guessed" not in by_image[first]


def test_a_finger_places_drags_and_pinches(server: LabelServer, browser: Any) -> None:
    server.start()
    page = tab(browser, server, viewport={"width": 390, "height": 844}, has_touch=True)
    page.page.touchscreen.tap(*page.place(100, 100, SIZE))
    page.page.touchscreen.tap(*page.place(160, 120, SIZE))
    page.saved()
    wide = page.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390
    assert page.faults == []
    (person,) = exported(server)["annotations"]
    assert person["keypoints"][:6] == pytest.approx([100, 100, 2, 160, 120, 2], abs=1)


def test_a_token_is_asked_for(server: LabelServer, browser: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("HRPOSE_TOKEN", "secret")
    server.start()
    page = browser.new_context().new_page()
    page.goto(server.url)
    page.wait_for_selector("#ask[open]")
    page.fill("#token", "secret")
    page.press("#token", "Enter")
    page.wait_for_selector("#keypoints button")
    end = time.monotonic() + 10
    while not page.evaluate("document.querySelector('#strip img').naturalWidth"):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_agreement_is_shown_and_taken(animals: Path, server: LabelServer, browser: Any) -> None:
    # The labels of two annotators, a few pixels apart.
    document = json.loads((animals / "annotations.json").read_text("utf-8"))
    for number, annotation in enumerate(document["annotations"]):
        values = annotation["keypoints"]
        values[::3] = [x + 3 * (1 - 2 * (number % 2)) for x in values[::3]]
    other = server.folder.parent / "ben.json"
    other.write_text(json.dumps(document), "utf-8")
    server.options = [*server.options, "--annotations", animals / "annotations.json"]
    server.options += ["--other", other]
    server.start()
    page = tab(browser, server)
    page.until("document.querySelectorAll('#agreement tbody tr').length > 5")
    assert "ben.json" in page.page.inner_text("#agreement p")
    measured = page.page.inner_text("#agreement tbody tr:first-child td").split()[0]
    assert float(measured) > 0
    page.page.click("[data-language=zh]")
    page.until("document.querySelector('#agreement h2').textContent === '一致性'")
    page.page.click("[data-language=en]")
    page.page.click("#agreement button")
    page.until("document.querySelector('#agreement [role=status]') !== null")
    assert page.page.is_disabled("#agreement button")
    assert page.faults == []
    kept = find_skeleton(str(server.folder / "hrpose-labels" / "skeleton.yaml"))
    assert kept.sigmas[0] == pytest.approx(float(measured), abs=6e-4)


@pytest.mark.skipif(
    not AXE.exists(), reason="axe-core is not installed (npm install --no-save axe-core)"
)
@pytest.mark.parametrize(
    ("scheme", "language", "width", "height"),
    [("light", "en", 1400, 900), ("dark", "zh", 390, 844)],
)
def test_accessibility(
    animals: Path,
    server: LabelServer,
    browser: Any,
    scheme: str,
    language: str,
    width: int,
    height: int,
) -> None:
    """No finding of axe-core, with labels, findings, agreement and models, and in the dialog."""
    annotations = animals / "annotations.json"
    server.options = [*server.options, "--annotations", annotations, "--other", annotations]
    score = Score(0.8, 0.75, 0.84)
    ready = Model("002", "ready", "ab12", "w16-small", 0.0, 9, 3, score=score, better=((1, 0.2),))
    for model in (
        Model("001", "failed", "ab12", "w16-small", 0.0, 9, 3, reason="a reason"),
        replace(ready, before=score),
        Model("003", "training", "ab12", "w16-small", 0.0, 9, 3, metric=0.5),
    ):
        file = server.folder / "hrpose-labels" / "models" / model.name / "model.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(asdict(model)), "utf-8")
    server.start()
    viewport = {"width": width, "height": height}
    page = tab(browser, server, viewport=viewport, color_scheme=scheme)
    page.page.click(f"[data-language={language}]")
    page.until("document.querySelectorAll('#learning li').length === 3")
    page.until("document.querySelector('#agreement p') !== null")
    page.page.keyboard.press("a")
    page.click(500, 100, SIZE)

    def check(view: str) -> None:
        page.page.evaluate(AXE.read_text("utf-8"))
        found = page.page.evaluate("axe.run().then(({ violations }) => violations)")
        lines = [
            f"{view}: {one['impact']} {one['id']}: {one['nodes'][0]['html'][:120]}" for one in found
        ]
        assert lines == []

    check("labels")
    if folder := os.environ.get("HRPOSE_SHOTS"):
        page.page.screenshot(path=f"{folder}/label-{scheme}-{width}.png", full_page=True)
    page.page.keyboard.press("?")
    page.page.wait_for_selector("#keys[open]")
    check("keys")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.faults == []
