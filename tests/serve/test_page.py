"""The files of the page: complete, self-contained, and with every text in both languages."""

import re
from pathlib import Path

import pytest

import hrpose.serve
from hrpose.detection import open_detector

from .conftest import Server

PAGE = {file.name: file for file in (Path(hrpose.serve.__file__).parent / "page").iterdir()}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def test_every_file_is_sent_with_its_type_and_strict_headers(server: Server) -> None:
    assert {"index.html", "style.css", "main.js", "words.js", "icon.svg"} <= set(PAGE)
    for name, file in PAGE.items():
        response = server.request("GET", "/" if name == "index.html" else f"/page/{name}")
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


@pytest.mark.parametrize("name", ["..", "../app.py", "%2e%2e%2fapp.py", "nothing.js", "%00"])
def test_only_the_page_s_files_are_sent(server: Server, name: str) -> None:
    response = server.request("GET", f"/page/{name}")
    assert response.status_code == 404 or response.url.path == "/"


@pytest.mark.parametrize("name", PAGE)
def test_nothing_is_loaded_from_elsewhere(name: str) -> None:
    text = PAGE[name].read_text(encoding="utf-8")
    addresses = set(re.findall(r"(?:https?:)?//[a-z0-9.]+\.[a-z]+[^\s\"']*", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(eval|innerHTML|document\.write)\b", text)
    for imported in re.findall(r"from \"\./([^\"]+)\"", text):
        assert imported in PAGE
    for linked in re.findall(r"(?:src|href)=\"/page/([^\"]+)\"", text):
        assert linked in PAGE


@pytest.mark.parametrize("detector", ["none", "builtin", "auto"])
def test_shipped_detectors_have_a_chinese_name(detector: str) -> None:
    assert f'"{open_detector(detector).name}": "' in PAGE["words.js"].read_text(encoding="utf-8")


def test_every_text_is_in_both_languages() -> None:
    source = PAGE["words.js"].read_text(encoding="utf-8").partition("const KEYPOINTS_ZH")[0]
    english, chinese = re.findall(r"^  (?:en|zh): \{\n(.*?)^  \},", source, re.M | re.S)
    words = [dict(re.findall(r"^    (\w+): \"(.*)\",$", part, re.M)) for part in (english, chinese)]
    assert words[0].keys() == words[1].keys()
    for key, text in words[0].items():
        places = [sorted(re.findall(r"\{\w+\}", part[key])) for part in words]
        assert places[0] == places[1], key
        assert re.search("[\u4e00-\u9fff]|JSON|PNG", words[1][key]), key
        assert text
    page = PAGE["index.html"].read_text(encoding="utf-8")
    code = "".join(
        file.read_text(encoding="utf-8") for name, file in PAGE.items() if name.endswith(".js")
    )
    used = set(re.findall(r"data-t(?:-label)?=\"(\w+)\"", page)) | set(
        re.findall(r"\bt\(\"(\w+)\"", code)
    )
    assert used <= words[0].keys()
