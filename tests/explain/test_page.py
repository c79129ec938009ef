"""`hrpose explain`: one page for any image, box, codec and language, in a browser too."""

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import hrpose
from hrpose.cli.main import app
from hrpose.codec import CODECS, Codec
from hrpose.errors import UserError
from hrpose.explain import LANGUAGES, PersonBox, trace, write
from hrpose.explain.page import report, texts
from hrpose.metadata import Calibration
from hrpose.session import open_session
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17
from hrpose.weights import find
from offline_page import opened
from tiny_weights import METADATA, write_tiny_weights

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    weights = write_tiny_weights(tmp_path / "tiny.onnx")

    def run(image: Path, *words: object) -> Result:
        given = ["explain", image, "--out", tmp_path / "out", "--detector", "none", *words]
        if "--weights" not in words:
            given += ["--weights", weights]
        return CliRunner().invoke(app, [str(word) for word in given])

    return run


def image(path: Path, width: int = 64, height: int = 80, seed: int = 0) -> Path:
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


class Page(HTMLParser):
    """The images, links and text of a page, whose tags must all be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs))
        for name, value in attrs:
            if name in ("src", "href"):
                self.links.append(value or "")
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def page_in(folder: Path, stem: str = "photo") -> Page:
    return Page((folder / f"{stem}-explained.html").read_text(encoding="utf-8"))


def test_the_page_is_complete_and_self_contained(run: Run, tmp_path: Path) -> None:
    ran = run(image(tmp_path / "photo.jpg"), "--box", "10,10,30,40")
    assert ran.exit_code == 0, ran.output
    page = page_in(tmp_path / "out")
    assert all(link.startswith("data:") for link in page.links)
    assert "<script" not in (tmp_path / "out/photo-explained.html").read_text(encoding="utf-8")
    # The box, the crop, 2 inputs, 17 heatmaps, 6 of the flip test, the keypoint, 3 of the way back,
    # and the pose.
    assert len(page.images) == 32
    for drawn in page.images:
        data = base64.b64decode((drawn["src"] or "").partition(",")[2])
        with Image.open(io.BytesIO(data)) as opened:
            assert [str(value) for value in opened.size] == [drawn["width"], drawn["height"]]
        assert drawn["alt"]
    steps = re.findall(r"(?m)^(\d+)\. ", page.words)
    # This network is no HRNet, so it has no step 5, without one branch.
    assert [int(step) for step in steps] == [1, 2, 3, 4, *range(6, 12)]
    assert "The box was given." in page.words
    assert page.words.count("Exercise") == page.words.count("Answer") == 10
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photo-explained.html"]


def test_images_are_written_on_request(run: Run, tmp_path: Path) -> None:
    assert run(image(tmp_path / "photo.jpg"), "--png").exit_code == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"photo-crop.png", "photo-explained.html", "photo-heatmaps.png"}
    with Image.open(tmp_path / "out" / "photo-crop.png") as crop:
        assert crop.size == METADATA.input_wh


def fields(text: str) -> set[str]:
    """The names of the values in a text."""
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_the_page_may_have_a_name(run: Run, tmp_path: Path) -> None:
    ran = run(image(tmp_path / "photo.jpg"), "--out", tmp_path / "page.html", "--png")
    assert ran.exit_code == 0, ran.output
    names = {path.name for path in tmp_path.glob("page*")}
    assert names == {"page.html", "page-crop.png", "page-heatmaps.png"}


def test_the_languages_say_the_same() -> None:
    english, chinese = (texts(language) for language in LANGUAGES)
    assert set(chinese) - set(english) == {"keypoints"}
    assert chinese["keypoints"].keys() >= set(COCO_17.keypoints)
    for section, named in english.items():
        assert named.keys() == chinese[section].keys(), section
        for name, text in named.items():
            other = chinese[section][name]
            assert fields(text) == fields(other), f"{section}.{name}"
            assert text.count("\n\n") == other.count("\n\n"), f"{section}.{name}"


def test_a_page_in_chinese(run: Run, tmp_path: Path) -> None:
    weights = ("--weights", "w16-small", "--keypoint", "left_wrist", "--language", "zh")
    ran = run(EXAMPLES / "astronaut.jpg", *weights)
    assert ran.exit_code == 0, ran.output
    html = (tmp_path / "out/astronaut-explained.html").read_text(encoding="utf-8")
    assert '<html lang="zh">' in html
    page = Page(html)
    assert "左腕" in page.words
    assert "{" not in page.words.partition("}</style>")[2]
    # Of English there are names and formulas alone.
    words = re.sub(r"\.\w+|[^\x00-\x7f]", " ", re.sub(r"<style>.*</style>", "", html, flags=re.S))
    english = re.findall(r"\b(?:the|and|pixels?|heatmaps?|score)\b", re.sub(r"<[^>]*>", " ", words))
    assert english == []


def test_the_true_score_of_the_box(tmp_path: Path) -> None:
    """It was written as 1 for every box."""
    words = ["explain", EXAMPLES / "astronaut.jpg", "--out", tmp_path, "--weights", "w16-small"]
    ran = CliRunner().invoke(app, list(map(str, words)))
    assert ran.exit_code == 0, ran.output
    found = hrpose.load("w16-small").image(EXAMPLES / "astronaut.jpg").box_scores
    score = f"{float(found.max()):.3f}"
    page = Page((tmp_path / "astronaut-explained.html").read_text(encoding="utf-8"))
    assert f"The box's is {score}, the detector's." in page.words
    assert f"* {score} (box) =" in page.words


def test_the_features_are_on_the_page(run: Run, tmp_path: Path) -> None:
    ran = run(EXAMPLES / "astronaut.jpg", "--weights", "w16-small")
    assert ran.exit_code == 0, ran.output
    html = (tmp_path / "out/astronaut-explained.html").read_text(encoding="utf-8")
    # Stem, stages of 1, 1, 2, 3 and 4 branches, the sum, and the heatmaps.
    assert html.count("<image href") == 1 + 1 + 2 + 3 + 4 + 1 + 1
    assert "128 x 6 x 4 = 3,072" in html
    assert len(html) < 2_500_000
    steps = re.findall(r"<h2>(\d+)\. ", html)
    assert [int(step) for step in steps] == list(range(1, 12))


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_explains_its_own_rule(tmp_path: Path, codec: str) -> None:
    metadata = replace(METADATA, codec=Codec(codec, sigma=1.2))
    session = open_session(write_tiny_weights(tmp_path / "tiny.onnx", metadata), threads=1)
    image = np.random.default_rng(0).integers(0, 256, (80, 64, 3), dtype=np.uint8)
    explanation = report(trace(session, image, PersonBox(np.array([0.0, 0, 64, 80]))), "photo.jpg")
    words = " ".join(section.text for section in explanation.sections)
    assert ("quarter offset" in words) == (codec == "gaussian")
    assert ("Newton" in words) == (codec != "gaussian")
    assert ("whole pixel to the right" in words) == (codec != "udp")


def test_scores_mean_something_else_with_a_calibration(tmp_path: Path) -> None:
    image = np.zeros((80, 64, 3), np.uint8)
    for calibration, expected in ((None, True), (Calibration(2.0, 0.5), False)):
        metadata = replace(METADATA, calibration=calibration)
        session = open_session(write_tiny_weights(tmp_path / "tiny.onnx", metadata), threads=1)
        explanation = report(
            trace(session, image, PersonBox(np.array([0.0, 0, 64, 80]))), "photo.jpg"
        )
        meaning = explanation.sections[-1].text
        assert ("not a probability" in meaning) is expected
        assert ("carry a calibration" in meaning) is not expected


def test_other_skeletons_are_explained(run: Run, tmp_path: Path) -> None:
    names = tuple(f"point_{index}" for index in range(17))
    weights = write_tiny_weights(
        tmp_path / "fish.onnx", replace(METADATA, skeleton=Skeleton("fish", names))
    )
    ran = run(image(tmp_path / "photo.jpg"), "--weights", weights, "--keypoint", "point_3")
    assert ran.exit_code == 0, ran.output
    assert "has no other side" in page_in(tmp_path / "out").words


def test_a_file_name_is_only_text(run: Run, tmp_path: Path) -> None:
    name = "<script>alert(1)<&'\" onerror=x {y} %s \u4eba.jpg"
    assert run(image(tmp_path / name)).exit_code == 0
    page = page_in(tmp_path / "out", Path(name).stem)
    assert f"How HRNet estimates a pose in {name}" in page.words


@pytest.mark.parametrize(("width", "height"), [(1, 1), (700, 20)])
def test_odd_images(run: Run, tmp_path: Path, width: int, height: int) -> None:
    ran = run(image(tmp_path / "photo.png", width, height))
    assert ran.exit_code == 0, ran.output


def test_the_largest_of_several_boxes(run: Run, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.json"
    boxes.write_text(
        '[{"file_name": "photo.jpg", "bbox": [1, 1, 9, 9]},'
        ' {"file_name": "photo.jpg", "bbox": [30, 20, 25, 50]}]',
        encoding="utf-8",
    )
    assert run(image(tmp_path / "photo.jpg"), "--boxes", boxes).exit_code == 0
    words = page_in(tmp_path / "out").words
    assert "boxes.json has 2 boxes; this page explains the largest." in words
    assert "x = 30, y = 20 and is 25 pixels wide and 50 high" in words


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--box", "1,2,3"], "option-invalid"),
        (["--box", "a,b,c,d"], "option-invalid"),
        (["--box", "1,2,0,4"], "boxes-invalid"),
        (["--box", "500,2,3,4"], "boxes-invalid"),
        (["--box", "nan,2,3,4"], "boxes-invalid"),
        (["--box", "1,2,3,4", "--boxes", "x.json"], "option-conflict"),
        (["--keypoint", "tail"], "option-invalid"),
        (["--language", "fr"], "option-invalid"),
    ],
)
def test_a_mistake_is_one_line(run: Run, tmp_path: Path, words: list[str], code: str) -> None:
    error = run(image(tmp_path / "photo.jpg"), *words).exception
    assert isinstance(error, UserError)
    assert error.code == code
    assert "\n" not in str(error)
    assert not (tmp_path / "out").exists()


def test_an_image_without_persons(run: Run, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.json"
    boxes.write_text("[]", encoding="utf-8")
    error = run(image(tmp_path / "photo.jpg"), "--boxes", boxes).exception
    assert isinstance(error, UserError)
    assert error.code == "persons-missing"


def test_a_broken_image(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_text("not an image", encoding="utf-8")
    assert isinstance(run(path).exception, UserError)


def test_a_real_image_with_the_embedded_weights(run: Run, tmp_path: Path) -> None:
    ran = run(EXAMPLES / "astronaut.jpg", "--weights", "w16-small")
    assert ran.exit_code == 0, ran.output
    page = Page((tmp_path / "out/astronaut-explained.html").read_text(encoding="utf-8"))
    assert len(page.images) > 30


@pytest.fixture(scope="module", params=LANGUAGES)
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    weights = find("w16-small")
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    box = PersonBox(np.array([5.0, 5, 50, 80]))
    traced = trace(open_session(weights, threads=1), pixels, box, weights=weights)
    return write(traced, "<b>image</b>.jpg".replace("/", ""), folder, language=request.param)[0]


@pytest.mark.browser
@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_shows_in_a_browser(browser: Any, page: Path, width: int, scheme: str) -> None:
    with opened(browser, page, width, scheme) as view:
        assert view.locator("section").count() == 11
        # Answers are folded, and open without a script.
        answers = view.locator("details")
        assert not answers.first.locator("p").first.is_visible()
        answers.first.locator("summary").click()
        assert answers.first.locator("p").first.is_visible()
