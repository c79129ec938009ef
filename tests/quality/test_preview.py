"""`hrpose data preview`: what is on the page, bad input, and the page in a browser."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hrpose.cli.main import app
from hrpose.errors import UserError
from hrpose.synthetic import ANIMAL, write_dataset
from offline_page import opened

PERSONS = 8


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["data", "preview", *map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of animals, one with a name that is no HTML, and its page."""
    folder = tmp_path_factory.mktemp("preview")
    path = write_dataset(folder, images=7, seed=3, figure=ANIMAL, persons_per_image=(2, 2))
    document = json.loads(path.read_bytes())
    odd = "<b>&.jpg"
    (folder / "images/000001.jpg").rename(folder / "images" / odd)
    document["images"][0]["file_name"] = odd
    path.write_text(json.dumps(document), encoding="utf-8")
    done = run(
        path, "--images", folder / "images", "--persons", PERSONS, "--out", folder / "p.html"
    )
    assert done.exit_code == 0, done.output
    return folder


def test_the_page_shows_persons_and_distributions(folder: Path, tmp_path: Path) -> None:
    page = (folder / "p.html").read_text(encoding="utf-8")
    # The labels, the heatmaps and four augmented views of each.
    assert page.count("data:image/jpeg") == 6 * PERSONS
    assert "14 persons" in page
    assert "root of tail" in page
    assert "<b>&.jpg" not in page
    again = run(
        *(folder / "annotations.json", "--images", folder / "images"),
        *("--persons", PERSONS, "--out", tmp_path / "again.html"),
    )
    assert again.exit_code == 0
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_a_missing_image_is_named_and_the_others_shown(folder: Path, tmp_path: Path) -> None:
    document = json.loads((folder / "annotations.json").read_bytes())
    document["images"][1]["file_name"] = "gone.jpg"
    (tmp_path / "a.json").write_text(json.dumps(document), encoding="utf-8")
    done = run(tmp_path / "a.json", "--images", folder / "images", "--out", tmp_path / "p.html")
    assert done.exit_code == 0
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "gone.jpg" in page
    assert page.count("<article") == 12


@pytest.mark.parametrize(
    ("options", "code", "mention"),
    [
        (("--images", "nowhere"), "images-missing", "nowhere"),
        (("--images", "IMAGES", "--input-size", "100x100"), "option-invalid", "--input-size"),
        (("--images", "IMAGES", "--skeleton", "no.yaml"), "file-unreadable", "no.yaml"),
    ],
)
def test_invalid_input(
    folder: Path, tmp_path: Path, options: tuple[str, ...], code: str, mention: str
) -> None:
    chosen = [str(folder / "images") if option == "IMAGES" else option for option in options]
    done = run(folder / "annotations.json", *chosen, "--out", tmp_path / "p.html")
    assert isinstance(done.exception, UserError)
    assert done.exception.code == code
    assert mention in str(done.exception)
    assert not (tmp_path / "p.html").exists()


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (360, "dark")])
def test_the_page_works(browser: Any, folder: Path, width: int, scheme: str) -> None:
    with opened(browser, folder / "p.html", width, scheme) as view:
        assert view.locator("article:visible").count() == 6
        view.keyboard.press("ArrowRight")
        assert view.locator("#page").text_content() == "page 2 of 2"
        assert view.locator("article:visible").count() == PERSONS - 6
        view.locator("#previous").click()
        assert view.locator("article:visible").count() == 6
        assert view.locator("svg").count() == 4
