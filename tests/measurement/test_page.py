"""The page of `hrpose measure` in a browser: the image and the values follow the cursor."""

import json
from pathlib import Path
from typing import Any

import pytest

import hrpose
from measurement.recorded import truth, write_results
from offline_page import opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    measured = hrpose.measure(write_results(folder)[".jsonl"])
    measured.save_html(folder / "p.html", measured.repetitions("knee_left"))
    return folder / "p.html"


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1300, "light"), (390, "dark")])
def test_the_values_follow_the_cursor(browser: Any, page: Path, width: int, scheme: str) -> None:
    with opened(browser, page, width, scheme) as view:
        assert view.locator(".chart").count() >= 14
        chart = view.locator(".chart svg").first
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        view.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + box["height"] / 2)
        late = view.locator("output").inner_text()
        value = view.locator(".chart .key b").first.inner_text()
        view.locator("input[type=range]").fill("0")
        assert view.locator("output").inner_text() == "frame 0, 0.00 s"
        assert int(late.split()[1].strip(",")) > 0.85 * len(truth())
        assert "°" in value
        assert view.locator(".chart .key b").first.inner_text() != value
        # The skeleton is that of the frame.
        limbs = view.locator(".overlay line")
        assert limbs.count() == 19
        before = limbs.first.get_attribute("x1")
        view.locator("input[type=range]").fill("60")
        assert float(limbs.first.get_attribute("x1")) > float(before) + 50  # to the right


@pytest.mark.browser
def test_a_narrow_page_begins_where_the_person_enters(browser: Any, tmp_path: Path) -> None:
    path = write_results(tmp_path, xy=truth()[:40])[".jsonl"]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[1:11]:
        line["persons"] = []
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    hrpose.measure(path).save_html(tmp_path / "p.html")
    with opened(browser, tmp_path / "p.html", 390, "light") as view:
        assert view.locator("output").inner_text().startswith("frame 10,")
        assert view.locator(".overlay line").count() == 19
        assert view.locator(".chart text").first.bounding_box()["height"] > 9
