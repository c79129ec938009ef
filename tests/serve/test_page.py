"""The files of the page: complete, self-contained, and with every text in both languages."""

import ast
import json
import re
from pathlib import Path

import pytest

import hrpose.serve
from hrpose.detection import open_detector

from .conftest import Server, image_of

FOLDER = Path(hrpose.serve.__file__).parent / "page"
PAGE = {file.relative_to(FOLDER).as_posix(): file for file in FOLDER.rglob("*") if file.is_file()}
TEXTS = {name: file.read_text("utf-8") for name, file in PAGE.items() if file.suffix != ".jpg"}
SCRIPTS = {name: text for name, text in TEXTS.items() if name.endswith(".js")}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
}
ROUTES = {"index.html": "/", "docs.html": "/docs"}


def test_every_file_is_sent_with_its_type_and_strict_headers(server: Server) -> None:
    assert {"index.html", "style.css", "main.js", "words.js", "examples/examples.json"} <= set(PAGE)
    for name, file in PAGE.items():
        response = server.request("GET", ROUTES.get(name, f"/page/{name}"))
        assert (response.status_code, response.content) == (200, file.read_bytes())
        assert response.headers["content-type"] == TYPES[file.suffix]
        assert response.headers["cache-control"] == "no-cache"
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy


def test_a_cached_file_is_not_sent_again(server: Server) -> None:
    etag = server.request("GET", "/").headers["etag"]
    response = server.request("GET", "/", headers={"if-none-match": etag})
    assert (response.status_code, response.content) == (304, b"")


@pytest.mark.parametrize(
    "name",
    [
        "..", "../app.py", "%2e%2e%2fapp.py", "examples/../../app.py",
        "examples%2f..%2f..%2fapp.py", "examples", "/etc/passwd", "nothing.js", "%00",
    ],
)  # fmt: skip
def test_only_the_page_s_files_are_sent(server: Server, name: str) -> None:
    response = server.request("GET", f"/page/{name}")
    assert response.status_code == 404 or response.url.path == "/"


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_is_loaded_from_elsewhere(name: str) -> None:
    text = TEXTS[name]
    addresses = set(re.findall(r"(?:https?:)?//[a-z0-9.]+\.[a-z]+[^\s\"']*", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(eval|innerHTML|document\.write)\b", text)
    for imported in re.findall(r"from \"\./([^\"]+)\"", text):
        assert imported in PAGE
    for linked in re.findall(r"(?:src|href)=\"/page/([^\"]+)\"", text):
        assert linked in PAGE


def test_the_examples_are_small_and_say_where_they_are_from() -> None:
    examples = json.loads(TEXTS["examples/examples.json"])
    listed = {f"examples/{example['file']}" for example in examples}
    assert listed | {"examples/examples.json"} == {n for n in PAGE if n.startswith("examples/")}
    for example in examples:
        assert set(example) == {"file", "title", "source", "license"}
        for part in (example["title"], example["license"]):
            assert set(part) == {"en", "zh"}
            assert all(part.values())
        assert example["source"]
        assert PAGE[f"examples/{example['file']}"].stat().st_size <= 150_000


@pytest.mark.parametrize("detector", ["none", "builtin", "auto"])
def test_shipped_detectors_have_a_chinese_name(detector: str) -> None:
    assert f'"{open_detector(detector).name}": "' in TEXTS["words.js"]


def words() -> dict[str, dict[str, str]]:
    """The texts of both languages, by their keys."""
    source = TEXTS["words.js"].partition("export const KEYPOINTS_ZH")[0]
    parts = re.findall(r"^  (en|zh): \{\n(.*?)^  \},", source, re.M | re.S)
    return {
        language: dict(re.findall(r"^    \"?([\w-]+)\"?: \"(.*)\",$", part, re.M))
        for language, part in parts
    }


def test_every_text_is_in_both_languages() -> None:
    english, chinese = words()["en"], words()["zh"]
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        assert text
        places = [sorted(re.findall(r"\{\w+\}", part[key])) for part in (english, chinese)]
        assert places[0] == places[1], key
        assert re.search("[\u4e00-\u9fff]|JSON|PNG", chinese[key]), key
    used = set(
        re.findall(r"data-t(?:-label)?=\"(\w+)\"", TEXTS["index.html"] + TEXTS["docs.html"])
    ) | set(re.findall(r"\bt\(\"(\w+)\"", "".join(SCRIPTS.values())))
    assert used <= english.keys()


def sent_codes() -> set[str]:
    """Every code that the server can send: its own, and the causes of a refused image."""
    codes: set[str] = set()
    for file in FOLDER.parent.glob("*.py"):
        for call in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(call, ast.Call):
                name = getattr(call.func, "id", getattr(call.func, "attr", ""))
                if name in ("Refusal", "_problem", "_refuse"):
                    (code,) = (part for part in call.args[1:2])
                    codes |= {
                        part.value for part in ast.walk(code) if isinstance(part, ast.Constant)
                    }
    return {code for code in codes if re.fullmatch(r"[a-z_]+", str(code))} - {"GET"}


def causes() -> set[str]:
    """The codes of the errors of images and boxes: what a request can meet in the core."""
    text = "".join(
        (FOLDER.parents[1] / name).read_text("utf-8") for name in ("image.py", "file_kinds.py")
    )
    raised = re.findall(r"ImageError\(.*?code=\"([a-z-]+)\"", text, re.S)
    return {*raised, "boxes-invalid"}


def test_every_code_of_the_server_has_a_text() -> None:
    codes = sent_codes() | causes()
    assert {"bad_image", "busy", "broken", "not_found", "not_allowed", "image-damaged"} <= codes
    assert codes <= words()["en"].keys()


def test_a_refused_image_says_why_by_a_code(server: Server) -> None:
    refused = server.poses(b"%PDF-1.7 and so on")
    assert refused.json()["cause"] == "image-unsupported"
    outside = server.poses(image_of(1), boxes="[[900, 900, 5, 5]]")
    assert (outside.json()["error"], outside.json()["cause"]) == ("bad_boxes", "boxes-invalid")
