"""The files of the page of labels: complete, self-contained, every text in both languages."""

import re
from pathlib import Path

import pytest

import hrpose.label
import hrpose.serve

FOLDER = Path(hrpose.label.__file__).parent / "page"
SHARED = Path(hrpose.serve.__file__).parent / "page"
TEXTS = {file.name: file.read_text("utf-8") for file in FOLDER.iterdir()}


def texts(source: str) -> dict[str, dict[str, str]]:
    """The texts of both languages, by their keys."""
    parts = re.findall(r"^  (en|zh): \{\n(.*?)^  \},", source, re.M | re.S)
    return {
        language: dict(re.findall(r"^    \"?([\w-]+)\"?: \"(.*)\",$", part, re.M))
        for language, part in parts
    }


OWN = texts(TEXTS["words.js"])
OF_SERVE = texts((SHARED / "words.js").read_text("utf-8").partition("export const KEYPOINTS")[0])


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_is_loaded_from_elsewhere(name: str) -> None:
    text = TEXTS[name]
    assert not re.search(r"https?://", text)
    assert not re.search(r"\b(eval|innerHTML|document\.write)\b", text)
    assert len(text.splitlines()) <= 450
    for folder, file in re.findall(r"(?:from |src=|href=)\"/(label|page)/([^\"]+)\"", text):
        assert ({"label": FOLDER, "page": SHARED}[folder] / file).is_file()


def test_every_text_is_in_both_languages() -> None:
    assert OWN["en"].keys() == OWN["zh"].keys()
    for key in OWN["en"]:
        places = [sorted(re.findall(r"\{\w+\}", part[key])) for part in (OWN["en"], OWN["zh"])]
        assert places[0] == places[1], key
        assert re.search("[\u4e00-\u9fff]|JSON|\u2013", OWN["zh"][key]), key
    known = OWN["en"].keys() | OF_SERVE["en"].keys()
    used = set(re.findall(r"data-t(?:-label)?=\"(\w+)\"", TEXTS["index.html"]))
    used |= set(re.findall(r"\b(?:t|hint)\(\"(\w+)\"", "".join(TEXTS.values())))
    used |= {text for _, text in re.findall(r"\"(\w+)\", \"(key\w+)\"\]", TEXTS["keys.js"])}
    assert len(used) > 60
    assert used <= known


def test_every_finding_and_every_button_has_what_it_does() -> None:
    from hrpose.quality.labels import KINDS

    kinds = {*re.findall(r"Finding\(\s*\"([\w-]+)\"", _python("suggestions.py"))}
    kinds |= {kind for kind in KINDS if f'"finding-{kind}"' in TEXTS["words.js"]}
    assert {"outlier", "missing-person", "swapped-sides", "duplicate-person"} <= kinds
    for kind in kinds:
        assert {f"finding-{kind}", f"fix-{kind}"} <= OWN["en"].keys()
    actions = set(
        re.findall(r"^  (\w+)(?:: |,$)", TEXTS["main.js"].partition("const actions")[2], re.M)
    )
    assert set(re.findall(r"data-do=\"(\w+)\"", TEXTS["index.html"])) <= actions


def _python(name: str) -> str:
    return (FOLDER.parent / name).read_text("utf-8")
